"""tools/extract_features.py against the encoder called directly."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import extract_features
import numpy as np
import pytest
import torch

from diffmae_video import load_encoder
from diffmae_video.build import build_views
from diffmae_video.config import load_config
from diffmae_video.data import TestViews, read_videos
from diffmae_video.data.normalize import normalize
from diffmae_video.engine.checkpoint.single_file import load_checkpoint, save_checkpoint
from diffmae_video.inpainting.film import open_film, read_windows
from diffmae_video.model import SpacetimeViT


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


def test_missing_videos_point_to_the_root(
    pretrained: Path, tmp_path: Path, tiny_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool(pretrained, tmp_path, tiny_videos / "val.csv", tmp_path / "f.npz") == 2
    assert "no such file; check --root" in capsys.readouterr().err


def test_a_slow_video_points_to_the_time_limit(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tiny_videos / "val.csv"
    assert run_tool(pretrained, tiny_videos, listed, tmp_path / "f.npz", "--timeout", "1e-9") == 2
    told = capsys.readouterr().err
    assert "timed out after 1e-09 s; raise --timeout" in told
    assert "--root" not in told


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_many_views_are_decoded_and_encoded_a_few_at_a_time(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """And give the same mean, whatever the parts; a broken video is broken in all of them."""
    (tmp_path / "classes.txt").write_text((tiny_videos / "classes.txt").read_text())
    (tmp_path / "some.csv").write_text("path,label\nval-0.mp4,0\ngone.mp4,1\nval-2.mp4,2\n")
    decoded, encoded = [], []
    features, some = SpacetimeViT.features, TestViews.some

    def counted_features(self: SpacetimeViT, clips: torch.Tensor, **rest: Any) -> torch.Tensor:
        encoded.append(len(clips))
        return features(self, clips, **rest)

    def counted_some(self: TestViews, video: int, which: range) -> dict[str, Any]:
        item = some(self, video, which)
        decoded.append(len(item["clips"]))
        return item

    monkeypatch.setattr(SpacetimeViT, "features", counted_features)
    monkeypatch.setattr(TestViews, "some", counted_some)
    more = ["--views", "5", "--batch-size", str(batch_size)]
    assert run_tool(pretrained, tiny_videos, tmp_path / "some.csv", tmp_path / "f.npz", *more) == 0
    assert sum(decoded) == sum(encoded) == 15
    assert max(encoded) <= batch_size
    assert max(decoded) <= batch_size
    monkeypatch.undo()
    config = load_config(pretrained / "config.yaml", [])
    videos = read_videos(tiny_videos / "val.csv", root=tiny_videos, dataset="list")
    views = build_views(config, videos, views=5, crops=1)
    with np.load(tmp_path / "f.npz") as saved, torch.no_grad():
        assert saved["labels"].tolist() == [0, 2]
        for row, video in zip(saved["features"], (0, 2), strict=True):
            clips = normalize(views[video]["clips"], mean=config.data.mean, std=config.data.std)
            expected = load_encoder(pretrained).features(clips).mean(0)
            np.testing.assert_allclose(row, expected.numpy(), rtol=0, atol=1e-5)


def test_the_encoder_and_its_clips_are_on_one_device(
    pretrained: Path, tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried with "meta" in the GPU's place: features come back to the CPU to be written."""
    seen = set()

    def features(self: SpacetimeViT, clips: torch.Tensor, **rest: Any) -> torch.Tensor:
        seen.update({clips.device.type, next(self.parameters()).device.type})
        return torch.zeros(len(clips), 128, device="meta")

    monkeypatch.setattr(extract_features, "choose_device", lambda name: torch.device(name))
    monkeypatch.setattr(extract_features.torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(SpacetimeViT, "features", features)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: torch.zeros(tensor.shape))
    listed = tiny_videos / "val.csv"
    assert run_tool(pretrained, tiny_videos, listed, tmp_path / "f.npz", "--device", "meta") == 0
    assert seen == {"meta"}
    assert np.load(tmp_path / "f.npz")["features"].shape == (5, 128)


@pytest.mark.parametrize(
    ("out", "arguments", "words"),
    [
        ("file/f.npz", [], "file: File exists; check the path and its permissions"),
        ("folder", [], "folder: is a folder; give an .npz file"),
        ("f.npz", ["--pool", "class"], "--pool class: the run's encoder has no class token; use --pool mean"),
    ],
)
def test_what_is_wrong_shows_before_the_encoder_is_loaded(
    out: str,
    arguments: list[str],
    words: str,
    pretrained: Path,
    tiny_videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(extract_features, "load_encoder", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert run_tool(pretrained, tiny_videos, tiny_videos / "val.csv", tmp_path / out, *arguments) == 2
    assert words in capsys.readouterr().err
