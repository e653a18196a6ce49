"""The method: noise schedules, samplers and the DiffMAE loss."""

from diffmae_video.diffusion.diffmae import DiffMAE, Losses, StepNoise
from diffmae_video.diffusion.feature import FeatureTarget, Teacher, timm_teacher
from diffmae_video.diffusion.sampler import Step
from diffmae_video.diffusion.schedule import Schedule

__all__ = [
    "DiffMAE",
    "FeatureTarget",
    "Losses",
    "Schedule",
    "Step",
    "StepNoise",
    "Teacher",
    "timm_teacher",
]
