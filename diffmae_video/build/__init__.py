"""Objects from a configuration: the one place where its keys meet the constructors' arguments."""

from diffmae_video.build.datasets import (
    PREPARED_BY,
    MissingDataError,
    build_clips,
    build_videos,
    build_views,
    class_labels,
    list_key,
    mirroring,
    stage_section,
)
from diffmae_video.build.models import (
    build_classifier,
    build_decoder,
    build_diffmae,
    build_encoder,
    build_feature_target,
)

__all__ = [
    "PREPARED_BY",
    "MissingDataError",
    "build_classifier",
    "build_clips",
    "build_decoder",
    "build_diffmae",
    "build_encoder",
    "build_feature_target",
    "build_videos",
    "build_views",
    "class_labels",
    "list_key",
    "mirroring",
    "stage_section",
]
