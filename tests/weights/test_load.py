"""Encoders out of checkpoints: what fits is copied whole, what doesn't is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffmae_video.build import build_classifier, build_diffmae
from diffmae_video.config import dump_config, load_config
from diffmae_video.engine.checkpoint.single_file import save_checkpoint
from diffmae_video.errors import UserError
from diffmae_video.model import SpacetimeViT
from diffmae_video.sizes import SIZES
from diffmae_video.weights.load import load_classifier, load_diffmae, load_encoder, load_encoder_weights


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
        with pytest.raises(UserError, match=r"holds no config\.yaml"):
            load(tmp_path)


def averaged(tmp_path: Path, model: torch.nn.Module, **more: object) -> dict[str, torch.Tensor]:
    """Save ``model`` with averages that are its parameters plus one; returns them. Tables, as buffers, have none."""
    averages = {name: p.detach() + 1 for name, p in model.named_parameters()}
    tmp_path.mkdir(parents=True, exist_ok=True)
    save_checkpoint(tmp_path / "weights.pt", {"model": model.state_dict(), "ema": averages, **more})
    return averages


class Whole(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()


@pytest.mark.parametrize(("weights", "expected"), [("auto", "ema"), ("ema", "ema"), ("model", "model")])
def test_an_encoders_averages_are_taken_where_there_are_any(tmp_path: Path, weights: str, expected: str) -> None:
    source = Whole()
    averages = averaged(tmp_path, source)
    line = load_encoder_weights(target := encoder(), tmp_path / "weights.pt", weights=weights)
    wanted = averages if expected == "ema" else source.state_dict()
    assert all(torch.equal(p, wanted[f"encoder.{name}"]) for name, p in target.named_parameters())
    assert ("moving averages" if expected == "ema" else "weights of the last step") in line


@pytest.mark.parametrize("ema", [{}, {"ema": {}}])
def test_averages_that_a_checkpoint_has_not_are_refused_or_left(tmp_path: Path, ema: dict[str, object]) -> None:
    source = Whole()
    save_checkpoint(tmp_path / "w.pt", {"model": source.state_dict(), **ema})
    for weights in ("auto", "model"):
        line = load_encoder_weights(target := encoder(), tmp_path / "w.pt", weights=weights)
        assert "weights of the last step" in line
        assert all(torch.equal(p, q) for p, q in zip(target.parameters(), source.encoder.parameters(), strict=True))
    with pytest.raises(UserError, match=r"w\.pt: has no moving averages .* take weights 'model'") as caught:
        load_encoder_weights(encoder(), tmp_path / "w.pt", weights="ema")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="weights 'best' is not one of auto, ema, model"):
        load_encoder_weights(encoder(), tmp_path / "w.pt", weights="best")


@pytest.mark.parametrize(("weights", "expected"), [(None, "ema"), ("auto", "ema"), ("ema", "ema"), ("model", "model")])
def test_every_loader_of_a_run_takes_the_weights_it_is_told(
    tiny_config: Path, tmp_path: Path, weights: str | None, expected: str
) -> None:
    config = load_config(tiny_config)
    run = Path(config.output_dir)
    models = {"pretrain": build_diffmae(config), "finetune": build_classifier(config, num_classes=2)}
    wanted = {}
    for stage, model in models.items():
        averages = averaged(run / stage, model, classes=["a", "b"])
        wanted[stage] = averages if expected == "ema" else dict(model.named_parameters())
        (run / stage / "config.yaml").write_text(dump_config(config))
    (run / "config.yaml").write_text(dump_config(config))
    chosen = {} if weights is None else {"weights": weights}
    diffmae, classifier = load_diffmae(run, **chosen)[0], load_classifier(run, **chosen)[0]
    for stage, found in (("pretrain", diffmae), ("finetune", classifier)):
        assert all(torch.equal(p, wanted[stage][name]) for name, p in found.named_parameters())
        part = load_encoder(run, stage=stage, **chosen)
        assert all(torch.equal(p, wanted[stage][f"encoder.{name}"]) for name, p in part.named_parameters())
        assert torch.equal(part.positions.table, models[stage].encoder.positions.table)
        assert not found.training
        assert not part.training
