"""Fill the hidden part of any clip by sampling a trained DiffMAE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffmae_video.diffusion.diffmae import DiffMAE, cube_stats
from diffmae_video.diffusion.objective import MaskedObjective
from diffmae_video.diffusion.sampler import Step, check_sampler, sample
from diffmae_video.errors import UserError
from diffmae_video.model.masking import Mask
from diffmae_video.model.patches import put, take, unpatchify

Limits = tuple[Sequence[float], Sequence[float]]


def pixel_limits(mean: Sequence[float], std: Sequence[float]) -> Limits:
    """The least and the greatest value of each channel that is a pixel, for clips normalised by mean and std."""
    low = [(0 - m) / s for m, s in zip(mean, std, strict=True)]
    high = [(1 - m) / s for m, s in zip(mean, std, strict=True)]
    return low, high


@torch.no_grad()
def inpaint(
    model: DiffMAE,
    video: Tensor,
    mask: Mask,
    *,
    num_steps: int,
    sampler: str = "ddim",
    eta: float = 0.0,
    generator: torch.Generator,
    limits: Limits | None = None,
    oracle_stats: bool = False,
    trajectory: list[Step] | None = None,
) -> Tensor:
    """Sample the hidden cubes given the visible ones, and paste the visible ones back.

    The visible cubes are encoded once; each step is one pass of the decoder. Hidden pixels are never read, unless
    ``oracle_stats`` asks for it. Put the model in eval mode first.

    Args:
        model: a trained model.
        video: (B, frames, 3, height, width) float, normalised as in training, on the model's device.
        mask: what is visible and what is to be filled.
        num_steps: sampling steps, 1 to the schedule's number; 1 for the mae objective.
        sampler: "ddim" or "ddpm".
        eta: noise of DDIM, 0...1.
        generator: all randomness, on the video's device; the same one gives the same sample.
        limits: least and greatest value of each channel, see ``pixel_limits``; each predicted x0 is clipped to them.
        oracle_stats: only for models of normalised pixels, which need the mean and deviation of the *hidden* cubes
            to give pixels: take them from the video. The result is then no prediction alone, and must be labelled.
        trajectory: a list that gets every ``Step``, as videos with the visible cubes pasted in.

    Returns:
        The filled video (B, frames, 3, height, width).

    Raises:
        UserError: if the options don't fit the model or each other.
    """
    check_sampler(sampler, eta=eta)
    _check_model(model, num_steps=num_steps, oracle_stats=oracle_stats)
    _check_mask(mask, batch=len(video), num_cubes=model.encoder.num_cubes)
    cubes = model.encoder.patchify(video)  # (B, N, P)
    hidden = CubeDenormalizer(take(cubes, mask.masked) if oracle_stats else None, limits, like=cubes)
    latents = model.encode(cubes, mask)
    noise_shape = (*mask.masked.shape, cubes.shape[-1])
    noise = torch.randn(noise_shape, generator=generator, device=video.device, dtype=video.dtype)  # (B, M, P)

    def predict_x0(x_t: Tensor, t: int) -> Tensor:
        tokens = model.objective.noisy_tokens(x_t, torch.full((len(x_t),), t, device=x_t.device))
        output = model.decode(latents, tokens, mask, mask.masked).to(x_t.dtype)
        return hidden.clip(model.objective.x0(output, x_t, t))

    def paste(filled: Tensor) -> Tensor:
        return _join(model, put(cubes, mask.masked, hidden.to_pixels(filled)))

    steps: list[Step] = []
    filled = sample(
        predict_x0,
        noise,
        schedule=model.objective.schedule,
        num_steps=num_steps,
        sampler=sampler,
        eta=eta,
        generator=generator,
        trajectory=None if trajectory is None else steps,
    )
    if trajectory is not None:
        trajectory.extend(Step(step.t, paste(step.x_t), paste(step.x0)) for step in steps)
    return paste(filled)


def _join(model: DiffMAE, cubes: Tensor) -> Tensor:
    encoder = model.encoder
    return unpatchify(cubes, encoder.grid, tubelet=encoder.tubelet, patch_size=encoder.patch_size)


class CubeDenormalizer:
    """The way from the model's values of hidden cubes to pixels, and the range these may have.

    Args:
        oracle: the hidden cubes (B, M, P) of a model of normalised pixels, else None.
        limits: see ``inpaint``.
        like: a tensor whose device, dtype and last dimension are the cubes'.
    """

    def __init__(self, oracle: Tensor | None, limits: Limits | None, *, like: Tensor) -> None:
        self.stats = None if oracle is None else cube_stats(oracle)
        self.range: tuple[Tensor, Tensor] | None = None
        if limits is not None:  # the channel is a cube's fastest axis
            low, high = (like.new_tensor(side).repeat(like.shape[-1] // 3) for side in limits)
            self.range = low, high

    def to_pixels(self, x: Tensor) -> Tensor:
        """Undo the normalisation of cubes."""
        return x if self.stats is None else x * self.stats[1] + self.stats[0]

    def clip(self, x0: Tensor) -> Tensor:
        """Clip a prediction to the range of pixels."""
        if self.range is None:
            return x0
        pixels = self.to_pixels(x0).clamp(*self.range)
        return pixels if self.stats is None else (pixels - self.stats[0]) / self.stats[1]


def _check_mask(mask: Mask, *, batch: int, num_cubes: int) -> None:
    shape = (len(mask.visible), mask.visible.shape[1] + mask.masked.shape[1])
    if shape != (batch, num_cubes):
        raise UserError(
            f"a mask of (clips, cubes) = {shape} doesn't fit {batch} clips of {num_cubes} cubes;"
            f" make one for each clip, on the model's grid"
        )


def _check_model(model: DiffMAE, *, num_steps: int, oracle_stats: bool) -> None:
    if model.pixels == "normalized" and not oracle_stats:
        raise UserError(
            "this model predicts cubes normalised by their own mean and deviation, which a hidden cube doesn't show;"
            " inpaint with a model of raw pixels, or pass oracle_stats to take them from the original"
        )
    if model.pixels == "raw" and oracle_stats:
        raise UserError("oracle_stats is for models of normalised pixels; this one predicts raw pixels: drop it")
    if model.target_frames != "all":
        raise UserError(
            "this model predicts the first frame of each cube only (target_frames 'first') and can't fill whole cubes;"
            " inpaint with a model trained with target_frames all"
        )
    if isinstance(model.objective, MaskedObjective) and num_steps != 1:
        raise UserError(f"a mae model predicts in one step; num_steps ({num_steps}) must be 1")
