"""Adapters, with the real pytorchvideo."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffmae_video.data import TrainClips, VideoList, train_loader
from examples.pytorchvideo_dataset import PytorchvideoClips, to_pytorchvideo

ptv = pytest.importorskip("pytorchvideo.data", reason="needs the extra pytorchvideo")


@pytest.fixture
def videos(video: Callable[..., Path], tmp_path: Path) -> VideoList:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video("v.mp4"), tmp_path / name)
    return VideoList.of(["a.mp4", "b.mp4"], [0, 1], root=str(tmp_path))


def test_our_samples_in_its_shape(videos: VideoList) -> None:
    clips = TrainClips(videos, seed=0, num_frames=4, stride_frames=2, fps=30, crop_size=32, clips_per_video=2)
    sample = clips[1]
    made = to_pytorchvideo(sample, videos)
    theirs = next(iter(_labelled(videos)))
    assert len(made) == 2
    for number, item in enumerate(made):
        assert set(item) == set(theirs)
        assert item["video"].dtype == theirs["video"].dtype
        assert item["video"].ndim == theirs["video"].ndim
        assert item["video"].shape == (3, 4, 32, 32)
        assert torch.equal(item["video"].to(torch.uint8).permute(1, 0, 2, 3), sample["clips"][number])
        assert (item["label"], item["video_index"]) == (sample["label"], sample["index"])


def test_its_data_set_feeds_our_loader(videos: VideoList) -> None:
    source = PytorchvideoClips(_labelled(videos), seed=0, num_frames=4, crop_size=48, scale=(1.0, 1.0))
    batches = list(train_loader(source, batch_size=2, num_steps=3))
    assert len(batches) == 3
    for batch in batches:
        assert batch["clips"].shape == (2, 1, 4, 3, 48, 48)
        assert batch["clips"].dtype == torch.uint8
        assert sorted(batch["label"].tolist()) == [0, 1]
        assert batch["label"].tolist() == batch["index"].tolist()
        assert batch["broken"] == []
    assert batches[0]["clips"].float().std() > 1


def _labelled(videos: VideoList) -> ptv.LabeledVideoDataset:
    paths = [(videos.path(i), {"label": int(videos.labels[i])}) for i in range(len(videos))]
    sampler = ptv.make_clip_sampler("random", 0.5)
    return ptv.LabeledVideoDataset(paths, sampler, decode_audio=False)
