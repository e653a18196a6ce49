"""Pre-training: hide cubes, noise them, predict them from what is visible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from diffmae_video.data import TrainClips
from diffmae_video.data.normalize import normalize
from diffmae_video.diffusion import DiffMAE
from diffmae_video.engine.train.trainer import Trainer
from diffmae_video.seeding import generator

NOISE_BINS = 10


def pretrain(
    training: Trainer,
    model: DiffMAE,
    clips: TrainClips,
    *,
    mask_kind: str,
    mask_ratio: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Train ``model`` until ``training``'s last step.

    ``training.state.model`` is ``model`` as wrapped for distribution: it is called, ``model`` draws.
    """
    seed, device = training.plan.seed, training.world.device
    wrapped: nn.Module = training.state.model
    wrapped.train()
    for batch in training.batches(clips):
        for part in training.parts(batch):
            video = normalize(part["clips"].flatten(0, 1), mean=mean, std=std)  # (b*k, T, C, H, W)
            # One generator a clip: the draws don't depend on which rank or batch the clip is in.
            generators = [
                generator(seed, "noise", int(position), clip, device=device)
                for position in part["position"].tolist()
                for clip in range(part["clips"].shape[1])
            ]
            draw = model.draw(generators, mask_kind=mask_kind, mask_ratio=mask_ratio)
            with training.autocast():
                losses = wrapped(video, draw)
            training.backward(losses.loss, bins=_bin_losses(losses.per_clip, losses.t, model.objective.num_levels))
        training.update(_describe)


def _bin_losses(per_clip: torch.Tensor, t: torch.Tensor, num_levels: int) -> torch.Tensor:
    """Sum and count of the losses (B,) in ten bins of the noise level t (B,), as (2, 10).

    The mae objective has one level, 0: all its losses are in the first bin.
    """
    bins = t * NOISE_BINS // num_levels
    sums = per_clip.new_zeros(2, NOISE_BINS)
    sums[0].index_add_(0, bins, per_clip.detach())
    sums[1].index_add_(0, bins, torch.ones_like(per_clip))
    return sums


def _describe(sums: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Mean loss by noise level, None where the step had no clip of that level."""
    totals, counts = sums["bins"].tolist()
    means = [total / count if count else None for total, count in zip(totals, counts, strict=True)]
    return {"loss_by_noise": means}
