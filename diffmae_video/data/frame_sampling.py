"""Which frames a clip is made of: index arithmetic on a video's time line, no I/O.

A *time line* is the video seen at a fixed rate: step ``s`` is the moment ``s / fps`` after the first frame,
and :class:`TimeLine` says which frame is nearest to it. Strides, clips and views are counted in steps, so a
stride of 4 at 30 fps covers the same seconds in a 25 fps file, a 60 fps file, and one of variable rate.

Notation: T frames of a clip, S steps of the time line, V views.
"""

from __future__ import annotations

import math

import numpy as np
import torch

SHORT_VIDEO = ("loop", "hold")
# Moments closer than this are the same moment: container time stamps are rounded to at best 1/90000 s.
_TIE_SECONDS = 1e-6


class TimeLine:
    """The frame nearest to each step; between two equally near frames, the earlier.

    Its length is the number of steps S, and ``line[steps]`` are the frames at steps 0 to S - 1, an array of any shape.
    No more is worked out than what is asked for: S is what the file's time stamps say, which may be anything.

    Args:
        times: (N,) ascending seconds at which the frames are shown.
        fps: steps a second; 0 makes every frame a step.
    """

    def __init__(self, times: np.ndarray, *, fps: float) -> None:
        self._fps = fps if len(times) > 1 else 0.0
        self._length = len(times)
        if self._fps:
            since = times - times[0]
            # The last frame's own duration isn't among the times; the mean of the others stands for it.
            duration = since[-1] * len(since) / (len(since) - 1)
            self._length = max(1, round(float(duration) * fps))
            self._edges = (since[:-1] + since[1:]) / 2 + _TIE_SECONDS

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, steps: np.ndarray) -> np.ndarray:
        if np.any(np.asarray(steps) >= self._length):
            raise IndexError(f"step {np.max(steps)}: the time line has {self._length}")
        return np.searchsorted(self._edges, steps / self._fps) if self._fps else np.asarray(steps)


def repeated_frames(times: np.ndarray, *, fps: float, stride_frames: int) -> str:
    """A line with rule and remedy where a time line's stride is less than one frame of the video, else "".

    Clips then hold frames twice, often in one cube, whose second half the first gives away. A twentieth is let pass:
    29.97 frames a second on a line of 30.

    Args:
        times: (N,) ascending seconds of the frames.
        fps, stride_frames: of the time line; an fps of 0 repeats nothing.
    """
    if fps == 0 or len(times) < 2 or times[-1] <= times[0]:
        return ""
    rate = (len(times) - 1) / (times[-1] - times[0])
    if stride_frames * rate >= 0.95 * fps:
        return ""
    return (
        f"{rate:.4g} frames a second, but data.fps={fps:g} with data.stride_frames={stride_frames} wants "
        f"{fps / stride_frames:.4g}: clips hold frames twice; use data.fps={rate:.4g} (0: each video's own), "
        f"or data.stride_frames={math.ceil(0.95 * fps / rate)}"
    )


def wrap_or_clamp(steps: np.ndarray, *, num_steps: int, short_video: str) -> np.ndarray:
    """Bring steps beyond the end back into the video: ``loop`` from its start, or ``hold`` its last step."""
    if short_video == "loop":
        return steps % num_steps
    return np.minimum(steps, num_steps - 1)


def dense_steps(num_steps: int, *, num_frames: int, stride_frames: int, generator: torch.Generator) -> np.ndarray:
    """One clip at a random start, (T,): T steps, ``stride_frames`` apart. May reach beyond a short video."""
    span = (num_frames - 1) * stride_frames + 1
    start = _randint(max(1, num_steps - span + 1), generator)
    return start + stride_frames * np.arange(num_frames)


def segment_steps(num_steps: int, *, num_frames: int, generator: torch.Generator) -> np.ndarray:
    """One random step out of each of T equal segments of the whole video, (T,) (TSN, arXiv 1608.00859)."""
    edges = np.arange(num_frames + 1) * num_steps // num_frames
    draws = torch.rand(num_frames, generator=generator, dtype=torch.float64).numpy()
    # A video of fewer steps than segments leaves some of them empty: those take their first edge.
    return np.minimum(edges[:-1] + (draws * np.diff(edges)).astype(np.int64), num_steps - 1)


def dense_views(num_steps: int, *, num_frames: int, stride_frames: int, num_views: int) -> np.ndarray:
    """Clips evenly spread over the video, (V, T), the first at its start, the last at its end; one alone: centred."""
    span = (num_frames - 1) * stride_frames + 1
    room = max(0, num_steps - span)
    starts = np.array([room // 2]) if num_views == 1 else np.arange(num_views) * room // (num_views - 1)
    return starts[:, None] + stride_frames * np.arange(num_frames)


def segment_views(num_steps: int, *, num_frames: int, num_views: int) -> np.ndarray:
    """Clips of one step out of each segment, (V, T); view v begins v/V into each, one view alone takes the middles.

    So two views take the start and the middle of each segment, as VideoMAE's test on Something-Something does.
    """
    parts, of = (np.array([1]), 2) if num_views == 1 else (np.arange(num_views), num_views)
    return (np.arange(num_frames) * of + parts[:, None]) * num_steps // (num_frames * of)


def _randint(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))
