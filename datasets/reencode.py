"""Re-encode a tree of videos for training: a small short side and a short group of pictures.

    python datasets/reencode.py --root /videos/k400 --out /videos/k400_320

Keeps the tree and the names (with .mp4), the frames and their times; drops the audio. Prepare the lists from the new
root afterwards. A video is written aside and renamed when it is whole, so an interrupted run goes on where it was.
Needs the ffmpeg command line. At the end it says what was gained: the size, and the time to load a training clip of
some of the videos before and after.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from diffmae_video.bench import loaders
from diffmae_video.bench.data import interleave
from diffmae_video.data import VideoList
from diffmae_video.data.walk import VIDEO_SUFFIXES
from diffmae_video.errors import UserError

MEASURED = 24  # videos, and loads of each side, that the gain is measured on


def find_videos(root: Path) -> dict[Path, Path]:
    """The videos below ``root``: relative path of each, and of its re-encoded twin.

    Raises:
        UserError: no videos, or two that differ in the suffix only and would be written to one file.
    """
    twins: dict[Path, Path] = {}
    sources: dict[Path, Path] = {}
    for place, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        for name in sorted(files):
            source = Path(os.path.relpath(os.path.join(place, name), root))
            if source.suffix.lower() not in VIDEO_SUFFIXES:
                continue
            twin = source.with_suffix(".mp4")
            if twin in sources:
                raise UserError(f"{sources[twin]} and {source} would both become {twin}; move one of them away")
            sources[twin], twins[source] = source, twin
    if not twins:
        raise UserError(f"--root {root}: no videos below it")
    return twins


def command(source: Path, target: Path, *, short_side: int, gop: int, crf: int) -> list[str]:
    """The ffmpeg command line. Pictures are only ever made smaller; both sides stay even."""
    side = f"min({short_side}\\,trunc(min(iw\\,ih)/2)*2)"
    scale = f"scale='if(gt(iw,ih),-2,{side})':'if(gt(iw,ih),{side},-2)':flags=bicubic"
    return [
        "ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-i", f"file:{source}",
        "-map", "0:V:0", "-an", "-sn",
        "-vf", scale, "-vsync", "passthrough", "-c:v", "libx264", "-preset", "medium", "-crf", str(crf), "-g", str(gop),
        "-pix_fmt", "yuv420p", "-threads", "1", "-movflags", "+faststart", "-f", "mp4", f"file:{target}",
    ]  # fmt: skip


def reencode(paths: tuple[Path, Path], *, root: Path, out: Path, short_side: int, gop: int, crf: int) -> str:
    """Re-encode one video unless its twin is there; "" or why it can't be."""
    source, target = root / paths[0], out / paths[1]
    if target.exists():
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    ran = subprocess.run(
        command(source, part, short_side=short_side, gop=gop, crf=crf), capture_output=True, text=True, check=False
    )
    if ran.returncode != 0 or not part.exists() or not part.stat().st_size:
        part.unlink(missing_ok=True)
        return (ran.stderr.strip().splitlines() or ["no frames"])[-1]
    os.replace(part, target)
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="folder of videos")
    parser.add_argument("--out", required=True, type=Path, help="folder for the re-encoded tree")
    parser.add_argument("--short-side", type=int, default=320, help="pixels; smaller videos keep their size")
    parser.add_argument("--gop", type=int, default=30, help="frames from key frame to key frame, at most")
    parser.add_argument("--crf", type=int, default=20, help="x264's quality; lower is better and larger")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="videos at a time")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Re-encode the tree, list what fails, say what it did to the size."""
    options = parse(arguments)
    try:
        twins = find_videos(options.root)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    work = partial(
        reencode,
        root=options.root,
        out=options.out,
        short_side=options.short_side,
        gop=options.gop,
        crf=options.crf,
    )
    # Threads, as the work is done by ffmpeg's processes.
    with ThreadPoolExecutor(options.workers) as pool:
        results = list(tqdm(pool.map(work, twins.items()), total=len(twins), unit="video"))
    failed = [(source, reason) for source, reason in zip(twins, results, strict=True) if reason]
    for source, reason in failed:
        print(f"failed: {source}: {reason}")
    done = [(source, twin) for source, twin in twins.items() if (options.out / twin).exists()]
    before = sum((options.root / source).stat().st_size for source, _ in done)
    after = sum((options.out / twin).stat().st_size for _, twin in done)
    print(f"{len(done)} of {len(twins)} videos re-encoded, {before / 1e6:.1f} MB to {after / 1e6:.1f} MB")
    if done:
        print(gain(done, root=options.root, out=options.out))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
