"""The manifest of a collection: what a scan found out about each file, held to the file that it looked at."""

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
from diffmae_video.data.videos import VideoList
from diffmae_video.errors import UserError

STATUSES = ("ok", "bad", "unread")
DEPTHS = ("quick", "full")


@dataclass(frozen=True)
class Health:
    """A manifest row.

    Attributes:
        path: as in the list.
        status: "ok"; "bad": the file itself is at fault; or "unread": it wasn't there, not to be opened, or the
            machine gave up (time, memory, a crash). Only the first two hold until the file changes.
        reason: why it isn't ok, in a few words.
        depth: "quick" or "full", how much of it was decoded.
        bytes, mtime_ns: of the file that was examined, see :func:`fingerprint`; 0 where it couldn't be opened.
        frames, fps, width, height, codec, duration_seconds: 0 or empty where it couldn't be opened.
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
    """Size in bytes and time of the last change in ns; None where there is nothing that may be read.

    Of a folder of images: the sum of the sizes and the latest time, since an image can be replaced without a change
    of the folder's own time.
    """
    try:
        found = os.stat(path)
        if not os.access(path, os.R_OK):
            return None
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size, found.st_mtime_ns
        with os.scandir(path) as entries:
            held = [entry.stat() for entry in entries]
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return sum(entry.st_size for entry in held), max([found.st_mtime_ns, *(entry.st_mtime_ns for entry in held)])


class Manifest:
    """Rows of earlier scans, looked up by name and by the file that was examined.

    Two roots that hold other files under one name have a row each, and a copied root finds the rows of the original
    as long as the copy keeps sizes and times (``rsync -a``, ``cp -p``).
    """

    def __init__(self, rows: Iterable[Health]) -> None:
        """Later rows of a file replace earlier ones."""
        self._rows: dict[str, dict[Fingerprint, Health]] = {}
        for row in rows:
            self._rows.setdefault(row.path, {})[row.bytes, row.mtime_ns] = row

    def knows(self, name: str) -> bool:
        """Whether there is any row of this name."""
        return name in self._rows

    def holds(self, row: Health) -> bool:
        """Whether there is this very row, so that writing it again would only make the file longer."""
        return self._rows.get(row.path, {}).get((row.bytes, row.mtime_ns)) == row

    def examined(self, name: str, path: str, *, depth: str) -> Health | None:
        """The row that spares examining ``path`` at ``depth``; None where it has to be looked at."""
        now = fingerprint(path) if name in self._rows else None
        row = self._rows[name].get(now) if now is not None else None
        if row is None or row.status == "unread":
            return None
        # What is bad at its ends is bad, but what is sound there needn't be sound.
        return row if row.status == "bad" or depth == "quick" or row.depth == "full" else None

    def fault(self, name: str, path: str) -> str | None:
        """Why a file shouldn't be used: "" for no reason, None if it has changed since it was found at fault."""
        rows = self._rows.get(name, {})
        if all(row.status == "ok" for row in rows.values()):
            return ""  # and spares a look at the disk, for most files
        now = fingerprint(path)
        if now is None:
            return "not there, or not to be read"
        row = rows.get(now)
        return None if row is None else row.reason


def read_manifest(path: Path) -> list[Health]:
    """The rows of a manifest, in order; a last row that an interruption cut short is left out.

    Raises:
        UserError: not a manifest of this version, or a row that isn't one.
    """
    text = _read_text(path)
    if HEADER_LINE.startswith(text):  # not begun, or cut short while it was
        return []
    reader = csv.reader(io.StringIO(text[: whole_length(text)], newline=""), strict=True)
    if tuple(next(reader, [])) != COLUMNS:
        raise UserError(f"{path}:1: must be the columns {','.join(COLUMNS)}; delete the file and scan again")
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

    A line break within quotes belongs to a name: a row has ended where the quotes so far are paired.
    """
    end = text.rfind("\n") + 1
    while text.count('"', 0, end) % 2:
        end = text.rfind("\n", 0, end - 1) + 1
    return end


def _read_text(path: Path) -> str:
    # newline="": names may hold line breaks of any kind.
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


class ManifestWriter:
    """Adds rows to a manifest, each on the disk before the next; starts it where there is none."""

    def __init__(self, path: Path) -> None:
        """Open ``path``, which is no other file than a manifest, and cut off a row that was cut short."""
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
            UserError: it can't be written, as on a full disk; the rows before it stay.
        """
        self._write(csv_line(astuple(row)))

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def _write(self, text: str) -> None:
        # Straight to the file: what a full disk refuses must not wait in a buffer for the next write or the close.
        left = text.encode("utf-8", errors="surrogateescape")
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise UserError(
                f"{self._path}: {error.strerror}; the rows before are kept: make room, and scan again to go on"
            ) from error


def without_faulty(videos: VideoList, path: Path) -> VideoList:
    """Leave out the videos that a manifest finds at fault; what it left out, and why, joins the list's notes.

    A video at fault whose file has changed since, and one that was never examined, stay in.
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
    told = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(6))
    if len(reasons) > 6:
        told += f" and {len(reasons) - 6} other reasons"
    note = f"{path}: {len(videos) - len(kept)} of {len(videos)} videos left out" + (f" ({told})" if told else "")
    if changed:
        note += f"; {changed} faulty ones changed since and are used"
    if unknown:
        note += f"; {unknown} were never scanned and are used"
    return videos.subset(kept).noted(note)
