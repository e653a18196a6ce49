"""Write the features that a run's encoder gives a list of videos.

    python tools/extract_features.py --run runs/motion_tiny --list datasets/motion/val.csv --root datasets/motion \\
        --out features.npz

The .npz file holds ``features`` (n, D) float32, averaged over the views; ``labels`` (n,) int64, -1 for none;
``paths`` (n,); and ``classes``. Videos that can't be read are left out and named.

At most ``--batch-size`` clips are decoded and encoded at a time, of one video or of several, whatever ``--views`` is;
each of the config's ``data.num_workers`` holds twice as many ready.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from diffmae_video.build import build_views
from diffmae_video.command_line import Parser, real_number, run_command, whole_number
from diffmae_video.data import TestViews, VideoList, read_videos, test_loader
from diffmae_video.data.decoding.base import NO_SUCH_FILE, TIMED_OUT
from diffmae_video.data.normalize import normalize
from diffmae_video.engine.distributed.device import choose_device
from diffmae_video.errors import UserError
from diffmae_video.files import make_folder
from diffmae_video.weights.load import WEIGHTS, WEIGHTS_HELP, load_encoder, run_config


class ViewParts(Dataset[dict[str, Any]]):
    """The views of each video in parts of at most ``at_once``, an item each: memory doesn't grow with the views."""

    def __init__(self, views: TestViews, *, at_once: int) -> None:
        self.views = views
        self.parts = [range(views.num_views)[i : i + at_once] for i in range(0, views.num_views, at_once)]

    def __len__(self) -> int:
        return len(self.views) * len(self.parts)

    def __getitem__(self, item: int) -> dict[str, Any]:
        video, part = divmod(item, len(self.parts))
        return self.views.some(video, self.parts[part])


@torch.no_grad()
def extract(args: argparse.Namespace) -> list[str]:
    """Write the file; returns a line for each video that couldn't be read."""
    device = choose_device(args.device)
    config = run_config(args.run, args.stage)
    if args.timeout is not None:
        config = replace(config, data=replace(config.data, timeout_seconds=args.timeout))
    videos = read_videos(args.list, root=args.root, dataset=args.dataset)
    for note in videos.notes:
        print(note)
    if args.pool == "class" and not config.model.class_token:
        raise UserError("--pool class: the run's encoder has no class token; use --pool mean")
    if args.out.is_dir():
        raise UserError(f"--out {args.out}: is a folder; give an .npz file")
    make_folder(args.out.parent)
    views = ViewParts(build_views(config, videos, views=args.views, crops=1), at_once=args.batch_size)
    encoder = load_encoder(args.run, stage=args.stage, weights=args.weights).to(device)
    loader = test_loader(
        views,
        batch_size=max(1, args.batch_size // args.views),  # videos
        rank=0,
        world_size=1,
        num_workers=config.data.num_workers,
    )
    sums: dict[int, np.ndarray] = {}
    errors: dict[int, str] = {}
    for batch in tqdm(loader, desc="features"):
        clips = normalize(batch["clips"].flatten(0, 1).to(device), mean=config.data.mean, std=config.data.std)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            features = encoder.features(clips, pool=args.pool)
        rows = features.float().unflatten(0, batch["clips"].shape[:2]).sum(1).cpu().numpy()  # (b, D)
        for index, row, error in zip(batch["index"].tolist(), rows, batch["error"], strict=True):
            sums[index] = sums.get(index, 0) + row
            if error:
                errors[index] = error_line(error, seconds=config.data.timeout_seconds)
    kept = [index for index in sums if index not in errors]
    unread = [f"{videos.path(index)}: {error}" for index, error in errors.items()]
    if not kept:
        raise UserError(f"none of the {len(videos)} videos can be read, the first {unread[0]}")
    write_features(args.out, np.stack([sums[index] for index in kept]) / args.views, videos, kept)
    return unread


def error_line(reason: str, *, seconds: float) -> str:
    """Why a video can't be read, with what may help."""
    if reason == TIMED_OUT:
        return f"timed out after {seconds:g} s; raise --timeout"
    return f"{reason}; check --root" if reason == NO_SUCH_FILE else reason


def write_features(path: Path, features: np.ndarray, videos: VideoList, kept: list[int]) -> None:
    """Write the .npz file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        np.savez(
            unfinished,
            features=features,
            labels=videos.labels[kept],
            paths=np.array([videos.path(index) for index in kept]),
            classes=np.array(videos.classes, dtype=str),
        )
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(description="Write the features that a run's encoder gives a list of videos.")
    parser.add_argument("--run", required=True, help="folder of a run")
    parser.add_argument("--stage", default="pretrain", choices=("pretrain", "finetune"), help="whose encoder")
    parser.add_argument("--weights", default="auto", choices=WEIGHTS, help=WEIGHTS_HELP)
    parser.add_argument("--list", required=True, help="list of videos (see datasets/README.md)")
    parser.add_argument("--root", default="", help="folder that the list's paths are relative to")
    parser.add_argument("--dataset", default="list", help="kind of list, as a config's data.dataset")
    parser.add_argument("--pool", default="mean", choices=("mean", "class"), help="mean of the cubes, or class token")
    parser.add_argument("--views", type=whole_number(1), default=1, help="clips to average, evenly spread over a video")
    parser.add_argument("--batch-size", type=whole_number(1), default=16, help="clips of a forward pass")
    parser.add_argument("--timeout", type=real_number(0, above=True), help="give a video up after so many seconds")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, required=True, help=".npz file to write")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    args = parser().parse_args(arguments)

    def write() -> int:
        for line in extract(args):
            print(f"not read: {line}", file=sys.stderr)
        print(f"written to {args.out}")
        return 0

    return run_command(write)


if __name__ == "__main__":
    raise SystemExit(main())
