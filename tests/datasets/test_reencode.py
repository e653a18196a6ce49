"""Re-encoding: each copy is compared with its source."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import reencode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffmae_video.data import open_video
from tests.data.helpers import ffmpeg, make_video, run_script

BT709 = ["-vf", "scale=out_color_matrix=bt709"]
BT709 += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
ENCODING = reencode.Encoding(short_side=64, gop=6, crf=12)


def make_copy(root: Path, name: str, *, encoding: reencode.Encoding = ENCODING) -> tuple[str, Path]:
    """The result of re-encoding one video, and the path of the copy."""
    paths = Path(name), Path(name).with_suffix(".mp4")
    status = reencode.reencode(paths, root=root, out=root.parent / "out", encoding=encoding)
    return status, root.parent / "out" / paths[1]


def frames(path: Path) -> np.ndarray:
    """All frames, (N, H, W, 3)."""
    with open_video(str(path)) as reader:
        return np.stack([frame.copy() for frame in reader.frames(range(len(reader.times)))])


def worst_psnr(a: np.ndarray, b: np.ndarray) -> float:
    """The lowest peak signal-to-noise ratio of any frame, dB."""
    error = ((a.astype(float) - b) ** 2).mean(axis=(1, 2, 3))
    return float((10 * np.log10(255**2 / np.maximum(error, 1e-3))).min())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(
        tmp_path_factory.mktemp("sound") / "v.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20", frames=30
    )


def test_reencoding_keeps_the_tree_the_frames_and_the_times(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    (root / "class a").mkdir(parents=True)
    make_video(root / "class a/wide.avi", "-c:v", "mpeg4", size="192x120", frames=24)
    make_video(root / "tall.webm", "-c:v", "libvpx", size="90x160", rate="25", frames=12)
    make_video(root / "small.mp4", size="48x32", frames=6)
    (root / "broken.mp4").write_bytes(b"no video")
    (root / "notes.txt").touch()
    options = ("--root", root, "--out", out, "--short-side", "64", "--gop", "6", "--workers", "2")
    ran = run_script("datasets/reencode.py", *options)
    assert ran.returncode == 1
    assert "failed: broken.mp4: " in ran.stdout
    assert "3 of 4 videos re-encoded (0 of them before), without audio and subtitles, " in ran.stdout
    assert f"{root}: left out 1 .txt" in ran.stdout
    assert re.search(r"a 16x4 clip: \d+\.\d ms before, \d+\.\d ms after", ran.stdout)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["class a/wide.mp4", "small.mp4", "tall.mp4"]
    for name, source, shape, count in [
        ("class a/wide.mp4", "class a/wide.avi", (64, 102, 3), 24),
        ("tall.mp4", "tall.webm", (114, 64, 3), 12),
        ("small.mp4", "small.mp4", (32, 48, 3), 6),
    ]:
        with open_video(str(out / name)) as reader, open_video(str(root / source)) as before:
            assert len(reader.times) == count
            assert next(iter(reader.frames([count - 1]))).shape == shape
            table = reader._table  # type: ignore[attr-defined]
            assert np.diff([*table.keys, count]).max() <= 6
            np.testing.assert_allclose(np.diff(reader.times), np.diff(before.times), atol=2e-3)
    stamp = (out / "tall.mp4").stat().st_mtime_ns
    assert "(3 of them before)" in run_script("datasets/reencode.py", *options).stdout
    assert (out / "tall.mp4").stat().st_mtime_ns == stamp


def test_two_sources_of_one_copy_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "a.avi"):
        (tmp_path / "in" / name).touch()
    ran = run_script("datasets/reencode.py", "--root", tmp_path / "in", "--out", tmp_path / "o")
    assert ran.returncode == 2
    assert "would both become a.mp4" in ran.stderr


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0.02, 0.98), length=st.integers(1, 400), value=st.sampled_from([0, 0xFF, 0x5A]))
def test_a_damaged_source_has_no_copy_or_a_sound_one(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, where: float, length: int, value: int
) -> None:
    """ffmpeg alone conceals the damage and exits with 0; its copy decodes without an error."""
    root = tmp_path_factory.mktemp("r") / "in"
    root.mkdir()
    data = bytearray(sound.read_bytes())
    begin = int(where * len(data))
    data[begin : begin + length] = bytes([value]) * len(data[begin : begin + length])
    (root / "v.mp4").write_bytes(data)
    status, copy = make_copy(root, "v.mp4")
    assert copy.exists() == (status == "")
    assert [path.name for path in copy.parent.glob("*")] == (["v.mp4"] if status == "" else [])
    if copy.exists():
        assert worst_psnr(frames(copy), frames(root / "v.mp4")) > 30


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("plain.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv420p"]),
        ("full_range.mp4", ["-c:v", "libx264", "-pix_fmt", "yuvj420p", "-color_range", "pc"]),
        ("bt709.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv420p", *BT709]),
        ("ten_bit.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]),
        ("intra.avi", ["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"]),
        ("b_frames.avi", ["-c:v", "mpeg4", "-bf", "2", "-q:v", "2"]),
        ("stream.ts", ["-c:v", "libx264", "-pix_fmt", "yuv420p"]),
        ("film.mkv", ["-c:v", "libx264", "-pix_fmt", "yuv420p"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rate", ["25", "24000/1001"])
def test_a_copy_has_the_sources_pictures_at_the_sources_times(
    root: Path, name: str, encoding: list[str], rate: str
) -> None:
    make_video(root / name, *encoding, rate=rate, frames=14)
    status, copy = make_copy(root, name)
    assert status == ""
    assert worst_psnr(frames(copy), frames(root / name)) > 30
    with open_video(str(root / name)) as before, open_video(str(copy)) as after:
        np.testing.assert_allclose(after.times - after.times[0], before.times - before.times[0], atol=1e-4)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_rotated_source_gives_an_upright_copy(root: Path, angle: int) -> None:
    make_video(root / "plain.mp4", size="64x96", frames=4)
    ffmpeg("-i", str(root / "plain.mp4"), "-c", "copy", "-metadata:s:v:0", f"rotate={angle}", str(root / "v.mp4"))
    status, copy = make_copy(root, "v.mp4")
    assert status == ""
    assert worst_psnr(frames(copy), frames(root / "v.mp4")) > 30
    with av.open(str(copy)) as container:
        assert next(container.decode(video=0)).rotation == 0


@settings(max_examples=12, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([1, 7, 33, 34, 40, 100, 1500]), min_size=3, max_size=12),
    container=st.sampled_from(["v.mkv", "v.mp4"]),
)
def test_uneven_times_are_kept(tmp_path_factory: pytest.TempPathFactory, gaps: list[int], container: str) -> None:
    """Screen recordings have any time between two frames; a frame rate's grid would move or drop some."""
    root = tmp_path_factory.mktemp("r") / "in"
    root.mkdir()
    stamps = np.cumsum([0, *gaps]).tolist()
    with av.open(str(root / container), "w") as file:
        stream = file.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = reencode.Fraction(1, 1000)
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, reencode.Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    status, copy = make_copy(root, container)
    assert status == ""
    with open_video(str(copy)) as reader:
        np.testing.assert_allclose(reader.times - reader.times[0], np.array(stamps) / 1000, atol=1e-4)


def test_a_copy_of_other_options_or_another_source_is_encoded_again(root: Path, sound: Path) -> None:
    shutil.copy(sound, root / "v.mp4")
    assert make_copy(root, "v.mp4")[0] == ""
    status, copy = make_copy(root, "v.mp4")
    assert status == "there"
    for encoding in (reencode.Encoding(48, 6, 12), reencode.Encoding(48, 5, 12), reencode.Encoding(48, 5, 13)):
        assert make_copy(root, "v.mp4", encoding=encoding)[0] == ""
        assert make_copy(root, "v.mp4", encoding=encoding)[0] == "there"
    os.utime(root / "v.mp4", ns=(5, 5))
    assert make_copy(root, "v.mp4", encoding=encoding)[0] == ""
    copy.write_bytes(b"no video")
    assert make_copy(root, "v.mp4", encoding=encoding)[0] == ""


def test_an_earlier_copy_outlives_its_source(root: Path, sound: Path) -> None:
    shutil.copy(sound, root / "v.mp4")
    _, copy = make_copy(root, "v.mp4")
    before = copy.read_bytes()
    (root / "v.mp4").write_bytes(sound.read_bytes()[:-500])
    ran = run_script("datasets/reencode.py", "--root", root, "--out", copy.parent)
    assert ran.returncode == 1
    assert "(an earlier copy, of other options or another source, is kept)" in ran.stdout
    assert copy.read_bytes() == before


def test_a_copy_that_differs_is_not_kept(root: Path, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames lost, times moved, a copy that doesn't decode: whatever an ffmpeg does."""
    shutil.copy(sound, root / "v.mp4")
    real = reencode.command
    for changed, words in [
        (["-frames:v", "29"], "the copy has 29 frames, the source 30"),
        (["-fps_mode", "cfr", "-r", "60"], "the copy has "),
        (["-vf", "setpts=2*PTS"], "the copy's frame 29 is shown at 1.9333 s, the source's at 0.9667 s"),
        (["-bsf:v", "noise=amount=20"], "the copy: "),
    ]:
        monkeypatch.setattr(
            reencode, "command", lambda *a, add=tuple(changed), **k: [*real(*a, **k)[:-3], *add, *real(*a, **k)[-3:]]
        )
        status, copy = make_copy(root, "v.mp4")
        assert words in status
        assert list(copy.parent.iterdir()) == []


def test_audio_is_dropped_and_every_option_reaches_ffmpeg(root: Path) -> None:
    sources = ["-f", "lavfi", "-i", "mandelbrot=size=200x100", "-f", "lavfi", "-i", "sine", "-t", "0.5"]
    ffmpeg(*sources, "-c:v", "libx264", "-pix_fmt", "yuv420p", str(root / "v.mp4"))
    status, copy = make_copy(root, "v.mp4")
    assert status == ""
    with av.open(str(copy)) as container:
        assert [(stream.type, stream.height) for stream in container.streams] == [("video", 64)]
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
        assert np.diff(np.flatnonzero([*keys, True])).max() <= 6
    size = copy.stat().st_size
    make_copy(root, "v.mp4", encoding=reencode.Encoding(64, 6, 40))
    assert copy.stat().st_size < size / 2


@pytest.mark.parametrize("out", ["in", "in/deeper/out", "."])
def test_out_is_outside_root(root: Path, sound: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(sound, root / "v.mp4")
    monkeypatch.chdir(root.parent)
    ran = run_script("datasets/reencode.py", "--root", root, "--out", out)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: --out {out}: must be outside --root")
    assert sorted(path.name for path in root.parent.rglob("*")) == ["in", "v.mp4"]


def test_without_ffmpeg_it_is_one_line(root: Path, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(sound, root / "v.mp4")
    monkeypatch.setenv("PATH", "")
    ran = run_script("datasets/reencode.py", "--root", root, "--out", root.parent / "out")
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "ffmpeg: no such command; install FFmpeg" in ran.stderr


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("ffmpeg version 5.0.3 Copyright", "-vsync"),
        ("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", "-vsync"),
        ("ffmpeg version 5.1.9-0+deb12u1 Copyright", "-fps_mode"),
        ("ffmpeg version n6.0 Copyright", "-fps_mode"),
        ("ffmpeg version 10.1 Copyright", "-fps_mode"),
        ("ffmpeg version N-118048-g1e3dc705df Copyright", "-fps_mode"),
        ("ffmpeg version git-2026-01-01 Copyright", "-fps_mode"),
    ],
)
def test_the_frame_sync_option_is_the_versions(version: str, option: str) -> None:
    assert reencode.sync_option(version) == (option, "passthrough")
