"""tools/extract_features.py against the encoder called directly."""

from __future__ import annotations

from pathlib import Path

import extract_features
import numpy as np
import pytest
import torch

from diffmae_video import load_encoder
from diffmae_video.engine.checkpoint import load_checkpoint, save_checkpoint
from diffmae_video.engine.pixels import normalize
from diffmae_video.report.film import open_film, read_windows


def run_tool(run: Path, videos: Path, listed: Path, out: Path, *more: str) -> int:
    return extract_features.main(
        ["--run", str(run), "--list", str(listed), "--root", str(videos), "--out", str(out), *more]
    )


def test_features_are_the_encoders(pretrained: Path, tiny_videos: Path, tmp_path: Path) -> None:
    assert run_tool(pretrained, tiny_videos, tiny_videos / "val.csv", tmp_path / "f.npz") == 0
    with np.load(tmp_path / "f.npz") as saved:
        assert saved["features"].shape == (5, 128)
        assert saved["labels"].tolist() == [0, 1, 2, 0, 1]
        assert [Path(path).name for path in saved["paths"]] == [f"val-{i}.mp4" for i in range(5)]
        assert saved["classes"].tolist() == ["still", "left", "right"]
        features = saved["features"]
    # The middle clip of 20 steps: 7 steps long, so it starts at step 6.
    film = open_film(str(tiny_videos / "val-2.mp4"), num_frames=20, stride_frames=1, fps=10, crop_size=32)
    _, clips = next(read_windows(film, at_once=1))
    clip = normalize(clips[0, :, 6:13:2], mean=[0.45] * 3, std=[0.225] * 3)
    with torch.no_grad():
        expected = load_encoder(pretrained).features(clip)[0]
    np.testing.assert_allclose(features[2], expected.numpy(), rtol=0, atol=2e-2)


def test_unreadable_videos_are_left_out_and_named(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classes.txt").write_text((tiny_videos / "classes.txt").read_text())
    (tmp_path / "some.csv").write_text("path,label\nval-0.mp4,0\ngone.mp4,1\nval-2.mp4,2\n")
    part = ("--dataset", "ucf101")
    assert run_tool(pretrained, tiny_videos, tmp_path / "some.csv", tmp_path / "f.npz", "--views", "2", *part) == 0
    printed = capsys.readouterr()
    assert "gone.mp4: no such file" in printed.err
    assert f"{tmp_path / 'classes.txt'}: 3 of ucf101's 101 classes\n" in printed.out
    with np.load(tmp_path / "f.npz") as saved:
        assert saved["labels"].tolist() == [0, 2]


def test_nothing_readable_is_an_error(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool(pretrained, tmp_path, tiny_videos / "val.csv", tmp_path / "f.npz") == 2
    assert "none of the 5 videos can be read" in capsys.readouterr().err
    assert not (tmp_path / "f.npz").exists()


def test_moving_averages_are_taken_on_demand(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = pretrained / "pretrain" / "weights.pt"
    assert run_tool(pretrained, tiny_videos, tiny_videos / "val.csv", tmp_path / "f.npz", "--weights", "ema") == 2
    assert f"{weights}: has no moving averages of its weights" in capsys.readouterr().err
    saved = load_checkpoint(weights)
    save_checkpoint(weights, {**saved, "ema": saved["model"]})
    assert run_tool(pretrained, tiny_videos, tiny_videos / "val.csv", tmp_path / "f.npz", "--weights", "ema") == 0
