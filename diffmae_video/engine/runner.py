"""A run: its stages in order, each resumed where it was and skipped once finished."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from diffmae_video.config import Config
from diffmae_video.engine.compatibility import check_same_config
from diffmae_video.engine.distributed.context import abort_distributed, barrier, init_distributed, shutdown_distributed
from diffmae_video.engine.inputs import read_inputs
from diffmae_video.engine.monitor.health import OutOfMemory, is_out_of_memory, oom_hint
from diffmae_video.engine.monitor.status import Status
from diffmae_video.engine.preemption import RESUME_ME, StopFlag
from diffmae_video.engine.run_lock import RunLock
from diffmae_video.engine.stages import Run, run_finetune, run_pretrain, run_test
from diffmae_video.errors import Interrupted, UserError

STAGES: dict[str, Callable[[Run], None]] = {"pretrain": run_pretrain, "finetune": run_finetune, "test": run_test}


class OutputError(UserError):
    """The run's folder can't be written; one line."""


def run(config: Config, *, profile_steps: int = 0) -> int:
    """Run a config's stages; the same call resumes an interrupted run and skips finished stages.

    Args:
        config: what to do.
        profile_steps: trace so many training steps of each stage into ``output_dir/<stage>/profile``.

    Returns:
        0 when every stage is finished, 75 when a signal stopped it (saved; run it again to go on).

    Raises:
        UserError: what a user can put right, in one line.
        TrainingStopped: training can't go on; everything saved is kept.
    """
    world = init_distributed(config.device)
    folder = Path(config.output_dir)
    try:
        with _writing_to(folder), StopFlag() as stop, RunLock(folder) if world.is_main else contextlib.nullcontext():
            status = Status(folder, world=world)
            with _failures_told(status):
                inputs = read_inputs(config, world_size=world.size, look_for_videos=world.is_main)
                inputs.check()
                code = _run_stages(Run(config, world, inputs, stop, status, profile_steps))
    except BaseException as error:
        abort_distributed(world, error)  # the other ranks may wait for this one in a collective
        raise
    shutdown_distributed(world)
    return code


def _run_stages(this: Run) -> int:
    torch.set_float32_matmul_precision("high" if this.config.tf32 else "highest")
    check_same_config(this.config, this.folder)
    barrier(this.world)  # every rank has read the folder before rank 0 changes something in it
    for stage in this.config.stages:
        try:
            STAGES[stage](this)
        except Interrupted as stopped:
            this.status.end("interrupted", reason=f"{this.stop.signal_name or 'another rank'}: {stopped}")
            this.say(f"{stopped}; run the same command to go on")
            return RESUME_ME
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(oom_hint(stage, device=this.world.device)) from error
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
