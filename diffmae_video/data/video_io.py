"""Frames to H.264 files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_TICKS = 90_000  # a second, of the time stamps: MPEG's


class VideoWriter:
    """Encodes frames as they come; see :func:`open_writer`."""

    def __init__(self, container: av.container.OutputContainer, *, fps: float, crf: int) -> None:
        # One thread: more would make the bytes depend on the machine. No look-ahead: x264's macroblock tree gives
        # the same small pictures other bytes now and then (3 of 120 encodings; with asm=0 or without it, none).
        options = {"crf": str(crf), "threads": "1", "x264-params": "rc-lookahead=0:mbtree=0"}
        rate = Fraction(fps).limit_denominator(1001)
        self._container, self._written = container, 0
        self._stream = container.add_stream("libx264", rate=rate, options=options)
        self._stream.pix_fmt = "yuv420p"

    def write(self, frame: np.ndarray, *, second: float | None = None) -> None:
        """Encode a uint8 frame (height, width, 3), shown at ``second``; None: at the next beat of the rate."""
        if not self._written:
            self._stream.height, self._stream.width = frame.shape[:2]
            if second is not None:
                self._stream.codec_context.time_base = Fraction(1, _TICKS)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        if second is not None:
            picture.pts, picture.time_base = round(second * _TICKS), Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(picture))
        self._written += 1

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        self._container.mux(self._stream.encode())


@contextmanager
def open_writer(path: Path, *, fps: float, crf: int) -> Iterator[VideoWriter]:
    """Write an .mp4 file, which appears under its name when it is complete.

    Frames need an even height and width: 4:2:0 colour halves both.

    Args:
        path: the file.
        fps: frames a second.
        crf: x264's quality, 0 (lossless) to 51.
    """
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        with av.open(str(unfinished), "w") as container:
            writer = VideoWriter(container, fps=fps, crf=crf)
            yield writer
            writer.finish()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_video(path: Path, frames: Iterable[np.ndarray], *, fps: float, crf: int) -> None:
    """Encode uint8 frames (height, width, 3); see :func:`open_writer`."""
    with open_writer(path, fps=fps, crf=crf) as writer:
        for frame in frames:
            writer.write(frame)
