"""The pre-training steps that are compared: our three decoders, and Hugging Face's VideoMAE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffmae_video.diffusion import DiffMAE, Schedule
from diffmae_video.model import (
    CrossDecoder,
    Decoder,
    JointDecoder,
    SpacetimeViT,
    draw_masks,
)
from diffmae_video.seeding import generator
from diffmae_video.sizes import DECODER_SIZES, SIZES

DECODERS: dict[str, Callable[..., Decoder]] = {
    "joint": JointDecoder,
    "cross_self": partial(CrossDecoder, self_attention=True),
    "cross": CrossDecoder,
}
REFERENCE = "videomae"
NAMES = (*DECODERS, REFERENCE)

Loss = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Setting:
    """What is measured: an encoder size, its clips, and the part hidden by tube masks."""

    size: str
    num_frames: int = 16
    crop_size: int = 224
    tubelet: int = 2
    patch_size: int = 16
    mask_ratio: float = 0.9
    batch_size: int = 2

    def clips(self, device: torch.device) -> Tensor:
        """A batch of normal noise (B, frames, 3, height, width)."""
        shape = (self.batch_size, self.num_frames, 3, self.crop_size, self.crop_size)
        return torch.randn(shape, generator=generator("benchmarks clips")).to(device)


class BenchModel:
    """A model under training with AdamW.

    Args:
        name: one of ``NAMES``.
        setting: size and shapes.
        device: where it runs.
    """

    def __init__(self, name: str, setting: Setting, device: torch.device) -> None:
        torch.manual_seed(0)
        build = build_videomae if name == REFERENCE else build_diffmae
        self.model, self.loss = build(name, setting, device)
        self.clips = setting.clips(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.05)
        self.steps = 0

    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def forward_backward(self) -> None:
        """Draw a mask (and t and noise), then loss and gradients."""
        self.steps += 1
        self.loss(self.clips, self.steps).backward()

    def step(self) -> None:
        """A whole training step, finished on the device when it returns."""
        self.optimizer.zero_grad()
        self.forward_backward()
        self.optimizer.step()
        if self.clips.device.type == "cuda":
            torch.cuda.synchronize()


def build_diffmae(name: str, setting: Setting, device: torch.device) -> tuple[nn.Module, Loss]:
    """DiffMAE with one of our decoders, at the size's default width and depth, predicting x0 of raw pixels."""
    encoder = SpacetimeViT(
        num_frames=setting.num_frames,
        crop_size=setting.crop_size,
        tubelet=setting.tubelet,
        patch_size=setting.patch_size,
        **SIZES[setting.size],
    )
    decoder = DECODERS[name](encoder, **DECODER_SIZES[setting.size])
    model = DiffMAE(encoder, decoder, schedule=Schedule()).to(device)

    def loss(clips: Tensor, step: int) -> Tensor:
        generators = [generator("benchmarks", step, i, device=device) for i in range(len(clips))]
        return model(clips, model.draw(generators, mask_kind="tube", mask_ratio=setting.mask_ratio)).loss

    return model, loss


def build_videomae(name: str, setting: Setting, device: torch.device) -> tuple[nn.Module, Loss]:
    """VideoMAEForPreTraining of transformers, with the same encoder and decoder widths, and SDPA attention."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    assert name == REFERENCE
    size, decoder = SIZES[setting.size], DECODER_SIZES[setting.size]
    config = VideoMAEConfig(
        image_size=setting.crop_size,
        patch_size=setting.patch_size,
        num_frames=setting.num_frames,
        tubelet_size=setting.tubelet,
        hidden_size=size["width"],
        num_hidden_layers=size["depth"],
        num_attention_heads=size["num_heads"],
        intermediate_size=round(size["width"] * size["mlp_ratio"]),
        decoder_hidden_size=decoder["width"],
        decoder_num_hidden_layers=decoder["depth"],
        decoder_num_attention_heads=decoder["num_heads"],
        decoder_intermediate_size=4 * decoder["width"],
        use_mean_pooling=False,
    )
    model: Any = VideoMAEForPreTraining(config)
    assert model.config._attn_implementation == "sdpa"
    model.to(device).train()
    grid = (
        setting.num_frames // setting.tubelet,
        setting.crop_size // setting.patch_size,
        setting.crop_size // setting.patch_size,
    )

    def loss(clips: Tensor, step: int) -> Tensor:
        generators = [generator("benchmarks", step, i, device=device) for i in range(len(clips))]
        hidden = draw_masks("tube", grid, ratio=setting.mask_ratio, generators=generators).hidden()
        return model(clips, bool_masked_pos=hidden).loss

    return model, loss
