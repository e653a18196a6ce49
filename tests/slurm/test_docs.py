"""Run docs/slurm.md command by command on a real cluster, then check the table and plot of its sweep."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.moves import ROOT, environment, read_lines, submit, sweep, wait_until, write_config

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def checkout(cluster: Cluster, tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout, in which all commands of the document have been run and their jobs have ended."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "tools").symlink_to(ROOT / "tools")
    (folder / "configs").mkdir()
    small = write_config(folder, tiny_videos).read_text()
    small = small.replace(f"output_dir: {folder}/run", "output_dir: runs/motion_tiny")
    small = small.replace("pretrain: {epochs: 4", "pretrain: {epochs: 2").replace(
        "finetune: {epochs: 3", "finetune: {epochs: 2"
    )
    (folder / "configs" / "motion_tiny.yaml").write_text(small)
    bin_folder = Path(sys.executable).parent
    variables = {**environment(), "PATH": f"{bin_folder}:{environment()['PATH']}"}
    for command in _commands():
        if "tools/sweep.py" in command:  # a user runs it later, too
            wait_until(lambda: not cluster.run("squeue", "-h"), "jobs don't end", seconds=300)
        done = subprocess.run(
            command, shell=True, cwd=folder, env=variables, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return folder


def _commands() -> list[str]:
    text = (ROOT / "docs" / "slurm.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_sweeps_table_holds_what_the_runs_wrote(checkout: Path) -> None:
    """Four array tasks of two ranks, two at a time: ranks of different jobs on a node didn't meet."""
    run = checkout / "runs" / "sweep"
    rows = list(csv.DictReader((run / "table.csv").open()))
    grid = [(lr, ratio) for lr in ("0.001", "0.01") for ratio in ("0.5", "0.75")]
    assert [(row["pretrain.lr"], row["mask.ratio"]) for row in rows] == grid
    for row in rows:
        folder = run / f"pretrain.lr={row['pretrain.lr']},mask.ratio={row['mask.ratio']}"
        assert row["state"] == "finished"
        assert float(row["top1"]) == json.loads((folder / "test" / "result.json").read_text())["model"]["top1"]
        assert float(row["loss"]) == read_lines(folder / "finetune" / "metrics.jsonl")[-1]["loss"]
        assert float(row["seconds"]) > 0
    assert len({row["loss"] for row in rows}) == 4
    assert sweep(run).count("finished") == 4
    assert (run / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_point_is_not_run_twice_and_not_changed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    (command,) = [line for line in _commands() if "--sweep" in line]
    arguments = command.split()[2:]
    assert submit(*arguments).count("finished; not submitted again") == 4
    changed = submit("pretrain.batch_size=2", *arguments, expect=2)
    assert "pretrain.batch_size=4, this one has 2" in changed


def test_the_single_runs_have_finished(checkout: Path) -> None:
    assert "finished" in sweep(checkout / "runs" / "motion_tiny")
    assert "finished" in sweep(checkout / "runs" / "here")
