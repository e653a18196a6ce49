"""The three decoders of DiffMAE. Each turns tokens of hidden cubes and the encoder's latents into predictions.

Shapes: latents, a list of (B, V, D), one for each entry of ``taps`` (with a class token: 1 + V rows); tokens (B, K, E)
of the cubes to predict; result (B, K, P). What the tokens hold (noisy cubes and t, or mask tokens) is the objective's
affair: see ``diffmae_video.diffusion.objective``. Positions are added here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmae_video.errors import UserError
from diffmae_video.model.blocks import NORM_EPS, Block, CrossBlock, init_weights
from diffmae_video.model.encoder import SpacetimeViT
from diffmae_video.model.positions import PositionTable


def decoder_to_encoder_layers(taps: str, *, encoder_depth: int, decoder_depth: int) -> tuple[int, ...]:
    """Which encoder block each decoder block reads.

    "reversed": block 0 reads the encoder's last block and later ones read earlier ones, evenly spaced from top to
    bottom. "last": every block reads the last one.

    Raises:
        UserError: for another name, or if a reversed decoder has more blocks than the encoder.
    """
    if taps not in ("reversed", "last"):
        raise UserError(f"taps {taps!r} is not one of reversed, last")
    if taps == "last":
        return (encoder_depth - 1,) * decoder_depth
    if decoder_depth > encoder_depth:
        raise UserError(
            f"reversed taps need a decoder no deeper than the encoder ({decoder_depth} > {encoder_depth} blocks);"
            f" use {encoder_depth} decoder blocks or taps 'last'"
        )
    spacing = (encoder_depth - 1) / max(1, decoder_depth - 1)
    return tuple(round(encoder_depth - 1 - i * spacing) for i in range(decoder_depth))


class JointDecoder(nn.Module):
    """Self-attention over [projected latents ; hidden tokens]; the hidden tokens are read out.

    Args:
        encoder: gives the cube grid and the widths; it is not kept.
        width: channels E of a decoder token.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLP over E.
        out_dim: values predicted for a cube; by default its P pixel values.
    """

    def __init__(
        self,
        encoder: SpacetimeViT,
        *,
        width: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        out_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.taps = (encoder.depth - 1,)
        self.embed_latents = nn.Linear(encoder.width, width)
        self.positions = PositionTable(encoder.grid, width, base=encoder.position_base)
        self.blocks = nn.ModuleList(Block(width, num_heads=num_heads, mlp_ratio=mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, encoder.cube_dim if out_dim is None else out_dim)
        self.apply(init_weights)

    def forward(self, latents: list[Tensor], tokens: Tensor, *, visible: Tensor, predicted: Tensor) -> Tensor:
        """Predict the cubes ``predicted`` (B, K) from latents of the cubes ``visible`` (B, V): (B, K, P or out_dim)."""
        seen = self.embed_latents(latents[0])  # (B, V, E)
        no_position = seen.shape[1] - visible.shape[1]  # 1 for a class token: it has no place
        seen = seen + F.pad(self.positions(visible), (0, 0, no_position, 0))
        x = torch.cat([seen, tokens + self.positions(predicted)], dim=1)  # (B, V + K, E)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, seen.shape[1] :]))


class CrossDecoder(nn.Module):
    """Each block: hidden tokens read one of the encoder's blocks, then (``self_attention``) each other, then an MLP.

    Without self-attention (the paper's cross decoder) each cube is predicted independently, memory grows with K * V and
    not with K**2, and training on a random part of the hidden cubes is unbiased. With it, it is the cross-self decoder.

    Args:
        encoder: gives the cube grid, the widths and the depth; it is not kept.
        width: channels E of a decoder token.
        depth: blocks.
        num_heads: attention heads.
        self_attention: whether the hidden tokens see each other.
        taps: "reversed" or "last", see ``decoder_to_encoder_layers``.
        mlp_ratio: hidden width of the MLP over E.
        out_dim: values predicted for a cube; by default its P pixel values.
    """

    def __init__(
        self,
        encoder: SpacetimeViT,
        *,
        width: int,
        depth: int,
        num_heads: int,
        self_attention: bool = False,
        taps: str = "reversed",
        mlp_ratio: float = 4.0,
        out_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.taps = decoder_to_encoder_layers(taps, encoder_depth=encoder.depth, decoder_depth=depth)
        self.positions = PositionTable(encoder.grid, width, base=encoder.position_base)
        self.blocks = nn.ModuleList(
            CrossBlock(
                width,
                context_width=encoder.width,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                self_attention=self_attention,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, encoder.cube_dim if out_dim is None else out_dim)
        self.apply(init_weights)

    def forward(self, latents: list[Tensor], tokens: Tensor, *, visible: Tensor, predicted: Tensor) -> Tensor:
        """Predict the cubes ``predicted`` (B, K) from the latents, one for each block: (B, K, P or out_dim)."""
        x = tokens + self.positions(predicted)  # (B, K, E)
        for block, latent in zip(self.blocks, latents, strict=True):
            x = block(x, latent)
        return self.head(self.norm(x))


Decoder = JointDecoder | CrossDecoder
