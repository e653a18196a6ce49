"""From noise to a sample: DDIM and DDPM steps on a sparse grid of noise levels.

In the formulas, a = alpha_bar at t and b = alpha_bar at the next, lower t (1 after the last).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffmae_video.diffusion.process import eps_from_x0
from diffmae_video.diffusion.schedule import Schedule
from diffmae_video.errors import UserError

SAMPLERS = ("ddim", "ddpm")


@dataclass(frozen=True)
class Step:
    """One step of a trajectory: at level ``t``, the state ``x_t`` and the clean prediction ``x0`` made from it."""

    t: int
    x_t: Tensor
    x0: Tensor


def time_grid(schedule_steps: int, num_steps: int) -> list[int]:
    """``num_steps`` levels from S-1 down, evenly spaced ("trailing": Lin et al. 2023, arXiv 2305.08891).

    The first is always S-1: a sample starts from pure noise, so the first level must be the noisiest.

    Raises:
        UserError: if there are more steps than levels, or none.
    """
    if not 1 <= num_steps <= schedule_steps:
        raise UserError(
            f"num_steps ({num_steps}) of a sampler must be in 1...{schedule_steps}, the model's diffusion steps"
        )
    return [round(schedule_steps * (num_steps - i) / num_steps) - 1 for i in range(num_steps)]


def ddim_step(x_t: Tensor, x0: Tensor, z: Tensor, *, a: float, b: float, eta: float) -> Tensor:
    """Song et al. 2021, eq. 12 and 16: deterministic at eta 0, as noisy as DDPM at eta 1. ``z`` is N(0, I)."""
    eps = eps_from_x0(x0, x_t, signal=math.sqrt(a), sigma=math.sqrt(1 - a))
    s = eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
    return math.sqrt(b) * x0 + math.sqrt(max(1 - b - s * s, 0.0)) * eps + s * z


def ddpm_step(x_t: Tensor, x0: Tensor, z: Tensor, *, a: float, b: float) -> Tensor:
    """Ho et al. 2020, eq. 6 and 7: a draw from q(x_next | x_t, x0), with alpha = a / b between the two levels."""
    alpha = a / b
    mean = math.sqrt(b) * (1 - alpha) / (1 - a) * x0 + math.sqrt(alpha) * (1 - b) / (1 - a) * x_t
    return mean + math.sqrt((1 - b) / (1 - a) * (1 - alpha)) * z


def sample(
    predict_x0: Callable[[Tensor, int], Tensor],
    x_t: Tensor,
    *,
    schedule: Schedule,
    num_steps: int,
    sampler: str = "ddim",
    eta: float = 0.0,
    generator: torch.Generator,
    trajectory: list[Step] | None = None,
) -> Tensor:
    """Walk from noise ``x_t`` ~ N(0, I) at level S-1 to a clean sample.

    Args:
        predict_x0: (x_t, t) to the predicted clean x0.
        x_t: any shape; its dtype is that of the whole walk.
        schedule: the levels.
        num_steps: steps taken, 1...S.
        sampler: "ddim" or "ddpm".
        eta: noise of DDIM, 0...1.
        generator: draws each step's noise.
        trajectory: a list to append every ``Step`` to.

    Raises:
        UserError: for an unknown sampler, an eta outside 0...1 or given to DDPM, or too many steps.
    """
    check_sampler(sampler, eta=eta)
    grid = time_grid(schedule.num_steps, num_steps)
    for t, t_next in zip(grid, [*grid[1:], -1], strict=True):
        a, b = schedule.alpha_bar_at(t), schedule.alpha_bar_at(t_next)
        x0 = predict_x0(x_t, t)
        if trajectory is not None:
            trajectory.append(Step(t, x_t, x0))
        z = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
        x_t = ddpm_step(x_t, x0, z, a=a, b=b) if sampler == "ddpm" else ddim_step(x_t, x0, z, a=a, b=b, eta=eta)
    return x_t


def check_sampler(sampler: str, *, eta: float) -> None:
    """Refuse a sampler that doesn't exist or an eta that means nothing, with a UserError."""
    if sampler not in SAMPLERS:
        raise UserError(f"sampler {sampler!r} is not one of {', '.join(SAMPLERS)}")
    if not 0 <= eta <= 1:
        raise UserError(f"eta ({eta}) must be in 0...1: 0 is deterministic DDIM, 1 as noisy as DDPM")
    if sampler == "ddpm" and eta:
        raise UserError(f"eta ({eta}) is an option of ddim; drop it, or use sampler ddim")
