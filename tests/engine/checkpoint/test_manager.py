"""Checkpoints written beside the training: of the state as it was, one at a time, failures told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffmae_video.engine.checkpoint.manager import CheckpointManager
from diffmae_video.engine.checkpoint.single_file import CheckpointError, CheckpointFolder, load_checkpoint
from diffmae_video.engine.distributed.context import DistributedContext
from diffmae_video.engine.train.train_state import TrainState

WORLD = DistributedContext(rank=0, size=1, local_rank=0, device=torch.device("cpu"))


def state_of() -> TrainState:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    group = {"params": list(model.parameters()), "names": ["weight", "bias"]}
    state = TrainState(model, torch.optim.AdamW([group], lr=0.1, fused=True), ema_decay=0.9)
    step(state)
    return state


def step(state: TrainState) -> None:
    state.model(torch.ones(4, 3)).square().mean().backward()
    state.apply(finite=True)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writers wait for this event."""
    event, save = threading.Event(), CheckpointFolder.save

    def held_save(self: CheckpointFolder, *rest: Any) -> Path:
        assert event.wait(30)
        return save(self, *rest)

    monkeypatch.setattr(CheckpointFolder, "save", held_save)
    return event


def everything(saved: Any, path: str = "") -> dict[str, torch.Tensor]:
    if isinstance(saved, torch.Tensor):
        return {path: saved.clone()}
    items = saved.items() if isinstance(saved, dict) else enumerate(saved) if isinstance(saved, list) else ()
    return {name: value for key, item in items for name, value in everything(item, f"{path}/{key}").items()}


def test_steps_taken_meanwhile_do_not_reach_the_file(tmp_path: Path, held: threading.Event) -> None:
    state, manager, facts = (
        state_of(),
        CheckpointManager(tmp_path, world=WORLD, keep_last=2),
        {"step": 1, "seen": [1, 2]},
    )
    then = everything(state.state_dict())
    manager.save(1, facts, state)
    step(state)
    facts["seen"].append(3)
    manager.check()  # does not wait
    assert manager._whole.steps() == []
    held.set()
    manager.wait()
    saved = load_checkpoint(tmp_path / "step-00000001.pt")
    assert saved["seen"] == [1, 2]
    found = everything({name: saved[name] for name in ("model", "optimizer", "ema")})
    assert found.keys() == then.keys()
    assert all(torch.equal(found[name], then[name]) for name in then)
    assert not torch.equal(everything(state.state_dict())["/model/weight"], then["/model/weight"])


def test_a_second_save_waits_for_the_first(tmp_path: Path, held: threading.Event) -> None:
    state, manager = state_of(), CheckpointManager(tmp_path, world=WORLD, keep_last=2)
    manager.save(1, {"step": 1}, state)
    second = threading.Thread(target=manager.save, args=(2, {"step": 2}, state))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    held.set()
    second.join(30)
    assert manager.newest() == str(tmp_path / "step-00000002.pt")  # waits, too
    assert manager._whole.steps() == [1, 2]


@pytest.mark.parametrize(
    "tell", [CheckpointManager.wait, CheckpointManager.newest, lambda manager: manager.save(2, {}, state_of())]
)
def test_a_failed_write_is_told_once_by_whatever_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[[CheckpointManager], object]
) -> None:
    def fail(self: CheckpointFolder, *rest: Any) -> Path:
        raise CheckpointError("can't write it")

    manager = CheckpointManager(tmp_path, world=WORLD, keep_last=2)
    monkeypatch.setattr(CheckpointFolder, "save", fail)
    manager.save(1, {}, state_of())
    with pytest.raises(CheckpointError, match="can't write it"):
        tell(manager)
    manager.wait()


def test_a_check_tells_a_failure_as_soon_as_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: threading.Event
) -> None:
    manager = CheckpointManager(tmp_path, world=WORLD, keep_last=2)
    manager.save(1, {"net": object()}, state_of())
    manager.check()
    held.set()
    assert manager._writing is not None
    with pytest.raises(TypeError, match=r"net.* is a object"):
        manager._writing.result(30)
    with pytest.raises(TypeError, match=r"net.* is a object"):
        manager.check()
    manager.check()


def test_the_newest_form_is_resumed_and_only_after_its_check(tmp_path: Path) -> None:
    """Whole and sharded checkpoints beside each other, as a run leaves them that changed between the forms."""
    saved: dict[int, dict[str, torch.Tensor]] = {}
    state = state_of()
    for last, sharded in ((1, False), (2, True), (3, False)):
        step(state)
        manager = CheckpointManager(tmp_path, world=WORLD, keep_last=2, sharded=sharded)
        manager.save(last, {"step": last}, state)
        manager.wait()
        saved[last] = everything(state.state_dict())
        for form in (False, True):
            resumed = state_of()
            before = everything(resumed.state_dict())
            manager = CheckpointManager(tmp_path, world=WORLD, keep_last=2, sharded=form)
            with pytest.raises(ArithmeticError):
                manager.resume(resumed, check=lambda facts, path: 1 // 0)
            if last != 2:  # shards are read into the tensors themselves, and only then known
                now = everything(resumed.state_dict())
                assert all(torch.equal(now[name], before[name]) for name in before)
            found = manager.resume(resumed, check=lambda facts, path: None)
            assert found is not None
            assert found["step"] == last
            now = everything(resumed.state_dict())
            assert all(torch.equal(now[name], saved[last][name]) for name in saved[last])
