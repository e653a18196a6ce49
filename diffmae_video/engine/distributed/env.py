"""Where a launcher has put this process among the ranks, as the environment says."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

from diffmae_video.errors import UserError

# Below the range that Linux gives out by itself (32768 to 60999), so that no client's port can be in the way.
_FIRST_PORT, _NUM_PORTS = 12000, 20000


class DistributedError(UserError):
    """The launcher's variables or the device don't fit together; one line."""


def read_rank_env(environment: MutableMapping[str, str]) -> tuple[int, int, int]:
    """(rank, number of ranks, rank on this host).

    torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) are read where WORLD_SIZE is set,
    SLURM's where ``srun`` has started several tasks; torchrun's are then set from them, since torch reads those.
    Without either there is one process.

    Raises:
        DistributedError: a variable is missing or makes no sense.
    """
    if "WORLD_SIZE" not in environment:
        if "SLURM_STEP_NUM_TASKS" not in environment or environment["SLURM_STEP_NUM_TASKS"] == "1":
            return 0, 1, 0
        environment.update(_from_slurm(environment))
    names = ["RANK", "LOCAL_RANK"]
    size = read_world_size(environment)
    if size > 1:
        names += ["MASTER_ADDR", "MASTER_PORT"]
    missing = [name for name in names if name not in environment]
    if missing:
        raise DistributedError(
            f"WORLD_SIZE is set but {', '.join(missing)} is not; start with torchrun, srun or tools/submit.py, "
            "or unset WORLD_SIZE for one process"
        )
    rank = _integer(environment, "RANK")
    if not 0 <= rank < size:
        raise DistributedError(f"RANK ({rank}) must be in 0..{size - 1}, as WORLD_SIZE is {size}; check the launcher")
    return rank, size, _integer(environment, "LOCAL_RANK")


def read_world_size(environment: Mapping[str, str]) -> int:
    """Number of ranks that the environment names; 1 where it says nothing.

    Raises:
        DistributedError: WORLD_SIZE is no number of ranks.
    """
    size = _integer(environment, "WORLD_SIZE") if "WORLD_SIZE" in environment else 1
    if size < 1:
        raise DistributedError(f"WORLD_SIZE ({size}) must be 1 or more; check the launcher")
    return size


def _from_slurm(environment: MutableMapping[str, str]) -> dict[str, str]:
    """torchrun's variables for a task of ``srun``."""
    one_host = environment["SLURM_STEP_NUM_NODES"] == "1"
    found = {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": "127.0.0.1" if one_host else first_host(environment["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(rendezvous_port(environment["SLURM_JOB_ID"])),
    }
    return {name: value for name, value in found.items() if name not in environment}


def rendezvous_port(job: str) -> int:
    """A port of the job's own, 12000 to 31999, so that two jobs on one host don't meet.

    Args:
        job: SLURM_JOB_ID, which differs between jobs and between the tasks of an array.
    """
    return _FIRST_PORT + int(re.sub(r"\D", "", job)) % _NUM_PORTS


def cpu_shortage(num_workers: int, *, usable: int) -> str:
    """One line where this process may use fewer CPUs than its loader has workers, beside itself; else "".

    Args:
        num_workers: loader processes of this rank.
        usable: CPUs that this process is bound to.
    """
    if usable >= num_workers + 1:
        return ""
    return (
        f"note: this rank may use {usable} CPUs for data.num_workers={num_workers} loader processes and itself: "
        "loading will be slow; give a task more (slurm.cpus_per_task, srun --cpus-per-task) or lower data.num_workers"
    )


def first_host(nodes: str) -> str:
    """The first host of SLURM's short form: ``gpu[07-09,12],cpu1`` gives ``gpu07``."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", nodes)
    if found is None:
        raise DistributedError(f"SLURM_STEP_NODELIST ({nodes}) names no host; set MASTER_ADDR")
    return "".join(part for part in found.groups() if part)


def _integer(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise DistributedError(f"{name} ({environment[name]!r}) must be an integer; check the launcher") from None
