"""Count of the videos that could not be read in training, and the bound above which a run stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from diffmae_video.engine.distributed import World, sum_over_ranks
from diffmae_video.engine.errors import TrainingStopped

# Before this many videos have been seen, a share says too little to stop a run for.
ENOUGH_VIDEOS = 200


class TooManyBroken(TrainingStopped):
    """The share of unreadable videos is above the bound; the message has the first causes."""


class BrokenVideos:
    """Unreadable videos that this rank's batches passed over, with the first causes.

    Args:
        limit: share of unreadable videos, in 0..1, above which :meth:`check` raises.
    """

    def __init__(self, *, limit: float) -> None:
        self.limit = limit
        self.count = 0
        self.first: list[str] = []

    def add(self, broken: Sequence[tuple[str, str]]) -> None:
        """Note the (path, reason) pairs of one batch."""
        self.count += len(broken)
        for path, reason in broken[: 3 - len(self.first)]:
            self.first.append(f"{path}: {reason}")

    def check(self, world: World, videos_seen: int) -> None:
        """Raise on every rank alike when too many of the videos seen so far were unreadable.

        Raises:
            TooManyBroken: with this rank's first causes.
        """
        total = int(sum_over_ranks(world, torch.tensor(float(self.count), device=world.device)))
        # A replacement is drawn for each broken video, so reads are the videos used plus the broken ones.
        share = total / (videos_seen + total)
        if videos_seen >= ENOUGH_VIDEOS and share > self.limit:
            causes = "; ".join(self.first) or "see the other ranks' logs"
            raise TooManyBroken(
                f"{total} of {videos_seen + total} videos could not be read ({share:.1%}, bound data.max_broken="
                f"{self.limit:g}): {causes}; list them with tools/scan_videos.py and give data.manifest"
            )

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"count": self.count, "first": list(self.first)}

    def load(self, state: dict[str, Any]) -> None:
        """Go on counting from a checkpoint's state."""
        self.count, self.first = state["count"], list(state["first"])
