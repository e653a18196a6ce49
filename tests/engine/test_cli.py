"""The command line: exit codes, and one line for what a user can put right."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from diffmae_video.config import Config
from diffmae_video.config.rules import walk
from diffmae_video.engine.cli import main
from tests.engine.driven import arguments, drive

ROOT = Path(__file__).parents[2]
VITB = str(ROOT / "configs" / "k400_vitb.yaml")


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1, printed
    assert printed.startswith("error: ")
    return printed


def test_a_misspelt_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", VITB, "pretrain.lrr=1"]) == 2
    assert "did you mean pretrain.lr" in one_error_line(capsys)


def test_no_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--cfg is missing" in one_error_line(capsys)
    assert main(["--cfg", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: no such config" in one_error_line(capsys)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_data_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--cfg", VITB, f"stages=[{stage}]", "finetune.init=none", "output_dir=run"]) == 2
    line = one_error_line(capsys)
    assert "data.train_list: datasets/kinetics400/train.csv is not there" in line
    assert "datasets/kinetics.py" in line


def test_a_run_names_a_video_of_too_few_frames_once(
    tiny_config: Path, run_ranks: Callable[..., list[int | None]], tmp_path: Path
) -> None:
    """All of ``tiny_videos`` have 10 frames a second; every batch of every stage meets some of them."""
    command = arguments(
        tiny_config,
        "data.fps=30",
        "pretrain.epochs=2",
        "finetune.epochs=1",
        "data.num_workers=2",
        "finetune.eval_epochs=1",
    )
    assert run_ranks(drive, 1, tmp_path / "log", command) == [0]
    said = [line for line in (tmp_path / "log" / "rank-0.log").read_text().splitlines() if "hold frames twice" in line]
    assert len(said) == 1
    assert said[0].startswith("pretrain: ")
    assert "10 frames a second, but data.fps=30 with data.stride_frames=2" in said[0]
    shutil.rmtree(tmp_path / "run" / "test")
    assert run_ranks(drive, 1, tmp_path / "test", [*command, "stages=[test]"]) == [0]
    said = [line for line in (tmp_path / "test" / "rank-0.log").read_text().splitlines() if "hold frames twice" in line]
    assert len(said) == 1
    assert said[0].startswith("test")


def test_keys_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keys"]) == 0
    printed = capsys.readouterr().out
    for name, _, _ in walk(Config()):
        assert f"\n{name} = " in f"\n{printed}"


def test_dry_run_prints_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--cfg", VITB, "--dry-run", "data.crop_size=64", "mask.ratio=0.75"]) == 2  # no data
    assert "in pre-training 32 visible, 96 masked" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_too_few_cpus_for_the_loader_are_told_at_the_start(
    tiny_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set())
    assert main(["--cfg", str(tiny_config), "stages=pretrain", "pretrain.epochs=2"]) == 0
    assert capsys.readouterr().out.count("note: this rank may use 0 CPUs for data.num_workers=0") == 1


def test_options_and_overrides_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seed=1", "--cfg", VITB, "mask.ratio=0.5", "--profile", "0", "seed=x"]) == 2
    assert "override seed=x" in one_error_line(capsys)


@pytest.mark.parametrize("size", ["two", "0", "-1"])
def test_a_dry_run_for_no_number_of_ranks(
    size: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert main(["--cfg", VITB, "--dry-run"]) == 2
    assert "WORLD_SIZE (" in one_error_line(capsys)
