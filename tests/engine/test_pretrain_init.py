"""Pre-training that begins from the weights of another run: what is copied, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffmae_video.build import build_classifier, build_diffmae
from diffmae_video.config import Config, dump_config, load_config
from diffmae_video.engine.checkpoint.single_file import load_checkpoint, save_checkpoint
from diffmae_video.engine.cli import main
from diffmae_video.weights.load import load_diffmae_weights

STILL = ["stages=pretrain", "pretrain.epochs=2", "pretrain.lr=1e-30", "pretrain.min_lr=0"]  # steps that move nothing


@pytest.fixture
def earlier(tiny_config: Path, tmp_path: Path) -> Path:
    """A run's folder with a finished pre-training, of random weights."""
    config = load_config(tiny_config)
    torch.manual_seed(7)
    weights = {name: torch.randn_like(value) for name, value in build_diffmae(config).state_dict().items()}
    save_checkpoint(tmp_path / "earlier" / "pretrain" / "weights.pt", {"model": weights, "ema": None})
    (tmp_path / "earlier" / "config.yaml").write_text(dump_config(config))
    return tmp_path / "earlier"


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "pretrain" / "weights.pt")["model"]


@pytest.mark.parametrize("source", ["", "pretrain", "pretrain/weights.pt"])
def test_a_run_begins_from_all_weights_of_an_earlier_one(
    source: str, tiny_config: Path, earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pre-training is lengthened so, with a schedule of its own."""
    assert main(["--cfg", str(tiny_config), *STILL, f"pretrain.init={earlier / source}"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "pretrain: encoder from" in line]
    assert line.startswith(f"pretrain: encoder from {earlier}/pretrain/weights.pt, ")
    assert line.endswith("; decoder too")
    before, after = weights_of(earlier), weights_of(tmp_path / "run")
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6, msg=name)


def models(config: Config, seed: int) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    model = build_diffmae(config)
    return model, {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("override", ["model.decoder.depth=2", "model.decoder.width=64", "model.decoder.kind=joint"])
def test_another_decoder_stays_fresh_as_a_whole(override: str, tiny_config: Path, earlier: Path) -> None:
    model, fresh = models(load_config(tiny_config, [override]), seed=1)
    line = load_diffmae_weights(model, earlier / "pretrain" / "weights.pt")
    assert "decoder fresh" in line
    before = weights_of(earlier)
    for name, value in model.state_dict().items():
        expected = before[name] if name.startswith("encoder.") else fresh[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=0, msg=name)


def test_a_fine_tuned_encoder_will_do(tiny_config: Path, tmp_path: Path) -> None:
    config = load_config(tiny_config)
    tuned = build_classifier(config, num_classes=3).state_dict()
    save_checkpoint(tmp_path / "tuned.pt", {"model": tuned, "ema": None})
    model, fresh = models(config, seed=1)
    assert "decoder fresh" in load_diffmae_weights(model, tmp_path / "tuned.pt")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, tuned[name] if name.startswith("encoder.") else fresh[name], msg=name)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["pretrain.init={earlier}", "model.size=tiny"], "weights.pt: its encoder doesn't fit"),
        (["pretrain.init={earlier}/gone.pt"], "gone.pt"),
        (["pretrain.init=pretrain"], "pretrain is not there; give a run whose pre-training is finished"),
    ],
)
def test_weights_that_dont_fit_are_refused_before_the_first_step(
    overrides: list[str],
    words: str,
    tiny_config: Path,
    earlier: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [override.format(earlier=earlier) for override in overrides]
    assert main(["--cfg", str(tiny_config), *STILL, *given]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert words.format(earlier=earlier) in line
    assert not (tmp_path / "run" / "pretrain" / "metrics.jsonl").exists()


def test_a_run_from_other_weights_is_another_run(
    tiny_config: Path, earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--cfg", str(tiny_config), *STILL]
    assert main([*command, f"pretrain.init={earlier}"]) == 0
    assert main([*command, f"pretrain.init={earlier}"]) == 0
    assert "finished before" in capsys.readouterr().out
    assert main(command) == 2
    assert "it began from other weights (pretrain.init)" in capsys.readouterr().err
