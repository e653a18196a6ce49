"""Checkpoints: whole or absent, verified, safe to load."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from diffmae_video.engine.checkpoint.single_file import (
    CheckpointError,
    CheckpointFolder,
    load_checkpoint,
    save_checkpoint,
    verify_checkpoint,
)
from diffmae_video.errors import UserError


def state_of(step: int, *, values: int = 1000) -> dict[str, object]:
    tensor = torch.arange(values, dtype=torch.float32) + step
    return {
        "model": {"weight": tensor, "half": tensor.bfloat16()},
        "step": step,
        "betas": (0.9, 0.95),
        "best": None,
    }


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(bytes(data))


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    state = state_of(3)
    save_checkpoint(tmp_path / "a.pt", state)
    back = load_checkpoint(tmp_path / "a.pt")
    assert back.keys() == state.keys()
    for name, tensor in state["model"].items():
        assert back["model"][name].dtype == tensor.dtype
        assert torch.equal(back["model"][name], tensor)
    assert (back["step"], back["betas"], back["best"]) == (3, (0.9, 0.95), None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]


def test_plain_torch_load_reads_it_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", state_of(3))
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 3


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, state_of(3))
    size = path.stat().st_size
    for position in [0, 1, size // 3, size // 2, size - 100, size - 70, size - 1]:
        flip_byte(path, position)
        with pytest.raises(CheckpointError, match=r"a\.pt"):
            load_checkpoint(path)
        flip_byte(path, position)
    verify_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 10, 80, 0.5, 0.999])
def test_a_file_cut_short_is_noticed(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, state_of(3))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match="no checksum at its end"):
        load_checkpoint(path)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"can't read .*none\.pt: No such file") as caught:
        load_checkpoint(tmp_path / "none.pt")
    assert "\n" not in str(caught.value)


class Bomb:
    """Unpickled by an unsafe loader, this makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_crafted_pickle_is_refused_and_not_executed(tmp_path: Path, form: str) -> None:
    target, path = tmp_path / "executed", tmp_path / "evil.pt"
    evil = {"model": Bomb(target)}
    if form == "bare":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="no checksum"):
        load_checkpoint(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest().encode()
    with path.open("ab") as file:  # the attacker knows our trailer as well
        file.write(b"\nDIFFMAE-SHA256:" + digest)
    with pytest.raises(CheckpointError, match="refused by the safe loader") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    # The counter-proof: the same file does act when it is loaded unsafely.
    torch.load(path, weights_only=False) if form != "bare" else pickle.loads(path.read_bytes())
    assert target.exists()


def test_objects_are_refused_when_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['model'\]\['net'\] is a Linear"):
        save_checkpoint(tmp_path / "a.pt", {"model": {"net": torch.nn.Linear(1, 1)}})
    assert list(tmp_path.iterdir()) == []


def test_folder_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", keep_last=2)
    assert folder.latest() is None
    for step in (10, 20, 30):
        folder.save(step, state_of(step))
        if step == 10:
            folder.save_best(state_of(step))
    assert sorted(entry.name for entry in folder.folder.iterdir()) == [
        "best.pt", "step-00000020.pt", "step-00000030.pt",
    ]  # fmt: skip
    step, state = folder.latest()
    assert (step, state["step"]) == (30, 30)
    assert load_checkpoint(folder.best_path)["step"] == 10


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=3)
    for step in (10, 20, 30):
        folder.save(step, state_of(step))
    flip_byte(folder.path_of(30), 2000)
    folder.path_of(20).write_bytes(b"")
    assert folder.latest()[0] == 10
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["passed over"] * 2
    assert "step-00000030.pt is damaged" in caplog.records[0].getMessage()


def test_only_damaged_checkpoints_never_start_a_run_over(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(10, state_of(10))
    flip_byte(folder.path_of(10), 2000)
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        folder.latest()


def test_nothing_is_pruned_before_the_new_file_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=1)
    folder.save(10, state_of(10))
    replace = os.replace

    def damage_then_replace(source: Path, target: Path) -> None:
        flip_byte(Path(source), 2000)
        replace(source, target)

    monkeypatch.setattr(os, "replace", damage_then_replace)
    folder.save(20, state_of(20))
    assert folder.steps() == [10, 20]
    assert folder.latest()[0] == 10


def test_keep_last_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"keep_last \(0\) must be at least 1"):
        CheckpointFolder(tmp_path, keep_last=0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of one MiB; unmounted afterwards."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"can't mount a small disk here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(small_disk: Path) -> None:
    folder = CheckpointFolder(small_disk / "checkpoints", keep_last=2)
    folder.save(10, state_of(10))
    before = folder.path_of(10).read_bytes()
    with pytest.raises(CheckpointError, match=r"No space left on device.*free some space") as caught:
        folder.save(20, state_of(20, values=10**6))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in folder.folder.iterdir()] == ["step-00000010.pt"]
    assert folder.path_of(10).read_bytes() == before
    folder.save(30, state_of(30))
    assert folder.latest()[0] == 30


def test_read_only_folder(small_disk: Path) -> None:
    folder = CheckpointFolder(small_disk)
    folder.save(10, state_of(10))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(CheckpointError, match=r"Read-only file system.*make the folder writable"):
        folder.save(20, state_of(20))
    assert folder.latest()[0] == 10


WRITER = """
import sys, time
import torch
from diffmae_video.engine.checkpoint import single_file

write = single_file._HashingFile.write
def slow_write(self, data):
    for start in range(0, len(data), 40_000):
        time.sleep(0.002)
        write(self, data[start : start + 40_000])
    return len(data)
single_file._HashingFile.write = slow_write

folder = single_file.CheckpointFolder(sys.argv[1], keep_last=2)
found = folder.latest()
step = 0 if found is None else found[0]
print("ready", flush=True)
while True:
    step += 1
    folder.save(step, {"weight": torch.full((100_000,), float(step)), "step": step})
    print(step, flush=True)
"""


def kill_while_writing(folder: Path, kills: int) -> int:
    """Kill a process that does nothing but write checkpoints, again and again; the writes that were cut."""
    cut = 0
    for kill in range(kills):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert writer.stdout.readline() == "ready\n"
        done = int(writer.stdout.readline())
        time.sleep(0.003 * (kill % 10))  # a write takes about 25 ms, so the kills fall all over it
        writer.send_signal(signal.SIGKILL)
        done = max([done, *map(int, writer.stdout.read().split())])
        writer.wait()
        step, state = CheckpointFolder(folder).latest()
        assert step >= done, "a checkpoint that was reported as saved is lost"
        assert state["step"] == step
        assert torch.equal(state["weight"], torch.full((100_000,), float(step)))
        cut += len(list(folder.glob("*.tmp")))
    return cut


def test_kill_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    assert kill_while_writing(tmp_path, kills=3) >= 1


@pytest.mark.slow
def test_fifty_kills_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    assert kill_while_writing(tmp_path, kills=50) >= 25
