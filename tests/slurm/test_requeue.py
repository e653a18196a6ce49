"""Signals, requeues, lost nodes and time limits on a real cluster: runs end as if uninterrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from diffmae_video.launch.slurm import job_fields
from tests.slurm.cluster import Cluster
from tests.slurm.moves import (
    CPU,
    LONG,
    OVER,
    assert_same_run,
    finish,
    hurry,
    job_in,
    read_lines,
    state,
    steps,
    submit,
    sweep,
    wait_for_end,
    wait_until,
)

pytestmark = pytest.mark.slurm


def test_two_nodes_compute_what_one_machine_does(undisturbed: Path) -> None:
    assert steps(undisturbed / "slurm") == 201
    assert_same_run(undisturbed / "slurm", undisturbed / "local")


def test_five_preemptions_at_random_moments(
    cluster: Cluster, undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = job_in(submit("--cfg", tiny_config, *LONG))
    moments = random.Random(7)
    for disturbance in ("USR2", "requeue", "USR2", "requeue", "USR2"):
        target = steps(run) + moments.randint(1, 25)
        wait_until(lambda target=target: steps(run) >= target, f"no step {target}", seconds=90)
        if disturbance == "requeue":
            cluster.run("scontrol", "requeue", job)
        else:
            cluster.run("scancel", f"--signal={disturbance}", job)
        wait_until(lambda: state(job) != "RUNNING", "the disturbance has no effect", seconds=60)
        hurry(cluster, job)
    assert wait_for_end(job, seconds=180) == "COMPLETED"
    assert_same_run(run, undisturbed / "slurm")
    assert json.loads((run / "status.json").read_text())["restarts"] == 5
    ends = [line["end"] for line in read_lines(run / "slurm" / "ends.jsonl")]
    assert ends.count("requeued") >= 3
    assert ends[-1] == "finished"
    assert sweep(run).splitlines()[1].split()[-1] == "5"


def test_a_lost_node(cluster: Cluster, undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = job_in(submit("--cfg", tiny_config, *LONG))
    wait_until(lambda: steps(run) >= 70, "no step 70", seconds=90)
    cluster.lose_node("n2")
    wait_until(lambda: "down" in cluster.node_state("n2"), "n2 isn't down", seconds=90)
    wait_until(lambda: state(job) == "PENDING", "the job isn't requeued", seconds=90)
    cluster.start_node("n2")
    # The old step must be gone (KillWait is 5 s) before the job restarts; SLURM's hold of two minutes ensures it.
    # A late kill of the old step may still hit the new one, which then saves and is requeued once more.
    time.sleep(8)
    assert finish(cluster, job, seconds=240) == "COMPLETED"
    assert_same_run(run, undisturbed / "slurm")
    assert json.loads((run / "status.json").read_text())["restarts"] >= 1


def test_a_time_limit_too_short(cluster: Cluster, tiny_config: Path, tmp_path: Path) -> None:
    """A minute is too short: the run is saved and requeued at the limit, until max_requeues=1 ends the job."""
    run = tmp_path / "run"
    # SLURM looks at its limits twice a minute: the warning comes 30 to 60 s after the start.
    limits = ["slurm.hours=0.017", "slurm.signal_delay_seconds=1", "slurm.max_requeues=1"]
    job = job_in(submit("--cfg", tiny_config, *CPU, "stages=[pretrain]", "pretrain.epochs=9000", *limits))
    wait_until(lambda: job_fields(job)["Restarts"] == "1" or state(job) in OVER, "no requeue", seconds=120)
    saved = json.loads((run / "status.json").read_text())
    assert saved["state"] == "interrupted"
    assert finish(cluster, job, seconds=180) == "FAILED"
    again = json.loads((run / "status.json").read_text())
    assert again["restarts"] == 1
    assert again["step"] > saved["step"] > 0
    assert [line["step"] for line in read_lines(run / "pretrain" / "metrics.jsonl")] == list(range(again["step"]))
    row = sweep(run)
    assert "failed" in row
    assert "slurm.max_requeues=1 reached, submit again to resume" in row


def test_a_rank_that_dies_ends_the_job(tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = job_in(
        submit("--cfg", tiny_config, *CPU, "stages=[pretrain]", "pretrain.epochs=9000", "slurm.tasks_per_node=2")
    )
    wait_until(lambda: steps(run) >= 2, "no step 2", seconds=90)
    os.kill(_pid_of_rank(job, rank=1), signal.SIGKILL)
    assert wait_for_end(job, seconds=90) == "FAILED"
    end = read_lines(run / "slurm" / "ends.jsonl")[-1]
    assert end["end"] == "failed"
    assert end["reason"].startswith("a task was ended by SIGKILL (out of memory?)")
    assert "failed" in sweep(run)


def _pid_of_rank(job: str, *, rank: int) -> int:
    """The process whose environment SLURM gave this job and rank, and that runs submitit's main module."""
    wanted = {f"SLURM_JOB_ID={job}", f"SLURM_PROCID={rank}"}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = set((folder / "environ").read_text(errors="replace").split("\0"))
            command = (folder / "cmdline").read_text()
        except OSError:
            continue
        if wanted <= variables and "submitit.core._submit" in command and "srun" not in command:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank} of job {job}")
