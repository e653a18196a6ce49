"""The networks: a space-time ViT over visible cubes, three decoders, a classifier, and masks."""

from diffmae_video.model.classifier import VideoClassifier
from diffmae_video.model.decoder import (
    CrossDecoder,
    Decoder,
    JointDecoder,
    decoder_to_encoder_layers,
)
from diffmae_video.model.encoder import SpacetimeViT
from diffmae_video.model.masking import MASK_KINDS, Mask, draw_mask, draw_masks
from diffmae_video.model.patches import patchify, unpatchify

__all__ = [
    "MASK_KINDS",
    "CrossDecoder",
    "Decoder",
    "JointDecoder",
    "Mask",
    "SpacetimeViT",
    "VideoClassifier",
    "decoder_to_encoder_layers",
    "draw_mask",
    "draw_masks",
    "patchify",
    "unpatchify",
]
