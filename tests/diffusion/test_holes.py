"""Holes to inpaint: boxes, files, and the cubes they hide."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from diffmae_video.diffusion import box_hole, centre_hole, mask_of_hole, read_hole
from diffmae_video.errors import UserError

SIZE = (4, 8, 12)


def save_video(path, frames, codec="ffv1", pix_fmt="gray"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pix_fmt)))
        container.mux(stream.encode())


def save_picture(path, picture):
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode())


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


def test_a_picture_is_held_through_time_and_resized_by_the_nearest_pixel(tmp_path):
    picture = np.zeros((4, 6), dtype=np.uint8)
    picture[1, 2:5] = 255
    save_picture(tmp_path / "mask.png", picture)
    hole = read_hole(tmp_path / "mask.png", SIZE)
    assert torch.equal(hole, box_hole(SIZE, x=4, y=2, w=6, h=2, t0=0, t1=4))


def test_a_mask_video_moves(tmp_path):
    expected = torch.rand(4, 8, 12) > 0.5
    save_video(tmp_path / "mask.mkv", (expected * 255).to(torch.uint8).numpy())
    assert torch.equal(read_hole(tmp_path / "mask.mkv", SIZE), expected)


def test_a_lossy_mask_video_is_cut_at_half_grey(tmp_path):
    expected = box_hole((4, 32, 32), x=8, y=8, w=16, h=8, t0=0, t1=4)
    save_video(tmp_path / "mask.mp4", (expected * 255).to(torch.uint8).numpy(), codec="libx264", pix_fmt="yuv420p")
    assert torch.equal(read_hole(tmp_path / "mask.mp4", (4, 32, 32)), expected)


def test_files_that_do_not_fit_are_refused(tmp_path):
    save_video(tmp_path / "three.mkv", np.zeros((3, 8, 12), dtype=np.uint8))
    with pytest.raises(UserError, match="has 3 frames; give one picture, or one frame for each of the 4"):
        read_hole(tmp_path / "three.mkv", SIZE)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="can't be read as a picture or video"):
        read_hole(tmp_path / "text.png", SIZE)
    with pytest.raises(UserError, match="can't be read"):
        read_hole(tmp_path / "missing.png", SIZE)


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
