"""What --dry-run says, against timm's models and fvcore's counter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from diffmae_video.build import build_classifier, build_encoder
from diffmae_video.config import Config, load_config
from diffmae_video.engine.dry_run import (
    classifier_flops,
    count_parameters,
    describe,
    finetune_flops,
    pretrain_flops,
)

ROOT = Path(__file__).parents[2]


def vitl(*overrides: str) -> Config:
    return load_config(ROOT / "configs" / "k400_vitl.yaml", overrides)


def test_parameters_are_timms_vit_large_with_a_video_stem() -> None:
    with torch.device("meta"):
        ours = build_encoder(vitl())
    # Not on the meta device: older timm reads stochastic depth's rates from a tensor.
    theirs = timm.create_model("vit_large_patch16_224", num_classes=0, class_token=False, global_pool="avg")
    tokens = theirs.pos_embed.numel()  # learned there, a fixed table here
    second_frame = 1024 * 3 * 16 * 16  # a cube has two frames, timm's patch one
    assert count_parameters(ours) == sum(p.numel() for p in theirs.parameters()) - tokens + second_frame


def test_classifier_flops_agree_with_fvcores_and_with_the_formula() -> None:
    config = vitl("data.crop_size=64", "data.num_frames=4")
    model = build_classifier(config, num_classes=400).eval()
    # fvcore counts multiply-adds, and leaves the fused attention out: its two products are added by hand.
    analysis = FlopCountAnalysis(model, torch.zeros(1, 4, 3, 64, 64))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    cubes, width, depth = 32, 1024, 24
    attention = depth * 2 * cubes * cubes * width
    norms = analysis.by_operator()["layer_norm"]
    assert classifier_flops(config) == pytest.approx(2 * (analysis.total() - norms + attention), rel=2e-3)
    per_token = 24 * (4 * width**2 + 8 * width**2) + 1536 * width
    assert classifier_flops(config) == 2 * (cubes * per_token + attention + width * 400)


def test_pretraining_flops_follow_the_mask() -> None:
    small = [
        pretrain_flops(vitl(f"mask.ratio={ratio}", "data.crop_size=64", "data.num_frames=4")) for ratio in (0.5, 0.75)
    ]
    assert small[1] < small[0]


@pytest.mark.parametrize("count", [pretrain_flops, finetune_flops])
def test_recomputed_activations_are_no_work(count: Callable[[Config], int]) -> None:
    small = ("data.crop_size=64", "data.num_frames=4")
    assert count(vitl(*small, "model.checkpointing=true")) == count(vitl(*small, "model.checkpointing=false"))


def test_the_text_has_the_numbers_of_the_config() -> None:
    text = describe(vitl(), world_size=64)
    assert "8 x 14 x 14 = 1568 a clip; in pre-training 157 visible, 1411 masked" in text
    assert "effective batch 512 videos x 4 clips = 2048 clips a step\n" in text
    assert "8 videos a forward pass, of 1 accumulated on each of 64 ranks" in text
    assert "peak learning rate 0.0016 at 512 videos a step (= 0.0008 x 512 / 256 videos)" in text
    assert "the list isn't here to count steps" in text
    numbers = text[text.index("cubes: ") :].splitlines()
    assert max(map(len, numbers)) <= 80
