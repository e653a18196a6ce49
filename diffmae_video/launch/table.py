"""Status table of runs and sweeps: one row per run, from its files and SLURM's queue."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from diffmae_video.config import Config, load_config, value_text
from diffmae_video.config.rules import walk
from diffmae_video.engine.compatibility import identity
from diffmae_video.engine.monitor.status import read_status
from diffmae_video.engine.results import read_result
from diffmae_video.errors import UserError
from diffmae_video.launch.records import JobOutcome, Submission, read_attempts, read_ends, read_submissions
from diffmae_video.launch.slurm import queue

_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING"}


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        point: name of its folder.
        params: values of the swept keys.
        state: pending, running, finished, failed, cancelled, interrupted (saved), or lost.
        stage, step, restarts: as in status.json.
        loss: the last one of training.
        top1: of the test stage; None before it.
        seconds: wall time of all attempts.
        reason: why it is in this state; "" if that is obvious.
        folder: run folder.
        live: ids of its jobs that are pending or running.
        cluster: "slurm", "local", or "" for a run that was started without tools/submit.py.
    """

    point: str
    params: dict[str, str]
    state: str
    stage: str
    step: int | None
    loss: float | None
    top1: float | None
    seconds: float
    restarts: int
    reason: str
    folder: str
    live: tuple[str, ...]
    cluster: str = ""


def find_runs(folders: Iterable[str | Path]) -> list[Path]:
    """The runs in or directly below ``folders``, in the order of submission or start.

    A run is a folder with a config.yaml or with records of a submission.

    Raises:
        UserError: a folder holds no run.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        below = [path for path in sorted(folder.glob("*/")) if path.name != "slurm"]
        if is_run := _is_submitted(folder) or (folder / "config.yaml").exists():
            below = [path for path in below if _is_submitted(path)]  # its other folders are stages
        runs = [path for path in below if _is_submitted(path) or (path / "config.yaml").exists()]
        if not is_run and not runs:
            raise UserError(f"{folder}: no run is here; give the folder of a run (its output_dir) or of several")
        for run in [folder, *runs] if is_run else runs:
            found.setdefault(run.resolve(), run)
    return sorted(found.values(), key=_start_order)


def _is_submitted(run: Path) -> bool:
    return (run / "slurm" / "jobs.jsonl").exists()


def _start_order(run: Path) -> tuple[str, list[int]]:
    """Sort key: first submission and index in the array, or first start of a run that was not submitted."""
    if not _is_submitted(run):
        status = read_status(run)
        return status["started"] if status else "", []
    first = read_submissions(run)[0]
    return first.submitted, [int(number) for number in first.job.split("_")]


def read_rows(runs: Sequence[Path]) -> list[Row]:
    """One row per run. Calls squeue once, or not at all if every run is finished.

    Raises:
        SlurmError: a run isn't finished and squeue fails.
    """
    latest = {run: latest_jobs(run) for run in runs}
    configs = {run: load_config(run / "slurm" / "config.yaml" if latest[run] else run / "config.yaml") for run in runs}
    done = {run: is_finished(run, configs[run]) for run in runs}
    params = _differing_params({run: configs[run] for run in runs if not latest[run]})
    params |= {run: jobs[-1].params for run, jobs in latest.items() if jobs}
    open_jobs = [entry for run, jobs in latest.items() for entry in jobs if not done[run]]
    states = queue([entry.job for entry in open_jobs if entry.cluster == "slurm"])
    local = [entry.job for entry in open_jobs if entry.cluster == "local"]
    states |= {job: "RUNNING" for job in local if _process_exists(int(job))}
    return [
        _read_row(run, jobs, states, config=configs[run], params=params[run], done=done[run])
        for run, jobs in latest.items()
    ]


def _differing_params(configs: Mapping[Path, Config]) -> dict[Path, dict[str, str]]:
    """For runs that were not submitted: the keys whose values differ between them, and the values."""
    values = {run: {name: value_text(value) for name, _, value in walk(config)} for run, config in configs.items()}
    rows = list(values.values())
    keys = [key for key in (rows[0] if rows else ()) if len({row[key] for row in rows}) > 1]
    swept = [key for key in keys if key != "output_dir" and not key.startswith("slurm.")]
    return {run: {key: row[key] for key in swept} for run, row in values.items()}


def latest_jobs(run: Path) -> list[Submission]:
    """The jobs of a run's last submission: one, or one per stage; [] if it was not submitted."""
    entries = read_submissions(run)
    return [entry for entry in entries if entry.submitted == entries[-1].submitted]


def _read_row(
    run: Path,
    jobs: Sequence[Submission],
    states: Mapping[str, str],
    *,
    config: Config,
    params: dict[str, str],
    done: bool,
) -> Row:
    status = read_status(run)
    live = {entry.job: states[entry.job] for entry in jobs if entry.job in states}
    ids = {entry.job for entry in jobs}
    ends = [end for end in read_ends(run) if end.job in ids]
    if done:
        state, reason = "finished", ""
    else:
        state, reason = _state(status, list(live.values()), ends) if jobs else _state_of_unsubmitted(status)
    return Row(
        point=run.name,
        params=params,
        state=state,
        stage=config.stages[-1] if done else (status["stage"] if status else ""),
        step=status["step"] if status else None,
        loss=_last_loss(run, status),
        top1=_top1(run),
        seconds=_seconds_used(run, status, running=state == "running") if jobs else _seconds_since_start(status),
        restarts=status["restarts"] if status else 0,
        reason=reason,
        folder=str(run),
        live=tuple(live),
        cluster=jobs[-1].cluster if jobs else "",
    )


def _state(status: dict[str, Any] | None, live: Sequence[str], ends: Sequence[JobOutcome]) -> tuple[str, str]:
    """(state, reason) of an unfinished run: from the queue, else from its last outcome, else from its status.json."""
    if any(state not in _WAITING for state in live):
        return "running", ""
    if live:
        return "pending", ends[-1].reason if ends else ""
    last = ends[-1] if ends else None
    if last and last.end in ("failed", "cancelled"):
        return last.end, last.reason
    if status and status["state"] in ("failed", "interrupted"):
        return status["state"], status["reason"]
    return "lost", "the job is gone and recorded no outcome; see its logs, and check that the nodes can write here"


def _state_of_unsubmitted(status: dict[str, Any] | None) -> tuple[str, str]:
    """(state, reason) of an unfinished run that was not submitted, from its status.json and its process."""
    if status is None:
        return "lost", "there is no status.json"
    if status["state"] != "running":  # finished: an earlier run did, and stages have been added since
        return ("interrupted" if status["state"] == "finished" else status["state"]), status["reason"]
    if status["host"] == socket.gethostname() and not _process_exists(status["pid"]):
        return "lost", f"process {status['pid']} is gone; run the same command again to resume"
    return "running", f"on {status['host']}, last seen at {status['updated']}"


def is_finished(run: Path, config: Config) -> bool:
    """Whether every stage of ``config`` has its result in ``run``: a test's of the same list, weights and views."""
    results = {stage: read_result(run / stage) for stage in config.stages}
    if not all(results.values()):
        return False
    tested = results.get("test")
    if tested is None:
        return True
    given = tested.get("given", {})
    return tested["identity"] == identity(config, "test") and given == {
        "data.val_list": config.data.val_list,
        "test.weights": config.test.weights,
    }


def _process_exists(number: int) -> bool:
    """Whether this user has a process of this id on this host."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _last_loss(run: Path, status: dict[str, Any] | None) -> float | None:
    """The last loss in status.json, else the final loss of the last training stage (the test has no loss)."""
    if status and status["loss"] is not None:
        return float(status["loss"])
    for stage in ("finetune", "pretrain"):
        if result := read_result(run / stage):
            return result["final_loss"]
    return None


def _top1(run: Path) -> float | None:
    result = read_result(run / "test")
    return result["model"]["top1"] if result else None


def _seconds_used(run: Path, status: dict[str, Any] | None, *, running: bool) -> float:
    """Wall time of all attempts.

    An attempt without an end counts up to the last status update if it is the latest, else not at all: the status
    was overwritten since.
    """
    attempts = read_attempts(run)
    last_update = datetime.fromisoformat(status["updated"]).timestamp() if status else 0.0
    total = 0.0
    for attempt, following in itertools.zip_longest(attempts, attempts[1:]):
        end = attempt.ended
        if end is None and following is None:
            end = time.time() if running else last_update
        total += max(0.0, (end or attempt.started) - attempt.started)
    return total


def _seconds_since_start(status: dict[str, Any] | None) -> float:
    """From the first start to the last status update."""
    if status is None:
        return 0.0
    return (datetime.fromisoformat(status["updated"]) - datetime.fromisoformat(status["started"])).total_seconds()


def swept_keys(rows: Iterable[Row]) -> list[str]:
    """The keys that the rows have values of, in the order of the sweep."""
    return list(dict.fromkeys(key for row in rows for key in row.params))


def to_text(rows: Sequence[Row]) -> str:
    """The table as aligned text."""
    keys = swept_keys(rows)
    columns = [*keys, "state", "stage", "step", "loss", "top-1", "time", "restarts", "reason"]
    # Points of --sweep are named by their values, which have columns already.
    named = not keys or any(row.point != _product_name(row) for row in rows)
    lines = [(["point"] if named else []) + columns]
    for row in rows:
        values = [row.params.get(key, "") for key in keys]
        numbers = [_number(row.step, "d"), _number(row.loss, ".4f"), _number(row.top1, ".2%"), _clock(row.seconds)]
        cells = [*values, row.state, row.stage, *numbers, str(row.restarts), row.reason]
        lines.append(([row.point] if named else []) + cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def to_csv(rows: Sequence[Row]) -> str:
    """The table as CSV: one column per swept key, numbers in full precision."""
    keys = swept_keys(rows)
    names = [f.name for f in dataclasses.fields(Row) if f.name not in ("params", "live")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *names])
    for row in rows:
        writer.writerow([row.params.get(key, "") for key in keys] + [getattr(row, name) for name in names])
    return text.getvalue()


def _product_name(row: Row) -> str:
    return ",".join(f"{key}={value}" for key, value in row.params.items())


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
