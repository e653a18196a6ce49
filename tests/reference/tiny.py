"""The smallest models that have every part, for tests: 2x3x4 or 2x2x2 cubes of 2x2x2 pixels."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from diffmae_video.diffusion import DiffMAE, FeatureTarget, Schedule, StepNoise, Teacher
from diffmae_video.model import CrossDecoder, JointDecoder, Mask, SpacetimeViT
from diffmae_video.seeding import generator

DECODERS = {"joint": JointDecoder, "cross_self": partial(CrossDecoder, self_attention=True), "cross": CrossDecoder}

SHAPE = {"num_frames": 4, "crop_size": (6, 8), "tubelet": 2, "patch_size": 2}


def tiny_encoder(**options) -> SpacetimeViT:
    return SpacetimeViT(**{**SHAPE, "width": 24, "depth": 3, "num_heads": 2, **options})


def tiny_decoder(kind: str, encoder: SpacetimeViT, **options):
    return DECODERS[kind](encoder, **{"width": 20, "depth": 2, "num_heads": 2, **options})


def tiny_model(kind: str, *, encoder: dict | None = None, decoder: dict | None = None, **options) -> DiffMAE:
    """A DiffMAE whose every parameter is random: also biases, so that none hides an error by being zero."""
    made = tiny_encoder(**(encoder or {}))
    model = DiffMAE(
        made, tiny_decoder(kind, made, **(decoder or {})), schedule=Schedule(num_steps=50, rho=0.8), **options
    )
    return randomize(model)


def randomize(module: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Normal numbers in every parameter; norms stay near one and matrices near their usual scale."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=made)
            if parameter.ndim == 1:
                parameter.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.2 * noise)
            else:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
    return module


def tiny_features(encoder: SpacetimeViT, **options) -> FeatureTarget:
    """A feature target whose teacher is a fixed 1x1 convolution to 5 channels on 4x4-pixel averages."""
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))

    def network(frames: Tensor) -> Tensor:
        pooled = torch.nn.functional.avg_pool2d(frames, 2)
        return torch.einsum("fc,nchw->nfhw", weight.to(frames), pooled)

    teacher = Teacher(network, width=5, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    arguments = {"width": 12, "depth": 2, "num_heads": 2, "mean": (0.45,) * 3, "std": (0.225,) * 3, **options}
    return FeatureTarget(teacher, encoder, **arguments)


def video(batch: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 4, 3, 6, 8, generator=made, dtype=torch.float64).to(dtype)


def draw(model: DiffMAE, batch: int, *, kind: str = "random", ratio: float = 0.75, seed: int = 0) -> StepNoise:
    made = [generator("draw", seed, i) for i in range(batch)]
    return model.draw(made, mask_kind=kind, mask_ratio=ratio)


def to_double(drawn: StepNoise) -> StepNoise:
    return StepNoise(mask=drawn.mask, predicted=drawn.predicted, t=drawn.t, noise=drawn.noise.double())


def part(drawn: StepNoise, b: int) -> StepNoise:
    """The draw of clip b alone."""
    one = slice(b, b + 1)
    mask = Mask(drawn.mask.visible[one], drawn.mask.masked[one])
    return StepNoise(mask=mask, predicted=drawn.predicted[one], t=drawn.t[one], noise=drawn.noise[one])
