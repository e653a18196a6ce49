"""The state of runs and sweeps: one row a run, read from the runs' own files and from the queue."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from diffmae_video.engine.identity import identity
from diffmae_video.engine.status import read_status
from diffmae_video.errors import UserError
from diffmae_video.launch.cluster import queue
from diffmae_video.launch.records import End, Submission, read_attempts, read_ends, read_submissions
from diffmae_video.recipe import Recipe, load_recipe, value_text
from diffmae_video.recipe.rules import walk

_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING"}


@dataclass(frozen=True)
class Row:
    """One run.

    ``state``: pending, running, finished, failed, cancelled, interrupted (saved), or lost. ``cluster``: "slurm",
    "local", or "" for a run that was started without tools/submit.py.
    """

    point: str
    differs: dict[str, str]
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
    """The runs in or directly below some folders, in the order of submission or start.

    A run is a folder with a recipe.yaml, or with records of a submission.

    Raises:
        UserError: a folder holds none.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        below = [path for path in sorted(folder.glob("*/")) if path.name != "slurm"]
        if is_run := _is_submitted(folder) or (folder / "recipe.yaml").exists():
            below = [path for path in below if _is_submitted(path)]  # the others are its stages
        runs = [path for path in below if _is_submitted(path) or (path / "recipe.yaml").exists()]
        if not is_run and not runs:
            raise UserError(f"{folder}: no run is here; give the folder of a run (a recipe's output_dir) or of several")
        for run in [folder, *runs] if is_run else runs:
            found.setdefault(run.resolve(), run)
    return sorted(found.values(), key=_place_in_order)


def _is_submitted(run: Path) -> bool:
    return (run / "slurm" / "jobs.jsonl").exists()


def _place_in_order(run: Path) -> tuple[str, list[int]]:
    """When a run was first submitted, and its number in the array; or when it was first started."""
    if not _is_submitted(run):
        told = read_status(run)
        return told["started"] if told else "", []
    first = read_submissions(run)[0]
    return first.submitted, [int(number) for number in first.job.split("_")]


def read_rows(runs: Sequence[Path]) -> list[Row]:
    """A row for each run; squeue is asked once, and not at all where every run is finished.

    Raises:
        SlurmError: a run isn't finished and squeue can't say where it is.
    """
    latest = {run: latest_jobs(run) for run in runs}
    recipes = {run: load_recipe(run / "slurm" / "recipe.yaml" if latest[run] else run / "recipe.yaml") for run in runs}
    done = {run: is_finished(run, recipes[run]) for run in runs}
    differs = _differences({run: recipes[run] for run in runs if not latest[run]})
    differs |= {run: jobs[-1].differs for run, jobs in latest.items() if jobs}
    open_jobs = [entry for run, jobs in latest.items() for entry in jobs if not done[run]]
    states = queue([entry.job for entry in open_jobs if entry.cluster == "slurm"])
    local = [entry.job for entry in open_jobs if entry.cluster == "local"]
    states |= {job: "RUNNING" for job in local if _process_lives(int(job))}
    return [
        _read_row(run, jobs, states, recipe=recipes[run], differs=differs[run], done=done[run])
        for run, jobs in latest.items()
    ]


def _differences(recipes: Mapping[Path, Recipe]) -> dict[Path, dict[str, str]]:
    """What sets runs apart that were not submitted together: the keys whose values differ between them."""
    values = {run: {name: value_text(value) for name, _, value in walk(recipe)} for run, recipe in recipes.items()}
    rows = list(values.values())
    keys = [key for key in (rows[0] if rows else ()) if len({row[key] for row in rows}) > 1]
    swept = [key for key in keys if key != "output_dir" and not key.startswith("slurm.")]
    return {run: {key: row[key] for key in swept} for run, row in values.items()}


def latest_jobs(run: Path) -> list[Submission]:
    """The jobs of a run's last submission: one, or one a stage; none where nothing was submitted."""
    entries = read_submissions(run)
    return [entry for entry in entries if entry.submitted == entries[-1].submitted]


def _read_row(
    run: Path,
    jobs: Sequence[Submission],
    states: Mapping[str, str],
    *,
    recipe: Recipe,
    differs: dict[str, str],
    done: bool,
) -> Row:
    told = read_status(run)
    live = {entry.job: states[entry.job] for entry in jobs if entry.job in states}
    ids = {entry.job for entry in jobs}
    ends = [end for end in read_ends(run) if end.job in ids]
    if done:
        state, reason = "finished", ""
    else:
        state, reason = _state(told, list(live.values()), ends) if jobs else _own_word(told)
    return Row(
        point=run.name,
        differs=differs,
        state=state,
        stage=recipe.stages[-1] if done else (told["stage"] if told else ""),
        step=told["step"] if told else None,
        loss=_last_loss(run, told),
        top1=_top1(run),
        seconds=_seconds_used(run, told, running=state == "running") if jobs else _seconds_told(told),
        restarts=told["restarts"] if told else 0,
        reason=reason,
        folder=str(run),
        live=tuple(live),
        cluster=jobs[-1].cluster if jobs else "",
    )


def _state(told: dict[str, Any] | None, live: Sequence[str], ends: Sequence[End]) -> tuple[str, str]:
    """(state, reason) of an unfinished run: the queue's word first, then the epilogue's, then the run's own."""
    if any(state not in _WAITING for state in live):
        return "running", ""
    if live:
        return "pending", ends[-1].reason if ends else ""
    last = ends[-1] if ends else None
    if last and last.end in ("failed", "cancelled"):
        return last.end, last.reason
    if told and told["state"] in ("failed", "interrupted"):
        return told["state"], told["reason"]
    return "lost", "the job is gone and left no word; see its logs, and whether the nodes can write here"


def _own_word(told: dict[str, Any] | None) -> tuple[str, str]:
    """(state, reason) of an unfinished run that was not submitted, as it says itself; is its process still there?"""
    if told is None:
        return "lost", "it left no status.json"
    if told["state"] != "running":  # a run whose stages were finished may have been given more since
        return ("interrupted" if told["state"] == "finished" else told["state"]), told["reason"]
    if told["host"] == socket.gethostname() and not _process_lives(told["pid"]):
        return "lost", f"process {told['pid']} is gone and left no word; the same command goes on"
    return "running", f"as {told['host']} said at {told['updated']}"


def is_finished(run: Path, recipe: Recipe) -> bool:
    """Whether every stage of ``recipe`` has its result in ``run``; a test's counts if it is of the same views."""
    results = {stage: run / stage / "result.json" for stage in recipe.stages}
    if not all(path.exists() for path in results.values()):
        return False
    if "test" not in results:
        return True
    tested = json.loads(results["test"].read_text(encoding="utf-8"))
    return tested["identity"] == identity(recipe, "test")


def _process_lives(number: int) -> bool:
    """Whether a process of ours lives on this host."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _last_loss(run: Path, told: dict[str, Any] | None) -> float | None:
    """The loss last told, or of the training stage before where the present stage has none."""
    if told and told["loss"] is not None:
        return float(told["loss"])
    for stage in ("finetune", "pretrain"):
        path = run / stage / "result.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))["final_loss"]
    return None


def _top1(run: Path) -> float | None:
    path = run / "test" / "result.json"
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["model"]["top1"]


def _seconds_used(run: Path, told: dict[str, Any] | None, *, running: bool) -> float:
    """Wall time of all attempts; the last counts to its last word if it was cut off, an earlier one nothing."""
    attempts = read_attempts(run)
    last_word = datetime.fromisoformat(told["updated"]).timestamp() if told else 0.0
    total = 0.0
    for attempt, following in itertools.zip_longest(attempts, attempts[1:]):
        end = attempt.ended
        if end is None and following is None:
            end = time.time() if running else last_word
        total += max(0.0, (end or attempt.started) - attempt.started)
    return total


def _seconds_told(told: dict[str, Any] | None) -> float:
    """From the first start to the last word."""
    if told is None:
        return 0.0
    return (datetime.fromisoformat(told["updated"]) - datetime.fromisoformat(told["started"])).total_seconds()


def swept_keys(rows: Iterable[Row]) -> list[str]:
    """The keys that differ between the rows, in the order of the sweep."""
    return list(dict.fromkeys(key for row in rows for key in row.differs))


def to_text(rows: Sequence[Row]) -> str:
    """A table for the terminal."""
    keys = swept_keys(rows)
    header = [*keys, "state", "stage", "step", "loss", "top-1", "time", "restarts", "reason"]
    # A point of a product is named by its values, which have columns of their own.
    named = not keys or any(row.point != _product_name(row) for row in rows)
    lines = [(["point"] if named else []) + header]
    for row in rows:
        values = [row.differs.get(key, "") for key in keys]
        numbers = [_number(row.step, "d"), _number(row.loss, ".4f"), _number(row.top1, ".2%"), _clock(row.seconds)]
        cells = [*values, row.state, row.stage, *numbers, str(row.restarts), row.reason]
        lines.append(([row.point] if named else []) + cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def to_csv(rows: Sequence[Row]) -> str:
    """The same as CSV, a column a swept key, numbers in full."""
    keys = swept_keys(rows)
    names = [f.name for f in dataclasses.fields(Row) if f.name not in ("differs", "live")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *names])
    for row in rows:
        writer.writerow([row.differs.get(key, "") for key in keys] + [getattr(row, name) for name in names])
    return text.getvalue()


def _product_name(row: Row) -> str:
    return ",".join(f"{key}={value}" for key, value in row.differs.items())


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
