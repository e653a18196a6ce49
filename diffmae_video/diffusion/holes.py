"""Holes to fill: which pixels of a clip are hidden, from a box, from a file, and as a mask of cubes.

A hole is a bool tensor (frames, height, width), true where pixels are hidden.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diffmae_video.errors import UserError
from diffmae_video.model.masking import Mask
from diffmae_video.model.patches import cube_grid

ClipSize = tuple[int, int, int]


def box_hole(size: ClipSize, *, x: int, y: int, w: int, h: int, t0: int, t1: int) -> Tensor:
    """A box: columns x...x+w-1 and rows y...y+h-1 in pixels, frames t0...t1-1, of a clip (frames, height, width).

    Raises:
        UserError: if the box is empty or leaves the clip.
    """
    spans = {"frames": (t0, t1, size[0]), "rows": (y, y + h, size[1]), "columns": (x, x + w, size[2])}
    for name, (first, end, length) in spans.items():
        if not 0 <= first < end <= length:
            raise UserError(f"the box's {name} {first}...{end - 1} must lie in 0...{length - 1} of the clip")
    hole = torch.zeros(size, dtype=torch.bool)
    hole[t0:t1, y : y + h, x : x + w] = True
    return hole


def centre_hole(size: ClipSize, *, fraction: float = 0.5) -> Tensor:
    """A box in the middle of every frame, ``fraction`` of its height and width.

    Raises:
        UserError: if the fraction isn't in (0, 1), or gives no pixel.
    """
    if not 0 < fraction < 1:
        raise UserError(f"the centre hole's fraction ({fraction}) must be above 0 and below 1; 0.5 is usual")
    frames, height, width = size
    h, w = round(height * fraction), round(width * fraction)
    return box_hole(size, x=(width - w) // 2, y=(height - h) // 2, w=w, h=h, t0=0, t1=frames)


def read_hole(path: str | Path, size: ClipSize) -> Tensor:
    """A hole from a picture (held through time) or a video: white hides, black shows.

    Frames of another height and width are resized to the clip's by the nearest pixel.

    Raises:
        UserError: if the file can't be read, or has neither one frame nor the clip's number of frames.
    """
    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"the mask {str(path)!r} can't be read as a picture or video: {error}") from error
    if len(frames) not in (1, size[0]):
        raise UserError(
            f"the mask {str(path)!r} has {len(frames)} frames; give one picture, or one frame for each of the {size[0]}"
        )
    white = torch.from_numpy(np.stack(frames) > 127)[:, None].float()  # (1 or frames, 1, h, w)
    resized = F.interpolate(white, size=size[1:], mode="nearest")[:, 0].bool()
    return resized.expand(size).clone()


def mask_of_hole(hole: Tensor, *, tubelet: int, patch_size: int, batch: int = 1) -> Mask:
    """The cubes with at least one hidden pixel, the same for all clips of a batch.

    Raises:
        UserError: if the cubes don't tile the clip, or the hole hides none or all of them.
    """
    frames, height, width = hole.shape
    T, H, W = cube_grid((frames, height, width), tubelet=tubelet, patch_size=patch_size)
    cut = hole.reshape(T, tubelet, H, patch_size, W, patch_size)
    hidden = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).any(-1).flatten()  # (N,)
    return Mask.from_bool(hidden.expand(batch, -1))
