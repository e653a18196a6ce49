"""Encoders out of checkpoints: what fits is copied whole, what doesn't is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffmae_video.engine.checkpoint import save_checkpoint
from diffmae_video.engine.weights import load_diffmae, load_encoder, load_encoder_weights
from diffmae_video.errors import UserError
from diffmae_video.model import SpacetimeViT
from diffmae_video.sizes import SIZES


def encoder(*, num_frames: int = 4, crop_size: int = 16, class_token: bool = False, depth: int = 2) -> SpacetimeViT:
    size = {**SIZES["micro"], "depth": depth}
    return SpacetimeViT(
        num_frames=num_frames, crop_size=crop_size, patch_size=8, class_token=class_token, positions="learned", **size
    )


def saved(tmp_path: Path, model: SpacetimeViT) -> Path:
    path = tmp_path / "weights.pt"
    others = {"decoder.head.weight": torch.zeros(2)}
    save_checkpoint(path, {"model": {**{f"encoder.{n}": v for n, v in model.state_dict().items()}, **others}})
    return path


def test_every_tensor_is_copied(tmp_path: Path) -> None:
    source, target = encoder(), encoder()
    assert "none missing, none unexpected" in load_encoder_weights(target, saved(tmp_path, source))
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_longer_and_larger_clips_get_their_positions_resized(tmp_path: Path) -> None:
    source, target = encoder(), encoder(num_frames=8, crop_size=32)
    load_encoder_weights(target, saved(tmp_path, source))
    assert torch.equal(target.state_dict()["embed.weight"], source.state_dict()["embed.weight"])
    assert target.features(torch.zeros(1, 8, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (encoder(depth=3), "missing (blocks.2"),
        (encoder(class_token=True), "1 missing (class_token)"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, other: SpacetimeViT, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_encoder_weights(other, saved(tmp_path, encoder()))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    for load in (load_encoder, load_diffmae):
        with pytest.raises(UserError, match=r"holds no recipe\.yaml"):
            load(tmp_path)
