"""Fill masked regions of videos and pictures, and measure how well."""

from diffmae_video.inpainting.inpaint import inpaint, pixel_limits

__all__ = ["inpaint", "pixel_limits"]
