"""A run: its stages in order, each resumed where it was and skipped once finished."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from diffmae_video.engine.distributed import abandon_world, barrier, start_world, stop_world
from diffmae_video.engine.errors import Interrupted
from diffmae_video.engine.guard import OutOfMemory, is_out_of_memory, memory_levers
from diffmae_video.engine.identity import check_same_recipe
from diffmae_video.engine.inputs import read_inputs
from diffmae_video.engine.lock import RunLock
from diffmae_video.engine.signals import RESUME_ME, StopFlag
from diffmae_video.engine.stages import Run, run_finetune, run_pretrain, run_test
from diffmae_video.engine.status import Status
from diffmae_video.errors import UserError
from diffmae_video.recipe import Recipe

STAGES: dict[str, Callable[[Run], None]] = {"pretrain": run_pretrain, "finetune": run_finetune, "test": run_test}


class OutputError(UserError):
    """The run's folder can't be written; one line."""


def run(recipe: Recipe, *, profile_steps: int = 0) -> int:
    """Run a recipe's stages; the same call resumes an interrupted run and skips finished stages.

    Args:
        recipe: what to do.
        profile_steps: trace so many training steps of each stage into ``output_dir/<stage>/profile``.

    Returns:
        0 when every stage is finished, 75 when a signal stopped it (saved; run it again to go on).

    Raises:
        UserError: what a user can put right, in one line.
        TrainingStopped: training can't go on; everything saved is kept.
    """
    world = start_world(recipe.device)
    folder = Path(recipe.output_dir)
    try:
        with _writing_to(folder), StopFlag() as stop, RunLock(folder) if world.is_main else contextlib.nullcontext():
            status = Status(folder, world=world)
            with _failures_told(status):
                inputs = read_inputs(recipe, world_size=world.size, look_for_videos=world.is_main)
                inputs.check()
                code = _run_stages(Run(recipe, world, inputs, stop, status, profile_steps))
    except BaseException as error:
        abandon_world(world, error)  # the other ranks may wait for this one in a collective
        raise
    stop_world(world)
    return code


def _run_stages(this: Run) -> int:
    torch.set_float32_matmul_precision("high" if this.recipe.tf32 else "highest")
    check_same_recipe(this.recipe, this.folder)
    barrier(this.world)  # every rank has read the folder before rank 0 changes something in it
    for stage in this.recipe.stages:
        try:
            STAGES[stage](this)
        except Interrupted as stopped:
            this.status.end("interrupted", reason=f"{this.stop.signal_name or 'another rank'}: {stopped}")
            this.say(f"{stopped}; run the same command to go on")
            return RESUME_ME
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(memory_levers(stage, device=this.world.device)) from error
    this.status.end("finished")
    return 0


@contextlib.contextmanager
def _failures_told(status: Status) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Best effort: on a full disk the reason must still reach the terminal.
        with contextlib.suppress(OSError):
            status.end("failed", reason=" ".join(str(error).split())[:300])
        raise


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        closed = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
        if full or (closed and str(error.filename).startswith(str(folder))):
            raise OutputError(
                f"{folder} can't be written: {error.strerror}; what was saved before is untouched: "
                f"{'free some space' if full else 'make it writable'}, then run the same command again"
            ) from error
        raise
