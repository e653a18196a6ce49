"""All command lines: their help, and wrong arguments in one line with exit code 2, never a traceback."""

from __future__ import annotations

import argparse
import importlib
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from diffmae_video.command_line import real_number, run_command, whole_number
from diffmae_video.engine import cli
from diffmae_video.engine.train.trainer import Trainer
from diffmae_video.errors import UserError

ROOT = Path(__file__).parents[2]
MAINS = {"run_net": "diffmae_video.engine.cli:main", "submit": "diffmae_video.launch.cli:submit_main"}
MAINS |= {"sweep": "diffmae_video.launch.cli:sweep_main"}


def main_of(tool: str) -> Callable[[list[str]], int]:
    module, _, name = MAINS.get(tool, f"{tool}:main").partition(":")
    return getattr(importlib.import_module(module), name)


def ends_with(tool: str, arguments: list[str]) -> int:
    try:
        return main_of(tool)(arguments)
    except SystemExit as ended:  # argparse's way to end
        return int(ended.code or 0)


SCRIPTS = [path for folder in ("tools", "datasets") for path in sorted((ROOT / folder).glob("*.py"))]
SCRIPTS = [path for path in SCRIPTS if "__main__" in path.read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_help_and_refuses_in_one_line(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, code in ((["--help"], 0), (["--nonsense"], 2)):
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        monkeypatch.syspath_prepend(script.parent)  # as Python does for a script
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        assert ended.value.code == code
        told = capsys.readouterr()
        if code == 0:
            assert told.out.startswith("usage: ")
        else:
            assert told.err.startswith("error: ")
            assert told.err.count("\n") == 1


CFG = ["--cfg", str(ROOT / "configs" / "motion_tiny.yaml")]
FEATURES = ["--run", "{run}", "--list", "{list}", "--out", "{tmp}/f.npz"]
INPAINT = ["--run", "{run}", "--video", "{video}"]


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("run_net", [], "--cfg is missing"),
        ("run_net", ["--cfg", "{tmp}/gone.yaml"], "gone.yaml: no such config"),
        ("run_net", ["--cfg", "{tmp}"], "can't be read (Is a directory)"),
        ("run_net", [*CFG, "seed=x"], "override seed=x: must be a whole number"),
        ("run_net", [*CFG, "--profile", "-1"], "--profile: -1 must be a whole number, 0 or more"),
        ("run_net", ["--cfg", "{config}", "output_dir={file}/run"], "{file}/run: Not a directory"),
        ("run_net", ["--cfg", "{config}", "output_dir={file}"], "{file}"),
        ("run_net", ["--cfg", "{config}", "output_dir=/proc/run"], "/proc/run"),
        ("run_net", ["--cfg", "{config}", "data.train_list={tmp}"], "{tmp}"),
        ("submit", CFG[:1], "expected one argument"),
        ("submit", [*CFG, "--max-parallel", "0"], "0 must be a whole number, 1 or more"),
        ("submit", [*CFG, "--max-parallel", "many"], "'many' must be a whole number, 1 or more"),
        ("submit", [*CFG, "--sweep-file", "{tmp}/gone.yaml", "--dry-run"], "gone.yaml: can't be read"),
        ("submit", [*CFG, "--local", "slurm.gpus_per_node=0", "output_dir={file}/x"], "can't be written"),
        ("sweep", ["{tmp}/gone"], "gone"),
        ("bench", [], "required"),
        ("bench", ["data"], "give --cfg CONFIG"),
        ("bench", ["data", "--videos", "0"], "0 must be a whole number, 1 or more"),
        ("bench", ["data", "--step-ms", "nan"], "nan must be a number, 0 or more"),
        ("bench", ["model", "--rounds", "0"], "0 must be a whole number, 1 or more"),
        ("scan_videos", ["--list", "{tmp}/gone.csv", "--manifest", "{tmp}/m.csv"], "gone.csv"),
        ("extract_features", [*FEATURES, "--views", "0"], "0 must be a whole number, 1 or more"),
        ("extract_features", [*FEATURES, "--batch-size", "-3"], "-3 must be a whole number, 1 or more"),
        ("extract_features", [*FEATURES, "--list", "{tmp}/gone.csv"], "gone.csv"),
        ("extract_features", [*FEATURES, "--list", "{tmp}"], "{tmp}"),
        ("extract_features", [*FEATURES, "--run", "{tmp}"], "holds no config.yaml"),
        ("inpaint", [*INPAINT, "--sampler", "dpm"], "--sampler: invalid choice: 'dpm'"),
        ("inpaint", [*INPAINT, "--steps", "0"], "0 must be a whole number, 1 or more"),
        ("inpaint", [*INPAINT, "--eta", "nan"], "nan must be a number from 0 to 1"),
        ("inpaint", [*INPAINT, "--max-clips", "0"], "0 must be a whole number, 1 or more"),
        ("inpaint", [*INPAINT, "--out", "{file}/out"], "{file}"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    tool: str,
    arguments: list[str],
    words: str,
    pretrained: Path,
    tiny_config: Path,
    tiny_videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    names = {"tmp": tmp_path, "file": tmp_path / "file", "run": pretrained, "config": tiny_config}
    names |= {"list": tiny_videos / "val.csv", "video": tiny_videos / "val-0.mp4"}
    before = sorted(tmp_path.iterdir())
    assert ends_with(tool, [argument.format(**names) for argument in arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1, line
    assert words.format(**names) in line
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("program", ["run_net", "submit", "sweep"])
def test_what_needs_no_model_is_told_without_loading_torch(program: str, tmp_path: Path) -> None:
    """Seconds on a laptop, half a minute on a login node with a cold file system."""
    module, _, name = MAINS[program].partition(":")
    code = f"""
import sys
from {module} import {name}
try:
    {name}(["--help"])
except SystemExit:
    pass
try:
    code = {name}(["--cfg", {CFG[1]!r}, "sede=1"] if {name!r} != "sweep_main" else [{str(tmp_path)!r}])
except SystemExit as ended:
    code = ended.code
loaded = [name for name in ("torch", "torchvision", "timm", "av", "omegaconf") if name in sys.modules]
sys.exit(f"exit code {{code}}, loaded {{loaded}}" if loaded or code != 2 else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_mistake_of_ours_keeps_its_traceback_through_the_whole_engine(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch words a wrong size as a ValueError, which is what our own users' mistakes are too."""

    def planted(*rest: object, **more: object) -> None:
        F.cross_entropy(torch.zeros(4, 3), torch.zeros(2, dtype=torch.long))

    monkeypatch.setattr(Trainer, "backward", planted)
    with pytest.raises(ValueError, match="Expected input batch_size") as raised:
        cli.main(["--cfg", str(tiny_config), "stages=pretrain", f"output_dir={tmp_path / 'run'}"])
    assert not isinstance(raised.value, UserError)
    assert "planted" in [entry.name for entry in raised.traceback]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("x=1:\n  must be 2"), "error: x=1: must be 2\n"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "error: a.csv: No such file or directory; check"),
        (PermissionError(13, "Permission denied", "/root/x"), "error: /root/x: Permission denied; check"),
    ],
)
def test_mistakes_of_users(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise error

    assert run_command(command) == 2
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("error", [ValueError("ours"), KeyError("ours"), OSError(5, "no file"), RuntimeError("ours")])
def test_faults_of_ours(error: Exception) -> None:
    def command() -> int:
        raise error

    with pytest.raises(type(error)) as raised:
        run_command(command)
    assert raised.value is error


def test_exit_codes_of_commands_are_theirs() -> None:
    assert [run_command(lambda code=code: code) for code in (0, 1, 75)] == [0, 1, 75]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (whole_number(1), {"1": 1, " 7 ": 7}, ["0", "-1", "1.5", "x", ""]),
        (whole_number(0, 51), {"0": 0, "51": 51}, ["-1", "52"]),
        (real_number(0), {"0": 0.0, "1e-3": 1e-3}, ["-1", "nan", "inf", "x"]),
        (real_number(0, 1), {"0": 0.0, "1": 1.0}, ["1.01", "-0.1"]),
        (real_number(0, above=True), {"0.1": 0.1}, ["0", "-1"]),
    ],
)
def test_bounds(kind: Callable[[str], float], good: dict[str, float], bad: list[str]) -> None:
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=r"must be a (whole )?number"):
            kind(text)
