"""Videos as they really come: lists, decoding, clips, augmentation, loading."""

from diffmae_video.data.annotations import read_videos
from diffmae_video.data.dataset import TestViews, TrainClips, UnreadableVideosError
from diffmae_video.data.decoding.base import DecodeError, VideoReader
from diffmae_video.data.decoding.open import open_video
from diffmae_video.data.loader import device_prefetch, test_loader, train_loader
from diffmae_video.data.video_list import VideoList, with_flip_labels

__all__ = [
    "DecodeError",
    "TestViews",
    "TrainClips",
    "UnreadableVideosError",
    "VideoList",
    "VideoReader",
    "device_prefetch",
    "open_video",
    "read_videos",
    "test_loader",
    "train_loader",
    "with_flip_labels",
]
