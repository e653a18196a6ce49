"""Health of a collection: every video read once, a manifest row for each."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from diffmae_video.data.decode import DecodeError, check_path
from diffmae_video.data.folder_reader import FolderReader
from diffmae_video.data.pyav_reader import PyavReader
from diffmae_video.data.videos import VideoList
from diffmae_video.data.watchdog import Watchdog

_AT_ONCE = 256


@dataclass(frozen=True)
class Health:
    """A manifest row. ``path`` is as in the list; figures are 0 where the video couldn't be opened."""

    path: str
    status: str  # "ok" or "bad"
    reason: str
    frames: int
    fps: float
    width: int
    height: int
    codec: str
    duration_seconds: float
    bytes: int


COLUMNS = tuple(field.name for field in fields(Health))


def examine(path: str, *, name: str, quick: bool, timeout_seconds: float) -> Health:
    """Read one video: all of it, or if ``quick`` its packets and its first and last frame."""
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    facts = {"frames": 0, "fps": 0.0, "width": 0, "height": 0, "codec": "", "duration_seconds": 0.0}
    try:
        facts |= Watchdog().run(lambda: _read(path, quick, timeout_seconds), path=path, timeout_seconds=timeout_seconds)
    except DecodeError as error:
        return Health(path=name, status="bad", reason=error.reason, bytes=size, **facts)  # type: ignore[arg-type]
    return Health(path=name, status="ok", reason="", bytes=size, **facts)  # type: ignore[arg-type]


def scan(
    videos: VideoList, manifest: Path, *, quick: bool, num_workers: int, timeout_seconds: float
) -> Iterator[Health]:
    """Examine the videos that ``manifest`` has no row for, add their rows to it, and yield them as they come."""
    done = {row.path for row in read_manifest(manifest)} if manifest.exists() else set()
    missing = [i for i in range(len(videos)) if videos.name(i) not in done]
    if not manifest.exists():
        manifest.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    with open(manifest, "a", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        for begin in range(0, len(missing), _AT_ONCE):
            chunk = [(videos.path(i), videos.name(i)) for i in missing[begin : begin + _AT_ONCE]]
            for row in _examine_all(chunk, quick=quick, num_workers=num_workers, timeout_seconds=timeout_seconds):
                writer.writerow(asdict(row))
                file.flush()
                yield row


def read_manifest(manifest: Path) -> list[Health]:
    """The rows of a manifest; a last line that an interruption cut short is taken out of the file as well."""
    text = manifest.read_text(encoding="utf-8", errors="surrogateescape")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        manifest.write_text(whole, encoding="utf-8", errors="surrogateescape")
    kinds = {"frames": int, "width": int, "height": int, "bytes": int, "fps": float, "duration_seconds": float}
    rows = csv.DictReader(io.StringIO(whole, newline=""))
    return [Health(**{name: kinds.get(name, str)(value) for name, value in row.items()}) for row in rows]


def summarise(rows: list[Health]) -> str:
    """A few lines for a person: how many are fit, and what is wrong with the others."""
    good = [row for row in rows if row.status == "ok"]
    lines = [f"{len(good)} of {len(rows)} videos are fit to use"]
    for reason, count in Counter(row.reason for row in rows if row.status == "bad").most_common():
        lines.append(f"  {count} x {reason}")
    if good:
        hours = sum(row.duration_seconds for row in good) / 3600
        size = sum(row.bytes for row in good) / 1e9
        lines.append(f"{sum(row.frames for row in good)} frames, {hours:.2f} hours, {size:.2f} GB")
        lines.append("codecs: " + _tally(row.codec for row in good))
        lines.append("short sides: " + _tally(str(min(row.width, row.height)) for row in good))
        lines.append("frames a second: " + _tally(f"{row.fps:.3g}" for row in good))
    return "\n".join(lines)


def _tally(values: Iterator[str]) -> str:
    counted = Counter(values).most_common()
    shown = ", ".join(f"{value} ({count})" for value, count in counted[:6])
    return shown if len(counted) <= 6 else f"{shown} and {len(counted) - 6} others"


def _read(path: str, quick: bool, timeout_seconds: float) -> dict[str, object]:
    if check_path(path) == "folder":
        folder = FolderReader(path, timeout_seconds=timeout_seconds)
        shapes = [frame.shape for frame in folder.frames(range(len(folder.times)))]
        count, (height, width, _) = len(shapes), shapes[0]
        return {"frames": count, "width": width, "height": height, "codec": "images"}
    with PyavReader(path, timeout_seconds=timeout_seconds) as reader:
        info = reader.info()
        if quick:
            ends = sorted({0, info.num_frames - 1})
            for _ in reader.frames(ends):
                pass
        else:
            reader.verify()
        return {
            "frames": info.num_frames,
            "fps": round(info.fps, 3),
            "width": info.width,
            "height": info.height,
            "codec": info.codec,
            "duration_seconds": round(info.num_frames / info.fps, 3) if info.fps else 0.0,
        }


def _examine_all(
    chunk: list[tuple[str, str]], *, quick: bool, num_workers: int, timeout_seconds: float
) -> Iterator[Health]:
    """Examine videos in processes; one that brings its process down is bad, and the others are examined again."""
    left = dict(chunk)
    try:
        with ProcessPoolExecutor(num_workers) as pool:
            jobs = {
                pool.submit(examine, path, name=name, quick=quick, timeout_seconds=timeout_seconds): path
                for path, name in chunk
            }
            for job in as_completed(jobs):
                row = job.result()
                del left[jobs[job]]
                yield row
    except BrokenProcessPool:
        if len(left) == 1:
            ((path, name),) = left.items()
            size = os.path.getsize(path) if os.path.isfile(path) else 0
            yield Health(name, "bad", "reader crashed", 0, 0.0, 0, 0, "", 0.0, size)
            return
        for pair in left.items():
            yield from _examine_all([pair], quick=quick, num_workers=1, timeout_seconds=timeout_seconds)
