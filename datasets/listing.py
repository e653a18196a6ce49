"""What the prepare scripts share: finding files, and writing lists, class names and what is missing."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffmae_video.data.list_forms import HEADER
from diffmae_video.data.walk import VIDEO_SUFFIXES
from diffmae_video.errors import UserError


@dataclass(frozen=True)
class Clip:
    """A line of an official annotation file: the file's possible stems, its label, and the seconds that count.

    ``segments`` has, for each stem, (start, end) seconds if that file is the whole video, or None if it is cut.
    """

    stems: tuple[str, ...]
    label: int
    segments: tuple[tuple[float, float] | None, ...] = (None,)


class FileIndex:
    """The videos, and folders of images, below a root, by the stem of their names."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"--root {root}: must be a folder of videos")
        self._found: dict[str, list[str]] = {}
        for place, folders, files in os.walk(root, followlinks=True):
            folders.sort()
            images = [name for name in files if name.lower().endswith((".jpg", ".jpeg", ".png"))]
            if images:
                self._add(os.path.basename(place), os.path.relpath(place, root))
            for name in sorted(files):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in VIDEO_SUFFIXES:
                    self._add(stem, os.path.relpath(os.path.join(place, name), root))

    def find(self, stem: str, *, hint: str = "") -> str | None:
        """The path of ``stem``; of several, one with a folder ``hint`` on its way, else the first in order."""
        paths = self._found.get(stem, [])
        hinted = [path for path in paths if hint and hint in Path(path).parts]
        return next(iter([*hinted, *paths]), None)

    def _add(self, stem: str, path: str) -> None:
        self._found.setdefault(stem, []).append(path)


def write_collection(out: Path, index: FileIndex, classes: Sequence[str], splits: dict[str, Iterable[Clip]]) -> str:
    """Write ``classes.txt``, ``SPLIT.csv`` and ``SPLIT_missing.txt``; return a line to print for each split."""
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "classes.txt", "".join(f"{name}\n" for name in classes))
    lines = []
    for split, clips in splits.items():
        rows, missing = _match(index, clips, split)
        timed = any(len(row) > 2 for row in rows)
        _write_rows(out / f"{split}.csv", rows, timed=timed)
        _replace(out / f"{split}_missing.txt", "".join(f"{stem}\n" for stem in missing))
        told = f", {len(missing)} missing, listed in {out / f'{split}_missing.txt'}" if missing else ""
        lines.append(f"{out / f'{split}.csv'}: {len(rows)} of {len(rows) + len(missing)} videos found{told}")
    return "\n".join(lines)


def prepare_split(
    arguments: list[str] | None = None,
    *,
    description: str | None,
    read: Callable[[Path, int], tuple[list[str], dict[str, list[Clip]]]],
) -> int:
    """The command line of a collection that comes in three numbered splits.

    Args:
        arguments: as given, or None for those of the process.
        description: the script's docstring.
        read: from the folder of split files and the number of a split to class names and the clips of each part.

    Returns:
        the exit code: 2, with one line on standard error, where something can't be read.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", required=True, type=Path, help="folder of the official split files")
    parser.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="which of the three splits")
    parser.add_argument("--root", required=True, type=Path, help="folder below which the videos lie")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    options = parser.parse_args(arguments)
    try:
        classes, parts = read(options.splits, options.split)
        print(write_collection(options.out, FileIndex(options.root), classes, dict(parts)))
    except (UserError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _match(index: FileIndex, clips: Iterable[Clip], split: str) -> tuple[list[tuple[object, ...]], list[str]]:
    rows: list[tuple[object, ...]] = []
    missing = []
    for clip in clips:
        for stem, segment in zip(clip.stems, clip.segments, strict=True):
            path = index.find(stem, hint=split)
            if path is not None:
                rows.append((path, clip.label, *(segment or ())))
                break
        else:
            missing.append(clip.stems[0])
    return rows, missing


def _write_rows(path: Path, rows: list[tuple[object, ...]], *, timed: bool) -> None:
    temporary = path.with_suffix(".part")
    with open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        width = len(HEADER) if timed else 2
        writer.writerow(HEADER[:width])
        writer.writerows((*row, *[""] * (width - len(row))) for row in rows)
    os.replace(temporary, path)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    os.replace(temporary, path)
