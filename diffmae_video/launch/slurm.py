"""One job: what submitit starts in each task.

Signals. submitit installs a handler of SIGUSR2 in each task: on rank 0 it calls :meth:`TrainingJob.checkpoint`
and requeues at once, on the others it does nothing. That is right only while nothing is at stake, so it holds
until the engine takes the signals over: from then on a signal sets a flag, all ranks agree on it at a step
boundary, save, and ``run`` returns 75 on each. The requeue itself is then decided where every rank has ended,
by ``epilogue.py`` in the batch script (on a local executor: by submitit's controller, once all tasks have ended).
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from diffmae_video.engine.place import rendezvous_port
from diffmae_video.launch.records import (
    Attempt,
    End,
    Failure,
    add_end,
    read_ends,
    write_attempt,
    write_failure,
)

# How torch words that the other end of a connection is gone; it has no class of its own for gloo's errors.
_PEER_GONE = re.compile(
    r"closed by peer|reset by peer|broken pipe|connection refused|gloo|nccl|process group|socket|barrier", re.IGNORECASE
)


class RequeueLimitError(RuntimeError):
    """The job was restarted as often as slurm.max_requeues allows."""


@dataclass(frozen=True)
class Place:
    """A task's place in its job, from the variables of SLURM or of submitit's local executor."""

    cluster: str
    job: str
    restart: int
    rank: int
    local_rank: int
    world_size: int
    address: str
    port: int

    def variables(self) -> dict[str, str]:
        """torchrun's variables, which the engine reads."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def find_place(output_dir: str | Path) -> Place:
    """Where this task is; ``output_dir`` has the record by which a local job counts its restarts."""
    job = submitit.JobEnvironment()
    several_nodes = job.num_nodes > 1
    if job.cluster == "slurm":
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    else:
        restart = sum(end.job == job.job_id and end.end == "requeued" for end in read_ends(output_dir))
    return Place(
        cluster=job.cluster,
        job=job.job_id,
        restart=restart,
        rank=job.global_rank,
        local_rank=job.local_rank,
        world_size=job.num_tasks,
        # The batch script runs on the job's first node, with rank 0. All tasks have a connection to srun
        # there, so this address is known to be reachable, whatever the nodes' names resolve to.
        address=os.environ["SLURM_LAUNCH_NODE_IPADDR"] if several_nodes else "127.0.0.1",
        port=rendezvous_port(job.raw_job_id),
    )


def run_recipe(path: str) -> int:
    """The engine's run, imported late: the batch script's epilogue needs this module, and no torch."""
    from diffmae_video.engine.runner import run
    from diffmae_video.recipe import load_recipe

    return run(load_recipe(path))


@dataclass(frozen=True)
class TrainingJob:
    """Runs a resolved recipe in each task of a job; submitit pickles it.

    Args:
        recipe: path of the resolved recipe.
        output_dir: its run folder.
        workdir: where the user submitted; relative paths of the recipe start there.
        max_requeues: restarts after which the job ends.
        run: path of a recipe -> 0 (finished) or 75 (interrupted and saved).
    """

    recipe: str
    output_dir: str
    workdir: str
    max_requeues: int
    run: Callable[[str], int] = run_recipe

    def __call__(self) -> int:
        """Run, and leave a record of how it went."""
        os.chdir(self.workdir)
        place = find_place(self.output_dir)
        os.environ.update(place.variables())
        attempt = Attempt(job=place.job, restart=place.restart, host=socket.gethostname(), started=time.time())
        if place.rank == 0:
            write_attempt(self.output_dir, attempt)
        try:
            code = self._run(place)
        except Exception as error:
            write_failure(self.output_dir, _describe(place, error))
            raise
        for number in (signal.SIGTERM, signal.SIGUSR2):  # what is left to do must not be torn
            signal.signal(number, signal.SIG_IGN)
        if place.rank == 0:
            write_attempt(self.output_dir, dataclasses.replace(attempt, ended=time.time(), code=code))
        if code:
            self._leave_unfinished(place)
        return code

    def _run(self, place: Place) -> int:
        if place.restart > self.max_requeues:
            raise RequeueLimitError(self._limit_message(place))
        return self.run(self.recipe)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """submitit's protocol for a signal before the engine runs: nothing to save, the same job again.

        Raises:
            RequeueLimitError: not again; it ends :meth:`__call__`, in which the signal came.
        """
        place = find_place(self.output_dir)
        if place.restart >= self.max_requeues:
            raise RequeueLimitError(self._limit_message(place))
        return submitit.helpers.DelayedSubmission(self)

    def _leave_unfinished(self, place: Place) -> None:
        """Leave the task without a result file, which would tell submitit that the job is over."""
        if place.cluster == "slurm":
            sys.exit(0)  # the epilogue requeues
        if place.restart >= self.max_requeues:
            raise RequeueLimitError(self._limit_message(place))
        if place.rank == 0:
            add_end(self.output_dir, End(job=place.job, restart=place.restart, end="requeued", reason="signal"))
        sys.exit(LOCAL_REQUEUE_RETURN_CODE)

    def _limit_message(self, place: Place) -> str:
        return f"restarted {place.restart} times, slurm.max_requeues={self.max_requeues}; submit again to go on"


def _describe(place: Place, error: Exception) -> Failure:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(
        job=place.job,
        restart=place.restart,
        rank=place.rank,
        host=socket.gethostname(),
        time=time.time(),
        own=place.world_size == 1 or not is_peer_loss(error),
        error=text[:500],
        traceback=traceback.format_exc(),
    )


def is_peer_loss(error: Exception) -> bool:
    """Whether an exception says that another rank is gone, and so isn't the cause of a job's end."""
    import torch.distributed

    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and _PEER_GONE.search(str(error)) is not None
