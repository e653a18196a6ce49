"""Batches in an order that knows no workers, ranks or interruptions, and their way to the device."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from diffmae_video.errors import UserError

Batch = dict[str, Any]


def train_loader(
    dataset: Dataset[dict[str, Any]],
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    num_steps: int,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Batches of steps ``start_step`` to ``num_steps - 1``, this rank's share of each.

    Step ``s`` covers stream positions ``[s * G, (s + 1) * G)`` with G = ``batch_size``, split into contiguous blocks,
    one a rank; so every step sees the same videos on any number of ranks, and a resumed run the same steps.

    ``dataset`` is a ``TrainClips``, or anything that gives such samples for stream positions.

    Batches are dicts: ``clips`` uint8 (b, k, T, C, H, W), ``label``, ``index``, ``position`` int64 (b,), and
    ``broken``: (path, reason) of the videos passed over, and
    ``notes``: of each kind that ``TrainClips`` has, the line of one video.

    Raises:
        UserError: ``batch_size`` isn't a multiple of ``world_size``.
    """
    if batch_size % world_size:
        nearest = math.ceil(batch_size / world_size) * world_size
        raise UserError(f"batch_size={batch_size}: must be a multiple of the {world_size} ranks; use {nearest}")
    steps = _Steps(batch_size, rank, world_size, start_step, num_steps)
    return _loader(dataset, steps, num_workers, pin_memory)


def test_loader(dataset: Any, *, batch_size: int, rank: int, world_size: int, num_workers: int) -> DataLoader[Batch]:
    """Batches that hold every video exactly once over all ranks; ranks may have different numbers of batches.

    ``dataset`` is a ``TestViews``, or anything with a length that gives such samples.

    Batches are dicts: ``clips`` uint8 (b, V*C, T, C, H, W), ``label``, ``index`` int64 (b,), ``notes`` as in
    training, and ``error``, b strings.
    """
    mine = range(rank, len(dataset), world_size)
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    return _loader(dataset, batches, num_workers, False)


test_loader.__test__ = False  # type: ignore[attr-defined]


def device_prefetch(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches with their tensors on ``device``; on CUDA the next one is copied while the last is worked on."""
    if device.type != "cuda":
        for batch in batches:
            yield _to(batch, device, wait=True)
        return
    stream = torch.cuda.Stream(device)
    ready: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = {
                k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()
            }
        if ready is not None:
            yield _hand_over(ready, stream, device)
        ready = copied
    if ready is not None:
        yield _hand_over(ready, stream, device)


def _to(batch: Batch, device: torch.device, *, wait: bool) -> Batch:
    return {k: v.to(device, non_blocking=not wait) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def _hand_over(batch: Batch, stream: torch.cuda.Stream, device: torch.device) -> Batch:
    """Make the compute stream wait for the copies, and keep their memory until it is done with them."""
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.record_stream(current)
    return batch


class _Steps(Sampler[list[int]]):
    """The stream positions of each step's share; made as they are asked for, so no list of them exists."""

    def __init__(self, batch_size: int, rank: int, world_size: int, start_step: int, num_steps: int) -> None:
        self._batch_size, self._steps = batch_size, range(start_step, num_steps)
        self._share = batch_size // world_size
        self._first = rank * self._share

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            begin = step * self._batch_size + self._first
            yield list(range(begin, begin + self._share))


def _loader(dataset: Dataset[dict[str, Any]], batches: Any, num_workers: int, pin_memory: bool) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        prefetch_factor=2 if num_workers else None,
        # Forked by this very process, whatever Python's default is: a worker knows by its parent's death that the run
        # was killed. Those of a fork server have that for a parent, and would live on for ever.
        multiprocessing_context="fork" if num_workers else None,
        # The loader would draw its workers' base seed from torch's global generator; nothing here uses that seed.
        generator=torch.Generator(),
    )


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    # A scheduler sends SIGTERM to every process of a job, Ctrl-C goes to a whole group: both are for the run, which
    # saves and then ends its workers. A worker that died first would turn that into a crash.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_only, args=(os.getppid(),), daemon=True).start()


def _obey_only(parent: int) -> None:
    """End this worker at a SIGTERM from ``parent`` (the loader's way to end one that is stuck), and at no other."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def collate(samples: Sequence[Batch]) -> Batch:
    """Clips stacked, numbers as int64 tensors, ``broken`` joined, ``error`` a list."""
    # In the order in which our clips lie in memory, channels last, this is a plain copy and no transposition.
    batch: Batch = {"clips": torch.stack([s["clips"].movedim(-3, -1) for s in samples]).movedim(-1, -3)}
    for name in ("label", "index", "position"):
        if name in samples[0]:
            batch[name] = torch.tensor([s[name] for s in samples])
    if "broken" in samples[0]:
        batch["broken"] = [pair for s in samples for pair in s["broken"]]
    else:
        batch["error"] = [s["error"] for s in samples]
    batch["notes"] = {kind: line for s in reversed(samples) for kind, line in s.get("notes", {}).items()}
    return batch
