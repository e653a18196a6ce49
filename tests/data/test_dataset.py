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
from diffmae_video.data.rand_augment import RandAugment
from diffmae_video.data.transforms import resize
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
    augmented = {"rand_augment": "rand-m7-n4-mstd0.5-inc1", "color_jitter": 0.4, "erase_prob": 0.5}
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


def test_one_video_is_drawn_anew_for_each_seed_epoch_place_and_clip(videos: VideoList) -> None:
    """The list has it twice, so that place and epoch differ while the video does not."""
    twice = VideoList.of([videos.name(0)] * 2, [0, 0], root=videos.root)
    drawn = [
        clip.numpy().tobytes()
        for seed in (0, 1)
        for position in range(4)
        for clip in train(twice, seed=seed, clips_per_video=2)[position]["clips"]
    ]
    assert len(set(drawn)) == 16


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


class Recorded:
    """Stands in for a RandAugment policy: keeps what it is given, and gives it back."""

    def __init__(self) -> None:
        self.clips: list[torch.Tensor] = []

    def __call__(self, clip: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.clips.append(clip)
        return clip


def test_rand_augment_sees_whole_frames_before_the_crop(videos: VideoList) -> None:
    wide = videos.subset([2])  # 80 x 40
    dataset = train(wide, clips_per_video=2, scale=(0.1, 0.2), rand_augment="rand-m7-n4-mstd0.5-inc1")
    assert dataset.rand_augment == RandAugment(magnitude=7, num_ops=4, magnitude_std=0.5, prob=0.5)
    dataset.rand_augment = recorded = Recorded()  # type: ignore[assignment]
    sample = dataset[0]
    assert [tuple(clip.shape) for clip in recorded.clips] == [(4, 3, 40, 80)] * 2
    assert sample["clips"].shape == (2, 4, 3, 32, 32)
    with open_video(wide.path(0)) as reader:
        frames = {frame.tobytes() for frame in reader.frames(range(40))}
    assert all(frame.permute(1, 2, 0).numpy().tobytes() in frames for clip in recorded.clips for frame in clip)
    # Small crops of what it gave back, not resized whole frames.
    assert not torch.equal(sample["clips"][0], resize(recorded.clips[0], 32, 32))


def test_rand_augment_sees_a_short_side_of_320_at_most(video: VideoMaker) -> None:
    large = video("large.mp4", size="720x400", frames=6)
    listed = VideoList.of([large.name], [0], root=str(large.parent))
    dataset = train(listed, stride_frames=1, rand_augment="rand-m7-n4-mstd0.5-inc1")
    dataset.rand_augment = recorded = Recorded()  # type: ignore[assignment]
    dataset[0]
    assert [tuple(clip.shape) for clip in recorded.clips] == [(4, 3, 320, 576)]


def test_rand_augment_of_pictures_comes_after_the_crop(videos: VideoList) -> None:
    """As timm does for images; a clip of one frame is one."""
    dataset = train(videos, num_frames=1, rand_augment="rand-m9-mstd0.5-inc1")
    dataset.rand_augment = recorded = Recorded()  # type: ignore[assignment]
    sample = dataset[0]
    assert [tuple(clip.shape) for clip in recorded.clips] == [(1, 3, 32, 32)]
    assert torch.equal(sample["clips"][0], recorded.clips[0])


def test_a_wrong_rand_augment_is_refused(videos: VideoList) -> None:
    with pytest.raises(UserError, match="rand_augment=2: must begin with rand-"):
        train(videos, rand_augment="2")


def test_an_erased_box_is_in_the_units_of_the_normalisation(videos: VideoList) -> None:
    """With a tiny deviation the box is the mean colour."""
    dataset = train(videos, erase_prob=1.0, mean=(0.2, 0.4, 0.6), std=(1e-6,) * 3)
    clip = dataset[0]["clips"][0]
    erased = (clip == torch.tensor([51, 102, 153], dtype=torch.uint8)[:, None, None]).all(1)  # (T, H, W)
    assert 0.015 < erased.float().mean() < 0.4
    assert torch.equal(erased, erased[:1].expand_as(erased))


def test_a_short_video_holds_its_last_frame(videos: VideoList) -> None:
    one = videos.subset([3])
    exact = {"crop_size": 40, "num_frames": 8, "stride_frames": 6}  # spans 43 of 40 frames
    clip = train(one, scale=(1.0, 1.0), flip=False, **exact)[0]["clips"][0]
    view = TestViews(one, **(SHAPE | exact))[0]["clips"][0]
    with open_video(one.path(0)) as reader:
        frames = np.stack([frame.copy() for frame in reader.frames([0, 6, 12, 18, 24, 30, 36, 39])])
    assert torch.equal(clip, torch.from_numpy(frames).permute(0, 3, 1, 2))
    assert torch.equal(view, clip)


def test_repeated_frames_are_said_once_a_batch(videos: VideoList) -> None:
    """Of the files only 4.mp4 has 15 frames a second: below the 30 of the line, of which a stride of 1 takes all."""
    dataset = train(videos, stride_frames=1)
    lines = {sample["index"]: sample["notes"].get("repeats") for sample in (dataset[p] for p in range(5))}
    assert lines[4].startswith(f"{videos.path(4)}: 15 frames a second, but data.fps=30 with data.stride_frames=1")
    assert lines[1].startswith(f"{videos.path(1)}: 25 frames a second")
    assert lines[0] is lines[2] is lines[3] is None
    batch = next(iter(train_loader(dataset, batch_size=5, num_steps=1)))
    assert batch["notes"] in ({"repeats": lines[4]}, {"repeats": lines[1]})
    views = TestViews(videos, **(SHAPE | {"stride_frames": 1}))
    batch = next(iter(test_loader(views, batch_size=5, rank=0, world_size=1, num_workers=0)))
    assert batch["notes"] == {"repeats": lines[1]}
    for quiet in ({"stride_frames": 2}, {"fps": 0, "stride_frames": 1}, {"sampling": "segment", "stride_frames": 1}):
        assert next(iter(train_loader(train(videos, **quiet), batch_size=5, num_steps=1)))["notes"] == {}
