"""Submit to a real cluster: sweeps and their tables, chains of stages, refused requests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.moves import CPU, ROOT, environment, job_in, read_lines, state, submit, sweep, wait_for_end, wait_until

pytestmark = pytest.mark.slurm
SHORT = [*CPU, "stages=[pretrain]", "pretrain.epochs=2"]


def test_a_failing_array_task_leaves_the_others_and_can_be_resubmitted(
    cluster: Cluster, tiny_config: Path, tiny_videos: Path, tmp_path: Path
) -> None:
    run, late = tmp_path / "run", tmp_path / "late.csv"
    points = tmp_path / "points.yaml"
    points.write_text(f"good: {{seed: 1}}\nbad: {{seed: 2, data.train_list: {late}}}\n")
    submit("--cfg", tiny_config, *SHORT, "--sweep-file", points)
    wait_until(lambda: not cluster.run("squeue", "-h"), "the array isn't over", seconds=120)
    good, bad = sweep(run).splitlines()[1:]
    assert "finished" in good
    assert "failed" in bad
    assert f"{late}" in bad  # the reason
    end = read_lines(run / "bad" / "slurm" / "ends.jsonl")[-1]
    assert end["traceback"].startswith("Traceback")
    shutil.copy(tiny_videos / "train.csv", late)
    shutil.copy(tiny_videos / "classes.txt", tmp_path)
    job = job_in(sweep(run, "--resubmit", "failed"))
    assert wait_for_end(job, seconds=120) == "COMPLETED"
    assert sweep(run).count("finished") == 2


def test_stages_as_a_chain_run_the_code_of_their_submission(
    cluster: Cluster, tiny_config: Path, tmp_path: Path
) -> None:
    """Submit on hold from a copy of the package, and break that copy before the first job starts."""
    copy, run = tmp_path / "checkout", tmp_path / "run"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("diffmae_video", "tools"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    small = [*CPU, "pretrain.epochs=2", "finetune.epochs=2", "slurm.extra.hold=true"]
    stages = ["slurm.stages.pretrain.nodes=2", "slurm.stages.test.hours=0.5", "--split-stages"]
    command = [sys.executable, str(copy / "tools" / "submit.py"), "--cfg", str(tiny_config), *small, *stages]
    output = subprocess.check_output(command, env={**environment(), "PYTHONPATH": str(copy)}, text=True)
    for broken in ("engine/runner.py", "launch/job.py"):
        (copy / "diffmae_video" / broken).write_text("raise RuntimeError('edited while the job waited')\n")
    jobs = [line.split()[1].rstrip(":") for line in output.splitlines() if line.startswith("job ")]
    queue = cluster.run("squeue", "-h", "-o", "%i %D %l %E")
    assert f"{jobs[0]} 2 " in queue
    assert f"{jobs[1]} 1 1-00:00:00 afterok:{jobs[0]}" in queue
    assert f"{jobs[2]} 1 30:00 afterok:{jobs[1]}" in queue
    assert "pending" in sweep(run)
    assert "not submitted again" in submit("--cfg", tiny_config, *small, *stages)
    for job in jobs:
        cluster.run("scontrol", "release", job)
    assert [wait_for_end(job, seconds=120) for job in jobs] == ["COMPLETED"] * 3
    assert "finished" in sweep(run)
    assert all((run / stage / "result.json").exists() for stage in ("pretrain", "finetune", "test"))


def test_cancel(cluster: Cluster, tiny_config: Path, tmp_path: Path) -> None:
    job = job_in(submit("--cfg", tiny_config, *SHORT, "slurm.extra.hold=true", "--sweep", "seed=0,1,2"))
    assert sweep(tmp_path / "run").count("pending") == 3
    assert "cancelled 3 jobs" in sweep(tmp_path / "run", "--cancel")
    wait_until(lambda: not cluster.run("squeue", "-h"), "still there", seconds=30)
    assert state(job) == "CANCELLED"
    assert sweep(tmp_path / "run").count("lost") == 3


SIX = ["pretrain.batch_size=6", "finetune.batch_size=6"]  # videos that three ranks can share


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["slurm.partition=nowhere"], "slurm.partition=nowhere: no such partition; this cluster has short, train"),
        (["slurm.gpus_per_node=3", *SIX], "slurm.gpus_per_node=3: the nodes of partition train have at most 2 GPUs"),
        (["slurm.nodes=3", *SIX], "slurm.nodes=3: partition train has 2 nodes"),
        (["slurm.cpus_per_task=5"], "need 5 CPUs and the nodes of partition train have at most 4"),
        (["slurm.partition=short", "slurm.hours=1"], "slurm.hours=1: partition short allows 0.0833333"),
        (["slurm.extra.constraint=bigmem"], "sbatch: allocation failure: Invalid feature specification"),
        (["--sweep", "mask.rato=0.5,0.75"], "unknown key mask.rato; did you mean mask.ratio?"),
        (["--sweep", "seed=0,1,two"], "override seed=two"),
        (["output_dir=/proc/nowhere"], "output_dir=/proc/nowhere: can't be written"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(
    cluster: Cluster, tiny_config: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    output = submit("--cfg", tiny_config, *SHORT, *arguments, expect=2)
    assert words in output
    assert output.startswith("error: ")
    assert output.count("\n") == 1
    assert not cluster.run("squeue", "-h")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_the_nodes_cannot_write(cluster: Cluster, tiny_config: Path, tmp_path: Path) -> None:
    """A file system that only the submitting process sees, like the local disk of a login node."""
    own = tmp_path / "own"
    own.mkdir()
    arguments = ["tools/submit.py", "--cfg", str(tiny_config), *SHORT, f"output_dir={own}/run"]
    script = 'mount -t tmpfs none "$0" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, str(own), sys.executable, *arguments]
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"error: output_dir={own}/run: can't be written from the nodes; choose a folder that they share\n"
    )
    assert not cluster.run("squeue", "-h")
