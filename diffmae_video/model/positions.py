"""Space-time position tables: one stored (T, H, W, D) tensor, whatever formula or checkpoint it came from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmae_video.errors import UserError

BASE = 10000.0  # Vaswani et al. 2017, and the masked autoencoders since


def sincos_1d(length: int, width: int, *, base: float = BASE) -> Tensor:
    """Sines, then cosines, of positions 0...length-1 at ``width / 2`` frequencies from 1 to 1 / base: (length, width).

    The frequencies are those of Vaswani et al. 2017, 1 / base**(i / (width / 2)), in float64.
    """
    pairs = width // 2
    frequency = base ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sincos_table(grid: tuple[int, int, int], width: int, *, base: float = BASE) -> Tensor:
    """The fixed table (T, H, W, width): time, row and column each own about a third of the channels.

    Rows and columns get ``width // 6`` frequencies each and time the rest, so any even width will do. A wave much
    longer than the grid is the same everywhere on it: a grid of a few cubes wants a small ``base``.
    """
    T, H, W = grid
    space = width // 6 * 2
    time = width - 2 * space
    parts = [
        sincos_1d(T, time, base=base)[:, None, None].expand(T, H, W, time),
        sincos_1d(H, space, base=base)[None, :, None].expand(T, H, W, space),
        sincos_1d(W, space, base=base)[None, None, :].expand(T, H, W, space),
    ]
    return torch.cat(parts, dim=-1)


def resize_table(table: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Interpolate a table (T', H', W', D) to ``grid``: bicubic in space, then linear in time."""
    T, H, W = grid
    old_T, width = table.shape[0], table.shape[-1]
    if table.shape[1:3] != (H, W):
        frames = table.float().permute(0, 3, 1, 2)  # (T', D, H', W')
        frames = F.interpolate(frames, size=(H, W), mode="bicubic", align_corners=False)
        table = frames.permute(0, 2, 3, 1).to(table.dtype)
    if old_T != T:
        columns = table.float().permute(1, 2, 3, 0).reshape(1, -1, old_T)
        columns = F.interpolate(columns, size=T, mode="linear", align_corners=False)
        table = columns.reshape(H, W, width, T).permute(3, 0, 1, 2).to(table.dtype)
    return table


class PositionTable(nn.Module):
    """A position vector for every cube, looked up by raster index.

    The table is always in the state dict: fixed tables too, so that weights trained with another formula bring
    their own. A table of another grid is interpolated when it is loaded.
    """

    table: Tensor

    def __init__(self, grid: tuple[int, int, int], width: int, *, learned: bool = False, base: float = BASE) -> None:
        super().__init__()
        if width % 2 or width < 6:
            raise UserError(f"width ({width}) must be even and at least 6 to hold sines and cosines of 3 axes")
        if base <= 1:
            raise UserError(f"the base ({base}) of the sines' frequencies must be above 1; {BASE:g} is usual")
        self.grid = grid
        table = sincos_table(grid, width, base=base).float()
        if learned:
            self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty_like(table), std=0.02))
        else:
            self.register_buffer("table", table)
        self.register_load_state_dict_pre_hook(_fit_table)

    def forward(self, index: Tensor) -> Tensor:
        """Positions of the cubes ``index`` (B, K) int64, as (B, K, D)."""
        return self.table.flatten(0, 2).index_select(0, index.flatten()).unflatten(0, index.shape)


def _fit_table(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Interpolate the stored table to the module's grid, before PyTorch compares shapes."""
    assert isinstance(module, PositionTable)
    key = prefix + "table"
    if key in state_dict and state_dict[key].shape[:3] != module.grid:
        state_dict[key] = resize_table(state_dict[key], module.grid)
