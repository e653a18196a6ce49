"""Write frames as an H.264 file, and read a film as clips of a model's size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize

from diffmae_video.data.clips import fit, time_line
from diffmae_video.data.decode import open_video


class Film(NamedTuple):
    """Consecutive clips of one video."""

    clips: Tensor  # (K, frames, 3, size, size) uint8
    seconds: np.ndarray  # (K, frames): when each frame is shown
    fps: float  # rate at which the frames follow each other


def write_video(path: Path, frames: Sequence[np.ndarray] | np.ndarray, *, fps: float, crf: int) -> None:
    """Encode uint8 frames (height, width, 3) as H.264; the file appears under its name when it is complete.

    Args:
        path: the .mp4 file to write.
        frames: the pictures, of even height and width (4:2:0 colour halves both).
        fps: frames a second.
        crf: x264's quality, 0 (lossless) to 51.
    """
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        with av.open(str(unfinished), "w") as container:
            # One thread: more would make the bytes depend on the machine. No look-ahead: x264's macroblock tree gives
            # the same small pictures other bytes now and then (3 of 120 encodings; with asm=0 or without it, none).
            options = {"crf": str(crf), "threads": "1", "x264-params": "rc-lookahead=0:mbtree=0"}
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_film(
    path: str | Path, *, num_frames: int, stride_frames: int, fps: float, crop_size: int, max_clips: int
) -> Film:
    """Cut a video into clips, one after the other, each shrunk to ``crop_size`` and cropped to its centre.

    Steps without a clip of their own at the end are left out. A video shorter than one clip, such as a picture,
    holds its last frame.

    Args:
        path: a video, a picture, or a folder of numbered pictures.
        num_frames: frames of a clip.
        stride_frames: steps of the time line between two of them.
        fps: steps of the time line a second; 0 takes every frame as a step.
        crop_size: height and width of the clips.
        max_clips: at most so many, evenly spread over the film.

    Raises:
        DecodeError: the file can't be read.
    """
    with open_video(str(path)) as reader:
        line = time_line(reader.times, fps=fps)
        picks = _film_steps(len(line), num_frames=num_frames, stride_frames=stride_frames, max_clips=max_clips)
        indices = line[picks]  # (K, frames)
        unique, inverse = np.unique(indices, return_inverse=True)
        frames = torch.stack([_shrink(frame, crop_size) for frame in reader.frames(unique.tolist())])
        seconds = reader.times[indices] - reader.times[0]
    rate = fps / stride_frames if fps else _own_rate(seconds[0])
    return Film(frames[torch.from_numpy(inverse.reshape(indices.shape))], seconds, rate)


def _film_steps(num_steps: int, *, num_frames: int, stride_frames: int, max_clips: int) -> np.ndarray:
    """(K, frames) steps of consecutive clips."""
    span = num_frames * stride_frames
    available = max(1, num_steps // span)
    chosen = np.arange(min(max_clips, available)) * available // min(max_clips, available)
    steps = chosen[:, None] * span + stride_frames * np.arange(num_frames)
    return fit(steps, num_steps=num_steps, short_video="hold")


def _own_rate(seconds: np.ndarray) -> float:
    """Frames a second of a clip without a time line; 1 for a picture, which has no rate."""
    return (len(seconds) - 1) / float(seconds[-1] - seconds[0]) if seconds[-1] > seconds[0] else 1.0


def _shrink(frame: np.ndarray, size: int) -> Tensor:
    picture = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
    return center_crop(resize(picture, [size], antialias=True), [size, size])
