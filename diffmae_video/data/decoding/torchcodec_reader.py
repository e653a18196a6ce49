"""The TorchCodec backend, where that is installed (extra ``torchcodec``; it needs FFmpeg's shared libraries)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np
from torchcodec.decoders import VideoDecoder

from diffmae_video.data.decoding.base import DecodeError, check_size, shown_frames

# What TorchCodec raises about a file; nothing else runs where they are caught. ValueError: figures are missing.
_ERRORS = (RuntimeError, ValueError, MemoryError)


class TorchCodecReader:
    """A video file read by TorchCodec on one thread; see :class:`~.decode.VideoReader`.

    TorchCodec doesn't tell the times of frames it hasn't decoded: they are taken as evenly spaced, which is wrong
    for a variable frame rate unless ``fps`` is 0.
    """

    def __init__(self, path: str, *, segment: tuple[float, float] | None = None, timeout_seconds: float = 30.0) -> None:
        self._path = path
        try:
            self._decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
            metadata = self._decoder.metadata
            count, rate, size = len(self._decoder), metadata.average_fps, (metadata.width or 0, metadata.height or 0)
        except _ERRORS as error:
            raise DecodeError(path, f"cannot be opened ({type(error).__name__})") from error
        check_size(path, *size)
        times = np.arange(count) / float(rate or 25)
        self._first, last = shown_frames(path, times, segment)
        self.times = times[self._first : last]

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames at strictly ascending ``indices``; all of them are made before the first is out."""
        wanted = (self._first + np.asarray(indices, dtype=np.int64)).tolist()
        try:
            batch = self._decoder.get_frames_at(wanted).data.numpy()
        except _ERRORS as error:
            raise DecodeError(self._path, f"does not decode ({type(error).__name__})") from error
        yield from batch

    def close(self) -> None:
        """Let the decoder go."""
        del self._decoder

    def __enter__(self) -> TorchCodecReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
