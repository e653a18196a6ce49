"""RandAugment as video configs use it: timm's "increasing" operations, one draw for all frames of a clip.

RandAugment (arXiv 1909.13719) picks n operations at random. The configs of VideoMAE, SlowFast and MAE name timm's
variant by a string such as ``rand-m7-n4-mstd0.5-inc1``; timm applies it to single PIL images with Python's own random
numbers. Here it works on whole clips, uint8 (T, C, H, W), and every draw comes from a generator.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import functional as F

from diffmae_video.errors import UserError

FILL = 128  # of pixels that come from outside the picture: timm's default, which video configs keep
MAX_LEVEL = 10.0
_KEYS = {"m": "magnitude", "n": "num_ops", "mstd": "magnitude_std", "p": "prob", "inc": "increasing"}


@dataclass(frozen=True)
class RandAugment:
    """A policy: how many operations are picked, how often each is applied, and how strongly.

    Args:
        magnitude: mean level of an operation, 0 to 10.
        num_ops: operations picked a clip, with replacement.
        magnitude_std: standard deviation of the level, drawn anew for each operation and clipped to 0 to 10.
        prob: probability that a picked operation is applied.
    """

    magnitude: float
    num_ops: int = 2
    magnitude_std: float = 0.0
    prob: float = 0.5

    @classmethod
    def parse(cls, text: str) -> RandAugment:
        """Read timm's notation: ``rand``, then sections ``m``, ``n``, ``mstd``, ``p`` and ``inc1`` in any order.

        As in timm, n is 2, mstd 0 and p 0.5 unless given.

        Raises:
            UserError: anything else, in one line.
        """
        head, *sections = text.split("-")
        if head != "rand":
            raise _bad(text, "must begin with rand-")
        values: dict[str, float] = {}
        for section in sections:
            match = re.fullmatch(r"(m|n|mstd|p|inc)(\d+(?:\.\d+)?)", section)
            if not match:
                raise _bad(text, f"{section!r} is none of the sections m, n, mstd, p, inc with a number")
            name = _KEYS[match[1]]
            if name in values:
                raise _bad(text, f"{match[1]} is given twice")
            values[name] = float(match[2])
        if values.pop("increasing", 0) != 1:
            raise _bad(text, "must have inc1; timm's other set of operations isn't offered")
        if "magnitude" not in values:
            raise _bad(text, "must have m, the magnitude")
        if values["magnitude"] % 1:
            raise _bad(text, "m must be a whole number")
        num_ops = values.pop("num_ops", 2.0)
        if num_ops < 1 or num_ops % 1:
            raise _bad(text, "n must be a whole number from 1")
        for short, high in (("m", MAX_LEVEL), ("mstd", MAX_LEVEL), ("p", 1.0)):
            if values.get(_KEYS[short], 0) > high:
                raise _bad(text, f"{short} must lie in [0, {high:g}]")
        return cls(num_ops=int(num_ops), **values)

    def __call__(self, clip: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augment a uint8 clip (T, 3, H, W), every frame by the same operations, levels and signs."""
        for name, level, sign in self.draw(generator):
            clip = OPERATIONS[name](clip, level, sign)
        return clip

    def draw(self, generator: torch.Generator) -> list[tuple[str, float, int]]:
        """Draw one clip's operations in their order: (name, level in 0..10, sign of it); up to ``num_ops``."""
        names = list(OPERATIONS)
        picks = torch.randint(len(names), (self.num_ops,), generator=generator).tolist()
        applied, positive = (torch.rand(2, self.num_ops, generator=generator, dtype=torch.float64)).tolist()
        noise = torch.randn(self.num_ops, generator=generator, dtype=torch.float64).tolist()
        return [
            (names[pick], min(MAX_LEVEL, max(0.0, self.magnitude + self.magnitude_std * z)), 1 if up < 0.5 else -1)
            for pick, use, up, z in zip(picks, applied, positive, noise, strict=True)
            if use < self.prob
        ]


def _bad(text: str, rule: str) -> UserError:
    return UserError(f"rand_augment={text}: {rule}; write it as rand-m7-n4-mstd0.5-inc1, or leave it empty for none")


def _auto_contrast(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    return F.autocontrast(clip.contiguous())  # several times slower in any other layout


def _equalize(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    return F.equalize(clip.contiguous())


def _invert(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    return F.invert(clip)


def _rotate(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """By up to 30 degrees about the centre."""
    angle = math.radians(sign * level * 3)
    cos, sin = math.cos(angle), math.sin(angle)
    return _warp(clip, ((cos, -sin, 0.0), (sin, cos, 0.0)), centred=True)


def _posterize(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """Keep 4 to 0 bits."""
    kept = 4 - int(level / MAX_LEVEL * 4)
    return _look_up(clip, np.arange(256) & (256 - 2 ** (8 - kept)))


def _solarize(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """Invert what is at or above a threshold, 256 to 0."""
    values, threshold = np.arange(256), 256 - int(level / MAX_LEVEL * 256)
    return _look_up(clip, np.where(values < threshold, values, 255 - values))


def _solarize_add(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """Add up to 110 to what is below 128."""
    values, added = np.arange(256), int(level / MAX_LEVEL * 110)
    return _look_up(clip, np.where(values < 128, np.minimum(values + added, 255), values))


def _color(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    return F.adjust_saturation(clip, _factor(level, sign))


def _contrast(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    return F.adjust_contrast(clip, _factor(level, sign))


def _brightness(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    return _look_up(clip, np.minimum(np.arange(256) * _factor(level, sign), 255))


def _sharpness(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    return F.adjust_sharpness(clip.contiguous(memory_format=torch.channels_last), _factor(level, sign))


def _shear_x(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """By up to 0.3, the top edge fixed."""
    return _warp(clip, ((1.0, sign * level * 0.03, 0.0), (0.0, 1.0, 0.0)))


def _shear_y(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """By up to 0.3, the left edge fixed."""
    return _warp(clip, ((1.0, 0.0, 0.0), (sign * level * 0.03, 1.0, 0.0)))


def _translate_x(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """By up to 0.45 of the width."""
    return _warp(clip, ((1.0, 0.0, sign * level * 0.045 * clip.shape[-1]), (0.0, 1.0, 0.0)))


def _translate_y(clip: torch.Tensor, level: float, sign: int) -> torch.Tensor:
    """By up to 0.45 of the height."""
    return _warp(clip, ((1.0, 0.0, 0.0), (0.0, 1.0, sign * level * 0.045 * clip.shape[-2])))


def _factor(level: float, sign: int) -> float:
    """Of an enhancement: 1 leaves a picture as it is, 0.1 and 1.9 are the ends."""
    return max(0.1, 1 + sign * level * 0.09)


def _look_up(clip: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    """Each value replaced by its entry of a table (256,); in PyTorch this takes four times as long."""
    frames = clip.permute(0, 2, 3, 1).numpy()  # the order in which clips lie in memory
    return torch.from_numpy(np.take(table.astype(np.uint8), frames)).permute(0, 3, 1, 2)


Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]


def _warp(clip: torch.Tensor, matrix: Matrix, *, centred: bool = False) -> torch.Tensor:
    """Bilinear affine map as PIL's: ``matrix`` takes a point (x, y) of the new picture to the one shown there.

    Points are in pixels from the top left corner, or from the centre if ``centred``. What comes from outside is grey.
    """
    height, width = clip.shape[-2:]
    (a, b, x), (c, d, y) = matrix
    # affine_grid counts from the centre, in halves of the picture.
    if not centred:
        x += (a * width + b * height - width) / 2
        y += (c * width + d * height - height) / 2
    theta = [[a, b * height / width, 2 * x / width], [c * width / height, d, 2 * y / height]]
    grid = affine_grid(torch.tensor([theta], dtype=torch.float64), [1, 1, height, width], align_corners=False)
    inside = ((grid >= -1) & (grid < 1)).all(-1)  # (1, H, W)
    shown = grid_sample(
        clip.float(),
        grid.float().expand(len(clip), -1, -1, -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return torch.where(inside[:, None], shown.round_(), float(FILL)).to(torch.uint8)


# In timm's order, by timm's names.
OPERATIONS: dict[str, Callable[[torch.Tensor, float, int], torch.Tensor]] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _color,
    "ContrastIncreasing": _contrast,
    "BrightnessIncreasing": _brightness,
    "SharpnessIncreasing": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateXRel": _translate_x,
    "TranslateYRel": _translate_y,
}
