"""The table of a sweep, from files as runs leave them; the queue's answer is given."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from diffmae_video.engine.identity import identity
from diffmae_video.errors import UserError
from diffmae_video.launch import table
from diffmae_video.launch.plot import plot_rows
from diffmae_video.launch.records import (
    Attempt,
    End,
    Submission,
    add_end,
    add_submission,
    record_folder,
    write_attempt,
)
from diffmae_video.recipe import dump_recipe, load_recipe

START = 1_700_000_000.0
UPDATED = "2023-11-14T22:15:00+00:00"  # START + 100 s


@pytest.fixture
def make_run(tmp_path: Path):
    """``make_run(name, job, status..., end, tested, differs)``: a run's folder."""

    def make(
        name: str,
        *,
        job: str = "7",
        state: str = "",
        reason: str = "",
        end: str = "",
        top1: float | None = None,
        submitted: str = "2023-11-14T22:00:00",
        **differs: str,
    ) -> Path:
        run = tmp_path / "sweep" / name
        record_folder(run).mkdir(parents=True)
        base = tmp_path / "base.yaml"
        base.write_text("stages: [finetune, test]\n")
        recipe = load_recipe(base, [f"output_dir={run}"])
        (record_folder(run) / "recipe.yaml").write_text(dump_recipe(recipe))
        entry = Submission(job, "slurm", recipe.stages, submitted, "r", "c", "l", {"pretrain.lr": "0.1", **differs})
        add_submission(run, entry)
        if state:
            told = {"state": state, "stage": "finetune", "step": 5, "num_steps": 9, "loss": 1.5, "restarts": 1}
            told |= {"host": "n", "pid": 1, "started": UPDATED, "updated": UPDATED, "reason": reason}
            (run / "status.json").write_text(json.dumps(told))
            write_attempt(run, Attempt(job, 0, "n1", START, START + 30, 75))
            write_attempt(run, Attempt(job, 1, "n1", START + 60))
        if end:
            add_end(run, End(job, 1, end, f"{end} because"))
        if top1 is not None:
            for stage, result in (("finetune", {}), ("test", {"model": {"top1": top1}})):
                (run / stage).mkdir()
                header = {"identity": identity(recipe, stage)}
                (run / stage / "result.json").write_text(json.dumps({**header, **result}))
        return run

    return make


@pytest.fixture
def rows_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def read(queue: dict[str, str]) -> list[table.Row]:
        monkeypatch.setattr(table, "queue", lambda jobs: {job: queue[job] for job in jobs if job in queue})
        return table.read_rows(table.find_runs(tmp_path / "sweep"))

    return read


def test_states(make_run, rows_of) -> None:
    make_run("done", job="7_0", state="finished", end="finished", top1=0.25)
    make_run("goes", job="7_1", state="running")
    make_run("waits", job="7_2")
    make_run("again", job="7_3", state="interrupted", end="requeued")
    make_run("broke", job="7_4", state="running", end="failed")
    make_run("told", job="7_5", state="failed", reason="bad frame")
    make_run("stopped", job="7_6", state="interrupted", end="cancelled")
    make_run("saved", job="7_7", state="interrupted", reason="SIGTERM")
    make_run("gone", job="7_8", state="running")
    rows = rows_of({"7_0": "COMPLETING", "7_1": "RUNNING", "7_2": "PENDING", "7_3": "PENDING"})
    assert [(row.point, row.state) for row in rows] == [
        ("done", "finished"),
        ("goes", "running"),
        ("waits", "pending"),
        ("again", "pending"),
        ("broke", "failed"),
        ("told", "failed"),
        ("stopped", "cancelled"),
        ("saved", "interrupted"),
        ("gone", "lost"),
    ]
    reasons = {row.point: row.reason for row in rows}
    assert (reasons["broke"], reasons["told"]) == ("failed because", "bad frame")
    assert "left no word" in reasons["gone"]


def test_numbers_and_formats(make_run, rows_of, tmp_path: Path) -> None:
    make_run("a", job="7_0", state="finished", end="finished", top1=0.25, seed="1")
    make_run("b", job="7_1", state="failed", end="failed", seed="2")
    rows = rows_of({})
    assert [row.top1 for row in rows] == [0.25, None]
    assert [row.seconds for row in rows] == [70.0, 70.0]  # 30 s, and 40 s to the last word
    assert [row.loss for row in rows] == [1.5, 1.5]
    header, first, second = table.to_text(rows).splitlines()
    assert header.split() == [
        *("point", "pretrain.lr", "seed", "state", "stage", "step"),
        *("loss", "top-1", "time", "restarts", "reason"),
    ]
    assert first.split() == ["a", "0.1", "1", "finished", "test", "5", "1.5000", "25.00%", "0:01:10", "1"]
    assert second.split() == ["b", "0.1", "2", "failed", "finetune", "5", "1.5000", "0:01:10", "1", "failed", "because"]
    read = list(csv.DictReader(io.StringIO(table.to_csv(rows))))
    assert [(r["seed"], r["state"], r["top1"]) for r in read] == [("1", "finished", "0.25"), ("2", "failed", "")]
    assert plot_rows(rows, tmp_path / "plot.png") == "top1"


def test_a_test_of_other_views_is_not_finished(make_run, rows_of) -> None:
    run = make_run("a", state="finished", end="finished", top1=0.25)
    recipe = run / "slurm" / "recipe.yaml"
    assert table.is_finished(run, load_recipe(recipe))
    assert not table.is_finished(run, load_recipe(recipe, ["test.views=9"]))


def test_nothing_to_show(tmp_path: Path, make_run, rows_of) -> None:
    (tmp_path / "sweep").mkdir()
    with pytest.raises(UserError, match=r"no run that tools/submit.py submitted"):
        table.find_runs(tmp_path / "sweep")
    make_run("a")
    with pytest.raises(UserError, match="nothing to draw yet"):
        plot_rows(rows_of({"7": "PENDING"}), tmp_path / "plot.png")


def test_runs_come_in_the_order_of_submission_and_of_their_array(make_run, rows_of) -> None:
    for name, job in (("z", "7_9"), ("a", "7_10"), ("m", "7_2")):
        make_run(name, job=job, submitted="2023-11-14T22:00:00")
    make_run("b", job="3", submitted="2023-11-14T21:00:00")
    assert [row.point for row in rows_of({})] == ["b", "m", "z", "a"]
