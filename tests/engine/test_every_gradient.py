"""Every trainable parameter gets a gradient in every step: DDP waits for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffmae_video import build
from diffmae_video.config import load_config
from diffmae_video.seeding import generator

VARIANTS = [
    (),
    ("model.decoder.kind=joint",),
    ("model.decoder.kind=cross", "model.decoder.predict_fraction=0.5"),
    ("model.decoder.taps=last",),
    ("model.decoder.depth=3",),
    ("diffusion.objective=mae", "diffusion.pixels=normalized"),
    ("model.class_token=true", "model.positions=learned"),
    ("diffusion.target=v",),
    ("mask.kind=random",),
]


@pytest.mark.parametrize("overrides", VARIANTS, ids=" ".join)
def test_in_pretraining(tiny_config: Path, overrides: tuple[str, ...]) -> None:
    config = load_config(tiny_config, overrides)
    model = build.build_diffmae(config)
    draw = model.draw([generator(i) for i in range(2)], mask_kind=config.mask.kind, mask_ratio=config.mask.ratio)
    model(torch.randn(2, 4, 3, 32, 32), draw).loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(
    "overrides", [(), ("model.class_token=true",), ("model.class_token=true", "finetune.pool=class")], ids=" ".join
)
def test_in_finetuning(tiny_config: Path, overrides: tuple[str, ...]) -> None:
    model = build.build_classifier(load_config(tiny_config, overrides), num_classes=3)
    model(torch.randn(2, 4, 3, 32, 32)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
