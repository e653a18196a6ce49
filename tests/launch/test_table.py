"""The table of a sweep, from the files of runs and a fake queue."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
from pathlib import Path

import pytest

from diffmae_video.config import Config, dump_config, load_config
from diffmae_video.engine.compatibility import identity
from diffmae_video.errors import UserError
from diffmae_video.launch import cli, table
from diffmae_video.launch.plot import plot_rows
from diffmae_video.launch.records import (
    Attempt,
    JobOutcome,
    Submission,
    add_end,
    add_submission,
    record_folder,
    write_attempt,
)

START = 1_700_000_000.0
UPDATED = "2023-11-14T22:15:00+00:00"  # START + 100 s


def write_result(run: Path, config: Config, stage: str, **result: object) -> None:
    """What the table reads of a finished stage."""
    given = {"data.val_list": config.data.val_list, "test.weights": config.test.weights}
    header = {"identity": identity(config, stage), "given": given}
    (run / stage / "result.json").write_text(json.dumps({**header, **result}))


@pytest.fixture
def make_run(tmp_path: Path):
    """``make_run(name, job, status..., end, tested, params)``: a run's folder."""

    def make(
        name: str,
        *,
        job: str = "7",
        state: str = "",
        reason: str = "",
        end: str = "",
        top1: float | None = None,
        submitted: str = "2023-11-14T22:00:00",
        cluster: str = "slurm",
        **params: str,
    ) -> Path:
        run = tmp_path / "sweep" / name
        record_folder(run).mkdir(parents=True)
        base = tmp_path / "base.yaml"
        base.write_text("stages: [finetune, test]\n")
        config = load_config(base, [f"output_dir={run}"])
        (record_folder(run) / "config.yaml").write_text(dump_config(config))
        entry = Submission(job, cluster, config.stages, submitted, "r", "c", "l", {"pretrain.lr": "0.1", **params})
        add_submission(run, entry)
        if state:
            status = {"state": state, "stage": "finetune", "step": 5, "num_steps": 9, "loss": 1.5, "restarts": 1}
            status |= {"host": "n", "pid": 1, "started": UPDATED, "updated": UPDATED, "reason": reason}
            (run / "status.json").write_text(json.dumps(status))
            write_attempt(run, Attempt(job, 0, "n1", START, START + 30, 75))
            write_attempt(run, Attempt(job, 1, "n1", START + 60))
        if end:
            add_end(run, JobOutcome(job, 1, end, f"{end} because"))
        if top1 is not None:
            for stage, result in (("finetune", {}), ("test", {"model": {"top1": top1}})):
                (run / stage).mkdir()
                write_result(run, config, stage, **result)
        return run

    return make


@pytest.fixture
def rows_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def read(queue: dict[str, str]) -> list[table.Row]:
        monkeypatch.setattr(table, "queue", lambda jobs: {job: queue[job] for job in jobs if job in queue})
        return table.read_rows(table.find_runs([tmp_path / "sweep"]))

    return read


def test_states(make_run, rows_of) -> None:
    make_run("done", job="7_0", state="finished", end="finished", top1=0.25)
    make_run("goes", job="7_1", state="running")
    make_run("waits", job="7_2")
    make_run("again", job="7_3", state="interrupted", end="requeued")
    make_run("broke", job="7_4", state="running", end="failed")
    make_run("crashed", job="7_5", state="failed", reason="bad frame")
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
        ("crashed", "failed"),
        ("stopped", "cancelled"),
        ("saved", "interrupted"),
        ("gone", "lost"),
    ]
    reasons = {row.point: row.reason for row in rows}
    assert (reasons["broke"], reasons["crashed"]) == ("failed because", "bad frame")
    assert "recorded no outcome" in reasons["gone"]


def test_numbers_and_formats(make_run, rows_of, tmp_path: Path) -> None:
    make_run("a", job="7_0", state="finished", end="finished", top1=0.25, seed="1")
    make_run("b", job="7_1", state="failed", end="failed", seed="2")
    rows = rows_of({})
    assert [row.top1 for row in rows] == [0.25, None]
    assert [row.seconds for row in rows] == [70.0, 70.0]  # 30 s, and 40 s to the last update
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
    config = run / "slurm" / "config.yaml"
    assert table.is_finished(run, load_config(config))
    for other in ("test.views=9", "data.val_list=other.csv", "test.weights=best"):
        assert not table.is_finished(run, load_config(config, [other])), other


def test_nothing_to_show(tmp_path: Path, make_run, rows_of) -> None:
    (tmp_path / "sweep").mkdir()
    with pytest.raises(UserError, match=r"no run is here"):
        table.find_runs([tmp_path / "sweep"])
    make_run("a")
    with pytest.raises(UserError, match="nothing to draw yet"):
        plot_rows(rows_of({"7": "PENDING"}), tmp_path / "plot.png")


def test_runs_come_in_the_order_of_submission_and_of_their_array(make_run, rows_of) -> None:
    for name, job in (("z", "7_9"), ("a", "7_10"), ("m", "7_2")):
        make_run(name, job=job, submitted="2023-11-14T22:00:00")
    make_run("b", job="3", submitted="2023-11-14T21:00:00")
    assert [row.point for row in rows_of({})] == ["b", "m", "z", "a"]


@pytest.fixture
def make_plain_run(tmp_path: Path):
    """``make_plain_run(name, *overrides, status...)``: a run's folder as run_net.py leaves it, without a submission."""

    def make(
        name: str, *overrides: str, state: str = "", pid: int = 1, host: str = "n", top1: float | None = None
    ) -> Path:
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        base = tmp_path / "base.yaml"
        base.write_text("stages: [finetune, test]\n")
        config = load_config(base, [f"output_dir={run}", *overrides])
        (run / "config.yaml").write_text(dump_config(config))
        if state:
            status = {"state": state, "stage": "finetune", "step": 5, "num_steps": 9, "loss": 1.5, "restarts": 1}
            status |= {"host": host, "pid": pid, "started": f"2023-11-14T22:14:0{len(name)}+00:00", "updated": UPDATED}
            (run / "status.json").write_text(json.dumps({**status, "reason": "bad frame" if state == "failed" else ""}))
        if top1 is not None:
            for stage, result in (("finetune", {}), ("test", {"model": {"top1": top1}})):
                (run / stage).mkdir()
                write_result(run, config, stage, **result)
        return run

    return make


def test_runs_that_were_not_submitted_have_rows_too(make_plain_run, tmp_path: Path) -> None:
    make_plain_run("a", "seed=1", "pretrain.lr=1e-3", state="finished", top1=0.25)
    make_plain_run("bb", "seed=2", "pretrain.lr=1e-3", state="failed")
    make_plain_run("ccc", "seed=2", "slurm.nodes=3", state="running", pid=2**22 + 1, host=socket.gethostname())
    make_plain_run("dddd", "finetune.flip=true", state="running", pid=os.getpid(), host=socket.gethostname())
    make_plain_run("eeeee", state="running", host="elsewhere")
    make_plain_run("ffffff", state="interrupted")
    make_plain_run("ggggggg")
    (tmp_path / "runs" / "notes").mkdir()
    rows = {row.point: row for row in table.read_rows(table.find_runs([tmp_path / "runs"]))}
    states = {"a": "finished", "bb": "failed", "ccc": "lost", "dddd": "running", "eeeee": "running"}
    assert {name: row.state for name, row in rows.items()} == {**states, "ffffff": "interrupted", "ggggggg": "lost"}
    assert rows["a"].params == {"seed": "1", "pretrain.lr": "0.001", "finetune.flip": "null"}
    assert rows["dddd"].params == {"seed": "0", "pretrain.lr": "0.00015", "finetune.flip": "true"}
    assert (rows["a"].top1, rows["a"].stage, rows["a"].seconds) == (0.25, "test", 59.0)
    assert rows["bb"].reason == "bad frame"
    assert f"process {2**22 + 1} is gone" in rows["ccc"].reason
    header, first, *_ = table.to_text(list(rows.values())[1:]).splitlines()
    assert header.split()[:5] == ["point", "seed", "pretrain.lr", "finetune.flip", "state"]
    assert "25.00%" in table.to_text(list(rows.values()))
    assert first


def test_folders_of_runs(make_plain_run, make_run, tmp_path: Path) -> None:
    plain, submitted = make_plain_run("a", state="finished"), make_run("z")
    for stage in ("pretrain", "slurm"):
        (plain / stage).mkdir(exist_ok=True)
        (plain / stage / "config.yaml").write_text("")
    assert table.find_runs([plain]) == [plain]  # neither its stage's folder nor its records
    assert table.find_runs([plain, plain.parent, submitted.parent]) == [submitted, plain]
    with pytest.raises(UserError, match=r"nowhere: no run is here"):
        table.find_runs([plain, tmp_path / "nowhere"])


def test_cancel_leaves_local_processes_alone(
    make_run, make_plain_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process id is no job id: scancel would cancel somebody's job of that number."""
    cancelled: list[str] = []
    monkeypatch.setattr(cli, "cancel", cancelled.extend)
    monkeypatch.setattr(table, "queue", lambda jobs: dict.fromkeys(jobs, "RUNNING"))
    make_run("a", job="7_0", state="running")
    local = make_run("b", job=str(os.getpid()), state="running", cluster="local")
    plain = make_plain_run("p", state="running", host="elsewhere")
    assert cli.sweep_main([str(tmp_path / "sweep"), str(tmp_path / "runs"), "--cancel"]) == 0
    assert cancelled == ["7_0"]
    output = capsys.readouterr().out
    assert f"{local}: runs outside SLURM" in output
    assert f"{plain}: runs outside SLURM" in output


def test_resubmit_leaves_runs_that_were_not_submitted(
    make_plain_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_plain_run("a", state="failed")
    assert cli.sweep_main([str(tmp_path / "runs"), "--resubmit", "failed"]) == 0
    assert f"{run}: was not submitted" in capsys.readouterr().out
    assert cli.sweep_main([str(run), str(tmp_path / "runs"), "--resubmit", "failed"]) == 2
    assert "give one folder" in capsys.readouterr().err
