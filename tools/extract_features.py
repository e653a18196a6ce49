"""Write the features that a run's encoder gives a list of videos.

    python tools/extract_features.py --run runs/motion_tiny --list datasets/motion/val.csv --root datasets/motion \\
        --out features.npz

The .npz file holds ``features`` (n, D) float32, averaged over the views; ``labels`` (n,) int64, -1 for none;
``paths`` (n,); and ``classes``. Videos that can't be read are left out and named.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diffmae_video.command_line import Parser, run_command, whole_number
from diffmae_video.data import VideoList, read_videos, test_loader
from diffmae_video.engine.build import build_views
from diffmae_video.engine.pixels import normalize
from diffmae_video.engine.weights import WEIGHTS, WEIGHTS_HELP, load_encoder, run_recipe
from diffmae_video.errors import UserError


@torch.no_grad()
def extract(asked: argparse.Namespace) -> list[str]:
    """Write the file; returns a line for each video that couldn't be read."""
    recipe, encoder = run_recipe(asked.run), load_encoder(asked.run, stage=asked.stage, weights=asked.weights)
    videos = read_videos(asked.list, root=asked.root, dataset=asked.dataset)
    for note in videos.notes:
        print(note)
    views = build_views(recipe, videos, views=asked.views, crops=1)
    loader = test_loader(views, batch_size=asked.batch_size, rank=0, world_size=1, num_workers=recipe.data.num_workers)
    rows, kept, unread = [], [], []
    for batch in tqdm(loader, desc="features"):
        clips = normalize(batch["clips"].flatten(0, 1), mean=recipe.data.mean, std=recipe.data.std)
        features = encoder.features(clips, pool=asked.pool).unflatten(0, batch["clips"].shape[:2]).mean(1)  # (b, D)
        for index, row, error in zip(batch["index"].tolist(), features, batch["error"], strict=True):
            if error:
                unread.append(f"{videos.path(index)}: {error}")
            else:
                rows.append(row.numpy())
                kept.append(index)
    if not rows:
        raise UserError(f"none of the {len(videos)} videos can be read, the first {unread[0]}; check --root")
    write_features(asked.out, np.stack(rows), videos, kept)
    return unread


def write_features(path: Path, features: np.ndarray, videos: VideoList, kept: list[int]) -> None:
    """Write the .npz file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
    made = Parser(description="Write the features that a run's encoder gives a list of videos.")
    made.add_argument("--run", required=True, help="folder of a run")
    made.add_argument("--stage", default="pretrain", choices=("pretrain", "finetune"), help="whose encoder")
    made.add_argument("--weights", default="auto", choices=WEIGHTS, help=WEIGHTS_HELP)
    made.add_argument("--list", required=True, help="list of videos (see datasets/README.md)")
    made.add_argument("--root", default="", help="folder that the list's paths are relative to")
    made.add_argument("--dataset", default="list", help="kind of list, as a recipe's data.dataset")
    made.add_argument("--pool", default="mean", choices=("mean", "class"), help="mean of the cubes, or class token")
    made.add_argument("--views", type=whole_number(1), default=1, help="clips to average, evenly spread over a video")
    made.add_argument("--batch-size", type=whole_number(1), default=16, help="videos of a forward pass")
    made.add_argument("--out", type=Path, required=True, help=".npz file to write")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    asked = parser().parse_args(arguments)

    def write() -> int:
        for line in extract(asked):
            print(f"not read: {line}", file=sys.stderr)
        print(f"written to {asked.out}")
        return 0

    return run_command(write)


if __name__ == "__main__":
    raise SystemExit(main())
