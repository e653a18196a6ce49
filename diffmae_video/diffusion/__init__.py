"""The method: noise schedules, samplers, the DiffMAE loss, and inpainting."""

from diffmae_video.diffusion.diffmae import DiffMAE, Draw, Losses
from diffmae_video.diffusion.feature import FeatureTarget, Teacher, timm_teacher
from diffmae_video.diffusion.holes import box_hole, centre_hole, mask_of_hole
from diffmae_video.diffusion.inpaint import inpaint, pixel_limits
from diffmae_video.diffusion.sampler import Step
from diffmae_video.diffusion.schedule import Schedule

__all__ = [
    "DiffMAE",
    "Draw",
    "FeatureTarget",
    "Losses",
    "Schedule",
    "Step",
    "Teacher",
    "box_hole",
    "centre_hole",
    "inpaint",
    "mask_of_hole",
    "pixel_limits",
    "timm_teacher",
]
