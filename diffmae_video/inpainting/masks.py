"""Which cubes of each of a film's clips are hidden, from what a user writes, draws, or films."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffmae_video.data.decoding.open import open_video
from diffmae_video.errors import UserError
from diffmae_video.inpainting.film import FILM_TIMEOUT_SECONDS, ClipSequence, picture_size
from diffmae_video.inpainting.regions import box_hole, centre_hole, check_box, hidden_cubes
from diffmae_video.model import MASK_KINDS, draw_mask
from diffmae_video.seeding import generator

MASK_FORMS = (
    f"{'|'.join(MASK_KINDS)}:RATIO of the cubes; centre; box:x,y,w,h[,t0,t1] in the film's pixels and frames; or a "
    "picture of the film's size, white where hidden, or a video or folder of them, one for each of the film's frames"
)
_LUMA = (0.299, 0.587, 0.114)


def parse_mask(text: str, film: ClipSequence, *, tubelet: int, patch_size: int, seed: int) -> Tensor:
    """The hidden cubes of every clip, (W, s, cubes) bool, from a mask's description, one of ``MASK_FORMS``.

    Random masks differ from window to window; the clips of one window share theirs, since their frames alternate.

    Raises:
        UserError: the description is none of the forms, doesn't fit the film, or hides all of a clip, or nothing.
        DecodeError: a file can't be read.
    """
    kind, _, detail = text.partition(":")
    windows, clips, frames = film.places.shape
    if kind in MASK_KINDS:
        side = film.square.box.height // patch_size
        grid = (frames // tubelet, side, side)
        ratio = _ratio(text, detail)
        drawn = [
            draw_mask(kind, grid, ratio=ratio, generator=generator(seed, "inpaint mask", window)).hidden()[0]
            for window in range(windows)
        ]
        return torch.stack(drawn)[:, None].expand(-1, clips, -1)
    per_frame = torch.stack([_patches(hole, patch_size) for hole in _clip_holes(text, film)])  # (1 or N, rows, columns)
    if len(per_frame) == 1:
        per_frame = per_frame.expand(len(film), -1, -1)
    return _check(hidden_cubes(per_frame[film.numbers], tubelet=tubelet, patch_size=1), text, film)


def _clip_holes(text: str, film: ClipSequence) -> Iterator[Tensor]:
    """The hole in each frame of the film, or one for all, in the clip's pixels: (size, size) bool."""
    kind, _, detail = text.partition(":")
    if text == "centre":
        side = film.square.box.height
        yield centre_hole((1, side, side))[0]
    elif kind == "box":
        box = {"t0": 0, "t1": film.total, **_box(text, detail)}
        check_box((film.total, *film.size), **box)
        t0, t1 = box["t0"], box["t1"]
        hole = box_hole((1, *film.size), **{**box, "t0": 0, "t1": 1})[0]
        shown, seen = film.square.cut(hole), film.square.cut(torch.zeros_like(hole))
        yield from (shown if t0 <= number < t1 else seen for number in range(len(film)))
    elif Path(text).exists():
        yield from _read_holes(text, film)
    else:
        raise UserError(f"mask {text!r} is no file and none of the forms; give {MASK_FORMS}")


def _read_holes(path: str, film: ClipSequence) -> Iterator[Tensor]:
    with open_video(path, timeout_seconds=FILM_TIMEOUT_SECONDS) as reader:
        if len(reader.times) not in (1, film.total):
            raise UserError(
                f"the mask {path!r} has {len(reader.times)} frames, the film {film.total}; give one picture, or one "
                "frame for each of the film's"
            )
        height, width = picture_size(reader)
        # Half a pixel of the smaller picture may be lost to rounding.
        if abs(height * film.size[1] - width * film.size[0]) > max(*film.size, height, width) / 2:
            raise UserError(
                f"the mask {path!r} is {width}x{height}, the film {film.size[1]}x{film.size[0]}; paint it on a "
                "frame of the film"
            )
        weights = np.array(_LUMA)
        for frame in reader.frames(np.arange(min(len(reader.times), len(film)))):
            yield film.square.cut(torch.from_numpy(frame @ weights > 127.5))


def _patches(hole: Tensor, patch_size: int) -> Tensor:
    """Which patches of a hole (size, size) hold a hidden pixel: (rows, columns) bool."""
    return hole.unflatten(0, (-1, patch_size)).unflatten(2, (-1, patch_size)).any(3).any(1)


def _check(hidden: Tensor, text: str, film: ClipSequence) -> Tensor:
    if not hidden.any():
        raise UserError(
            f"mask {text!r} hides nothing of the centre square that the model sees; hide at least one of its pixels"
        )
    whole = hidden.all(2).nonzero()
    if len(whole):
        frames = film.numbers[tuple(whole[0].tolist())]
        raise UserError(
            f"mask {text!r} hides every cube of a clip of the centre square (frames {frames[0]} to {frames[-1]}); "
            "leave at least one visible"
        )
    return hidden


def _ratio(text: str, detail: str) -> float:
    try:
        return float(detail)
    except ValueError:
        raise UserError(f"mask {text!r} has no ratio; write for example {text.partition(':')[0]}:0.75") from None


def _box(text: str, detail: str) -> dict[str, int]:
    numbers = detail.split(",")
    names = ("x", "y", "w", "h", "t0", "t1")
    if len(numbers) not in (4, 6) or not all(number.strip().lstrip("-").isdecimal() for number in numbers):
        raise UserError(f"mask {text!r} must be box:x,y,w,h or box:x,y,w,h,t0,t1 in whole pixels and frames")
    return {name: int(number) for name, number in zip(names, numbers, strict=False)}
