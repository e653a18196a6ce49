"""All inputs of all stages are judged before the first step, and by --dry-run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffmae_video.config import load_config
from diffmae_video.engine import cli
from diffmae_video.engine.inputs import read_inputs
from tests.conftest import TINY_RECIPE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lists(tiny_videos: Path, tmp_path: Path) -> Callable[..., Path]:
    """``lists(name, labels, classes)``: a list of existing videos in a folder of its own."""

    def write(name: str, labels: list[int], classes: list[str] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rows = [f"train-{i}.mp4,{label}" for i, label in enumerate(labels)]
        (folder / "l.csv").write_text("\n".join(["path,label", *rows]) + "\n")
        if classes is not None:
            (folder / "classes.txt").write_text("\n".join(classes) + "\n")
        return folder / "l.csv"

    return write


def unlabelled(lists: Callable[..., Path], folder: Path) -> Path:
    return lists("unlabelled", [0, -1, 2, -1], ["still", "left", "right"])


def nameless(lists: Callable[..., Path], folder: Path) -> Path:
    return lists("nameless", [0, 1, 2])


def of_others(lists: Callable[..., Path], folder: Path) -> Path:
    return lists("others", [0, 1], ["still", "jump"])


def absent(lists: Callable[..., Path], folder: Path) -> Path:
    return folder / "typo.csv"


def malformed(lists: Callable[..., Path], folder: Path) -> Path:
    path = lists("malformed", [0, 1], ["still", "left"])
    path.write_text(path.read_text() + "train-3.mp4,many\n")
    return path


def foreign(lists: Callable[..., Path], folder: Path) -> Path:
    torch.save({"model_state": {}}, folder / "their.pth")
    return folder / "their.pth"


def safetensors(lists: Callable[..., Path], folder: Path) -> Path:
    (folder / "m.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder / "m.safetensors"


def a_folder(lists: Callable[..., Path], folder: Path) -> Path:
    (folder / "begun" / "pretrain").mkdir(parents=True)
    return folder / "begun"


MISTAKES = [
    ("data.train_list", absent, "data.train_list: {path} is not there"),
    ("data.val_list", absent, "data.val_list: {path} is not there"),
    ("finetune.train_list", absent, "finetune.train_list: {path} is not there"),
    ("data.val_list", malformed, "{path}:4: "),
    ("data.val_list", unlabelled, "data.val_list: {path}: 2 of 4 videos have no label (train-1.mp4, ...)"),
    ("finetune.train_list", unlabelled, "finetune.train_list: {path}: 2 of 4 videos have no label"),
    ("data.val_list", nameless, "data.val_list: {path}: no classes.txt beside it"),
    ("finetune.train_list", nameless, "finetune.train_list: {path}: no classes.txt beside it"),
    ("data.val_list", of_others, "class 'jump' (1 such) of the list isn't among the model's 3"),
    ("data.root", absent, "not there, nor are 11 of 11 others; check data.root"),
    ("finetune.init", absent, "finetune.init={path}: {path} is not there; give a run"),
    ("pretrain.init", absent, "pretrain.init={path}: {path} is not there; give a run"),
    ("finetune.init", foreign, "written by another program (it looks like a file of torch.save)"),
    ("finetune.init", safetensors, "(it looks like safetensors)"),
    ("finetune.init", a_folder, "finetune.init={path}: {path}/pretrain/weights.pt is not there"),
]


@pytest.mark.parametrize(("key", "make", "words"), MISTAKES, ids=lambda v: getattr(v, "__name__", None))
def test_a_mistake_of_a_later_stage_is_found_before_the_first_step(
    tiny_config: Path,
    lists: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    make: Callable[..., Path],
    words: str,
) -> None:
    path = make(lists, tmp_path)
    command = ["--cfg", str(tiny_config), f"{key}={path}"]
    assert cli.main([*command, "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert "test: 2 views x 1 crops a video" in printed.out, "the numbers come first"
    assert words.format(path=path) in printed.err
    assert not (tmp_path / "run").exists()
    assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words.format(path=path) in line
    assert not (tmp_path / "run" / "pretrain").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["test.weights=nowhere.pt"], "test.weights=nowhere.pt: nowhere.pt is not there"),
        (["test.weights=best", "finetune.eval_epochs=0"], "test.weights=best: fine-tuning of 3 epochs"),
        (["stages=[finetune]"], "finetune.init=pretrain: {run}/pretrain/weights.pt is not there; run the pretrain"),
        (["stages=[test]"], "test.weights=last: {run}/finetune/weights.pt is not there; run the finetune stage first"),
        (
            ["diffusion.feature.teacher=vit_tiny", "diffusion.feature.checkpoint=no.pt"],
            "checkpoint=no.pt: no such file",
        ),
    ],
)
def test_weights_that_are_not_there(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: str
) -> None:
    assert cli.main(["--cfg", str(tiny_config), *overrides]) == 2
    assert words.format(run=tmp_path / "run") in capsys.readouterr().err
    assert not (tmp_path / "run" / "pretrain").exists()


def test_all_problems_are_listed_and_the_first_is_said_with_their_number(
    tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--cfg", str(tiny_config), "data.val_list=x.csv", "finetune.train_list=y.csv", "test.weights=z.pt"]
    assert cli.main([*command, "--dry-run"]) == 2
    listed = capsys.readouterr().err.splitlines()
    assert len(listed) == 3
    for word in ("data.val_list: x.csv", "finetune.train_list: y.csv", "test.weights=z.pt"):
        assert sum(word in line for line in listed) == 1
    assert cli.main(command) == 2
    assert "(and 2 more, listed by --dry-run)" in capsys.readouterr().err


def test_a_list_that_no_stage_reads_may_be_missing(tiny_config: Path) -> None:
    for stages, overrides in (
        ("[pretrain]", ["data.val_list=x.csv", "finetune.train_list=y.csv", "test.weights=z.pt"]),
        ("[finetune]", ["data.val_list=x.csv", "finetune.eval_epochs=0", "finetune.init=none"]),
    ):
        config = load_config(tiny_config, [f"stages={stages}", *overrides])
        assert read_inputs(config, world_size=1).problems == []


def test_a_batch_that_the_ranks_cant_share_is_found_for_every_stage(tiny_config: Path) -> None:
    problems = read_inputs(load_config(tiny_config), world_size=3).problems
    assert [line.partition("=")[0] for line in problems] == ["pretrain.batch_size", "finetune.batch_size"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_dry_run_without_data_has_the_numbers_and_says_what_is_missing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stages = load_config(path).stages
    assert cli.main(["--cfg", str(path), "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert all(f"\n{stage}: " in printed.out for stage in stages)
    assert "GFLOPs" in printed.out
    assert all("is not there; make it with" in line for line in printed.err.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_needs_neither_its_videos_nor_the_weights_it_began_from(
    tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, run = tmp_path / "videos", tmp_path / "run"
    shutil.copytree(tiny_videos, videos)
    config = tmp_path / "r.yaml"
    config.write_text(TINY_RECIPE.format(videos=videos, output_dir=run))
    command = ["--cfg", str(config), "pretrain.epochs=1", "pretrain.warmup_epochs=0", "finetune.epochs=1"]
    assert cli.main(command) == 0
    for video in videos.glob("*.mp4"):
        video.unlink()
    (run / "pretrain" / "weights.pt").unlink()
    capsys.readouterr()
    assert cli.main(command) == 0
    printed = capsys.readouterr()
    assert [line.partition(",")[0] for line in printed.out.splitlines() if "finished before" in line] == [
        f"{stage}: finished before" for stage in ("pretrain", "finetune", "test")
    ]
    assert cli.main([*command, "test.views=1"]) == 2  # another test needs them
    assert "check data.root" in capsys.readouterr().err
