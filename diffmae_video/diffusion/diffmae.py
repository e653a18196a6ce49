"""DiffMAE: an encoder of visible cubes, a decoder that denoises the hidden ones, and the loss between.

Notation: B batch, N cubes of a clip, V visible, M hidden, K of them predicted (K = M unless ``predict_fraction`` says
otherwise), P values in a cube, D and E the encoder's and decoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffmae_video.diffusion.feature import FeatureTarget
from diffmae_video.diffusion.objective import OBJECTIVES, DiffusionObjective, MaskedObjective
from diffmae_video.diffusion.schedule import Schedule
from diffmae_video.errors import UserError
from diffmae_video.model.decoder import Decoder
from diffmae_video.model.encoder import SpacetimeViT
from diffmae_video.model.masking import Mask, draw_masks
from diffmae_video.model.patches import take

PIXELS = ("raw", "normalized")
TARGET_FRAMES = ("all", "first")


@dataclass(frozen=True)
class StepNoise:
    """All random numbers of a training step.

    Attributes:
        mask: visible and hidden cubes.
        predicted: (B, K) int64, the hidden cubes that are predicted.
        t: (B,) int64 noise level of each clip.
        noise: (B, K, P) N(0, I); (B, K, 0) for the mae objective.
    """

    mask: Mask
    predicted: Tensor
    t: Tensor
    noise: Tensor


class Losses(NamedTuple):
    """What a step returns. A tuple, so that wrappers which look for tensors in outputs (DDP, FSDP) find them.

    Attributes:
        loss: float32 scalar, the one to differentiate.
        per_clip: (B,) float32 pixel loss of each clip.
        t: (B,) int64 noise level of each clip.
        feature: (B,) float32, 1 - cosine of each clip's predicted features; zeros without a feature target.
    """

    loss: Tensor
    per_clip: Tensor
    t: Tensor
    feature: Tensor


class DiffMAE(nn.Module):
    """Diffusion as a masked autoencoder (Wei et al. 2023, arXiv 2304.03283).

    Args:
        encoder: sees the visible cubes.
        decoder: predicts the hidden ones.
        schedule: noise levels; read by the diffusion objective only.
        objective: "diffusion", or "mae" (mask tokens, no noise).
        target: "x0", "eps" or "v"; the mae objective has only x0.
        pixels: "raw" (as given) or "normalized" (each cube by its own mean and standard deviation).
        target_frames: "all" frames of a cube are predicted, or the "first" alone (and normalised by itself), which is
            MAE-ST's target; only for the mae objective. The decoder's ``out_dim`` must be P / tubelet then.
        predict_fraction: part of the hidden cubes that is predicted in a step. Unbiased for the cross decoder; for
            the others an approximation, since their cubes then see fewer companions than in sampling.
        features: a second target from a frozen teacher.

    Raises:
        UserError: for unknown names, combinations without meaning, a fraction outside (0, 1], or a decoder that
            gives another number of values.
    """

    def __init__(
        self,
        encoder: SpacetimeViT,
        decoder: Decoder,
        *,
        schedule: Schedule,
        objective: str = "diffusion",
        target: str = "x0",
        pixels: str = "raw",
        target_frames: str = "all",
        predict_fraction: float = 1.0,
        features: FeatureTarget | None = None,
    ) -> None:
        super().__init__()
        check_options(
            objective=objective,
            target=target,
            pixels=pixels,
            target_frames=target_frames,
            predict_fraction=predict_fraction,
        )
        self.target_dim = target_dim(encoder, target_frames)
        if decoder.head.out_features != self.target_dim:
            raise UserError(
                f"the decoder gives {decoder.head.out_features} values a cube and target_frames {target_frames!r} has "
                f"{self.target_dim}; make it with out_dim={self.target_dim}"
            )
        self.encoder = encoder
        self.decoder = decoder
        self.objective: DiffusionObjective | MaskedObjective
        if objective == "diffusion":
            self.objective = DiffusionObjective(schedule, target=target, cube_dim=encoder.cube_dim, width=decoder.width)
        else:
            self.objective = MaskedObjective(width=decoder.width)
        self.pixels, self.target_frames = pixels, target_frames
        self.predict_fraction = predict_fraction
        self.features = features
        self.taps = decoder.taps + (features.decoder.taps if features is not None else ())

    @torch.no_grad()
    def draw(self, generators: Sequence[torch.Generator], *, mask_kind: str, mask_ratio: float) -> StepNoise:
        """Draw the mask, the predicted cubes, t and the noise of each clip from its own generator, on its device.

        Each clip's numbers depend on its generator alone, not on the batch it sits in.
        """
        mask = draw_masks(mask_kind, self.encoder.grid, ratio=mask_ratio, generators=generators)
        predicted = self._draw_predicted(mask.masked, generators)
        shape = (predicted.shape[1], self.objective.noise_dim)
        t = [torch.randint(self.objective.num_levels, (1,), generator=g, device=g.device) for g in generators]
        noise = [torch.randn(shape, generator=g, device=g.device) for g in generators]
        return StepNoise(mask=mask, predicted=predicted, t=torch.cat(t), noise=torch.stack(noise))

    def forward(self, video: Tensor, draw: StepNoise) -> Losses:
        """The loss of clips (B, frames, 3, height, width), normalised floats, under the given random numbers."""
        cubes = self.encoder.patchify(video)  # (B, N, P)
        clean = self._target_pixels(take(cubes, draw.predicted))  # (B, K, P), or (B, K, P / tubelet)

        # encode what is visible
        latents = self.encode(cubes, draw.mask)  # a list of (B, V, D)

        # denoise what is hidden
        tokens = self.objective.tokens(clean, t=draw.t, noise=draw.noise)  # (B, K, E)
        output = self.decode(latents, tokens, draw.mask, draw.predicted)  # (B, K, P)

        # compare, in float32
        target = self.objective.target(clean, t=draw.t, noise=draw.noise)
        per_clip = (output.float() - target.float()).square().mean((1, 2))
        if self.features is None:
            return Losses(per_clip.mean(), per_clip, draw.t, torch.zeros_like(per_clip))
        feature_latents = latents[len(self.decoder.taps) :]
        feature = self.features(video, feature_latents, visible=draw.mask.visible, predicted=draw.predicted)
        return Losses((per_clip + self.features.weight * feature).mean(), per_clip, draw.t, feature)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are not to be decayed beyond the 1-D ones: the encoder's, and mask tokens."""
        tokens = {name for name, _ in self.named_parameters() if name.endswith("mask_token")}
        return tokens | {f"encoder.{name}" for name in self.encoder.no_weight_decay()}

    def encode(self, cubes: Tensor, mask: Mask) -> list[Tensor]:
        """Latents (B, V, D) for every tap of the decoders, from cubes (B, N, P): only the visible ones are read."""
        return self.encoder.encode(take(cubes, mask.visible), mask.visible, self.taps)

    def decode(self, latents: list[Tensor], tokens: Tensor, mask: Mask, predicted: Tensor) -> Tensor:
        """The decoder's answer (B, K, P) for tokens (B, K, E) of the cubes ``predicted`` (B, K)."""
        own = latents[: len(self.decoder.taps)]
        return self.decoder(own, tokens, visible=mask.visible, predicted=predicted)

    def _target_pixels(self, cubes: Tensor) -> Tensor:
        cubes = cubes[..., : self.target_dim]  # the frame is a cube's slowest axis
        if self.pixels == "raw":
            return cubes
        mean, std = cube_stats(cubes)
        return (cubes - mean) / std

    def _draw_predicted(self, masked: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        count = masked.shape[1]
        keep = max(1, round(self.predict_fraction * count))
        if keep == count:
            return masked
        scores = torch.stack([torch.rand(count, generator=g, device=g.device) for g in generators])
        chosen = scores.argsort(1)[:, :keep].sort(1).values
        return masked.gather(1, chosen)


def cube_stats(cubes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (unbiased) standard deviation over all values of each cube (B, K, P), as MAE: two (B, K, 1)."""
    return cubes.mean(-1, keepdim=True), (cubes.var(-1, keepdim=True) + 1e-6).sqrt()


def target_dim(encoder: SpacetimeViT, target_frames: str) -> int:
    """Values that are predicted for a cube: P, or those of its first frame."""
    return encoder.cube_dim if target_frames == "all" else encoder.cube_dim // encoder.tubelet


def check_options(*, objective: str, target: str, pixels: str, target_frames: str, predict_fraction: float) -> None:
    """Refuse names that don't exist and combinations that mean nothing, with a UserError."""
    if objective not in OBJECTIVES:
        raise UserError(f"objective {objective!r} is not one of {', '.join(OBJECTIVES)}")
    if objective == "mae" and target != "x0":
        raise UserError(f"target {target!r} needs noise, which the mae objective hasn't; use target x0")
    if pixels not in PIXELS:
        raise UserError(f"pixels {pixels!r} is not one of {', '.join(PIXELS)}")
    if target_frames not in TARGET_FRAMES:
        raise UserError(f"target_frames {target_frames!r} is not one of {', '.join(TARGET_FRAMES)}")
    if target_frames != "all" and objective != "mae":
        raise UserError(
            f"target_frames {target_frames!r} is the mae objective's; a sampler needs all frames: use target_frames all"
        )
    if not 0 < predict_fraction <= 1:
        raise UserError(f"predict_fraction ({predict_fraction}) must be above 0 and at most 1; 1 predicts all")
