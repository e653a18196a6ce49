"""Index arithmetic against closed forms and brute force."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmae_video.data import frame_sampling
from diffmae_video.seeding import generator


def frames_of(line: frame_sampling.TimeLine) -> list[int]:
    """The frames at all its steps."""
    return line[np.arange(len(line))].tolist()


@pytest.mark.parametrize("rate", [24, 25, 30, 30000 / 1001, 60])
@pytest.mark.parametrize("fps", [5, 24, 25, 30, 60])
def test_time_line_takes_the_nearest_frame(rate: float, fps: float) -> None:
    times = 7.5 + np.arange(100) / rate
    line = frame_sampling.TimeLine(times, fps=fps)
    assert len(line) == round(100 / rate * fps)
    for step, frame in enumerate(frames_of(line)):
        distance = np.abs(times - times[0] - step / fps)
        assert distance[frame] <= distance.min() + 1e-5
        assert frame == np.flatnonzero(distance <= distance.min() + 1e-5)[0]


def test_time_line_at_the_videos_own_rate_is_every_frame_once() -> None:
    millisecond_stamps = np.round(np.arange(300) / 30, 3)
    assert frames_of(frame_sampling.TimeLine(millisecond_stamps, fps=30)) == list(range(300))
    assert frames_of(frame_sampling.TimeLine(millisecond_stamps, fps=0)) == list(range(300))


def test_time_line_of_a_variable_rate_counts_seconds_not_frames() -> None:
    times = np.array([0, 0.1, 0.2, 1.0, 1.1, 1.2])
    assert (
        frames_of(frame_sampling.TimeLine(times, fps=10))
        == [0, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 5, 5][: round(1.44 * 10)]
    )


def test_time_line_of_one_frame() -> None:
    assert frames_of(frame_sampling.TimeLine(np.array([3.0]), fps=30)) == [0]


def test_dense_clips_keep_the_stride_and_reach_every_start() -> None:
    starts = set()
    for i in range(400):
        steps = frame_sampling.dense_steps(20, num_frames=4, stride_frames=3, generator=generator(0, i))
        assert (np.diff(steps) == 3).all()
        assert steps[-1] < 20
        starts.add(int(steps[0]))
    assert starts == set(range(11))


def test_short_videos_loop_or_hold() -> None:
    steps = frame_sampling.dense_steps(5, num_frames=4, stride_frames=3, generator=torch.Generator())
    assert steps.tolist() == [0, 3, 6, 9]
    assert frame_sampling.wrap_or_clamp(steps, num_steps=5, short_video="loop").tolist() == [0, 3, 1, 4]
    assert frame_sampling.wrap_or_clamp(steps, num_steps=5, short_video="hold").tolist() == [0, 3, 4, 4]


@pytest.mark.parametrize(("num_steps", "num_frames"), [(40, 8), (41, 8), (8, 8), (5, 8), (1, 4)])
def test_segment_steps_stay_in_their_segments(num_steps: int, num_frames: int) -> None:
    for i in range(100):
        steps = frame_sampling.segment_steps(num_steps, num_frames=num_frames, generator=generator(1, i))
        for j, step in enumerate(steps):
            begin, end = j * num_steps // num_frames, (j + 1) * num_steps // num_frames
            assert begin <= step < max(end, begin + 1)
            assert step < num_steps


def test_dense_views_reach_from_the_first_to_the_last_frame() -> None:
    views = frame_sampling.dense_views(300, num_frames=16, stride_frames=4, num_views=5)
    assert views.shape == (5, 16)
    assert views[0, 0] == 0
    assert views[-1, -1] == 299
    assert (np.diff(views, axis=1) == 4).all()
    assert np.ptp(np.diff(views[:, 0])) <= 1
    centred = frame_sampling.dense_views(300, num_frames=16, stride_frames=4, num_views=1)
    assert centred[0, 0] == (300 - 61) // 2


def test_segment_views_differ_and_cover_the_video() -> None:
    views = frame_sampling.segment_views(64, num_frames=8, num_views=2)
    assert views.tolist() == [[0, 8, 16, 24, 32, 40, 48, 56], [4, 12, 20, 28, 36, 44, 52, 60]]
    assert frame_sampling.segment_views(64, num_frames=8, num_views=1).tolist() == [views[1].tolist()]
    assert frame_sampling.segment_views(3, num_frames=8, num_views=2).max() == 2


@given(num_steps=st.integers(1, 400), num_frames=st.integers(1, 32))
def test_two_segment_views_are_videomaes_for_ssv2(num_steps: int, num_frames: int) -> None:
    """It takes int(tick * x) and int(tick / 2 + tick * x), tick = length / segments, and deals them out in turn."""
    tick = num_steps / num_frames
    both = sorted([int(tick / 2 + tick * x) for x in range(num_frames)] + [int(tick * x) for x in range(num_frames)])
    views = frame_sampling.segment_views(num_steps, num_frames=num_frames, num_views=2)
    # Where a product of floats falls on a whole number, one rounding may differ from another.
    assert np.abs(views - np.array([both[0::2], both[1::2]])).max() <= 1
    exact = [[(2 * x + view) * num_steps // (2 * num_frames) for x in range(num_frames)] for view in range(2)]
    assert views.tolist() == exact


@given(rate=st.floats(1, 240), fps=st.floats(1, 240), stride=st.integers(1, 8), frames=st.integers(40, 200))
def test_a_stride_below_one_frame_is_named_with_a_remedy(rate: float, fps: float, stride: int, frames: int) -> None:
    """Said where clips hold frames twice, and only there; each remedy that the line names leaves nothing to say."""
    times = 3.0 + np.arange(frames) / rate
    line = frame_sampling.repeated_frames(times, fps=fps, stride_frames=stride)
    steps = frames_of(frame_sampling.TimeLine(times, fps=fps))[::stride]
    repeated = (np.diff(steps) == 0).mean() if len(steps) > 1 else 0.0
    if line:
        assert stride * rate < fps
        assert "\n" not in line
        named = re.search(r"data\.fps=([\d.e+]+) \(0: each video's own\), or data\.stride_frames=(\d+)$", line)
        assert named is not None
        assert frame_sampling.repeated_frames(times, fps=float(named[1]), stride_frames=stride) == ""
        assert frame_sampling.repeated_frames(times, fps=fps, stride_frames=int(named[2])) == ""
        assert int(named[2]) == stride + 1 or frame_sampling.repeated_frames(
            times, fps=fps, stride_frames=int(named[2]) - 1
        )
    else:
        assert repeated <= 0.06
    assert frame_sampling.repeated_frames(times, fps=0, stride_frames=stride) == ""


def test_what_repeats_frames_and_what_does_not() -> None:
    ssv2, film, ntsc = np.arange(40) / 12, np.arange(300) / 25, np.arange(300) * 1001 / 30000
    assert frame_sampling.repeated_frames(ssv2, fps=30, stride_frames=2) == (
        "12 frames a second, but data.fps=30 with data.stride_frames=2 wants 15: clips hold frames twice; "
        "use data.fps=12 (0: each video's own), or data.stride_frames=3"
    )
    assert frame_sampling.repeated_frames(ssv2, fps=12, stride_frames=2) == ""
    assert frame_sampling.repeated_frames(ssv2, fps=30, stride_frames=4) == ""
    assert frame_sampling.repeated_frames(film, fps=30, stride_frames=1) != ""
    assert frame_sampling.repeated_frames(ntsc, fps=30, stride_frames=1) == ""
    assert frame_sampling.repeated_frames(np.array([1.0]), fps=30, stride_frames=1) == ""
    assert frame_sampling.repeated_frames(np.array([1.0, 1.0]), fps=30, stride_frames=1) == ""
