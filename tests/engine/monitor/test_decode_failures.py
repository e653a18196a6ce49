"""Unreadable videos: each file named once, reads counted, and the bound that stops a run."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffmae_video.engine.distributed.context import DistributedContext, init_distributed, shutdown_distributed
from diffmae_video.engine.monitor.decode_failures import ENOUGH_VIDEOS, DecodeFailures, TooManyDecodeFailures
from tests.engine.driven import arguments, drive, drive_and_stop, metrics_of, result_of

WORLD = DistributedContext(rank=0, size=1, local_rank=0, device=torch.device("cpu"))
RunRanks = Callable[..., list[int | None]]


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def test_above_the_bound_the_first_causes_are_said(tmp_path: Path) -> None:
    broken = DecodeFailures(tmp_path, world=WORLD, limit=0.01)
    broken.add([("a.mp4", "empty file"), ("b.mp4", "no such file")], 0)
    broken.check(400)  # 2 of 402
    broken.add([(f"{i}.mp4", "empty file") for i in range(3)], 1)
    with pytest.raises(TooManyDecodeFailures) as caught:
        broken.check(400)
    assert "5 of 405 videos could not be read (1.2%, bound data.max_broken=0.01), 5 files" in str(caught.value)
    assert "a.mp4: empty file; b.mp4: no such file; 0.mp4: empty file;" in str(caught.value)
    assert "1.mp4" not in str(caught.value)
    assert str(tmp_path / "broken.csv") in str(caught.value)


def test_a_few_videos_say_too_little(tmp_path: Path) -> None:
    broken = DecodeFailures(tmp_path, world=WORLD, limit=0.01)
    broken.add([("a.mp4", "empty file")] * 20, 0)
    broken.check(ENOUGH_VIDEOS - 1)
    with pytest.raises(TooManyDecodeFailures):
        broken.check(ENOUGH_VIDEOS)


def test_a_file_is_new_once_and_each_read_of_it_counts(tmp_path: Path) -> None:
    broken = DecodeFailures(tmp_path / "stage", world=WORLD, limit=1)
    odd = os.fsdecode(b'with, "quotes"\n\xff.mp4')
    assert broken.add([], 0) == []
    assert not (tmp_path / "stage").exists()
    assert broken.add([("a.mp4", "empty file"), (odd, "no frames")], 3) == [
        ("a.mp4", "empty file"),
        (odd, "no frames"),
    ]
    assert broken.add([("a.mp4", "empty file"), ("a.mp4", "empty file")], 5) == []
    assert broken.name([("val.mp4", "no frames"), ("a.mp4", "empty file")], 6) == [("val.mp4", "no frames")]
    assert (broken.reads, list(broken.files)) == (4, ["a.mp4", odd, "val.mp4"])
    assert rows_of(tmp_path / "stage" / "broken.csv") == [
        ["path", "reason", "first_step"],
        ["a.mp4", "empty file", "3"],
        [odd, "no frames", "3"],
        ["val.mp4", "no frames", "6"],
    ]


def test_counting_goes_on_from_a_checkpoint_and_the_file_forgets_what_came_after_it(tmp_path: Path) -> None:
    before = DecodeFailures(tmp_path, world=WORLD, limit=0.5)
    before.add([("a.mp4", "empty file")], 2)
    state = before.state()
    before.add([("b.mp4", "empty file")], 7)
    after = DecodeFailures(tmp_path, world=WORLD, limit=0.5)
    after.load(state)
    assert rows_of(tmp_path / "broken.csv")[1:] == [["a.mp4", "empty file", "2"]]
    assert after.add([("a.mp4", "empty file"), ("b.mp4", "empty file")], 7) == [("b.mp4", "empty file")]
    assert (after.reads, after.files["a.mp4"][1], after.files["b.mp4"][1]) == (3, 2, 7)
    assert len(rows_of(tmp_path / "broken.csv")) == 3
    after.load(None)  # a stage that starts over
    assert not (tmp_path / "broken.csv").exists()
    after.load({"count": 5, "first": ["a.mp4: empty file"]})  # version 0.1.0's
    assert (after.reads, after.files) == (5, {})


def count_on_two_ranks(folder: Path) -> None:
    world = init_distributed("cpu")
    broken = DecodeFailures(folder, world=world, limit=0.1)
    assert broken.add([], 0) == []
    mine = [[("a.mp4", "empty file")], [("b.mp4", "no frames"), ("a.mp4", "empty file")]][world.rank]
    assert broken.add(mine, 1) == [("a.mp4", "empty file"), ("b.mp4", "no frames")]
    assert broken.add([("c.mp4", "no frames")] * world.rank, 2) == [("c.mp4", "no frames")]
    assert broken.state() == {
        "reads": 4,
        "files": {"a.mp4": ["empty file", 1], "b.mp4": ["no frames", 1], "c.mp4": ["no frames", 2]},
    }
    shutdown_distributed(world)


def test_all_ranks_have_the_counts_of_all(run_ranks: RunRanks, tmp_path: Path) -> None:
    assert run_ranks(count_on_two_ranks, 2, tmp_path, tmp_path) == [0, 0], (tmp_path / "rank-0.log").read_text()
    assert [row[0] for row in rows_of(tmp_path / "broken.csv")] == ["path", "a.mp4", "b.mp4", "c.mp4"]


@pytest.fixture
def with_broken_files(tiny_videos: Path, tiny_config: Path, tmp_path: Path) -> list[str]:
    """A run over lists with one unreadable file each, also killed half-way in its pre-training."""
    for split, count in (("train", 12), ("val", 5)):
        rows = [f"{tiny_videos}/{split}-{i}.mp4,{i % 3}" for i in range(count)]
        rows[3] = f"{tmp_path}/{split}-broken.mp4,0"
        (tmp_path / f"{split}-broken.mp4").write_bytes(b"")
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (tmp_path / "classes.txt").write_text((tiny_videos / "classes.txt").read_text())
    lists = [f"data.{split}_list={tmp_path / split}.csv" for split in ("train", "val")]
    return arguments(tiny_config, *lists, "data.max_broken=1", "finetune.epochs=2")


def test_a_run_names_each_unreadable_file_once_a_stage(
    with_broken_files: list[str], run_ranks: RunRanks, tmp_path: Path
) -> None:
    assert run_ranks(drive_and_stop, 2, tmp_path / "a", with_broken_files, "pretrain", 8, tmp_path) == [75, 75]
    assert run_ranks(drive, 2, tmp_path / "b", with_broken_files) == [0, 0]
    said = [(tmp_path / part / "rank-0.log").read_text() for part in "ab"]
    train, val = (f"can't read {tmp_path}/{split}-broken.mp4: empty file" for split in ("train", "val"))
    for stage, line, count in (("pretrain", train, 1), ("finetune", train, 1), ("validate", val, 1), ("test", val, 1)):
        lines = [text for text in "\n".join(said).splitlines() if text.startswith(stage) and line in text]
        assert len(lines) == count, (stage, lines)
    rows = {stage: rows_of(tmp_path / "run" / stage / "broken.csv") for stage in ("pretrain", "finetune")}
    (test_rows,) = [rows_of(path) for path in (tmp_path / "run" / "test").glob("*/broken.csv")]
    assert [row[0] for row in rows["pretrain"]] == ["path", f"{tmp_path}/train-broken.mp4"]
    assert {row[0] for row in rows["finetune"][1:]} == {f"{tmp_path}/{split}-broken.mp4" for split in ("train", "val")}
    assert test_rows == [["path", "reason", "first_step"], [f"{tmp_path}/val-broken.mp4", "empty file", ""]]
    result = result_of(tmp_path / "run", "pretrain")
    assert result["broken_videos"] == 1
    assert result["broken_reads"] >= 4, "once an epoch, and when it was drawn in another's place"
    last = metrics_of(tmp_path / "run", "pretrain")[-1]
    assert (last["broken_videos"], last["broken_reads"]) == (1, result["broken_reads"])
    scored = result_of(tmp_path / "run", "test")["ema"]
    assert (scored["used"], scored["total"]) == (4, 5)
    assert scored["unread"] == [[f"{tmp_path}/val-broken.mp4", "empty file"]]
