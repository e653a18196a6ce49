"""Which cubes are hidden: random masks for training, drawn on the generators' device, one generator a clip.

Every random mask is "score all cubes, hide the lowest scores". The counts are then equal over a batch by
construction, nothing waits for the device, and a clip's mask doesn't depend on the batch it sits in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffmae_video.errors import UserError

MASK_KINDS = ("tube", "random", "frame", "block")

NUM_BLOCKS = 4  # of the block mask; ours: with fewer, the hidden part is one box at one end of the clip


@dataclass(frozen=True)
class Mask:
    """The visible and the hidden cubes of a batch, as ascending raster indices into the cube grid.

    Attributes:
        visible: (B, V) int64.
        masked: (B, M) int64. V + M = N, and no cube is in both.
    """

    visible: Tensor
    masked: Tensor

    def __post_init__(self) -> None:
        assert self.visible.ndim == self.masked.ndim == 2
        assert len(self.visible) == len(self.masked)

    @staticmethod
    def from_bool(hidden: Tensor) -> Mask:
        """The mask of hidden cubes (B, N) bool.

        Raises:
            UserError: if the clips don't hide equally many cubes, or hide none or all of them.
        """
        counts = hidden.sum(1).tolist()
        if len(set(counts)) > 1:
            raise UserError(
                f"the clips of a batch hide different numbers of cubes {counts};"
                " use one mask for all, or batches of one"
            )
        if counts[0] in (0, hidden.shape[1]):
            raise UserError(
                f"a mask hides {counts[0]} of {hidden.shape[1]} cubes; hide at least one, and leave at least one"
            )
        return _split(hidden.to(torch.uint8).argsort(dim=1, stable=True), hidden.shape[1] - counts[0])

    @staticmethod
    def stack(masks: Sequence[Mask]) -> Mask:
        """Join masks along the batch.

        Raises:
            UserError: if they don't hide equally many cubes.
        """
        counts = sorted({mask.masked.shape[1] for mask in masks})
        if len(counts) > 1:
            raise UserError(f"masks of one batch must hide equally many cubes, not {counts}; sample them one by one")
        return Mask(torch.cat([mask.visible for mask in masks]), torch.cat([mask.masked for mask in masks]))

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on ``device``."""
        return Mask(self.visible.to(device), self.masked.to(device))

    def hidden(self) -> Tensor:
        """The hidden cubes as (B, N) bool."""
        batch, count = len(self.visible), self.visible.shape[1] + self.masked.shape[1]
        hidden = torch.zeros(batch, count, dtype=torch.bool, device=self.masked.device)
        return hidden.scatter(1, self.masked, True)


def draw_mask(kind: str, grid: tuple[int, int, int], *, ratio: float, generator: torch.Generator) -> Mask:
    """One clip's random mask: ``draw_masks`` with one generator."""
    return draw_masks(kind, grid, ratio=ratio, generators=[generator])


def draw_masks(kind: str, grid: tuple[int, int, int], *, ratio: float, generators: Sequence[torch.Generator]) -> Mask:
    """Random masks, clip b's from ``generators[b]`` alone, on the generators' device.

    Args:
        kind: "tube" (one spatial mask held through time), "random" (any cubes, as MAE-ST), "frame" (whole time
            steps) or "block" (the cubes nearest to a few random space-time boxes).
        grid: cubes (T, H, W).
        ratio: hidden part of the cubes, rounded to whole cubes (places for tube, time steps for frame).
        generators: one a clip.

    Raises:
        UserError: for an unknown kind, or a ratio that hides all or nothing of this grid.
    """
    T, H, W = grid
    units = {"tube": H * W, "random": T * H * W, "frame": T, "block": T * H * W}
    if kind not in units:
        raise UserError(f"mask kind {kind!r} is not one of {', '.join(units)}")
    count = units[kind]
    hide = num_hidden(kind, count, ratio)
    scores = _block_scores(grid, generators) if kind == "block" else _rand(count, generators)
    parts = _split(scores.argsort(1).flip(1), count - hide)
    if kind == "tube":
        return Mask(_through_time(parts.visible, T, H * W), _through_time(parts.masked, T, H * W))
    if kind == "frame":
        return Mask(_over_space(parts.visible, H * W), _over_space(parts.masked, H * W))
    return parts


def num_hidden(kind: str, count: int, ratio: float) -> int:
    """How many of ``count`` units (cubes, places, time steps) a ratio hides.

    Raises:
        UserError: if that is none or all of them, or the ratio isn't finite.
    """
    if not math.isfinite(ratio):
        raise UserError(f"mask ratio ({ratio}) must be a number above 0 and below 1")
    hide = round(ratio * count)
    if not 0 < hide < count:
        remedy = f"use {1 / count:.3g} to {1 - 1 / count:.3g}" if count > 1 else "use another kind"
        raise UserError(
            f"mask ratio ({ratio}) hides {hide} of the {count} units of a {kind} mask;"
            f" some must be hidden and some visible: {remedy}"
        )
    return hide


def _split(order: Tensor, visible: int) -> Mask:
    """The first ``visible`` of each row's order are seen; both parts go back to raster order."""
    return Mask(order[:, :visible].sort(1).values, order[:, visible:].sort(1).values)


def _rand(count: int, generators: Sequence[torch.Generator]) -> Tensor:
    """(B, count) uniform numbers, row b from generator b."""
    return torch.stack([torch.rand(count, generator=rng, device=rng.device) for rng in generators])


def _through_time(places: Tensor, T: int, places_per_step: int) -> Tensor:
    steps = torch.arange(T, device=places.device) * places_per_step
    return (steps[:, None] + places[:, None]).flatten(1)


def _over_space(steps: Tensor, places_per_step: int) -> Tensor:
    places = torch.arange(places_per_step, device=steps.device)
    return (steps[:, :, None] * places_per_step + places).flatten(1)


def _block_scores(grid: tuple[int, int, int], generators: Sequence[torch.Generator]) -> Tensor:
    """(B, N) distances to the nearest of NUM_BLOCKS random boxes, in units of that box's half sides.

    Boxes with sides of a quarter to all of each axis grow together from their centres until the wanted number of
    cubes is inside one: a union of boxes with an exact count. They go on at the opposite border of the grid, so no
    place is nearer to the middle than another: each cube is hidden with the probability of the ratio. A last, tiny
    random term splits ties.
    """
    count = grid[0] * grid[1] * grid[2]
    draws = _rand(NUM_BLOCKS * 6 + count, generators)
    boxes = draws[:, : NUM_BLOCKS * 6].unflatten(1, (NUM_BLOCKS, 1, 6))
    axes = [(torch.arange(length, device=draws.device) + 0.5) / length for length in grid]
    cubes = torch.cartesian_prod(*axes)  # (N, 3), their middles in (0, 1)
    centre, half_side = boxes[..., :3], (1 + 3 * boxes[..., 3:]) / 8
    apart = (cubes - centre).abs()
    apart = (torch.minimum(apart, 1 - apart) - cubes[0]).clamp(min=0)  # cubes[0] is half a cube: to its nearest face
    distance = (apart / half_side).amax(-1).amin(1)  # nearest box, by its largest axis
    return distance + 1e-4 * draws[:, NUM_BLOCKS * 6 :]
