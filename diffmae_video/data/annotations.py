"""Read video lists, in our format and others, and folders of class folders into :class:`VideoList`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from diffmae_video.data.decoding.walk import IMAGE_SUFFIXES, VIDEO_SUFFIXES, files_below, format_left_out, is_system
from diffmae_video.data.list_forms import Entry, parse_list, refuser
from diffmae_video.data.manifest import without_faulty
from diffmae_video.data.video_list import VideoList, mirrored_name
from diffmae_video.errors import UserError

# Class counts of known collections, to detect a classes.txt of another one.
NUM_CLASSES = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "ssv2": 174, "ucf101": 101, "hmdb51": 51}
# Mirroring "Pushing something from left to right" shows another class.
NO_FLIP = ("ssv2",)


def read_videos(
    list_path: str | Path, *, root: str | Path = "", dataset: str = "list", manifest: str | Path | None = None
) -> VideoList:
    """Read a list of videos.

    Args:
        list_path: a CSV with the header ``path,label[,start_seconds,end_seconds]`` or a headerless list of one of the
            forms of :mod:`.list_forms`, with classes.txt in the same folder; for ``folder`` and ``images``, a folder of
            class folders.
        root: folder to which the list's paths are relative; unused for ``folder`` and ``images``.
        dataset: one of the ``NUM_CLASSES`` collections, "list", "folder" or "images".
        manifest: CSV written by tools/scan_videos.py; videos that failed its check are left out.

    Returns:
        the videos; their ``notes`` say what was left out, and why.

    Raises:
        UserError: an unknown format, no videos, or a label without a class.
    """
    list_path = Path(list_path)
    if dataset in ("folder", "images"):
        videos = _read_folder(list_path, dataset)
    elif dataset == "list" or dataset in NUM_CLASSES:
        videos = _read_list(list_path, str(root), dataset)
    else:
        names = ", ".join([*NUM_CLASSES, "list", "folder", "images"])
        raise UserError(f"dataset={dataset!r}: must be one of {names}")
    if not len(videos):
        raise UserError(f"{list_path}: no videos; see datasets/README.md for the formats")
    if manifest is None:
        return videos
    usable = without_faulty(videos, Path(manifest))
    if not len(usable):
        raise UserError(f"{usable.notes[-1]}; the first is {videos.path(0)}: check the root, or scan again")
    return usable


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one per line.

    Raises:
        UserError: an empty line, a name given twice, or text that isn't UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be text in UTF-8; save it as UTF-8") from error
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        refuse = refuser(path, number, line)
        if not line.strip():
            refuse("an empty line; write one class name per line, since labels are line numbers")
        if line in first:
            refuse(f"is line {first[line]}, too; names must differ, since classes are compared by name")
        first[line] = number
    return tuple(lines)


def _read_list(list_path: Path, root: str, dataset: str) -> VideoList:
    if list_path.is_dir():
        raise UserError(f"{list_path}: is a folder; give a list file, or dataset=folder (images) for class folders")
    entries = parse_list(list_path)
    classes_path = list_path.with_name("classes.txt")
    classes = read_classes(classes_path) if classes_path.exists() else ()
    notes = _check_classes(classes_path, classes, dataset)
    _check_labels(list_path, entries, len(classes) or NUM_CLASSES.get(dataset, 0), named=bool(classes))
    segments = [entry.segment or (np.nan, np.nan) for entry in entries]
    num_frames = [entry.num_frames for entry in entries]
    return VideoList.of(
        [entry.path for entry in entries],
        [entry.label for entry in entries],
        root=root,
        classes=classes,
        segments=np.array(segments, dtype=np.float64) if any(entry.segment for entry in entries) else None,
        flip_allowed=dataset not in NO_FLIP and not has_sides(classes),
        notes=notes,
        num_frames=np.array(num_frames, dtype=np.int64) if any(n >= 0 for n in num_frames) else None,
    )


def has_sides(classes: tuple[str, ...]) -> bool:
    """Whether two classes differ only in the words left and right, so that mirroring a video changes its class."""
    names = set(classes)
    return any(mirrored_name(name) != name and mirrored_name(name) in names for name in classes)


def _check_classes(classes_path: Path, classes: tuple[str, ...], dataset: str) -> list[str]:
    """Refuse more classes than the collection has; return a note if there are fewer."""
    expected = NUM_CLASSES.get(dataset, len(classes))
    if len(classes) > expected:
        raise UserError(
            f"{classes_path}: has {len(classes)} classes, {dataset} has {expected}; "
            "set data.dataset to the collection of the list"
        )
    return [f"{classes_path}: {len(classes)} of {dataset}'s {expected} classes"] if 0 < len(classes) < expected else []


def _check_labels(list_path: Path, entries: list[Entry], known: int, *, named: bool) -> None:
    """Check labels against the number of classes ``known``, of classes.txt if ``named``, else of the collection."""
    for entry in entries:
        if known and entry.label >= known:
            rule = f"-1 for none, or 0..{known - 1}" + (", a line of classes.txt" if named else "")
            refuse: Callable[[str], NoReturn] = refuser(list_path, entry.line, entry.path)
            refuse(f"label {entry.label} must be {rule}; prepare the list again")


def _read_folder(folder: Path, dataset: str) -> VideoList:
    """Read a folder of class folders; without class folders the videos have no labels."""
    suffixes, other = (VIDEO_SUFFIXES, "images") if dataset == "folder" else (IMAGE_SUFFIXES, "folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: must be a folder of class folders; give a folder, or dataset=list for a list file")
    found, left_out = files_below(folder, suffixes)
    if not found:
        there = f" ({format_left_out(left_out)})" if left_out else ""
        raise UserError(
            f"{folder}: no files of {', '.join(suffixes)}{there}; dataset={other} takes the other kind, and a list "
            "takes folders of images"
        )
    notes = [f"{folder}: left out {format_left_out(left_out)}"] if left_out else []
    path_parts = [Path(name).parts for name in found]
    top_level = [parts[0] for parts in path_parts if len(parts) == 1]
    classes = sorted({parts[0] for parts in path_parts if len(parts) > 1})
    if classes and top_level:
        raise UserError(
            f"{folder}: {len(top_level)} files ({top_level[0]}, ...) lie beside class folders ({classes[0]}, ...); "
            "move them into a class folder, or elsewhere"
        )
    folders = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_system(entry.name)}
    if empty := sorted(folders - set(classes)):
        notes.append(f"{folder}: {len(empty)} folders without such files are no classes ({', '.join(empty[:5])})")
    label_of = {name: i for i, name in enumerate(classes)}
    return VideoList.of(
        found,
        [label_of[parts[0]] if classes else -1 for parts in path_parts],
        root=str(folder),
        classes=classes,
        flip_allowed=not has_sides(tuple(classes)),
        notes=notes,
    )
