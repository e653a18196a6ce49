"""Decoded pictures to RGB, by the same conversion as the ffmpeg command line's ``-pix_fmt rgb24``."""

from __future__ import annotations

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter

# For these formats with an even height libswscale has one routine, whoever calls it. For all others the
# place of the chroma samples matters, which the `scale` filter sets as the command line does.
_PLAIN_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")


class RgbConverter:
    """Turns one video's frames into (H, W, 3) uint8 arrays, upright, all of the first frame's size."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._graph: Graph | None = None
        self._graph_input: tuple[str, int, int] | None = None
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert; the result is valid until the next call."""
        if self._size is None:
            self._size = (frame.width, frame.height)
        if self._is_plain(frame):
            rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        else:
            rgb = self._filter(frame)
        return upright(_pixels(rgb), frame)

    def _is_plain(self, frame: av.VideoFrame) -> bool:
        return (
            frame.format.name in _PLAIN_FORMATS
            and frame.height % 2 == 0
            and not frame.interlaced_frame  # libswscale would convert its fields one by one
            and self._size == (frame.width, frame.height)
        )

    def _filter(self, frame: av.VideoFrame) -> av.VideoFrame:
        kind = (frame.format.name, frame.width, frame.height)
        if self._graph is None or self._graph_input != kind:
            self._graph, self._graph_input = self._build(frame), kind
        self._graph.push(frame)
        rgb = self._graph.pull()
        assert isinstance(rgb, av.VideoFrame)
        return rgb

    def _build(self, frame: av.VideoFrame) -> Graph:
        assert self._size is not None
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        scale = graph.add("scale", f"{self._size[0]}:{self._size[1]}:flags=bicubic")
        form = graph.add("format", "rgb24")
        sink = graph.add("buffersink")
        graph.link_nodes(source, scale, form, sink).configure()
        return graph


def upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turn (H, W, 3) pixels as the frame's display matrix says, in steps of 90 degrees."""
    turns = round(frame.rotation / 90)
    return np.rot90(pixels, turns) if turns else pixels


def _pixels(rgb: av.VideoFrame) -> np.ndarray:
    plane = rgb.planes[0]  # rows are padded: line_size bytes apart
    return np.ndarray((rgb.height, rgb.width, 3), np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1))
