"""What every reader of videos gives, the error that it raises, and checks that all share."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np

from diffmae_video.errors import UserError

# Reasons that whoever reads a `DecodeError` may have advice for.
TIMED_OUT, NO_SUCH_FILE = "timed out", "no such file"


# Twice an 8K picture. A header can claim any size, and memory is taken before a single pixel is read.
MAX_PIXELS = 1 << 26


# An interval between two frames is a jump of the clock if it is this many times the usual one, and longer than a
# minute: recorders of still screens leave out frames for seconds, and slide shows have long intervals throughout.
# Nothing shows one frame for more than a day.
_JUMP_INTERVALS, _JUMP_SECONDS, _MAX_JUMP_SECONDS = 100, 60.0, 86400.0


class DecodeError(UserError):
    """A video that can't be read.

    Attributes:
        path: the file.
        reason: why, in a few words; the same words for the same kind of damage, so that they can be counted.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class VideoReader(Protocol):
    """What the data sets need of a video.

    Attributes:
        times: (N,) float64, ascending: seconds at which each of the N frames is shown.
    """

    times: np.ndarray

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames at strictly ascending ``indices``, each (H, W, 3) uint8, valid until the next.

        Raises:
            DecodeError: a frame asked for does not decode.
        """

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> VideoReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_path(path: str) -> str:
    """Say whether ``path`` is a "file" or a "folder"; opening anything else, such as a FIFO, could wait forever.

    Raises:
        DecodeError: neither, or not readable, or empty.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise DecodeError(path, NO_SUCH_FILE) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise cannot_open(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    if not stat.S_ISREG(found.st_mode):
        raise DecodeError(path, "not a regular file")
    if found.st_size == 0:
        raise DecodeError(path, "empty file")
    return "file"


def shown_frames(path: str, times: np.ndarray, segment: tuple[float, float] | None) -> tuple[int, int]:
    """The half-open range of frames shown in ``segment``, seconds counted from the first frame.

    Args:
        path: the file, for the error.
        times: (N,) seconds at which all its frames are shown.
        segment: start and end seconds; None for all of it.

    Raises:
        DecodeError: there are none, or the times are no times of a video: they run backwards, or jump.
    """
    _check_times(path, times)
    if len(times) == 0:
        raise DecodeError(path, "no frames")
    if segment is None:
        return 0, len(times)
    # A frame that starts a rounding error before the segment belongs to it.
    first, last = np.searchsorted(times - times[0], np.array(segment) - 1e-6)
    if first == last:
        raise DecodeError(path, "no frames in the segment")
    return int(first), int(last)


def check_size(path: str, width: int, height: int) -> None:
    """Refuse pictures of more than ``MAX_PIXELS``.

    Raises:
        DecodeError: they are.
    """
    if width * height > MAX_PIXELS:
        raise DecodeError(path, f"pictures of {width}x{height}: more than {MAX_PIXELS} pixels are not read")


def _check_times(path: str, times: np.ndarray) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        intervals = np.diff(times)
    if len(intervals) == 0:
        return
    backwards = ~(intervals >= 0)  # or not a number
    if backwards.any():
        raise DecodeError(path, f"damaged: time stamps run backwards at frame {int(backwards.argmax()) + 1}")
    middle = (len(intervals) - 1) // 2  # of two middle ones the shorter: three frames and a jump are seen, too
    usual = float(np.partition(intervals, middle)[middle])
    jump = int(intervals.argmax())
    if intervals[jump] > min(max(_JUMP_INTERVALS * usual, _JUMP_SECONDS), _MAX_JUMP_SECONDS):
        raise DecodeError(path, f"damaged: time stamps jump by {intervals[jump]:.6g} s at frame {jump + 1}")


def cannot_open(path: str, error: OSError | ValueError) -> DecodeError:
    """The error of a file or folder that the system doesn't open, in the system's words."""
    words = error.strerror if isinstance(error, OSError) else None
    return DecodeError(path, f"cannot be opened ({words or error})")
