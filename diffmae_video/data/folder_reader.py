"""A folder of numbered images read as a video: ``img_00001.jpg``, ``img_00002.jpg``, ..."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np

from diffmae_video.data.decode import DecodeError, within
from diffmae_video.data.pyav_reader import PyavReader
from diffmae_video.data.walk import IMAGE_SUFFIXES

# Image folders don't say how fast they were; 30 makes `data.fps: 30` take every image. Something-Something's 12 fps
# folders want `data.fps: 0`, strides in images.
FOLDER_FPS = 30.0


class FolderReader:
    """Images in the order of their names; see :class:`~.decode.VideoReader`."""

    def __init__(self, path: str, *, segment: tuple[float, float] | None = None, timeout_seconds: float = 30.0) -> None:
        self._timeout = timeout_seconds
        names = sorted(entry for entry in os.listdir(path) if entry.lower().endswith(IMAGE_SUFFIXES))
        if not names:
            raise DecodeError(path, "a folder without images")
        times = np.arange(len(names)) / FOLDER_FPS
        first, last = within(times, segment)
        self._paths = [os.path.join(path, name) for name in names[first:last]]
        self.times = times[first:last]
        if not self._paths:
            raise DecodeError(path, "no frames in the segment")

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at strictly ascending ``indices``."""
        for number in np.asarray(indices).tolist():
            with PyavReader(self._paths[number], timeout_seconds=self._timeout) as reader:
                yield from reader.frames([0])

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> FolderReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
