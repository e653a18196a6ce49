"""The manifest of a collection: a scan's result for each file, valid as long as the file doesn't change."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType

from diffmae_video.data.list_forms import csv_line
from diffmae_video.data.video_list import VideoList
from diffmae_video.errors import UserError

STATUSES = ("ok", "bad", "unread")
DEPTHS = ("quick", "full")


@dataclass(frozen=True)
class Health:
    """A manifest row.

    Attributes:
        path: as in the list.
        status: "ok"; "bad" if the file is damaged; "unread" if it is missing, can't be opened, or the machine failed
            (time, memory, a crash). Only the first two are valid until the file changes.
        reason: why it isn't ok; "" if it is.
        depth: how much was decoded, "quick" or "full".
        bytes, mtime_ns: of the examined file, see :func:`fingerprint`; 0 if it couldn't be opened.
        frames, fps, width, height, codec, duration_seconds: 0 or empty if it couldn't be opened.
    """

    path: str
    status: str
    reason: str
    depth: str
    bytes: int
    mtime_ns: int
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    codec: str = ""
    duration_seconds: float = 0.0


COLUMNS = tuple(field.name for field in fields(Health))
HEADER_LINE = csv_line(COLUMNS)
_NUMBERS = {
    "bytes": int, "mtime_ns": int, "frames": int, "width": int, "height": int, "fps": float, "duration_seconds": float,
}  # fmt: skip

Fingerprint = tuple[int, int]


def fingerprint(path: str) -> Fingerprint | None:
    """Size in bytes and modification time in ns; None if the file is missing or not readable.

    For a folder of images: the sum of the sizes and the latest time, since the folder's own time doesn't change when an
    image is overwritten.
    """
    try:
        found = os.stat(path)
        if not os.access(path, os.R_OK):
            return None
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size, found.st_mtime_ns
        with os.scandir(path) as entries:
            stats = [entry.stat() for entry in entries]
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return sum(entry.st_size for entry in stats), max([found.st_mtime_ns, *(entry.st_mtime_ns for entry in stats)])


class Manifest:
    """Rows of earlier scans, looked up by name and fingerprint.

    Different files of one name, below two roots, have a row each; a copy of a root matches the rows of the original
    if it keeps sizes and times (``rsync -a``, ``cp -p``).
    """

    def __init__(self, rows: Iterable[Health]) -> None:
        """A later row of a file replaces an earlier one."""
        self._rows: dict[str, dict[Fingerprint, Health]] = {}
        for row in rows:
            self._rows.setdefault(row.path, {})[row.bytes, row.mtime_ns] = row

    def knows(self, name: str) -> bool:
        """Whether there is a row of this name."""
        return name in self._rows

    def holds(self, row: Health) -> bool:
        """Whether the manifest contains exactly this row."""
        return self._rows.get(row.path, {}).get((row.bytes, row.mtime_ns)) == row

    def examined(self, name: str, path: str, *, depth: str) -> Health | None:
        """The valid row of ``path`` at ``depth`` or deeper; None if it must be examined."""
        current = fingerprint(path) if name in self._rows else None
        row = self._rows[name].get(current) if current is not None else None
        if row is None or row.status == "unread":
            return None
        # A quick scan reads both ends of a video: it proves damage, but not that the middle is sound.
        return row if row.status == "bad" or depth == "quick" or row.depth == "full" else None

    def fault(self, name: str, path: str) -> str | None:
        """Why a file shouldn't be used: "" if it is fine or unknown, None if it has changed since it failed."""
        rows = self._rows.get(name, {})
        if all(row.status == "ok" for row in rows.values()):
            return ""  # without a stat call, for most files
        current = fingerprint(path)
        if current is None:
            return "missing, or not readable"
        row = rows.get(current)
        return None if row is None else row.reason


def read_manifest(path: Path) -> list[Health]:
    """The rows of a manifest, in order; a last row that was cut short by an interruption is skipped.

    Raises:
        UserError: not a manifest of this version, or an invalid row.
    """
    text = _read_text(path)
    if HEADER_LINE.startswith(text):  # empty, or interrupted while the header was written
        return []
    reader = csv.reader(io.StringIO(text[: whole_length(text)], newline=""), strict=True)
    header = tuple(next(reader, []))
    if header[:2] == COLUMNS[:2] and header != COLUMNS:  # of another version
        raise UserError(f"{path}:1: must be the columns {','.join(COLUMNS)}; delete the file and scan again")
    if header != COLUMNS:
        raise UserError(f"{path}: not a manifest of tools/scan_videos.py; give another file")
    rows, line = [], 2
    try:
        for cells in reader:
            values = dict(zip(COLUMNS, cells, strict=True))
            if values["status"] not in STATUSES or values["depth"] not in DEPTHS:
                raise ValueError(values["status"])
            rows.append(Health(**{name: _NUMBERS.get(name, str)(value) for name, value in values.items()}))
            line = reader.line_num + 1
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}:{line}: not a row of a manifest; delete this line and scan again") from error
    return rows


def whole_length(text: str) -> int:
    """The length of ``text`` without a last row that was cut short.

    A line break inside quotes belongs to a name: a row ends at a line break that an even number of quotes precedes.
    """
    end = text.rfind("\n") + 1
    while text.count('"', 0, end) % 2:
        end = text.rfind("\n", 0, end - 1) + 1
    return end


def _read_text(path: Path) -> str:
    # newline="": names may contain line breaks of any kind.
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


class ManifestWriter:
    """Appends rows to a manifest, each written before the next; creates the file if there is none."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and truncate a last row that was cut short; raises UserError if it isn't a manifest."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _read_text(path) if path.exists() else ""
        if text:
            read_manifest(path)
        whole = text[: whole_length(text)].encode("utf-8", errors="surrogateescape")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self._file, len(whole))
        if not whole:
            self._write(HEADER_LINE)

    def add(self, row: Health) -> None:
        """Append a row.

        Raises:
            UserError: it can't be written, as on a full disk; the earlier rows are kept.
        """
        self._write(csv_line(astuple(row)))

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def _write(self, text: str) -> None:
        # Unbuffered: if the disk is full, this row must fail, not a later write or the close.
        remaining = text.encode("utf-8", errors="surrogateescape")
        try:
            while remaining:
                remaining = remaining[os.write(self._file, remaining) :]
        except OSError as error:
            raise UserError(
                f"{self._path}: {error.strerror}; the rows so far are kept: free disk space, and scan again to resume"
            ) from error


def without_faulty(videos: VideoList, path: Path) -> VideoList:
    """Leave out the videos that failed the scan, and note how many and why.

    Videos whose file has changed since the scan, and videos that were never scanned, are kept.
    """
    manifest = Manifest(read_manifest(path))
    kept: list[int] = []
    reasons: Counter[str] = Counter()
    changed = unknown = 0
    for i in range(len(videos)):
        name = videos.name(i)
        reason = manifest.fault(name, videos.path(i))
        changed += reason is None
        unknown += not manifest.knows(name)
        if reason:
            reasons[reason] += 1
        else:
            kept.append(i)
    summary = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(6))
    if len(reasons) > 6:
        summary += f" and {len(reasons) - 6} other reasons"
    note = f"{path}: {len(videos) - len(kept)} of {len(videos)} videos left out" + (f" ({summary})" if summary else "")
    if changed:
        note += f"; {changed} faulty ones have changed since and are used"
    if unknown:
        note += f"; {unknown} were never scanned and are used"
    return videos.subset(kept).with_note(note)
