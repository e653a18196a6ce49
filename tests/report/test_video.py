"""Writing videos, and cutting films into clips."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from diffmae_video.data.decode import DecodeError
from diffmae_video.report.video import read_film, write_video


def ramp(count: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose grey level is five times their number."""
    return np.broadcast_to(5 * np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3))


def numbers(clips: torch.Tensor) -> list[list[int]]:
    return (clips.float().mean((2, 3, 4)) / 5).round().int().tolist()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "ramp.mp4"
    write_video(path, ramp(25), fps=12.5, crf=4)
    return path


def test_written_video_is_h264_of_the_rate_and_size(film: Path) -> None:
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, float(stream.average_rate)) == (64, 48, 12.5)
        assert len(list(container.decode(stream))) == 25


def test_writer_that_fails_leaves_no_file(tmp_path: Path) -> None:
    frames = [np.zeros((24, 24, 3), dtype=np.uint8), np.zeros((24, 24, 3))]  # the second is no uint8
    with pytest.raises(ValueError):
        write_video(tmp_path / "a.mp4", frames, fps=8, crf=12)
    assert list(tmp_path.iterdir()) == []


def test_film_is_cut_into_consecutive_clips(film: Path) -> None:
    cut = read_film(film, num_frames=4, stride_frames=2, fps=12.5, crop_size=16, max_clips=64)
    assert cut.clips.shape == (3, 4, 3, 16, 16)
    assert cut.clips.dtype == torch.uint8
    assert numbers(cut.clips) == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22]]
    np.testing.assert_allclose(cut.seconds[1], np.array([8, 10, 12, 14]) / 12.5, atol=1e-3)
    assert cut.fps == 6.25


def test_time_line_is_the_models(film: Path) -> None:
    cut = read_film(film, num_frames=4, stride_frames=1, fps=6.25, crop_size=16, max_clips=64)
    assert numbers(cut.clips)[0] == [0, 2, 4, 6]
    every = read_film(film, num_frames=4, stride_frames=1, fps=0, crop_size=16, max_clips=64)
    assert numbers(every.clips)[0] == [0, 1, 2, 3]
    assert every.fps == pytest.approx(12.5, abs=0.01)


def test_few_clips_are_spread_over_the_film(film: Path) -> None:
    cut = read_film(film, num_frames=4, stride_frames=1, fps=0, crop_size=16, max_clips=2)
    assert numbers(cut.clips) == [[0, 1, 2, 3], [12, 13, 14, 15]]


def test_picture_is_held(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "one.png"), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 20, 16, "rgb24"
        pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    cut = read_film(tmp_path / "one.png", num_frames=4, stride_frames=2, fps=16, crop_size=16, max_clips=64)
    expected = torch.from_numpy(pixels[:, 2:18]).permute(2, 0, 1)
    assert torch.equal(cut.clips, expected.expand(1, 4, -1, -1, -1))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match=r"x\.mp4"):
        read_film(tmp_path / "x.mp4", num_frames=4, stride_frames=1, fps=0, crop_size=16, max_clips=4)
