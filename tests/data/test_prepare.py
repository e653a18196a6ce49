"""Official annotation files, laid out as they come, to lists that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffmae_video.data import TrainClips, VideoList, read_videos
from tests.data.helpers import make_video, run_script


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


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("kinetics.py", ["--train=gone.csv", "--val=gone.csv", "--root=.", "--out=o"], "gone.csv"),
        ("hmdb51.py", ["--splits=.", "--root=.", "--out=o"], "give the folder of the official split files"),
        ("reencode.py", ["--root=.", "--out=o"], "no videos below it"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run_script(f"datasets/{script}", *arguments)
    assert ran.returncode == 2
    assert words in ran.stderr
    assert ran.stderr.count("\n") == 1


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
