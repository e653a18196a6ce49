"""Keeping a training's state: in whole checkpoints that rank 0 writes, or in shards that each rank writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffmae_video.engine.checkpoint import CheckpointFolder
from diffmae_video.engine.distributed import World, gather_objects
from diffmae_video.engine.sharded import ShardedFolder
from diffmae_video.engine.state import TrainState


class Keeper:
    """Saves and resumes one stage's training; every rank calls every method.

    Both forms are read, whichever is newer, so a run can change between them; ``best.pt`` is always whole.

    Args:
        folder: the stage's checkpoints.
        world: the ranks.
        keep_last: how many checkpoints to keep beside the best.
        sharded: save in shards, for models that rank 0 can't hold whole.
    """

    def __init__(self, folder: str | Path, *, world: World, keep_last: int, sharded: bool = False) -> None:
        self.world = world
        self.sharded = sharded
        self._whole = CheckpointFolder(folder, keep_last=keep_last)
        self._shards = ShardedFolder(folder, world=world, keep_last=keep_last)

    def save(self, step: int, facts: Mapping[str, Any], state: TrainState) -> None:
        """Write the checkpoint of ``step``: ``facts`` (plain data) and all of ``state``.

        Raises:
            CheckpointError: it can't be written; older ones are untouched.
        """
        if self.sharded:
            self._shards.save(step, {**facts, **state.shards()})
            return
        whole = state.state_dict()
        if self.world.is_main:
            self._whole.save(step, {**facts, **whole})

    def save_best(self, facts: Mapping[str, Any], state: TrainState) -> None:
        """Replace ``best.pt``.

        Raises:
            CheckpointError: it can't be written.
        """
        whole = state.state_dict()
        if self.world.is_main:
            self._whole.save_best({**facts, **whole})

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
        paths = {step: folder.path_of(step) for folder in (self._whole, self._shards) for step in folder.steps()}
        return str(paths[max(paths)]) if paths else "none yet"
