"""Measure what a loader delivers: each backend, the loader's workers, where the time goes, what memory does."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks import loaders
from diffmae_video.build import build_clips, build_videos
from diffmae_video.command_line import real_number, whole_number
from diffmae_video.config import load_config
from diffmae_video.data import TrainClips, frame_sampling, train_loader
from diffmae_video.data.cutting import cut_clips
from diffmae_video.data.decoding.pyav_reader import PyavReader
from diffmae_video.data.loader import collate
from diffmae_video.data.transforms import Box, random_box, resize
from diffmae_video.errors import UserError
from diffmae_video.seeding import generator

STAGES = ("open and index", "decode", "convert", "crop", "resize", "collate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``tools/bench.py data``."""
    parser.add_argument(
        "--cfg", help="config whose training videos are read; without it only --ratios can be asked for"
    )
    parser.add_argument("overrides", nargs="*", help="config overrides, as data.crop_size=112")
    parser.add_argument("--stage", choices=("pretrain", "finetune"), default="pretrain", help="whose clips")
    parser.add_argument("--videos", type=whole_number(1), default=64, help="videos read for each figure")
    parser.add_argument("--step-ms", type=real_number(0), default=0.0, help="time of a training step, to compare with")
    parser.add_argument(
        "--memory", type=whole_number(0), default=0, help="also read N videos and fit the growth of memory"
    )
    parser.add_argument("--ratios", type=whole_number(0), default=0, help="also compare with other loaders, N rounds")
    parser.add_argument("--crf", type=whole_number(0, 51), default=23, help="x264's rate factor for --ratios")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what is asked for, print it, and write it to ``--out``.

    Raises:
        UserError: neither a config nor ratios are asked for, or the config is wrong.
    """
    if not args.cfg and not args.ratios:
        raise UserError("give --cfg CONFIG to measure its data, or --ratios ROUNDS to compare loaders, or both")
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    if args.cfg:
        config = load_config(args.cfg, args.overrides)
        videos = build_videos(config, "train" if args.stage == "pretrain" else "finetune")
        dataset = build_clips(config, args.stage, videos)
        result |= _measure_config(dataset, args)
    if args.memory and args.cfg:
        result["memory"] = memory_slope(dataset, num_videos=args.memory)
        print(f"\nmemory: {result['memory']['bytes_per_video']:+.1f} bytes a video over {args.memory} videos")
    if args.ratios:
        result["ratios"] = compare(rounds=args.ratios, crf=args.crf)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _measure_config(dataset: TrainClips, args: argparse.Namespace) -> dict[str, Any]:
    k = dataset.clips_per_video
    print(f"{len(dataset.videos)} videos, {k} clips of {dataset.num_frames} x {dataset.crop_size}^2 from each open\n")
    backends = {name: _rate(_with_backend(dataset, name), args.videos) for name in _installed()}
    workers = {str(n): _loader_rate(dataset, args.videos, num_workers=n) for n in (0, 1, 2)}
    stages = time_stages(dataset, num_videos=args.videos)
    for name, rate in backends.items():
        print(f"backend {name:11s} {rate * k:8.1f} clips/s")
    for count, rate in workers.items():
        print(f"loader, {count} workers {rate * k:8.1f} clips/s")
    total = sum(stages.values())
    for name, seconds in stages.items():
        print(f"{name:16s} {seconds * 1e3:8.2f} ms a video {seconds / total:6.0%}")
    line = advice(stages, worker_rate=workers["1"], step_seconds=args.step_ms / 1e3, clips_per_video=k)
    print(f"\n{line}")
    return {"clips_per_video": k, "backends": backends, "workers": workers, "stages": stages, "advice": line}


def _installed() -> list[str]:
    modules = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec"}
    return [name for name, module in modules.items() if importlib.util.find_spec(module) is not None]


def _with_backend(dataset: TrainClips, backend: str) -> TrainClips:
    return TrainClips(
        dataset.videos,
        seed=dataset.seed,
        num_frames=dataset.num_frames,
        stride_frames=dataset.stride_frames,
        fps=dataset.fps,
        crop_size=dataset.crop_size,
        clips_per_video=dataset.clips_per_video,
        sampling=dataset.sampling,
        scale=dataset.scale,
        short_video=dataset.short_video,
        backend=backend,
    )


def _rate(dataset: TrainClips, count: int) -> float:
    """Videos a second in this process; the first load, which imports the backend, isn't counted."""
    dataset[0]
    began = time.perf_counter()
    for position in range(1, count + 1):
        dataset[position]
    return count / (time.perf_counter() - began)


def _loader_rate(dataset: TrainClips, count: int, *, num_workers: int) -> float:
    """Videos a second of the whole loader, from its first batch on."""
    batch = 4
    batches = iter(train_loader(dataset, batch_size=batch, num_steps=count // batch + 2, num_workers=num_workers))
    next(batches)
    began = time.perf_counter()
    seen = sum(len(b["label"]) for b in batches)
    return seen / (time.perf_counter() - began)


def time_stages(dataset: TrainClips, *, num_videos: int) -> dict[str, float]:
    """Median seconds a video for each of ``STAGES``; decoding is timed alone and converting is what is added to it."""
    rows = [_time_one(dataset, position) for position in range(num_videos)]
    return dict(zip(STAGES, np.median(np.array(rows), axis=0).tolist(), strict=True))


def _time_one(dataset: TrainClips, position: int) -> list[float]:
    path = dataset.videos.path(position % len(dataset.videos))
    rng = [generator(0, "benchmarks", position, c) for c in range(dataset.clips_per_video)]
    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    with PyavReader(path) as reader:
        mark()
        line = frame_sampling.TimeLine(reader.times, fps=dataset.fps)
        picks = [
            line[
                frame_sampling.wrap_or_clamp(
                    dataset.steps(len(line), g), num_steps=len(line), short_video=dataset.short_video
                )
            ]
            for g in rng
        ]
        wanted = np.unique(np.stack(picks))
        for _ in reader.pictures(wanted):
            pass
        mark()
        for _ in reader.frames(wanted):
            pass
        mark()

        def boxes(height: int, width: int) -> list[Box]:
            return [random_box(height, width, scale=dataset.scale, generator=g) for g in rng]

        cut = cut_clips(reader, picks, boxes)
        mark()
    resized = torch.stack([resize(clip, dataset.crop_size, dataset.crop_size) for clip in cut])
    mark()
    collate([{"clips": resized, "broken": []}] * 2)
    mark()
    opened, decoded, converted, cropped, sized, collated = np.diff(marks).tolist()
    return [opened, decoded, max(0.0, converted - decoded), max(0.0, cropped - converted), sized, collated / 2]


def advice(stages: dict[str, float], *, worker_rate: float, step_seconds: float, clips_per_video: int) -> str:
    """One line on what to change, for the largest share of the time."""
    total, largest = sum(stages.values()), max(stages, key=lambda name: stages[name])
    remedies = {
        "open and index": "the files are long for their clips: cut them, or take more clips a video (clips_per_video)",
        "decode": "re-encode with datasets/reencode.py (small short side, short GOP), or take more clips of each video",
        "convert": "the pictures are large for the crop: re-encode with datasets/reencode.py --short-side 256",
        "crop": "the pictures are large for the crop: re-encode with datasets/reencode.py --short-side 256",
        "resize": "the pictures are large for the crop: re-encode with datasets/reencode.py --short-side 256",
        "collate": "nothing to gain in the files: add workers",
    }
    line = f"advice: {largest} is {stages[largest] / total:.0%} of a video's time; {remedies[largest]}"
    if step_seconds:
        needed = worker_rate * step_seconds
        line += f"; one worker delivers {needed * clips_per_video:.1f} clips in a step of {step_seconds * 1e3:.0f} ms"
    return line


def memory_slope(dataset: TrainClips, *, num_videos: int) -> dict[str, float]:
    """Growth of this process's and a worker's resident memory, bytes a video; the first tenth is left out."""
    batch = 8
    process, rows = psutil.Process(os.getpid()), []
    loader = train_loader(dataset, batch_size=batch, num_steps=num_videos // batch, num_workers=1)
    for step, _ in enumerate(loader):
        if step % max(1, num_videos // batch // 100) == 0:
            children = process.children(recursive=True)
            rows.append((step * batch, process.memory_info().rss + sum(c.memory_info().rss for c in children)))
    kept = np.array(rows[len(rows) // 10 :], dtype=np.float64)
    slope = np.polyfit(kept[:, 0], kept[:, 1], 1)[0]
    return {"bytes_per_video": float(slope), "first_bytes": float(kept[0, 1]), "last_bytes": float(kept[-1, 1])}


def compare(*, rounds: int, crf: int, num_files: int = 12) -> dict[str, Any]:
    """Time ratios against other ways to load, in one process, turn by turn, the same clips of the same files.

    Raises:
        UserError: what is compared with is not installed.
    """
    missing = [name for name in ("decord", "pytorchvideo") if importlib.util.find_spec(name) is None]
    missing += [] if shutil.which("ffmpeg") else ["ffmpeg"]
    if missing:
        raise UserError(f"--ratios compares with {', '.join(missing)}, not installed here; install it")
    with tempfile.TemporaryDirectory() as folder:
        videos = loaders.make_files(Path(folder), num_files, crf=crf)
        sizes = [os.path.getsize(videos.path(i)) for i in range(num_files)]
        loads = {
            "ours, 1 clip": loaders.ours(videos),
            "decord + pillow, 1 clip": loaders.decord_and_pillow(videos),
            "pytorchvideo, 1 clip": loaders.pytorchvideo(videos),
            "decoding alone, 1 clip": loaders.decoding(videos),
            "ours, 4 clips": loaders.ours(videos, clips_per_video=loaders.REPEATS),
            "4 loads": loaders.ours_separately(videos, clips_per_video=loaders.REPEATS),
            "decoding alone, 4 clips": loaders.decoding(videos, clips_per_video=loaders.REPEATS),
            "ours, 5x3 views": loaders.views(videos),
            "15 loads": loaders.views_separately(videos),
            "ours, frames": loaders.span_frames(videos),
            "ffmpeg": loaders.ffmpeg_span(videos),
            "ffmpeg, start": loaders.ffmpeg_start(videos),
        }
        times = interleave(loads, rounds=rounds)
    pairs = {
        "1 clip: decord loader / ours": ("decord + pillow, 1 clip", "ours, 1 clip", 1.2),
        "1 clip: pytorchvideo / ours": ("pytorchvideo, 1 clip", "ours, 1 clip", 3.0),
        "1 clip: ours / its decoding alone": ("ours, 1 clip", "decoding alone, 1 clip", None),
        "4 clips: 4 loads / 1 open": ("4 loads", "ours, 4 clips", 2.5),
        "4 clips: ours / its decoding alone": ("ours, 4 clips", "decoding alone, 4 clips", None),
        "5x3 views: 15 loads / 1 open": ("15 loads", "ours, 5x3 views", 5.0),
        "ffmpeg -threads 1 / our frames": ("ffmpeg", "ours, frames", 0.7),
        "the same, net of ffmpeg's start": ("ffmpeg, net", "ours, frames", None),
    }
    print(f"\n{num_files} videos of {loaders.LENGTH / loaders.FPS:.0f} s, {np.mean(sizes) / 1e6:.2f} MB on the mean")
    for name, seconds in times.items():
        print(f"{name:26s} {statistics.median(seconds) * 1e3:9.2f} ms (median of {len(seconds)})")
    times["ffmpeg, net"] = [a - b for a, b in zip(times["ffmpeg"], times["ffmpeg, start"], strict=True)]
    ratios = {}
    for name, (slow, fast, goal) in pairs.items():
        ratios[name] = middle, low, high = _ratio(times[slow], times[fast])
        print(f"{name:36s} {middle:6.2f} ({low:.2f} to {high:.2f})" + (f", to reach {goal}" if goal else ""))
    return {"file_bytes": sizes, "seconds": times, "ratios": ratios}


def interleave(loads: dict[str, Callable[[int], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each load at positions 1..rounds, all loads taking turns at each; position 0 warms up."""
    times: dict[str, list[float]] = {name: [] for name in loads}
    for position in range(rounds + 1):
        for name, load in loads.items():
            began = time.perf_counter()
            load(position)
            if position:
                times[name].append(time.perf_counter() - began)
    return times


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Median of the rounds' ratios, and its 95 % interval over rounds drawn anew (bootstrap)."""
    ratios = np.array(slow) / np.array(fast)
    drawn = ratios[np.random.default_rng(0).integers(0, len(ratios), (1000, len(ratios)))]
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)
