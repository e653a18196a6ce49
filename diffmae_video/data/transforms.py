"""Crops and augmentation of clips, on uint8 (T, C, H, W) tensors; every draw from a generator.

One draw holds for all frames of a clip.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

_RATIO = (3 / 4, 4 / 3)
_ERASE_SCALE, _ERASE_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)  # [timm RandomErasing, as the field's recipes use it]
_RAND_AUGMENT_SPREAD = 1.5  # the "mstd0.5" of the field's strings, of 10, on torchvision's scale of 30


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


def augment(
    clip: torch.Tensor,
    *,
    rand_augment_ops: int,
    rand_augment_magnitude: float,
    color_jitter: float,
    erase_prob: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """RandAugment, colour jitter and random erasing, each off at 0; (T, C, H, W) in and out.

    torchvision draws from torch's global generator: it is seeded from ``generator`` for the call, and put back.
    """
    if not (rand_augment_ops or color_jitter or erase_prob):
        return clip
    clip = clip.contiguous()
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    with torch.random.fork_rng(devices=()):
        torch.random.default_generator.manual_seed(seed)
        if rand_augment_ops:
            drawn = rand_augment_magnitude + _RAND_AUGMENT_SPREAD * float(torch.randn(()))
            clip = v2.RandAugment(rand_augment_ops, magnitude=min(30, max(0, round(drawn))), num_magnitude_bins=31)(
                clip
            )
        if color_jitter:
            clip = v2.ColorJitter(brightness=color_jitter, contrast=color_jitter, saturation=color_jitter)(clip)
        if float(torch.rand(())) < erase_prob:
            clip = _erase(clip)
    return clip


def _erase(clip: torch.Tensor) -> torch.Tensor:
    """Fill one box with noise, a value for each pixel and the same in all frames [the field's "pixel" mode]."""
    height, width = clip.shape[-2:]
    low, high = math.log(_ERASE_RATIO[0]), math.log(_ERASE_RATIO[1])
    for area_draw, ratio_draw, top_draw, left_draw in torch.rand(10, 4, dtype=torch.float64).tolist():
        area = height * width * (_ERASE_SCALE[0] + area_draw * (_ERASE_SCALE[1] - _ERASE_SCALE[0]))
        ratio = math.exp(low + ratio_draw * (high - low))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < h < height and 0 < w < width:
            top, left = int(top_draw * (height - h + 1)), int(left_draw * (width - w + 1))
            noise = torch.randint(256, (clip.shape[1], h, w), dtype=torch.uint8)
            return F.erase(clip, top, left, h, w, noise)
    return clip
