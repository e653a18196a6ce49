"""Health of a collection: every video read once, and a manifest row for each."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from diffmae_video.data.decode import TIMED_OUT, DecodeError, check_path
from diffmae_video.data.folder_reader import FolderReader
from diffmae_video.data.manifest import Health, Manifest, fingerprint
from diffmae_video.data.pyav_reader import PyavReader
from diffmae_video.data.videos import VideoList
from diffmae_video.data.watchdog import Watchdog

_AT_ONCE = 256
# Errors of the disk, the network or the process rather than of the file.
_MACHINES = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}


def examine(path: str, *, name: str, depth: str, timeout_seconds: float) -> Health:
    """Read one video: all of it ("full"), or its packets and its first and last frame ("quick")."""
    # Before reading: a file that changes meanwhile must not pass for the one that was read.
    size, mtime_ns = fingerprint(path) or (0, 0)
    row = Health(name, "ok", "", depth, size, mtime_ns)
    try:
        facts = Watchdog().run(lambda: _read(path, depth, timeout_seconds), path=path, timeout_seconds=timeout_seconds)
    except DecodeError as error:
        status = "unread" if _is_machines(error) else "bad"
        return replace(row, status=status, reason=error.reason)
    except MemoryError:
        return replace(row, status="unread", reason="out of memory")
    except OSError as error:  # within a folder of images
        return replace(row, status="unread", reason=f"cannot be opened ({error.strerror})")
    return replace(row, **facts)


def plan(videos: VideoList, known: Manifest, *, depth: str) -> tuple[dict[str, Health], dict[str, str]]:
    """What is known of a list's files already, and what is left to examine.

    Returns:
        rows of the manifest that still hold, by name; and the paths of the others, by name. A file that the list has
        several segments of counts once.
    """
    done: dict[str, Health] = {}
    left: dict[str, str] = {}
    for i in range(len(videos)):
        name, path = videos.name(i), videos.path(i)
        if name in done or name in left:
            continue
        row = known.examined(name, path, depth=depth)
        if row is None:
            left[name] = path
        else:
            done[name] = row
    return done, left


def examine_all(left: dict[str, str], *, depth: str, num_workers: int, timeout_seconds: float) -> Iterator[Health]:
    """Examine files, paths by name, in ``num_workers`` processes; rows come as they are ready."""
    names = list(left)
    for begin in range(0, len(names), _AT_ONCE):
        chunk = {name: left[name] for name in names[begin : begin + _AT_ONCE]}
        yield from _examine_chunk(chunk, depth=depth, num_workers=num_workers, timeout_seconds=timeout_seconds)


def unlike_list(videos: VideoList, rows: Mapping[str, Health]) -> tuple[list[str], list[str]]:
    """What the list says of fit files and isn't so.

    Returns:
        faults: segments that begin after the video's end, folders with fewer images than the list has them; and
        folders with more images, of which the listed number is used, from the first on.
    """
    faults, more = [], []
    for i in range(len(videos)):
        row, segment = rows[videos.name(i)], videos.segment(i)
        listed = -1 if videos.num_frames is None else int(videos.num_frames[i])
        if row.status != "ok":
            continue
        if segment is not None and 0 < row.duration_seconds <= segment[0]:
            faults.append(f"{row.path}: ends at {row.duration_seconds:g} s, its segment starts at {segment[0]:g} s")
        if 0 <= row.frames < listed:
            faults.append(f"{row.path}: {row.frames} of {listed} listed images")
        elif 0 <= listed < row.frames:
            more.append(f"{row.path}: {row.frames} images, {listed} listed")
    return faults, more


def summarise(rows: Sequence[Health]) -> str:
    """A few lines for a person: how many are fit, and what is wrong with the others."""
    good = [row for row in rows if row.status == "ok"]
    lines = [f"{len(good)} of {len(rows)} videos are fit to use"]
    for reason, count in Counter(row.reason for row in rows if row.status != "ok").most_common():
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


def _is_machines(error: DecodeError) -> bool:
    """Whether another try, another machine or other permissions may read the same file."""
    cause = error.__cause__
    return (
        error.reason == TIMED_OUT
        or isinstance(cause, (FileNotFoundError, PermissionError, MemoryError))
        or (isinstance(cause, OSError) and cause.errno in _MACHINES)
    )


def _read(path: str, depth: str, timeout_seconds: float) -> dict[str, Any]:
    if check_path(path) == "folder":
        folder = FolderReader(path, timeout_seconds=timeout_seconds)
        shapes = [frame.shape for frame in folder.frames(range(len(folder.times)))]
        count, (height, width, _) = len(shapes), shapes[0]
        return {"frames": count, "width": width, "height": height, "codec": "images"}
    with PyavReader(path, timeout_seconds=timeout_seconds) as reader:
        info = reader.info()
        if depth == "quick":
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


def _examine_chunk(chunk: dict[str, str], *, depth: str, num_workers: int, timeout_seconds: float) -> Iterator[Health]:
    """Examine files in processes; one that brings its process down is named, and the others are examined again."""
    left = dict(chunk)
    pool = ProcessPoolExecutor(num_workers)
    try:
        jobs = {
            pool.submit(examine, path, name=name, depth=depth, timeout_seconds=timeout_seconds): name
            for name, path in chunk.items()
        }
        for job in as_completed(jobs):
            row = job.result()
            del left[jobs[job]]
            yield row
    except BrokenProcessPool:
        if len(left) == 1:
            ((name, path),) = left.items()
            # It may be the file, or the system that was short of memory: only another try tells.
            yield Health(name, "unread", "reader crashed", depth, *(fingerprint(path) or (0, 0)))
            return
        for name, path in left.items():
            yield from _examine_chunk({name: path}, depth=depth, num_workers=1, timeout_seconds=timeout_seconds)
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption doesn't wait for what hasn't begun
