"""Helpers of the tests on the cluster: submit, wait, interrupt, compare."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffmae_video.launch.cli import submit_main, sweep_main
from diffmae_video.launch.slurm import job_fields
from tests.slurm.cluster import Cluster, ClusterError

ROOT = Path(__file__).resolve().parents[2]
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
CPU = ["slurm.gpus_per_node=0", "slurm.cpus_per_task=1"]
# 201 steps of 4 videos; checkpoints are far apart, so that a resumed run repeats steps.
LONG = [*CPU, "slurm.nodes=2", "slurm.hours=1", "stages=[pretrain]"]
LONG += ["pretrain.epochs=67", "pretrain.checkpoint_epochs=20"]


def environment() -> dict[str, str]:
    """Environment of a subprocess that imports the checkout's package."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def write_config(folder: Path, videos: Path) -> Path:
    """The tiny config of tests/conftest.py in a folder of its own."""
    from tests.conftest import TINY_RECIPE

    path = folder / "tiny.yaml"
    path.write_text(TINY_RECIPE.format(videos=videos, output_dir=folder / "run"))
    return path


def submit(*arguments: str | Path, expect: int = 0) -> str:
    """Run tools/submit.py in this process; return its output."""
    return _run_main(submit_main, arguments, expect)


def sweep(*arguments: str | Path, expect: int = 0) -> str:
    """Run tools/sweep.py in this process; return its output."""
    return _run_main(sweep_main, arguments, expect)


def _run_main(main: Callable[[list[str]], int], arguments: tuple[str | Path, ...], expect: int) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main([str(argument) for argument in arguments])
    assert code == expect, text.getvalue()
    return text.getvalue()


def job_in(output: str) -> str:
    """The first job id in the output of submit.py."""
    found = re.search(r"^job (\d+)", output, re.MULTILINE)
    assert found, output
    return found.group(1)


def wait_until(condition: Callable[[], Any], message: str, *, seconds: float) -> None:
    """Poll until ``condition`` holds; fail the test with ``message`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{message} after {seconds:g} s"
        time.sleep(0.1)


def state(job: str) -> str:
    """SLURM's state of a job, COMPLETING while its processes end."""
    return job_fields(job)["JobState"]


def wait_for_end(job: str, *, seconds: float) -> str:
    """Wait until a job, or all tasks of an array, have ended; the state of the (last) one."""
    wait_until(lambda: state(job) in OVER, f"job {job} is {state(job)}", seconds=seconds)
    return state(job)


def hurry(cluster: Cluster, job: str) -> None:
    """Start a requeued job now: SLURM holds it back for two minutes."""
    wait_until(lambda: state(job) == "PENDING", f"job {job} isn't requeued", seconds=60)
    deadline = time.monotonic() + 60
    while state(job) != "RUNNING":
        assert time.monotonic() < deadline, f"job {job} doesn't start"
        start_now(cluster, job)


def finish(cluster: Cluster, job: str, *, seconds: float) -> str:
    """Wait for a job's end, without the hold after requeues; return its last state."""
    deadline = time.monotonic() + seconds
    while state(job) not in OVER:
        assert time.monotonic() < deadline, f"job {job} is {state(job)} after {seconds:g} s"
        if state(job) == "PENDING":
            start_now(cluster, job)
        time.sleep(0.2)
    return state(job)


def start_now(cluster: Cluster, job: str) -> None:
    """End the hold of a pending job, and give the scheduler time: it starts over at each update.

    Not at once: a start within a second or two of the requeue carries a credential that its nodes have just
    revoked, and SLURM then ends the job ("Job credential revoked"). SLURM's own hold is two minutes.
    """
    time.sleep(4)
    with contextlib.suppress(ClusterError):  # it may have started meanwhile
        cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: state(job) == "RUNNING", "", seconds=3)


def steps(run: Path, stage: str = "pretrain") -> int:
    """Steps that a run has logged."""
    path = run / stage / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(run: Path) -> list[tuple[float, ...]]:
    """The metrics of a pre-training at each step, without times."""
    lines = read_lines(run / "pretrain" / "metrics.jsonl")
    return [(line["step"], line["loss"], line["lr"], line["grad_norm"], *line["loss_by_noise"]) for line in lines]


def assert_same_run(run: Path, reference: Path) -> None:
    """The same numbers at each step and the same weights, bit by bit."""
    assert numbers(run) == numbers(reference)
    weights, expected = (
        torch.load(folder / "pretrain" / "weights.pt", weights_only=True)["model"] for folder in (run, reference)
    )
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
