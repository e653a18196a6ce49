"""Masks: a partition with equal counts, each kind's shape, and draws that don't depend on the batch."""

from __future__ import annotations

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


@pytest.mark.parametrize("kind", ["tube", "random", "frame"])
def test_every_cube_is_hidden_equally_often(kind):
    rate = draw_masks(kind, GRID, ratio=0.75, generators=generators(2000)).hidden().float().mean(0)
    sigma = (0.75 * 0.25 / 2000) ** 0.5
    assert (rate - rate.mean()).abs().max() < 4.5 * sigma


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
