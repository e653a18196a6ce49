"""Films cut into clips: every frame once, in bounded memory, by one geometry for pixels and masks."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffmae_video.data.decoding.base import DecodeError
from diffmae_video.data.transforms import resize_short_side, view_boxes
from diffmae_video.data.video_io import open_writer, write_video
from diffmae_video.errors import UserError
from diffmae_video.inpainting import film as film_module
from diffmae_video.inpainting.film import ClipSequence, Square, open_film, read_windows


def ramp(count: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose grey level is five times their number."""
    return np.broadcast_to(5 * np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3))


def numbers(clips: torch.Tensor) -> list[list[list[int]]]:
    return (clips.float().mean((3, 4, 5)) / 5).round().int().tolist()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("film") / "ramp.mp4"
    write_video(path, ramp(25), fps=12.5, crf=4)
    return str(path)


def test_clips_of_a_window_alternate_as_far_apart_as_the_models_frames(path: str) -> None:
    film = open_film(path, num_frames=4, stride_frames=1, fps=6.25, crop_size=16)
    assert (film.stride, len(film), film.total, film.fps) == (2, 25, 25, pytest.approx(12.5))
    read = [numbers(clips) for _, clips in read_windows(film, at_once=1)]
    assert read[0] == [[[0, 2, 4, 6], [1, 3, 5, 7]]]
    assert read[3] == [[[17, 19, 21, 23], [18, 20, 22, 24]]]  # the last ends with the film
    assert film.fresh[3].tolist() == [[False, False, False, False], [False, False, False, True]]


@given(
    total=st.integers(1, 300),
    num_frames=st.integers(1, 16),
    stride=st.integers(1, 8),
    max_clips=st.none() | st.integers(1, 30),
)
def test_every_frame_is_filled_once(total: int, num_frames: int, stride: int, max_clips: int | None) -> None:
    taken = total if max_clips is None else min(total, max_clips * num_frames)
    step = max(1, min(stride, taken // num_frames))
    square = Square.of(48, 64, size=16)
    film = ClipSequence("a.mp4", np.arange(taken) / 25, total, (48, 64), square, num_frames, step)
    assert sorted(film.numbers[film.fresh]) == list(range(taken))
    inside = film.places < taken
    assert inside.all() or taken < num_frames  # frames are held only where one clip is longer than the film
    assert (np.diff(film.places, axis=2) == step).all()
    assert (np.diff(film.numbers.max((1, 2))) > 0).all()  # windows in the film's order


def test_windows_are_read_once_and_few_at_a_time(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    alive: list[int] = []
    real = film_module.open_video

    class Counted:
        def __init__(self, *rest: object, **named: object) -> None:
            self.reader = real(*rest, **named)  # type: ignore[arg-type]

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self.reader.close()

        def frames(self, indices: np.ndarray) -> Iterator[np.ndarray]:
            for frame in self.reader.frames(indices):
                opened.append(1)
                yield frame

    film = open_film(path, num_frames=4, stride_frames=1, fps=0, crop_size=16)
    monkeypatch.setattr(film_module, "open_video", Counted)
    seen = []
    for part, clips in read_windows(film, at_once=2):
        alive.append(len(clips))
        seen += numbers(clips)
        assert len(opened) == min(8 * (part.start // 2 + 1), 25)  # not read ahead
    assert seen == [[[4 * w, 4 * w + 1, 4 * w + 2, 4 * w + 3]] for w in range(6)] + [[[21, 22, 23, 24]]]
    assert max(alive) == 2


def test_a_limit_takes_the_start_and_says_so(path: str) -> None:
    film = open_film(path, num_frames=4, stride_frames=1, fps=0, crop_size=16, max_clips=2)
    assert [numbers(clips) for _, clips in read_windows(film, at_once=9)] == [[[[0, 1, 2, 3]], [[4, 5, 6, 7]]]]
    assert "the first 8 of 25 frames at 12.5 a second" in film.describe()
    assert "the last 17 frames are left out (--max-clips)" in film.describe()
    whole = open_film(path, num_frames=4, stride_frames=1, fps=0, crop_size=16).describe()
    assert ": 25 frames at 12.5 a second" in whole
    assert "of 64x48 pixels the centre square, at 16x16" in whole
    assert "left out" not in whole


def test_a_short_film_holds_its_last_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", ramp(3), fps=10, crf=4)
    film = open_film(str(tmp_path / "a.mp4"), num_frames=5, stride_frames=2, fps=10, crop_size=16)
    assert [numbers(clips) for _, clips in read_windows(film, at_once=1)] == [[[[0, 1, 2, 2, 2]]]]
    assert film.fresh.tolist() == [[[True, True, True, False, False]]]


def test_a_picture_is_one_frame(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    film = open_film(str(tmp_path / "one.png"), num_frames=4, stride_frames=2, fps=16, crop_size=16)
    assert (len(film), film.fps, film.stride) == (1, 1.0, 1)
    ((_, clips),) = read_windows(film, at_once=3)
    expected = torch.from_numpy(pixels[:, 2:18]).permute(2, 0, 1)
    assert torch.equal(clips, expected.expand(1, 1, 4, -1, -1, -1))


def test_times_are_the_films_own(tmp_path: Path) -> None:
    seconds = np.array([0.0, 0.04, 0.08, 0.5, 0.52, 2.0])
    with open_writer(tmp_path / "a.mp4", fps=2.5, crf=4) as writer:
        for second, frame in zip(seconds, ramp(6), strict=True):
            writer.write(frame, second=second)
    film = open_film(str(tmp_path / "a.mp4"), num_frames=2, stride_frames=1, fps=0, crop_size=16)
    np.testing.assert_allclose(film.seconds, seconds, atol=2e-5)
    assert film.fps == pytest.approx(2.5)


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match=r"x\.mp4"):
        open_film(str(tmp_path / "x.mp4"), num_frames=4, stride_frames=1, fps=0, crop_size=16)
    for i, size in enumerate(((30, 20), (30, 20), (20, 30))):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    (tmp_path / "x.mp4").unlink()
    film = open_film(str(tmp_path), num_frames=1, stride_frames=1, fps=0, crop_size=16)
    with pytest.raises(UserError, match="20x30"):
        list(read_windows(film, at_once=1))


sizes = st.integers(5, 90)


@given(height=sizes, width=sizes, patch=st.sampled_from([1, 2, 4, 8]), rows=st.integers(1, 5), data=st.data())
@settings(max_examples=300)
def test_a_rectangle_hides_exactly_the_patches_whose_source_it_touches(
    height: int, width: int, patch: int, rows: int, data: st.DataObject
) -> None:
    size = patch * rows
    square = Square.of(height, width, size=size)
    top, bottom = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    left, right = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    hole = torch.zeros(height, width, dtype=torch.bool)
    hole[top:bottom, left:right] = True
    cut = square.cut(hole).unflatten(0, (-1, patch)).unflatten(2, (-1, patch)).any(3).any(1)

    def touched(first: int, last: int, place: int, offset: int, scale: Fraction) -> bool:
        """Whether source pixels first...last - 1 overlap the patch at ``place``, in exact numbers."""
        return first < (offset + (place + 1) * patch) * scale and last > (offset + place * patch) * scale

    down, across = Fraction(height, square.height), Fraction(width, square.width)
    expected = [
        [
            touched(top, bottom, row, square.box.top, down) and touched(left, right, column, square.box.left, across)
            for column in range(rows)
        ]
        for row in range(rows)
    ]
    assert cut.tolist() == expected


@given(height=sizes, width=sizes, size=st.integers(4, 40))
def test_pixels_go_the_way_of_a_test_view(height: int, width: int, size: int) -> None:
    picture = torch.arange(3 * height * width).reshape(3, height, width).remainder(251).to(torch.uint8)
    small = resize_short_side(picture[None], size)
    top, left, side, _ = view_boxes(*small.shape[-2:], num_crops=1)[0]
    expected = small[0, :, top : top + side, left : left + side]
    assert torch.equal(Square.of(height, width, size=size).cut(picture), expected)
