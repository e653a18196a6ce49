"""Masks in the film's own pixels and frames, through the film's geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffmae_video.data.decoding.base import DecodeError
from diffmae_video.data.video_io import write_video
from diffmae_video.errors import UserError
from diffmae_video.inpainting.film import ClipSequence, open_film, read_windows
from diffmae_video.inpainting.masks import parse_mask

CUBES = {"tubelet": 2, "patch_size": 8}


def picture(path: Path, white: np.ndarray) -> str:
    Image.fromarray(white.astype(np.uint8) * 255).save(path)
    return str(path)


def filmed(path: Path, white: np.ndarray) -> str:
    frames = np.repeat(white.astype(np.uint8)[..., None] * 255, 3, axis=-1)
    write_video(path, frames, fps=10, crf=0)
    return str(path)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> ClipSequence:
    """640 x 272, 24 frames, in 32 x 32: three windows of two clips of four frames."""
    path = tmp_path_factory.mktemp("wide") / "film.mp4"
    frames = np.zeros((24, 272, 640, 3), dtype=np.uint8)
    frames[:, :, 184:260] = 255
    write_video(path, frames, fps=10, crf=0)
    return open_film(str(path), num_frames=4, stride_frames=2, fps=10, crop_size=32)


def columns(hidden: torch.Tensor) -> list[int]:
    """Columns of cubes with one hidden."""
    return sorted(set(hidden.unflatten(-1, (2, 4, 4)).nonzero()[:, -1].tolist()))


def test_masks_hide_what_they_cover_in_the_film(wide: ClipSequence, tmp_path: Path) -> None:
    """184...259 of 640 columns are 21.6...30.5 of the 75 of the shrunk film, whose 32 in the middle begin at 21."""
    white = np.zeros((272, 640), dtype=bool)
    white[:, 184:260] = True
    _, clips = next(read_windows(wide, at_once=1))
    bright = (clips[0, 0, 0, 0].float().mean(0) > 0).nonzero()[:, 0]
    assert (bright.min(), bright.max()) == (0, 9)
    everywhere = np.repeat(white[None], 24, axis=0)
    for mask in (
        "box:184,0,76,272",
        picture(tmp_path / "mask.png", white),
        picture(tmp_path / "half.png", white[::2, ::2]),  # painted on a smaller copy
        filmed(tmp_path / "mask.mp4", everywhere),
    ):
        hidden = parse_mask(mask, wide, **CUBES, seed=0)
        assert hidden.shape == (3, 2, 32)
        assert columns(hidden) == [0, 1], mask
        assert hidden.unflatten(-1, (2, 4, 4))[..., :2].all()


@pytest.mark.parametrize("column", [190, 258, 333])
def test_a_thin_line_hides_its_cubes(wide: ClipSequence, tmp_path: Path, column: int) -> None:
    white = np.zeros((272, 640), dtype=bool)
    white[:, column] = True
    hidden = parse_mask(picture(tmp_path / "line.png", white), wide, **CUBES, seed=0)
    place = (column * 75 / 640 - 21) / 8
    assert columns(hidden) == [int(place)]


def test_a_mask_film_moves_with_the_film(wide: ClipSequence, tmp_path: Path) -> None:
    """Each of its frames hides in the cubes of that frame, of that clip of that window."""
    for number in (0, 5, 15, 23):
        white = np.zeros((24, 272, 640), dtype=bool)
        white[number, 10:14, 320:324] = True
        hidden = parse_mask(filmed(tmp_path / f"{number}.mp4", white), wide, **CUBES, seed=0)
        window, clip, time = number // 8, number % 2, number % 8 // 2
        assert hidden.nonzero().tolist() == [[window, clip, time // 2 * 16 + 2]]
        again = parse_mask(f"box:320,10,4,4,{number},{number + 1}", wide, **CUBES, seed=0)
        assert torch.equal(again, hidden)


def test_a_box_hides_from_its_first_frame_to_before_its_last(wide: ClipSequence) -> None:
    hidden = parse_mask("box:320,10,4,4,3,21", wide, **CUBES, seed=0)
    frames = hidden.unflatten(-1, (2, 16)).any(-1)  # (3, 2, 2): of window, clip, time
    # Frames 0...2 alone are seen; cubes of two frames reach from 0 to 2, 1 to 3, 4 to 6, ...
    assert frames.tolist() == [[[False, True], [True, True]], [[True, True]] * 2, [[True, True], [True, False]]]


def test_a_folder_of_masks_is_read_in_the_films_order(wide: ClipSequence, tmp_path: Path) -> None:
    for number in range(24):
        white = np.zeros((272, 640), dtype=bool)
        white[:20, 320] = number == 9
        picture(tmp_path / f"{number:05d}.png", white)
    hidden = parse_mask(str(tmp_path), wide, **CUBES, seed=0)
    assert torch.equal(hidden, parse_mask("box:320,0,1,20,9,10", wide, **CUBES, seed=0))


def test_a_limited_film_takes_the_start_of_its_mask(wide: ClipSequence, tmp_path: Path) -> None:
    film = open_film(wide.path, num_frames=4, stride_frames=2, fps=10, crop_size=32, max_clips=2)
    white = np.zeros((24, 272, 640), dtype=bool)
    white[7, 10:14, 320:324] = white[8:, :, :] = True
    hidden = parse_mask(filmed(tmp_path / "mask.mp4", white), film, **CUBES, seed=0)
    assert hidden.nonzero().tolist() == [[0, 1, 16 + 2]]


def test_random_masks_are_shared_by_the_clips_that_alternate(wide: ClipSequence) -> None:
    hidden = parse_mask("random:0.75", wide, **CUBES, seed=0)
    assert hidden.shape == (3, 2, 32)
    assert (hidden.sum(2) == 24).all()
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    assert not torch.equal(hidden[0], hidden[1])
    assert torch.equal(hidden, parse_mask("random:0.75", wide, **CUBES, seed=0))
    assert not torch.equal(hidden, parse_mask("random:0.75", wide, **CUBES, seed=1))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("tube:0.5", 16),
        ("frame:0.5", 16),
        ("centre", 8),  # the middle 16 x 16 of 32 x 32 pixels: 4 of 16 places, twice
        ("box:184,0,1,1", 2),
    ],
)
def test_forms_of_mask(text: str, hidden: int, wide: ClipSequence) -> None:
    assert (parse_mask(text, wide, **CUBES, seed=0).sum(2) == hidden).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stripes:0.5", "none of the forms"),
        ("random", "has no ratio; write for example random:0.75"),
        ("random:1", "hides 32 of the 32"),
        ("box:1,2,3", "must be box:x,y,w,h or"),
        ("box:1,2,3,4,5", "must be box:x,y,w,h or"),
        ("box:600,0,41,8", r"columns 600\.\.\.640 must lie in 0\.\.\.639"),
        ("box:0,0,8,8,20,25", r"frames 20\.\.\.24 must lie in 0\.\.\.23"),
        ("box:0,0,100,8", "hides nothing of the centre square"),
        ("box:0,0,640,272", r"hides every cube of a clip of the centre square \(frames 0 to 6\)"),
        ("box:0,0,640,272,9,24", r"every cube of a clip of the centre square \(frames 8 to 14\)"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, words: str, wide: ClipSequence) -> None:
    with pytest.raises(UserError, match=words):
        parse_mask(text, wide, **CUBES, seed=0)


def test_files_that_do_not_fit_are_refused(wide: ClipSequence, tmp_path: Path) -> None:
    short = filmed(tmp_path / "short.mp4", np.ones((20, 272, 640), dtype=bool))
    with pytest.raises(UserError, match="has 20 frames, the film 24; give one picture, or one frame for each"):
        parse_mask(short, wide, **CUBES, seed=0)
    square = picture(tmp_path / "square.png", np.ones((272, 272), dtype=bool))
    with pytest.raises(UserError, match="is 272x272, the film 640x272; paint it on a frame"):
        parse_mask(square, wide, **CUBES, seed=0)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DecodeError, match=r"text\.png"):
        parse_mask(str(tmp_path / "text.png"), wide, **CUBES, seed=0)
