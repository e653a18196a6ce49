"""metrics.jsonl over kills and resumes, and the progress display."""

from __future__ import annotations

import io
import math
import time
from pathlib import Path

import pytest
import torch

from diffmae_video.engine.distributed.context import DistributedContext
from diffmae_video.engine.monitor.metrics import MetricsLog, Progress, clock, read_metrics
from diffmae_video.errors import UserError

MAIN = DistributedContext(rank=0, size=2, local_rank=0, device=torch.device("cpu"))
OTHER = DistributedContext(rank=1, size=2, local_rank=1, device=torch.device("cpu"))


def write(folder: Path, steps: range) -> None:
    log = MetricsLog(folder, world=MAIN, resume_step=steps.start, tensorboard=False)
    for step in steps:
        log.write(step, {"loss": 1 / (step + 1), "bins": [None, float(step)]})
    log.close()


def test_a_resumed_file_equals_an_undisturbed_one(tmp_path: Path) -> None:
    write(tmp_path / "undisturbed", range(10))
    write(tmp_path / "killed", range(7))
    path = tmp_path / "killed" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 7, "lo')  # cut by the kill; the checkpoint is of step 4
    write(tmp_path / "killed", range(4, 10))
    assert path.read_bytes() == (tmp_path / "undisturbed" / "metrics.jsonl").read_bytes()
    assert [line["step"] for line in read_metrics(path)] == list(range(10))


def test_a_fresh_start_drops_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    write(tmp_path, range(2))
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]


def test_non_finite_numbers_are_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, world=MAIN, tensorboard=False)
    log.write(0, {"loss": math.nan, "grad_norm": math.inf, "bins": [math.nan, 1.0], "name": "x"})
    log.close()
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert line == {"step": 0, "loss": None, "grad_norm": None, "bins": [None, 1.0], "name": "x"}


def test_only_rank_0_writes(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run", world=OTHER)
    log.write(0, {"loss": 1.0})
    log.sync()
    log.close()
    assert not (tmp_path / "run").exists()


def test_tensorboard_has_the_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in (range(5), range(3, 8)):  # the second drops and redoes steps 3 and 4
        log = MetricsLog(tmp_path, world=MAIN, resume_step=steps.start)
        for step in steps:
            log.write(step, {"loss": step + 0.5, "name": "x"})
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(s, s + 0.5) for s in range(8)]


def test_wandb_without_the_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"wandb \(videos\) needs the package of that name"):
        MetricsLog(tmp_path, world=MAIN, tensorboard=False, wandb="videos")


def test_plain_lines_in_a_file() -> None:
    stream = io.StringIO()
    progress = Progress("pretrain", total=100, initial=90, world=MAIN, stream=stream, every_seconds=1000)
    for step in range(91, 101):
        progress.update(step, "loss 0.1235 lr 1.0e-04")
    progress.note("a line")
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("pretrain 91/100, 0:0")
    assert lines[1] == "pretrain 100/100, 0:00 left, loss 0.1235 lr 1.0e-04"
    assert lines[2:] == ["a line"]
    assert all(len(line) <= 80 for line in lines)


def test_long_lines_are_cut_to_80_columns() -> None:
    stream = io.StringIO()
    Progress("finetune", total=2, world=MAIN, stream=stream).update(1, "x" * 100)
    assert len(stream.getvalue()) == 81
    assert stream.getvalue().endswith("...\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_live_line_on_a_terminal() -> None:
    stream = Terminal()
    progress = Progress("pretrain", total=4, initial=1, world=MAIN, stream=stream)
    progress.update(2, "loss 0.5")
    time.sleep(0.11)  # tqdm draws every tenth of a second
    progress.update(4, "loss 0.25", ["gradient norm 0.3", "x" * 200])
    progress.note("saved")
    progress.close()
    text = stream.getvalue()
    assert "\r" in text
    assert "4/4" in text.split("\r")[-1]
    assert "loss 0.25" in text
    assert "saved\n" in text
    assert "gradient norm 0.3" in text
    assert "x" * 50 in text
    assert "x" * 80 not in text, "a row that wraps would tear the display"


def test_a_quiet_one_shows_nothing() -> None:
    stream = Terminal()
    progress = Progress("x", total=4, world=OTHER, stream=stream)
    progress.update(4, "loss 0.5")
    progress.note("saved")
    progress.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7, "0:07"), (59.6, "1:00"), (754, "12:34"), (11045, "3:04:05"), (2 * 86400 + 3 * 3600 + 240, "2d 03:04")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
