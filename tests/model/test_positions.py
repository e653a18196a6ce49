"""Position tables: the formula, the lookup, and interpolation when another grid is loaded."""

from __future__ import annotations

import math

import pytest
import torch

from diffmae_video.errors import UserError
from diffmae_video.model import CrossDecoder, SpacetimeViT
from diffmae_video.model.positions import PositionTable, resize_table, sincos_table


@pytest.mark.parametrize(("width", "base"), [(12, 10000), (16, 10), (128, 10000), (768, 10000), (96, 10)])
def test_table_matches_the_formula_entry_by_entry(width, base):
    table = sincos_table((3, 4, 5), width, base=base)
    space = width // 6 * 2
    parts = [(0, width - 2 * space), (1, space), (2, space)]
    for place in [(0, 0, 0), (2, 1, 4), (1, 3, 2)]:
        expected = []
        for axis, channels in parts:
            angles = [place[axis] / base ** (i / (channels // 2)) for i in range(channels // 2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(table[place], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_no_two_places_share_a_position():
    rows = sincos_table((8, 14, 14), 384).flatten(0, 2)
    distance = torch.cdist(rows, rows) + 10 * torch.eye(len(rows))
    assert distance.min() > 0.1


def test_a_small_base_tells_the_places_of_a_small_grid_apart():
    def likeness(base):
        rows = sincos_table((4, 4, 4), 96, base=base).flatten(0, 2)
        cosines = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
        return float(cosines[~torch.eye(64, dtype=torch.bool)].mean())

    assert likeness(3.0) < 0.6 < 0.9 < likeness(10000.0)


def test_decoders_take_the_encoders_base():
    size = {"num_frames": 4, "crop_size": 8, "tubelet": 2, "patch_size": 4, "width": 24, "depth": 1, "num_heads": 2}
    encoder = SpacetimeViT(**size, position_base=10.0)
    decoder = CrossDecoder(encoder, width=24, depth=1, num_heads=2)
    assert torch.equal(decoder.positions.table, encoder.positions.table)
    assert torch.equal(encoder.positions.table, sincos_table((2, 2, 2), 24, base=10.0).float())
    with pytest.raises(UserError, match="base"):
        SpacetimeViT(**size, position_base=1.0)


def test_lookup_is_the_table_at_raster_indices():
    positions = PositionTable((2, 3, 4), 12)
    index = torch.tensor([[0, 23, 7], [5, 12, 13]])
    expected = torch.stack(
        [torch.stack([positions.table[i // 12, i // 4 % 3, i % 4] for i in row.tolist()]) for row in index]
    )
    assert torch.equal(positions(index), expected)


def test_resizing_to_the_same_grid_changes_nothing():
    table = torch.randn(2, 3, 4, 6)
    assert resize_table(table, (2, 3, 4)) is table


def test_resizing_keeps_a_constant_and_a_slope():
    ramp = torch.arange(8.0)[:, None, None, None].expand(8, 6, 6, 4).contiguous()
    longer = resize_table(ramp, (16, 6, 6))[2:-2, 0, 0, 0]  # linear away from the ends
    torch.testing.assert_close(longer, torch.arange(16.0)[2:-2] / 2 - 0.25)
    flat = torch.full((2, 4, 4, 6), 3.5)
    torch.testing.assert_close(resize_table(flat, (4, 7, 9)), torch.full((4, 7, 9, 6), 3.5))


@pytest.mark.parametrize("positions", ["sincos", "learned"])
def test_loading_another_grid_interpolates_the_stored_table(positions):
    size = {"tubelet": 2, "patch_size": 4, "width": 24, "depth": 1, "num_heads": 2, "positions": positions}
    small = SpacetimeViT(num_frames=4, crop_size=8, **size)
    large = SpacetimeViT(num_frames=8, crop_size=(12, 16), **size)
    state = small.state_dict()
    large.load_state_dict(state)  # strict
    assert torch.equal(large.positions.table, resize_table(small.positions.table, (4, 3, 4)))
    assert state["positions.table"].shape == (2, 2, 2, 24)  # the caller's dict is left alone


def test_fixed_tables_are_stored_and_restored_as_they_were():
    one, other = PositionTable((2, 2, 2), 12), PositionTable((2, 2, 2), 12)
    one.table.normal_()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.table, other.table)


def test_odd_widths_are_refused():
    with pytest.raises(UserError, match=r"width \(13\) must be even"):
        PositionTable((2, 2, 2), 13)
