"""The command that scans a collection into a manifest."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import TestViews, VideoList, open_video, read_videos, scan
from diffmae_video.data.decoding.base import DecodeError
from diffmae_video.data.manifest import Health, Manifest, read_manifest
from tests.data.helpers import Ran, make_video, run_script

VideoMaker = Callable[..., Path]


def _caused(cause: Exception) -> DecodeError:
    """A DecodeError as the readers raise it."""
    error = DecodeError("v", "why")
    error.__cause__ = cause
    return error


@pytest.fixture
def collection(tmp_path: Path, video: VideoMaker) -> Path:
    root = tmp_path / "videos"
    root.mkdir()
    shutil.copy(video("v.mp4"), root / "good, one.mp4")
    shutil.copy(video("v.webm", "-c:v", "libvpx", size="80x60", rate="25", frames=20), root / "other.webm")
    (root / "empty.mp4").touch()
    (root / "cut.mp4").write_bytes(video("v.mp4").read_bytes()[:-300])
    lines = ['"good, one.mp4",0', "other.webm,1", "empty.mp4,0", "cut.mp4,0", "gone.mp4,1"]
    (tmp_path / "train.csv").write_text("path,label\n" + "".join(f"{line}\n" for line in lines))
    return tmp_path


def command(collection: Path, *more: str) -> Ran:
    return run_script(
        "tools/scan_videos.py", "--list", collection / "train.csv", "--root", collection / "videos",
        "--manifest", collection / "m.csv", "--workers", "2", *more,
    )  # fmt: skip


def rows(collection: Path) -> dict[str, Health]:
    """The latest row of each name."""
    return {row.path: row for row in read_manifest(collection / "m.csv")}


def test_scan_says_what_is_fit(collection: Path) -> None:
    ran = command(collection)
    assert ran.returncode == 1, ran.stderr
    assert "0 of 5 videos are up to date in" in ran.stdout
    assert "2 of 5 videos are fit to use" in ran.stdout
    found = rows(collection)
    good, other = found["good, one.mp4"], found["other.webm"]
    assert (good.status, good.frames, good.fps, good.width, good.height, good.codec) == ("ok", 40, 30.0, 64, 48, "h264")
    assert good.duration_seconds == pytest.approx(40 / 30, abs=1e-3)
    stat = (collection / "videos/good, one.mp4").stat()
    assert (good.bytes, good.mtime_ns, good.depth) == (stat.st_size, stat.st_mtime_ns, "full")
    assert (other.frames, other.width, other.height, other.codec) == (20, 80, 60, "vp8")
    assert (found["empty.mp4"].status, found["empty.mp4"].reason) == ("bad", "empty file")
    assert (found["gone.mp4"].status, found["gone.mp4"].reason) == ("unread", "no such file")
    assert found["cut.mp4"].status == "bad"


def test_scan_goes_on_where_it_was(collection: Path) -> None:
    """Valid rows are kept, and a row that was cut short is written again."""
    assert command(collection).returncode == 1
    lines = (collection / "m.csv").read_text().splitlines(keepends=True)
    lines = [lines[0], *sorted(lines[1:], key=lambda line: line.startswith("cut.mp4"))]
    marked = [line.replace("h264", "marked") for line in lines]
    (collection / "m.csv").write_text("".join(marked[:-1]) + marked[-1][:5])
    ran = command(collection)
    assert ran.returncode == 1
    assert "3 of 5 videos are up to date in" in ran.stdout  # the missing one is tried again, its row not repeated
    again = (collection / "m.csv").read_text().splitlines(keepends=True)
    assert again == [*marked[:-1], lines[-1]]


def test_a_wrong_root_does_not_outlive_its_scan(collection: Path) -> None:
    wrong = run_script(
        "tools/scan_videos.py", "--list", collection / "train.csv", "--root", collection / "vidoes",
        "--manifest", collection / "m.csv", "--workers", "1",
    )  # fmt: skip
    assert wrong.returncode == 2
    example = collection / "vidoes" / "good, one.mp4"
    assert wrong.stderr.endswith(f"error: none of the 5 videos exists, such as {example}; check --root\n")
    assert "2 of 5 videos are fit to use" in command(collection).stdout
    assert kept(collection) == ["good, one.mp4", "other.webm"]


def test_a_repaired_file_is_examined_again(collection: Path) -> None:
    command(collection)
    shutil.copy(collection / "videos/good, one.mp4", collection / "videos/cut.mp4")
    shutil.copy(collection / "videos/other.webm", collection / "videos/gone.mp4")
    assert kept(collection) == ["cut.mp4", "gone.mp4", "good, one.mp4", "other.webm"]
    ran = command(collection)
    assert "3 of 5 videos are up to date in" in ran.stdout
    assert "4 of 5 videos are fit to use" in ran.stdout
    (collection / "videos/good, one.mp4").write_bytes(b"damaged since")
    assert "3 of 5 videos are fit to use" in command(collection).stdout


def test_a_quick_scan_does_not_stand_for_a_full_one(collection: Path) -> None:
    """Damage in the middle is seen by the full scan only; what a full scan found stands for a quick one."""
    make_video(collection / "videos/cut.mp4", "-c:v", "libx264", "-g", "5")
    whole = (collection / "videos/cut.mp4").read_bytes()
    middle = len(whole) // 2
    (collection / "videos/cut.mp4").write_bytes(whole[: middle - 200] + bytes(400) + whole[middle + 200 :])
    assert "3 of 5 videos are fit to use" in command(collection, "--quick").stdout
    full = command(collection)
    assert "1 of 5 videos are up to date in" in full.stdout  # the empty one
    assert "2 of 5 videos are fit to use" in full.stdout
    again = command(collection, "--quick")
    assert "4 of 5 videos are up to date in" in again.stdout
    assert "2 of 5 videos are fit to use" in again.stdout


def test_the_bar_counts_this_list(collection: Path) -> None:
    """A manifest of two lists, and a video with two segments, which is one file."""
    command(collection)
    (collection / "second.csv").write_text(
        "path,label,start_seconds,end_seconds\nother.webm,0,0,0.2\nother.webm,0,0.2,0.4\nnew.webm,1,,\n"
    )
    shutil.copy(collection / "videos/other.webm", collection / "videos/new.webm")
    ran = run_script(
        "tools/scan_videos.py", "--list", collection / "second.csv", "--root", collection / "videos",
        "--manifest", collection / "m.csv", "--workers", "1",
    )  # fmt: skip
    assert ran.returncode == 0
    assert "1 of 2 videos are up to date in" in ran.stdout
    assert "2 of 2 videos are fit to use" in ran.stdout
    assert re.search(r"100%\|#+\| 2/2 \[", ran.stderr)


def kept(collection: Path) -> list[str]:
    videos = read_videos(collection / "train.csv", root=collection / "videos", manifest=collection / "m.csv")
    return sorted(videos.name(i) for i in range(len(videos)))


def test_training_says_what_the_manifest_leaves_out(collection: Path) -> None:
    command(collection)
    videos = read_videos(collection / "train.csv", root=collection / "videos", manifest=collection / "m.csv")
    assert sorted(videos.name(i) for i in range(len(videos))) == ["good, one.mp4", "other.webm"]
    (note,) = videos.notes
    assert note.startswith(f"{collection / 'm.csv'}: 3 of 5 videos left out (")
    assert "1 x empty file" in note
    assert "1 x missing, or not readable" in note


def test_a_crash_of_the_reader_is_one_unread_video(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "examine", _crash_on_other)
    videos = read_videos(collection / "train.csv", root=collection / "videos")
    done, left = scan.plan(videos, Manifest([]), depth="quick")
    assert not done
    found = {
        row.path: (row.status, row.reason)
        for row in scan.examine_all(left, depth="quick", num_workers=2, timeout_seconds=10)
    }
    assert found == {name: ("unread", "reader crashed") if name == "other.webm" else ("ok", "") for name in left}
    assert len(found) == 5


def _crash_on_other(path: str, *, name: str, depth: str, timeout_seconds: float) -> Health:
    if name == "other.webm":
        os._exit(1)
    return Health(name, "ok", "", depth, 9, 9)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MemoryError(), "unread", "out of memory"),
        (PermissionError(13, "Permission denied"), "unread", "cannot be opened (Permission denied)"),
        (OSError(24, "Too many open files"), "unread", "cannot be opened (Too many open files)"),
        (DecodeError("v", "timed out"), "unread", "timed out"),
        (DecodeError("v", "a frame is damaged"), "bad", "a frame is damaged"),
        (_caused(PermissionError(13, "Permission denied")), "unread", "why"),
        (_caused(MemoryError()), "unread", "why"),
        (_caused(OSError(5, "Input/output error")), "unread", "why"),
        (_caused(OSError(40, "Too many levels of symbolic links")), "bad", "why"),
    ],
    ids=str,
)
def test_the_files_faults_are_told_from_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str, reason: str
) -> None:
    """What another machine or another try may read is looked at again."""
    (tmp_path / "v.mp4").write_bytes(b"content")

    def read(path: str, depth: str, timeout_seconds: float) -> dict[str, object]:
        raise error

    monkeypatch.setattr(scan, "_read", read)
    row = scan.examine(str(tmp_path / "v.mp4"), name="v.mp4", depth="full", timeout_seconds=10)
    assert (row.status, row.reason) == (status, reason)
    looked_up = Manifest([row]).examined("v.mp4", str(tmp_path / "v.mp4"), depth="full")
    assert (looked_up is None) == (status == "unread")
    assert Manifest([row]).fault("v.mp4", str(tmp_path / "v.mp4")) == reason  # training leaves it out either way


def test_a_fault_of_ours_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.mp4").write_bytes(b"content")
    monkeypatch.setattr(scan, "_read", lambda *_: [][0])
    with pytest.raises(IndexError):
        scan.examine(str(tmp_path / "v.mp4"), name="v.mp4", depth="full", timeout_seconds=10)


@pytest.mark.parametrize(
    "arguments", [("--workers", "0"), ("--workers", "two"), ("--timeout", "nan"), ("--timeout", "0")]
)
def test_numbers_have_bounds(collection: Path, arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command(collection, *arguments)
    assert caught.value.code == 2


def test_a_full_disk_is_one_line_and_loses_nothing(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(collection)
    before = (collection / "m.csv").read_bytes()
    shutil.copy(collection / "videos/other.webm", collection / "videos/gone.mp4")
    real = os.write

    def write(file: int, data: bytes) -> int:
        if data.startswith(b"gone.mp4"):
            return real(file, data[:4])
        if data.startswith(b".mp4"):
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    ran = command(collection)
    assert ran.returncode == 2
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(f"error: {collection / 'm.csv'}: No space left on device; the rows so far are kept")
    monkeypatch.undo()
    assert (collection / "m.csv").read_bytes() == before + b"gone"
    assert "3 of 5 videos are fit to use" in command(collection).stdout
    assert (collection / "m.csv").read_bytes().startswith(before)


def test_a_wrong_list_is_one_line_and_exit_code_2(collection: Path) -> None:
    (collection / "train.csv").write_text("path,label\n")
    ran = command(collection)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1


def test_examining_a_folder_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    make_video(folder / "img_%05d.jpg", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", frames=5)
    row = scan.examine(str(folder), name="42", depth="full", timeout_seconds=10)
    assert (row.status, row.frames, row.width, row.height) == ("ok", 5, 64, 48)
    videos = VideoList.of(["42"], [0], root=str(tmp_path))
    with open_video(videos.path(0)) as reader, open_video(str(folder / "img_00003.jpg")) as third:
        np.testing.assert_array_equal(next(iter(reader.frames([2]))), next(iter(third.frames([0]))))


def test_the_list_is_held_to_the_files(tmp_path: Path, video: VideoMaker) -> None:
    """Folders with fewer images than listed, and segments after the end, are faults of the list."""
    for name in ("fewer", "as_listed", "more"):
        (tmp_path / name).mkdir()
        make_video(tmp_path / name / "img_%05d.jpg", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", frames=5)
    (tmp_path / "l.txt").write_text("fewer 6 0\nas_listed 5 1\nmore 4 0\n")
    arguments = ("--root", tmp_path, "--manifest", tmp_path / "m.csv", "--workers", "1")
    ran = run_script("tools/scan_videos.py", "--list", tmp_path / "l.txt", *arguments)
    assert ran.returncode == 1
    assert "1 not as the list says: fewer: 5 of 6 listed images\n" in ran.stdout
    assert "1 more images than listed, the first are used: more: 5 images, 4 listed\n" in ran.stdout
    shutil.copy(video("v.mp4"), tmp_path / "v.mp4")
    for start, code in (("1.3", 0), ("1.34", 1)):
        (tmp_path / "l.csv").write_text(f"path,label,start_seconds,end_seconds\nv.mp4,0,{start},9\n")
        ran = run_script("tools/scan_videos.py", "--list", tmp_path / "l.csv", *arguments)
        assert ran.returncode == code
        assert ("1 not as the list says: v.mp4: ends at 1.333 s, its segment starts at 1.34 s" in ran.stdout) == bool(
            code
        )


def test_training_and_tests_hold_folders_to_the_listed_number_of_images(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    make_video(tmp_path / "v/img_%05d.jpg", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", frames=5)
    for listed, error in ((4, ""), (5, ""), (6, "5 of 6 listed images")):
        (tmp_path / "l.txt").write_text(f"v {listed} 0\n")
        videos = read_videos(tmp_path / "l.txt", root=tmp_path)
        views = TestViews(videos, num_frames=2, stride_frames=1, fps=0, crop_size=32)
        assert views[0]["error"] == error
