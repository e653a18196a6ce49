"""How fast the noise grows: beta_t, and alpha_bar_t = product of (1 - beta) up to t, for t in 0...S-1.

Everything here is float64 on the CPU. Training casts the levels once; sampling uses them as Python numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffmae_video.errors import UserError

SCHEDULES = ("linear", "cosine")

MAX_BETA = 0.999  # Nichol & Dhariwal's cap: alpha_bar never reaches zero, so eps and v can always be turned to x0

MIN_ALPHA_BAR = 1e-300  # where float64 would soon call two levels equal, and a step divide zero by zero


def linear_betas(num_steps: int) -> Tensor:
    """Ho et al. 2020: from 1e-4 to 0.02 over 1000 steps; for S steps scaled by 1000 / S, to end as noisy (ours)."""
    scale = 1000 / num_steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=torch.float64)
    return betas.clamp(max=MAX_BETA)


def cosine_betas(num_steps: int) -> Tensor:
    """Nichol & Dhariwal 2021, eq. 17: alpha_bar is a squared cosine, offset by 0.008."""
    time = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)


class Schedule:
    """Noise levels of S steps.

    Args:
        kind: "linear" or "cosine".
        num_steps: S, the number of diffusion steps.
        rho: exponent of each beta; below 1 there is more noise, above 1 less.

    Attributes:
        betas: (S,) float64.
        alpha_bar: (S,) float64, strictly falling.

    Raises:
        UserError: for an unknown kind, fewer than one step, or a rho that isn't positive or is too small for float64.
    """

    def __init__(self, kind: str = "linear", *, num_steps: int = 1000, rho: float = 1.0) -> None:
        if kind not in SCHEDULES:
            raise UserError(f"schedule {kind!r} is not one of {', '.join(SCHEDULES)}")
        if num_steps < 1:
            raise UserError(f"num_steps ({num_steps}) of a schedule must be at least 1; 1000 is usual")
        if rho <= 0:
            raise UserError(f"rho ({rho}) must be positive; 1 leaves the schedule as it is, less adds noise")
        betas = linear_betas(num_steps) if kind == "linear" else cosine_betas(num_steps)
        self.num_steps = num_steps
        self.betas = betas**rho
        self.alpha_bar = torch.cumprod(1 - self.betas, dim=0)
        # A model that is only described (meta device: shapes, FLOPs) has no values to check.
        if not self.alpha_bar.is_meta and self.alpha_bar[-1] < MIN_ALPHA_BAR:
            raise UserError(f"rho ({rho}) leaves nothing of x0 long before the last step; use a larger one, 0.5 to 1")

    def levels(self) -> Tensor:
        """(S, 2) float64: the factors of x0 and of the noise, sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""
        return torch.stack([self.alpha_bar.sqrt(), (1 - self.alpha_bar).sqrt()], dim=1)

    def alpha_bar_at(self, t: int) -> float:
        """alpha_bar of step t, and 1 (no noise) for t = -1, where every sampler ends."""
        return 1.0 if t < 0 else float(self.alpha_bar[t])
