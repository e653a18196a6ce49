"""The sizes of the encoders and of their decoders: plain tables, so that a config is read without torch."""

from __future__ import annotations

from typing import TypedDict


class Size(TypedDict):
    """The numbers that name a ViT."""

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float


SIZES: dict[str, Size] = {
    # ours: the smallest that learns the embedded data set on a CPU
    "micro": {"width": 128, "depth": 6, "num_heads": 4, "mlp_ratio": 4.0},
    # DeiT, arXiv 2012.12877, table 1
    "tiny": {"width": 192, "depth": 12, "num_heads": 3, "mlp_ratio": 4.0},
    "small": {"width": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0},
    # ViT, arXiv 2010.11929, table 1
    "base": {"width": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0},
    "large": {"width": 1024, "depth": 24, "num_heads": 16, "mlp_ratio": 4.0},
    "huge": {"width": 1280, "depth": 32, "num_heads": 16, "mlp_ratio": 4.0},
    # ViT-g, arXiv 2106.04560, table 2: MLP of 6144
    "giant": {"width": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 6144 / 1408},
}


class DecoderSize(TypedDict):
    """Default decoder of an encoder size."""

    width: int
    depth: int
    num_heads: int


# Ours: half the encoder's width as VideoMAE does for S and B, at most 512 as MAE-ST; four blocks as MAE-ST, since at
# 90 % hidden the decoder works on nine tokens for each one of the encoder and would otherwise cost more than it.
DECODER_SIZES: dict[str, DecoderSize] = {
    "micro": {"width": 96, "depth": 4, "num_heads": 3},
    "tiny": {"width": 96, "depth": 4, "num_heads": 3},
    "small": {"width": 192, "depth": 4, "num_heads": 3},
    "base": {"width": 384, "depth": 4, "num_heads": 6},
    "large": {"width": 512, "depth": 4, "num_heads": 8},
    "huge": {"width": 512, "depth": 4, "num_heads": 8},
    "giant": {"width": 512, "depth": 4, "num_heads": 8},
}
