"""The manifest of a collection, the command that writes it, and re-encoding."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import VideoList, open_video, read_videos, scan
from tests.data.helpers import Ran, make_video, run_script

VideoMaker = Callable[..., Path]


@pytest.fixture
def collection(tmp_path: Path, video: VideoMaker) -> Path:
    root = tmp_path / "videos"
    root.mkdir()
    shutil.copy(video("v.mp4"), root / "good, one.mp4")
    shutil.copy(video("v.webm", "-c:v", "libvpx", size="80x60", rate="25", frames=20), root / "other.webm")
    (root / "empty.mp4").touch()
    (root / "cut.mp4").write_bytes(video("v.mp4").read_bytes()[:-300])
    lines = ['"good, one.mp4",0', "other.webm,1", "empty.mp4,0", "cut.mp4,0", "gone.mp4,1"]
    (tmp_path / "train.csv").write_text("path,label\n" + "".join(f"{line}\n" for line in lines))
    return tmp_path


def command(collection: Path, *more: str) -> Ran:
    return run_script(
        "tools/scan_videos.py", "--list", collection / "train.csv", "--root", collection / "videos",
        "--manifest", collection / "m.csv", "--workers", "2", *more,
    )  # fmt: skip


def test_scan_says_what_is_fit(collection: Path) -> None:
    ran = command(collection)
    assert ran.returncode == 1, ran.stderr
    assert "2 of 5 videos are fit to use" in ran.stdout
    rows = {row.path: row for row in scan.read_manifest(collection / "m.csv")}
    good, other = rows["good, one.mp4"], rows["other.webm"]
    assert (good.status, good.frames, good.fps, good.width, good.height, good.codec) == ("ok", 40, 30.0, 64, 48, "h264")
    assert good.duration_seconds == pytest.approx(40 / 30, abs=1e-3)
    assert good.bytes == (collection / "videos/good, one.mp4").stat().st_size
    assert (other.frames, other.width, other.height, other.codec) == (20, 80, 60, "vp8")
    assert rows["empty.mp4"].reason == "empty file"
    assert rows["gone.mp4"].reason == "no such file"
    assert rows["cut.mp4"].status == "bad"
    kept = read_videos(collection / "train.csv", root=collection / "videos", manifest=collection / "m.csv")
    assert sorted(kept.name(i) for i in range(len(kept))) == ["good, one.mp4", "other.webm"]


def test_scan_goes_on_where_it_was(collection: Path) -> None:
    """Rows that are there stay as they are, and a row that was cut short is made again."""
    assert command(collection, "--quick").returncode == 1
    lines = (collection / "m.csv").read_text().splitlines(keepends=True)
    marked = [line.replace("h264", "marked") for line in lines]
    (collection / "m.csv").write_text("".join(marked[:-1]) + marked[-1][:5])
    assert command(collection).returncode == 1
    again = (collection / "m.csv").read_text().splitlines(keepends=True)
    assert again[: len(lines) - 1] == marked[:-1]
    assert len(again) == len(lines)


def test_a_crash_of_the_reader_is_one_bad_video(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "examine", _crash_on_other)
    videos = read_videos(collection / "train.csv", root=collection / "videos")
    rows = {
        row.path: row.reason
        for row in scan.scan(videos, collection / "m.csv", quick=True, num_workers=2, timeout_seconds=10)
    }
    assert rows == {name: "reader crashed" if name == "other.webm" else "" for name in rows}
    assert len(rows) == 5


def _crash_on_other(path: str, *, name: str, quick: bool, timeout_seconds: float) -> scan.Health:
    if name == "other.webm":
        import os

        os._exit(1)
    return scan.Health(name, "ok", "", 1, 30.0, 8, 8, "h264", 1.0, 9)


def test_a_wrong_list_is_one_line_and_exit_code_2(collection: Path) -> None:
    (collection / "train.csv").write_text("path,label\n")
    ran = command(collection)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1


def test_reencoding_keeps_the_tree_the_frames_and_the_times(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    (root / "class a").mkdir(parents=True)
    make_video(root / "class a/wide.avi", "-c:v", "mpeg4", size="192x120", frames=24)
    make_video(root / "tall.webm", "-c:v", "libvpx", size="90x160", rate="25", frames=12)
    make_video(root / "small.mp4", size="48x32", frames=6)
    (root / "broken.mp4").write_bytes(b"no video")
    (root / "notes.txt").touch()
    options = ("--root", root, "--out", out, "--short-side", "64", "--gop", "6", "--workers", "2")
    ran = run_script("datasets/reencode.py", *options)
    assert ran.returncode == 1
    assert "failed: broken.mp4: " in ran.stdout
    assert "3 of 4 videos re-encoded" in ran.stdout
    assert re.search(r"a 16x4 clip: \d+\.\d ms before, \d+\.\d ms after", ran.stdout)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["class a/wide.mp4", "small.mp4", "tall.mp4"]
    for name, source, shape, count in [
        ("class a/wide.mp4", "class a/wide.avi", (64, 102, 3), 24),
        ("tall.mp4", "tall.webm", (114, 64, 3), 12),
        ("small.mp4", "small.mp4", (32, 48, 3), 6),
    ]:
        with open_video(str(out / name)) as reader, open_video(str(root / source)) as before:
            assert len(reader.times) == count
            assert next(iter(reader.frames([count - 1]))).shape == shape
            table = reader._table  # type: ignore[attr-defined]
            assert np.diff([*table.keys, count]).max() <= 6
            np.testing.assert_allclose(np.diff(reader.times), np.diff(before.times), atol=2e-3)
    stamp = (out / "tall.mp4").stat().st_mtime_ns
    run_script("datasets/reencode.py", *options)
    assert (out / "tall.mp4").stat().st_mtime_ns == stamp


def test_two_sources_of_one_twin_are_refused(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.avi"):
        (tmp_path / name).touch()
    ran = run_script("datasets/reencode.py", "--root", tmp_path, "--out", tmp_path / "o")
    assert ran.returncode == 2
    assert "would both become a.mp4" in ran.stderr


def test_examining_a_folder_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    make_video(folder / "img_%05d.jpg", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", frames=5)
    row = scan.examine(str(folder), name="42", quick=False, timeout_seconds=10)
    assert (row.status, row.frames, row.width, row.height) == ("ok", 5, 64, 48)
    videos = VideoList.of(["42"], [0], root=str(tmp_path))
    with open_video(videos.path(0)) as reader, open_video(str(folder / "img_00003.jpg")) as third:
        np.testing.assert_array_equal(next(iter(reader.frames([2]))), next(iter(third.frames([0]))))
