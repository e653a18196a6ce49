"""A configuration's lists, training clips and test views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffmae_video.config import Config
from diffmae_video.config.schema import FinetuneConfig, TrainConfig
from diffmae_video.data import TestViews, TrainClips, VideoList, read_videos, with_flip_labels
from diffmae_video.data.annotations import NO_FLIP
from diffmae_video.errors import UserError

PREPARED_BY = {
    "kinetics400": "datasets/kinetics.py",
    "kinetics600": "datasets/kinetics.py",
    "kinetics700": "datasets/kinetics.py",
    "ssv2": "datasets/ssv2.py",
    "ucf101": "datasets/ucf101.py",
    "hmdb51": "datasets/hmdb51.py",
    "list": "datasets/motion.py (the embedded collection)",
    "folder": "a folder of class folders of videos",
    "images": "a folder of class folders of pictures",
}


class MissingDataError(UserError):
    """A list that the config names isn't there; one line with the command that makes it."""


def list_key(config: Config, split: str) -> str:
    """The config's key for the list of ``split``, see :func:`build_videos`."""
    if split == "val":
        return "data.val_list"
    return "finetune.train_list" if split == "finetune" and config.finetune.train_list else "data.train_list"


def build_videos(config: Config, split: str) -> VideoList:
    """The videos of ``split``: "train", "finetune" (its own list if it has one) or "val"."""
    data = config.data
    paths = {
        "train": data.train_list,
        "finetune": config.finetune.train_list or data.train_list,
        "val": data.val_list,
    }
    path, key = paths[split], list_key(config, split)
    if not path or not Path(path).exists():
        maker = PREPARED_BY[data.dataset]
        named = f"{path} is not there" if path else "not given"
        raise MissingDataError(f"{key}: {named}; make it with {maker}, or point {key} at your list")
    videos = read_videos(path, root=data.root, dataset=data.dataset, manifest=data.manifest or None)
    return with_flip_labels(videos) if data.swap_flip_labels else videos


def mirroring(config: Config, stage: str, videos: VideoList | None = None) -> str:
    """Whether a stage's clips are mirrored, and by which rule; without the list, by the collection's alone."""
    allowed = config.data.dataset not in NO_FLIP if videos is None else videos.flip_allowed
    if stage_section(config, stage).flip is False:
        return f"none ({stage}.flip=false)"
    if config.data.swap_flip_labels:
        return "half of the clips, their classes with left and right exchanged"
    return "half of the clips" if allowed else "none (a mirrored video would show another class)"


def build_clips(config: Config, stage: str, videos: VideoList) -> TrainClips:
    """Training clips of a stage, augmented as its section says."""
    data, train = config.data, stage_section(config, stage)
    finetune = train if isinstance(train, FinetuneConfig) else None
    return TrainClips(
        videos,
        seed=config.seed,
        num_frames=data.num_frames,
        stride_frames=data.stride_frames,
        fps=data.fps,
        crop_size=data.crop_size,
        clips_per_video=train.clips_per_video,
        sampling=finetune.sampling if finetune else "dense",
        scale=(train.crop_scale[0], train.crop_scale[1]),
        flip=train.flip,
        rand_augment=finetune.rand_augment if finetune else "",
        color_jitter=finetune.color_jitter if finetune else 0.0,
        erase_prob=finetune.erase_prob if finetune else 0.0,
        mean=data.mean,
        std=data.std,
        short_video=data.short_video,
        backend=data.backend,
        timeout_seconds=data.timeout_seconds,
    )


def build_views(config: Config, videos: VideoList, *, views: int, crops: int) -> TestViews:
    """Test views of videos, sampled as the fine-tuning's clips were."""
    data = config.data
    return TestViews(
        videos,
        num_frames=data.num_frames,
        stride_frames=data.stride_frames,
        fps=data.fps,
        crop_size=data.crop_size,
        num_views=views,
        num_crops=crops,
        sampling=config.finetune.sampling,
        short_video=data.short_video,
        backend=data.backend,
        timeout_seconds=data.timeout_seconds,
    )


def stage_section(config: Config, stage: str) -> TrainConfig:
    """The config's section of a training stage."""
    sections: dict[str, TrainConfig] = {"pretrain": config.pretrain, "finetune": config.finetune}
    return sections[stage]


def class_labels(videos: VideoList, classes: Sequence[str]) -> VideoList:
    """``videos`` with labels in the order of ``classes``, matched by name.

    Raises:
        UserError: a class of the videos isn't among ``classes``.
    """
    if tuple(videos.classes) == tuple(classes):
        return videos
    unknown = sorted(set(videos.classes) - set(classes))
    if unknown:
        raise UserError(
            f"class {unknown[0]!r} ({len(unknown)} such) of the list isn't among the model's {len(classes)}; "
            "test on lists prepared with the classes.txt of its training"
        )
    return videos.reordered(classes)
