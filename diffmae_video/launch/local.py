"""Run the same jobs on this machine, through submitit's local executor; SLURM isn't needed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import submitit

from diffmae_video.launch.job_end import job_outcome
from diffmae_video.launch.records import JobOutcome, add_end, read_ends, record_folder
from diffmae_video.launch.slurm import SlurmError, tasks_per_node
from diffmae_video.launch.submission import JobArray, make_job, prepare, record
from diffmae_video.launch.sweep import Point

_POLL_SECONDS = 0.2


def run_local(
    phases: Sequence[JobArray], points: Sequence[Point], *, folder: Path, max_parallel: int
) -> list[JobOutcome]:
    """Run all jobs and wait for them; each phase starts after the previous one, with the points that finished it.

    Args:
        phases: jobs of all points, stage by stage with ``--split-stages``.
        points: the runs, in the order of each phase's configs.
        folder: of the run or the sweep; logs and the code snapshot go to its ``slurm/``.
        max_parallel: jobs that run at a time.

    Returns:
        the last outcome of each point.

    Raises:
        SlurmError: a config requests several nodes, or a folder can't be written.
    """
    for phase in phases:
        if phase.slurm.nodes > 1:
            raise SlurmError(f"slurm.nodes={phase.slurm.nodes}: --local has one node; add slurm.nodes=1")
    code = prepare(phases, points, folder=folder)
    submitted = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    ends: dict[int, JobOutcome] = {}
    for phase in phases:
        waiting = [i for i in range(len(points)) if i not in ends or ends[i].end == "finished"]
        running: dict[int, submitit.Job[int]] = {}
        while waiting or running:
            while waiting and len(running) < max_parallel:
                i = waiting.pop(0)
                running[i] = _start(phase, i, folder=folder, code=code)
                job = running[i].job_id
                submission = record(
                    phase, i, points[i], job=job, cluster="local", submitted=submitted, code=code, folder=folder
                )
                print(f"job {job} runs {submission.config}, logs {submission.logs}", flush=True)
            time.sleep(_POLL_SECONDS)
            for i in [i for i, job in running.items() if job.done()]:
                ends[i] = _record_outcome(phase, i, running.pop(i).job_id)
                print(f"job {ends[i].job}: {ends[i].end} {ends[i].reason}", flush=True)
    return [ends[i] for i in range(len(points))]


def _start(phase: JobArray, index: int, *, folder: Path, code: Path) -> submitit.Job[int]:
    slurm = phase.slurm
    executor = submitit.LocalExecutor(record_folder(folder), max_num_timeout=slurm.max_requeues)
    executor.update_parameters(
        timeout_min=60 * slurm.hours,
        tasks_per_node=tasks_per_node(slurm),
        gpus_per_node=slurm.gpus_per_node,
        signal_delay_s=slurm.signal_delay_seconds,
    )
    job = make_job(phase, index)
    with _import_from(code):
        return executor.submit(job)


@contextlib.contextmanager
def _import_from(code: Path) -> Iterator[None]:
    """Processes started in this block import the snapshot: `python -m` looks into the working directory first."""
    folder, path = os.getcwd(), os.environ.get("PYTHONPATH")
    os.chdir(code)
    os.environ["PYTHONPATH"] = f"{code}:{path}" if path else str(code)
    try:
        yield
    finally:
        os.chdir(folder)
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def _record_outcome(phase: JobArray, index: int, job: str) -> JobOutcome:
    output_dir = phase.configs[index].output_dir
    restart = sum(end.job == job and end.end == "requeued" for end in read_ends(output_dir))
    # submitit's local controller doesn't report the tasks' exit codes; their records say whether they finished.
    end = job_outcome(
        output_dir,
        job=job,
        restart=restart,
        exit_code=1,
        slurm_state="running",
        max_requeues=phase.slurm.max_requeues,
    )
    add_end(output_dir, end)
    return end
