"""The loader benchmarks: its figures are there and mean what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import data as benchmarks
from benchmarks import loaders
from diffmae_video.data import VideoList
from diffmae_video.data.decoding.pyav_reader import PyavReader, VideoInfo
from tests.data.helpers import run_script
from tools.bench import main as bench_main


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_measures_a_config(video: Callable[..., Path], tmp_path: Path) -> None:
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
    assert set(result["stages"]) == set(benchmarks.STAGES)
    assert all(rate > 0 for rate in [*result["workers"].values(), *result["backends"].values()])
    assert set(result["workers"]) == {"0", "1", "2"}
    assert np.isfinite(result["memory"]["bytes_per_video"])


def test_asking_for_nothing_is_one_line_and_exit_code_2() -> None:
    ran = run_script("tools/bench.py", "data")
    assert ran.returncode == 2
    assert "give --cfg CONFIG" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_missing_contenders_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert bench_main(["data", "--ratios", "1"]) == 2
    assert "compares with ffmpeg, not installed here" in capsys.readouterr().err


def test_a_ratio_is_the_median_over_rounds_of_what_took_turns() -> None:
    calls: list[tuple[str, int]] = []
    times = benchmarks.interleave({n: lambda p, n=n: calls.append((n, p)) for n in "ab"}, rounds=2)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert [len(seconds) for seconds in times.values()] == [2, 2]
    # The medians' own ratio would be 3.
    ratio, low, high = benchmarks._ratio([2.0, 9.0, 12.0], [1.0, 3.0, 6.0])
    assert ratio == 2.0
    assert low <= ratio <= high


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the ffmpeg command line")
    return loaders.make_files(tmp_path_factory.mktemp("films"), 2)


def test_films_are_what_the_table_says(films: VideoList) -> None:
    for i in range(2):
        with PyavReader(films.path(i)) as reader:
            assert reader.info() == VideoInfo("h264", 340, 256, loaders.LENGTH, pytest.approx(30.0))


@pytest.mark.parametrize(("name", "package"), [("decord_and_pillow", "decord"), ("pytorchvideo", "pytorchvideo.data")])
@pytest.mark.parametrize("position", [2, 5])
def test_other_loaders_load_the_clip_that_ours_loads(films: VideoList, name: str, package: str, position: int) -> None:
    pytest.importorskip(package, reason=f"needs {package}")
    ours = loaders.ours(films)(position)["clips"][0].float()  # type: ignore[index]
    theirs = getattr(loaders, name)(films)(position).float()
    mirrored = ours.flip(-1)

    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).abs().mean())

    # Resizing rounds differently; another frame or another crop is some levels away.
    near = min(distance(ours, theirs), distance(mirrored, theirs))
    assert near < 1.0
    assert distance(theirs[0], theirs[-1]) > 5 * near


def test_clips_and_views_from_one_open_are_those_of_many(films: VideoList) -> None:
    together = loaders.views(films)(0)
    apart = loaders.views_separately(films)(0)
    assert torch.equal(together["clips"], torch.stack(apart))  # type: ignore[index, arg-type]
    four = loaders.ours(films, clips_per_video=4)(1)
    assert torch.equal(four["clips"], loaders.ours_separately(films, clips_per_video=4)(1))  # type: ignore[index, arg-type]
