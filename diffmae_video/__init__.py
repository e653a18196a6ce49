"""DiffMAE for video: diffusion-masked autoencoding, its loaders and its loops.

The names below are the public ones; each is imported when it is first used, so that a loader worker or a
submission tool doesn't pay for the models.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffmae_video.config import load_config
    from diffmae_video.diffusion import DiffMAE
    from diffmae_video.inpainting import inpaint
    from diffmae_video.model import SpacetimeViT, VideoClassifier
    from diffmae_video.weights import load_classifier, load_diffmae, load_encoder

__version__ = "0.1.0"
__all__ = [
    "DiffMAE",
    "SpacetimeViT",
    "VideoClassifier",
    "inpaint",
    "load_classifier",
    "load_config",
    "load_diffmae",
    "load_encoder",
]

_HOMES = {
    "DiffMAE": "diffusion",
    "SpacetimeViT": "model",
    "VideoClassifier": "model",
    "inpaint": "inpainting",
    "load_classifier": "weights",
    "load_diffmae": "weights",
    "load_encoder": "weights",
    "load_config": "config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffmae_video' has no attribute {name!r}")
    return getattr(importlib.import_module(f"diffmae_video.{_HOMES[name]}"), name)
