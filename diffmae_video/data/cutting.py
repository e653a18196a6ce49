"""Clips cut out of the frames of one pass over a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from diffmae_video.data.decoding.base import VideoReader
from diffmae_video.data.transforms import Box, resize_short_side

# Whole clips of such pictures, or of all views of a video together, would take gigabytes. Smaller ones are resized clip
# by clip, which is faster: a call costs as much as a small picture.
LARGE_PIXELS = 1 << 20
LARGE_TOTAL = 64 * LARGE_PIXELS


def cut_clips(
    reader: VideoReader, picks: Sequence[np.ndarray], boxes: Callable[[int, int], list[Box]], *, short_side: int = 0
) -> list[torch.Tensor]:
    """Cut clips out of a video in one pass.

    Args:
        reader: the video.
        picks: K arrays (T,) of frame numbers, in any order, repeats welcome.
        boxes: given a picture's height and width, the K boxes to cut.
        short_side: pictures of more than ``LARGE_PIXELS``, or of ``LARGE_TOTAL`` over all clips, are shrunk to this as
            they come, with the same result as a later ``resize_short_side``; 0: none is.

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
        height, width, _ = frame.shape
        if 0 < short_side < min(height, width) and height * width > min(LARGE_PIXELS, LARGE_TOTAL // flat.size):
            frame = _shrink(frame, short_side)
        if not cut:
            places = boxes(*frame.shape[:2])
            cut = [np.empty((flat.shape[1], b.height, b.width, 3), np.uint8) for b in places]
        for clip, moment in places_used:
            top, left, height, width = places[clip]
            cut[clip][moment] = frame[top : top + height, left : left + width]
    return [torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in cut]


def _shrink(frame: np.ndarray, short_side: int) -> np.ndarray:
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
    return resize_short_side(picture, short_side)[0].permute(1, 2, 0).numpy()


def crop(clip: torch.Tensor, box: Box) -> torch.Tensor:
    """The part of a clip (T, C, H, W) within ``box``."""
    return clip[..., box.top : box.top + box.height, box.left : box.left + box.width]
