"""A folder of numbered images read as a video: ``img_00001.jpg``, ``img_00002.jpg``, ..."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import TracebackType

import numpy as np

from diffmae_video.data.decoding.base import DecodeError, cannot_open, shown_frames
from diffmae_video.data.decoding.packet_index import Deadline
from diffmae_video.data.decoding.pyav_reader import PyavReader
from diffmae_video.data.decoding.walk import IMAGE_SUFFIXES, is_system

# Image folders don't say how fast they were; 30 makes `data.fps: 30` take every image. Something-Something's 12 fps
# folders want `data.fps: 0`, strides in images.
FOLDER_FPS = 30.0
# The number is the last one in the name, before the suffix: "view2_img_00001_small.jpg" is number 1.
_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)


class FolderReader:
    """Images in the order of their numbers; see :class:`~.decode.VideoReader`.

    Attributes:
        times: as there, ``FOLDER_FPS`` images a second.
        surplus: images beyond ``num_images``, which are not used.
    """

    def __init__(
        self,
        path: str,
        *,
        segment: tuple[float, float] | None = None,
        num_images: int = -1,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._path, self._timeout = path, timeout_seconds
        self._deadline = Deadline(path, timeout_seconds)
        try:
            names = image_sequence(path, os.listdir(path))
        except OSError as error:
            raise cannot_open(path, error) from error
        if len(names) < num_images:
            raise DecodeError(path, f"{len(names)} of {num_images} listed images")
        self.surplus = len(names) - num_images if num_images >= 0 else 0
        names = names[: len(names) - self.surplus]
        times = np.arange(len(names)) / FOLDER_FPS
        first, last = shown_frames(path, times, segment)
        self._names = names[first:last]
        self.times = times[first:last]

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at strictly ascending ``indices``."""
        first: tuple[str, tuple[int, ...]] | None = None
        for number in np.asarray(indices).tolist():
            self._deadline.check()
            name = self._names[number]
            with PyavReader(os.path.join(self._path, name), timeout_seconds=self._timeout) as reader:
                (image,) = reader.frames([0])
                first = first or (name, image.shape)
                if image.shape != first[1]:
                    raise DecodeError(self._path, f"images differ in size: {_size(*first)}, {_size(name, image.shape)}")
                yield image

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> FolderReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def image_sequence(path: str, entries: Sequence[str]) -> list[str]:
    """The images among a folder's entries, in the order of their numbers ("img_2.jpg" before "img_10.jpg").

    What is no image is passed over. The numbers may begin anywhere and be as many apart as they like, all alike.

    Raises:
        DecodeError: there is none, or they are no one sequence: names differ in more than the number, two have the
            same, or some are missing.
    """
    images = sorted(e for e in entries if e.lower().endswith(IMAGE_SUFFIXES) and not is_system(e))
    if not images:
        raise DecodeError(path, "a folder without images")
    patterns: dict[tuple[str, ...], str] = {}
    numbers: list[tuple[int, str]] = []
    for name in images:
        stem, suffix = os.path.splitext(name)
        found = _NUMBERED.fullmatch(stem)
        before, number, after = found.groups() if found else (stem, "0", "")
        patterns.setdefault((before, after, suffix.lower()), name)
        numbers.append((int(number), name))
    if len(patterns) > 1:
        some, other = list(patterns.values())[:2]
        raise DecodeError(path, f"images that differ in more than their number: {some!r}, {other!r}")
    numbers.sort()
    step = min((after - before for (before, _), (after, _) in pairwise(numbers)), default=1)
    for (number, name), (following, other) in pairwise(numbers):
        if following == number:
            raise DecodeError(path, f"two images of one number: {name!r}, {other!r}")
        if following - number > max(step, 1):
            raise DecodeError(path, f"images are missing between {name!r} and {other!r}")
    return [name for _, name in numbers]


def _size(name: str, shape: tuple[int, ...]) -> str:
    return f"{name!r} of {shape[1]}x{shape[0]}"
