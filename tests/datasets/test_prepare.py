"""Official annotation files to lists that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffmae_video.data import TrainClips, VideoList, read_videos
from tests.data.helpers import Ran, make_video, run_script


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def entries(videos: VideoList) -> list[tuple[str, str]]:
    return [(videos.name(i), videos.classes[videos.labels[i]]) for i in range(len(videos))]


def test_kinetics(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    (tmp_path / "train.csv").write_text(
        header + "zumba,-abcDEF_123,10,20,train,0\n" + 'abseiling,AAA,0,10,train,0\n"rock, scissors",BBB,5,15,train,0\n'
    )
    (tmp_path / "val.csv").write_text(header + "abseiling,CCC,1,11,val,0\nzumba,GONE,1,11,val,0\n")
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\nDDD,2,12,test\n")
    root = touch(
        tmp_path / "videos",
        "train/zumba/-abcDEF_123_000010_000020.mp4", "train/abseiling/AAA_000000_000010.mkv", "whole/BBB.mp4",
        "train/abseiling/CCC_000001_000011.mp4", "val/abseiling/CCC_000001_000011.mp4", "test/DDD_000002_000012.mp4",
    )  # fmt: skip
    splits = [f"--{s}={tmp_path / f'{s}.csv'}" for s in ("train", "val", "test")]
    ran = run_script("datasets/kinetics.py", *splits, "--root", root, "--out", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert "train.csv: 3 of 3 videos found" in ran.stdout
    assert "val.csv: 1 of 2 videos found, 1 missing, listed in" in ran.stdout
    assert (tmp_path / "out/val_missing.txt").read_text() == "GONE_000001_000011\n"
    train = read_videos(tmp_path / "out/train.csv", root=root)
    assert train.classes == ("abseiling", "rock, scissors", "zumba")
    assert entries(train) == [
        ("train/zumba/-abcDEF_123_000010_000020.mp4", "zumba"),
        ("train/abseiling/AAA_000000_000010.mkv", "abseiling"),
        ("whole/BBB.mp4", "rock, scissors"),
    ]
    assert [train.segment(i) for i in range(3)] == [None, None, (5.0, 15.0)]
    val = read_videos(tmp_path / "out/val.csv", root=root)
    assert entries(val) == [("val/abseiling/CCC_000001_000011.mp4", "abseiling")]
    assert read_videos(tmp_path / "out/test.csv", root=root).labels.tolist() == [-1]


def test_ssv2(tmp_path: Path) -> None:
    classes = {"Putting something on something": "1", "Approaching something with your camera": "0"}
    (tmp_path / "labels.json").write_text(json.dumps(classes))
    put = {"id": "78687", "label": "putting a cup on a box", "template": "Putting [something] on [something]"}
    near = {"id": "42", "label": "approaching a dog", "template": "Approaching [something] with your camera"}
    (tmp_path / "train.json").write_text(json.dumps([put | {"placeholders": ["a cup", "a box"]}, near]))
    (tmp_path / "validation.json").write_text(json.dumps([near | {"id": "43"}]))
    (tmp_path / "test.json").write_text(json.dumps([{"id": "44"}]))
    root = touch(tmp_path / "20bn", "78687.webm", "42/img_00001.jpg", "42/img_00002.jpg", "43.webm", "44.webm")
    ran = run_script("datasets/ssv2.py", "--labels", tmp_path / "labels.json", "--train", tmp_path / "train.json",
        "--val", tmp_path / "validation.json", "--test", tmp_path / "test.json",
        "--root", root, "--out", tmp_path / "out",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    train = read_videos(tmp_path / "out/train.csv", root=root)
    assert entries(train) == [
        ("78687.webm", "Putting something on something"),
        ("42", "Approaching something with your camera"),
    ]
    assert read_videos(tmp_path / "out/test.csv", root=root).labels.tolist() == [-1]
    (tmp_path / "train.json").write_text(json.dumps([put | {"template": "Unheard of"}]))
    ran = run_script("datasets/ssv2.py", "--labels", tmp_path / "labels.json", "--train", tmp_path / "train.json",
        "--val", tmp_path / "validation.json", "--root", root, "--out", tmp_path / "out",
    )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1


def test_ucf101(tmp_path: Path) -> None:
    splits = tmp_path / "ucfTrainTestlist"
    splits.mkdir()
    (splits / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 YoYo\n")
    (splits / "trainlist02.txt").write_text(
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nYoYo/v_YoYo_g25_c05.avi 2\r\n"
    )
    (splits / "testlist02.txt").write_text("YoYo/v_YoYo_g01_c01.avi\n")
    root = touch(
        tmp_path / "UCF-101",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "YoYo/v_YoYo_g25_c05.avi", "YoYo/v_YoYo_g01_c01.avi",
    )  # fmt: skip
    ran = run_script(
        "datasets/ucf101.py", "--splits", splits, "--split", "2", "--root", root, "--out", tmp_path / "out"
    )
    assert ran.returncode == 0, ran.stderr
    assert entries(read_videos(tmp_path / "out/train.csv", root=root)) == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "ApplyEyeMakeup"),
        ("YoYo/v_YoYo_g25_c05.avi", "YoYo"),
    ]
    assert entries(read_videos(tmp_path / "out/val.csv", root=root)) == [("YoYo/v_YoYo_g01_c01.avi", "YoYo")]


def test_hmdb51(tmp_path: Path) -> None:
    splits = tmp_path / "testTrainMulti_7030_splits"
    splits.mkdir()
    (splits / "wave_test_split1.txt").write_text("a#1_wave_u_nm.avi 1 \nb_wave.avi 2 \nc_wave.avi 0 \n")
    (splits / "brush_hair_test_split1.txt").write_text("d [x]_brush.avi 2 \n")
    (splits / "wave_test_split2.txt").write_text("a#1_wave_u_nm.avi 2 \n")
    root = touch(
        tmp_path / "hmdb", "wave/a#1_wave_u_nm.avi", "wave/b_wave.avi", "wave/c_wave.avi", "brush_hair/d [x]_brush.avi"
    )
    ran = run_script("datasets/hmdb51.py", "--splits", splits, "--root", root, "--out", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert entries(read_videos(tmp_path / "out/train.csv", root=root)) == [("wave/a#1_wave_u_nm.avi", "wave")]
    assert entries(read_videos(tmp_path / "out/val.csv", root=root)) == [
        ("brush_hair/d [x]_brush.avi", "brush_hair"),
        ("wave/b_wave.avi", "wave"),
    ]


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def kinetics(folder: Path, rows: str, *, test: str = "youtube_id,time_start,time_end,split\nAAA,0,10,test\n") -> Ran:
    """Prepare lists over one video, AAA.mp4, with ``rows`` in the validation CSV."""
    (folder / "train.csv").write_text(KINETICS + "a,AAA,0,10,train\nb,AAA,0,10,train\n")
    (folder / "val.csv").write_text(rows)
    (folder / "test.csv").write_text(test)
    splits = [f"--{s}={folder / f'{s}.csv'}" for s in ("train", "val", "test")]
    root = touch(folder / "videos", "AAA.mp4")
    return run_script("datasets/kinetics.py", *splits, "--root", root, "--out", folder / "out")


def is_one_line(ran: Ran, words: str) -> bool:
    assert ran.returncode == 2, ran.stdout
    assert words in ran.stderr
    return ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (KINETICS + "a,AAA,0,10,val\na,AAA,x,10,val\n", "val.csv:3: 'a,AAA,x,10,val': start 'x'"),
        (KINETICS + "a,AAA,nan,10,val\n", "val.csv:2: 'a,AAA,nan,10,val': start nan"),
        (KINETICS + "a,AAA,20,10,val\n", "0 <= start < end"),
        (KINETICS + "a,AAA,,10,val\n", "give both seconds"),
        (KINETICS + "a,AAA,,,val\n", "needs youtube_id, time_start and time_end"),
        (KINETICS + "a,,0,10,val\n", "needs youtube_id"),
        (KINETICS + "a,AAA,0,10\n", "4 cells, the header has 5"),
        (KINETICS + ",AAA,0,10,val\n", "val.csv:2: ',AAA,0,10,val': no label; only the test CSV may have none"),
        (KINETICS + "c,AAA,0,10,val\n", "class 'c' is not in the training CSV"),
        (KINETICS + '"a,AAA,0,10,val\n', "val.csv:2: unexpected end of data; quotes must be closed"),
        ("label,id\na,AAA\n", "val.csv:1: no column youtube_id"),
        ("youtube_id,time_start,time_end\nAAA,0,10\n", "no label; only the test CSV"),
        ("", "val.csv:1: no column youtube_id"),
    ],
)
def test_a_line_of_kinetics_that_is_not_whole_is_named(tmp_path: Path, rows: str, words: str) -> None:
    assert is_one_line(kinetics(tmp_path, rows), words)
    assert not (tmp_path / "out").exists()


def test_empty_labels_of_a_test_csv_are_none_and_counted(tmp_path: Path) -> None:
    ran = kinetics(
        tmp_path, "\ufeffLabel, youtube_id,time_start,time_end\na,AAA,0,10\n", test=KINETICS + ",AAA,0,10,test\n"
    )
    assert ran.returncode == 0, ran.stderr
    assert "test.csv: 1 of 1 videos found; 1 without label\n" in ran.stdout
    assert read_videos(tmp_path / "out/test.csv").labels.tolist() == [-1]
    assert (tmp_path / "out/classes.txt").read_text() == "a\nb\n"


def test_an_official_file_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(KINETICS + "a,BBB,0,10,train\n")
    (tmp_path / "val.csv").write_text(KINETICS)
    touch(tmp_path / "videos", "BBB.mp4")
    ran = run_script("datasets/kinetics.py", "--train", tmp_path / "train.csv", "--val", tmp_path / "val.csv",
        "--root", tmp_path / "videos", "--out", tmp_path / "out",
    )  # fmt: skip
    assert is_one_line(ran, "the official file of val names no videos; download it again")
    assert not (tmp_path / "out").exists()


def test_nothing_found_names_an_example_and_writes_nothing(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / f"{name}.csv").write_text(KINETICS + "a,BBB,0,10,train\n")
    touch(tmp_path / "videos", "CCC.mp4")
    ran = run_script("datasets/kinetics.py", "--train", tmp_path / "train.csv", "--val", tmp_path / "val.csv",
        "--root", tmp_path / "videos", "--out", tmp_path / "out",
    )  # fmt: skip
    assert is_one_line(ran, "none of the 2 videos is below it, such as BBB_000000_000010.mp4; check --root")
    assert not (tmp_path / "out").exists()


def ucf(
    folder: Path, *, classes: str = "1 Run\n2 Sit\n", train: str = "Run/a.avi 1\n", test: str = "Sit/a.avi\n"
) -> Ran:
    (folder / "classInd.txt").write_text(classes)
    (folder / "trainlist01.txt").write_text(train)
    (folder / "testlist01.txt").write_text(test)
    return run_script("datasets/ucf101.py", "--splits", folder, "--root", folder / "videos", "--out", folder / "out")


def test_equal_names_in_two_class_folders_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "Run/a.avi", "Sit/a.avi", "__MACOSX/Run/._a.avi", ".trash/Sit/a.avi")
    ran = ucf(tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "several files" not in ran.stdout
    assert entries(read_videos(tmp_path / "out/train.csv")) == [("Run/a.avi", "Run")]
    assert entries(read_videos(tmp_path / "out/val.csv")) == [("Sit/a.avi", "Sit")]


def test_names_that_nothing_tells_apart_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "new/Run/a.avi", "old/Run/a.avi", "Sit/a.avi")
    ran = ucf(tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "train.csv: 1 of 1 videos found; 1 have several files, the first is used (new/Run/a.avi, old/Run/a.avi)" in (
        ran.stdout
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"classes": "1 Run\n3 Sit\n"}, "classInd.txt:2: '3 Sit': must be 2"),
        ({"classes": "1 Run\n2 Run\n"}, "classInd.txt:2: '2 Run': must be 2 and another class's name"),
        ({"classes": "Run\n"}, "classInd.txt:1: 'Run': must be 1"),
        ({"train": "Run/a.avi 1\n\na.avi 1\n"}, "trainlist01.txt:3: 'a.avi 1': class 'a.avi' is not in classInd.txt"),
        (
            {"train": "Run/a.avi 2\n"},
            "trainlist01.txt:1: 'Run/a.avi 2': must be CLASS/VIDEO and, if any number, that of",
        ),
        ({"train": "Run/ 1\n"}, "must be CLASS/VIDEO"),
    ],
)
def test_a_line_of_ucf101_that_is_not_of_its_form_is_named(tmp_path: Path, files: dict[str, str], words: str) -> None:
    touch(tmp_path / "videos", "Run/a.avi")
    assert is_one_line(ucf(tmp_path, **files), words)


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "1", "a.avi one"])
def test_a_line_of_hmdb51_that_is_not_of_its_form_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "wave_test_split1.txt").write_text(f"b.avi 1\n{line}\n")
    touch(tmp_path, "wave/b.avi")
    ran = run_script("datasets/hmdb51.py", "--splits", tmp_path, "--root", tmp_path, "--out", tmp_path / "out")
    assert is_one_line(ran, f"wave_test_split1.txt:2: '{line}': must be a video and 1 (train), 2 (test) or 0")


GOOD_LABELS = '{"Putting something": "0"}'
GOOD_SPLIT = '[{"id": "1", "template": "Putting [something]"}]'


@pytest.mark.parametrize(
    ("labels", "split", "words"),
    [
        ("{", GOOD_SPLIT, "labels.json:1: not JSON"),
        ("[]", GOOD_SPLIT, "labels.json: must hold a table of classes"),
        ('{"Putting something": "1"}', GOOD_SPLIT, "its numbers must be 0..0, each once"),
        ('{"Putting something": "zero"}', GOOD_SPLIT, "its numbers must be 0..0, each once"),
        ('{"a": "0", "b": "0"}', GOOD_SPLIT, "its numbers must be 0..1, each once"),
        (GOOD_LABELS, "{}", "train.json: must hold a list of videos"),
        (GOOD_LABELS, "[1]", "train.json: entry 1 has no id"),
        (GOOD_LABELS, '[{"template": "Putting [something]"}]', "entry 1 has no id"),
        (GOOD_LABELS, '[{"id": "1"}]', "entry 1 (id 1) has no template; only the test JSON may have none"),
        (GOOD_LABELS, '[{"id": "1", "template": ""}]', "entry 1 (id 1) has no template"),
        (GOOD_LABELS, '[{"id": "1", "template": "Unheard of"}]', "entry 1 (id 1): template 'Unheard of' is not in"),
    ],
)
def test_an_entry_of_ssv2_that_is_not_whole_is_named(tmp_path: Path, labels: str, split: str, words: str) -> None:
    (tmp_path / "labels.json").write_text(labels)
    (tmp_path / "train.json").write_text(split)
    touch(tmp_path, "1.webm")
    files = [
        f"--{name}={tmp_path / f'{file}.json'}"
        for name, file in (("labels", "labels"), ("train", "train"), ("val", "train"))
    ]
    assert is_one_line(run_script("datasets/ssv2.py", *files, "--root", tmp_path, "--out", tmp_path / "out"), words)


SCRIPTS = {
    "kinetics.py": ["--train=f", "--val=f", "--root=d", "--out=o"],
    "ssv2.py": ["--labels=f", "--train=f", "--val=f", "--root=d", "--out=o"],
    "ucf101.py": ["--splits=d", "--root=d", "--out=o"],
    "hmdb51.py": ["--splits=d", "--root=d", "--out=o"],
    "reencode.py": ["--root=d", "--out=o"],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_path_is_one_line_and_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Each path in turn: not there, a folder for a file, a file for a folder, bytes that are no text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_bytes(b"\xff\xfe no text")
    for i in range(len(SCRIPTS[script])):
        for value in ("gone", "d", "f"):
            arguments = list(SCRIPTS[script])
            arguments[i] = f"{arguments[i].partition('=')[0]}={value}"
            assert is_one_line(run_script(f"datasets/{script}", *arguments), "")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("reencode.py", ["--short-side=1"]),
        ("reencode.py", ["--gop=0"]),
        ("reencode.py", ["--crf=52"]),
        ("reencode.py", ["--crf=-1"]),
        ("reencode.py", ["--workers=0"]),
        ("hmdb51.py", ["--split=4"]),
        ("motion.py", ["--workers=0"]),
        ("motion.py", ["--seed=-1"]),
    ],
)
def test_numbers_have_bounds(script: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(f"datasets/{script}", *SCRIPTS.get(script, []), *arguments)
    assert caught.value.code == 2


def test_from_official_file_to_clips_in_two_commands(tmp_path: Path) -> None:
    """What a new user does: prepare, then train; here the data side of training."""
    header = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "train.csv").write_text(header + "a,AAA,10,20,train\nb,BBB,0,1,train\n")
    (tmp_path / "val.csv").write_text(header + "b,AAA,10,20,val\n")
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos/AAA_000010_000020.mp4", frames=10)
    make_video(tmp_path / "videos/BBB.mp4", frames=40)
    ran = run_script("datasets/kinetics.py", "--train", tmp_path / "train.csv", "--val", tmp_path / "val.csv",
        "--root", tmp_path / "videos", "--out", tmp_path / "out",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    videos = read_videos(tmp_path / "out/train.csv", root=tmp_path / "videos")
    clips = TrainClips(videos, seed=0, num_frames=4, stride_frames=2, fps=30, crop_size=32)
    samples = [clips[i] for i in range(2)]
    assert [s["broken"] for s in samples] == [[], []]
    assert sorted(s["label"] for s in samples) == [0, 1]
