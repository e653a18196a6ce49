"""Lists of the forms of the field: what is written comes back, and what isn't of a form is refused by its line."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmae_video.data import read_videos
from diffmae_video.data.list_forms import Entry, parse_list
from diffmae_video.errors import UserError

FORM = settings(max_examples=150, deadline=None)

# Names of files on Linux as users have them: anything but "/" and NUL; here with blanks, commas, quotes, digits.
LETTERS = st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0/\r\n")
WORDS = st.one_of(st.text(LETTERS, min_size=1, max_size=8), st.sampled_from([" ", ",", ";", "|", "a b", "7", '"', "#"]))
STEMS = st.lists(WORDS, min_size=1, max_size=4).map("".join).filter(lambda stem: stem.strip())
VIDEO_NAMES = st.tuples(STEMS, st.sampled_from([".mp4", ".avi", ".WEBM"])).map("".join)
LABELS = st.integers(-1, 700)
# A folder of images: no suffix, and nothing that a number could be taken from.
FOLDERS = st.from_regex(r"[a-z_]{1,6}(/[a-z_]{1,6}[0-9]{0,4}[a-z])?", fullmatch=True)


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / "l.csv"
    path.write_bytes(data.encode("utf-8", errors="surrogateescape") if isinstance(data, str) else data)
    return path


def parsed(folder: Path, data: str | bytes) -> list[Entry]:
    return parse_list(write(folder, data))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


SEGMENTS = st.one_of(
    st.none(),
    st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e4)).map(lambda s: (s[0], s[0] + s[1])).filter(lambda s: s[0] < s[1]),
)
HEADERS = st.sampled_from(
    [("path", "label"), ("Path", "Label"), ("filename", "class"), ("video_path", "TARGET"), (" file_name ", "label ")]
)


@FORM
@given(
    rows=st.lists(st.tuples(st.one_of(VIDEO_NAMES, STEMS, st.just("line\nbreak.mp4")), LABELS, SEGMENTS), min_size=1),
    header=HEADERS,
    delimiter=st.sampled_from([",", "\t", ";"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    turned=st.booleans(),
    timed=st.booleans(),
    empty=st.booleans(),
)
def test_a_csv_with_a_header_comes_back(
    folder: Path, rows: list, header: tuple[str, str], delimiter: str, line_end: str, mark: str, turned: bool,
    timed: bool, empty: bool,
) -> None:  # fmt: skip
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end)
    order = [1, 0] if turned else [0, 1]
    writer.writerow([header[i] for i in order] + (["start_seconds", "time_end"] if timed else []))
    for path, label, segment in rows:
        cells = [path, "" if empty and label == -1 else label]
        writer.writerow([cells[i] for i in order] + (list(segment or ("", "")) if timed else []))
    got = parsed(folder, mark + out.getvalue())
    assert [(e.path, e.label, e.segment) for e in got] == [(p, n, s if timed else None) for p, n, s in rows]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@FORM
@given(
    rows=st.lists(st.tuples(VIDEO_NAMES.filter(lambda n: n == n.strip()), LABELS), min_size=1),
    form=st.sampled_from(["{name}{sep}{label}", "{name}{sep}0{sep}-1", "{name}{sep}0{sep}-1{sep}{label}"]),
    sep=st.sampled_from([" ", "\t", ",", ", ", ";", " | ", "   ", "\t\t"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    quote=st.booleans(),
)
def test_headerless_lists_of_videos_come_back(
    folder: Path, rows: list, form: str, sep: str, line_end: str, mark: str, quote: bool
) -> None:
    text = "".join(
        form.format(name=quoted(name) if quote or name.startswith('"') else name, sep=sep, label=label) + line_end
        for name, label in rows
    )
    has_label = "{label}" in form
    assert [(e.path, e.label) for e in parsed(folder, mark + text)] == [(n, i if has_label else -1) for n, i in rows]


@FORM
@given(
    rows=st.lists(st.tuples(FOLDERS, st.integers(2, 9000), LABELS), min_size=1),
    form=st.sampled_from(
        ["{name} {label}", "{name} {n} {label}", "{name} 1 {n}", "{name} 0 {n}", "{name} 1 {n} {label}"]
    ),
)
def test_headerless_lists_of_image_folders_come_back(folder: Path, rows: list, form: str) -> None:
    text = "".join(form.format(name=name, n=n, label=label) + "\n" for name, n, label in rows)
    wanted = [(name, label if "{label}" in form else -1, n if "{n}" in form else -1) for name, n, label in rows]
    assert [(e.path, e.label, e.num_frames) for e in parsed(folder, text)] == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "k400/---QUuC4vJs.mp4 0 -1\nk400/b c.mp4 0 -1\n",
            [("k400/---QUuC4vJs.mp4", -1, -1), ("k400/b c.mp4", -1, -1)],
        ),
        ("sthv2/1 1 117\nsthv2/2 1 60\n", [("sthv2/1", -1, 117), ("sthv2/2", -1, 60)]),
        ("frames/1234 117 5\nframes/99 40 0\n", [("frames/1234", 5, 117), ("frames/99", 0, 40)]),
        ("frames/1 1 5\nframes/2 2 0\n", [("frames/1", 5, 1), ("frames/2", 0, 2)]),
        ("walk\t1\t117\t5\nrun,2\t1\t9\t3\n", [("walk", 5, 117), ("run,2", 3, 9)]),
        ("a.mp4 3\nfolder 4\n", [("a.mp4", 3, -1), ("folder", 4, -1)]),
        ("clip 1 2.mp4 3\n", [("clip 1 2.mp4", 3, -1)]),
        ("\n\n a.mp4  7 \n", [("a.mp4", 7, -1)]),
    ],
)
def test_forms_of_the_field(tmp_path: Path, text: str, wanted: list[tuple[str, int, int]]) -> None:
    assert [(e.path, e.label, e.num_frames) for e in parsed(tmp_path, text)] == wanted


BAD_CELLS = [
    ("a.mp4,x,,", "label 'x' must be the number"),
    ("a.mp4,-2,,", "label '-2' must be the number"),
    ("a.mp4,1.0,,", "label '1.0' must be the number"),
    ("a.mp4,1_0,,", "label '1_0' must be the number"),
    ("a.mp4,nan,,", "label 'nan' must be the number"),
    ("a.mp4,9999999999,,", "label '9999999999' must be the number"),
    (f"a.mp4,{'9' * 5000},,", "must be the number"),
    (",3,,", "the path is empty"),
    ("a.mp4,3,1.5,", "start 1.5, end empty: give both"),
    ("a.mp4,3,,2", "start empty, end 2: give both"),
    ("a.mp4,3,nan,nan", "start nan, end nan: must be finite seconds"),
    ("a.mp4,3,0,inf", "must be finite seconds"),
    ("a.mp4,3,-1,2", "0 <= start < end"),
    ("a.mp4,3,5,5", "0 <= start < end"),
    ("a.mp4,3,9,5", "0 <= start < end"),
    ("a.mp4,3,one,two", "must be seconds"),
    ("a.mp4,3", "2 cells, the header has 4"),
    ("a,b.mp4,3,,", "5 cells, the header has 4; a name with ',' in it needs quotes"),
    ('"a.mp4,3,,', "quotes must be closed"),
    ('"a"b.mp4,3,,', "quotes must be closed"),
]


@pytest.mark.parametrize(("row", "words"), BAD_CELLS)
@settings(max_examples=5, deadline=None)
@given(before=st.integers(0, 4), blank=st.booleans())
def test_a_bad_row_is_named_by_its_line(folder: Path, row: str, words: str, before: int, blank: bool) -> None:
    """Also after names that hold line breaks, and after empty lines."""
    good = '"line\nbreak.mp4",1,,\n' + ("\n" if blank else "")
    text = "path,label,start_seconds,end_seconds\n" + good * before + row + "\n"
    line = 2 + (2 + blank) * before
    with pytest.raises(UserError, match=f"l.csv:{line}: .*{re.escape(words)}") as caught:
        parsed(folder, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.mp4", "must end in an integer label"),
        ("a.mp4 x", "must end in an integer label"),
        ("a.mp4 1.5", "must end in an integer label"),
        ("a.mp4 " + "9" * 5000, "must end in an integer label"),
        ("7", "must end in an integer label"),
        ("a.mp4 -2", "label '-2' must be"),
        ("a.mp4 30 117", "parts of videos by frame numbers are not supported"),
        ("a.mp4 30 117 4", "parts of videos by frame numbers are not supported"),
        ("frames/7 40 4 1", "3 numbers after the name, line 1 has 2"),
        ("frames/7 4", "1 numbers after the name, line 1 has 2"),
        ("frames/7 0 4", "num_frames 0: must be at least 1"),
        ("frames/7 -3 4", "num_frames -3: must be at least 1"),
        ("a.mp4,,4", "an empty column"),
        ('"a b.mp4 4', "must be in quotes as a whole"),
        ('"a" b.mp4 4', "must be in quotes as a whole"),
    ],
)
def test_a_bad_headerless_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(UserError, match=f"l.csv:3: .*{re.escape(words)}"):
        parsed(tmp_path, f"frames/1 30 1\nframes/2 40 4\n{line}\nframes/3 4 4\n")


PIECES = ["a.mp4 3", "f 2 3", ",", '"', " ", "\n", "\r", "\t", "path,label", "nan", "-1", "5,", "é"]


@FORM
@given(text=st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_any_text_is_used_line_by_line_or_refused(folder: Path, text: str) -> None:
    """No other exception, and of a headerless list no line is lost."""
    try:
        entries = parsed(folder, text)
    except UserError:
        return
    if not re.match(r"\s*path,label", text):
        lines = [number for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line.strip()]
        assert [entry.line for entry in entries] == lines


def test_starts_other_than_a_folders_first_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"l.csv:2: .*start 30: must be 0 or 1"):
        parsed(tmp_path, "frames/1 1 117 5\nframes/2 30 20 5\n")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("path,label,split", "column 'split' is unknown"),
        ("path,label,path", "column 'path' is given twice; keep one"),
        ("path,label,start_seconds", "segments need both"),
        ("label,youtube_id,time_start,time_end,split", "convert it with datasets/kinetics.py"),
        ("video label", "must end in an integer label"),
    ],
)
def test_a_header_of_other_columns_is_refused(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(UserError, match=f"l.csv:1: .*{words}|l.csv:1: {words}"):
        parsed(tmp_path, header + "\na.mp4,1,2\n")


def test_text_of_another_encoding_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be text in UTF-8"):
        parsed(tmp_path, "a.mp4 3\n".encode("utf-16"))


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    write(tmp_path, b"caf\xe9.mp4 3\n")
    videos = read_videos(tmp_path / "l.csv", root=tmp_path)
    assert videos.path(0).encode("utf-8", "surrogateescape").endswith(b"caf\xe9.mp4")


def test_a_lists_number_of_images_comes_along(tmp_path: Path) -> None:
    videos = read_videos(write(tmp_path, "frames/1 117 5\nframes/2 40 0\na.mp4 3\n"))
    assert videos.num_frames is not None
    assert videos.num_frames.tolist() == [117, 40, -1]
    subset = videos.subset([1]).num_frames
    assert subset is not None
    assert subset.tolist() == [40]
    assert read_videos(write(tmp_path, "a.mp4 3\n")).num_frames is None
