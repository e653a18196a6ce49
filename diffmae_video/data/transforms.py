"""Crops and augmentation of clips, on uint8 (T, C, H, W) tensors; every draw from a generator.

One draw holds for all frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate
from torchvision.transforms import v2

_RATIO = (3 / 4, 4 / 3)
_ERASE_SCALE, _ERASE_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)  # [timm RandomErasing, as the field's configs use it]


class Box(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def random_box(height: int, width: int, *, scale: tuple[float, float], generator: torch.Generator) -> Box:
    """A random resized crop's box: an area of ``scale`` of the picture and an aspect ratio of 3/4 to 4/3.

    Like torchvision's: ten tries, then the largest centred box of an allowed ratio.
    """
    draws = torch.rand(10, 4, generator=generator, dtype=torch.float64).tolist()
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    for area_draw, ratio_draw, top_draw, left_draw in draws:
        area = height * width * (scale[0] + area_draw * (scale[1] - scale[0]))
        ratio = math.exp(low + ratio_draw * (high - low))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return Box(int(top_draw * (height - h + 1)), int(left_draw * (width - w + 1)), h, w)
    ratio = min(max(width / height, _RATIO[0]), _RATIO[1])
    h = min(height, max(1, round(width / ratio)))
    w = min(width, max(1, round(height * ratio)))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def resize_short_side(clip: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear with antialias so that the shorter of height and width is ``size``, the aspect ratio kept."""
    height, width = clip.shape[-2:]
    short = min(height, width)
    return resize(clip, round(height * size / short), round(width * size / short))


def view_boxes(height: int, width: int, *, num_crops: int) -> list[Box]:
    """Square boxes of the short side, evenly spread along the long side; one alone is centred."""
    side = min(height, width)
    room_h, room_w = height - side, width - side
    if num_crops == 1:
        return [Box(room_h // 2, room_w // 2, side, side)]
    return [Box(room_h * i // (num_crops - 1), room_w * i // (num_crops - 1), side, side) for i in range(num_crops)]


def resize(clip: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear with antialias to (T, C, height, width)."""
    if clip.shape[-2:] == (height, width):
        return clip
    # What torchvision's resize comes down to for uint8, without a tenth of a millisecond of its dispatch.
    return interpolate(clip, [height, width], mode="bilinear", antialias=True)


def jitter(clip: torch.Tensor, *, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Brightness, contrast and saturation changed by up to ``strength``; uint8 (T, C, H, W) in and out, 0: off.

    torchvision draws from torch's global generator: it is seeded from ``generator`` for the call, and put back.
    """
    if not strength:
        return clip
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    with torch.random.fork_rng(devices=()):
        torch.random.default_generator.manual_seed(seed)
        return v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)(clip.contiguous())


def erase(
    clip: torch.Tensor,
    *,
    prob: float,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
) -> torch.Tensor:
    """Random erasing (arXiv 1708.04896), timm's mode "pixel": with probability ``prob`` fill one box with noise.

    The box is the same in all frames, the noise is new in each (as VideoMAE's and SlowFast's): N(0, 1) once the clip is
    normalised by ``mean`` and ``std``, except that a uint8 pixel ends at black and white.

    Args:
        clip: uint8 (T, C, H, W); not changed.
        prob: 0 to 1.
        mean, std: C numbers each, of pixels in [0, 1].
        generator: of all draws.
    """
    if not prob or float(torch.rand((), generator=generator)) >= prob:
        return clip
    height, width = clip.shape[-2:]
    low, high = math.log(_ERASE_RATIO[0]), math.log(_ERASE_RATIO[1])
    draws = torch.rand(10, 4, generator=generator, dtype=torch.float64).tolist()
    for area_draw, ratio_draw, top_draw, left_draw in draws:
        area = height * width * (_ERASE_SCALE[0] + area_draw * (_ERASE_SCALE[1] - _ERASE_SCALE[0]))
        ratio = math.exp(low + ratio_draw * (high - low))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < h < height and 0 < w < width:
            top, left = int(top_draw * (height - h + 1)), int(left_draw * (width - w + 1))
            noise = torch.randn(*clip.shape[:2], h, w, generator=generator)
            pixels = noise * (torch.tensor(std).view(-1, 1, 1) * 255) + torch.tensor(mean).view(-1, 1, 1) * 255
            erased = clip.clone()
            erased[..., top : top + h, left : left + w] = pixels.round_().clamp_(0, 255)
            return erased
    return clip
