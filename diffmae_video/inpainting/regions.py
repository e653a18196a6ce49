"""Holes to fill: which pixels of a clip are hidden, as a box, and as a mask of cubes.

A hole is a bool tensor (frames, height, width), true where pixels are hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffmae_video.errors import UserError
from diffmae_video.model.masking import Mask
from diffmae_video.model.patches import cube_grid

ClipSize = tuple[int, int, int]


def check_box(size: ClipSize, *, x: int, y: int, w: int, h: int, t0: int, t1: int) -> None:
    """Hold a box to the size (frames, height, width) of what it lies in.

    Raises:
        UserError: if the box is empty or leaves it.
    """
    spans = {"frames": (t0, t1, size[0]), "rows": (y, y + h, size[1]), "columns": (x, x + w, size[2])}
    for name, (first, end, length) in spans.items():
        if not 0 <= first < end <= length:
            raise UserError(f"the box's {name} {first}...{end - 1} must lie in 0...{length - 1}, and be one at least")


def box_hole(size: ClipSize, *, x: int, y: int, w: int, h: int, t0: int, t1: int) -> Tensor:
    """A box: columns x...x+w-1 and rows y...y+h-1 in pixels, frames t0...t1-1, of a clip (frames, height, width).

    Raises:
        UserError: if the box is empty or leaves the clip.
    """
    check_box(size, x=x, y=y, w=w, h=h, t0=t0, t1=t1)
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


def hidden_cubes(holes: Tensor, *, tubelet: int, patch_size: int) -> Tensor:
    """The cubes with at least one hidden pixel: holes (..., frames, height, width) to (..., N) bool.

    Raises:
        UserError: if the cubes don't tile the clip.
    """
    frames, height, width = holes.shape[-3:]
    T, H, W = cube_grid((frames, height, width), tubelet=tubelet, patch_size=patch_size)
    cut = holes.reshape(*holes.shape[:-3], T, tubelet, H, patch_size, W, patch_size)
    return cut.any(-1).any(-2).any(-3).flatten(-3)


def mask_of_hole(hole: Tensor, *, tubelet: int, patch_size: int, batch: int = 1) -> Mask:
    """The cubes with at least one hidden pixel, the same for all clips of a batch.

    Raises:
        UserError: if the cubes don't tile the clip, or the hole hides none or all of them.
    """
    hidden = hidden_cubes(hole, tubelet=tubelet, patch_size=patch_size)  # (N,)
    return Mask.from_bool(hidden.expand(batch, -1))
