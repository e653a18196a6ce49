"""Every trainable parameter gets a gradient in every step: DDP waits for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffmae_video.engine import build
from diffmae_video.recipe import load_recipe
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
def test_in_pretraining(tiny_recipe: Path, overrides: tuple[str, ...]) -> None:
    recipe = load_recipe(tiny_recipe, overrides)
    model = build.build_diffmae(recipe)
    draw = model.draw([generator(i) for i in range(2)], mask_kind=recipe.mask.kind, mask_ratio=recipe.mask.ratio)
    model(torch.randn(2, 4, 3, 32, 32), draw).loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(
    "overrides", [(), ("model.class_token=true",), ("model.class_token=true", "finetune.pool=class")], ids=" ".join
)
def test_in_finetuning(tiny_recipe: Path, overrides: tuple[str, ...]) -> None:
    model = build.build_classifier(load_recipe(tiny_recipe, overrides), num_classes=3)
    model(torch.randn(2, 4, 3, 32, 32)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
