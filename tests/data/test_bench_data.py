"""The loader bench: its figures are there and mean what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from diffmae_video.bench import data as bench
from diffmae_video.bench import loaders
from diffmae_video.data import VideoList
from tests.data.helpers import run_script


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_measures_a_recipe(video: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copy(video("v.mp4"), tmp_path / "v.mp4")
    (tmp_path / "l.csv").write_text("path,label\n" + "v.mp4,0\n" * 8)
    ran = run_script(
        "tools/bench.py", "data", "--cfg", "configs/motion_tiny.yaml", f"data.root={tmp_path}",
        f"data.train_list={tmp_path}/l.csv", "--videos", "8", "--memory", "160", "--step-ms", "100",
        "--out", tmp_path / "o.json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "advice: " in ran.stdout
    assert "in a step of 100 ms" in ran.stdout
    result = json.loads((tmp_path / "o.json").read_text())
    assert set(result["stages"]) == set(bench.STAGES)
    assert all(rate > 0 for rate in [*result["workers"].values(), *result["backends"].values()])
    assert set(result["workers"]) == {"0", "1", "2"}
    assert np.isfinite(result["memory"]["bytes_per_video"])


def test_asking_for_nothing_is_one_line_and_exit_code_2() -> None:
    ran = run_script("tools/bench.py", "data")
    assert ran.returncode == 2
    assert "give --cfg RECIPE" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_ratio_is_of_medians_of_what_took_turns() -> None:
    calls: list[tuple[str, int]] = []
    times = bench.interleave({n: lambda p, n=n: calls.append((n, p)) for n in "ab"}, rounds=2)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert [len(seconds) for seconds in times.values()] == [2, 2]
    ratio, low, high = bench._ratio([4.0, 4.0, 400.0], [2.0, 2.0, 2.0])
    assert ratio == 2.0
    assert low <= ratio <= high


def test_contenders_load_the_same_views(tmp_path: Path) -> None:
    videos = loaders.make_files(tmp_path, 1)
    together = loaders.views(videos)(0)
    apart = loaders.views_separately(videos)(0)
    assert torch.equal(together["clips"], torch.stack(apart))  # type: ignore[index, arg-type]
    one = loaders.decord_and_pillow(videos)(3)
    assert one.shape == (16, 3, 224, 224)  # type: ignore[attr-defined]
    four = loaders.ours(videos, clips_per_video=4)(0)
    assert four["clips"].shape == (4, 16, 3, 224, 224)  # type: ignore[index]
    assert isinstance(videos, VideoList)
