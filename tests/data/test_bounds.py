"""A file's own numbers size no allocation and stop no run: time stamps, rates, picture sizes."""

from __future__ import annotations

import gc
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffmae_video.data import DecodeError, TestViews, TrainClips, VideoList, cutting, frame_sampling, open_video, scan
from diffmae_video.data.decoding import pyav_reader
from diffmae_video.data.decoding.base import check_size, shown_frames
from diffmae_video.data.decoding.color import RgbConverter
from tests.data import formats
from tests.data.helpers import ffmpeg

SHAPE = {"num_frames": 4, "stride_frames": 2, "fps": 30.0, "crop_size": 16}
MADE_FOR_A_TEST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mux(path: Path, stamps: Sequence[int], time_base: Fraction) -> Path:
    """A video of one frame for each time stamp."""
    with av.open(str(path), "w", format="nut") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        stream.time_base = stream.codec_context.time_base = time_base
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number % 256, np.uint8), format="rgb24")
            frame.pts = number
            for packet in stream.encode(frame):
                packet.pts = packet.dts = stamp
                packet.time_base = time_base
                container.mux(packet)
    return path


def at_30(jump_seconds: float, *, at: int, count: int = 30) -> list[int]:
    """Stamps in 1/90000 s of 30 frames a second, with a jump before frame ``at``."""
    return [i * 3000 + (round(jump_seconds * 90000) if i >= at else 0) for i in range(count)]


@pytest.mark.parametrize("at", [1, 2, 15, 29])
@pytest.mark.parametrize("seconds", [61, 3600, 1e7, 1e9])
def test_a_jump_of_the_clock_is_damage(tmp_path: Path, seconds: float, at: int) -> None:
    path = mux(tmp_path / "jump.nut", at_30(seconds, at=at), Fraction(1, 90000))
    with pytest.raises(DecodeError, match=rf"damaged: time stamps jump by \S+ s at frame {at}$"):
        open_video(str(path))
    row = scan.examine(str(path), name="jump.nut", depth="quick", timeout_seconds=10)
    assert row.status == "bad"
    assert row.reason.startswith("damaged: time stamps jump")
    sample = TestViews(VideoList.of([path.name], [0], root=str(tmp_path)), **SHAPE)[0]
    assert sample["error"] == row.reason


@pytest.mark.parametrize("at", [1, 2])
def test_of_three_frames_a_jump_is_seen(tmp_path: Path, at: int) -> None:
    path = mux(tmp_path / "jump.nut", at_30(3600, at=at, count=3), Fraction(1, 90000))
    with pytest.raises(DecodeError, match=rf"damaged: time stamps jump by 3600.03 s at frame {at}$"):
        open_video(str(path))


@pytest.mark.parametrize("seconds", [0.5, 5, 59])
def test_a_still_screen_is_no_damage(tmp_path: Path, seconds: float) -> None:
    path = mux(tmp_path / "screen.nut", at_30(seconds, at=10), Fraction(1, 90000))
    with open_video(str(path)) as reader:
        assert len(reader.times) == 30
        assert np.diff(reader.times).max() == pytest.approx(seconds + 1 / 30)


def test_slow_series_are_no_damage(tmp_path: Path) -> None:
    for interval in (60, 3600, 86400):
        path = mux(tmp_path / "slow.nut", [i * interval for i in range(5)], Fraction(1, 1))
        with open_video(str(path)) as reader:
            assert reader.times[-1] == 4 * interval


stamp = st.one_of(st.integers(-(2**40), 2**40), st.integers(-(2**55), 2**55), st.integers(0, 1000))
steps = st.lists(st.one_of(st.integers(1, 10), st.integers(1, 10**6), st.integers(1, 10**13)), min_size=1, max_size=20)


@MADE_FOR_A_TEST
@given(start=stamp, steps=steps, base=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 10**6)]))
def test_any_time_stamps_give_clips_or_one_error(tmp_path: Path, start: int, steps: list[int], base: Fraction) -> None:
    stamps = (start + np.cumsum([0, *steps])).tolist()
    path = mux(tmp_path / "any.nut", stamps, base)
    views = TestViews(VideoList.of([path.name], [0], root=str(tmp_path)), **SHAPE, num_views=3)
    tracemalloc.start()
    sample = views[0]
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    seconds = np.array(steps) * float(base)
    if sample["error"]:
        assert "jump by" in sample["error"]
        assert seconds.max() > 60
    else:
        assert seconds.max() <= max(60.0, 100 * np.median(seconds)) * 1.001
        assert seconds.max() <= 86400 * 1.001


times_of_anything = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=12)


@given(times=times_of_anything, fps=st.sampled_from([0.0, 1.0, 30.0, 1e6]), segment=st.booleans())
def test_any_times_are_refused_or_make_a_bounded_time_line(times: list[float], fps: float, segment: bool) -> None:
    array = np.array(times)
    try:
        first, last = shown_frames("v", array, (0.0, 5.0) if segment else None)
    except DecodeError:
        return
    shown = array[first:last]
    line = frame_sampling.TimeLine(shown, fps=fps)
    assert 1 <= len(line) <= max(len(shown), len(shown) * 86400 * fps + 1)
    frames = line[np.array([0, len(line) // 2, len(line) - 1])]
    assert frames[0] <= frames[1] <= frames[2] < len(shown)
    with pytest.raises(IndexError):
        line[np.array([0, len(line)])]


@given(intervals=st.lists(st.floats(1e-3, 50), min_size=1, max_size=20), fps=st.floats(0.5, 60))
def test_a_time_line_is_the_nearest_frame_of_each_step(intervals: list[float], fps: float) -> None:
    times = 3.0 + np.cumsum([0.0, *intervals])
    line = frame_sampling.TimeLine(times, fps=fps)
    some = np.unique(np.linspace(0, len(line) - 1, 20).astype(np.int64))
    distance = np.abs(times[:, None] - times[0] - some / fps)
    chosen = distance[line[some], np.arange(len(some))]
    assert (chosen <= distance.min(0) + 1e-5).all()


def test_a_day_between_two_frames_costs_nothing() -> None:
    tracemalloc.start()
    line = frame_sampling.TimeLine(np.array([0.0, 86400.0]), fps=1000.0)
    assert len(line) == 2 * 86_400_000
    assert line[np.array([0, 43_200_000, 43_200_001])].tolist() == [0, 0, 1]
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@MADE_FOR_A_TEST
@given(scale=st.integers(0, 2**32 - 1), rate=st.one_of(st.integers(0, 100), st.integers(0, 2**32 - 1)))
def test_any_rate_in_a_header_gives_times_or_one_error(
    video: Callable[..., Path], tmp_path: Path, scale: int, rate: int
) -> None:
    """An AVI file with B-frames has no time stamps: its rate is the stream header's."""
    data = bytearray(video("b.avi", *formats.ENCODED["mpeg4_bframes.avi"], frames=8).read_bytes())
    at = data.index(b"strh") + 8
    data[at + 20 : at + 28] = struct.pack("<2I", scale, rate)
    (tmp_path / "any.avi").write_bytes(data)
    try:
        with open_video(str(tmp_path / "any.avi")) as reader:
            times = reader.times
    except DecodeError:
        return
    assert len(times) == 8
    assert np.isfinite(times).all()
    assert (np.diff(times) >= 0).all()


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds one byte of picture."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    """The same of a bitmap."""
    file, picture = struct.pack("<IHHI", 54 + 64, 0, 0, 54), struct.pack("<IiiHH6I", 40, width, height, 1, 24, *[0] * 6)
    return b"BM" + file + picture + bytes(64)


def first_frame(path: Path) -> np.ndarray:
    with open_video(str(path)) as reader:
        return next(iter(reader.frames([0])))


@pytest.mark.parametrize("make", [png, bmp])
@pytest.mark.parametrize("size", [(16384, 16384), (65535, 65535), (2**31 - 1, 1), (1, 2**31 - 1), (8200, 8200)])
def test_a_claimed_size_takes_no_memory(
    tmp_path: Path, make: Callable[[int, int], bytes], size: tuple[int, int]
) -> None:
    path = tmp_path / f"bomb.{make.__name__}"
    path.write_bytes(make(*size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecodeError, match="pictures without a size, or of more than 67108864 pixels"):
        first_frame(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_8k_is_read_and_more_is_named() -> None:
    check_size("v", 7680, 4320)
    check_size("v", 8192, 8192)
    with pytest.raises(DecodeError, match="v: pictures of 16384x16384: more than 67108864 pixels are not read"):
        check_size("v", 16384, 16384)


def test_a_containers_claim_is_refused(tmp_path: Path, video: Callable[..., Path]) -> None:
    data = bytearray(video("raw.avi", "-c:v", "rawvideo", "-pix_fmt", "bgr24", frames=2).read_bytes())
    at = data.index(b"strf") + 8
    data[at + 4 : at + 12] = struct.pack("<2i", 20000, 20000)
    (tmp_path / "huge.avi").write_bytes(data)
    with (
        pytest.raises(DecodeError, match="or of more than 67108864 pixels"),
        open_video(str(tmp_path / "huge.avi")) as reader,
    ):
        next(iter(reader.frames([0])))


def test_pictures_that_grow_on_the_way_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        formats.make_video(tmp_path / f"{size}.ts", *formats.X264, size=size, frames=10) for size in ("64x48", "96x80")
    ]
    (tmp_path / "grows.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(str(tmp_path / "grows.ts")) as reader:
        assert len(list(reader.frames(range(len(reader.times))))) == 20
    monkeypatch.setattr(pyav_reader, "MAX_PIXELS", 64 * 64)
    with pytest.raises(DecodeError), open_video(str(tmp_path / "grows.ts")) as reader:
        list(reader.frames(range(len(reader.times))))


@pytest.fixture
def one(video: Callable[..., Path]) -> VideoList:
    path = video("one.mp4", frames=20)
    return VideoList.of([path.name], [0], root=str(path.parent))


def _frames_raise(error: BaseException) -> Callable[..., Iterator[np.ndarray]]:
    def frames(self: object, indices: object) -> Iterator[np.ndarray]:
        raise error
        yield

    return frames


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")],
    ids=str,
)
def test_memory_that_one_video_lacks_is_that_videos_error(
    one: VideoList, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Neither decoding nor cutting it blames the batch."""
    monkeypatch.setattr(pyav_reader.PyavReader, "frames", _frames_raise(error))
    assert TestViews(one, **SHAPE)[0]["error"] == "out of memory"
    monkeypatch.undo()
    real = np.empty

    def empty(shape: object, *arguments: object, **named: object) -> np.ndarray:
        if isinstance(shape, tuple) and len(shape) == 4:  # a clip
            raise error
        return real(shape, *arguments, **named)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(cutting.np, "empty", empty)
    assert TestViews(one, **SHAPE)[0]["error"] == "out of memory"


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours"), TypeError("ours"), KeyError("ours")])
def test_a_fault_of_ours_is_no_broken_video(one: VideoList, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Planted where frames are converted, within the decoder's loop."""

    def fail(self: object, frame: av.VideoFrame) -> np.ndarray:
        raise error

    monkeypatch.setattr(RgbConverter, "__call__", fail)
    with pytest.raises(type(error), match="ours"):
        TrainClips(one, seed=0, **SHAPE)[0]
    with pytest.raises(type(error), match="ours"):
        TestViews(one, **SHAPE)[0]


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_a_fault_of_ours_is_no_broken_video_of_other_backends(
    one: VideoList, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    pytest.importorskip(backend, reason=f"needs {backend}", exc_type=Exception)
    monkeypatch.setattr(f"diffmae_video.data.decoding.{backend}_reader.shown_frames", lambda *_: int("ours"))
    with pytest.raises(ValueError, match="ours"):
        TrainClips(one, seed=0, **SHAPE, backend=backend)[0]


def test_frames_are_freed_as_they_come(one: VideoList) -> None:
    """No reference cycle keeps their pixels until Python's next collection."""

    def alive() -> int:
        return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        with open_video(one.path(0)) as reader:
            for _ in reader.frames(range(20)):
                pass
            assert alive() - before <= 3
    finally:
        gc.enable()


def test_a_title_in_any_encoding_is_no_damage(tmp_path: Path) -> None:
    ffmpeg(
        "-f", "lavfi", "-i", "color=size=32x32", "-frames:v", "3", "-metadata", "title=plain-title",
        "-metadata:s:v", "handler_name=plain-title", *formats.X264, str(tmp_path / "v.mp4"),
    )  # fmt: skip
    data = (tmp_path / "v.mp4").read_bytes()
    assert data.count(b"plain-title") == 2
    (tmp_path / "v.mp4").write_bytes(data.replace(b"plain-title", b"caf\xe9 \xff\xfe-tit"))
    with open_video(str(tmp_path / "v.mp4")) as reader:
        assert len(list(reader.frames([0, 1, 2]))) == 3


@pytest.mark.parametrize("short_side", [20, 48, 60])
def test_large_pictures_are_shrunk_as_they_come_with_the_same_result(
    one: VideoList, monkeypatch: pytest.MonkeyPatch, short_side: int
) -> None:
    views = TestViews(one, **(SHAPE | {"crop_size": short_side}), num_views=2, num_crops=2)
    whole = views[0]["clips"]
    assert whole.shape[-1] == short_side
    monkeypatch.setattr(cutting, "LARGE_PIXELS", 0)
    seen: list[tuple[int, ...]] = []
    real = cutting.torch.from_numpy
    monkeypatch.setattr(cutting.torch, "from_numpy", lambda array: seen.append(array.shape) or real(array))
    assert torch.equal(views[0]["clips"], whole)
    clips_cut = [shape for shape in seen if len(shape) == 4]
    assert {min(shape[1:3]) for shape in clips_cut} == {min(short_side, 48)}


def test_many_views_of_a_film_take_little_memory(tmp_path: Path) -> None:
    """Pictures of 720p are small one by one; those of 40 views of 4 frames would take 440 MB."""
    ffmpeg(
        "-f", "lavfi", "-i", "color=gray:size=1280x720:rate=10", "-frames:v", "160", *formats.X264,
        str(tmp_path / "film.mp4"),
    )  # fmt: skip
    one = VideoList.of(["film.mp4"], [0], root=str(tmp_path))
    views = TestViews(one, num_frames=4, stride_frames=1, fps=0, crop_size=16, num_views=40)
    tracemalloc.start()
    item = views[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (item["error"], item["clips"].shape) == ("", (40, 4, 3, 16, 16))
    assert peak < 32 << 20
