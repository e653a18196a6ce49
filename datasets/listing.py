"""Shared by the prepare scripts: find files, and write lists, class names and missing videos."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffmae_video.command_line import Parser, run_command
from diffmae_video.data.decoding.walk import IMAGE_SUFFIXES, VIDEO_SUFFIXES, walk
from diffmae_video.data.list_forms import HEADER, csv_line
from diffmae_video.errors import UserError

# Names of the folders into which downloads sort the splits.
SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class Clip:
    """A line of an official annotation file.

    Attributes:
        stems: possible names of its file, without suffix.
        label: index of its class; -1 for none.
        segments: for each stem, (start, end) seconds if that file is the full-length video, None if it is trimmed.
        folders: names of parent folders that distinguish its file from others of the same name, such as its class.
    """

    stems: tuple[str, ...]
    label: int
    segments: tuple[tuple[float, float] | None, ...] = (None,)
    folders: tuple[str, ...] = ()


class FileIndex:
    """Videos and folders of images below a root, by their name without suffix."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"--root {root}: must be a folder of videos")
        self.root = root
        self._found: dict[str, list[str]] = {}
        for below, files, _ in walk(root):
            if any(name.lower().endswith(IMAGE_SUFFIXES) for name in files):
                self._add(os.path.basename(below), below)
            for name in files:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in VIDEO_SUFFIXES:
                    self._add(stem, os.path.join(below, name))

    def find(self, stem: str, *, folders: Iterable[str] = ()) -> list[str]:
        """The paths of ``stem``, in order; of several, those with the most of ``folders`` among their parents."""
        paths = self._found.get(stem, [])
        matches = [len(set(Path(path).parts) & set(folders)) for path in paths]
        return [path for path, count in zip(paths, matches, strict=True) if count == max(matches)]

    def _add(self, stem: str, path: str) -> None:
        self._found.setdefault(stem, []).append(path)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines of an official text file, with their numbers.

    Raises:
        UserError: not text in UTF-8.
    """
    lines = enumerate(read_text(path).split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_text(path: Path) -> str:
    """The text of an official file, without a byte order mark.

    Raises:
        UserError: not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be text in UTF-8; download the official file again") from error


def write_collection(out: Path, index: FileIndex, classes: Sequence[str], splits: dict[str, Iterable[Clip]]) -> str:
    """Write ``classes.txt``, ``SPLIT.csv`` and ``SPLIT_missing.txt``; return a summary, one line per split.

    Args:
        out: folder to write to.
        index: the files below the root.
        classes: class names in the order of the labels.
        splits: {split: its clips}.

    Raises:
        UserError: a split without videos, or no video was found; nothing is written then.
    """
    matched = {split: _match(index, list(clips), split) for split, clips in splits.items()}
    for split, match in matched.items():
        if not match.rows and not match.missing:
            raise UserError(f"the official file of {split} names no videos; download it again")
    if not any(match.rows for match in matched.values()):
        missing = [stem for match in matched.values() for stem in match.missing]
        looked_for = f"none of the {len(missing)} videos is below it, such as {missing[0]}.mp4"
        raise UserError(f"--root {index.root}: {looked_for}; check --root")
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "classes.txt", "".join(f"{name}\n" for name in classes))
    return "\n".join(_write_split(out, split, match) for split, match in matched.items())


def prepare_split(
    arguments: list[str] | None = None,
    *,
    description: str | None,
    read: Callable[[Path, int], tuple[list[str], dict[str, list[Clip]]]],
) -> int:
    """Command line of a collection with three numbered splits.

    Args:
        arguments: of the command line; None for sys.argv.
        description: the script's docstring.
        read: function of the folder of split files and the number of a split; returns class names and the clips of
            each part.

    Returns:
        exit code; 2 after a user's mistake, with one line on standard error.
    """
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", required=True, type=Path, help="folder of the official split files")
    parser.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="which of the three splits")
    parser.add_argument("--root", required=True, type=Path, help="folder with the videos, at any depth")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    args = parser.parse_args(arguments)

    def prepare() -> int:
        classes, parts = read(args.splits, args.split)
        print(write_collection(args.out, FileIndex(args.root), classes, dict(parts)))
        return 0

    return run_command(prepare)


@dataclass
class _Match:
    """The clips of a split with and without files."""

    rows: list[tuple[object, ...]]
    missing: list[str]
    ambiguous: list[list[str]]  # for each clip with several equally good paths, these; the first is used


def _match(index: FileIndex, clips: list[Clip], split: str) -> _Match:
    match = _Match([], [], [])
    for clip in clips:
        for stem, segment in zip(clip.stems, clip.segments, strict=True):
            paths = index.find(stem, folders=(*SPLIT_FOLDERS[split], *clip.folders))
            if paths:
                match.rows.append((paths[0], clip.label, *(segment or ())))
                if len(paths) > 1:
                    match.ambiguous.append(paths)
                break
        else:
            match.missing.append(clip.stems[0])
    return match


def _write_split(out: Path, split: str, match: _Match) -> str:
    width = len(HEADER) if any(len(row) > 2 for row in match.rows) else 2
    rows = [HEADER[:width], *((*row, *[""] * (width - len(row))) for row in match.rows)]
    _replace(out / f"{split}.csv", "".join(csv_line(row) for row in rows))
    _replace(out / f"{split}_missing.txt", "".join(f"{stem}\n" for stem in match.missing))
    line = f"{out / f'{split}.csv'}: {len(match.rows)} of {len(match.rows) + len(match.missing)} videos found"
    if match.missing:
        line += f", {len(match.missing)} missing, listed in {out / f'{split}_missing.txt'}"
    if match.ambiguous:
        line += f"; {len(match.ambiguous)} have several files, the first is used ({', '.join(match.ambiguous[0][:3])})"
    unlabelled = sum(row[1] == -1 for row in match.rows)
    return line + (f"; {unlabelled} without label" if unlabelled else "")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(temporary, path)
