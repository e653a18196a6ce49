"""A second target: features of a frozen teacher (CLIP in the paper), predicted for the hidden cubes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmae_video.diffusion.objective import MaskedObjective
from diffmae_video.errors import UserError
from diffmae_video.model.decoder import CrossDecoder
from diffmae_video.model.encoder import SpacetimeViT
from diffmae_video.model.patches import take


class Teacher:
    """A frozen image network that turns frames into a grid of features.

    Args:
        network: (n, 3, h, w) frames, normalised the teacher's way, to features (n, F, h', w'). Any callable; a module
            is put in eval mode and frozen.
        width: F, channels of its features.
        mean: per-channel mean of the teacher's normalisation, of pixels in 0...1.
        std: per-channel standard deviation of it.
        input_size: height and width that frames are resized to; None leaves them as they are.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        *,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: tuple[int, int] | None = None,
    ) -> None:
        if isinstance(network, nn.Module):
            network.eval().requires_grad_(False)
        self.network = network
        self.width = width
        self.mean, self.std = tuple(mean), tuple(std)
        self.input_size = input_size

    def move(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Apply a device or dtype change to the network's tensors."""
        if isinstance(self.network, nn.Module):
            self.network._apply(fn)


class _LastFeatureMap(nn.Module):
    """A timm model's last feature map as (n, F, h', w'), with its final norm where it has one."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        return self.network.forward_intermediates(frames, indices=1, norm=True, intermediates_only=True)[-1]


def timm_teacher(name: str, *, checkpoint: str | Path) -> Teacher:
    """A frozen timm model with weights from a local file.

    Args:
        name: timm's model name, for example "vit_base_patch16_clip_224".
        checkpoint: file with its weights, as timm reads them.

    Raises:
        UserError: if timm doesn't know the name, the file isn't there, or the model has no feature maps.
    """
    if not timm.is_model(name):
        raise UserError(f"feature teacher {name!r} is not a timm model; timm.list_models() names them")
    if not Path(checkpoint).is_file():
        raise UserError(f"the feature teacher's checkpoint {str(checkpoint)!r} is not a file; give its weights")
    network: Any = timm.create_model(name, checkpoint_path=str(checkpoint))
    if not hasattr(network, "forward_intermediates"):
        raise UserError(f"timm's {name!r} has no forward_intermediates; use a ViT, a ConvNeXt or another that has")
    config = network.pretrained_cfg
    return Teacher(
        _LastFeatureMap(network),
        width=network.num_features,
        mean=config["mean"],
        std=config["std"],
        input_size=tuple(config["input_size"][-2:]),
    )


class FeatureTarget(nn.Module):
    """Predict a teacher's features of the hidden cubes, with mask tokens and a cross decoder of its own.

    Frame by frame, the teacher sees the first frame of each cube's time step (ours: the others of a tubelet look
    almost the same, and the teacher is most of the cost); its feature grid is resampled to the cube grid.

    The teacher is kept out of the module tree on purpose: it then has no place in checkpoints, optimisers, DDP's
    broadcasts and FSDP's shards, and ``train()`` doesn't reach it. Only moves between devices do, through ``_apply``.

    Args:
        teacher: the frozen network.
        encoder: the student's encoder; gives the cube grid and the widths, and is not kept.
        width: channels E of a decoder token.
        depth: blocks of the decoder.
        num_heads: its attention heads.
        taps: encoder blocks it reads, "reversed" or "last".
        weight: of 1 - cosine beside the pixel loss.
        mean: per-channel mean that the clips were normalised with, of pixels in 0...1.
        std: per-channel standard deviation they were normalised with.

    Raises:
        UserError: if the weight isn't positive.
    """

    def __init__(
        self,
        teacher: Teacher,
        encoder: SpacetimeViT,
        *,
        width: int,
        depth: int,
        num_heads: int,
        taps: str = "reversed",
        weight: float = 1.0,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        if weight <= 0:
            raise UserError(f"the feature target's weight ({weight}) must be positive; leave the teacher out instead")
        self.weight = weight
        self.tubelet, self.grid = encoder.tubelet, encoder.grid
        self.decoder = CrossDecoder(
            encoder, width=width, depth=depth, num_heads=num_heads, taps=taps, out_dim=teacher.width
        )
        self.objective = MaskedObjective(width=width)
        self._hidden_teacher = (teacher,)
        # teacher_pixels = clip_pixels * scale + shift
        old_mean, old_std, new_mean, new_std = (torch.tensor(x) for x in (mean, std, teacher.mean, teacher.std))
        self.register_buffer("scale", (old_std / new_std)[:, None, None], persistent=False)
        self.register_buffer("shift", ((old_mean - new_mean) / new_std)[:, None, None], persistent=False)

    scale: Tensor
    shift: Tensor

    @property
    def teacher(self) -> Teacher:
        """The frozen teacher."""
        return self._hidden_teacher[0]

    def forward(self, video: Tensor, latents: list[Tensor], *, visible: Tensor, predicted: Tensor) -> Tensor:
        """1 - cosine between predicted and the teacher's features, averaged over cubes: (B,) float32.

        Args:
            video: (B, frames, 3, height, width), normalised.
            latents: the encoder's, one (B, V, D) for each of the decoder's taps.
            visible: (B, V) int64 cubes the encoder saw.
            predicted: (B, K) int64 cubes to predict.
        """
        target = take(self.teacher_features(video), predicted)  # (B, K, F)
        nothing = target[..., :0]
        tokens = self.objective.tokens(target, t=predicted[:, 0], noise=nothing)  # (B, K, E)
        output = self.decoder(latents, tokens, visible=visible, predicted=predicted)  # (B, K, F)
        return (1 - F.cosine_similarity(output.float(), target.float(), dim=-1)).mean(1)

    @torch.no_grad()
    def teacher_features(self, video: Tensor) -> Tensor:
        """The teacher's feature of every cube, (B, N, F)."""
        frames = video[:, :: self.tubelet].flatten(0, 1) * self.scale + self.shift  # (B T, 3, height, width)
        if self.teacher.input_size is not None and frames.shape[-2:] != self.teacher.input_size:
            frames = F.interpolate(frames, size=self.teacher.input_size, mode="bilinear", antialias=True)
        features = self.teacher.network(frames).float()  # (B T, F, h', w')
        if features.shape[-2:] != self.grid[1:]:
            features = F.interpolate(features, size=self.grid[1:], mode="bilinear", antialias=True)
        return features.flatten(2).transpose(1, 2).reshape(len(video), -1, features.shape[1])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FeatureTarget:
        self.teacher.move(fn)
        return super()._apply(fn, recurse)
