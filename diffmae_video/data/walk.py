"""Files below a folder, without what systems leave there; what was left out is counted, so that it can be said."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

# Beside hidden entries (".DS_Store", the "._a.mp4" of macOS archives): what archives and file servers add.
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system's own."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def walk(root: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Folders below ``root`` in order, as :func:`os.walk` gives them, each once, following links.

    Yields:
        a folder's path relative to ``root`` ("" for itself), its files to consider, and its entries that are hidden
        or a system's own (files and folders, the latter not entered).

    Raises:
        OSError: a folder that can't be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=fail):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen:  # a link back to a folder that was walked
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        system = [name for name in (*folders, *files) if is_system(name)]
        folders[:] = sorted(name for name in folders if not is_system(name))
        below = os.path.relpath(place, root)
        yield "" if below == "." else below, sorted(name for name in files if not is_system(name)), system


def files_below(root: str | Path, suffixes: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """Files with one of ``suffixes`` (any case) below ``root``, relative to it, in order; and what else is there.

    Returns:
        the paths, and how many entries of each kind were left out: a suffix, "no suffix" or "hidden".
    """
    found: list[str] = []
    left_out: Counter[str] = Counter()
    for below, files, system in walk(root):
        left_out["hidden"] += len(system)
        for name in files:
            if name.lower().endswith(tuple(suffixes)):
                found.append(os.path.join(below, name))
            else:
                left_out[os.path.splitext(name)[1].lower() or "no suffix"] += 1
    return found, +left_out


def tell_left_out(left_out: Counter[str]) -> str:
    """Counts in words, such as "12 .txt, 3 hidden", the highest first."""
    kinds = sorted(left_out, key=lambda kind: (-left_out[kind], kind))
    told = ", ".join(f"{left_out[kind]} {kind}" for kind in kinds[:8])
    return told if len(kinds) <= 8 else f"{told} and {len(kinds) - 8} other kinds"
