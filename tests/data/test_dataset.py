"""Training clips and test views: what they hold, and that they are functions of their keys."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffmae_video.data import (
    TestViews,
    TrainClips,
    UnreadableVideosError,
    VideoList,
    open_video,
    test_loader,
    train_loader,
    with_flip_labels,
)
from diffmae_video.errors import UserError

VideoMaker = Callable[..., Path]
SHAPE = {"num_frames": 4, "stride_frames": 3, "fps": 30.0, "crop_size": 32}


@pytest.fixture(scope="module")
def videos(video: VideoMaker, tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    root = tmp_path_factory.mktemp("list")
    names = []
    for i, (rate, size) in enumerate(
        [("30", "64x48"), ("25", "48x64"), ("60", "80x40"), ("30", "40x40"), ("15", "64x64")]
    ):
        names.append(f"{i}.mp4")
        shutil.copy(video("v.mp4", size=size, rate=rate), root / names[-1])
    return VideoList.of(names, [0, 1, 2, 0, 1], root=str(root), classes=("a", "b", "c"))


def train(videos: VideoList, **changes: Any) -> TrainClips:
    return TrainClips(videos, **({"seed": 3, **SHAPE} | changes))


def test_a_sample_is_a_function_of_its_position(videos: VideoList) -> None:
    augmented = {"rand_augment_ops": 2, "rand_augment_magnitude": 9, "color_jitter": 0.4, "erase_prob": 0.5}
    forth, back = train(videos, clips_per_video=2, **augmented), train(videos, clips_per_video=2, **augmented)
    ahead = [forth[p] for p in range(12)]
    torch.rand(7)
    state = torch.get_rng_state()
    behind = [back[p] for p in reversed(range(12))][::-1]
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(ahead, behind, strict=True):
        assert torch.equal(a["clips"], b["clips"])
        assert (a["index"], a["label"], a["position"]) == (b["index"], b["label"], b["position"])


def test_samples_differ_between_clips_epochs_and_seeds(videos: VideoList) -> None:
    first, other_seed = train(videos, clips_per_video=2), train(videos, clips_per_video=2, seed=4)
    seen = [first[p] for p in range(10)]
    assert seen[0]["clips"].shape == (2, 4, 3, 32, 32)
    assert seen[0]["clips"].dtype == torch.uint8
    assert all(not torch.equal(s["clips"][0], s["clips"][1]) for s in seen)
    by_video = {s["index"]: s for s in seen[:5]}
    assert any(not torch.equal(s["clips"], by_video[s["index"]]["clips"]) for s in seen[5:])
    assert any(not torch.equal(first[p]["clips"], other_seed[p]["clips"]) for p in range(3))


def test_each_epoch_is_a_permutation(videos: VideoList) -> None:
    dataset = train(videos)
    epochs = [[dataset[e * 5 + i]["index"] for i in range(5)] for e in range(4)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_whole_picture_crop_is_the_decoded_frame(videos: VideoList) -> None:
    """A box of the whole square picture at its own size passes the frames through untouched."""
    square = videos.subset([3])
    dataset = train(square, crop_size=40, scale=(1.0, 1.0), flip=False, stride_frames=1, num_frames=40)
    clips = [dataset[p]["clips"][0] for p in range(40)]
    with open_video(square.path(0)) as reader:
        frames = np.stack([frame.copy() for frame in reader.frames(range(40))])
    expected = torch.from_numpy(frames).permute(0, 3, 1, 2)
    assert any(torch.equal(clip, expected) for clip in clips)


def test_unreadable_videos_are_replaced_by_the_next_in_order(videos: VideoList, tmp_path: Path) -> None:
    shutil.copytree(videos.root, tmp_path, dirs_exist_ok=True)
    whole = VideoList.of([videos.name(i) for i in range(5)], videos.labels.tolist(), root=str(tmp_path))
    order = [train(whole)[p]["index"] for p in range(5)]
    broken_video = order[2]
    Path(whole.path(broken_video)).write_bytes(b"not a video")
    sample = train(whole)[2]
    assert sample["index"] == order[3]
    assert [path for path, _ in sample["broken"]] == [whole.path(broken_video)]
    for name in range(5):
        Path(whole.path(name)).unlink(missing_ok=True)
    with pytest.raises(UnreadableVideosError, match=r"no such file; check data\.root"):
        train(whole)[0]


def test_views_are_cut_from_the_frames_they_name(videos: VideoList) -> None:
    one = videos.subset([0])
    views = TestViews(one, **(SHAPE | {"crop_size": 48}), num_views=2, num_crops=3)
    sample = views[0]
    with open_video(one.path(0)) as reader:
        frames = np.stack([frame.copy() for frame in reader.frames(range(40))])
    expected = [frames[start : start + 10 : 3, :, left : left + 48] for start in (0, 30) for left in (0, 8, 16)]
    assert torch.equal(sample["clips"], torch.from_numpy(np.stack(expected)).permute(0, 1, 4, 2, 3))
    assert sample["error"] == ""
    assert sample["label"] == 0


def test_a_test_never_replaces(videos: VideoList, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"")
    missing = VideoList.of(["bad.mp4"], [2], root=str(tmp_path))
    sample = TestViews(missing, **SHAPE, num_views=2)[0]
    assert sample["error"] == "empty file"
    assert sample["index"] == 0
    assert sample["clips"].shape == (2, 4, 3, 32, 32)
    assert not sample["clips"].any()


def test_flip_is_a_property_of_the_collection(videos: VideoList) -> None:
    names = ("Moving left", "Moving right", "Sitting")
    listed = VideoList.of([videos.name(3)], [0], root=videos.root, classes=names, flip_allowed=False)
    with pytest.raises(UserError, match="mirrored video of this collection"):
        train(listed, flip=True)
    assert not train(listed).flip
    swapped = with_flip_labels(listed)
    exact = {"crop_size": 40, "scale": (1.0, 1.0), "num_frames": 40, "stride_frames": 1}
    with open_video(listed.path(0)) as reader:
        first = torch.from_numpy(next(iter(reader.frames([0]))).copy()).permute(2, 0, 1)
    labels = set()
    for p in range(20):
        sample = train(swapped, clips_per_video=2, **exact)[p]
        for clip in sample["clips"]:
            if torch.equal(clip[0], first):
                assert sample["label"] == 0
            if torch.equal(clip[0], first.flip(-1)):
                assert sample["label"] == 1
        labels.add(sample["label"])
    assert labels == {0, 1}
    with pytest.raises(UserError, match="no counterpart"):
        with_flip_labels(VideoList.of(["a"], [0], classes=("Moving left",)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_steps_do_not_depend_on_ranks_workers_or_where_they_start(videos: VideoList, num_workers: int) -> None:
    dataset = train(videos)
    alone = list(train_loader(dataset, batch_size=4, num_steps=4))
    shared = [
        list(
            train_loader(
                dataset, batch_size=4, rank=r, world_size=2, start_step=1, num_steps=4, num_workers=num_workers
            )
        )
        for r in range(2)
    ]
    assert torch.equal(alone[1]["clips"], torch.stack([dataset[position]["clips"] for position in range(4, 8)]))
    for step in range(3):
        for name in ("clips", "label", "index", "position"):
            assert torch.equal(alone[step + 1][name], torch.cat([shared[r][step][name] for r in range(2)]))
    with pytest.raises(UserError, match="multiple of the 3 ranks; use 6"):
        train_loader(dataset, batch_size=4, world_size=3, num_steps=1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_test_video_comes_exactly_once(videos: VideoList, world_size: int) -> None:
    views = TestViews(videos, **SHAPE)
    indices = [
        batch["index"]
        for rank in range(world_size)
        for batch in test_loader(views, batch_size=2, rank=rank, world_size=world_size, num_workers=0)
    ]
    assert sorted(torch.cat(indices).tolist()) == list(range(5))


def test_images_are_videos_of_one_frame(video: VideoMaker, tmp_path: Path) -> None:
    shutil.copy(video("photo.jpg", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", frames=1), tmp_path / "50% done.jpg")
    photos = VideoList.of(["50% done.jpg"], [0], root=str(tmp_path))
    sample = train(photos, num_frames=1, stride_frames=1)[0]
    assert sample["broken"] == []
    assert sample["clips"].shape == (1, 1, 3, 32, 32)
