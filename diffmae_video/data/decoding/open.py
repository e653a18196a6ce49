"""Video files to uint8 frames: one small protocol, and the backends behind it.

A reader is opened on one file, says how many frames there are and when each is shown, hands out the frames
asked for, in order, in one pass, and is closed:

    with open_video("talk.mp4") as reader:
        for frame in reader.frames([3, 7, 11]):   # (H, W, 3) uint8, RGB
            ...

Frame ``n`` is the n-th that ``ffmpeg -i FILE -fps_mode passthrough`` puts out, turned and mirrored as the file says.
"""

from __future__ import annotations

from collections.abc import Callable

from diffmae_video.data.decoding.base import (
    VideoReader,
    check_path,
)
from diffmae_video.errors import UserError

BACKENDS = ("auto", "pyav", "decord", "torchcodec")


# These give up a slow file by themselves, between packets and within FFmpeg's reads.
SELF_TIMED = ("auto", "pyav")


Opener = Callable[..., VideoReader]


def _pyav() -> Opener:
    from diffmae_video.data.decoding.pyav_reader import PyavReader

    return PyavReader


def _decord() -> Opener:
    from diffmae_video.data.decoding.decord_reader import DecordReader

    return DecordReader


def _torchcodec() -> Opener:
    from diffmae_video.data.decoding.torchcodec_reader import TorchCodecReader

    return TorchCodecReader


# `auto` is PyAV: of the three it alone agrees with the ffmpeg command line on every file of docs/data.md, and
# no other is faster on the clips that training asks for.
_OPENERS: dict[str, Callable[[], Opener]] = {
    "auto": _pyav,
    "pyav": _pyav,
    "decord": _decord,
    "torchcodec": _torchcodec,
}


def open_video(
    path: str,
    *,
    backend: str = "auto",
    segment: tuple[float, float] | None = None,
    num_images: int = -1,
    timeout_seconds: float = 30.0,
) -> VideoReader:
    """Open a video, an image (a video of one frame), or a folder of numbered images.

    Args:
        path: the file or folder.
        backend: one of ``BACKENDS``; ``auto`` takes PyAV. Images and folders are always read by PyAV.
        segment: (start, end) seconds from the first frame; only frames shown in [start, end) count, from 0 on.
        num_images: of a folder, only so many from its first image on, and no fewer; -1: all there are.
        timeout_seconds: after this long a file is given up; by ``SELF_TIMED`` backends only.

    Raises:
        DecodeError: the file can't be read, or isn't a video.
        UserError: an unknown backend, or one that isn't installed.
    """
    if backend not in _OPENERS:
        raise UserError(f"backend={backend!r}: must be one of {', '.join(BACKENDS)}")
    if check_path(path) == "folder":
        from diffmae_video.data.decoding.image_folder import FolderReader

        return FolderReader(path, segment=segment, num_images=num_images, timeout_seconds=timeout_seconds)
    try:
        opener = _OPENERS[backend]()
    except ImportError as error:
        raise UserError(f"backend={backend}: not installed ({error}); install {backend}, or use auto") from error
    return opener(path, segment=segment, timeout_seconds=timeout_seconds)
