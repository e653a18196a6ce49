"""Where the other backends agree with the ffmpeg command line, and where they don't: the table of docs/data.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import DecodeError, open_video
from diffmae_video.errors import UserError
from tests.data import formats
from tests.data.helpers import reference_frames

# What decord 0.6 (FFmpeg 4.1) and TorchCodec 0.17 get wrong. A release that mends one of these fails a test here, and
# then the table and the reason for `auto` are due for another look.
WRONG = {
    "decord": {
        "h264_open_gop.mp4": "pixels",
        "hevc_open_gop.mkv": "pixels",
        "hevc_10bit.mp4": "pixels",
        "mpeg4_bframes.avi": "refused",
        "mpeg4_bframes.mp4": "pixels",
        "h264_transport.ts": "pixels",
        "h264_raw.h264": "refused",
        "h264_10bit.mp4": "pixels",
        "h264_intra_refresh.mkv": "pixels",
        "vp9_10bit.webm": "pixels",
        "av1.mp4": "refused",
        "odd_size.webm": "pixels",
        "rotated_90.mp4": "refused",
        "rotated_45.mp4": "pixels",
        "mirrored.mp4": "pixels",
        "mirrored_vertically.mp4": "pixels",
        "transposed.mp4": "refused",
        "edit_list.mp4": "count",
        "start_offset.ts": "pixels",
    },
    "torchcodec": {
        "h264_intra_refresh.mkv": "pixels",
        "h264_transport.ts": "refused",
        "h264_raw.h264": "refused",
        "mpeg4_bframes.avi": "refused",
        "start_offset.ts": "refused",
        "rotated_45.mp4": "pixels",
        "mirrored.mp4": "pixels",
        "mirrored_vertically.mp4": "pixels",
        "transposed.mp4": "pixels",
    },
}
RIGHT = (
    "h264_bframes.mp4",
    "hevc.mp4",
    "vp9.webm",
    "mpeg4.avi",
    "variable_rate.mp4",
    "audio_beside.mkv",
    "anamorphic.mp4",
)


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
@pytest.mark.parametrize("name", sorted({*RIGHT, *WRONG["decord"], *WRONG["torchcodec"]}))
def test_what_each_backend_gets_wrong(tmp_path: Path, backend: str, name: str) -> None:
    pytest.importorskip(backend, reason=f"needs {backend}", exc_type=Exception)  # a missing shared library, too
    path = formats.make(tmp_path, name)
    verdict = _verdict(str(path), reference_frames(path), backend)
    assert verdict == WRONG[backend].get(name, "right")


def _verdict(path: str, expected: np.ndarray, backend: str) -> str:
    try:
        with open_video(path, backend=backend) as reader:
            if len(reader.times) != len(expected):
                return "count"
            frames = np.stack([frame.copy() for frame in reader.frames(range(len(expected)))])
            some = np.arange(1, len(expected), 4)
            chosen = np.stack([frame.copy() for frame in reader.frames(some)])
    except DecodeError:
        return "refused"
    same = np.array_equal(frames, expected) and np.array_equal(chosen, expected[some])
    return "right" if same else "pixels"


def test_backends_agree_on_times(tmp_path: Path) -> None:
    path = str(formats.make(tmp_path, "variable_rate.mp4"))
    pytest.importorskip("decord", reason="needs decord")
    with open_video(path) as pyav, open_video(path, backend="decord") as decord:
        np.testing.assert_allclose(pyav.times, decord.times, atol=1e-4)


def test_segments_are_every_backends(tmp_path: Path) -> None:
    path = formats.make(tmp_path, "h264_bframes.mp4")
    expected = reference_frames(path)
    for backend in ("pyav", "decord", "torchcodec"):
        pytest.importorskip({"pyav": "av"}.get(backend, backend), reason=f"needs {backend}", exc_type=Exception)
        with open_video(str(path), backend=backend, segment=(0.5, 0.8)) as reader:
            assert len(reader.times) == 9
            np.testing.assert_array_equal(next(iter(reader.frames([2]))), expected[17])


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="backend='opencv': must be one of auto, pyav, decord, torchcodec"):
        open_video(str(tmp_path), backend="opencv")
