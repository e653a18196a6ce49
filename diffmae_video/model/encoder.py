"""The encoder: a plain space-time ViT that sees only the visible cubes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffmae_video.errors import UserError
from diffmae_video.model.blocks import NORM_EPS, Block, init_weights
from diffmae_video.model.masking import Mask
from diffmae_video.model.patches import cube_grid, patchify, take
from diffmae_video.model.positions import BASE, PositionTable

POOLS = ("mean", "class", "tokens")


class SpacetimeViT(nn.Module):
    """A vision transformer over space-time cubes (an image model with one frame and tubelet 1).

    Args:
        num_frames: frames of a clip.
        crop_size: height and width of a clip in pixels; one number if they are equal.
        tubelet: frames of a cube.
        patch_size: height and width of a cube in pixels.
        width: channels D of a token.
        depth: blocks L.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLP over D.
        class_token: put a learned token before the cubes.
        positions: "sincos" (fixed) or "learned".
        position_base: of the sin-cos frequencies, see ``sincos_table``; the decoders take it over.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
        checkpointing: recompute the blocks in the backward pass instead of keeping their activations.

    Raises:
        UserError: if the cubes don't tile the clip, or the heads the width.
    """

    def __init__(
        self,
        *,
        num_frames: int = 16,
        crop_size: int | tuple[int, int] = 224,
        tubelet: int = 2,
        patch_size: int = 16,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        class_token: bool = False,
        positions: str = "sincos",
        position_base: float = BASE,
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        height, crop_width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        if positions not in ("sincos", "learned"):
            raise UserError(f"positions {positions!r} is not one of sincos, learned")
        self.clip_size = (num_frames, height, crop_width)
        self.grid = cube_grid(self.clip_size, tubelet=tubelet, patch_size=patch_size)
        self.tubelet, self.patch_size = tubelet, patch_size
        self.num_cubes = self.grid[0] * self.grid[1] * self.grid[2]
        self.cube_dim = tubelet * patch_size**2 * 3
        self.width, self.depth = width, depth
        self.checkpointing = checkpointing

        self.embed = nn.Linear(self.cube_dim, width)
        self.position_base = position_base
        self.positions = PositionTable(self.grid, width, learned=positions == "learned", base=position_base)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        drops = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(width, num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path=drop) for drop in drops
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.apply(init_weights)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=0.02)

    def patchify(self, video: Tensor) -> Tensor:
        """Cut a video (B, frames, 3, height, width) of the model's size into cubes (B, N, P).

        Raises:
            UserError: for another layout, size or type than that, naming both.
        """
        _check_layout(video)
        size = (video.shape[1], video.shape[3], video.shape[4])
        if size != self.clip_size:
            raise UserError(
                f"a clip of (frames, height, width) = {size} doesn't fit a model made for {self.clip_size};"
                f" crop the clip, or build the model for its size"
            )
        return patchify(video, tubelet=self.tubelet, patch_size=self.patch_size)

    def forward(self, video: Tensor, mask: Mask | None = None, taps: Sequence[int] = ()) -> list[Tensor]:
        """Tokens after the blocks named in ``taps``, of the visible cubes only; see ``encode`` and ``features``."""
        cubes = self.patchify(video)  # (B, N, P)
        _check_range(video)
        index = self._all_cubes(video.shape[0]) if mask is None else mask.visible
        return self.encode(take(cubes, index), index, taps)

    def encode(self, cubes: Tensor, index: Tensor, taps: Sequence[int] = ()) -> list[Tensor]:
        """Run the blocks on some cubes of each clip.

        Args:
            cubes: (B, V, P), the pixels of the visible cubes.
            index: (B, V) int64, their raster indices.
            taps: blocks whose output is wanted, in any order, also repeatedly; none means the last block. The
                outputs of all others are let go as soon as the next block has read them.

        Returns:
            One (B, V, D) tensor a tap, with a class token in front if the model has one: (B, 1 + V, D). The last
            block's output has gone through the final LayerNorm.
        """
        last = self.depth - 1
        taps = taps or (last,)
        outputs = self._run_blocks(self._embed(cubes, index), taps)
        if last in outputs:
            outputs[last] = self.norm(outputs[last])
        return [outputs[tap] for tap in taps]

    def features(self, video: Tensor, *, pool: str = "mean") -> Tensor:
        """Normalised features of whole clips.

        Args:
            video: (B, frames, 3, height, width) float, normalised by the data's mean and deviation.
            pool: "mean" over the cubes (B, D), "class" token (B, D), or the cubes' "tokens" (B, N, D).

        Raises:
            UserError: for another type, layout or size, or for values far beyond normalised ones. Values are looked
                at on the CPU only, since on a GPU that would wait for it; clips that lie in 0...1 get a warning.
        """
        cubes = self.patchify(video)  # (B, N, P)
        _check_range(video)
        last = self.depth - 1
        x = self._run_blocks(self._embed(cubes, self._all_cubes(video.shape[0])), (last,))[last]
        # The pooled vector is normalised, not its parts: so the norm is also MAE's fc_norm.
        return self.norm(self._pool(x, pool))

    def no_weight_decay(self) -> set[str]:
        """Parameters that are not to be decayed beyond the 1-D ones (biases and norms)."""
        names = {"positions.table", "class_token"}
        return names & {name for name, _ in self.named_parameters()}

    def layer_of(self, parameter_name: str) -> int:
        """Depth of a parameter for layer decay: 0 is the embedding, 1...L the blocks, L + 1 what follows."""
        head, _, rest = parameter_name.partition(".")
        if head in ("embed", "positions", "class_token"):
            return 0
        if head == "blocks":
            return int(rest.split(".")[0]) + 1
        return self.depth + 1

    def _embed(self, cubes: Tensor, index: Tensor) -> Tensor:
        # The cast is for models of another precision than their clips, as model.to(torch.bfloat16) makes them.
        x = self.embed(cubes.to(self.embed.weight.dtype)) + self.positions(index)  # (B, V, D)
        if self.class_token is None:
            return x
        return torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)

    def _run_blocks(self, x: Tensor, taps: Sequence[int]) -> dict[int, Tensor]:
        """The outputs of the blocks ``taps``, by number."""
        beyond = [tap for tap in taps if not 0 <= tap < self.depth]
        if beyond:
            raise UserError(f"tap {beyond[0]} is not one of the encoder's blocks; use 0 to {self.depth - 1}")
        outputs = {}
        for i, block in enumerate(self.blocks):
            recompute = self.checkpointing and self.training
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            if i in taps:
                outputs[i] = x
        return outputs

    def _pool(self, x: Tensor, pool: str) -> Tensor:
        if pool not in POOLS:
            raise UserError(f"pool {pool!r} is not one of {', '.join(POOLS)}")
        if pool == "class" and self.class_token is None:
            raise UserError("pool 'class' needs a class token; set class_token, or pool 'mean'")
        if pool == "class":
            return x[:, 0]
        cubes = x[:, -self.num_cubes :]
        return cubes.mean(1) if pool == "mean" else cubes

    def _all_cubes(self, batch: int) -> Tensor:
        return torch.arange(self.num_cubes, device=self.embed.weight.device).expand(batch, -1)


LAYOUT = "(B, frames, 3, height, width)"
HOW_TO_NORMALISE = "give floats (pixels / 255 - mean) / std, by the mean and std of the model's config"
LARGEST_VALUE = 50.0  # of a normalised pixel it is (1 - mean) / std: 50 would be a deviation of 0.02


def _check_layout(video: Tensor) -> None:
    """Refuse what isn't a batch of float clips, by what costs nothing to look at."""
    if not isinstance(video, Tensor):
        raise UserError(f"a clip must be a tensor {LAYOUT}, not {type(video).__name__}; read and normalise it first")
    shape = tuple(video.shape)
    if len(shape) != 5:
        remedy = "add the batch with clip[None]" if len(shape) == 4 else "stack frames, then clips"
        raise UserError(f"clips of shape {shape} aren't {LAYOUT}; {remedy}")
    if shape[2] != 3:
        moves = {1: "clips.transpose(1, 2)", 4: "clips.permute(0, 1, 4, 2, 3)"}
        move = next((move for axis, move in moves.items() if shape[axis] == 3), None)
        remedy = (
            f"channels seem to be on axis {1 if shape[1] == 3 else 4}, use {move}" if move else "use three channels"
        )
        raise UserError(f"clips of shape {shape} aren't {LAYOUT}; {remedy}")
    if not video.is_floating_point():
        raise UserError(f"clips of {video.dtype} can't be read; {HOW_TO_NORMALISE}")


def _check_range(video: Tensor) -> None:
    """Refuse or warn of values that no normalised clip has, where looking at them doesn't wait for a device."""
    if video.device.type != "cpu" or torch.compiler.is_compiling() or not video.numel():
        return
    low, high = (float(end) for end in video.detach().aminmax())
    if high > LARGEST_VALUE:
        raise UserError(f"clips with values up to {high:g} aren't normalised; {HOW_TO_NORMALISE}")
    if 0 <= low < high <= 1:
        warnings.warn(
            f"clips with values from {low:.3g} to {high:.3g} look like pixels in 0...1; {HOW_TO_NORMALISE}",
            stacklevel=3,
        )
