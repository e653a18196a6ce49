"""What a pre-training step costs: parameters, FLOPs, time and memory, beside VideoMAE in the same run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import NAMES, REFERENCE, BenchModel, Setting
from diffmae_video.command_line import whole_number
from diffmae_video.sizes import SIZES

COLUMNS = ("decoder", "parameters", "FLOPs a clip", "step", "against videomae", "peak memory")


@dataclass(frozen=True)
class Row:
    """One contender's costs.

    Attributes:
        name: decoder, or "videomae".
        size: encoder size.
        parameters: trained parameters.
        clip_flops: floating-point operations of one clip's forward and backward pass; a multiply-add counts two.
        step_seconds: median time of a step.
        ratios: quartiles of a step's time over VideoMAE's of the same round.
        peak_bytes: most memory held during steps, above that of the process before.
    """

    name: str
    size: str
    parameters: int
    clip_flops: int
    step_seconds: float
    ratios: tuple[float, float, float]
    peak_bytes: int


def count_flops(contender: BenchModel) -> int:
    """FLOPs of a forward and backward pass of the contender's batch: matrix products and attention.

    With plain attention, whose products the counter sees on every device; the fused kernels' arithmetic is the same.
    """
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        contender.forward_backward()
    contender.optimizer.zero_grad()
    return counter.get_total_flops()


def time_steps(steps: dict[str, Callable[[], None]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of every step: one of each contender a round, each round starting with another one.

    Taking turns spreads what else the machine does over all of them, so that ratios within a round are fair.
    """
    names = list(steps)
    for name in names:
        steps[name]()  # warm-up: allocations, and AdamW's state
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            steps[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_memory(name: str, setting: Setting, device: str, *, steps: int = 3) -> int:
    """Bytes that building and training a contender takes at most; measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_memory_here, name, setting, device, steps).result()


def _peak_memory_here(name: str, setting: Setting, device: str, steps: int) -> int:
    _load_libraries()
    before = 0 if device == "cuda" else _resident("VmRSS")
    contender = BenchModel(name, setting, torch.device(device))
    for _ in range(steps):
        contender.step()
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM") - before


def _load_libraries() -> None:
    """Import what training needs, also what is imported late, so that it isn't counted as a model's memory."""
    from transformers.models.videomae import modeling_videomae

    assert modeling_videomae
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    torch.optim.AdamW(layer.parameters()).step()


def _resident(field: str) -> int:
    """Bytes of this process's resident memory from Linux's /proc: now (VmRSS), or at its highest (VmHWM).

    Not getrusage's maximum: that one survives an exec, so a child would start with its parent's.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line for line in lines if line.startswith(f"{field}:")).split()[1]
    return int(kilobytes) * 1024


def measure(setting: Setting, *, device: str, rounds: int) -> list[Row]:
    """The costs of every contender at one setting."""
    contenders = {name: BenchModel(name, setting, torch.device(device)) for name in NAMES}
    flops = {name: count_flops(contender) // setting.batch_size for name, contender in contenders.items()}
    parameters = {name: contender.parameters() for name, contender in contenders.items()}
    seconds = time_steps({name: contender.step for name, contender in contenders.items()}, rounds=rounds)
    del contenders  # the processes below need the memory
    return [
        Row(
            name=name,
            size=setting.size,
            parameters=parameters[name],
            clip_flops=flops[name],
            step_seconds=statistics.median(seconds[name]),
            ratios=_quartiles([a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=True)]),
            peak_bytes=peak_memory(name, setting, device),
        )
        for name in NAMES
    ]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return low, middle, high


def markdown(rows: Sequence[Row]) -> str:
    """A table of the rows."""
    lines = ["| encoder | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        low, middle, high = row.ratios
        cells = (
            row.size,
            row.name,
            f"{row.parameters / 1e6:.1f} M",
            f"{row.clip_flops / 1e9:.1f} G",
            f"{row.step_seconds:.3g} s",
            f"{middle:.2f} ({low:.2f}-{high:.2f})",
            f"{row.peak_bytes / 2**20:.0f} MiB",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine(device: str) -> dict[str, str | int]:
    """What the numbers were measured on."""
    if device == "cuda":
        processor = torch.cuda.get_device_name()
    else:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = models[0].split(":", 1)[1].strip() if models else platform.machine()
    cores = os.cpu_count() or 0
    return {"processor": processor, "cores": cores, "threads": torch.get_num_threads(), "torch": torch.__version__}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``tools/bench.py model``."""
    parser.add_argument("--sizes", nargs="+", default=["small", "base"], choices=list(SIZES), help="encoder sizes")
    parser.add_argument("--batch-size", type=whole_number(1), default=2, help="clips of a step")
    parser.add_argument("--num-frames", type=whole_number(1), default=16, help="frames of a clip")
    parser.add_argument("--crop-size", type=whole_number(1), default=224, help="height and width of a clip")
    parser.add_argument("--rounds", type=whole_number(1), default=9, help="timed steps of each contender")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=None, help="also write the numbers to this JSON file")


def run(args: argparse.Namespace) -> None:
    """Measure, print a table, and write the JSON file if one is asked for."""
    here = machine(args.device)
    settings = [
        Setting(size, num_frames=args.num_frames, crop_size=args.crop_size, batch_size=args.batch_size)
        for size in args.sizes
    ]
    rows = [row for setting in settings for row in measure(setting, device=args.device, rounds=args.rounds)]
    print(markdown(rows))
    print(
        f"\n{args.num_frames} frames of {args.crop_size}x{args.crop_size}, {settings[0].mask_ratio:.0%} hidden,"
        f" batches of {args.batch_size}, float32, {args.rounds} rounds on {here['processor']}"
        f" ({here['threads']} of {here['cores']} cores), torch {here['torch']}"
    )
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "machine": here,
            "settings": [dataclasses.asdict(setting) for setting in settings],
            "rounds": args.rounds,
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        args.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
