"""A reader that hangs is given up, and the next video is read."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diffmae_video.data import DecodeError, TestViews, VideoList, open_video
from diffmae_video.data.decoding import timeout
from diffmae_video.data.decoding.timeout import Watchdog


def test_results_and_errors_come_through() -> None:
    dog = Watchdog()
    assert dog.run(lambda: 7, path="p", timeout_seconds=5) == 7
    with pytest.raises(KeyError, match="gone"):
        dog.run(lambda: {}["gone"], path="p", timeout_seconds=5)
    assert dog.run(lambda: threading.current_thread().name, path="p", timeout_seconds=5) == "video-reader"


def test_a_hanging_call_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeout, "_GRACE_SECONDS", 0.0)
    dog, release = Watchdog(), threading.Event()
    began = time.monotonic()
    with pytest.raises(DecodeError, match="p: timed out"):
        dog.run(release.wait, path="p", timeout_seconds=0.2)
    assert time.monotonic() - began < 5
    assert dog.run(lambda: "next", path="p", timeout_seconds=5) == "next"
    release.set()


def test_a_late_result_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that was given up ends after all; what it returns must not answer the next call."""
    monkeypatch.setattr(timeout, "_GRACE_SECONDS", 0.0)
    dog, release = Watchdog(), threading.Event()
    with pytest.raises(DecodeError):
        dog.run(lambda: release.wait() and "late", path="p", timeout_seconds=0.1)
    release.set()
    assert [dog.run(lambda i=i: i, path="p", timeout_seconds=5) for i in range(5)] == list(range(5))


def test_a_watchdog_travels_to_a_worker() -> None:
    dog = Watchdog()
    dog.run(int, path="p", timeout_seconds=5)
    assert pickle.loads(pickle.dumps(dog)).run(lambda: 3, path="p", timeout_seconds=5) == 3


def test_the_reader_watches_the_clock_itself(video: Callable[..., Path]) -> None:
    with pytest.raises(DecodeError, match="timed out"):
        open_video(str(video("v.mp4")), timeout_seconds=0.0)
    views = TestViews(
        VideoList.of([str(video("v.mp4"))], [0]),
        num_frames=2, stride_frames=1, fps=0, crop_size=8, timeout_seconds=0.0,
    )  # fmt: skip
    assert views[0]["error"] == "timed out"
