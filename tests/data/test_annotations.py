"""Lists as we write them and as other projects do."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import VideoList, read_videos
from diffmae_video.data.annotations import NUM_CLASSES
from diffmae_video.data.video_list import mirrored_name, with_flip_labels
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


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_folder_of_classes_says_what_it_leaves_out(tmp_path: Path) -> None:
    fill(
        tmp_path / "videos",
        "run/b.mp4", "run/a.MP4", "jump high/deep/c.avi", "jump high/notes.txt", ".hidden/d.mp4", "run/._a.MP4",
        "__MACOSX/run/a.MP4", "README", "run/e.mts", "Thumbs.txt", "empty/notes.txt",
    )  # fmt: skip
    videos = read_videos(tmp_path / "videos", dataset="folder")
    assert videos.classes == ("jump high", "run")
    assert entries(videos) == [("jump high/deep/c.avi", 0), ("run/a.MP4", 1), ("run/b.mp4", 1)]
    assert videos.path(1) == str(tmp_path / "videos/run/a.MP4")
    left_out, empty = videos.notes
    assert left_out.endswith("left out 3 .txt, 3 hidden, 1 .mts, 1 no suffix")
    assert empty.endswith("1 folders without such files are no classes (empty)")


def test_a_folder_of_classes_alone_has_no_notes(tmp_path: Path) -> None:
    assert read_videos(fill(tmp_path / "v", "run/a.mp4"), dataset="folder").notes == ()


def test_videos_beside_class_folders_are_refused(tmp_path: Path) -> None:
    """They have no class; taking the others only would lose them without a word."""
    fill(tmp_path, "run/a.mp4", "b.mp4", "c.mp4")
    with pytest.raises(UserError, match=r"2 files \(b.mp4, ...\) lie beside class folders \(run, ...\); move them"):
        read_videos(tmp_path, dataset="folder")


def test_a_folder_without_videos_says_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path, "run/1/img_1.jpg", "run/1/img_2.jpg")
    with pytest.raises(UserError, match=r"no files of .mp4, .*\(2 .jpg\); dataset=images takes the other kind"):
        read_videos(tmp_path, dataset="folder")


def test_folders_are_walked_once_whatever_their_links(tmp_path: Path) -> None:
    fill(tmp_path / "v", "run/a.mp4")
    (tmp_path / "v/run/again").symlink_to(tmp_path / "v/run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.mp4").touch()
    (tmp_path / "v/sit").symlink_to(tmp_path / "elsewhere")
    assert entries(read_videos(tmp_path / "v", dataset="folder")) == [("run/a.mp4", 0), ("sit/b.mp4", 1)]


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "run/a.mp4", "sit/b.mp4")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("sit"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="sit"):
        read_videos(tmp_path, dataset="folder")


def test_folder_of_images_without_classes(tmp_path: Path) -> None:
    videos = read_videos(fill(tmp_path, "b.jpg", "a.png", "c.txt"), dataset="images")
    assert entries(videos) == [("a.png", -1), ("b.jpg", -1)]
    assert videos.classes == ()


@pytest.mark.parametrize(
    ("text", "classes", "dataset", "words"),
    [
        ("path,label\na.mp4,2\n", "a\nb\n", "list", r"l.csv:2: 'a.mp4': label 2 must be -1 for none, or 0\.\.1"),
        ("path,label\na.mp4,101\n", None, "ucf101", r"l.csv:2: .*label 101 must be .*0\.\.100"),
        ("a.mp4 0\n\nb.mp4 2\n", "a\nb\n", "list", r"l.csv:3: 'b.mp4': label 2 must be"),
        ("a.mp4 0\n", "".join(f"{i}\n" for i in range(175)), "ssv2", "has 175 classes, ssv2 has 174; set"),
        ("a.mp4 0\n", "a\n\nb\n", "list", "classes.txt:2: '': an empty line"),
        ("a.mp4 0\n", "a\nb\na\n", "list", "classes.txt:3: 'a': is line 1, too"),
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


def test_classes_in_another_encoding_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("a.mp4 0\n")
    (tmp_path / "classes.txt").write_bytes("é\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes.txt: must be text in UTF-8"):
        read_videos(tmp_path / "l.csv")


def test_classes_keep_their_names_with_a_byte_order_mark_and_dos_lines(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("a.mp4 0\n")
    (tmp_path / "classes.txt").write_bytes("\ufeffrun\r\nsit\r\n".encode())
    assert read_videos(tmp_path / "l.csv").classes == ("run", "sit")


@pytest.mark.parametrize("dataset", sorted(NUM_CLASSES))
def test_a_part_of_a_collection_keeps_its_rules(tmp_path: Path, dataset: str) -> None:
    """Half of SSv2's classes are still SSv2's: mirroring stays off, and that there are fewer is said."""
    (tmp_path / "l.csv").write_text("path,label\na.webm,1\n")
    (tmp_path / "classes.txt").write_text("Doing this\nPulling something from left to right\n")
    videos = read_videos(tmp_path / "l.csv", dataset=dataset)
    assert videos.flip_allowed == (dataset != "ssv2")
    assert videos.notes == (f"{tmp_path / 'classes.txt'}: 2 of {dataset}'s {NUM_CLASSES[dataset]} classes",)


@pytest.mark.parametrize(
    ("classes", "allowed"),
    [
        (("Pulling left to right", "Pulling right to left"), False),
        (("up", "down_left", "down_right"), False),
        (("left", "right"), False),
        (("Pulling left to right", "Sitting"), True),
        (("bright", "cleft", "run"), True),
    ],
)
@pytest.mark.parametrize("form", ["list", "folder"])
def test_classes_that_mirror_each_other_are_not_mirrored(
    tmp_path: Path, classes: tuple[str, ...], allowed: bool, form: str
) -> None:
    """SSv2's classes in a list of one's own would otherwise be mirrored into one another."""
    (tmp_path / "l.csv").write_text("a.mp4 0\n")
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    fill(tmp_path / "v", *(f"{name}/a.mp4" for name in classes))
    videos = read_videos(tmp_path / ("l.csv" if form == "list" else "v"), dataset=form)
    assert videos.flip_allowed == allowed


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
    assert mirrored_name("up_left (LEFT), cleft") == "up_right (RIGHT), cleft"


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
