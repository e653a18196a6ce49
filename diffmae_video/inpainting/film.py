"""A film as a model sees it: its centre square, in windows of clips that together hold every frame once.

Notation: N frames of a film, W windows of s clips of T frames each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diffmae_video.data.cutting import crop
from diffmae_video.data.decoding.base import VideoReader
from diffmae_video.data.decoding.open import open_video
from diffmae_video.data.frame_sampling import wrap_or_clamp
from diffmae_video.data.transforms import Box, resize, view_boxes
from diffmae_video.errors import UserError

# A film is read while it is filled, which may take long: only a reader that hangs for days is given up.
FILM_TIMEOUT_SECONDS = 7 * 24 * 3600.0


class Square(NamedTuple):
    """Where a clip lies in a film's pictures: they are shrunk to ``height`` x ``width``, and ``box`` is cut out."""

    height: int
    width: int
    box: Box

    @staticmethod
    def of(height: int, width: int, *, size: int) -> Square:
        """The centre square of pictures of ``height`` x ``width``, ``size`` pixels wide: that of a test view."""
        short = min(height, width)
        shrunk = round(height * size / short), round(width * size / short)
        return Square(*shrunk, view_boxes(*shrunk, num_crops=1)[0])

    def cut(self, picture: Tensor) -> Tensor:
        """The clip's pixels of a picture (C, height, width) uint8, or of a hole (height, width) bool.

        A pixel of the clip is the mean of the source pixels below it (bilinear with antialias); it is hidden if one of
        the source pixels that it overlaps is, so that no line is too thin.
        """
        if picture.dtype == torch.bool:
            # Its windows reach from the first to the last source pixel that a pixel of the clip overlaps.
            return crop(F.adaptive_max_pool2d(picture[None].float(), (self.height, self.width))[0].bool(), self.box)
        return crop(resize(picture[None], self.height, self.width)[0], self.box)


@dataclass(frozen=True)
class ClipSequence:
    """What is to be filled of a video, and how it is cut into clips.

    A window is ``stride`` * T frames in a row: its clip k holds every ``stride``-th of them, from the k-th on. The last
    window ends with the film and may overlap the one before.

    Attributes:
        path: the video, picture, or folder of pictures.
        seconds: (N,) when each frame is shown, from 0; frames after these are left out.
        total: frames of the whole video.
        size: height and width of its pictures.
        square: where the clips lie in them.
        num_frames: T.
        stride: frames from one frame of a clip to its next.
    """

    path: str
    seconds: np.ndarray
    total: int
    size: tuple[int, int]
    square: Square
    num_frames: int
    stride: int

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def fps(self) -> float:
        """Mean rate of the frames; 1 for a picture, which has none."""
        return _rate(self.seconds)

    @cached_property
    def places(self) -> np.ndarray:
        """(W, s, T) frame numbers; beyond the end of a film shorter than a clip."""
        span = self.stride * self.num_frames
        starts = np.append(np.arange(0, max(len(self) - span, 0), span), max(len(self) - span, 0))
        clips = np.arange(self.stride)[:, None] + self.stride * np.arange(self.num_frames)
        return starts[:, None, None] + clips

    @property
    def numbers(self) -> np.ndarray:
        """(W, s, T) frame numbers; a film shorter than a clip holds its last frame."""
        return wrap_or_clamp(self.places, num_steps=len(self), short_video="hold")

    @property
    def fresh(self) -> np.ndarray:
        """(W, s, T) bool: true at one place for each frame of the film, where no window before has it."""
        seen = np.append(0, self.places.max((1, 2))[:-1] + 1)
        return (self.places >= seen[:, None, None]) & (self.places < len(self))

    def describe(self) -> str:
        """What will be filled, in one line."""
        windows, clips, frames = self.places.shape
        rest, side = self.total - len(self), self.square.box.width
        part = f"the first {len(self)} of {self.total} frames" if rest else f"{len(self)} frames"
        return (
            f"{self.path}: {part} at {self.fps:.4g} a second, in {windows * clips} clips of {frames} frames, "
            f"{self.stride} apart; of {self.size[1]}x{self.size[0]} pixels the centre square, at {side}x{side}"
            + (f"; the last {rest} frames are left out (--max-clips)" if rest else "")
        )


def open_film(
    path: str, *, num_frames: int, stride_frames: int, fps: float, crop_size: int, max_clips: int | None = None
) -> ClipSequence:
    """Look at a video, and plan its clips.

    Args:
        path: a video, a picture, or a folder of numbered pictures.
        num_frames, stride_frames, fps: the model's clips: T frames, so many steps apart on a time line of this rate (0:
            the video's own). The film keeps its own rate; a clip's frames are as far apart as whole frames allow.
        crop_size: height and width of the clips.
        max_clips: only the frames of so many clips, from the film's start; None: all.

    Raises:
        DecodeError: the file can't be read.
    """
    with open_video(path, timeout_seconds=FILM_TIMEOUT_SECONDS) as reader:
        height, width = picture_size(reader)
        seconds = reader.times - reader.times[0]
    taken = len(seconds) if max_clips is None else min(len(seconds), max_clips * num_frames)
    wanted = stride_frames * _rate(seconds) / fps if fps else stride_frames
    # A stride that leaves a clip short of frames would fill it with the last one.
    stride = max(1, min(round(wanted), taken // num_frames))
    square = Square.of(height, width, size=crop_size)
    return ClipSequence(path, seconds[:taken], len(seconds), (height, width), square, num_frames, stride)


def read_windows(film: ClipSequence, *, at_once: int) -> Iterator[tuple[slice, Tensor]]:
    """Read a film once, from its first frame to its last; at most ``at_once`` windows are in memory.

    Yields:
        which windows, and their clips (w, s, T, 3, size, size) uint8.

    Raises:
        DecodeError: a frame doesn't decode.
        UserError: a picture of a folder has another size than the first.
    """
    numbers = film.numbers
    kept: dict[int, Tensor] = {}
    with open_video(film.path, timeout_seconds=FILM_TIMEOUT_SECONDS) as reader:
        frames = reader.frames(np.arange(len(film)))
        read = 0
        for first in range(0, len(numbers), at_once):
            part = slice(first, min(first + at_once, len(numbers)))
            kept = {number: frame for number, frame in kept.items() if number >= numbers[part].min()}
            while read <= numbers[part].max():
                kept[read] = film.square.cut(_picture(next(frames), film, read))
                read += 1
            clips = torch.stack([kept[number] for number in numbers[part].flat])
            yield part, clips.unflatten(0, numbers[part].shape)


def picture_size(reader: VideoReader) -> tuple[int, int]:
    """Height and width of a video's first frame."""
    height, width = next(iter(reader.frames([0]))).shape[:2]
    return height, width


def _rate(seconds: np.ndarray) -> float:
    return (len(seconds) - 1) / float(seconds[-1]) if len(seconds) > 1 and seconds[-1] > 0 else 1.0


def _picture(frame: np.ndarray, film: ClipSequence, number: int) -> Tensor:
    if frame.shape[:2] != film.size:
        shapes = [f"{width}x{height}" for height, width in (frame.shape[:2], film.size)]
        raise UserError(f"{film.path}: frame {number} is {shapes[0]}, the first {shapes[1]}; bring them to one size")
    return torch.from_numpy(np.array(frame)).permute(2, 0, 1)
