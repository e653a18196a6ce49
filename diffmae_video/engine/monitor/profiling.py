"""How fast a device multiplies matrices, to measure a training's speed against; and traces of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

# Steps before a trace begins: the first ones allocate, tune and compile.
_SKIPPED_STEPS = 3


@dataclass(frozen=True)
class Speed:
    """What is needed to give a training's speed as a share of its device's.

    Attributes:
        flops_per_video: of a forward and backward pass over all clips of a video.
        peak_flops: matrix products of one device, FLOP/s, as measured here.
        num_devices: devices that share a step's videos.
    """

    flops_per_video: float
    peak_flops: float
    num_devices: int

    def utilization(self, videos_per_second: float) -> float:
        """Model FLOPs utilisation (MFU, PaLM, arXiv 2204.02311), against the measured peak, not a data sheet's.

        Recomputed activations don't count as work.
        """
        return videos_per_second * self.flops_per_video / (self.peak_flops * self.num_devices)


def measure_peak_flops(device: torch.device, dtype: torch.dtype, *, repeats: int = 3) -> float:
    """The best of a few large square matrix products, FLOP/s (a multiply-add counts two)."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    _timed_product(a, b)  # the library's own start-up
    return 2 * size**3 / min(_timed_product(a, b) for _ in range(repeats))


def _timed_product(a: torch.Tensor, b: torch.Tensor) -> float:
    _wait(a.device)
    began = time.perf_counter()
    a @ b
    _wait(a.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StepTrace:
    """Told of each step's end by the loop; see :func:`trace_steps`."""

    def __init__(self, profiler: profile | None) -> None:
        self._profiler = profiler

    def step(self) -> None:
        """A step has ended."""
        if self._profiler is not None:
            self._profiler.step()


@contextmanager
def trace_steps(folder: Path, *, steps: int, device: torch.device) -> Iterator[StepTrace]:
    """Write a torch profiler trace of ``steps`` steps to ``folder``, after a few that are left out.

    ``folder/trace.json.gz`` opens in Perfetto or chrome://tracing; ``folder/operators.txt`` is a table of the
    costliest operators. With 0 steps nothing is traced.
    """
    if not steps:
        yield StepTrace(None)
        return

    def write(profiler: profile) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(folder / "trace.json.gz"))
        key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=key, row_limit=40)
        (folder / "operators.txt").write_text(table + "\n", encoding="utf-8")

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    plan = schedule(wait=_SKIPPED_STEPS - 1, warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write, profile_memory=True) as profiler:
        yield StepTrace(profiler)
