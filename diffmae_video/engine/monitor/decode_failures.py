"""The videos that could not be read: each named once, counted, and bounded in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffmae_video.data.list_forms import csv_line
from diffmae_video.engine.distributed.context import DistributedContext, any_rank, gather_objects
from diffmae_video.errors import TrainingStopped
from diffmae_video.files import replace_text

# Before this many videos have been seen, a share says too little to stop a run for.
ENOUGH_VIDEOS = 200
COLUMNS = ("path", "reason", "first_step")

Unread = tuple[str, str]  # (path, reason)


class TooManyDecodeFailures(TrainingStopped):
    """The share of unreadable videos is above the bound; the message has the first causes."""


class DecodeFailures:
    """Unreadable videos over all ranks: how often one was met, and which files they are.

    ``folder/broken.csv`` has a row a file: its path, the reason, and the step at which it was first met.

    Args:
        folder: of the stage.
        world: every rank calls :meth:`add` and has the same counts; rank 0 writes.
        limit: share of unreadable videos, in 0..1, above which :meth:`check` raises.
    """

    def __init__(self, folder: Path, *, world: DistributedContext, limit: float) -> None:
        self.path = folder / "broken.csv"
        self.world = world
        self.limit = limit
        self.reads = 0
        self.files: dict[str, tuple[str, int]] = {}  # path: reason, first step

    def add(self, unread: Sequence[Unread], step: int) -> list[Unread]:
        """Count the videos that this rank couldn't read in a training step.

        Returns:
            those of all ranks that no step has met before.
        """
        if not any_rank(self.world, bool(unread)):  # cheap, and nearly always so
            return []
        everyone = [pair for pairs in gather_objects(self.world, list(unread)) for pair in pairs]
        self.reads += len(everyone)
        return self.name(everyone, step)

    def name(self, unread: Sequence[Unread], step: int) -> list[Unread]:
        """Note files without counting reads, the same on every rank; returns those that are new."""
        fresh = {path: reason for path, reason in unread if path not in self.files}
        self.files |= {path: (reason, step) for path, reason in fresh.items()}
        if fresh and self.world.is_main:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            rows = [(path, reason, step) for path, reason in fresh.items()]
            with self.path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(map(csv_line, rows if file.tell() else [COLUMNS, *rows]))
        return list(fresh.items())

    def check(self, videos_seen: int) -> None:
        """Raise, on every rank alike, when too many of the videos seen so far were unreadable.

        Raises:
            TooManyDecodeFailures: with the first causes.
        """
        # A replacement is drawn for each broken video, so reads are the videos used plus the broken ones.
        share = self.reads / (videos_seen + self.reads) if self.reads else 0.0
        if videos_seen >= ENOUGH_VIDEOS and share > self.limit:
            causes = "; ".join(f"{path}: {reason}" for path, (reason, _) in list(self.files.items())[:3])
            raise TooManyDecodeFailures(
                f"{self.reads} of {videos_seen + self.reads} videos could not be read ({share:.1%}, bound "
                f"data.max_broken={self.limit:g}), {len(self.files)} files: {causes}; all are in {self.path}: mend "
                "them, or leave them out by tools/scan_videos.py and data.manifest"
            )

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"reads": self.reads, "files": {path: list(entry) for path, entry in self.files.items()}}

    def load(self, state: dict[str, Any] | None) -> None:
        """Go on counting from a checkpoint's state, or from nothing; the file forgets what was met after it."""
        state = state or {"reads": 0}
        self.reads = state["reads"] if "reads" in state else state["count"]  # "count": version 0.1.0's, without files
        self.files = {path: (reason, step) for path, (reason, step) in state.get("files", {}).items()}
        if self.world.is_main:
            write_broken(self.path, [(path, *entry) for path, entry in self.files.items()])


def write_broken(path: Path, rows: Sequence[tuple[str, str, int | None]]) -> None:
    """Write a whole broken.csv: (path, reason, step) a row; none where there is nothing to name."""
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, "".join(csv_line(row) for row in [COLUMNS, *rows]))
    else:
        path.unlink(missing_ok=True)
