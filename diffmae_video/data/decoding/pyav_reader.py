"""The PyAV backend: exact frames of every codec, decoding no more than what is asked for.

For the frames of a clip it starts at the key packet before, skips what no clip asks for where that changes
nothing, and stops at the clip's last packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.stream import Discard, Disposition

from diffmae_video.data.decoding.base import MAX_PIXELS, TIMED_OUT, DecodeError, check_size, shown_frames
from diffmae_video.data.decoding.color import RgbConverter
from diffmae_video.data.decoding.packet_index import Deadline, PacketSource, PacketTable

# Text beside the pictures, such as a title, is in any encoding; PyAV 19 takes it as it is, those before must be told.
_TEXT: dict[str, Any] = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
# A single JPEG image, whichever way FFmpeg reads it; within image data, no two bytes look like these markers.
_IMAGE_FORMATS = ("image2", "jpeg_pipe")
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"

# Codecs whose decoder can leave out a picture that no other refers to, with bit-identical results for all the
# others: shown for x264 streams by tests/data/decoding/test_exact_frames.py. HEVC's sub-layer non-reference pictures
# may be referred to from higher temporal layers, and the others have no such mark.
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
        self._size_unknown = False
        with self._errors("cannot be opened"):
            # The prefix keeps a colon in a name from being taken for a protocol.
            # `max_pixels` bounds the pictures that are decoded to find out what the file is.
            options = {"max_pixels": str(MAX_PIXELS)}
            self._container = av.open(f"file:{path}", options=options, timeout=timeout_seconds, **_TEXT)
        try:
            with self._errors("container damaged"):
                self._stream = self._pick_stream()
                self._source = PacketSource(self._container, self._stream, deadline=self._deadline)
                if self._is_jpeg(self._stream):
                    self._check_jpeg()
            self._table = self._source.table
            times = self._stamped_times(self._table) if self._table else self._counted_times()
            self._first, last = shown_frames(path, times, segment)
            self.times = times[self._first : last]
        except BaseException:
            self._container.close()
            raise

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames at strictly ascending ``indices``; see :class:`~.decode.VideoReader`."""
        wanted = self._first + np.asarray(indices, dtype=np.int64)
        with self._errors("does not decode"):
            for frame in self.pictures(wanted):
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
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise DecodeError(self._path, "no video stream")
        # A stream marked as default, then the largest pictures, then the first.
        best = max(streams, key=lambda s: (bool(s.disposition & Disposition.default), _pixels(s)))
        context = best.codec_context
        if context is None:
            raise DecodeError(self._path, "no decoder for the video stream")
        self._size_unknown = _pixels(best) == 0
        check_size(self._path, context.width, context.height)
        for stream in self._container.streams:
            if stream.index != best.index:
                stream.discard = Discard.all
        context.thread_count = 1
        context.options = {"max_pixels": str(MAX_PIXELS)}  # sizes can change on the way
        if self._is_jpeg(best):
            context.options["err_detect"] = "explode"  # or what can't be read is left grey
        return best

    def _is_jpeg(self, stream: av.VideoStream) -> bool:
        return stream.codec_context.name == "mjpeg" and self._container.format.name in _IMAGE_FORMATS

    def _check_jpeg(self) -> None:
        """An image that was cut off, even by its last bytes, doesn't reach its end marker."""
        for packet in self._source.read(0, self._source.count):
            data = bytes(packet)
            if data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
                raise DecodeError(self._path, "the image is cut off")

    def _stamped_times(self, table: PacketTable) -> np.ndarray:
        assert self._stream.time_base is not None
        return table.pts * float(self._stream.time_base)

    def _counted_times(self) -> np.ndarray:
        """Times of a stream whose packets don't number its frames: decode it all and see what comes."""
        with self._errors("does not decode"):
            count = sum(1 for _ in self._decode(0, self._source.count, None))
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        return np.arange(count) / (rate if rate > 0 else 25.0)

    def pictures(self, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
        """Decoded frames ``wanted`` for, in order, all of them sound."""
        for frame in self._stamped_frames(wanted, self._table) if self._table else self._counted_frames(wanted):
            if frame.is_corrupt:
                raise DecodeError(self._path, "a frame is damaged")
            yield frame

    def _stamped_frames(self, wanted: np.ndarray, table: PacketTable) -> Iterator[av.VideoFrame]:
        for begin, end, frames in table.runs(wanted):
            # A decoded frame bears the time stamp of its packet.
            waiting = dict(zip(table.pts[frames].tolist(), frames.tolist(), strict=True))
            for frame in self._decode(begin, end, set(table.shown[frames].tolist())):
                if waiting.pop(frame.pts, None) is not None:
                    yield frame
                    if not waiting:
                        break
            if waiting:
                raise DecodeError(self._path, "a frame is missing")

    def _counted_frames(self, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
        waiting = set(wanted.tolist())
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
        except (av.FFmpegError, OSError, MemoryError) as error:
            if isinstance(error, av.error.ExitError):  # FFmpeg's own clock, which stops a read that doesn't end
                raise DecodeError(self._path, TIMED_OUT) from error
            detail = getattr(error, "strerror", None) or type(error).__name__
            if self._size_unknown:  # FFmpeg leaves a size out that it doesn't take
                detail += f"; pictures without a size, or of more than {MAX_PIXELS} pixels"
            raise DecodeError(self._path, f"{what} ({detail})") from error


def _pixels(stream: av.VideoStream) -> int:
    context = stream.codec_context
    return context.width * context.height if context is not None else 0
