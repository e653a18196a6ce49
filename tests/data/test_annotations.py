"""Lists as we write them and as other projects do."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import VideoList, read_videos
from diffmae_video.data.videos import mirrored_name, with_flip_labels
from diffmae_video.errors import UserError

NAMES = [
    "a b/clip one.mp4",
    'with,comma "q".mp4',
    "новый/видео.mp4",
    "line\nbreak.mp4",
    "x\u2028y.mp4",
    "semi;colon.mp4",
]


def entries(videos: VideoList) -> list[tuple[str, int]]:
    return [(videos.name(i), int(videos.labels[i])) for i in range(len(videos))]


def test_our_list_with_awkward_names(tmp_path: Path) -> None:
    import csv

    with open(tmp_path / "train.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label"), *((n, i % 2) for i, n in enumerate(NAMES))])
    (tmp_path / "classes.txt").write_text("zero\none\n")
    videos = read_videos(tmp_path / "train.csv", root="/videos")
    assert entries(videos) == [(n, i % 2) for i, n in enumerate(NAMES)]
    assert videos.classes == ("zero", "one")
    assert videos.path(0) == "/videos/a b/clip one.mp4"
    assert videos.segment(0) is None
    assert videos.flip_allowed


def test_our_list_with_segments(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label,start_seconds,end_seconds\na.mp4,0,1.5,11.5\nb.mp4,-1,,\n")
    videos = read_videos(tmp_path / "l.csv")
    assert videos.segment(0) == (1.5, 11.5)
    assert videos.segment(1) is None
    assert videos.subset([1, 0]).segment(1) == (1.5, 11.5)


@pytest.mark.parametrize("separator", [" ", ",", "\t", ";", ", "])
def test_headerless_lists(tmp_path: Path, separator: str) -> None:
    (tmp_path / "l.txt").write_text(f"a b/c 1.mp4{separator}3\nd.mp4{separator}-1\n\n", encoding="utf-8")
    assert entries(read_videos(tmp_path / "l.txt")) == [("a b/c 1.mp4", 3), ("d.mp4", -1)]


def test_lists_of_frame_folders(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("frames/1234 117 5\nframes/99 40 0\n")
    assert entries(read_videos(tmp_path / "l.txt")) == [("frames/1234", 5), ("frames/99", 0)]


def test_folder_of_classes(tmp_path: Path) -> None:
    for name in ["run/b.mp4", "run/a.MP4", "jump high/deep/c.avi", "jump high/notes.txt", ".hidden/d.mp4"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    videos = read_videos(tmp_path, dataset="folder")
    assert videos.classes == ("jump high", "run")
    assert entries(videos) == [("jump high/deep/c.avi", 0), ("run/a.MP4", 1), ("run/b.mp4", 1)]
    assert videos.path(1) == str(tmp_path / "run/a.MP4")


def test_folder_of_images_without_classes(tmp_path: Path) -> None:
    for name in ["b.jpg", "a.png", "c.txt"]:
        (tmp_path / name).touch()
    videos = read_videos(tmp_path, dataset="images")
    assert entries(videos) == [("a.png", -1), ("b.jpg", -1)]
    assert videos.classes == ()


@pytest.mark.parametrize(
    ("text", "classes", "dataset", "words"),
    [
        ("path,label\na.mp4,x\n", None, "list", "l.csv:2.*is not path,label"),
        ("path,label\na.mp4,2\n", "a\nb\n", "list", r"label 2 must be -1 for none, or 0\.\.1"),
        ("path,label\na.mp4,-2\n", None, "list", "label -2 must be -1 for none"),
        ("path,label\na.mp4,101\n", None, "ucf101", r"label 101 must be .*0\.\.100"),
        ("path,label\na.mp4,0\n", "a\nb\n", "ssv2", "has 2 classes, ssv2 has 174; data.dataset=list takes any number"),
        ("a.mp4\n", None, "list", "l.csv:1.*does not end in an integer label"),
        ("", None, "list", "no videos; see datasets/README.md"),
        ("path,label\na.mp4,0\n", None, "imagenet", "dataset='imagenet': must be one of"),
    ],
)
def test_wrong_lists(tmp_path: Path, text: str, classes: str | None, dataset: str, words: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(UserError, match=words) as caught:
        read_videos(tmp_path / "l.csv", dataset=dataset)
    assert "\n" not in str(caught.value)


def test_a_manifest_leaves_bad_videos_out(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label\na.mp4,0\nb.mp4,1\nc.mp4,2\n")
    (tmp_path / "m.csv").write_text("path,status,reason\na.mp4,ok,\nb.mp4,bad,empty file\n")
    assert entries(read_videos(tmp_path / "l.csv", manifest=tmp_path / "m.csv")) == [("a.mp4", 0), ("c.mp4", 2)]


def test_ssv2_never_flips_without_exchanged_labels(tmp_path: Path) -> None:
    names = [f"Doing thing {i}" for i in range(172)] + ["Pulling left to right", "Pulling right to left"]
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    (tmp_path / "l.csv").write_text("path,label\na.webm,172\n")
    videos = read_videos(tmp_path / "l.csv", dataset="ssv2")
    assert not videos.flip_allowed
    swapped = with_flip_labels(videos)
    assert swapped.flip_allowed
    assert swapped.flip_labels is not None
    assert swapped.flip_labels.tolist() == [*range(172), 173, 172]
    assert mirrored_name("Turning right not left") == "Turning left not right"


def test_reordering_is_by_name() -> None:
    videos = VideoList.of(["a", "b", "c"], [0, 1, -1], classes=("run", "jump"))
    moved = videos.reordered(("jump", "sit", "run"))
    assert moved.labels.tolist() == [2, 0, -1]
    assert [moved.classes[i] for i in moved.labels[:2]] == ["run", "jump"]
    with pytest.raises(UserError, match="'run' is not among"):
        videos.reordered(("jump",))


def test_a_million_videos_are_a_handful_of_objects() -> None:
    videos = VideoList.of([f"class/{i:07d}.mp4" for i in range(100_000)], [0] * 100_000)
    assert len(pickle.dumps(videos)) < 100_000 * (17 + 8 + 8) + 2000
    assert all(isinstance(v, (bytes, np.ndarray, str, tuple, bool, type(None))) for v in vars(videos).values())
    assert videos.name(99_999) == "class/0099999.mp4"
