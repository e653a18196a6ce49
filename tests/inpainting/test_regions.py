"""Holes to inpaint: boxes, and the cubes they hide."""

from __future__ import annotations

import pytest
import torch

from diffmae_video.errors import UserError
from diffmae_video.inpainting.regions import box_hole, centre_hole, mask_of_hole

SIZE = (4, 8, 12)


def test_a_box_is_where_it_says():
    hole = box_hole(SIZE, x=2, y=1, w=3, h=5, t0=1, t1=3)
    expected = torch.zeros(SIZE, dtype=torch.bool)
    for t in (1, 2):
        for row in range(1, 6):
            for column in range(2, 5):
                expected[t, row, column] = True
    assert torch.equal(hole, expected)


def test_the_centre_is_in_the_middle_of_every_frame():
    hole = centre_hole((2, 8, 12), fraction=0.5)
    assert torch.equal(hole, box_hole((2, 8, 12), x=3, y=2, w=6, h=4, t0=0, t1=2))
    assert torch.equal(hole, hole.flip(1, 2))


def test_a_cube_is_hidden_if_any_of_its_pixels_is():
    hole = box_hole(SIZE, x=4, y=4, w=1, h=1, t0=3, t1=4)  # one pixel, in cube t=1, y=1, x=1
    mask = mask_of_hole(hole, tubelet=2, patch_size=4, batch=3)
    assert mask.masked.tolist() == [[1 * 6 + 1 * 3 + 1]] * 3
    assert mask.visible.shape == (3, 11)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ({"x": 10}, r"columns 10\.\.\.12 must lie in 0\.\.\.11"),
        ({"h": 0}, "rows"),
        ({"t0": 3, "t1": 2}, "frames"),
    ],
)
def test_boxes_outside_the_clip_are_refused(box, words):
    arguments = {"x": 0, "y": 0, "w": 3, "h": 3, "t0": 0, "t1": 4, **box}
    with pytest.raises(UserError, match=words):
        box_hole(SIZE, **arguments)


def test_empty_and_full_holes_are_refused():
    for value in (True, False):
        with pytest.raises(UserError, match="hide at least one, and leave at least one"):
            mask_of_hole(torch.full(SIZE, value), tubelet=2, patch_size=4)
    with pytest.raises(UserError, match=r"fraction \(1.0\)"):
        centre_hole(SIZE, fraction=1.0)
