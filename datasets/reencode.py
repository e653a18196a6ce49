"""Re-encode a tree of videos for training: a small short side and a short group of pictures.

    python datasets/reencode.py --root /videos/k400 --out /videos/k400_320

Keeps the tree and the names (with .mp4), the frames and their times; audio and subtitles are dropped. A damaged video
is named and not copied, and a copy is kept only if every frame is there, decodes, and is shown when the source's is. A
video is written aside and renamed when it is whole, and bears the options and its source's size and time: an
interrupted run goes on where it was, and other options or a repaired source give a new copy. Prepare the lists from the
new root afterwards. Needs the ffmpeg command line, 5.0 or later. At the end it says what was gained: the size, and the
time to load a training clip of some of the videos before and after.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from diffmae_video.bench import loaders
from diffmae_video.bench.data import interleave
from diffmae_video.command_line import Parser, run_command, whole_number
from diffmae_video.data import VideoList
from diffmae_video.data.decode import DecodeError
from diffmae_video.data.manifest import fingerprint
from diffmae_video.data.pyav_reader import PyavReader
from diffmae_video.data.walk import VIDEO_SUFFIXES, files_below, format_left_out
from diffmae_video.errors import UserError

MEASURED = 24  # videos, and loads of each side, that the gain is measured on
TIMEOUT_SECONDS = 3600.0  # to decode a video once; a film takes minutes
TIME_TOLERANCE = 1e-4  # seconds between a frame's time in the source and in the copy: coarser than any time base rounds


@dataclass(frozen=True)
class Encoding:
    """What decides the copies' content."""

    short_side: int
    gop: int
    crf: int

    def tag(self, source: Path) -> str:
        """What a finished copy of ``source`` bears as its comment."""
        size, mtime_ns = fingerprint(str(source)) or (0, 0)
        return (
            f"diffmae_video reencode: short side {self.short_side}, gop {self.gop}, crf {self.crf}; "
            f"source of {size} bytes, changed at {mtime_ns} ns"
        )


def find_videos(root: Path) -> dict[Path, Path]:
    """The videos below ``root``: relative path of each, and of its re-encoded twin.

    Raises:
        UserError: no videos, or two that differ in the suffix only and would be written to one file.
    """
    found, left_out = files_below(root, VIDEO_SUFFIXES)
    if not found:
        there = f" ({format_left_out(left_out)})" if left_out else ""
        raise UserError(f"--root {root}: no videos below it{there}; they end in {', '.join(VIDEO_SUFFIXES)}")
    if left_out:
        print(f"{root}: left out {format_left_out(left_out)}")
    twins: dict[Path, Path] = {}
    sources: dict[Path, Path] = {}
    for source in map(Path, found):
        twin = source.with_suffix(".mp4")
        if twin in sources:
            raise UserError(f"{sources[twin]} and {source} would both become {twin}; move one of them away")
        sources[twin], twins[source] = source, twin
    return twins


@cache
def frame_sync() -> tuple[str, str]:
    """The option that keeps every frame at its time: ``-fps_mode``, but for FFmpeg before 5.1, ``-vsync``."""
    ran = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, errors="replace", check=True)
    return sync_option(ran.stdout)


def sync_option(version: str) -> tuple[str, str]:
    """The option for what ``ffmpeg -version`` prints; builds without a number are newer."""
    number = re.match(r"ffmpeg version n?(\d+)\.(\d+)", version)
    old = number is not None and (int(number[1]), int(number[2])) < (5, 1)
    return ("-vsync" if old else "-fps_mode"), "passthrough"


def command(source: Path, target: Path, *, encoding: Encoding, time_base: Fraction, tag: str) -> list[str]:
    """The ffmpeg command line. Pictures are only ever made smaller; both sides stay even."""
    side = f"min({encoding.short_side}\\,trunc(min(iw\\,ih)/2)*2)"
    scale = f"scale='if(gt(iw,ih),-2,{side})':'if(gt(iw,ih),{side},-2)':flags=bicubic"
    return [
        "ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-i", f"file:{source}",
        "-map", "0:V:0", "-an", "-sn",
        # The encoder counts in the source's time base: in its own, 1 / frame rate, uneven times would be rounded.
        "-vf", scale, *frame_sync(), "-enc_time_base", f"{time_base.numerator}/{time_base.denominator}",
        "-c:v", "libx264", "-preset", "medium", "-crf", str(encoding.crf), "-g", str(encoding.gop),
        "-pix_fmt", "yuv420p", "-threads", "1", "-movflags", "+faststart", "-metadata", f"comment={tag}",
        "-f", "mp4", f"file:{target}",
    ]  # fmt: skip


def reencode(paths: tuple[Path, Path], *, root: Path, out: Path, encoding: Encoding) -> str:
    """Re-encode one video; "" for done, "there" if its twin was there already, or why it can't be.

    A twin of other options or of another source is replaced once the new one is whole; till then it stays.
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
        ran = subprocess.run(
            command(source, part, encoding=encoding, time_base=time_base, tag=tag),
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if ran.returncode != 0:
            return (ran.stderr.strip().splitlines() or [f"ffmpeg ended with {ran.returncode}"])[-1]
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
        assert stream is not None  # it has just been read
        return times, stream.time_base or Fraction(1, 90000)


def compare(copy: Path, times: np.ndarray) -> str:
    """How a copy differs from a source with frames at ``times``; "" where it doesn't."""
    try:
        copied, _ = examine(copy)
    except DecodeError as error:
        return f"the copy: {error.reason}"
    if len(copied) != len(times):
        return f"the copy has {len(copied)} frames, the source {len(times)}"
    apart = np.abs(copied - times)
    worst = int(apart.argmax())
    if apart[worst] > TIME_TOLERANCE:
        return f"the copy's frame {worst} is shown at {copied[worst]:.4f} s, the source's at {times[worst]:.4f} s"
    return ""


def comment(path: Path) -> str:
    """The comment that a file bears; "" for none, or a file that can't be read."""
    try:
        with av.open(f"file:{path}") as container:
            return container.metadata.get("comment", "")
    except (av.FFmpegError, OSError):
        return ""


def gain(pairs: Sequence[tuple[Path, Path]], *, root: Path, out: Path) -> str:
    """What loading a training clip costs before and after, the same moments of up to ``MEASURED`` videos by turns."""
    picked = [pairs[i * len(pairs) // MEASURED] for i in range(MEASURED)] if len(pairs) > MEASURED else list(pairs)
    sides = {"before": (root, [source for source, _ in picked]), "after": (out, [twin for _, twin in picked])}
    loads = {
        side: loaders.ours(VideoList.of([str(name) for name in names], [0] * len(names), root=str(folder)))
        for side, (folder, names) in sides.items()
    }
    times = interleave(loads, rounds=MEASURED)
    before, after = (statistics.median(times[side]) * 1e3 for side in ("before", "after"))
    return f"a {loaders.NUM_FRAMES}x{loaders.STRIDE} clip: {before:.1f} ms before, {after:.1f} ms after (medians)"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="folder of videos")
    parser.add_argument("--out", required=True, type=Path, help="folder for the re-encoded tree, apart from --root")
    parser.add_argument(
        "--short-side", type=whole_number(16), default=320, help="pixels, even; smaller videos keep their size"
    )
    parser.add_argument("--gop", type=whole_number(1), default=30, help="frames from key frame to key frame, at most")
    parser.add_argument(
        "--crf", type=whole_number(0, 51), default=20, help="x264's quality; lower is better and larger"
    )
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count() or 1, help="videos at a time")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Re-encode the tree, list what fails, say what it did to the size; 0 if nothing failed, else 1."""
    root, out = options.root.resolve(), options.out.resolve()
    if root == out or root in out.parents or out in root.parents:
        raise UserError(f"--out {options.out}: must lie apart from --root {options.root}, neither in it nor around it")
    if options.short_side % 2:
        raise UserError(f"--short-side {options.short_side}: must be even (4:2:0 colour); use {options.short_side + 1}")
    if shutil.which("ffmpeg") is None:
        raise UserError("ffmpeg: no such command; install FFmpeg, 5.0 or later, with libx264")
    twins = find_videos(options.root)
    encoding = Encoding(options.short_side, options.gop, options.crf)
    work = partial(reencode, root=options.root, out=options.out, encoding=encoding)
    # Threads, as the work is done by ffmpeg's processes.
    with ThreadPoolExecutor(options.workers) as pool:
        results = dict(zip(twins, tqdm(pool.map(work, twins.items()), total=len(twins), unit="video"), strict=True))
    failed = {source: reason for source, reason in results.items() if reason not in ("", "there")}
    for source, reason in failed.items():
        stays = " (an earlier copy, of other options or another source, stays)"
        print(f"failed: {source}: {reason}{stays if (options.out / twins[source]).exists() else ''}")
    done = [(source, twin) for source, twin in twins.items() if source not in failed]
    before = sum((options.root / source).stat().st_size for source, _ in done)
    after = sum((options.out / twin).stat().st_size for _, twin in done)
    there = sum(reason == "there" for reason in results.values())
    print(
        f"{len(done)} of {len(twins)} videos re-encoded ({there} of them before), without audio and subtitles, "
        f"{before / 1e6:.1f} MB to {after / 1e6:.1f} MB"
    )
    if done:
        print(gain(done, root=options.root, out=options.out))
    return int(bool(failed))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    options = parse(arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
