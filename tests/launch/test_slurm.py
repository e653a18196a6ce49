"""Parsing the output of SLURM's commands, here small scripts; tests/slurm runs the real ones."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from diffmae_video.config.schema import SlurmConfig
from diffmae_video.launch import slurm
from diffmae_video.launch.slurm import Partition, SlurmError


@pytest.fixture
def fake_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``fake_command(command, text, code=0, error="")``: put a command on the PATH that prints ``text``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(command: str, text: str, *, code: int = 0, error: str = "") -> None:
        (folder / "text").write_text(text)
        path = folder / command
        path.write_text(f"#!/bin/sh\ncat {folder}/text\nprintf '%s' '{error}' >&2\nexit {code}\n")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        ("(null)", 0),
        ("gpu:2", 2),
        ("gpu:a100:8", 8),
        ("gpu:a100:8(S:0-1)", 8),
        ("gpu:a100:4(S:0),gpu:v100:2(S:1)", 6),
        ("gpu:4g.20gb:3", 3),
        ("nic:1,gpu:4,shard:16", 4),
        ("nic:1", 0),
    ],
)
def test_gpus_of_a_gres_list(gres: str, count: int) -> None:
    assert slurm._count_gpus(gres) == count


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("infinite", math.inf), ("5:00", 5), ("1:00:00", 60), ("2-12:00:00", 3600), ("30", 0.5), ("0:30", 0.5)],
)
def test_time_limits(limit: str, minutes: float) -> None:
    assert slurm._minutes(limit) == minutes


def test_partitions_of_several_kinds_of_nodes(fake_command) -> None:
    fake_command(
        "sinfo", "gpu*|4|64|gpu:a100:8(S:0-1)|2-00:00:00\ngpu*|2|32+|gpu:v100:4|2-00:00:00\ncpu|1|8|(null)|infinite\n"
    )
    assert slurm.partitions() == {
        "gpu": Partition(name="gpu", is_default=True, nodes=6, cpus=64, gpus=8, minutes=2880),
        "cpu": Partition(name="cpu", is_default=False, nodes=1, cpus=8, gpus=0, minutes=math.inf),
    }


def test_the_default_partition_is_held_to_its_limits(fake_command) -> None:
    fake_command("sinfo", "gpu*|4|64|gpu:8|2-00:00:00\ncpu|1|8|(null)|infinite\n")
    slurm.check_request(SlurmConfig(nodes=4, gpus_per_node=8, cpus_per_task=8, hours=48))
    with pytest.raises(SlurmError, match=r"slurm.cpus_per_task=9: 8 tasks a node need 72 CPUs"):
        slurm.check_request(SlurmConfig(gpus_per_node=8, cpus_per_task=9))
    with pytest.raises(SlurmError, match=r"partition cpu have at most 0 GPUs"):
        slurm.check_request(SlurmConfig(partition="cpu", gpus_per_node=1))


def test_queue_leaves_out_what_is_gone(fake_command) -> None:
    fake_command("squeue", "7_0|RUNNING\n7_1|PENDING\n")
    assert slurm.queue(["7_0", "7_1", "6"]) == {"7_0": "RUNNING", "7_1": "PENDING"}
    fake_command("squeue", "", code=1, error="slurm_load_jobs error: Invalid job id specified")
    assert slurm.queue(["7_0"]) == {}
    assert slurm.queue([]) == {}


def test_a_controller_that_is_down(fake_command) -> None:
    fake_command("squeue", "", code=1, error="slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(SlurmError, match="squeue: slurm_load_jobs error: Unable to contact slurm controller"):
        slurm.queue(["7"])


def test_no_slurm_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match=r"no sbatch on this machine: .* add --local"):
        slurm.require_slurm()
    with pytest.raises(SlurmError, match="no squeue on this machine"):
        slurm.queue(["7"])
