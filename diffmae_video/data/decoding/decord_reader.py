"""The decord backend, for comparison with loaders that use it. docs/data.md says on which files it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import decord
import numpy as np

from diffmae_video.data.decoding.base import DecodeError, shown_frames

decord.logging.set_level(decord.logging.QUIET)
# What decord's own code raises about a file: the assertion is of a video without frames.
_ERRORS = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, MemoryError)


class DecordReader:
    """A video file read by decord on one thread; see :class:`~.decode.VideoReader`."""

    def __init__(self, path: str, *, segment: tuple[float, float] | None = None, timeout_seconds: float = 30.0) -> None:
        self._path = path
        try:
            self._reader = decord.VideoReader(path, num_threads=1)
            stamps = self._reader.get_frame_timestamp(range(len(self._reader)))  # (N, 2) start and end
        except _ERRORS as error:
            raise DecodeError(path, f"cannot be opened ({type(error).__name__})") from error
        times = np.asarray(stamps, dtype=np.float64).reshape(-1, 2)[:, 0]
        self._first, last = shown_frames(path, times, segment)
        self.times = times[self._first : last]

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames at strictly ascending ``indices``; decord makes all of them before the first is out."""
        wanted = (self._first + np.asarray(indices, dtype=np.int64)).tolist()
        try:
            batch = self._reader.get_batch(wanted).asnumpy()
        except _ERRORS as error:
            raise DecodeError(self._path, f"does not decode ({type(error).__name__})") from error
        yield from batch

    def close(self) -> None:
        """Let the reader go."""
        del self._reader

    def __enter__(self) -> DecordReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
