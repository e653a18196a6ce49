"""What we ask SLURM, through its commands; sacct is never needed, since many clusters don't have it."""

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
    from diffmae_video.recipe.schema import SlurmRecipe

_SECONDS = 60
_PROBE_SECONDS = 20


class SlurmError(UserError):
    """SLURM can't do what was asked of it; one line."""


@dataclass(frozen=True)
class Partition:
    """The largest that one partition gives; ``minutes`` is infinite where there is no limit."""

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
        # A line for each kind of node; what one kind has is enough to be accepted.
        before = found.get(entry.name, entry)
        found[entry.name] = Partition(
            name=entry.name,
            is_default=entry.is_default,
            nodes=entry.nodes if before is entry else before.nodes + entry.nodes,
            cpus=max(entry.cpus, before.cpus),
            gpus=max(entry.gpus, before.gpus),
            minutes=entry.minutes,
        )
    return found


def check_request(slurm: SlurmRecipe) -> None:
    """Compare a request with its partition.

    Raises:
        SlurmError: one line naming the key, the limit and the way out.
    """
    known = partitions()
    default = next((p.name for p in known.values() if p.is_default), "")
    name = slurm.partition or default
    if name not in known:
        raise SlurmError(f"slurm.partition={name}: no such partition; this cluster has {', '.join(sorted(known))}")
    has = known[name]
    cpus = tasks_per_node(slurm) * slurm.cpus_per_task
    if slurm.nodes > has.nodes:
        raise SlurmError(f"slurm.nodes={slurm.nodes}: partition {name} has {has.nodes} nodes; ask for fewer")
    if slurm.gpus_per_node > has.gpus:
        raise SlurmError(
            f"slurm.gpus_per_node={slurm.gpus_per_node}: the nodes of partition {name} have at most {has.gpus} GPUs; "
            "ask for fewer, or for another partition"
        )
    if cpus > has.cpus:
        raise SlurmError(
            f"slurm.cpus_per_task={slurm.cpus_per_task}: {tasks_per_node(slurm)} tasks a node need {cpus} CPUs and the "
            f"nodes of partition {name} have at most {has.cpus}; lower it"
        )
    if 60 * slurm.hours > has.minutes:
        raise SlurmError(
            f"slurm.hours={slurm.hours:g}: partition {name} allows {has.minutes / 60:g}; lower it, a longer run is "
            "requeued at the limit and goes on"
        )


def check_script(script: str) -> None:
    """Let sbatch judge a script without submitting it.

    Raises:
        SlurmError: sbatch's reason.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        call("sbatch", "--test-only", file.name)


def check_writable_from_nodes(folder: Path, slurm: SlurmRecipe) -> str:
    """Have a node write to ``folder``, if one is free at once.

    Returns:
        "" when a node did, or one line saying why it could not be tried.

    Raises:
        SlurmError: the node could not write there.
    """
    mark = folder / ".written-by-a-node"
    options = [f"--{key}={value}" for key in ("partition", "account", "qos") if (value := getattr(slurm, key))]
    limits = [f"--immediate={_PROBE_SECONDS}", "--nodes=1", "--ntasks=1", "--time=1", "--chdir=/", "--quiet"]
    script = 'touch "$0" 2>/dev/null && rm "$0" && echo written || echo refused'
    try:
        answer = call("srun", *options, *limits, "sh", "-c", script, str(mark))
    except SlurmError as error:
        return f"no node was free to check that {folder} can be written from there ({error})"
    if "written" not in answer:
        raise SlurmError(f"output_dir={folder}: can't be written from the nodes; choose a folder that they share")
    return ""


def tasks_per_node(slurm: SlurmRecipe) -> int:
    """Processes on each node: one a GPU, or ``slurm.tasks_per_node`` without GPUs."""
    return slurm.gpus_per_node or slurm.tasks_per_node


def queue(jobs: Sequence[str]) -> dict[str, str]:
    """State of each of ``jobs`` that SLURM still queues or runs, for example PENDING; the others are left out."""
    if not jobs:
        return {}
    try:
        text = call("squeue", "-h", "-r", "-j", ",".join(jobs), "-o", "%i|%T")
    except SlurmError as error:
        if "Invalid job id" in str(error):  # none of them is known any more
            return {}
        raise
    return dict(line.split("|", 1) for line in text.splitlines())


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that have ended already are passed over."""
    if jobs:
        call("scancel", *jobs)


def job_fields(job: str) -> dict[str, str]:
    """The fields of ``scontrol show job``."""
    text = call("scontrol", "show", "job", "--oneliner", job)
    return dict(part.split("=", 1) for part in text.split() if "=" in part)


def seconds_until_node_is_lost() -> int:
    """How long SLURM waits for a silent node before it calls it lost (SlurmdTimeout)."""
    found = re.search(r"SlurmdTimeout\s*=\s*(\d+)", call("scontrol", "show", "config"))
    return int(found.group(1)) if found else 300


def call(*command: str) -> str:
    """Run one of SLURM's commands; its standard output.

    Raises:
        SlurmError: it isn't installed, didn't answer, or refused; one line.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except FileNotFoundError:
        raise SlurmError(f"no {command[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} doesn't answer; is SLURM's controller up? Try: scontrol ping") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise SlurmError(f"{command[0]}: {'; '.join(lines) or f'exit code {done.returncode}'}")
    return done.stdout


def _count_gpus(gres: str) -> int:
    """GPUs in a gres list such as ``gpu:a100:8(S:0-1),shard:4``."""
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)(?=$|[,(])", gres))


def _minutes(limit: str) -> float:
    """sinfo's time limit (``infinite``, ``5:00``, ``1:00:00``, ``2-12:00:00``) in minutes."""
    if limit in ("infinite", "n/a"):
        return math.inf
    days, _, clock = limit.rpartition("-")
    hours, minutes, seconds = ([0, 0, 0] + [int(part) for part in clock.split(":")])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60
