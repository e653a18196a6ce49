"""Testing a classifier: softmax averaged over all views of a video, each video counted exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from diffmae_video.data import TestViews, test_loader
from diffmae_video.data.normalize import normalize
from diffmae_video.engine.distributed.context import DistributedContext, gather_objects, needs_all_ranks
from diffmae_video.engine.monitor.decode_failures import Unread
from diffmae_video.engine.monitor.metrics import Progress


@dataclass(frozen=True)
class Scores:
    """Result of a test.

    Attributes:
        top1, top5: shares of the videos that could be read; NaN where none could.
        used, total: videos that were read, and all of the list.
        unread: (path, reason) of the others.
    """

    top1: float
    top5: float
    used: int
    total: int
    unread: list[Unread]

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}, used {self.used} of {self.total} videos"

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        return dict(vars(self))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    views: TestViews,
    *,
    world: DistributedContext,
    dtype: torch.dtype,
    batch_size: int,
    num_workers: int,
    mean: Sequence[float],
    std: Sequence[float],
    name: str = "test",
    named: set[str] | None = None,
) -> Scores:
    """Score ``model`` on every video of ``views``, shared out over the ranks without padding.

    A video that can't be read is never replaced: it is left out of the scores and named in them, and on the terminal
    unless its path is in ``named`` already, which it joins.
    """
    named = set() if named is None else named
    model.eval()
    loader = test_loader(views, batch_size=batch_size, rank=world.rank, world_size=world.size, num_workers=num_workers)
    # Under FSDP2 a rank whose share is shorter must go on calling the model while the others do.
    rounds = max(gather_objects(world, len(loader))) if needs_all_ranks(model) else len(loader)
    rows: list[tuple[int, bool, bool]] = []
    unread: list[Unread] = []
    progress = Progress(name, total=len(loader), world=world)
    for done, batch in enumerate(loader, start=1):
        for kind, line in batch["notes"].items():
            progress.note_once(kind, line)
        probabilities = _probabilities(model, batch["clips"].to(world.device), world, dtype, mean, std)
        ranks = label_ranks(probabilities, batch["label"].to(world.device)).tolist()
        for index, rank, error in zip(batch["index"].tolist(), ranks, batch["error"], strict=True):
            if error:
                unread.append((views.videos.path(index), error))
                _name(progress, unread[-1:], named)
            else:
                rows.append((index, rank < 1, rank < 5))
        progress.update(done, f"{len(rows)} videos")
    for _ in range(rounds - len(loader)):
        _probabilities(model, _blank(views, world.device), world, dtype, mean, std)
    scores = _scores(gather_objects(world, (rows, unread)), total=len(views))
    _name(progress, scores.unread, named)  # those of the other ranks
    progress.close()
    return scores


def _name(progress: Progress, unread: Sequence[Unread], named: set[str]) -> None:
    for path, reason in unread:
        if path not in named:
            named.add(path)
            progress.note(f"{progress.label}: can't read {path}: {reason}")


def label_ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes score above the label, for scores (B, K) and labels (B,); ties count against it.

    A constant classifier must not be right by the order in which a sort breaks its ties.
    """
    own = scores.gather(1, labels[:, None])
    return (scores >= own).sum(1) - 1


def _probabilities(
    model: nn.Module,
    clips: torch.Tensor,
    world: DistributedContext,
    dtype: torch.dtype,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """Views (B, V, T, C, H, W) to class probabilities (B, K), averaged over the views."""
    video = normalize(clips.flatten(0, 1), mean=mean, std=std)
    with torch.autocast(world.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = model(video)
    return logits.float().softmax(-1).unflatten(0, clips.shape[:2]).mean(1)


def _blank(views: TestViews, device: torch.device) -> torch.Tensor:
    """One black view (1, 1, T, C, H, W), for a forward pass that only keeps the other ranks company."""
    shape = (1, 1, views.num_frames, 3, views.crop_size, views.crop_size)
    return torch.zeros(shape, dtype=torch.uint8, device=device)


def _scores(gathered: list[tuple[list[tuple[int, bool, bool]], list[Unread]]], *, total: int) -> Scores:
    rows = sorted(row for part, _ in gathered for row in part)
    unread = sorted(error for _, part in gathered for error in part)
    assert len({row[0] for row in rows}) == len(rows), "a video was scored twice"
    assert len(rows) + len(unread) == total, "a video was neither scored nor named"
    if not rows:
        return Scores(top1=float("nan"), top5=float("nan"), used=0, total=total, unread=unread)
    hits = np.array([row[1:] for row in rows], dtype=np.float64)
    top1, top5 = hits.mean(0).tolist()
    return Scores(top1=top1, top5=top5, used=len(rows), total=total, unread=unread)
