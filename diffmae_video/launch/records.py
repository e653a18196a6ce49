"""Records of jobs under ``slurm/`` in the run folder: submissions, attempts, failures and outcomes.

    jobs.jsonl                    one line per submitted job
    attempt-JOB-RESTART.json      start and end of one attempt, written by rank 0
    failure-JOB-RESTART-RANK.json the exception that ended a rank, with its traceback
    ends.jsonl                    one line per attempt: finished, requeued, failed or cancelled, and why

Plain files, so that tools/sweep.py needs neither sacct nor a running controller.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffmae_video.files import read_json, replace_text


@dataclass(frozen=True)
class Submission:
    """One submitted job of a run.

    Attributes:
        job: SLURM's id, ``ID_TASK`` in an array, or a process id if ``cluster`` is "local".
        cluster: "slurm" or "local".
        stages: the stages that it runs.
        submitted: time of the submission, ISO 8601; the jobs of one submission share it.
        config: path of the resolved config.
        code: path of the code snapshot.
        logs: path of the log of its first task.
        params: values of the swept keys.
    """

    job: str
    cluster: str
    stages: list[str]
    submitted: str
    config: str
    code: str
    logs: str
    params: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """One start of a job, recorded by rank 0.

    Attributes:
        job: job id.
        restart: number of earlier attempts of the job.
        host: where rank 0 runs.
        started, ended: Unix times; ``ended`` is None until the run returns.
        code: exit code, 0 (finished) or 75 (interrupted and saved); None until the run returns.
    """

    job: str
    restart: int
    host: str
    started: float
    ended: float | None = None
    code: int | None = None


@dataclass(frozen=True)
class Failure:
    """An exception that ended a rank.

    Attributes:
        job, restart, rank, host: of the rank's attempt.
        time: Unix time of the exception.
        own: False if it follows from the loss of another rank.
        error: the exception in one line.
        traceback: as Python prints it.
    """

    job: str
    restart: int
    rank: int
    host: str
    time: float
    own: bool
    error: str
    traceback: str


@dataclass(frozen=True)
class JobOutcome:
    """Outcome of an attempt.

    Attributes:
        job, restart: of the attempt.
        end: "finished", "requeued", "failed" or "cancelled".
        reason: of the outcome, in one line; "" if finished.
        traceback: of the rank that failed; "" if there is none.
    """

    job: str
    restart: int
    end: str
    reason: str
    traceback: str = ""


def record_folder(output_dir: str | Path) -> Path:
    """Folder of a run's records."""
    return Path(output_dir) / "slurm"


def add_submission(output_dir: str | Path, submission: Submission) -> None:
    """Append to jobs.jsonl."""
    _append(record_folder(output_dir) / "jobs.jsonl", submission)


def read_submissions(output_dir: str | Path) -> list[Submission]:
    """All submissions of a run, oldest first."""
    return [Submission(**line) for line in _lines(record_folder(output_dir) / "jobs.jsonl")]


def write_attempt(output_dir: str | Path, attempt: Attempt) -> None:
    """Write or replace an attempt's file."""
    _write(record_folder(output_dir) / f"attempt-{attempt.job}-{attempt.restart}.json", attempt)


def read_attempts(output_dir: str | Path) -> list[Attempt]:
    """All attempts of all jobs of a run, oldest first."""
    found = [Attempt(**fields) for fields in _objects(output_dir, "attempt-*.json")]
    return sorted(found, key=lambda attempt: attempt.started)


def write_failure(output_dir: str | Path, failure: Failure) -> None:
    """Write a rank's failure."""
    name = f"failure-{failure.job}-{failure.restart}-{failure.rank}.json"
    _write(record_folder(output_dir) / name, failure)


def read_failures(output_dir: str | Path, job: str, restart: int) -> list[Failure]:
    """The failures of one attempt, the likely cause first: own errors by time, then losses of a peer by time."""
    found = [Failure(**fields) for fields in _objects(output_dir, f"failure-{job}-{restart}-*.json")]
    return sorted(found, key=lambda failure: (not failure.own, failure.time))


def add_end(output_dir: str | Path, end: JobOutcome) -> None:
    """Append to ends.jsonl."""
    _append(record_folder(output_dir) / "ends.jsonl", end)


def read_ends(output_dir: str | Path) -> list[JobOutcome]:
    """The outcomes of all attempts, oldest first."""
    return [JobOutcome(**line) for line in _lines(record_folder(output_dir) / "ends.jsonl")]


def _objects(output_dir: str | Path, pattern: str) -> list[dict[str, Any]]:
    """The records whose files' names match ``pattern``."""
    found = (read_json(path) for path in record_folder(output_dir).glob(pattern))
    return [fields for fields in found if fields is not None]


def _append(path: Path, item: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(item)) + "\n")


def _write(path: Path, item: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(dataclasses.asdict(item), indent=2) + "\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, [] if there is none; skips a line that was cut short, as by a full disk."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]
