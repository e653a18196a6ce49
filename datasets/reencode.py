"""Re-encode a tree of videos for faster decoding: a smaller short side and more frequent key frames.

    python datasets/reencode.py --root /videos/k400 --out /videos/k400_320

Keeps the tree and the names (with .mp4), the frames and their times; drops audio and subtitles. A damaged video is
reported and not copied, and a copy is kept only if it has every frame, each decodes, and each has the time of the
source's. A copy is written under a temporary name and renamed when it is complete; its comment has the options and the
size and time of the source. So an interrupted run can resume, and other options or a repaired source give a new copy.
Prepare the lists from the new root afterwards. Needs the ffmpeg command line, 5.0 or later. At the end it prints the
size before and after, and the time to load a training clip of some of the videos before and after.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from diffmae_video.command_line import Parser, run_command, whole_number
from diffmae_video.data import TrainClips, VideoList
from diffmae_video.data.decoding.base import DecodeError
from diffmae_video.data.decoding.pyav_reader import PyavReader
from diffmae_video.data.decoding.walk import VIDEO_SUFFIXES, files_below, format_left_out
from diffmae_video.data.manifest import fingerprint
from diffmae_video.errors import UserError

MEASURED = 24  # videos, and loads before and after, that are timed
TIMEOUT_SECONDS = 3600.0  # to decode a video once; a film takes minutes
TIME_TOLERANCE = 1e-4  # seconds, between a frame's times in source and copy: more than the rounding of any time base


@dataclass(frozen=True)
class Encoding:
    """Settings that determine the copies."""

    short_side: int
    gop: int
    crf: int

    def tag(self, source: Path) -> str:
        """The comment of a finished copy of ``source``."""
        size, mtime_ns = fingerprint(str(source)) or (0, 0)
        return (
            f"diffmae_video reencode: short side {self.short_side}, gop {self.gop}, crf {self.crf}; "
            f"source of {size} bytes, changed at {mtime_ns} ns"
        )


def find_videos(root: Path) -> dict[Path, Path]:
    """The videos below ``root``: {relative path: relative path of the copy}.

    Raises:
        UserError: no videos, or two that differ only in the suffix and would be written to the same file.
    """
    found, left_out = files_below(root, VIDEO_SUFFIXES)
    if not found:
        there = f" ({format_left_out(left_out)})" if left_out else ""
        raise UserError(f"--root {root}: no videos below it{there}; they end in {', '.join(VIDEO_SUFFIXES)}")
    if left_out:
        print(f"{root}: left out {format_left_out(left_out)}")
    copies: dict[Path, Path] = {}
    sources: dict[Path, Path] = {}
    for source in map(Path, found):
        copy = source.with_suffix(".mp4")
        if copy in sources:
            raise UserError(f"{sources[copy]} and {source} would both become {copy}; move one of them away")
        sources[copy], copies[source] = source, copy
    return copies


@cache
def frame_sync() -> tuple[str, str]:
    """The option that keeps the times of all frames: ``-fps_mode``, or ``-vsync`` before FFmpeg 5.1."""
    result = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, errors="replace", check=True)
    return sync_option(result.stdout)


def sync_option(version: str) -> tuple[str, str]:
    """The option for an output of ``ffmpeg -version``; builds without a version number are newer."""
    number = re.match(r"ffmpeg version n?(\d+)\.(\d+)", version)
    old = number is not None and (int(number[1]), int(number[2])) < (5, 1)
    return ("-vsync" if old else "-fps_mode"), "passthrough"


def command(source: Path, target: Path, *, encoding: Encoding, time_base: Fraction, tag: str) -> list[str]:
    """The ffmpeg command line. Frames are never enlarged, and both sides are even.

    Args:
        source, target: files to read and to write.
        encoding: settings of the copy.
        time_base: of the source, in seconds.
        tag: comment to write into the copy.
    """
    side = f"min({encoding.short_side}\\,trunc(min(iw\\,ih)/2)*2)"
    scale = f"scale='if(gt(iw,ih),-2,{side})':'if(gt(iw,ih),{side},-2)':flags=bicubic"
    return [
        "ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-i", f"file:{source}",
        "-map", "0:V:0", "-an", "-sn",
        # Use the source's time base: the encoder's own, 1 / frame rate, would round uneven times.
        "-vf", scale, *frame_sync(), "-enc_time_base", f"{time_base.numerator}/{time_base.denominator}",
        "-c:v", "libx264", "-preset", "medium", "-crf", str(encoding.crf), "-g", str(encoding.gop),
        "-pix_fmt", "yuv420p", "-threads", "1", "-movflags", "+faststart", "-metadata", f"comment={tag}",
        "-f", "mp4", f"file:{target}",
    ]  # fmt: skip


def reencode(paths: tuple[Path, Path], *, root: Path, out: Path, encoding: Encoding) -> str:
    """Re-encode one video.

    A copy with other options or of another source is replaced once the new copy is complete; until then it is kept.

    Args:
        paths: of the source below ``root``, and of the copy below ``out``.
        root, out: folders of the sources and of the copies.
        encoding: settings of the copy.

    Returns:
        "" for success, "there" if the copy exists already, or the reason of a failure.
    """
    source, target = root / paths[0], out / paths[1]
    tag = encoding.tag(source)
    if target.exists() and comment(target) == tag:
        return "there"
    try:
        times, time_base = examine(source)
    except DecodeError as error:
        return error.reason
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        result = subprocess.run(
            command(source, part, encoding=encoding, time_base=time_base, tag=tag),
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if result.returncode != 0:
            return (result.stderr.strip().splitlines() or [f"ffmpeg ended with {result.returncode}"])[-1]
        difference = compare(part, times)
        if not difference:
            os.replace(part, target)
        return difference
    finally:
        part.unlink(missing_ok=True)


def examine(path: Path) -> tuple[np.ndarray, Fraction]:
    """Decode every frame; return their times in seconds, from the first, and the time base of the stream.

    Raises:
        DecodeError: a frame is damaged or missing, or the file can't be read.
    """
    with PyavReader(str(path), timeout_seconds=TIMEOUT_SECONDS) as reader:
        reader.verify()
        times = reader.times - reader.times[0]
    with av.open(f"file:{path}") as container:
        stream = container.streams.best("video")
        assert stream is not None  # reader.verify() has read it
        return times, stream.time_base or Fraction(1, 90000)


def compare(copy: Path, times: np.ndarray) -> str:
    """How a copy differs from a source with frames at ``times``; "" if it doesn't."""
    try:
        copied, _ = examine(copy)
    except DecodeError as error:
        return f"the copy: {error.reason}"
    if len(copied) != len(times):
        return f"the copy has {len(copied)} frames, the source {len(times)}"
    errors = np.abs(copied - times)
    worst = int(errors.argmax())
    if errors[worst] > TIME_TOLERANCE:
        return f"the copy's frame {worst} is shown at {copied[worst]:.4f} s, the source's at {times[worst]:.4f} s"
    return ""


def comment(path: Path) -> str:
    """The comment in a file's metadata; "" if there is none or the file can't be read."""
    try:
        with av.open(f"file:{path}") as container:
            return container.metadata.get("comment", "")
    except (av.FFmpegError, OSError):
        return ""


def gain(pairs: Sequence[tuple[Path, Path]], *, root: Path, out: Path) -> str:
    """Time to load a training clip before and after: alternately, the same segments of up to ``MEASURED`` videos."""
    sample = [pairs[i * len(pairs) // MEASURED] for i in range(MEASURED)] if len(pairs) > MEASURED else list(pairs)
    sides = {"before": (root, [source for source, _ in sample]), "after": (out, [copy for _, copy in sample])}
    clips = {
        side: TrainClips(
            VideoList.of([str(name) for name in names], [0] * len(names), root=str(folder)),
            seed=0,
            num_frames=16,
            stride_frames=4,
            fps=30.0,
            crop_size=224,
        )
        for side, (folder, names) in sides.items()
    }
    times: dict[str, list[float]] = {side: [] for side in clips}
    for position in range(MEASURED + 1):
        for side, dataset in clips.items():
            began = time.perf_counter()
            dataset[position]
            if position:  # the first load warms up
                times[side].append(time.perf_counter() - began)
    before, after = (statistics.median(times[side]) * 1e3 for side in ("before", "after"))
    return f"a 16x4 clip: {before:.1f} ms before, {after:.1f} ms after (medians)"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="folder of videos")
    parser.add_argument("--out", required=True, type=Path, help="folder for the re-encoded tree, outside --root")
    parser.add_argument(
        "--short-side", type=whole_number(16), default=320, help="pixels, even; smaller videos keep their size"
    )
    parser.add_argument(
        "--gop", type=whole_number(1), default=30, help="largest number of frames from key frame to key frame"
    )
    parser.add_argument(
        "--crf", type=whole_number(0, 51), default=20, help="x264's quality; lower is better and larger"
    )
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count() or 1, help="videos at a time")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Re-encode the tree, list failures and print sizes; 0 if nothing failed, else 1."""
    root, out = args.root.resolve(), args.out.resolve()
    if root == out or root in out.parents or out in root.parents:
        raise UserError(
            f"--out {args.out}: must be outside --root {args.root}, and must not contain it; choose another folder"
        )
    if args.short_side % 2:
        raise UserError(f"--short-side {args.short_side}: must be even (4:2:0 colour); use {args.short_side + 1}")
    if shutil.which("ffmpeg") is None:
        raise UserError("ffmpeg: no such command; install FFmpeg, 5.0 or later, with libx264")
    copies = find_videos(args.root)
    encoding = Encoding(args.short_side, args.gop, args.crf)
    work = partial(reencode, root=args.root, out=args.out, encoding=encoding)
    # Threads suffice: the work is done in ffmpeg processes.
    with ThreadPoolExecutor(args.workers) as pool:
        results = dict(zip(copies, tqdm(pool.map(work, copies.items()), total=len(copies), unit="video"), strict=True))
    failed = {source: reason for source, reason in results.items() if reason not in ("", "there")}
    for source, reason in failed.items():
        kept = " (an earlier copy, of other options or another source, is kept)"
        print(f"failed: {source}: {reason}{kept if (args.out / copies[source]).exists() else ''}")
    done = [(source, copy) for source, copy in copies.items() if source not in failed]
    before = sum((args.root / source).stat().st_size for source, _ in done)
    after = sum((args.out / copy).stat().st_size for _, copy in done)
    there = sum(reason == "there" for reason in results.values())
    print(
        f"{len(done)} of {len(copies)} videos re-encoded ({there} of them before), without audio and subtitles, "
        f"{before / 1e6:.1f} MB to {after / 1e6:.1f} MB"
    )
    if done:
        print(gain(done, root=args.root, out=args.out))
    return int(bool(failed))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    args = parse(arguments)
    return run_command(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
