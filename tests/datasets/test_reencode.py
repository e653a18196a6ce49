"""Re-encoding: the copy is held to its source."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from diffmae_video.data import open_video
from tests.data.helpers import make_video, run_script


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
