"""Weights into models."""

from diffmae_video.weights.load import load_classifier, load_diffmae, load_encoder

__all__ = ["load_classifier", "load_diffmae", "load_encoder"]
