"""Generate the embedded data set: short H.264 videos whose class shows only in their motion.

    python datasets/motion.py --root datasets/motion

writes ``train/*.mp4``, ``val/*.mp4``, ``classes.txt`` and three lists (``train.csv``, ``val.csv`` and
``labelled.csv``, the first few of the training videos, for fine-tuning on few labels). The pictures are
part of the wheels of scikit-learn and scikit-image; nothing is downloaded. A video is a function of (seed, split,
number): an interrupted run can resume, and the number of workers doesn't matter.
"""

from __future__ import annotations

import csv
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from motion_scenes import CLASSES, SPLITS, Pictures, load_pictures, render_scene
from numpy.typing import NDArray
from tqdm import tqdm

from diffmae_video.command_line import Parser, run_command, whole_number
from diffmae_video.data.video_io import write_video
from diffmae_video.errors import UserError

# Increased when the same options give other videos, so that an old folder isn't reused.
VERSION = 2

# Nearly lossless: compression artefacts behind the subject would show its direction in a single frame.
CRF = 12


@dataclass(frozen=True)
class Options:
    """Settings that determine the videos.

    Attributes:
        size: side of a frame in pixels; even, at least 16.
        frames: frames per video, at least 2.
        fps: frames per second.
        seed: of all random draws.
        version: of the generator, see ``VERSION``.
    """

    size: int = 40
    frames: int = 16
    fps: int = 16
    seed: int = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise UserError(f"--size {self.size} must be even (4:2:0 colour) and at least 16; use 40")
        if self.frames < 2:
            raise UserError(f"--frames {self.frames} must be at least 2: one frame does not move; use 16")
        if self.fps < 1:
            raise UserError(f"--fps {self.fps} must be at least 1; use 16")


def make(
    root: Path,
    *,
    num_train: int = 4000,
    num_val: int = 800,
    num_labelled: int = 160,
    options: Options,
    num_workers: int | None = None,
) -> None:
    """Write the data set to ``root``; existing videos are kept.

    Args:
        root: folder to write to.
        num_train, num_val: videos of each split.
        num_labelled: length of labelled.csv, the first training videos.
        options: settings of the videos.
        num_workers: processes; None for one per CPU.

    Raises:
        UserError: invalid counts, or ``root`` holds videos with other options.
    """
    _check_counts(num_train=num_train, num_val=num_val, num_labelled=num_labelled)
    root.mkdir(parents=True, exist_ok=True)
    _check_options(root, options)
    counts = {"train": num_train, "val": num_val}
    videos = [(split, number) for split in SPLITS for number in range(counts[split])]
    for split in SPLITS:
        (root / split).mkdir(exist_ok=True)
    missing = [item for item in videos if not (root / _name(*item)).exists()]
    _make_videos(missing, root=root, options=options, num_workers=num_workers or os.cpu_count() or 1)
    _replace_text(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    _write_list(root / "train.csv", "train", num_train)
    _write_list(root / "val.csv", "val", num_val)
    _write_list(root / "labelled.csv", "train", num_labelled)


def label_of(number: int) -> int:
    """Classes take turns, so that every prefix of a list is balanced."""
    return number % len(CLASSES)


def frames_of(split: str, number: int, options: Options) -> NDArray[np.uint8]:
    """The frames of one video before compression, uint8 (T, H, W, 3)."""
    rng = np.random.default_rng([options.seed, SPLITS.index(split), number])
    return render_scene(_pictures(split), label=label_of(number), size=options.size, num_frames=options.frames, rng=rng)


@cache
def _pictures(split: str) -> Pictures:
    return load_pictures(split)


def _name(split: str, number: int) -> str:
    return f"{split}/{number:06d}.mp4"


def _make_video(item: tuple[str, int], *, root: Path, options: Options) -> None:
    write_video(root / _name(*item), frames_of(*item, options), fps=options.fps, crf=CRF)


def _make_videos(missing: list[tuple[str, int]], *, root: Path, options: Options, num_workers: int) -> None:
    if not missing:
        return
    job = partial(_make_video, root=root, options=options)
    with ProcessPoolExecutor(num_workers) as pool:
        results = pool.map(job, missing, chunksize=16)
        for _ in tqdm(results, total=len(missing), desc=f"motion videos -> {root}", unit="video"):
            pass


def _check_counts(*, num_train: int, num_val: int, num_labelled: int) -> None:
    for option, count in (("--num-train", num_train), ("--num-val", num_val), ("--num-labelled", num_labelled)):
        if count < len(CLASSES):
            raise UserError(f"{option} {count} must be at least {len(CLASSES)}, one video a class")
    if num_labelled > num_train:
        raise UserError(
            f"--num-labelled {num_labelled} exceeds --num-train {num_train}: the labelled videos are the first "
            "training videos; lower the former or raise the latter"
        )


def _check_options(root: Path, options: Options) -> None:
    """Write options.json to ``root``, or compare the options with an existing one."""
    path = root / "options.json"
    if not path.exists():
        _replace_text(path, json.dumps(asdict(options)) + "\n")
        return
    existing = json.loads(path.read_text(encoding="utf-8"))
    if existing != asdict(options):
        raise UserError(
            f"{root} has videos with options {existing}, not {asdict(options)}; choose another --root or delete it"
        )


def _write_list(path: Path, split: str, count: int) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows((_name(split, number), label_of(number)) for number in range(count))
    unfinished.replace(path)


def _replace_text(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _parser() -> Parser:
    defaults = Options()
    parser = Parser(description="Generate the embedded data set of moving digits and photographs.")
    parser.add_argument("--root", type=Path, default=Path("datasets/motion"), help="folder to write")
    parser.add_argument("--num-train", type=int, default=4000, help="training videos")
    parser.add_argument("--num-val", type=int, default=800, help="validation videos, from other pictures")
    parser.add_argument("--num-labelled", type=int, default=160, help="training videos in labelled.csv")
    parser.add_argument("--size", type=int, default=defaults.size, help="side of a frame in pixels")
    parser.add_argument("--frames", type=int, default=defaults.frames, help="frames of a video")
    parser.add_argument("--fps", type=int, default=defaults.fps, help="frames per second")
    parser.add_argument("--seed", type=whole_number(0), default=defaults.seed, help="another seed, other videos")
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count(), help="processes")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 2 for invalid arguments."""
    args = _parser().parse_args(arguments)

    def run() -> int:
        make(
            args.root,
            num_train=args.num_train,
            num_val=args.num_val,
            num_labelled=args.num_labelled,
            options=Options(size=args.size, frames=args.frames, fps=args.fps, seed=args.seed),
            num_workers=args.workers,
        )
        return 0

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
