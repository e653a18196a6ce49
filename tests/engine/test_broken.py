"""The bound on unreadable videos: when it stops a run, and with which words."""

from __future__ import annotations

import pytest
import torch

from diffmae_video.engine.broken import ENOUGH_VIDEOS, BrokenVideos, TooManyBroken
from diffmae_video.engine.distributed import World

WORLD = World(rank=0, size=1, local_rank=0, device=torch.device("cpu"))


def test_above_the_bound_the_first_causes_are_told() -> None:
    broken = BrokenVideos(limit=0.01)
    broken.add([("a.mp4", "empty file"), ("b.mp4", "no such file")])
    broken.check(WORLD, 400)  # 2 of 402
    broken.add([(f"{i}.mp4", "empty file") for i in range(3)])
    with pytest.raises(TooManyBroken) as caught:
        broken.check(WORLD, 400)
    assert "5 of 405 videos could not be read (1.2%, bound data.max_broken=0.01)" in str(caught.value)
    assert "a.mp4: empty file; b.mp4: no such file; 0.mp4: empty file;" in str(caught.value)
    assert "1.mp4" not in str(caught.value)


def test_a_few_videos_say_too_little() -> None:
    broken = BrokenVideos(limit=0.01)
    broken.add([("a.mp4", "empty file")] * 20)
    broken.check(WORLD, ENOUGH_VIDEOS - 1)
    with pytest.raises(TooManyBroken):
        broken.check(WORLD, ENOUGH_VIDEOS)


def test_counting_goes_on_from_a_checkpoint() -> None:
    before, after = BrokenVideos(limit=0.5), BrokenVideos(limit=0.5)
    before.add([("a.mp4", "empty file")])
    after.load(before.state())
    after.add([("b.mp4", "empty file")])
    assert after.count == 2
    assert after.first == ["a.mp4: empty file", "b.mp4: empty file"]
    assert before.first == ["a.mp4: empty file"]
