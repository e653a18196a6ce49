"""The two simple ways to fill hidden cubes that a model has to beat, and how close a filling comes.

Shapes: videos (B, frames, 3, height, width) float in 0...1; cubes (B, N, P); hidden pixels (B, frames, height, width).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from diffmae_video.model import Mask, patchify, unpatchify
from diffmae_video.model.patches import cube_grid, put, take

SSIM_WINDOW = 7  # pixels; scikit-image's default


class InpaintMetrics(NamedTuple):
    """How close a filling comes to the original, over hidden pixels only."""

    psnr: float  # dB, mean over the clips
    ssim: float  # mean over the hidden pixels of all clips


def fill_mean(video: Tensor, mask: Mask, *, tubelet: int, patch_size: int) -> Tensor:
    """Give every hidden pixel its clip's mean visible colour."""
    cubes = patchify(video, tubelet=tubelet, patch_size=patch_size)
    colors = take(cubes, mask.visible).unflatten(2, (-1, 3))  # (B, V, P / 3, 3): the channel is the fastest axis
    mean = colors.mean((1, 2)).repeat(1, cubes.shape[-1] // 3)  # (B, P)
    filled = put(cubes, mask.masked, mean[:, None].expand(-1, mask.masked.shape[1], -1))
    return unpatchify(filled, _grid(video, tubelet, patch_size), tubelet=tubelet, patch_size=patch_size)


def fill_nearest(video: Tensor, mask: Mask, *, tubelet: int, patch_size: int) -> Tensor:
    """Copy into every hidden cube the visible cube nearest in time at the same place.

    Where a place is hidden at all times (a tube), the visible cube nearest in space is taken, and of several
    equally near ones that which is nearest in time. Ties go to the first in raster order.
    """
    grid = _grid(video, tubelet, patch_size)
    cubes = patchify(video, tubelet=tubelet, patch_size=patch_size)
    places = torch.cartesian_prod(*(torch.arange(length, device=video.device) for length in grid))  # (N, 3)
    apart = places[mask.masked][:, :, None] - places[mask.visible][:, None]  # (B, M, V, 3)
    # Times are fewer than grid[0] apart, so that any step in space outweighs them.
    distance = apart[..., 1:].square().sum(-1) * grid[0] + apart[..., 0].abs()
    source = mask.visible.gather(1, distance.argmin(2))  # (B, M)
    filled = put(cubes, mask.masked, take(cubes, source))
    return unpatchify(filled, grid, tubelet=tubelet, patch_size=patch_size)


def hidden_pixels(hidden: Tensor, grid: tuple[int, int, int], *, tubelet: int, patch_size: int) -> Tensor:
    """The pixels of hidden cubes: (..., N) bool to (..., frames, height, width)."""
    cubes = hidden.reshape(-1, hidden.shape[-1], 1).expand(-1, -1, 3 * tubelet * patch_size**2)
    pixels = unpatchify(cubes, grid, tubelet=tubelet, patch_size=patch_size)[:, :, 0]
    return pixels.unflatten(0, hidden.shape[:-1])


class Measure:
    """PSNR and SSIM of a filling over the hidden pixels, of clips that come bit by bit.

    PSNR is taken of each clip's mean squared error and then averaged over the clips that hide something. SSIM is
    computed frame by frame on the whole picture (its windows need their surroundings) and averaged over the pixels.
    """

    def __init__(self) -> None:
        self._psnr: list[float] = []
        self._ssim_sum, self._pixels = 0.0, 0

    def add(self, original: Tensor, filled: Tensor, hidden: Tensor) -> None:
        """Measure clips at their ``hidden`` pixels (B, frames, height, width)."""
        error = (original - filled).square().mean(2)  # (B, frames, height, width)
        count = hidden.sum((1, 2, 3))
        per_clip = (error * hidden).sum((1, 2, 3))[count > 0] / count[count > 0]
        self._psnr += (-10 * per_clip.clamp(min=1e-10).log10()).tolist()  # 100 dB for equal pictures
        for a, b, where in zip(_frames(original), _frames(filled), hidden.flatten(0, 1).cpu().numpy(), strict=True):
            if where.any():
                self._ssim_sum += float(_ssim_map(a, b)[where].sum())
                self._pixels += int(where.sum())

    def quality(self) -> InpaintMetrics:
        """Of all that was added."""
        return InpaintMetrics(psnr=float(np.mean(self._psnr)), ssim=self._ssim_sum / self._pixels)


def _grid(video: Tensor, tubelet: int, patch_size: int) -> tuple[int, int, int]:
    size = (video.shape[1], video.shape[3], video.shape[4])
    return cube_grid(size, tubelet=tubelet, patch_size=patch_size)


def _frames(video: Tensor) -> np.ndarray:
    return video.flatten(0, 1).permute(0, 2, 3, 1).double().cpu().numpy()  # (B * frames, height, width, 3)


def _ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _, full = structural_similarity(a, b, win_size=SSIM_WINDOW, data_range=1.0, channel_axis=2, full=True)
    return full.mean(2)
