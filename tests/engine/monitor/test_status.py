"""status.json: what a run says of itself."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path

import torch

from diffmae_video.engine.distributed.context import DistributedContext
from diffmae_video.engine.monitor.status import Status, now, read_status

MAIN = DistributedContext(rank=0, size=1, local_rank=0, device=torch.device("cpu"))
OTHER = DistributedContext(rank=1, size=2, local_rank=1, device=torch.device("cpu"))


def test_no_run_has_no_status(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None


def test_status_says_where_a_run_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    started = now()
    status = Status(folder, world=MAIN)
    status.update(stage="pretrain", step=3, num_steps=9, loss=0.5)
    found = read_status(folder)
    assert found.pop("updated") >= found["started"] >= started
    assert found == {
        "state": "running",
        "stage": "pretrain",
        "step": 3,
        "num_steps": 9,
        "loss": 0.5,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "restarts": 0,
        "started": found["started"],
        "reason": "",
    }
    assert [entry.name for entry in folder.iterdir()] == ["status.json"]


def test_restarts_are_counted_and_the_first_start_is_kept(tmp_path: Path) -> None:
    for _ in range(3):
        status = Status(tmp_path, world=MAIN)
        status._fields["started"] = status._fields["started"].replace("20", "19", 1)
        status.end("interrupted", reason="SIGTERM")
    assert read_status(tmp_path)["restarts"] == 2
    assert read_status(tmp_path)["started"].startswith("19")
    assert read_status(tmp_path)["state"] == "interrupted"


def test_steps_are_written_now_and_then_and_a_new_stage_at_once(tmp_path: Path) -> None:
    status = Status(tmp_path, world=MAIN, every_seconds=1000)
    status.update(stage="pretrain", step=1, num_steps=9)
    status.update(stage="pretrain", step=2, num_steps=9)
    assert read_status(tmp_path)["step"] == 1
    status.update(stage="pretrain", step=9, num_steps=9)
    assert read_status(tmp_path)["step"] == 9
    status.update(stage="test", step=1, num_steps=4)
    assert read_status(tmp_path)["stage"] == "test"


def test_a_loss_that_is_no_number_is_null(tmp_path: Path) -> None:
    Status(tmp_path, world=MAIN).update(stage="pretrain", step=1, num_steps=9, loss=math.nan)
    assert json.loads((tmp_path / "status.json").read_text())["loss"] is None


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    status = Status(tmp_path / "run", world=OTHER)
    status.update(stage="pretrain", step=1, num_steps=9)
    status.end("finished")
    assert not (tmp_path / "run").exists()
