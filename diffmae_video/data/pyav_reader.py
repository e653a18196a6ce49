"""The PyAV backend: exact frames of every codec, decoding no more than what is asked for.

For the frames of a clip it starts at the key packet before, skips what no clip asks for where that changes
nothing, and stops at the clip's last packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import av
import numpy as np
from av.stream import Discard, Disposition

from diffmae_video.data.decode import DecodeError, within
from diffmae_video.data.packets import Deadline, PacketSource, PacketTable
from diffmae_video.data.rgb import RgbConverter

# Codecs whose decoder can leave out a picture that no other refers to, with bit-identical results for all the
# others: shown for x264 streams by tests/data/test_exact_frames.py. HEVC's sub-layer non-reference pictures may be
# referred to from higher temporal layers, and the others have no such mark.
_SKIPPABLE = ("h264",)


@dataclass(frozen=True)
class VideoInfo:
    """A video in figures; ``fps`` is the mean, 0 for a single frame."""

    codec: str
    width: int
    height: int
    num_frames: int
    fps: float


class PyavReader:
    """A video file, an image, or any other file that FFmpeg reads; see :class:`~.decode.VideoReader`."""

    def __init__(self, path: str, *, segment: tuple[float, float] | None = None, timeout_seconds: float = 30.0) -> None:
        self._path = path
        self._deadline = Deadline(path, timeout_seconds)
        self._convert = RgbConverter()
        with self._errors("cannot be opened"):
            # The prefix keeps a colon in a name from being taken for a protocol.
            self._container = av.open(f"file:{path}", timeout=timeout_seconds)
        try:
            with self._errors("container damaged"):
                self._stream = self._pick_stream()
                self._source = PacketSource(self._container, self._stream, deadline=self._deadline)
            self._table = self._source.table
            times = self._stamped_times(self._table) if self._table else self._counted_times()
            self._first, last = within(times, segment)
            self.times = times[self._first : last]
            if len(self.times) == 0:
                raise DecodeError(path, "no frames" if segment is None else "no frames in the segment")
        except BaseException:
            self._container.close()
            raise

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames at strictly ascending ``indices``; see :class:`~.decode.VideoReader`."""
        asked = self._first + np.asarray(indices, dtype=np.int64)
        with self._errors("does not decode"):
            for frame in self.pictures(asked):
                yield self._convert(frame)

    def verify(self) -> None:
        """Decode every frame.

        Raises:
            DecodeError: one is missing or damaged.
        """
        with self._errors("does not decode"):
            for _ in self.pictures(self._first + np.arange(len(self.times))):
                pass

    def info(self) -> VideoInfo:
        """What the container and the decoder say of the video."""
        context = self._stream.codec_context
        seconds = float(self.times[-1] - self.times[0])
        fps = (len(self.times) - 1) / seconds if seconds > 0 else 0.0
        return VideoInfo(context.name, context.width, context.height, len(self.times), fps)

    def close(self) -> None:
        """Free the decoder and close the file."""
        self._source.release()
        self._container.close()

    def __enter__(self) -> PyavReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pick_stream(self) -> av.VideoStream:
        """The stream that the command line would pick; other streams are not read from the disk."""
        best = self._container.streams.best("video")
        if best is None or best.codec_context is None:
            raise DecodeError(self._path, "no video stream" if best is None else "no decoder for the video stream")
        if best.disposition & Disposition.attached_pic:
            raise DecodeError(self._path, "no video stream")
        for stream in self._container.streams:
            if stream.index != best.index:
                stream.discard = Discard.all
        best.codec_context.thread_count = 1
        assert isinstance(best, av.VideoStream)
        return best

    def _stamped_times(self, table: PacketTable) -> np.ndarray:
        assert self._stream.time_base is not None
        return table.pts * float(self._stream.time_base)

    def _counted_times(self) -> np.ndarray:
        """Times of a stream whose packets don't number its frames: decode it all and see what comes."""
        with self._errors("does not decode"):
            count = sum(1 for _ in self._decode(0, self._source.count, None))
        rate = self._stream.average_rate or self._stream.guessed_rate or 25
        return np.arange(count) / float(rate)

    def pictures(self, asked: np.ndarray) -> Iterator[av.VideoFrame]:
        """Decoded frames ``asked`` for, in order, all of them sound."""
        for frame in self._stamped_frames(asked, self._table) if self._table else self._counted_frames(asked):
            if frame.is_corrupt:
                raise DecodeError(self._path, "a frame is damaged")
            yield frame

    def _stamped_frames(self, asked: np.ndarray, table: PacketTable) -> Iterator[av.VideoFrame]:
        for begin, end, frames in table.runs(asked):
            # A decoded frame bears the time stamp of its packet.
            waiting = dict(zip(table.pts[frames].tolist(), frames.tolist(), strict=True))
            for frame in self._decode(begin, end, set(table.shown[frames].tolist())):
                if waiting.pop(frame.pts, None) is not None:
                    yield frame
                    if not waiting:
                        break
            if waiting:
                raise DecodeError(self._path, "a frame is missing")

    def _counted_frames(self, asked: np.ndarray) -> Iterator[av.VideoFrame]:
        waiting = set(asked.tolist())
        for count, frame in enumerate(self._decode(0, self._source.count, None)):
            if count in waiting:
                waiting.remove(count)
                yield frame
                if not waiting:
                    break

    def _decode(self, begin: int, end: int, wanted: set[int] | None) -> Iterator[av.VideoFrame]:
        """Decode packets begin..end-1 and drain the decoder; ``wanted`` may not be skipped (None: nothing may)."""
        context = self._stream.codec_context
        context.flush_buffers()
        codec_skips = context.name in _SKIPPABLE
        for position, packet in enumerate(self._source.read(begin, end), begin):
            self._deadline.check()
            if codec_skips and wanted is not None:
                context.skip_frame = "DEFAULT" if position in wanted else "NONREF"
            yield from context.decode(packet)
        yield from context.decode(None)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            if isinstance(error, DecodeError):
                raise
            if isinstance(error, av.error.ExitError):  # FFmpeg's own clock, which stops a read that doesn't end
                raise DecodeError(self._path, "timed out") from error
            detail = getattr(error, "strerror", None) or type(error).__name__
            raise DecodeError(self._path, f"{what} ({detail})") from error
