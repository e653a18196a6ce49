"""Masks: a partition with equal counts, each kind's shape, and draws that don't depend on the batch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from diffmae_video.errors import UserError
from diffmae_video.model.masking import MASK_KINDS, Mask, draw_mask, draw_masks
from diffmae_video.seeding import generator

GRID = (4, 6, 5)
COUNT = 120


def generators(batch, first=0):
    return [generator("mask", first + i) for i in range(batch)]


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.7])
def test_visible_and_hidden_are_a_partition_in_raster_order(kind, ratio):
    mask = draw_masks(kind, GRID, ratio=ratio, generators=generators(16))
    both = torch.cat([mask.visible, mask.masked], dim=1).sort(1).values
    assert torch.equal(both, torch.arange(COUNT).expand(16, -1))
    assert (mask.visible.diff(dim=1) > 0).all()
    assert (mask.masked.diff(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("kind", "ratio", "hidden"), [("tube", 0.9, 27 * 4), ("random", 0.9, 108), ("frame", 0.75, 90), ("block", 0.61, 73)]
)
def test_counts_follow_the_ratio(kind, ratio, hidden):
    assert draw_mask(kind, GRID, ratio=ratio, generator=generator(1)).masked.shape == (1, hidden)


def test_a_tube_is_the_same_at_every_time():
    hidden = draw_masks("tube", GRID, ratio=0.8, generators=generators(8)).hidden().unflatten(1, (4, 30))
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden))
    assert (hidden[:, 0].sum(1) == 24).all()


def test_a_frame_mask_hides_whole_steps():
    hidden = draw_masks("frame", GRID, ratio=0.5, generators=generators(8)).hidden().unflatten(1, (4, 30))
    assert torch.equal(hidden, hidden[:, :, :1].expand_as(hidden))
    assert (hidden[:, :, 0].sum(1) == 2).all()


def test_a_block_mask_is_in_one_piece_more_often_than_chance():
    """Hidden cubes have hidden neighbours: more agreeing neighbours along each axis than a random mask."""

    def agreement(kind):
        hidden = draw_masks(kind, GRID, ratio=0.5, generators=generators(64)).hidden().unflatten(1, GRID)
        return [(hidden.diff(dim=axis) == 0).float().mean().item() for axis in (1, 2, 3)]

    for block, random in zip(agreement("block"), agreement("random"), strict=True):
        assert block > random + 0.2


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize(("grid", "ratio"), [(GRID, 0.75), ((8, 14, 14), 0.9), ((4, 7, 5), 0.5), ((1, 6, 6), 0.75)])
def test_every_cube_is_hidden_equally_often(kind, grid, ratio):
    """As often as the ratio says, in the middle as at the borders."""
    if kind == "frame":
        grid, ratio = (4, *grid[1:]), 0.75
    rate = draw_masks(kind, grid, ratio=ratio, generators=generators(2000)).hidden().double().mean(0)
    sigma = (ratio * (1 - ratio) / 2000) ** 0.5
    assert (rate - rate.mean()).abs().max() < 4.7 * sigma


def slow_block_mask(grid, ratio, made):
    """Four boxes on a ring along each axis, grown alike until enough cubes are within reach, by loops."""
    count = grid[0] * grid[1] * grid[2]
    draws = torch.rand(4 * 6 + count, generator=made).double().tolist()
    reach = []
    for number, place in enumerate(itertools.product(*map(range, grid))):
        nearest = math.inf
        for box in range(4):
            centre, size = draws[6 * box : 6 * box + 3], draws[6 * box + 3 : 6 * box + 6]
            needed = 0.0
            for c, s, i, length in zip(centre, size, place, grid, strict=True):
                side = (0.25 + 0.75 * s) * length  # in cubes, as all that follows
                gap = min(
                    abs(c * length - edge)
                    for edge in (i - length, i, i + length, i - length + 1, i + 1, i + length + 1)
                )
                inside = i <= c * length <= i + 1
                needed = max(needed, 0.0 if inside else gap / (side / 2))
            nearest = min(nearest, needed)
        reach.append(nearest + 1e-4 * draws[24 + number])
    order = sorted(range(count), key=reach.__getitem__)
    return sorted(order[: round(ratio * count)])


@pytest.mark.parametrize("grid", [(4, 6, 5), (1, 7, 7), (8, 3, 2)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_a_block_mask_is_four_boxes_that_grow(grid, ratio):
    for seed in range(5):
        mask = draw_mask("block", grid, ratio=ratio, generator=generator("m", seed))
        assert mask.masked[0].tolist() == slow_block_mask(grid, ratio, generator("m", seed))


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_clips_mask_depends_on_its_generator_alone(kind):
    together = draw_masks(kind, GRID, ratio=0.5, generators=generators(4))
    alone = Mask.stack([draw_mask(kind, GRID, ratio=0.5, generator=g) for g in generators(4)])
    assert torch.equal(together.visible, alone.visible)
    assert torch.equal(together.masked, alone.masked)
    assert not torch.equal(together.masked[0], together.masked[1])


def test_from_bool_and_back():
    hidden = torch.zeros(2, 10, dtype=torch.bool)
    hidden[0, [1, 4, 9]] = True
    hidden[1, [0, 2, 3]] = True
    mask = Mask.from_bool(hidden)
    assert mask.masked.tolist() == [[1, 4, 9], [0, 2, 3]]
    assert torch.equal(mask.hidden(), hidden)


def test_unequal_counts_are_refused():
    hidden = torch.tensor([[True, False, False], [True, True, False]])
    with pytest.raises(UserError, match=r"different numbers of cubes \[1, 2\]"):
        Mask.from_bool(hidden)
    with pytest.raises(UserError, match="equally many cubes"):
        Mask.stack([Mask.from_bool(hidden[:1]), Mask.from_bool(hidden[1:])])


@pytest.mark.parametrize("value", [True, False])
def test_all_or_nothing_is_refused(value):
    with pytest.raises(UserError, match="hide at least one, and leave at least one"):
        Mask.from_bool(torch.full((1, 4), value))


@pytest.mark.parametrize(
    ("kind", "grid", "ratio"), [("tube", (8, 2, 2), 0.95), ("frame", (1, 14, 14), 0.75), ("random", (2, 2, 2), 0.0)]
)
def test_ratios_that_hide_all_or_nothing_are_refused(kind, grid, ratio):
    with pytest.raises(UserError, match=rf"mask ratio \({ratio}\)"):
        draw_mask(kind, grid, ratio=ratio, generator=generator(0))


def test_unknown_kinds_are_refused():
    with pytest.raises(UserError, match="'tubes' is not one of tube, random, frame, block"):
        draw_mask("tubes", GRID, ratio=0.5, generator=generator(0))
