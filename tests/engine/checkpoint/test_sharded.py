"""Sharded checkpoints: written by two ranks, read by two and by one; damage, full disks, crafted pickles."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path, PosixPath

import pytest
import torch
from torch import nn

from diffmae_video.engine.checkpoint.sharded import ShardedFolder, _IndexUnpickler
from diffmae_video.engine.checkpoint.single_file import CheckpointError
from diffmae_video.engine.distributed.context import (
    DistributedContext,
    init_distributed,
    load_sharded_state,
    sharded_state,
    shutdown_distributed,
)
from tests.engine.distributed.test_context import ONE, build, reference, train

pytestmark = pytest.mark.cpu_fsdp  # they read what two ranks have written


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer, *, step: int = -1) -> dict[str, object]:
    weights, moments = sharded_state(model, optimizer)
    return {"step": step, "classes": ["a", "b"], "model": weights, "optimizer": moments, "best": None}


def resume(
    folder: ShardedFolder, world: DistributedContext, strategy: str
) -> tuple[int, nn.Module, torch.optim.Optimizer]:
    model, optimizer = build(world, strategy)
    step, state = folder.latest(lambda: state_of(model, optimizer))
    assert (state["step"], state["classes"], state["best"]) == (step, ["a", "b"], None)
    load_sharded_state(model, optimizer, state["model"], state["optimizer"])
    return step, model, optimizer


def two_ranks(path: Path) -> None:
    world = init_distributed("cpu")
    folder = ShardedFolder(path, world=world, keep_last=2)
    model, optimizer = build(world, "fsdp")
    assert folder.latest(lambda: state_of(model, optimizer)) is None
    for step in (1, 2, 3):
        train(model, optimizer, world, range(step - 1, step))
        folder.save(step, state_of(model, optimizer, step=step))
    assert folder.steps() == [2, 3]
    step, model, optimizer = resume(folder, world, "fsdp")
    train(model, optimizer, world, range(step, 5))
    folder.save(5, state_of(model, optimizer, step=5))
    shutdown_distributed(world)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


def test_two_ranks_write_and_one_goes_on(run_ranks: Callable[..., list[int | None]], written: Path) -> None:
    codes = run_ranks(two_ranks, 2, written, written / "checkpoints")
    assert codes == [0, 0], (written / "rank-0.log").read_text()
    assert sorted(entry.name for entry in (written / "checkpoints").iterdir()) == ["step-00000003", "step-00000005"]
    step, model, optimizer = resume(ShardedFolder(written / "checkpoints", world=ONE), ONE, "ddp")
    assert step == 5
    train(model, optimizer, ONE, range(5, 7))
    for name, value in reference(7).items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=2e-6)


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> ShardedFolder:
    """A copy of what the two ranks wrote, to be damaged."""
    shutil.copytree(written / "checkpoints", tmp_path / "checkpoints")
    return ShardedFolder(tmp_path / "checkpoints", world=ONE)


@pytest.mark.parametrize("file", ["__0_0.distcp", "__1_0.distcp", ".metadata", "manifest.json"])
def test_damage_is_passed_over(copied: ShardedFolder, file: str, caplog: pytest.LogCaptureFixture) -> None:
    path = copied.path_of(5) / file
    data = bytearray(path.read_bytes())
    data[len(data) // 3 if file != "manifest.json" else 0] ^= 0x40
    path.write_bytes(bytes(data))
    assert copied.latest(lambda: state_of(*build(ONE, "ddp")))[0] == 3
    assert "step-00000005 is damaged" in caplog.text
    (copied.path_of(3) / file).unlink()
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        copied.latest(lambda: state_of(*build(ONE, "ddp")))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_crafted_index_is_refused_and_not_executed(
    copied: ShardedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied.path_of(5) / ".metadata").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    monkeypatch.setattr(ShardedFolder, "_damage", lambda self, path: "")  # the attacker fixed the checksums
    with pytest.raises(CheckpointError, match=r"asks for posix\.mkdir") as caught:
        copied.latest(lambda: state_of(*build(ONE, "ddp")))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("module", [b"pathlib", b"pathlib._local"])
def test_an_index_of_any_python_is_read_by_any(module: bytes) -> None:
    """Python 3.13 pickles a path under another module's name than 3.10 to 3.12."""
    assert _IndexUnpickler(io.BytesIO(b"c" + module + b"\nPosixPath\n.")).load() is PosixPath
    with pytest.raises(pickle.UnpicklingError, match=r"asks for pathlib\.Path,"):
        _IndexUnpickler(io.BytesIO(b"c" + module + b"\nPath\n.")).load()


def test_a_state_of_another_model_is_refused(copied: ShardedFolder) -> None:
    other = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW([{"params": list(other.parameters())}])
    with pytest.raises(CheckpointError, match="doesn't fit this model") as caught:
        copied.latest(lambda: state_of(other, optimizer))
    assert "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_what_was_there(copied: ShardedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(copied.folder.rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device; older checkpoints are untouched"):
        copied.save(7, state_of(*build(ONE, "ddp"), step=7))
    assert sorted(copied.folder.rglob("*")) == before
