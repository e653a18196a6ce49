"""Pre-norm transformer blocks. Parameter names are timm's (norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2).

Attention is always ``F.scaled_dot_product_attention``: no attention matrix is kept, no mask is added.
"""

from __future__ import annotations

from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from diffmae_video.errors import UserError

NORM_EPS = 1e-6  # of every LayerNorm, as in MAE


class SelfAttention(nn.Module):
    """Multi-head self-attention over (B, N, D)."""

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise UserError(f"width ({width}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, D / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Queries (B, M, E) read a context (B, V, D) through keys and values projected straight from D."""

    def __init__(self, width: int, *, context_width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise UserError(f"width ({width}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(context_width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, M, E / heads)
        k, v = self.kv(context).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, then MLP."""

    def __init__(self, width: int, *, num_heads: int, mlp_ratio: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SelfAttention(width, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, round(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class CrossBlock(nn.Module):
    """Cross-attention to a normalised context, self-attention where ``self_attention`` is set, then MLP."""

    def __init__(
        self, width: int, *, context_width: int, num_heads: int, mlp_ratio: float, self_attention: bool = False
    ) -> None:
        super().__init__()
        self.context_norm = nn.LayerNorm(context_width, eps=NORM_EPS)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.cross = CrossAttention(width, context_width=context_width, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SelfAttention(width, num_heads=num_heads) if self_attention else None
        self.norm3 = nn.LayerNorm(width, eps=NORM_EPS) if self_attention else None
        self.mlp = Mlp(width, round(width * mlp_ratio))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.cross(self.norm1(x), self.context_norm(context))
        if self.attn is None or self.norm3 is None:
            return x + self.mlp(self.norm2(x))
        x = x + self.attn(self.norm2(x))
        return x + self.mlp(self.norm3(x))


def init_weights(module: nn.Module) -> None:
    """MAE's, for the encoder, its embedding and the decoders alike: Xavier for every linear map, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
