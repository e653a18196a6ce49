"""Writing videos."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from diffmae_video.data.video_io import open_writer, write_video


def ramp(count: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose grey level is five times their number."""
    return np.broadcast_to(5 * np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3))


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


def test_frames_are_shown_when_they_should_be(tmp_path: Path) -> None:
    """Also at times of no constant rate, to a tick of 1/90000 s."""
    seconds = [0.0, 0.04, 0.08, 0.5, 0.52, 2.0]
    with open_writer(tmp_path / "a.mp4", fps=2.5, crf=4) as writer:
        for second, frame in zip(seconds, ramp(6), strict=True):
            writer.write(frame, second=second)
    with av.open(str(tmp_path / "a.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, seconds, atol=2e-5)
