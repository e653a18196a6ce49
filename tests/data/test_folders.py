"""Folders of images: one sequence in the order of its numbers, whole and of one size, or an error that says why not."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from diffmae_video.data import (
    DecodeError,
    TestViews,
    TrainClips,
    VideoList,
    open_video,
    scan,
    test_loader,
    train_loader,
)
from diffmae_video.data.decoding.image_folder import image_sequence

SHAPE = {"num_frames": 2, "stride_frames": 1, "fps": 0, "crop_size": 16}


def picture(value: int, size: tuple[int, int] = (24, 16)) -> Image.Image:
    """One grey, and noise enough that JPEG has something to hold."""
    noise = np.random.default_rng(value).integers(0, 8, (size[1], size[0], 3))
    return Image.fromarray((value + noise).astype(np.uint8))


def folder_of(path: Path, numbers: list[int], template: str = "img_{}.png", **options: Any) -> Path:
    path.mkdir()
    for number in numbers:
        picture(2 * number, **options).save(path / template.format(number))
    return path


def values(path: Path, **options: Any) -> list[int]:
    """The number that each frame shows."""
    with open_video(str(path), **options) as reader:
        return [int(frame.min()) // 2 for frame in reader.frames(range(len(reader.times)))]


def test_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert values(folder_of(tmp_path / "natural", list(range(1, 13)))) == list(range(1, 13))
    assert values(folder_of(tmp_path / "padded", list(range(8, 13)), "{:05d}.png")) == list(range(8, 13))


@given(
    start=st.integers(0, 10**12),
    step=st.integers(1, 1000),
    count=st.integers(1, 30),
    width=st.integers(0, 8),
    before=st.sampled_from(["", "img_", "view2_", "a.b-", "\N{CLAPPER BOARD}\n"]),
    after=st.sampled_from(["", "_rgb", " x"]),
    suffix=st.sampled_from([".jpg", ".PNG", ".webp"]),
    data=st.data(),
)
def test_any_sequence_is_found_among_what_systems_leave(
    start: int, step: int, count: int, width: int, before: str, after: str, suffix: str, data: st.DataObject
) -> None:
    names = [f"{before}{start + i * step:0{width}d}{after}{suffix}" for i in range(count)]
    strays = [".DS_Store", "Thumbs.db", "._img_00001.jpg", "@eaDir", "notes.txt"]
    shuffled = data.draw(st.permutations([*names, *strays]))
    assert image_sequence("f", shuffled) == names
    if count > 3:
        lost = data.draw(st.integers(1, count - 2))
        with pytest.raises(DecodeError, match="images are missing between") as caught:
            image_sequence("f", [name for name in shuffled if name != names[lost]])
        assert repr(names[lost - 1]) in caught.value.reason
        assert repr(names[lost + 1]) in caught.value.reason
        assert "\n" not in caught.value.reason
    for stray in (f"other_{start}.jpg", f"{before}{start}{after}_{suffix}", f"{before}{start}{after}.bmp"):
        with pytest.raises(DecodeError, match="differ in more than their number"):
            image_sequence("f", [*shuffled, stray])
    with pytest.raises(DecodeError, match="two images of one number"):
        image_sequence("f", [*shuffled, f"{before}{start:0{width + 14}d}{after}{suffix}"])


def test_names_without_a_number() -> None:
    assert image_sequence("f", ["photo.jpg", "readme"]) == ["photo.jpg"]
    with pytest.raises(DecodeError, match=r"f: images that differ in more than their number: 'cat\.jpg', 'dog\.jpg'"):
        image_sequence("f", ["dog.jpg", "cat.jpg"])
    with pytest.raises(DecodeError, match="a folder without images"):
        image_sequence("f", ["notes.txt", "._img_1.jpg"])


def listed(folder: Path, num_frames: int) -> VideoList:
    return VideoList.of([folder.name], [0], root=str(folder.parent), num_frames=np.array([num_frames]))


def test_fewer_images_than_the_list_says_are_an_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "clip", [1, 2, 3])
    sample = TestViews(listed(folder, 4), **SHAPE)[0]
    assert sample["error"] == "3 of 4 listed images"
    assert TestViews(listed(folder, 3), **SHAPE)[0]["error"] == ""
    assert TestViews(listed(folder, -1), **SHAPE)[0]["error"] == ""
    assert TestViews(listed(folder, 10**17), **SHAPE)[0]["error"] == f"3 of {10**17} listed images"


def test_more_images_than_the_list_says_are_left_out_and_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "clip", [1, 2, 3, 4, 5])
    assert values(folder, num_images=2) == [1, 2]
    line = f"{folder}: 3 images more than its list says are not used; correct the list if they should be"
    views = TestViews(listed(folder, 2), **SHAPE)
    assert views[0]["clips"].float().mean((0, 2, 3, 4)).round().tolist() == [6, 8]  # images 1 and 2: 2 and 4, and noise
    dataset = TrainClips(listed(folder, 2), seed=0, **SHAPE)
    batches = [
        next(iter(test_loader(views, batch_size=1, rank=0, world_size=1, num_workers=0))),
        next(iter(train_loader(dataset, batch_size=2, num_steps=1))),
    ]
    assert [batch["notes"] for batch in batches] == [{"surplus": line}] * 2
    whole = TrainClips(listed(folder, 5), seed=0, **SHAPE)
    assert whole[0]["notes"] == {}


def test_images_of_two_sizes_are_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "clip", [1, 2, 3])
    picture(9, size=(16, 24)).save(folder / "img_2.png")
    reason = "images differ in size: 'img_1.png' of 24x16, 'img_2.png' of 16x24"
    with pytest.raises(DecodeError, match=reason):
        values(folder)
    row = scan.examine(str(folder), name="clip", depth="full", timeout_seconds=10)
    assert (row.status, row.reason) == ("bad", reason)


def test_a_folder_that_may_not_be_listed_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "clip", [1, 2])

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("diffmae_video.data.decoding.image_folder.os.listdir", refuse)
    assert TestViews(listed(folder, 2), **SHAPE)[0]["error"] == "cannot be opened (Permission denied)"


def test_the_time_out_is_the_folders(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "clip", [1, 2])
    with pytest.raises(DecodeError, match="timed out") as caught, open_video(str(folder), timeout_seconds=0) as reader:
        list(reader.frames([0, 1]))
    assert caught.value.path == str(folder)


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    mode = options.pop("mode", "RGB")
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def with_thumbnail() -> bytes:
    """An EXIF block that holds a JPEG of its own, end marker and all."""
    exif = Image.Exif()
    exif[0x9286] = b"\0" * 8 + jpeg(quality=10)[:2000]
    return jpeg(exif=exif)


WHOLE = {
    "baseline": jpeg(),
    "full chroma": jpeg(subsampling=0),
    "progressive": jpeg(progressive=True),
    "grey": jpeg(mode="L"),
    "optimised": jpeg(optimize=True, quality=100),
    "restarts": jpeg(restart_marker_blocks=2),
    "thumbnail": with_thumbnail(),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_jpeg_that_is_cut_off_anywhere_is_damaged(tmp_path: Path, kind: str) -> None:
    """Whatever remains is no picture, were it all but the end marker; the whole is, also with bytes after it."""
    path = tmp_path / "image.jpg"
    data = WHOLE[kind]
    for whole in (data, data + b"\0" * 10, data + b"\n"):
        path.write_bytes(whole)
        with open_video(str(path)) as reader, Image.open(io.BytesIO(data)) as image:
            (frame,) = reader.frames([0])
            assert frame.shape == (image.height, image.width, 3)
    for kept in {*np.linspace(1, len(data) - 2, 40).astype(int).tolist(), len(data) - 1, len(data) - 3}:
        path.write_bytes(data[:kept])
        with pytest.raises(DecodeError), open_video(str(path)) as reader:
            list(reader.frames([0]))


def test_a_jpeg_whose_data_is_spoilt_is_damaged(tmp_path: Path) -> None:
    """A part of its data is gone, its end marker is there; FFmpeg would leave the lower part grey."""
    data, path = WHOLE["baseline"], tmp_path / "image.jpg"
    path.write_bytes(data[: len(data) // 2] + data[-2:])
    with pytest.raises(DecodeError, match="does not decode"), open_video(str(path)) as reader:
        list(reader.frames([0]))


def test_a_cut_off_image_in_a_folder_is_a_broken_video(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "clip", [1, 2], "img_{}.jpg")
    whole = (folder / "img_2.jpg").read_bytes()
    (folder / "img_2.jpg").write_bytes(whole[:-40])
    assert TestViews(listed(folder, 2), **SHAPE)[0]["error"] != ""
    assert scan.examine(str(folder), name="clip", depth="full", timeout_seconds=10).status == "bad"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_shown_as_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    """As PIL's exif_transpose shows them; JPEG decoders may differ by rounding."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    rows = np.arange(37)[:, None, None] * [5, 0, 3] + np.arange(51)[None, :, None] * [0, 4, 1]
    image = Image.fromarray(rows.clip(0, 255).astype(np.uint8))
    options = {"lossless": True} if suffix == "webp" else {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    folder = tmp_path / "clip"
    folder.mkdir()
    image.save(folder / f"1.{suffix}", exif=exif, **options)
    shutil.copy(folder / f"1.{suffix}", folder / f"2.{suffix}")
    with Image.open(folder / f"1.{suffix}") as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved).convert("RGB")).astype(int)
    with open_video(str(folder)) as reader:
        for frame in reader.frames([0, 1]):
            assert frame.shape == expected.shape
            assert np.abs(frame - expected).max() <= (3 if suffix == "jpg" else 0)
