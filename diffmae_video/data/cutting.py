"""Clips cut out of the frames of one pass over a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from diffmae_video.data.decode import VideoReader
from diffmae_video.data.transforms import Box


def cut_clips(
    reader: VideoReader, picks: Sequence[np.ndarray], boxes: Callable[[int, int], list[Box]]
) -> list[torch.Tensor]:
    """Cut clips out of a video in one pass.

    Args:
        reader: the video.
        picks: K arrays (T,) of frame numbers, in any order, repeats welcome.
        boxes: given a picture's height and width, the K boxes to cut.

    Returns:
        K uint8 tensors (T, C, h, w), in channels-last memory: the layout that frames come in and resizing likes.
    """
    flat = np.stack(picks)  # (K, T)
    wanted = np.unique(flat)
    uses: dict[int, list[tuple[int, int]]] = {number: [] for number in wanted.tolist()}
    for clip, numbers in enumerate(flat.tolist()):
        for moment, number in enumerate(numbers):
            uses[number].append((clip, moment))
    cut: list[np.ndarray] = []
    places: list[Box] = []
    for places_used, frame in zip(uses.values(), reader.frames(wanted), strict=True):
        if not cut:
            places = boxes(*frame.shape[:2])
            cut = [np.empty((flat.shape[1], b.height, b.width, 3), np.uint8) for b in places]
        for clip, moment in places_used:
            top, left, height, width = places[clip]
            cut[clip][moment] = frame[top : top + height, left : left + width]
    return [torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in cut]


def crop(clip: torch.Tensor, box: Box) -> torch.Tensor:
    """The part of a clip (T, C, H, W) within ``box``."""
    return clip[..., box.top : box.top + box.height, box.left : box.left + box.width]
