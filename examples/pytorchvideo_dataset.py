"""To and from pytorchvideo (extra ``pytorchvideo``): our samples as its dicts, its data sets as a source of ours.

Nothing here imports ``pytorchvideo.transforms``, which current torchvision releases break.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from diffmae_video.data import transforms
from diffmae_video.data.video_list import VideoList
from diffmae_video.seeding import generator


def to_pytorchvideo(sample: Mapping[str, Any], videos: VideoList) -> list[dict[str, Any]]:
    """A sample of ``TrainClips`` or ``TestViews`` as pytorchvideo's dicts, one for each clip.

    ``video`` is float32 (C, T, H, W) in 0..255, as its decoders give it.
    """
    name = videos.name(int(sample["index"]))
    return [
        {
            "video": clip.permute(1, 0, 2, 3).float(),
            "label": int(sample["label"]),
            "video_name": name,
            "video_index": int(sample["index"]),
            "clip_index": number,
            "aug_index": 0,
        }
        for number, clip in enumerate(sample["clips"])
    ]


class PytorchvideoClips(Dataset[dict[str, Any]]):
    """A pytorchvideo ``LabeledVideoDataset`` in the place of ``TrainClips``: give it to ``train_loader``.

    The order, the replacing of unreadable videos and the clips' times are pytorchvideo's; so, unlike ours, a
    position's sample depends on what was asked before it, and a resumed run sees others. The clips' T frames are spread
    evenly over what its clip sampler cut; the crop is drawn from a generator keyed by position.

    Args:
        source: yields dicts with ``video`` (C, T', H, W) in 0..255 and, if labelled, ``label``.
        seed: of the crops.
        num_frames, crop_size, scale: as for ``TrainClips``.
    """

    def __init__(
        self,
        source: Iterable[Mapping[str, Any]],
        *,
        seed: int,
        num_frames: int,
        crop_size: int,
        scale: tuple[float, float] = (0.5, 1.0),
    ) -> None:
        self._source = source
        self._seed, self._num_frames, self._crop_size, self._scale = seed, num_frames, crop_size, scale
        self._samples: Iterator[Mapping[str, Any]] | None = None

    def __getitem__(self, position: int) -> dict[str, Any]:
        sample = self._next()
        video = sample["video"]  # (C, T', H, W)
        moments = torch.linspace(0, video.shape[1] - 1, self._num_frames).round().long()
        box = transforms.random_box(
            *video.shape[-2:], scale=self._scale, generator=generator(self._seed, "clip", position)
        )
        cut = video[:, moments, box.top : box.top + box.height, box.left : box.left + box.width]
        clip = transforms.resize(cut.permute(1, 0, 2, 3).round().to(torch.uint8), self._crop_size, self._crop_size)
        return {
            "clips": clip[None],
            "label": int(sample["label"]) if "label" in sample else -1,
            "index": int(sample["video_index"]),
            "position": position,
            "broken": [],
        }

    def _next(self) -> Mapping[str, Any]:
        """The source's next sample; after its last comes its first again."""
        if self._samples is None:
            self._samples = iter(self._source)
        try:
            return next(self._samples)
        except StopIteration:
            self._samples = iter(self._source)
        return next(self._samples)
