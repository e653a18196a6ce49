"""Clips for training and views for testing: k clips, or all views, of a video from one open and one pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from diffmae_video.data import frame_sampling as index
from diffmae_video.data import transforms
from diffmae_video.data.cutting import crop, cut_clips
from diffmae_video.data.decoding.base import DecodeError, VideoReader
from diffmae_video.data.decoding.open import BACKENDS, SELF_TIMED, open_video
from diffmae_video.data.decoding.timeout import Watchdog
from diffmae_video.data.rand_augment import RandAugment
from diffmae_video.data.transforms import Box
from diffmae_video.data.video_list import VideoList
from diffmae_video.errors import UserError
from diffmae_video.seeding import generator

# So many unreadable videos in a row mean a wrong root or a lost disk, not a few broken files.
MAX_REPLACED = 20
# SlowFast decodes to this short side before RandAugment, and VideoMAE's copies of Kinetics are of this size.
RAND_AUGMENT_SHORT_SIDE = 320

Notes = dict[str, str]


class UnreadableVideosError(UserError):
    """Many videos in a row could not be read; the message has the first."""


class TrainClips(Dataset[dict[str, Any]]):
    """Random clips, indexed by position in an endless stream of videos.

    Position ``p`` is place ``p % len(videos)`` of epoch ``p // len(videos)``'s own permutation. All that is drawn for
    it comes from generators keyed by (seed, epoch, place, clip): a position's sample is the same whoever loads it.

    Args:
        videos: the videos.
        seed: of the run.
        num_frames: T frames of a clip.
        stride_frames: steps of the time line between two frames.
        fps: rate of the time line in Hz; 0: the video's own.
        crop_size: height and width of a clip.
        clips_per_video: k clips of each video that is opened.
        sampling: "dense" (a random start) or "segment" (a random step out of each of T segments).
        scale: area of the random resized crop, as a share of the picture.
        flip: mirror half of the clips; None does so where the collection allows it.
        rand_augment: RandAugment in timm's notation, as "rand-m7-n4-mstd0.5-inc1"; "": off. As in VideoMAE and SlowFast
            it comes before the crop, on frames of a short side of 320 at most; on pictures (``num_frames`` 1) after it.
        color_jitter: of brightness, contrast and saturation; 0: off.
        erase_prob: probability of erasing a box.
        mean: of R, G, B in the normalisation to come.
        std: likewise; an erased box is noise of deviation 1 after it.
        short_video: "hold" the last frame of a video shorter than its clip, or "loop" it.
        backend: a decoder of ``decoding.open.BACKENDS``.
        timeout_seconds: a video that takes longer is unreadable.

    Items are dicts of ``clips`` uint8 (k, T, C, H, W), ``label``, ``index`` (of the video read), ``position``,
    ``broken``: (path, reason) of unreadable videos, each replaced by the next in the epoch's order, and ``notes``:
    lines about the video by kind, "repeats" (``repeated_frames``) and "surplus" (images beyond the list's).

    Raises:
        UserError: an argument out of its range, or a flip that the collection doesn't allow.
        UnreadableVideosError: (when indexed) ``MAX_REPLACED`` videos in a row can't be read.
    """

    def __init__(
        self,
        videos: VideoList,
        *,
        seed: int,
        num_frames: int,
        stride_frames: int,
        fps: float,
        crop_size: int,
        clips_per_video: int = 1,
        sampling: str = "dense",
        scale: tuple[float, float] = (0.5, 1.0),
        flip: bool | None = None,
        rand_augment: str = "",
        color_jitter: float = 0.0,
        erase_prob: float = 0.0,
        mean: Sequence[float] = (0.45, 0.45, 0.45),
        std: Sequence[float] = (0.225, 0.225, 0.225),
        short_video: str = "hold",
        backend: str = "auto",
        timeout_seconds: float = 30.0,
    ) -> None:
        _check_choices(sampling, short_video, backend)
        if flip and not videos.flip_allowed:
            raise UserError(
                "flip=true: a mirrored video of this collection shows another class; use flip=false, "
                "or exchange the labels (data.swap_flip_labels=true)"
            )
        self.videos = videos
        self.seed = seed
        self.num_frames, self.stride_frames, self.fps = num_frames, stride_frames, fps
        self.crop_size, self.clips_per_video = crop_size, clips_per_video
        self.sampling, self.short_video = sampling, short_video
        self.scale = scale
        self.flip = videos.flip_allowed if flip is None else flip
        self.rand_augment = RandAugment.parse(rand_augment) if rand_augment else None
        self.color_jitter, self.erase_prob = color_jitter, erase_prob
        self.mean, self.std = tuple(mean), tuple(std)
        self._open = _Opener(videos, backend, timeout_seconds)
        self._orders: dict[int, np.ndarray] = {}

    def __getitem__(self, position: int) -> dict[str, Any]:
        epoch, place = divmod(position, len(self.videos))
        order = self._order(epoch)
        broken: list[tuple[str, str]] = []
        for attempt in range(MAX_REPLACED):
            video = int(order[(place + attempt) % len(order)])
            keyed = [generator(self.seed, "clip", epoch, place, c) for c in range(self.clips_per_video)]
            try:
                load = functools.partial(self._load, video=video, keyed=keyed)
                label, clips, notes = self._open.run(video, load)
            except DecodeError as error:
                broken.append((error.path, error.reason))
                continue
            return {
                "clips": clips,
                "label": label,
                "index": video,
                "position": position,
                "broken": broken,
                "notes": notes,
            }
        path, reason = broken[0]
        raise UnreadableVideosError(
            f"{MAX_REPLACED} videos in a row can't be read, the first {path}: {reason}; check data.root"
        )

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            if len(self._orders) > 1:  # a batch reaches over at most one edge between epochs
                self._orders.clear()
            self._orders[epoch] = permutation(len(self.videos), seed=self.seed, epoch=epoch)
        return self._orders[epoch]

    def _load(self, reader: VideoReader, video: int, keyed: list[torch.Generator]) -> tuple[int, torch.Tensor, Notes]:
        line = index.TimeLine(reader.times, fps=self.fps)
        picks = [
            line[index.wrap_or_clamp(self.steps(len(line), g), num_steps=len(line), short_video=self.short_video)]
            for g in keyed
        ]

        first = self.rand_augment is not None and self.num_frames > 1  # RandAugment, before the crop

        def boxes(height: int, width: int) -> list[Box]:
            if first:
                return [Box(0, 0, height, width)] * len(keyed)
            return [transforms.random_box(height, width, scale=self.scale, generator=g) for g in keyed]

        cut = cut_clips(reader, picks, boxes, short_side=RAND_AUGMENT_SHORT_SIDE if first else 0)
        if first:
            cut = [self._augment_and_crop(clip, g) for clip, g in zip(cut, keyed, strict=True)]
        label = int(self.videos.labels[video])
        mirrored = self._draw_flips(keyed)
        if mirrored[0] and self.videos.flip_labels is not None and label >= 0:
            label = int(self.videos.flip_labels[label])
        clips = [self._finish(c, m, g) for c, m, g in zip(cut, mirrored, keyed, strict=True)]
        return label, torch.stack(clips), _notes(self, reader, video)

    def steps(self, num_steps: int, keyed: torch.Generator) -> np.ndarray:
        """Draw one clip's steps of a time line of ``num_steps``, (T,)."""
        if self.sampling == "segment":
            return index.segment_steps(num_steps, num_frames=self.num_frames, generator=keyed)
        return index.dense_steps(
            num_steps, num_frames=self.num_frames, stride_frames=self.stride_frames, generator=keyed
        )

    def _draw_flips(self, keyed: list[torch.Generator]) -> list[bool]:
        if not self.flip:
            return [False] * len(keyed)
        draws = [bool(torch.rand((), generator=g) < 0.5) for g in keyed]
        # The clips of a video share its label, so where mirroring changes it they are mirrored together.
        return draws if self.videos.flip_labels is None else [draws[0]] * len(draws)

    def _augment_and_crop(self, clip: torch.Tensor, keyed: torch.Generator) -> torch.Tensor:
        assert self.rand_augment is not None
        if min(clip.shape[-2:]) > RAND_AUGMENT_SHORT_SIDE:
            clip = transforms.resize_short_side(clip, RAND_AUGMENT_SHORT_SIDE)
        box = transforms.random_box(*clip.shape[-2:], scale=self.scale, generator=keyed)
        return crop(self.rand_augment(clip, keyed), box)

    def _finish(self, clip: torch.Tensor, mirror: bool, keyed: torch.Generator) -> torch.Tensor:
        clip = transforms.resize(clip, self.crop_size, self.crop_size)
        if mirror:
            clip = clip.flip(-1)
        if self.rand_augment is not None and self.num_frames == 1:
            clip = self.rand_augment(clip, keyed)
        clip = transforms.jitter(clip, strength=self.color_jitter, generator=keyed)
        return transforms.erase(clip, prob=self.erase_prob, mean=self.mean, std=self.std, generator=keyed)


class TestViews(Dataset[dict[str, Any]]):
    """All test views of each video: V moments times C crops, from one open.

    Args: as for :class:`TrainClips`; ``num_views`` moments evenly spread over the video, ``num_crops`` squares
    evenly spread along the long side, after the short side is resized to ``crop_size``.

    Items are dicts of ``clips`` uint8 (V*C, T, C, H, W), crops fastest, ``label``, ``index``, ``notes`` as there, and
    ``error``: "" or why the video can't be read; its clips are then zeros. Nothing is ever put in a video's place.
    """

    __test__ = False  # not a test case, whatever its name

    def __init__(
        self,
        videos: VideoList,
        *,
        num_frames: int,
        stride_frames: int,
        fps: float,
        crop_size: int,
        num_views: int = 1,
        num_crops: int = 1,
        sampling: str = "dense",
        short_video: str = "hold",
        backend: str = "auto",
        timeout_seconds: float = 30.0,
    ) -> None:
        _check_choices(sampling, short_video, backend)
        self.videos = videos
        self.num_frames, self.stride_frames, self.fps = num_frames, stride_frames, fps
        self.crop_size, self.num_views, self.num_crops = crop_size, num_views, num_crops
        self.sampling, self.short_video = sampling, short_video
        self._open = _Opener(videos, backend, timeout_seconds)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, video: int) -> dict[str, Any]:
        return self.some(video, range(self.num_views))

    def some(self, video: int, which: range) -> dict[str, Any]:
        """The item of a video with these of its views alone, and their crops."""
        error = ""
        notes: Notes = {}
        try:
            clips, notes = self._open.run(video, functools.partial(self._load, video=video, which=which))
        except DecodeError as broken:
            error = broken.reason
            shape = (len(which) * self.num_crops, self.num_frames, 3, self.crop_size, self.crop_size)
            clips = torch.zeros(shape, dtype=torch.uint8)
        label = int(self.videos.labels[video])
        return {"clips": clips, "label": label, "index": video, "error": error, "notes": notes}

    def _load(self, reader: VideoReader, video: int, which: range) -> tuple[torch.Tensor, Notes]:
        line = index.TimeLine(reader.times, fps=self.fps)
        steps = self._steps(len(line))[which.start : which.stop]
        views = line[index.wrap_or_clamp(steps, num_steps=len(line), short_video=self.short_video)]  # (V, T)

        def whole(height: int, width: int) -> list[Box]:
            return [Box(0, 0, height, width)] * len(views)

        crops = []
        for view in cut_clips(reader, list(views), whole, short_side=self.crop_size):
            small = transforms.resize_short_side(view, self.crop_size)
            for box in transforms.view_boxes(*small.shape[-2:], num_crops=self.num_crops):
                crops.append(crop(small, box))
        return torch.stack(crops), _notes(self, reader, video)

    def _steps(self, num_steps: int) -> np.ndarray:
        if self.sampling == "segment":
            return index.segment_views(num_steps, num_frames=self.num_frames, num_views=self.num_views)
        return index.dense_views(
            num_steps, num_frames=self.num_frames, stride_frames=self.stride_frames, num_views=self.num_views
        )


def permutation(num_videos: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch, (n,) int64."""
    return torch.randperm(num_videos, generator=generator(seed, "order", epoch)).numpy()


def _notes(dataset: TrainClips | TestViews, reader: VideoReader, video: int) -> Notes:
    """What whoever runs should hear of an open video, with its path, by kind; segments have no stride to note."""
    lines = {}
    if dataset.sampling != "segment":
        stride = dataset.stride_frames
        lines["repeats"] = index.repeated_frames(reader.times, fps=dataset.fps, stride_frames=stride)
    surplus = getattr(reader, "surplus", 0)
    if surplus:
        lines["surplus"] = f"{surplus} images more than its list says are not used; correct the list if they should be"
    return {kind: f"{dataset.videos.path(video)}: {line}" for kind, line in lines.items() if line}


class _Opener:
    """Opens one video, runs a function on it in time, closes it."""

    def __init__(self, videos: VideoList, backend: str, timeout_seconds: float) -> None:
        self._videos, self._backend, self._timeout = videos, backend, timeout_seconds
        self._watchdog = Watchdog()

    def run(self, video: int, use: Callable[[VideoReader], Any]) -> Any:
        """``use`` on the opened video, given up after the time-out.

        Raises:
            DecodeError: the video can't be read, not in time, or not in the memory that there is.
        """
        path = self._videos.path(video)

        def work() -> Any:
            with (
                _within_memory(path),
                open_video(
                    path,
                    backend=self._backend,
                    segment=self._videos.segment(video),
                    num_images=self._videos.num_images(video),
                    timeout_seconds=self._timeout,
                ) as reader,
            ):
                return use(reader)

        if self._backend in SELF_TIMED:
            # Handing a clip to another thread and back costs two waits for a core: several times a small clip's
            # own time where trainer and workers share the cores.
            return work()
        return self._watchdog.run(work, path=path, timeout_seconds=self._timeout)


@contextmanager
def _within_memory(path: str) -> Iterator[None]:
    """What takes too much memory here is one video's clips, not the batch."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's CPU allocator raises a plain RuntimeError.
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        raise DecodeError(path, "out of memory") from error


def _check_choices(sampling: str, short_video: str, backend: str) -> None:
    for name, value, choices in (
        ("sampling", sampling, ("dense", "segment")),
        ("short_video", short_video, index.SHORT_VIDEO),
        ("backend", backend, BACKENDS),
    ):
        if value not in choices:
            raise UserError(f"{name}={value!r}: must be one of {', '.join(choices)}")
