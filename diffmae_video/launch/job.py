"""The job that submitit runs in each task.

Signals: submitit installs a SIGUSR2 handler in each task, which on rank 0 calls :meth:`TrainingJob.checkpoint` and
requeues immediately, and on the other ranks does nothing. That is correct only while there is nothing to save, so the
engine installs its own handlers when it starts: a signal then sets a flag, all ranks agree on it at a step boundary and
save, and ``run`` returns 75 on each. The job is requeued after all ranks have exited, by ``job_end.py`` in the
batch script (with the local executor: by submitit's controller, once all tasks have ended).
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

from diffmae_video.command_line import error_line, is_user_error
from diffmae_video.engine.distributed.env import rendezvous_port
from diffmae_video.launch.records import (
    Attempt,
    Failure,
    JobOutcome,
    add_end,
    read_ends,
    write_attempt,
    write_failure,
)

# Messages by which torch reports a lost peer; errors of gloo have no exception class of their own.
_PEER_GONE = re.compile(
    r"closed by peer|reset by peer|broken pipe|connection refused|gloo|nccl|process group|socket|barrier", re.IGNORECASE
)


class RequeueLimitError(RuntimeError):
    """The job has reached slurm.max_requeues restarts."""


@dataclass(frozen=True)
class RankEnv:
    """A task's job and rank, from the variables of SLURM or of submitit's local executor.

    Attributes:
        cluster: "slurm" or "local".
        job: job id, ``ID_TASK`` in an array.
        restart: number of earlier attempts of the job.
        rank, local_rank, world_size: as torchrun's variables.
        address, port: rendezvous of the ranks.
    """

    cluster: str
    job: str
    restart: int
    rank: int
    local_rank: int
    world_size: int
    address: str
    port: int

    def variables(self) -> dict[str, str]:
        """The torchrun variables, which the engine reads."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def find_rank_env(output_dir: str | Path) -> RankEnv:
    """The rank of this process; a local job counts its restarts by the records in ``output_dir``."""
    job = submitit.JobEnvironment()
    is_multi_node = job.num_nodes > 1
    if job.cluster == "slurm":
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    else:
        restart = sum(end.job == job.job_id and end.end == "requeued" for end in read_ends(output_dir))
    return RankEnv(
        cluster=job.cluster,
        job=job.job_id,
        restart=restart,
        rank=job.global_rank,
        local_rank=job.local_rank,
        world_size=job.num_tasks,
        # The address of the node where srun runs: the batch script and rank 0 are on that node, and all tasks
        # connect to srun, so it is reachable. Node names need not resolve to such an address.
        address=os.environ["SLURM_LAUNCH_NODE_IPADDR"] if is_multi_node else "127.0.0.1",
        port=rendezvous_port(job.raw_job_id),
    )


def run_config(path: str) -> int:
    """Run a config; imports the engine late, so that the epilogue, which unpickles the job, loads no torch."""
    from diffmae_video.config import load_config
    from diffmae_video.engine.runner import run

    return run(load_config(path))


@dataclass(frozen=True)
class TrainingJob:
    """Runs a resolved config in each task of a job. submitit pickles it.

    Args:
        config: path of the resolved config.
        output_dir: run folder.
        workdir: working directory of the submission, to which the config's paths are relative.
        max_requeues: restarts after which the job ends.
        run: path of a config -> 0 (finished) or 75 (interrupted and saved).
    """

    config: str
    output_dir: str
    workdir: str
    max_requeues: int
    run: Callable[[str], int] = run_config

    def __call__(self) -> int:
        """Run the config and record the attempt; returns its exit code."""
        os.chdir(self.workdir)
        env = find_rank_env(self.output_dir)
        os.environ.update(env.variables())
        attempt = Attempt(job=env.job, restart=env.restart, host=socket.gethostname(), started=time.time())
        if env.rank == 0:
            write_attempt(self.output_dir, attempt)
        try:
            code = self._run(env)
        except Exception as error:
            write_failure(self.output_dir, _make_failure(env, error))
            raise
        for number in (signal.SIGTERM, signal.SIGUSR2):  # don't interrupt the final writes
            signal.signal(number, signal.SIG_IGN)
        if env.rank == 0:
            write_attempt(self.output_dir, dataclasses.replace(attempt, ended=time.time(), code=code))
        if code:
            self._exit_unfinished(env)
        return code

    def _run(self, env: RankEnv) -> int:
        if env.restart > self.max_requeues:
            raise RequeueLimitError(self._limit_message(env))
        return self.run(self.config)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """submitit's hook for a signal before the engine runs: there is nothing to save, so requeue the same job.

        Raises:
            RequeueLimitError: the limit is reached; raised inside :meth:`__call__`, which the signal interrupted.
        """
        env = find_rank_env(self.output_dir)
        if env.restart >= self.max_requeues:
            raise RequeueLimitError(self._limit_message(env))
        return submitit.helpers.DelayedSubmission(self)

    def _exit_unfinished(self, env: RankEnv) -> None:
        """Exit without a result file, by which submitit would take the job for finished."""
        if env.cluster == "slurm":
            sys.exit(0)  # the epilogue requeues the job
        if env.restart >= self.max_requeues:
            raise RequeueLimitError(self._limit_message(env))
        if env.rank == 0:
            add_end(self.output_dir, JobOutcome(job=env.job, restart=env.restart, end="requeued", reason="signal"))
        sys.exit(LOCAL_REQUEUE_RETURN_CODE)

    def _limit_message(self, env: RankEnv) -> str:
        return f"restarted {env.restart} times, slurm.max_requeues={self.max_requeues}; submit again to resume"


def _make_failure(env: RankEnv, error: Exception) -> Failure:
    text = error_line(error) if is_user_error(error) else " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(
        job=env.job,
        restart=env.restart,
        rank=env.rank,
        host=socket.gethostname(),
        time=time.time(),
        own=env.world_size == 1 or not is_peer_loss(error),
        error=text[:500],
        traceback=traceback.format_exc(),
    )


def is_peer_loss(error: Exception) -> bool:
    """Whether an exception follows from the loss of another rank, and so isn't the cause of a failure."""
    import torch.distributed

    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and _PEER_GONE.search(str(error)) is not None
