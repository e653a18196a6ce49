"""Lists of videos, as we write them and as others do, to :class:`VideoList`."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

import numpy as np

from diffmae_video.data.videos import VideoList
from diffmae_video.errors import UserError

HEADER = ("path", "label", "start_seconds", "end_seconds")
VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

# Collections whose class count is known, so that the wrong classes.txt is noticed.
NUM_CLASSES = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "ssv2": 174, "ucf101": 101, "hmdb51": 51}
# Mirroring "Pushing something from left to right" shows another class.
_NO_FLIP = ("ssv2",)

# "path label", and the frame folders' "path num_frames label", with any run of blanks, commas or semicolons.
_LINE = re.compile(r"^(?P<path>.+?)[\s,;|]+(?P<label>-?\d+)$")


def read_videos(
    list_path: str | Path, *, root: str | Path = "", dataset: str = "list", manifest: str | Path | None = None
) -> VideoList:
    """Read a list of videos.

    Args:
        list_path: our CSV (header ``path,label[,start_seconds,end_seconds]``, classes.txt beside it), a headerless
            "path label" list, or, for ``folder`` and ``images``, a folder of class folders.
        root: folder that the list's paths are relative to; unused for ``folder`` and ``images``.
        dataset: one of the ``NUM_CLASSES`` collections, "list", "folder" or "images".
        manifest: CSV written by tools/scan_videos.py; videos it calls bad are left out.

    Raises:
        UserError: not such a list, no videos, or a label without a class.
    """
    list_path = Path(list_path)
    if dataset in ("folder", "images"):
        videos = _read_folder(list_path, VIDEO_SUFFIXES if dataset == "folder" else IMAGE_SUFFIXES)
    elif dataset == "list" or dataset in NUM_CLASSES:
        videos = _read_list(list_path, str(root), dataset)
    else:
        names = ", ".join([*NUM_CLASSES, "list", "folder", "images"])
        raise UserError(f"dataset={dataset!r}: must be one of {names}")
    if manifest is not None:
        videos = without_bad(videos, Path(manifest))
    if not len(videos):
        raise UserError(f"{list_path}: no videos; see datasets/README.md for the formats")
    return videos


def without_bad(videos: VideoList, manifest: Path) -> VideoList:
    """Leave out the videos that a manifest calls bad; those it doesn't know stay."""
    with open(manifest, newline="", encoding="utf-8", errors="surrogateescape") as file:
        bad = {row["path"] for row in csv.DictReader(file) if row["status"] == "bad"}
    return videos.subset([i for i in range(len(videos)) if videos.name(i) not in bad])


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line."""
    return tuple(path.read_text(encoding="utf-8").rstrip("\n").split("\n"))


def _read_list(list_path: Path, root: str, dataset: str) -> VideoList:
    with open(list_path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        text = file.read()
    ours = text.partition("\n")[0].strip().split(",")[:2] == list(HEADER[:2])
    names, labels, segments = _parse_ours(list_path, text) if ours else (*_parse_plain(list_path, text), None)
    beside = list_path.with_name("classes.txt")
    classes = read_classes(beside) if beside.exists() else ()
    _check_labels(list_path, labels, classes, dataset)
    return VideoList.of(
        names, labels, root=root, classes=classes, segments=segments, flip_allowed=dataset not in _NO_FLIP
    )


def _parse_ours(list_path: Path, text: str) -> tuple[list[str], list[int], np.ndarray | None]:
    names, labels, segments = [], [], []
    reader = csv.DictReader(io.StringIO(text, newline=""))
    timed = "start_seconds" in (reader.fieldnames or ())
    for row in reader:
        try:
            names.append(row["path"])
            labels.append(int(row["label"]))
            if timed:
                segments.append((_seconds(row["start_seconds"]), _seconds(row["end_seconds"])))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{list_path}:{reader.line_num}: {row} is not path,label[,start_seconds,end_seconds]"
            ) from error
    return names, labels, np.array(segments, dtype=np.float64).reshape(-1, 2) if timed else None


def _seconds(text: str | None) -> float:
    return float(text) if text else float("nan")


def _parse_plain(list_path: Path, text: str) -> tuple[list[str], list[int]]:
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = _LINE.match(line.strip())
        if found is None:
            raise UserError(f"{list_path}:{number}: {line!r} does not end in an integer label; see datasets/README.md")
        pairs.append((found["path"], int(found["label"])))
    inner = [_LINE.match(name) for name, _ in pairs]
    # Frame folders are listed as "path num_frames label": then what is left of every line ends in a number.
    if pairs and all(found and not Path(name).suffix for (name, _), found in zip(pairs, inner, strict=True)):
        pairs = [(found["path"], label) for found, (_, label) in zip(inner, pairs, strict=True) if found]
    return [name for name, _ in pairs], [label for _, label in pairs]


def _check_labels(list_path: Path, labels: list[int], classes: tuple[str, ...], dataset: str) -> None:
    expected = NUM_CLASSES.get(dataset, len(classes))  # 0: any number
    known = len(classes) or expected
    if known != expected:
        raise UserError(
            f"{list_path}: classes.txt has {known} classes, {dataset} has {expected}; "
            "data.dataset=list takes any number"
        )
    if labels and (min(labels) < -1 or (known and max(labels) >= known)):
        wrong = min(labels) if min(labels) < -1 else max(labels)
        rule = f"-1 for none, or 0..{known - 1}, a line of classes.txt" if known else "-1 for none, or 0 and up"
        raise UserError(f"{list_path}: label {wrong} must be {rule}; prepare the list again")


def _read_folder(folder: Path, suffixes: tuple[str, ...]) -> VideoList:
    """A folder of class folders; one without class folders gives videos without labels."""
    if not folder.is_dir():
        raise UserError(f"{folder}: must be a folder of class folders; give a folder, or dataset=list for a list file")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    named = [(name, label) for label, c in enumerate(classes) for name in _files(folder, c, suffixes)]
    if not named:
        classes, named = [], [(name, -1) for name in _files(folder, "", suffixes)]
    return VideoList.of([name for name, _ in named], [label for _, label in named], root=str(folder), classes=classes)


def _files(folder: Path, below: str, suffixes: tuple[str, ...]) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder / below):
        folders.sort()
        found += [
            os.path.relpath(os.path.join(place, f), folder) for f in sorted(files) if f.lower().endswith(suffixes)
        ]
    return found
