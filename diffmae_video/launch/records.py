"""What a job leaves in its run's folder, under ``slurm/``: who submitted it, each attempt, each end.

    jobs.jsonl                    a line a submission
    attempt-JOB-RESTART.json      rank 0's start and end of one attempt
    failure-JOB-RESTART-RANK.json a rank that raised, with its traceback
    ends.jsonl                    a line an attempt: finished, requeued, failed or cancelled, and why

They are plain files, read by tools/sweep.py, so that neither sacct nor a live controller is needed.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Submission:
    """One job of a run. ``job`` is SLURM's id, ``ID_TASK`` in an array, or a process id for ``local``."""

    job: str
    cluster: str
    stages: list[str]
    submitted: str
    recipe: str
    code: str
    logs: str
    differs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """One start of a job, as rank 0 tells it; ``code`` and ``ended`` are None until its run returns."""

    job: str
    restart: int
    host: str
    started: float
    ended: float | None = None
    code: int | None = None


@dataclass(frozen=True)
class Failure:
    """An exception that ended a rank. ``own`` is False where another rank's death was the cause."""

    job: str
    restart: int
    rank: int
    host: str
    time: float
    own: bool
    error: str
    traceback: str


@dataclass(frozen=True)
class End:
    """How an attempt ended: "finished", "requeued", "failed" or "cancelled"."""

    job: str
    restart: int
    end: str
    reason: str
    traceback: str = ""


def record_folder(output_dir: str | Path) -> Path:
    """Where the records of a run are."""
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
    files = record_folder(output_dir).glob("attempt-*.json")
    return sorted((Attempt(**json.loads(p.read_text())) for p in files), key=lambda a: a.started)


def write_failure(output_dir: str | Path, failure: Failure) -> None:
    """Write a rank's failure."""
    name = f"failure-{failure.job}-{failure.restart}-{failure.rank}.json"
    _write(record_folder(output_dir) / name, failure)


def read_failures(output_dir: str | Path, job: str, restart: int) -> list[Failure]:
    """The failures of one attempt, its cause first: a rank's own before what followed from it."""
    files = record_folder(output_dir).glob(f"failure-{job}-{restart}-*.json")
    found = [Failure(**json.loads(p.read_text())) for p in files]
    return sorted(found, key=lambda failure: (not failure.own, failure.time))


def add_end(output_dir: str | Path, end: End) -> None:
    """Append to ends.jsonl."""
    _append(record_folder(output_dir) / "ends.jsonl", end)


def read_ends(output_dir: str | Path) -> list[End]:
    """How the attempts ended, oldest first."""
    return [End(**line) for line in _lines(record_folder(output_dir) / "ends.jsonl")]


def _append(path: Path, item: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(item)) + "\n")


def _write(path: Path, item: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(dataclasses.asdict(item), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, none where there is no file; a line that a full disk cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]
