"""Frames are the ffmpeg command line's, bit for bit, whichever are asked for and in whatever file."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import DecodeError, open_video
from tests.data import formats
from tests.data.helpers import ffmpeg, reference_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@functools.cache
def made(folder: Path, name: str) -> tuple[str, np.ndarray]:
    path = formats.make(folder, name)
    return str(path), reference_frames(path)


def read(path: str, indices: list[int], backend: str = "auto") -> np.ndarray:
    with open_video(path, backend=backend) as reader:
        return np.stack([frame.copy() for frame in reader.frames(indices)])


@pytest.mark.parametrize("name", formats.ALL)
def test_every_frame(folder: Path, name: str) -> None:
    path, expected = made(folder, name)
    with open_video(path) as reader:
        assert len(reader.times) == len(expected)
        assert (np.diff(reader.times) > 0).all()
    np.testing.assert_array_equal(read(path, list(range(len(expected)))), expected)


@pytest.mark.parametrize("name", formats.ALL)
def test_each_frame_alone_and_any_subset(folder: Path, name: str) -> None:
    path, expected = made(folder, name)
    with open_video(path) as reader:
        for number in range(len(expected)):
            (frame,) = list(reader.frames([number]))
            np.testing.assert_array_equal(frame, expected[number], err_msg=f"frame {number}")
    rng = np.random.default_rng(0)
    for _ in range(8):
        chosen = np.flatnonzero(rng.random(len(expected)) < rng.choice([0.1, 0.3, 0.7])).tolist() or [0]
        np.testing.assert_array_equal(read(path, chosen), expected[chosen], err_msg=str(chosen))


@pytest.mark.parametrize("container", ["mkv", "mp4"])
@pytest.mark.parametrize("defaults", [(), (0,), (1,), (2,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("sizes", [("64x48", "96x80", "80x64"), ("48x32", "32x48", "48x32")])
def test_the_stream_is_the_one_that_the_command_line_takes(
    tmp_path: Path, sizes: tuple[str, ...], defaults: tuple[int, ...], container: str
) -> None:
    path = tmp_path / f"streams.{container}"
    inputs, options = [], []
    for number, size in enumerate(sizes):
        inputs += ["-f", "lavfi", "-i", f"testsrc=size={size}:rate={10 + number}"]
        options += ["-map", f"{number}:v", f"-disposition:v:{number}", "default" if number in defaults else "0"]
    ffmpeg(*inputs, *options, "-t", "0.3", *formats.X264, str(path))
    np.testing.assert_array_equal(read(str(path), [0, 1, 2]), reference_frames(path)[:3])


def test_a_cover_picture_is_no_stream(tmp_path: Path) -> None:
    """Larger than the video, which isn't marked as default."""
    cover, path = formats.make_video(tmp_path / "cover.png", "-c:v", "png", size="96x80", frames=1), tmp_path / "v.mkv"
    video = formats.make_video(tmp_path / "video.mp4", *formats.X264, frames=3)
    ffmpeg(
        "-i", str(video), "-c", "copy", "-disposition:v:0", "0", "-attach", str(cover),
        "-metadata:s:t", "mimetype=image/png", str(path),
    )  # fmt: skip
    np.testing.assert_array_equal(read(str(path), [0, 1, 2]), reference_frames(path))
    np.testing.assert_array_equal(read(str(path), [0, 1, 2]), reference_frames(video))


def test_a_stream_without_decoder_is_named(tmp_path: Path) -> None:
    path = formats.make_video(tmp_path / "v.mp4", *formats.X264, frames=3)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"free"))
    with pytest.raises(DecodeError, match="no decoder for the video stream"):
        open_video(str(path))


def test_segments_count_from_the_first_frame(folder: Path) -> None:
    path, expected = made(folder, "start_offset.mkv")
    with open_video(path, segment=(0.2, 0.5)) as reader:
        frames = np.stack([frame.copy() for frame in reader.frames(range(len(reader.times)))])
    np.testing.assert_array_equal(frames, expected[6:15])
    with pytest.raises(DecodeError, match="no frames in the segment"):
        open_video(path, segment=(50.0, 60.0))
