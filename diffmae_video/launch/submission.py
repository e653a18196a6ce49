"""Validate all points, then submit their jobs."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import submitit

from diffmae_video.config import Config, dump_config
from diffmae_video.config.rules import check_batch
from diffmae_video.config.schema import SlurmConfig
from diffmae_video.engine.compatibility import check_same_config
from diffmae_video.errors import UserError
from diffmae_video.launch.job import TrainingJob
from diffmae_video.launch.records import Submission, add_submission, record_folder
from diffmae_video.launch.slurm import (
    SlurmError,
    cancel,
    check_request,
    check_script,
    check_writable_from_nodes,
    require_slurm,
    tasks_per_node,
)
from diffmae_video.launch.snapshot import take_snapshot
from diffmae_video.launch.sweep import Point
from diffmae_video.launch.table import is_finished, latest_jobs, read_rows


@dataclass(frozen=True)
class JobArray:
    """Jobs that start together, one per point: all stages, or a single stage. They request the same resources."""

    name: str
    configs: tuple[Config, ...]

    @property
    def slurm(self) -> SlurmConfig:
        """Resources of each job."""
        return self.configs[0].slurm

    def config_path(self, index: int) -> Path:
        """Path of the resolved config of one job; ``config.yaml`` is the one of the whole run."""
        return record_folder(self.configs[index].output_dir) / f"config-{self.name}.yaml"


def plan_phases(points: Sequence[Point], *, split_stages: bool) -> list[JobArray]:
    """One phase with all stages, or with ``split_stages`` one phase per stage.

    Raises:
        UserError: with ``split_stages``, the points differ in their stages; or a batch can't be split equally among
            the ranks of its job.
    """
    phases = _phases(points, split_stages=split_stages)
    for phase in phases:
        for config in phase.configs:
            for stage in config.stages:
                if stage != "test":
                    check_batch(config, stage, ranks=phase.slurm.nodes * tasks_per_node(phase.slurm))
    return phases


def _phases(points: Sequence[Point], *, split_stages: bool) -> list[JobArray]:
    if not split_stages:
        return [JobArray("run", tuple(point.config for point in points))]
    stages = {tuple(point.config.stages) for point in points}
    if len(stages) > 1:
        raise UserError("--split-stages: the points differ in their stages; submit them separately")
    return [JobArray(stage, tuple(point.for_stage(stage) for point in points)) for stage in stages.pop()]


def check_plan(phases: Sequence[JobArray]) -> None:
    """Check every phase against the cluster: partition, nodes, GPUs, CPUs and time, then with sbatch itself.

    Raises:
        SlurmError: the first request that can't be fulfilled; one line.
    """
    require_slurm()
    for phase in phases:
        check_request(phase.slurm)
    # What is left to check (accounts, QOS, features) doesn't depend on the paths: nothing needs to exist yet.
    for phase in phases:
        check_script(script_of(phase, folder=Path("/tmp"), code=Path("/"), max_parallel=len(phase.configs)))


def check_folder(folder: Path) -> None:
    """Refuse a folder with % or a backslash, which SLURM and submitit read as patterns (%j) in the names of logs.

    Raises:
        SlurmError: the folder's name holds % or a backslash.
    """
    for character in ("%", "\\"):
        if character in str(folder):
            raise SlurmError(
                f"output_dir={folder}: SLURM and submitit read {character} in the names of logs as a pattern; "
                "choose another folder"
            )


def script_of(phase: JobArray, *, folder: Path, code: Path, max_parallel: int) -> str:
    """The sbatch script of a phase; a job array if it has several points.

    Args:
        phase: the jobs.
        folder: of the run or the sweep; logs go to its ``slurm/``.
        code: path of the code snapshot.
        max_parallel: array tasks that run at a time.
    """
    executor = _make_executor(phase, folder=folder, code=code, max_parallel=max_parallel, after="")
    if len(phase.configs) > 1:
        executor.parameters["map_count"] = len(phase.configs)
    return executor._make_submission_file_text(executor._submitit_command_str, "")


def select_points(points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """The points that are neither finished nor in the queue, and a note on each of the others.

    Raises:
        UserError: the folder of a point holds a run of another config.
    """
    chosen, notes = [], []
    submitted = [point for point in points if latest_jobs(Path(point.config.output_dir))]
    rows = dict(
        zip([p.name for p in submitted], read_rows([Path(p.config.output_dir) for p in submitted]), strict=True)
    )
    for point in points:
        check_same_config(point.config, Path(point.config.output_dir))
        row = rows.get(point.name)
        if row is not None and row.state in ("pending", "running"):
            notes.append(f"{row.folder}: {row.state} as job {', '.join(row.live)}; not submitted again")
        elif row is not None and is_finished(Path(row.folder), point.config):
            notes.append(f"{row.folder}: finished; not submitted again")
        else:
            chosen.append(point)
    return chosen, notes


def submit(phases: Sequence[JobArray], points: Sequence[Point], *, folder: Path, max_parallel: int) -> list[Submission]:
    """Submit all phases to SLURM, or none; each phase depends on the previous one.

    Args:
        phases: jobs of all points, stage by stage with ``--split-stages``.
        points: the runs, in the order of each phase's configs.
        folder: of the run or the sweep; logs, pickles and the code snapshot go to its ``slurm/``.
        max_parallel: array tasks that run at a time.

    Returns:
        the submissions in the order of phases and points.

    Raises:
        SlurmError: SLURM or the file system refuses; phases that are already submitted are cancelled.
    """
    code = prepare(phases, points, folder=folder)
    note = check_writable_from_nodes(folder, phases[0].slurm)
    if note:
        print(f"note: {note}", file=sys.stderr)
    submitted = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    jobs: list[list[str]] = []
    for phase in phases:
        after = _dependency(jobs[-1]) if jobs else ""
        executor = _make_executor(phase, folder=folder, code=code, max_parallel=max_parallel, after=after)
        try:
            jobs.append([job.job_id for job in _submit_phase(executor, phase)])
        except (submitit.core.utils.FailedJobError, SlurmError) as error:
            cancel([job for earlier in jobs for job in earlier])
            raise SlurmError(f"sbatch: {' '.join(str(error).split())}; nothing is submitted") from None
    return [
        record(phase, i, points[i], job=job, cluster="slurm", submitted=submitted, code=code, folder=folder)
        for phase, ids in zip(phases, jobs, strict=True)
        for i, job in enumerate(ids)
    ]


def prepare(phases: Sequence[JobArray], points: Sequence[Point], *, folder: Path) -> Path:
    """Write the resolved configs and the code snapshot; return the path of the snapshot.

    Raises:
        SlurmError: a folder can't be written.
    """
    try:
        for i, point in enumerate(points):
            records = record_folder(point.config.output_dir)
            records.mkdir(parents=True, exist_ok=True)
            (records / "config.yaml").write_text(dump_config(point.config), encoding="utf-8")
            for phase in phases:
                phase.config_path(i).write_text(dump_config(phase.configs[i]), encoding="utf-8")
        return take_snapshot(record_folder(folder))
    except OSError as error:
        raise SlurmError(f"output_dir={folder}: can't be written ({error.strerror}); choose another folder") from None


def record(
    phase: JobArray, index: int, point: Point, *, job: str, cluster: str, submitted: str, code: Path, folder: Path
) -> Submission:
    """Add a job to the records of its run.

    Args:
        phase: what the job belongs to.
        index: of the point in the phase.
        point: the run.
        job: job id.
        cluster: "slurm" or "local".
        submitted: time of the submission, ISO 8601; the same for all its jobs.
        code: path of the code snapshot.
        folder: of the run or the sweep, whose ``slurm/`` has the logs.
    """
    submission = Submission(
        job=job,
        cluster=cluster,
        stages=phase.configs[index].stages,
        submitted=submitted,
        config=str(phase.config_path(index)),
        code=str(code),
        logs=str(record_folder(folder) / f"{job}_0_log.out"),
        params=point.params,
    )
    add_submission(point.config.output_dir, submission)
    return submission


def make_job(phase: JobArray, index: int) -> TrainingJob:
    """The callable that the tasks of one job run."""
    return TrainingJob(
        config=str(phase.config_path(index)),
        output_dir=phase.configs[index].output_dir,
        workdir=os.getcwd(),
        max_requeues=phase.slurm.max_requeues,
    )


def _submit_phase(executor: submitit.SlurmExecutor, phase: JobArray) -> list[submitit.Job[int]]:
    calls = [make_job(phase, i) for i in range(len(phase.configs))]
    with _no_leftovers(executor.folder):
        if len(calls) == 1:
            return [executor.submit(calls[0])]
        with executor.batch():
            jobs = [executor.submit(call) for call in calls]
        return jobs


@contextlib.contextmanager
def _no_leftovers(folder: Path) -> Iterator[None]:
    """If a submission fails, remove the pickles and scripts that submitit has written for it."""
    before = set(folder.glob("*")) if folder.exists() else set()
    try:
        yield
    except BaseException:
        for path in set(folder.glob("*")) - before:
            path.unlink()
        raise


def _dependency(jobs: Sequence[str]) -> str:
    """Start after the previous phase has succeeded; in an array, each task after the task of the same point."""
    array = jobs[0].partition("_")[0]
    return f"aftercorr:{array}" if len(jobs) > 1 else f"afterok:{jobs[0]}"


def _make_executor(
    phase: JobArray, *, folder: Path, code: Path, max_parallel: int, after: str
) -> submitit.SlurmExecutor:
    slurm, folder = phase.slurm, record_folder(folder)
    executor = _Executor(folder, max_num_timeout=slurm.max_requeues)
    # Values are text in the config; "true" means an option without a value.
    user_options = {name: True if value.lower() == "true" else value for name, value in slurm.extra.items()}
    extra: dict[str, str | bool] = {"requeue": True, **user_options}
    if after:
        extra |= {"dependency": after, "kill-on-invalid-dep": "yes"}
    python = shlex.quote(sys.executable)
    path = shlex.quote(str(code)) + "${PYTHONPATH:+:$PYTHONPATH}"
    executor.update_parameters(
        job_name=f"{Path(phase.configs[0].output_dir).name}-{phase.name}"[:64],
        partition=slurm.partition or None,
        account=slurm.account or None,
        qos=slurm.qos or None,
        time=max(1, round(60 * slurm.hours)),
        nodes=slurm.nodes,
        ntasks_per_node=tasks_per_node(slurm),
        cpus_per_task=slurm.cpus_per_task,
        gpus_per_node=slurm.gpus_per_node or None,
        mem=f"{slurm.mem_gb}GB" if slurm.mem_gb else None,
        signal_delay_s=slurm.signal_delay_seconds,
        wckey=None,
        array_parallelism=max_parallel,
        additional_parameters=extra,
        # A failed rank ends the others. srun of SLURM 22.05 to 23.02 doesn't inherit --cpus-per-task from sbatch.
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={slurm.cpus_per_task}"],
        # With a trap, bash survives SIGTERM, waits for srun and runs the epilogue. `python -m` searches the working
        # directory before PYTHONPATH, so both must be the snapshot.
        setup=["trap : TERM", f"cd {shlex.quote(str(code))}", f"export PYTHONPATH={path}"],
        teardown=[f"{python} -m diffmae_video.launch.job_end {shlex.quote(str(folder))} $?"],
    )
    return executor


class _Executor(submitit.SlurmExecutor):
    """submitit's executor, but usable without srun, so that --dry-run works without a cluster."""

    @classmethod
    def name(cls) -> str:
        return "slurm"

    @classmethod
    def affinity(cls) -> int:
        return 2
