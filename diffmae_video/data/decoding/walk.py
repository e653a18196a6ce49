"""Find files below a folder, skipping hidden and system files; skipped entries are counted for a note."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

# Folders that archives and file servers add, in addition to hidden entries (".DS_Store", "._a.mp4" in macOS archives).
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden or belongs to a system."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def walk(root: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like :func:`os.walk`, but sorted, following links, and visiting each folder once.

    Yields:
        a folder's path relative to ``root`` ("" for ``root``), its files, and its hidden and system entries (files and
        folders, which are not entered).

    Raises:
        OSError: a folder can't be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=fail):
        stats = os.stat(folder)
        if (stats.st_dev, stats.st_ino) in seen:  # a link to a folder that was visited; it may be a cycle
            folders.clear()
            continue
        seen.add((stats.st_dev, stats.st_ino))
        system = [name for name in (*folders, *files) if is_system(name)]
        # In place: os.walk enters what is left in this list.
        folders[:] = sorted(name for name in folders if not is_system(name))
        below = os.path.relpath(folder, root)
        yield "" if below == "." else below, sorted(name for name in files if not is_system(name)), system


def files_below(root: str | Path, suffixes: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """Files with one of ``suffixes`` (any case) below ``root``, and counts of everything else.

    Returns:
        sorted paths relative to ``root``, and the number of entries of each other kind: a suffix, "no suffix" or
        "hidden".
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


def format_left_out(left_out: Counter[str]) -> str:
    """Counts as text, the highest first, such as "12 .txt, 3 hidden"."""
    kinds = sorted(left_out, key=lambda kind: (-left_out[kind], kind))
    summary = ", ".join(f"{left_out[kind]} {kind}" for kind in kinds[:8])
    return summary if len(kinds) <= 8 else f"{summary} and {len(kinds) - 8} other kinds"
