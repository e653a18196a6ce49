"""Which device a rank computes on, and that the ranks' devices fit together."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

import torch
import torch.distributed as dist

from diffmae_video.engine.distributed.env import DistributedError

_FAREWELL_SECONDS = 10.0


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device that ``name`` means: "cpu", "cuda", "cuda:N", or "auto" (a GPU where there is one).

    "cuda" is GPU ``local_rank`` of those that this process sees; where it sees one alone, as under SLURM's
    --gpus-per-task or --gpu-bind=single:1, it is that one.

    Raises:
        DistributedError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise DistributedError(f"device ({name}) is unknown; use auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    visible = torch.cuda.device_count()
    index = device.index if device.index is not None else 0 if visible == 1 else local_rank
    if index >= visible:
        raise DistributedError(
            f"device ({name}) needs GPU {index}, and {visible} are visible; use device=cpu, "
            "or start at most one process a GPU"
        )
    return torch.device("cuda", index)


def agree_on_device(store: dist.Store, name: str, *, rank: int, size: int, local_rank: int) -> torch.device:
    """This rank's :func:`choose_device`, once all ranks have one of the same type, and none another's GPU.

    A rank whose driver is broken would quietly take the CPU, and the job would hang at the first exchange.

    Raises:
        DistributedError: on every rank: one has no such device, another type, or the same GPU as another.
    """
    error = None
    mine = {"host": socket.gethostname(), "type": "", "gpu": "", "error": ""}
    try:
        device = choose_device(name, local_rank=local_rank)
        mine |= {"type": device.type, "gpu": _gpu_uuid(device)}
    except DistributedError as refused:
        error, mine["error"] = refused, str(refused)
    # torchrun keeps its store over restarts: an old attempt's devices aren't ours.
    store = dist.PrefixStore(f"diffmae/device/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    store.set(str(rank), json.dumps(mine))
    found = [json.loads(store.get(str(other))) for other in range(size)]
    disagreement = _disagreement(found)
    if not disagreement:
        return device
    # Rank 0 may hold the store: the others must have read it before it goes.
    with contextlib.suppress(RuntimeError):
        store.add("read", 1)
    end = time.monotonic() + _FAREWELL_SECONDS
    while rank == 0 and store.add("read", 0) < size and time.monotonic() < end:
        time.sleep(0.05)
    raise error or DistributedError(disagreement)


def _disagreement(found: list[dict[str, str]]) -> str:
    """What keeps ranks with these devices, in the order of ranks, from working together; "" for nothing."""

    def named(ranks: list[int]) -> str:
        few = ", ".join(f"{rank} (host {found[rank]['host']})" for rank in ranks[:3])
        return f"rank{'s' * (len(ranks) > 1)} {few}" + (f" and {len(ranks) - 3} more" if len(ranks) > 3 else "")

    if failed := [rank for rank, one in enumerate(found) if one["error"]]:
        return f"{named(failed)}: {found[failed[0]]['error']}"
    types = [one["type"] for one in found]
    # With as many of both kinds it is the GPUs that were meant.
    common = max(sorted(set(types), reverse=True), key=types.count)
    if odd := [rank for rank, kind in enumerate(types) if kind != common]:
        return (
            f"{named(odd)} would compute on {types[odd[0]]}, the other {len(found) - len(odd)} on {common}; look at "
            "the driver there (nvidia-smi), leave the host out, or set device=cpu for all"
        )
    gpus = [one["gpu"] for one in found]
    for gpu in filter(None, gpus):
        if gpus.count(gpu) > 1:
            shared = [rank for rank, other in enumerate(gpus) if other == gpu]
            return f"{named(shared)} have the same GPU; start at most one process a GPU, or use device=cpu"
    return ""


def _gpu_uuid(device: torch.device) -> str:
    """What tells a GPU from all others; "" for the CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""
