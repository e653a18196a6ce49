"""Folders that a run must not touch or can't write: one line, exit code 2, and nothing lost."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from diffmae_video.engine import cli
from diffmae_video.engine.checkpoint.single_file import CheckpointFolder, load_checkpoint, save_checkpoint
from diffmae_video.engine.monitor.status import read_status
from diffmae_video.engine.train.trainer import Trainer
from tests.engine.driven import arguments, assert_same_bits, drive, drive_and_stop, drive_slowly

RunRanks = Callable[..., list[int | None]]


def refused(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    """The one line that the command line answers with."""
    assert cli.main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def begun_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("begun")


@pytest.fixture
def begun(begun_folder: Path, tiny_config: Path, run_ranks: RunRanks) -> list[str]:
    """The command line of a run that was stopped in the middle of its pre-training; made once."""
    command = arguments(tiny_config, f"output_dir={begun_folder / 'run'}")
    if not (begun_folder / "run").exists():
        assert run_ranks(drive_and_stop, 1, begun_folder, command, "pretrain", 4, begun_folder) == [75]
    return command


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mask.ratio=0.5", "mask.ratio=0.75, this one has 0.5"),
        ("model.size=tiny", "model.size=micro, this one has tiny"),
        ("seed=1", "seed=0, this one has 1"),
        ("pretrain.batch_size=6", "pretrain.batch_size=4, this one has 6"),
    ],
)
def test_another_config(begun: list[str], capsys: pytest.CaptureFixture[str], override: str, words: str) -> None:
    assert words in refused(capsys, [*begun, override])


def test_a_checkpoint_of_another_stage(
    begun: list[str], begun_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = CheckpointFolder(begun_folder / "run" / "pretrain" / "checkpoints")
    step = folder.steps()[-1]
    before = load_checkpoint(folder.path_of(step))
    save_checkpoint(folder.path_of(step), {**before, "stage": "finetune"})
    try:
        assert "is of stage finetune, not pretrain" in refused(capsys, begun)
    finally:
        save_checkpoint(folder.path_of(step), before)


def test_a_list_of_another_length(
    begun: list[str], tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shorter = tmp_path / "train.csv"
    shorter.write_text("\n".join((tiny_videos / "train.csv").read_text().splitlines()[:-1]) + "\n")
    (tmp_path / "classes.txt").write_text((tiny_videos / "classes.txt").read_text())
    line = refused(capsys, [*begun, f"data.train_list={shorter}"])
    assert "12 training videos, this one has 11" in line


def test_a_second_run_on_the_same_folder(
    tiny_config: Path, start_ranks: Callable[..., list[BaseProcess]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}")
    (first,) = start_ranks(drive_slowly, 1, tmp_path, command)
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "run" / "pretrain" / "metrics.jsonl").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        line = refused(capsys, command)
        assert f"belongs to a live run (host {socket.gethostname()}, pid {first.pid})" in line
        assert first.is_alive()
    finally:
        first.kill()
        first.join()


def test_out_of_memory(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*rest: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nA long tale follows.")

    monkeypatch.setattr(Trainer, "backward", exhausted)
    assert cli.main(arguments(tiny_config, f"output_dir={tmp_path / 'run'}")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: pretrain: out of memory on cpu; same result: a larger pretrain.accumulation")
    assert "out of memory" in read_status(tmp_path / "run")["reason"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB: two checkpoints of the tiny config fit, a third doesn't."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"can't mount a small disk here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, tiny_config: Path, run_ranks: RunRanks, tmp_path: Path) -> None:
    command = arguments(tiny_config, f"output_dir={small_disk / 'run'}")
    assert run_ranks(drive, 1, tmp_path, command) == [2]
    log = (tmp_path / "rank-0.log").read_text()
    assert "No space left on device" in log
    assert "Traceback" not in log
    assert CheckpointFolder(small_disk / "run" / "pretrain" / "checkpoints").latest() is not None
    remount(small_disk, "size=400m")
    assert run_ranks(drive, 1, tmp_path, command) == [0]
    undisturbed = arguments(tiny_config, f"output_dir={tmp_path / 'run'}")
    assert run_ranks(drive, 1, tmp_path / "logs", undisturbed) == [0]
    assert_same_bits(small_disk / "run", tmp_path / "run")


def test_a_folder_that_cant_be_written(small_disk: Path, tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remount(small_disk, "ro")
    line = refused(capsys, arguments(tiny_config, f"output_dir={small_disk / 'run'}"))
    assert "Read-only file system" in line
    assert "make it writable" in line
