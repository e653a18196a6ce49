"""uint8 pixels to what the model reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def normalize(clips: torch.Tensor, *, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """uint8 clips (..., C, H, W) to float32, ``(x / 255 - mean) / std`` channel by channel."""
    scale = torch.tensor(std, device=clips.device).view(-1, 1, 1) * 255
    shift = torch.tensor(mean, device=clips.device).view(-1, 1, 1) * 255
    return (clips.float() - shift) / scale


def denormalize(video: torch.Tensor, *, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """The inverse of :func:`normalize`, rounded and clipped to uint8."""
    scale = torch.tensor(std, device=video.device).view(-1, 1, 1) * 255
    shift = torch.tensor(mean, device=video.device).view(-1, 1, 1) * 255
    return (video.float() * scale + shift).round().clamp(0, 255).to(torch.uint8)
