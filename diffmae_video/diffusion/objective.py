"""What the decoder is given and what it should answer: diffusion's noisy cubes, or MAE's mask tokens.

Both objectives are a pair of maps around the decoder, from clean cubes x0 (B, K, P), levels t (B,) and noise:
``tokens`` gives the decoder's input (B, K, E), ``target`` what its output is compared with (B, K, P).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffmae_video.diffusion.process import TARGETS, add_noise, target_from_x0, x0_from_output
from diffmae_video.diffusion.schedule import Schedule
from diffmae_video.errors import UserError

OBJECTIVES = ("diffusion", "mae")

MIN_ALPHA_BAR_OF_EPS = 1e-10  # ours: there float32's rounding of the noise alone moves x0 by 0.6 % of its deviation


class TimeEmbedding(nn.Module):
    """A vector for each level t: sines and cosines of t, then a two-layer MLP (ours: as in most DDPM networks).

    t is scaled to 0...1000, so the frequencies (1 to 1e-4 per unit) mean the same for every number of steps. Angles
    are float32 whatever the weights are: a buffer of frequencies would be cast with the model, and bfloat16 can't
    tell levels above 256 apart.
    """

    def __init__(self, width: int, *, num_steps: int) -> None:
        super().__init__()
        self.scale = 1000 / num_steps
        self.waves = width // 2
        self.mlp = nn.Sequential(nn.Linear(2 * self.waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) int64 to (B, E)."""
        frequency = torch.exp(-math.log(10000) * torch.arange(self.waves, device=t.device) / self.waves)
        angle = self.scale * t[:, None] * frequency
        waves = torch.cat([angle.sin(), angle.cos()], dim=1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


class DiffusionObjective(nn.Module):
    """Predict x0, eps or v from cubes noised to a random level.

    Args:
        schedule: the noise levels.
        target: "x0", "eps" or "v".
        cube_dim: P, values of a cube.
        width: E, channels of a decoder token.

    Raises:
        UserError: for another target, or one that the schedule doesn't allow, see ``check_target``.
    """

    levels: Tensor

    def __init__(self, schedule: Schedule, *, target: str, cube_dim: int, width: int) -> None:
        super().__init__()
        check_target(target, schedule)
        self.schedule = schedule
        self.target_kind = target
        self.num_levels, self.noise_dim = schedule.num_steps, cube_dim
        self.register_buffer("levels", schedule.levels().float(), persistent=False)  # (S, 2)
        self.embed = nn.Linear(cube_dim, width)
        self.time = TimeEmbedding(width, num_steps=schedule.num_steps)
        self.apply(_init_small)

    def tokens(self, x0: Tensor, *, t: Tensor, noise: Tensor) -> Tensor:
        """Noise the clean cubes to level t and embed them: (B, K, E)."""
        signal, sigma = self._factors(t)
        return self.noisy_tokens(add_noise(x0, noise, signal=signal, sigma=sigma), t)

    def noisy_tokens(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Embed cubes that are already noisy (B, K, P), with their level (B,): (B, K, E)."""
        return self.embed(x_t.to(self.embed.weight.dtype)) + self.time(t)[:, None]

    def target(self, x0: Tensor, *, t: Tensor, noise: Tensor) -> Tensor:
        """What the decoder should answer: (B, K, P)."""
        signal, sigma = self._factors(t)
        return target_from_x0(self.target_kind, x0, noise, signal=signal, sigma=sigma)

    def x0(self, output: Tensor, x_t: Tensor, t: int) -> Tensor:
        """The clean cubes that the decoder's answer means at level t."""
        alpha_bar = self.schedule.alpha_bar_at(t)
        factors = {"signal": math.sqrt(alpha_bar), "sigma": math.sqrt(1 - alpha_bar)}
        return x0_from_output(self.target_kind, output, x_t, **factors)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DiffusionObjective:
        """Moves and casts; the levels stay float32, since squares of rounded ones don't add up to 1."""
        super()._apply(fn, recurse)
        if not self.schedule.alpha_bar.is_meta:
            self.levels = self.schedule.levels().float().to(self.levels.device)
        return self

    def _factors(self, t: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.levels[t][:, :, None, None]  # (B, 2, 1, 1)
        return levels[:, 0], levels[:, 1]


class MaskedObjective(nn.Module):
    """MAE: predict x0 from one learned mask token for every hidden cube; no noise and no t.

    Args:
        width: E, channels of a decoder token.
    """

    num_levels, noise_dim = 1, 0

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.schedule = Schedule(num_steps=1)  # a sampler's single step goes from this level straight to x0
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)

    def tokens(self, x0: Tensor, *, t: Tensor, noise: Tensor) -> Tensor:
        """The mask token for each cube of x0 (B, K, P), whose values aren't read: (B, K, E)."""
        del noise  # no values: there is nothing to add
        return self.noisy_tokens(x0, t)

    def noisy_tokens(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The mask token for each cube of x_t (B, K, P), of which only the number is read: (B, K, E)."""
        del t  # the one level
        return self.mask_token.expand(x_t.shape[0], x_t.shape[1], -1)

    def target(self, x0: Tensor, *, t: Tensor, noise: Tensor) -> Tensor:
        """x0 itself."""
        del t, noise
        return x0

    def x0(self, output: Tensor, x_t: Tensor, t: int) -> Tensor:
        """The decoder's answer itself."""
        del x_t, t
        return output


def check_target(target: str, schedule: Schedule) -> None:
    """Refuse a target that doesn't exist, or eps where the noisiest level holds too little of x0, with a UserError."""
    if target not in TARGETS:
        raise UserError(f"target {target!r} is not one of {', '.join(TARGETS)}")
    # Models are described on the meta device, where the levels have no values.
    if target == "eps" and not schedule.alpha_bar.is_meta and schedule.alpha_bar[-1] < MIN_ALPHA_BAR_OF_EPS:
        raise UserError(
            f"target eps with a schedule that ends at alpha_bar {float(schedule.alpha_bar[-1]):.1g}, by whose root x0 "
            f"is divided: it must end above {MIN_ALPHA_BAR_OF_EPS:g}; use target x0 or v, or a larger rho"
        )


def _init_small(module: nn.Module) -> None:
    """Truncated normal of 0.02: what a noisy cube adds to its token starts small beside its position (ours).

    With Xavier's scale the noise drowns the position that tells tokens apart, and training stays on its first
    plateau: a model of two clips, as in tests/diffusion/test_overfit.py, stayed at 17 dB where this reached 36.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
