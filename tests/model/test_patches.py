"""Cubes: the round trip, the order of their values, and picking rows."""

from __future__ import annotations

import pytest
import torch

from diffmae_video.errors import UserError
from diffmae_video.model.patches import cube_grid, patchify, put, take, unpatchify
from tests.reference.slow_vit import cubes_of


@pytest.mark.parametrize(("tubelet", "patch", "size"), [(2, 4, (4, 8, 12)), (1, 2, (1, 6, 4)), (3, 5, (6, 10, 5))])
def test_unpatchify_inverts_patchify(tubelet, patch, size):
    video = torch.randn(2, size[0], 3, size[1], size[2])
    grid = cube_grid(size, tubelet=tubelet, patch_size=patch)
    cubes = patchify(video, tubelet=tubelet, patch_size=patch)
    assert cubes.shape == (2, grid[0] * grid[1] * grid[2], tubelet * patch * patch * 3)
    assert torch.equal(unpatchify(cubes, grid, tubelet=tubelet, patch_size=patch), video)


def test_cube_values_and_order_match_a_slow_loop():
    video = torch.arange(4 * 3 * 8 * 4, dtype=torch.float64).reshape(1, 4, 3, 8, 4)
    slow = cubes_of(video[0].numpy(), 2, 2)
    expected = torch.stack([torch.from_numpy(slow[place]) for place in sorted(slow)])
    assert torch.equal(patchify(video, tubelet=2, patch_size=2)[0], expected)


def test_take_is_gather_and_put_is_its_inverse():
    tokens = torch.randn(3, 7, 5)
    index = torch.rand(3, 7).argsort(1)[:, :4]
    taken = take(tokens, index)
    assert torch.equal(taken, tokens.gather(1, index[..., None].expand(-1, -1, 5)))
    assert torch.equal(put(torch.zeros_like(tokens), index, taken).gather(1, index[..., None].expand(-1, -1, 5)), taken)
    assert torch.equal(put(tokens, index, taken), tokens)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((15, 224, 224), r"num_frames \(15\) must be a multiple of the tubelet \(2\); use 14 or 16"),
        ((16, 230, 224), r"crop height \(230\).*use 224 or 240"),
        ((16, 224, 8), r"crop width \(8\).*patch_size \(16\)"),
    ],
)
def test_sizes_that_do_not_tile_are_refused(size, words):
    with pytest.raises(UserError, match=words):
        cube_grid(size, tubelet=2, patch_size=16)
