"""Scan a collection: read every video once, and write a manifest row for each."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from diffmae_video.data.decoding.base import TIMED_OUT, DecodeError, check_path
from diffmae_video.data.decoding.image_folder import FolderReader
from diffmae_video.data.decoding.pyav_reader import PyavReader
from diffmae_video.data.decoding.timeout import Watchdog
from diffmae_video.data.manifest import Health, Manifest, fingerprint
from diffmae_video.data.video_list import VideoList

_CHUNK_SIZE = 256
# Errors of the disk, the network or the process, not of the file.
_SYSTEM_ERRNOS = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}


def examine(path: str, *, name: str, depth: str, timeout_seconds: float) -> Health:
    """Read one video and report its health.

    Args:
        path: video file or folder of images.
        name: its name in the list, for the row.
        depth: "full" decodes every frame, "quick" reads all packets and decodes the first and last frame.
        timeout_seconds: longest time for this video; then it is "unread".
    """
    # Before reading, so that the row of a file that is replaced meanwhile doesn't match the new file.
    size, mtime_ns = fingerprint(path) or (0, 0)
    row = Health(name, "ok", "", depth, size, mtime_ns)
    try:
        metadata = Watchdog().run(
            lambda: _read(path, depth, timeout_seconds), path=path, timeout_seconds=timeout_seconds
        )
    except DecodeError as error:
        status = "unread" if _is_system_error(error) else "bad"
        return replace(row, status=status, reason=error.reason)
    except MemoryError:
        return replace(row, status="unread", reason="out of memory")
    except OSError as error:  # within a folder of images
        return replace(row, status="unread", reason=f"cannot be opened ({error.strerror})")
    return replace(row, **metadata)


def plan(videos: VideoList, known: Manifest, *, depth: str) -> tuple[dict[str, Health], dict[str, str]]:
    """Split the files of a list into those with a valid row and those to examine.

    Returns:
        {name: row} of the former and {name: path} of the latter. A file with several segments in the list counts once.
    """
    done: dict[str, Health] = {}
    remaining: dict[str, str] = {}
    for i in range(len(videos)):
        name, path = videos.name(i), videos.path(i)
        if name in done or name in remaining:
            continue
        row = known.examined(name, path, depth=depth)
        if row is None:
            remaining[name] = path
        else:
            done[name] = row
    return done, remaining


def examine_all(remaining: dict[str, str], *, depth: str, num_workers: int, timeout_seconds: float) -> Iterator[Health]:
    """Examine files in parallel.

    Args:
        remaining: {name: path} of the files.
        depth, timeout_seconds: as for :func:`examine`.
        num_workers: processes.

    Yields:
        rows, in the order in which they are finished.
    """
    names = list(remaining)
    for begin in range(0, len(names), _CHUNK_SIZE):
        chunk = {name: remaining[name] for name in names[begin : begin + _CHUNK_SIZE]}
        yield from _examine_chunk(chunk, depth=depth, num_workers=num_workers, timeout_seconds=timeout_seconds)


def compare_with_list(videos: VideoList, rows: Mapping[str, Health]) -> tuple[list[str], list[str]]:
    """Compare readable files with what the list says of them.

    Returns:
        messages about faults (segments that start after the video's end, folders with fewer images than listed), and
        about folders with more images than listed, of which the first ones are used.
    """
    faults, extra_images = [], []
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
            extra_images.append(f"{row.path}: {row.frames} images, {listed} listed")
    return faults, extra_images


def summarise(rows: Sequence[Health]) -> str:
    """Summary of a scan as text: how many videos are fit to use, reasons for the others, and statistics."""
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


def _is_system_error(error: DecodeError) -> bool:
    """Whether the same file may be readable later, on another machine or with other permissions."""
    cause = error.__cause__
    return (
        error.reason == TIMED_OUT
        or isinstance(cause, (FileNotFoundError, PermissionError, MemoryError))
        or (isinstance(cause, OSError) and cause.errno in _SYSTEM_ERRNOS)
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
    """Examine files in processes. If one crashes its process, find it by examining the rest one by one."""
    remaining = dict(chunk)
    pool = ProcessPoolExecutor(num_workers)
    try:
        jobs = {
            pool.submit(examine, path, name=name, depth=depth, timeout_seconds=timeout_seconds): name
            for name, path in chunk.items()
        }
        for job in as_completed(jobs):
            row = job.result()
            del remaining[jobs[job]]
            yield row
    except BrokenProcessPool:
        if len(remaining) == 1:
            ((name, path),) = remaining.items()
            # The file or a lack of memory: not known, so the file isn't marked as bad.
            yield Health(name, "unread", "reader crashed", depth, *(fingerprint(path) or (0, 0)))
            return
        for name, path in remaining.items():
            yield from _examine_chunk({name: path}, depth=depth, num_workers=1, timeout_seconds=timeout_seconds)
    finally:
        pool.shutdown(cancel_futures=True)  # don't wait for files that haven't started
