"""Parameter groups: each parameter once, with the decay and the rate it should have."""

from __future__ import annotations

import pytest
import torch

from diffmae_video.engine.train.optimizer import build_optimizer, param_groups, set_lr
from diffmae_video.model import SpacetimeViT, VideoClassifier
from diffmae_video.sizes import SIZES


@pytest.fixture(scope="module")
def classifier() -> VideoClassifier:
    encoder = SpacetimeViT(
        num_frames=2, crop_size=16, patch_size=8, class_token=True, positions="learned", **SIZES["micro"]
    )
    return VideoClassifier(encoder, num_classes=3)


def expected_scale(name: str) -> float:
    """0.5 ** (blocks and head above), worked out from the names alone."""
    if name.startswith("encoder.blocks."):
        return 0.5 ** (7 - (int(name.split(".")[2]) + 1))
    if name.startswith(("encoder.embed", "encoder.positions", "encoder.class_token")):
        return 0.5**7
    return 1.0


def test_groups_hold_every_parameter_once_with_its_decay_and_scale(classifier: VideoClassifier) -> None:
    groups = param_groups(
        classifier,
        weight_decay=0.05,
        no_decay=classifier.no_weight_decay(),
        layer_of=classifier.layer_of,
        num_layers=classifier.encoder.depth + 1,
        layer_decay=0.5,
    )
    seen = {}
    for group in groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert name not in seen
            seen[name] = (parameter, group["weight_decay"], group["lr_scale"])
    assert seen.keys() == dict(classifier.named_parameters()).keys()
    for name, parameter in classifier.named_parameters():
        undecayed = parameter.ndim <= 1 or name in ("encoder.positions.table", "encoder.class_token")
        assert seen[name][1] == (0.0 if undecayed else 0.05), name
        assert seen[name][2] == pytest.approx(expected_scale(name)), name


def test_frozen_parameters_are_left_out(classifier: VideoClassifier) -> None:
    classifier.head.weight.requires_grad_(False)
    try:
        names = [name for group in param_groups(classifier, weight_decay=0.1) for name in group["names"]]
    finally:
        classifier.head.weight.requires_grad_(True)
    assert "head.weight" not in names
    assert "head.bias" in names


def test_an_adamw_step_is_its_formula() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
    model = torch.nn.ParameterDict({"w": weight})
    optimizer = build_optimizer(param_groups(model, weight_decay=0.1), betas=(0.9, 0.99))
    set_lr(optimizer, 0.01)
    weight.grad = torch.tensor([[0.5, -3.0]])
    optimizer.step()
    # The first step's moments cancel to the gradient's sign; the decay multiplies the old weight.
    expected = torch.tensor([[2.0, -1.0]]) * (1 - 0.01 * 0.1) - 0.01 * torch.tensor([[1.0, -1.0]])
    assert torch.allclose(weight, expected, atol=1e-6)
