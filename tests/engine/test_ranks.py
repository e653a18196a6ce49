"""Whole runs on two ranks: the same as on one, in what they compute and in how they end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffmae_video.engine.checkpoint.single_file import CheckpointFolder
from tests.engine.driven import (
    arguments,
    assert_close,
    drive,
    drive_and_stop,
    drive_to_a_crash,
    drive_to_a_kill,
    drive_with_bad_losses,
    metrics_of,
    result_of,
    tensors_of,
)

RunRanks = Callable[..., list[int | None]]

# Draws of a whole batch or a whole rank (mixup's pairs, dropout) depend on how a batch is shared out.
EXACT = ("finetune.mixup=0", "finetune.head_dropout=0", "finetune.drop_path=0")
VALIDATED = ("val_top1", "val_top5", "val_ema_top1", "val_ema_top5")


@pytest.fixture(scope="module")
def one_rank_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("one-rank")


@pytest.fixture
def one_rank(one_rank_folder: Path, tiny_config: Path, run_ranks: RunRanks) -> Path:
    """The run on one rank that the others are compared with; made once."""
    run = one_rank_folder / "run"
    if not run.exists():
        command = arguments(tiny_config, f"output_dir={run}", *EXACT)
        codes = run_ranks(drive_and_stop, 1, one_rank_folder, command, "pretrain", -1, one_rank_folder)
        assert codes == [0], (one_rank_folder / "rank-0.log").read_text()
    return run


def logs_of(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("rank-*.log")))


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(("parallel=ddp",), id="ddp"),
        pytest.param(("parallel=fsdp", "sharded_checkpoints=true"), id="fsdp", marks=pytest.mark.cpu_fsdp),
    ],
)
def test_two_ranks_equal_one(
    one_rank: Path, tiny_config: Path, run_ranks: RunRanks, tmp_path: Path, form: tuple[str, ...]
) -> None:
    """And they go on from each form of checkpoint, as they do half-way here."""
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}", *form, *EXACT)
    codes = run_ranks(drive_and_stop, 2, tmp_path, command, "pretrain", 7, tmp_path)
    assert codes == [75, 75], logs_of(tmp_path)
    assert run_ranks(drive, 2, tmp_path, command) == [0, 0], logs_of(tmp_path)
    for stage in ("pretrain", "finetune"):
        assert_close(tmp_path / "run", one_rank, stage, atol=2e-4)
    for line, twin in zip(metrics_of(tmp_path / "run", "finetune"), metrics_of(one_rank, "finetune"), strict=True):
        assert [line.get(name) for name in VALIDATED] == [twin.get(name) for name in VALIDATED]
    # Five videos on two ranks: none is padded, none counted twice.
    for name in ("model", "ema"):
        mine, theirs = (result_of(run, "test")[name] for run in (tmp_path / "run", one_rank))
        assert (mine["used"], mine["total"], mine["unread"]) == (5, 5, [])
        assert (mine["top1"], mine["top5"]) == (theirs["top1"], theirs["top5"])


def test_accumulation_equals_a_larger_batch(
    one_rank: Path, tiny_config: Path, run_ranks: RunRanks, tmp_path: Path
) -> None:
    parts = ("pretrain.accumulation=4", "finetune.accumulation=2")
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}", *EXACT, *parts)
    assert run_ranks(drive, 1, tmp_path, [*command, "--profile", "1"]) == [0], logs_of(tmp_path)
    for stage in ("pretrain", "finetune"):
        assert_close(tmp_path / "run", one_rank, stage, atol=2e-4)
        assert (tmp_path / "run" / stage / "profile" / "trace.json.gz").stat().st_size > 1000


def samples_of(folder: Path, stage: str) -> dict[int, list[tuple[int, int]]]:
    """(position, video) of every sample, by step, in the order of positions, over all ranks and restarts."""
    seen: dict[int, list[tuple[int, int]]] = {}
    for path in folder.glob("ids-*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            if line["stage"] == stage:
                seen.setdefault(line["step"], []).extend(zip(line["position"], line["index"], strict=True))
    return {step: sorted(seen[step]) for step in sorted(seen)}


def test_one_two_one_ranks_see_each_sample_once(
    one_rank: Path, tiny_config: Path, run_ranks: RunRanks, tmp_path: Path
) -> None:
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}", *EXACT)
    for size, step, code in ((1, 3, 75), (2, 7, 75), (1, -1, 0)):
        codes = run_ranks(drive_and_stop, size, tmp_path, command, "pretrain", step, tmp_path)
        assert codes == [code] * size, logs_of(tmp_path)
    samples = samples_of(tmp_path, "pretrain")
    flat = [sample for step in samples.values() for sample in step]
    assert [position for position, _ in flat] == list(range(48)), "4 epochs of 12 videos, each position once"
    for epoch in range(4):
        assert sorted(video for _, video in flat[12 * epoch : 12 * (epoch + 1)]) == list(range(12))
    assert samples == samples_of(one_rank.parent, "pretrain")
    assert_close(tmp_path / "run", one_rank, "pretrain", atol=2e-4)


def test_a_bad_loss_on_one_rank_skips_the_step_on_all(tiny_config: Path, run_ranks: RunRanks, tmp_path: Path) -> None:
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}", "stages=[pretrain]", "pretrain.max_bad_steps=3")
    bad = [1, 5, 6, 8, 9, 10]  # alone, two in a row, three in a row
    assert run_ranks(drive_with_bad_losses, 2, tmp_path, command, bad, 1) == [1, 1], logs_of(tmp_path)
    lines = metrics_of(tmp_path / "run", "pretrain")
    assert [line["step"] for line in lines if line["loss"] is None] == bad
    assert [line["skipped_steps"] for line in lines] == [0, 1, 1, 1, 1, 2, 3, 3, 4, 5, 6]
    log = (tmp_path / "rank-0.log").read_text()
    newest = tmp_path / "run" / "pretrain" / "checkpoints" / "step-00000009.pt"
    assert "3 non-finite steps in a row" in log
    assert f"checkpoint: {newest}" in log
    _, state = CheckpointFolder(newest.parent).latest()
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize("death", [drive_to_a_crash, drive_to_a_kill])
def test_a_rank_that_dies_in_training_ends_the_job(
    tiny_config: Path, run_ranks: RunRanks, tmp_path: Path, death: Callable[..., Any]
) -> None:
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}", "stages=[pretrain]")
    began = time.monotonic()
    codes = run_ranks(death, 2, tmp_path, command, 4, 1)
    assert time.monotonic() - began < 60
    assert codes == [1, 1 if death is drive_to_a_crash else -9], logs_of(tmp_path)
    if death is drive_to_a_crash:
        assert "ArithmeticError: a bug of ours" in (tmp_path / "rank-0.log").read_text()
        assert 'in _crash\n    raise ArithmeticError("a bug of ours")' in (tmp_path / "rank-1.log").read_text()


def test_a_refusal_of_one_rank_ends_the_job_with_its_reason(
    tiny_config: Path, run_ranks: RunRanks, tmp_path: Path
) -> None:
    """Rank 0 alone looks at the lock; the other must not wait for it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").mkdir()  # can't be opened as a file
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}")
    began = time.monotonic()
    codes = run_ranks(drive, 2, tmp_path, command)
    assert time.monotonic() - began < 60
    assert 0 not in codes


def test_a_batch_that_two_ranks_cant_share_is_refused(tiny_config: Path, run_ranks: RunRanks, tmp_path: Path) -> None:
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}", "pretrain.batch_size=3")
    assert run_ranks(drive, 2, tmp_path, command) == [2, 2]
    assert "error: pretrain.batch_size=3: must be a multiple of ranks (2)" in logs_of(tmp_path)
    assert "Traceback" not in logs_of(tmp_path)
    assert not tensors_exist(tmp_path / "run")


def tensors_exist(run: Path) -> bool:
    return (run / "pretrain" / "weights.pt").exists() and bool(tensors_of(run, "pretrain"))
