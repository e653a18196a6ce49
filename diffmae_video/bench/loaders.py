"""Loads that are compared: ours, and others written the way their projects write them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffmae_video.data import TestViews, TrainClips, VideoList, clips, open_video, transforms
from diffmae_video.data.cutting import crop, cut_clips
from diffmae_video.seeding import generator

NUM_FRAMES, STRIDE, FPS, CROP = 16, 4, 30.0, 224
SPAN = (NUM_FRAMES - 1) * STRIDE + 1
VIEWS, CROPS, REPEATS = 5, 3, 4

Load = Callable[[int], object]


def make_files(folder: Path, count: int) -> VideoList:
    """Videos of 340x256, 30 fps, 10 s, x264's defaults: a moving picture with grain, 0.5 to 1 MB each."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"{i}.mp4"
        if not path.exists():
            source = f"mandelbrot=size=340x256:rate=30:start_scale={1 + i / 7}:start_x={-0.74 + i / 500}"
            _ffmpeg("-f", "lavfi", "-i", source, "-t", "10", "-vf", "noise=alls=4:allf=t", "-c:v", "libx264",
                    "-pix_fmt", "yuv420p", str(path))  # fmt: skip
    return VideoList.of([f"{i}.mp4" for i in range(count)], [0] * count, root=str(folder))


def train_clips(videos: VideoList, *, clips_per_video: int, backend: str = "auto") -> TrainClips:
    """Our training set with the compared clip."""
    return TrainClips(
        videos,
        seed=0,
        num_frames=NUM_FRAMES,
        stride_frames=STRIDE,
        fps=FPS,
        crop_size=CROP,
        clips_per_video=clips_per_video,
        backend=backend,
    )


def ours(videos: VideoList, *, clips_per_video: int = 1) -> Load:
    """One pass of one open for all clips of a video."""
    dataset = train_clips(videos, clips_per_video=clips_per_video)
    return lambda position: dataset[position]


def ours_separately(videos: VideoList, *, clips_per_video: int) -> Load:
    """The same number of clips of the same video, each from its own open."""
    single = [train_clips(videos.subset([i]), clips_per_video=1) for i in range(len(videos))]
    count = len(videos)
    return lambda position: [single[position % count][position * clips_per_video + c] for c in range(clips_per_video)]


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
                    line = clips.time_line(reader.times, fps=FPS)
                    picks = clips.dense_views(len(line), num_frames=NUM_FRAMES, stride_frames=STRIDE, num_views=VIEWS)

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
        keyed = generator(0, "bench", position)
        reader = decord.VideoReader(videos.path(position % len(videos)), num_threads=1, ctx=decord.cpu(0))
        start = int(torch.randint(len(reader) - SPAN + 1, (), generator=keyed))
        frames = reader.get_batch(list(range(start, start + SPAN, STRIDE))).asnumpy()
        top, left, height, width = transforms.random_box(*frames.shape[1:3], scale=(0.5, 1.0), generator=keyed)
        images = [
            Image.fromarray(frame)
            .crop((left, top, left + width, top + height))
            .resize((CROP, CROP), Image.Resampling.BILINEAR)
            for frame in frames
        ]
        return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()

    return load


def pytorchvideo(videos: VideoList) -> Load:
    """pytorchvideo's ``LabeledVideoDataset``: a random clip's seconds, T frames of it, crop, resize."""
    from pytorchvideo.data import LabeledVideoDataset, make_clip_sampler

    paths = [(videos.path(i), {"label": 0}) for i in range(len(videos))]
    dataset = LabeledVideoDataset(paths, make_clip_sampler("random", SPAN / FPS), decode_audio=False)

    def endless() -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from dataset

    samples = endless()

    def load(position: int) -> torch.Tensor:
        video = next(samples)["video"]  # (C, T', H, W) float32
        moments = torch.linspace(0, video.shape[1] - 1, NUM_FRAMES).long()
        keyed = generator(0, "bench", position)
        top, left, height, width = transforms.random_box(*video.shape[-2:], scale=(0.5, 1.0), generator=keyed)
        cut = video[:, moments, top : top + height, left : left + width].permute(1, 0, 2, 3)
        return torch.nn.functional.interpolate(cut, (CROP, CROP), mode="bilinear", antialias=True)

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
        start = _start(position, 300)
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
