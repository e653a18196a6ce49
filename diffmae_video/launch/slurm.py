"""SLURM's command line: partitions, the queue, checks and cancellation. Many clusters have no sacct: it isn't used."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffmae_video.errors import UserError

if TYPE_CHECKING:
    from diffmae_video.config.schema import SlurmConfig

_TIMEOUT_SECONDS = 60
_PROBE_SECONDS = 20


class SlurmError(UserError):
    """A request that SLURM can't fulfil, in one line."""


@dataclass(frozen=True)
class Partition:
    """Limits of a partition.

    Attributes:
        name: as ``--partition`` takes it.
        is_default: used where a job names no partition.
        nodes: number of nodes.
        cpus, gpus: the most that any of its nodes has.
        minutes: time limit of a job; infinite if there is none.
    """

    name: str
    is_default: bool
    nodes: int
    cpus: int
    gpus: int
    minutes: float


def require_slurm() -> None:
    """Raise :class:`SlurmError` where this machine has no sbatch."""
    if shutil.which("sbatch") is None:
        raise SlurmError("no sbatch on this machine: run this on a cluster's login node, or add --local")


def partitions() -> dict[str, Partition]:
    """All partitions by name."""
    found: dict[str, Partition] = {}
    for line in call("sinfo", "-h", "--all", "-o", "%P|%D|%c|%G|%l").splitlines():
        name, nodes, cpus, gres, limit = line.split("|")
        entry = Partition(
            name=name.rstrip("*"),
            is_default=name.endswith("*"),
            nodes=int(nodes),
            cpus=int(cpus.rstrip("+")),
            gpus=_count_gpus(gres),
            minutes=_minutes(limit),
        )
        # sinfo prints one line for each kind of node; a request is valid if one kind can serve it.
        previous = found.get(entry.name, entry)
        found[entry.name] = Partition(
            name=entry.name,
            is_default=entry.is_default,
            nodes=entry.nodes if previous is entry else previous.nodes + entry.nodes,
            cpus=max(entry.cpus, previous.cpus),
            gpus=max(entry.gpus, previous.gpus),
            minutes=entry.minutes,
        )
    return found


def check_request(slurm: SlurmConfig) -> None:
    """Check a request against the limits of its partition.

    Raises:
        SlurmError: one line with the key, the limit and the remedy.
    """
    available = partitions()
    default = next((p.name for p in available.values() if p.is_default), "")
    name = slurm.partition or default
    if name not in available:
        raise SlurmError(f"slurm.partition={name}: no such partition; this cluster has {', '.join(sorted(available))}")
    partition = available[name]
    cpus = tasks_per_node(slurm) * slurm.cpus_per_task
    if slurm.nodes > partition.nodes:
        raise SlurmError(f"slurm.nodes={slurm.nodes}: partition {name} has {partition.nodes} nodes; request fewer")
    if slurm.gpus_per_node > partition.gpus:
        raise SlurmError(
            f"slurm.gpus_per_node={slurm.gpus_per_node}: the nodes of partition {name} have at most "
            f"{partition.gpus} GPUs; request fewer, or another partition"
        )
    if cpus > partition.cpus:
        raise SlurmError(
            f"slurm.cpus_per_task={slurm.cpus_per_task}: {tasks_per_node(slurm)} tasks a node need {cpus} CPUs and the "
            f"nodes of partition {name} have at most {partition.cpus}; lower it"
        )
    if 60 * slurm.hours > partition.minutes:
        raise SlurmError(
            f"slurm.hours={slurm.hours:g}: partition {name} allows {partition.minutes / 60:g}; lower it, a longer "
            "run is requeued at the limit and resumes"
        )


def check_script(script: str) -> None:
    """Validate a script with ``sbatch --test-only``; nothing is submitted.

    Raises:
        SlurmError: sbatch's reason.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        call("sbatch", "--test-only", file.name)


def check_writable_from_nodes(folder: Path, slurm: SlurmConfig) -> str:
    """Check that a compute node can write to ``folder``, if a node is free immediately.

    Returns:
        "" after a successful write, or one line saying why it could not be tried.

    Raises:
        SlurmError: the node can't write there.
    """
    probe = folder / ".written-by-a-node"
    options = [f"--{key}={value}" for key in ("partition", "account", "qos") if (value := getattr(slurm, key))]
    limits = [f"--immediate={_PROBE_SECONDS}", "--nodes=1", "--ntasks=1", "--time=1", "--chdir=/", "--quiet"]
    # Always exit code 0, so that srun fails only where no node could be allocated.
    script = 'touch "$0" 2>/dev/null && rm "$0" && echo written || echo refused'
    try:
        output = call("srun", *options, *limits, "sh", "-c", script, str(probe))
    except SlurmError as error:
        return f"no node was free to check that {folder} can be written from there ({error})"
    if "written" not in output:
        raise SlurmError(f"output_dir={folder}: can't be written from the nodes; choose a folder that they share")
    return ""


def tasks_per_node(slurm: SlurmConfig) -> int:
    """Processes per node: one per GPU, or ``slurm.tasks_per_node`` without GPUs."""
    return slurm.gpus_per_node or slurm.tasks_per_node


def queue(jobs: Sequence[str]) -> dict[str, str]:
    """States (for example PENDING) of those ``jobs`` that are still in SLURM's queue."""
    if not jobs:
        return {}
    try:
        output = call("squeue", "-h", "-r", "-j", ",".join(jobs), "-o", "%i|%T")
    except SlurmError as error:
        if "Invalid job id" in str(error):  # squeue fails if it knows none of the ids any more
            return {}
        raise
    return dict(line.split("|", 1) for line in output.splitlines())


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; ended ones are ignored."""
    if jobs:
        call("scancel", *jobs)


def job_fields(job: str) -> dict[str, str]:
    """The fields of ``scontrol show job``."""
    output = call("scontrol", "show", "job", "--oneliner", job)
    return dict(part.split("=", 1) for part in output.split() if "=" in part)


def seconds_until_node_is_lost() -> int:
    """Seconds without contact after which SLURM marks a node as down (SlurmdTimeout)."""
    found = re.search(r"SlurmdTimeout\s*=\s*(\d+)", call("scontrol", "show", "config"))
    return int(found.group(1)) if found else 300


def call(*command: str) -> str:
    """Run a SLURM command and return its standard output.

    Raises:
        SlurmError: the command isn't installed, doesn't answer, or fails; one line.
    """
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except FileNotFoundError:
        raise SlurmError(f"no {command[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} doesn't answer; is SLURM's controller up? Try: scontrol ping") from None
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        raise SlurmError(f"{command[0]}: {'; '.join(lines) or f'exit code {result.returncode}'}")
    return result.stdout


def _count_gpus(gres: str) -> int:
    """GPUs in a gres list such as ``gpu:a100:8(S:0-1),shard:4``."""
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)(?=$|[,(])", gres))


def _minutes(limit: str) -> float:
    """sinfo's time limit (``infinite``, ``5:00``, ``1:00:00``, ``2-12:00:00``) in minutes."""
    if limit in ("infinite", "n/a"):
        return math.inf
    days, _, clock = limit.rpartition("-")
    # Fields are missing from the left: 5:00 is minutes and seconds, 30 is seconds.
    hours, minutes, seconds = ([0, 0, 0] + [int(part) for part in clock.split(":")])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60
