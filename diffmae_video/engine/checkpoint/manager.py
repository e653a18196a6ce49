"""Keeping a training's state: in whole checkpoints that rank 0 writes, or in shards that each rank writes.

Whole ones are written while training goes on: the loop waits for a copy of the state in memory, and a thread hashes
it, writes it, flushes it to the disk and reads it back, which takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diffmae_video.engine.checkpoint.sharded import ShardedFolder
from diffmae_video.engine.checkpoint.single_file import CheckpointFolder
from diffmae_video.engine.distributed.context import DistributedContext, gather_objects

if TYPE_CHECKING:
    from diffmae_video.engine.train.train_state import TrainState


class CheckpointManager:
    """Saves and resumes one stage's training; every rank calls every method.

    Both forms are read, whichever is newer, so a run can change between them; ``best.pt`` is always whole.

    Args:
        folder: the stage's checkpoints.
        world: the ranks.
        keep_last: how many checkpoints to keep beside the best.
        sharded: save in shards, for models that rank 0 can't hold whole.
    """

    def __init__(self, folder: str | Path, *, world: DistributedContext, keep_last: int, sharded: bool = False) -> None:
        self.world = world
        self.sharded = sharded
        self._whole = CheckpointFolder(folder, keep_last=keep_last)
        self._shards = ShardedFolder(folder, world=world, keep_last=keep_last)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None

    def save(self, step: int, metadata: Mapping[str, Any], state: TrainState) -> None:
        """Begin to write the checkpoint of ``step``: ``metadata`` (plain data) and all of ``state`` as they are now.

        Raises:
            CheckpointError: this one, or the one before, can't be written; older ones are untouched.
        """
        if self.sharded:
            self._shards.save(step, {**metadata, **state.shards()})
            return
        whole = state.state_dict()
        if self.world.is_main:
            self._begin(lambda copied: self._whole.save(step, copied), {**metadata, **whole})

    def save_best(self, metadata: Mapping[str, Any], state: TrainState) -> None:
        """Begin to replace ``best.pt``.

        Raises:
            CheckpointError: the checkpoint before can't be written.
        """
        whole = state.state_dict()
        if self.world.is_main:
            self._begin(self._whole.save_best, {**metadata, **whole})

    def check(self) -> None:
        """Raise the CheckpointError of a write that has failed; never waits."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when what was given to ``save`` is on the disk.

        Raises:
            CheckpointError: it can't be written; older ones are untouched.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def resume(self, state: TrainState, *, check: Callable[[Mapping[str, Any], Path], None]) -> dict[str, Any] | None:
        """Load the newest checkpoint into ``state``.

        Args:
            state: takes over what was saved.
            check: called with what was saved and its path; raises where it belongs to another run.

        Returns:
            what was saved, or None where there is no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and none can be read.
        """
        whole, shards = gather_objects(self.world, (self._whole.steps(), self._shards.steps()))[0]
        if shards and shards[-1] > (whole[-1] if whole else -1):
            found = self._shards.latest(state.shards)
            load, path_of = state.load_shards, self._shards.path_of
        else:
            found = self._whole.latest()
            load, path_of = state.load_state_dict, self._whole.path_of
        if found is None:
            return None
        step, saved = found
        check(saved, path_of(step))
        load(saved)
        return saved

    def newest(self) -> str:
        """The path of the newest checkpoint, for a message."""
        self.wait()
        paths = {step: folder.path_of(step) for folder in (self._whole, self._shards) for step in folder.steps()}
        return str(paths[max(paths)]) if paths else "none yet"

    def _begin(self, write: Callable[[Mapping[str, Any]], Path], state: Mapping[str, Any]) -> None:
        self.wait()  # one write at a time, and one copy of the state in memory
        self._writing = self._writer.submit(write, _copied(state))


def _copied(value: Any) -> Any:
    """Nested data with tensors of its own, on the CPU, which the next step can't change."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value
