"""A manifest's rows hold for the files that were examined, and for no others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmae_video.data import VideoList, read_videos
from diffmae_video.data.manifest import (
    COLUMNS,
    Health,
    Manifest,
    ManifestWriter,
    fingerprint,
    read_manifest,
    whole_length,
    without_faulty,
)
from diffmae_video.errors import UserError


def row(path: Path, name: str, status: str = "ok", *, reason: str = "", depth: str = "full") -> Health:
    size, mtime_ns = fingerprint(str(path)) or (0, 0)
    return Health(name, status, reason, depth, size, mtime_ns)


def write(path: Path, *rows: Health) -> Path:
    with ManifestWriter(path) as manifest:
        for each in rows:
            manifest.add(each)
    return path


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
ROWS = st.builds(
    Health,
    NAMES,
    st.sampled_from(["ok", "bad", "unread"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    st.sampled_from(["quick", "full"]),
    *[st.integers(0, 2**62)] * 3,
    st.floats(0, 1e6),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, max_size=5), more=st.lists(ROWS, min_size=1, max_size=2), cut=st.integers(0, 400))
def test_rows_come_back_and_an_interruption_costs_the_last(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Health], more: list[Health], cut: int
) -> None:
    """Cut anywhere, what is left are the first rows; going on adds to them and loses none."""
    path = tmp_path_factory.mktemp("m") / "m.csv"
    assert read_manifest(write(path, *rows)) == rows
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    before = path.read_bytes()
    left = read_manifest(path)
    assert path.read_bytes() == before  # reading doesn't write
    assert left == rows[: len(left)]
    assert len(left) >= len(rows) - 1 - cut
    assert read_manifest(write(path, *more)) == [*left, *more]


def test_a_row_ends_where_quotes_are_paired() -> None:
    whole = 'a,b\n"x\ny",1\n'
    for end in range(len(whole) + 1):
        assert whole_length(whole[:end]) == (len(whole) if end == len(whole) else 4 if end >= 4 else 0)


def test_two_roots_of_one_manifest_do_not_mix(tmp_path: Path) -> None:
    """The same names, other files: each root has its own rows; a copy that keeps times has the original's."""
    for root in "ab":
        (tmp_path / root).mkdir()
        (tmp_path / root / "v.mp4").write_text(f"content of {root}" * (1 + (root == "b")))
    manifest = Manifest(
        [row(tmp_path / "a/v.mp4", "v.mp4", "bad", reason="damaged"), row(tmp_path / "b/v.mp4", "v.mp4", "ok")]
    )
    assert manifest.fault("v.mp4", str(tmp_path / "a/v.mp4")) == "damaged"
    assert manifest.fault("v.mp4", str(tmp_path / "b/v.mp4")) == ""
    assert getattr(manifest.examined("v.mp4", str(tmp_path / "b/v.mp4"), depth="full"), "status", None) == "ok"
    (tmp_path / "c").mkdir()
    (tmp_path / "c/v.mp4").write_bytes((tmp_path / "a/v.mp4").read_bytes())
    assert manifest.fault("v.mp4", str(tmp_path / "c/v.mp4")) is None
    times = (tmp_path / "a/v.mp4").stat()
    os.utime(tmp_path / "c/v.mp4", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert manifest.fault("v.mp4", str(tmp_path / "c/v.mp4")) == "damaged"


@pytest.mark.parametrize(
    ("status", "depth", "wanted", "spared"),
    [
        ("ok", "full", "full", True),
        ("ok", "full", "quick", True),
        ("ok", "quick", "quick", True),
        ("ok", "quick", "full", False),
        ("bad", "quick", "full", True),
        ("bad", "full", "quick", True),
        ("unread", "full", "full", False),
        ("unread", "full", "quick", False),
    ],
)
def test_which_rows_spare_a_look(tmp_path: Path, status: str, depth: str, wanted: str, spared: bool) -> None:
    (tmp_path / "v").write_text("x")
    manifest = Manifest([row(tmp_path / "v", "v", status, depth=depth)])
    assert (manifest.examined("v", str(tmp_path / "v"), depth=wanted) is not None) == spared
    os.utime(tmp_path / "v", ns=(1, 1))
    assert manifest.examined("v", str(tmp_path / "v"), depth=wanted) is None
    (tmp_path / "v").unlink()
    assert manifest.examined("v", str(tmp_path / "v"), depth=wanted) is None


def test_a_replaced_image_changes_its_folder(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/1.jpg").write_text("one")
    before, folder = fingerprint(str(tmp_path / "v")), os.stat(tmp_path / "v")
    (tmp_path / "v/1.jpg").write_text("One")
    os.utime(tmp_path / "v/1.jpg", ns=(2**60 * 2, 2**60 * 2))
    assert os.stat(tmp_path / "v").st_mtime_ns == folder.st_mtime_ns
    assert fingerprint(str(tmp_path / "v")) != before


def test_what_training_leaves_out_and_why(tmp_path: Path) -> None:
    rows = []
    for name, status in [("ok", "ok"), ("bad", "bad"), ("slow", "unread"), ("changed", "bad"), ("removed", "ok")]:
        (tmp_path / name).write_text(name)
        rows.append(
            row(tmp_path / name, name, status, reason={"bad": "damaged", "unread": "timed out"}.get(status, ""))
        )
    rows.append(Health("missing", "unread", "no such file", "full", 0, 0))
    rows.append(Health("arrived", "unread", "no such file", "full", 0, 0))
    (tmp_path / "changed").write_text("another content")
    (tmp_path / "removed").unlink()
    (tmp_path / "arrived").touch()
    names = ["ok", "bad", "slow", "changed", "removed", "missing", "arrived", "new"]
    videos = VideoList.of(names, range(len(names)), root=str(tmp_path))
    wrap_or_clamp = without_faulty(videos, write(tmp_path / "m.csv", *rows))
    assert [wrap_or_clamp.name(i) for i in range(len(wrap_or_clamp))] == ["ok", "changed", "removed", "arrived", "new"]
    assert wrap_or_clamp.labels.tolist() == [0, 3, 4, 6, 7]
    assert wrap_or_clamp.notes == (
        f"{tmp_path / 'm.csv'}: 3 of 8 videos left out (1 x damaged, 1 x timed out, 1 x missing, or not readable); "
        "2 faulty ones have changed since and are used; 1 were never scanned and are used",
    )


def test_nothing_left_names_a_file_that_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label\na.mp4,0\n")
    manifest = write(tmp_path / "m.csv", Health("a.mp4", "unread", "no such file", "full", 0, 0))
    with pytest.raises(UserError, match=r"1 of 1 videos left out .*; the first is videos/a.mp4: check the root, or"):
        read_videos(tmp_path / "l.csv", root="videos", manifest=manifest)


GOOD = Health("a.mp4", "ok", "", "full", 3, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "path,status,reason\na.mp4,ok,\n",
            "m.csv:1: must be the columns path,status,.*delete the file and scan again",
        ),
        ("path,label\na.mp4,0\n", "m.csv: not a manifest of tools/scan_videos.py; give another file$"),
        ("a.mp4 0\n", "m.csv: not a manifest"),
        (",".join(COLUMNS) + "\na.mp4,ok,\n", "m.csv:2: not a row of a manifest"),
        (",".join(COLUMNS) + "\na.mp4,fine,,full,3,4,0,0.0,0,0,,0.0\n", "m.csv:2: not a row of a manifest"),
        (",".join(COLUMNS) + "\na.mp4,ok,,half,3,4,0,0.0,0,0,,0.0\n", "m.csv:2: not a row of a manifest"),
        (",".join(COLUMNS) + "\na.mp4,ok,,full,x,4,0,0.0,0,0,,0.0\n", "m.csv:2: not a row of a manifest"),
    ],
)
def test_another_file_is_neither_read_nor_touched(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    for use in (lambda: read_manifest(tmp_path / "m.csv"), lambda: write(tmp_path / "m.csv", GOOD)):
        with pytest.raises(UserError, match=words):
            use()
    assert (tmp_path / "m.csv").read_text() == text


def test_later_rows_of_a_file_replace_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("x")
    quick = row(tmp_path / "v", "v", depth="quick")
    manifest = Manifest([quick, replace(quick, depth="full", status="bad", reason="damaged")])
    assert manifest.fault("v", str(tmp_path / "v")) == "damaged"
