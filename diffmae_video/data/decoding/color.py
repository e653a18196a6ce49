"""Decoded pictures to RGB, by the same conversion as the ffmpeg command line's ``-pix_fmt rgb24``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter

# For these formats with an even height libswscale has one routine, whoever calls it. For all others the
# place of the chroma samples matters, which the `scale` filter sets as the command line does.
_PLAIN_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")


# Names and arguments of filters.
_Filters = tuple[tuple[str, str], ...]
# The filter itself only counts the rows from the last one on, which PyAV can't hand over.
_UPSIDE_DOWN: _Filters = (("vflip", ""), ("copy", ""))
# FFmpeg's number for a frame's EXIF block, which PyAV before 19 has no name for.
_EXIF_SIDE_DATA = 31


class RgbConverter:
    """Turns one video's frames into (H, W, 3) uint8 arrays, as they are shown, all of the first frame's size."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._graph: Graph | None = None
        self._graph_input: tuple[str, int, int, _Filters] | None = None
        self._size: tuple[int, int] | None = None
        self._rotation: int | None = None
        self._turns: _Filters = ()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert; the result is valid until the next call."""
        # A frame whose side data was looked at is part of a reference cycle, and its pixels are kept until the next
        # collection: so only the first frame is, and those where the angle changes.
        if self._rotation != frame.rotation:
            self._rotation, self._turns = frame.rotation, turning_filters(display_matrix(frame))
        turns = self._turns
        if self._size is None:
            turned = any(name == "transpose" for name, _ in turns)
            self._size = (frame.height, frame.width) if turned else (frame.width, frame.height)
        if not turns and self._is_plain(frame):
            rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        else:
            rgb = self._filter(frame, turns)
        return _pixels(rgb)

    def _is_plain(self, frame: av.VideoFrame) -> bool:
        return (
            frame.format.name in _PLAIN_FORMATS
            and frame.height % 2 == 0
            and not frame.interlaced_frame  # libswscale would convert its fields one by one
            and self._size == (frame.width, frame.height)
        )

    def _filter(self, frame: av.VideoFrame, turns: _Filters) -> av.VideoFrame:
        kind = (frame.format.name, frame.width, frame.height, turns)
        if self._graph is None or self._graph_input != kind:
            assert self._size is not None
            scale = ("scale", f"{self._size[0]}:{self._size[1]}:flags=bicubic")
            self._graph, self._graph_input = _graph(frame, (*turns, scale, ("format", "rgb24"))), kind
        return _push_through(self._graph, frame)


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The nine numbers that say how a frame is shown (ISO 14496-12, 6.2.2; of EXIF, made by FFmpeg); None: as it is."""
    data: Any
    try:
        data = frame.side_data
    except ValueError:  # PyAV before 19 stops at an EXIF block
        without = _graph(frame, (("sidedata", f"mode=delete:type={_EXIF_SIDE_DATA}"),))
        data = _push_through(without, frame).side_data
    matrix = data.get("DISPLAYMATRIX")
    return None if matrix is None else tuple(np.frombuffer(matrix, np.int32).tolist())


def turning_filters(matrix: Sequence[int] | None) -> _Filters:
    """The filters, name and arguments each, by which the ffmpeg command line shows a picture as its matrix says."""
    if matrix is None:
        return ()
    width, height = math.hypot(matrix[0], matrix[3]), math.hypot(matrix[1], matrix[4])
    if width == 0 or height == 0:
        return ()
    clockwise = round(math.degrees(math.atan2(matrix[1] / height, matrix[0] / width))) % 360
    if clockwise == 90:
        return (("transpose", "cclock_flip" if matrix[3] > 0 else "clock"),)
    if clockwise == 270:
        return (("transpose", "clock_flip" if matrix[3] < 0 else "cclock"),)
    if clockwise == 180:
        mirrored = (("hflip", ""),) if matrix[0] < 0 else ()
        return (*mirrored, *_UPSIDE_DOWN) if matrix[4] < 0 else mirrored
    if clockwise:
        return (("rotate", f"{clockwise}*PI/180"),)
    return _UPSIDE_DOWN if matrix[4] < 0 else ()


def _graph(frame: av.VideoFrame, filters: _Filters) -> Graph:
    """Filters in a row, for frames like ``frame``."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    row = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source, *row, graph.add("buffersink")).configure()
    return graph


def _push_through(graph: Graph, frame: av.VideoFrame) -> av.VideoFrame:
    graph.push(frame)
    result = graph.pull()
    assert isinstance(result, av.VideoFrame)
    return result


def _pixels(rgb: av.VideoFrame) -> np.ndarray:
    plane = rgb.planes[0]  # rows are padded: line_size bytes apart
    return np.ndarray((rgb.height, rgb.width, 3), np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1))
