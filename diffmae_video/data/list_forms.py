"""Formats of video lists. Every line is used, or refused with its number and the rule.

A CSV with a header is read by its columns. A line of a headerless list, as in VideoMAE, VideoMAE V2 and SlowFast, is a
name and one to three integers:

    NAME label                     a video
    NAME 0 -1                      a video without label (VideoMAE V2's pre-training)
    NAME 0 -1 label                a video
    FOLDER label                   a folder of images
    FOLDER num_frames label        a folder of images
    FOLDER start num_frames        the same without label (VideoMAE V2's pre-training); every start is 0 or 1
    FOLDER start num_frames label  the same with both
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from diffmae_video.data.decoding.walk import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from diffmae_video.errors import UserError

HEADER = ("path", "label", "start_seconds", "end_seconds")
# Accepted spellings of the columns; case doesn't matter.
_SPELLINGS = {
    "path": ("path", "video_path", "file_path", "filepath", "file", "filename", "file_name", "video"),
    "label": ("label", "class", "target"),
    "start_seconds": ("start_seconds", "time_start"),
    "end_seconds": ("end_seconds", "time_end"),
}
_COLUMN = {spelling: column for column, spellings in _SPELLINGS.items() for spelling in spellings}
_DELIMITERS = ",\t;"
_MAX_LABEL = 2**31 - 1

# A separator is a comma, semicolon or bar with blanks around it, or a run of blanks and tabs.
_PLAIN = re.compile(r"(?P<path>\S.*?)(?P<sep>[ \t]*[,;|][ \t]*|[ \t]+)(?P<last>[^\s,;|]+)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Entry:
    """A line of a list.

    Attributes:
        line: its number, counted from 1.
        path: as in the list.
        label: -1 for none.
        segment: start and end seconds, or None for the whole video.
        num_frames: number of images in a folder; -1 if the list doesn't say.
    """

    line: int
    path: str
    label: int
    segment: tuple[float, float] | None = None
    num_frames: int = -1


def parse_list(list_path: Path) -> list[Entry]:
    """Read the entries of a list file.

    Raises:
        UserError: a line of an unknown form; the message has its number.
    """
    # newline="": the csv module must see line breaks unchanged, since quoted names may contain some.
    with open(list_path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        text = file.read()
    if "\0" in text:
        raise UserError(f"{list_path}: must be text in UTF-8, not UTF-16 or a binary file; save it as UTF-8")
    return _parse_columns(list_path, text) if _has_header(list_path, text) else _parse_plain(list_path, text)


def parse_label(text: str, refuse: Callable[[str], NoReturn]) -> int:
    """Parse a label, -1 for empty text; ``refuse`` raises the error."""
    text = text.strip()
    if not text:
        return -1
    if not _INTEGER.fullmatch(text) or not -1 <= int(text) <= _MAX_LABEL:
        refuse(f"label {text[:40]!r} must be the number of a line in classes.txt, from 0, or -1 or nothing for none")
    return int(text)


def parse_segment(start: str, end: str, refuse: Callable[[str], NoReturn]) -> tuple[float, float] | None:
    """Parse start and end seconds, None if both are empty; ``refuse`` raises the error."""
    start, end = start.strip(), end.strip()
    if not start and not end:
        return None
    if not start or not end:
        refuse(f"start {start or 'empty'}, end {end or 'empty'}: give both seconds of a segment, or neither")
    try:
        begin, stop = float(start), float(end)
    except ValueError:
        refuse(f"start {start[:40]!r}, end {end[:40]!r}: must be seconds")
    if not (math.isfinite(begin) and math.isfinite(stop) and 0 <= begin < stop):
        refuse(f"start {start}, end {end}: must be finite seconds, 0 <= start < end")
    return begin, stop


def refuser(path: Path, line: int, text: str) -> Callable[[str], NoReturn]:
    """A function that raises a UserError with file, line number, line, and the rule that it is called with."""

    def refuse(rule: str) -> NoReturn:
        short = text if len(text) <= 120 else text[:117] + "..."
        raise UserError(f"{path}:{line}: {short!r}: {rule}")

    return refuse


def read_rows(path: Path, text: str, *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The non-empty rows of a CSV, each with the number of its first line.

    Raises:
        UserError: a quote that isn't closed, or a cell above the csv module's size limit.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: {error}; quotes must be closed, and doubled within quotes") from error


def csv_line(cells: Sequence[object]) -> str:
    """A row of a CSV, with a line feed at its end."""
    line = io.StringIO()
    # Before Python 3.13 the writer quotes carriage returns only if the line terminator contains one.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _first_line(text: str) -> str:
    return next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")


def _header_cells(line: str) -> tuple[str, list[str]]:
    """The delimiter of a header, and its cells in lower case."""
    delimiter = max(_DELIMITERS, key=line.count)
    return delimiter, [cell.strip().strip('"').strip().lower() for cell in line.split(delimiter)]


def _has_header(list_path: Path, text: str) -> bool:
    line = _first_line(text)
    _, cells = _header_cells(line)
    if "youtube_id" in cells:
        raise UserError(f"{list_path}:1: is an official Kinetics file; convert it with datasets/kinetics.py")
    columns = [_COLUMN.get(cell) for cell in cells]
    return "path" in columns and ("label" in columns or "start_seconds" in columns)


def _parse_columns(list_path: Path, text: str) -> list[Entry]:
    delimiter, _ = _header_cells(_first_line(text))
    rows = read_rows(list_path, text, delimiter=delimiter)
    line, header = next(rows)
    columns = [_COLUMN.get(cell.strip().lower(), cell.strip()) for cell in header]
    refuse = refuser(list_path, line, delimiter.join(header))
    for column in columns:
        if column not in HEADER:
            refuse(f"column {column!r} is unknown; the columns are path,label[,start_seconds,end_seconds]")
        if columns.count(column) > 1:
            refuse(f"column {column!r} is given twice; keep one")
    if ("start_seconds" in columns) != ("end_seconds" in columns):
        refuse("segments need both start_seconds and end_seconds; add the other column")
    entries = []
    for line, cells in rows:
        refuse = refuser(list_path, line, delimiter.join(cells))
        if len(cells) != len(columns):
            refuse(f"{len(cells)} cells, the header has {len(columns)}; a name with {delimiter!r} in it needs quotes")
        row = dict(zip(columns, cells, strict=True))
        if not row["path"].strip():
            refuse("the path is empty")
        segment = parse_segment(row.get("start_seconds", ""), row.get("end_seconds", ""), refuse)
        entries.append(Entry(line, row["path"], parse_label(row.get("label", ""), refuse), segment))
    return entries


@dataclass(frozen=True)
class _Plain:
    """A line of a headerless list: a name and one to three integers."""

    line: int
    text: str
    path: str
    numbers: tuple[int, ...]

    @property
    def is_folder(self) -> bool:
        """Whether the name has neither a video nor an image suffix."""
        return not self.path.lower().endswith((*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))


def _parse_plain(list_path: Path, text: str) -> list[Entry]:
    lines = [
        _split_plain(list_path, number, line.strip())
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1)
        if line.strip()
    ]
    folders = [line for line in lines if line.is_folder]
    # "FOLDER start num_frames" and "FOLDER num_frames label" look alike. If every first number is 0 or 1 it is a start:
    # as num_frames it would make a list of folders of at most one image.
    starts = all(len(line.numbers) == 2 and line.numbers[0] in (0, 1) for line in folders)
    entries = []
    for line in lines:
        refuse = refuser(list_path, line.line, line.text)
        if not line.is_folder:
            entries.append(_video_entry(line, refuse))
            continue
        if len(line.numbers) != len(folders[0].numbers):
            refuse(
                f"{len(line.numbers)} numbers after the name, line {folders[0].line} has {len(folders[0].numbers)}; "
                "write names that end in numbers in a CSV with the header path,label"
            )
        entries.append(_folder_entry(line, starts=starts, refuse=refuse))
    return entries


def _split_plain(list_path: Path, number: int, text: str) -> _Plain:
    refuse = refuser(list_path, number, text)
    # Take integers off the end until the rest looks like a name: names may contain blanks and end in digits.
    name, separator = text, ""
    numbers: list[int] = []
    while len(numbers) < 3 and (found := _PLAIN.fullmatch(name)):
        kind = found["sep"].strip(" \t") or ("\t" if "\t" in found["sep"] else " ")
        # A line has one kind of separator: in "a b,3" the blank belongs to the name.
        if (separator and kind != separator) or not _INTEGER.fullmatch(found["last"]):
            break
        separator = kind
        name = found["path"]
        numbers.insert(0, int(found["last"]))
        if name.lower().rstrip('"').endswith((*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)):
            break
    if not numbers:
        refuse("must end in an integer label, -1 for none; see datasets/README.md")
    if name.endswith((",", ";", "|")):
        refuse("an empty column before the numbers; quote a name that ends in a separator")
    if name.startswith('"'):
        if not re.fullmatch(r'"([^"]|"")+"', name):
            refuse("a name that begins with a quote must be in quotes as a whole, quotes within it doubled")
        name = name[1:-1].replace('""', '"')
    return _Plain(number, text, name, tuple(numbers))


def _video_entry(line: _Plain, refuse: Callable[[str], NoReturn]) -> Entry:
    if len(line.numbers) > 1 and line.numbers[:2] != (0, -1):
        refuse(
            "parts of videos by frame numbers are not supported; the forms are NAME label and NAME 0 -1 [label], "
            "and parts by seconds need a CSV with the header path,label,start_seconds,end_seconds"
        )
    label = line.numbers[-1] if len(line.numbers) != 2 else -1
    return Entry(line.line, line.path, parse_label(str(label), refuse))


def _folder_entry(line: _Plain, *, starts: bool, refuse: Callable[[str], NoReturn]) -> Entry:
    if len(line.numbers) == 1:
        return Entry(line.line, line.path, parse_label(str(line.numbers[0]), refuse))
    if len(line.numbers) == 2:
        start, (num_frames, label) = (1, (line.numbers[1], -1)) if starts else (1, line.numbers)
    else:
        start, num_frames, label = line.numbers
    if start not in (0, 1):
        refuse(f"start {start}: must be 0 or 1, the whole folder; parts by image numbers are not supported")
    if num_frames < 1:
        refuse(f"num_frames {num_frames}: must be at least 1")
    return Entry(line.line, line.path, parse_label(str(label), refuse), num_frames=num_frames)
