"""Long files, whose packets aren't kept, give the same frames as short ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import open_video
from diffmae_video.data.decoding import packet_index
from tests.data import formats
from tests.data.helpers import reference_frames


@pytest.mark.parametrize(
    "name",
    ["h264_short_gop.mp4", "h264_open_gop.mkv", "h264_transport.ts", "edit_list.mp4", "mpeg4_bframes.avi", "vp9.webm",
     "start_offset.mkv", "fragmented.mp4", "h264_raw.h264", "audio_beside.mp4"],
)  # fmt: skip
def test_packets_read_a_second_time(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = formats.make(tmp_path, name)
    expected = reference_frames(path)
    monkeypatch.setattr(packet_index, "MAX_KEPT_BYTES", 0)
    for chosen in ([len(expected) - 1], [0, 5, len(expected) - 3], [11, 12, 13], list(range(len(expected)))):
        with open_video(str(path)) as reader:
            frames = np.stack([frame.copy() for frame in reader.frames(chosen)])
        np.testing.assert_array_equal(frames, expected[chosen], err_msg=f"{chosen}")


def test_only_the_group_of_the_asked_frame_is_decoded(tmp_path: Path) -> None:
    """With a key packet every 8 frames, 30 frames: frame 25 needs packets 24 and on; 0 and 25 need two runs."""
    path = formats.make_video(tmp_path / "v.mp4", *formats.X264, "-g", "8", "-bf", "0", frames=30)
    with open_video(str(path)) as reader:
        table = reader._table  # type: ignore[attr-defined]
        runs = [(begin, end, frames.tolist()) for begin, end, frames in table.runs(np.array([1, 3, 25]))]
    assert runs == [(0, 4, [1, 3]), (24, 26, [25])]
