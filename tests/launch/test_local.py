"""Whole jobs through submitit's local executor, with a stand-in for the engine's run: no cluster, no training."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import pytest
import submitit

from diffmae_video.errors import UserError
from diffmae_video.launch import local, submission
from diffmae_video.launch.cli import submit_main, sweep_main
from diffmae_video.launch.job import TrainingJob
from diffmae_video.launch.job_end import job_outcome
from diffmae_video.launch.records import read_attempts, read_ends, read_failures, read_submissions

# The job's process can't import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def record_rank_env(config: str) -> int:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH")
    import diffmae_video

    variables = {name: os.environ[name] for name in names} | {"package": diffmae_video.__file__, "cwd": os.getcwd()}
    Path(config).parents[1].joinpath(f"env-{variables['RANK']}.json").write_text(json.dumps(variables))
    return 0


def interrupted_twice(config: str) -> int:
    count = Path(config).parents[1] / f"count-{os.environ['RANK']}"
    times = int(count.read_text()) + 1 if count.exists() else 1
    count.write_text(str(times))
    return 75 if times < 3 else 0


def second_rank_fails(config: str) -> int:
    if os.environ["RANK"] == "1":
        raise ZeroDivisionError("no frames left")
    return 0


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.yaml"
    slurm = "slurm: {gpus_per_node: 0, tasks_per_node: 2, max_requeues: 4}"
    path.write_text(f"output_dir: {tmp_path}/run\nstages: [pretrain]\n{slurm}\n")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``run_with(function)``: jobs call ``function`` instead of the engine's run."""

    def use(function: Callable[[str], int]) -> None:
        def make_job(phase: submission.JobArray, index: int) -> TrainingJob:
            job = submission.make_job(phase, index)
            return TrainingJob(**{**vars(job), "run": function})

        monkeypatch.setattr(local, "make_job", make_job)

    return use


def test_ranks_of_two_jobs_on_one_machine(cfg: Path, run_with: Callable[..., None], tmp_path: Path) -> None:
    run_with(record_rank_env)
    assert submit_main(["--cfg", str(cfg), "--local", "--sweep", "seed=0,1", "--max-parallel", "2"]) == 0
    ports = set()
    for seed in (0, 1):
        run = tmp_path / "run" / f"seed={seed}"
        envs = [json.loads((run / f"env-{rank}.json").read_text()) for rank in (0, 1)]
        assert [(p["RANK"], p["LOCAL_RANK"], p["WORLD_SIZE"]) for p in envs] == [("0", "0", "2"), ("1", "1", "2")]
        assert envs[0]["MASTER_PORT"] == envs[1]["MASTER_PORT"]
        code = read_submissions(run)[0].code
        assert Path(code).parent == tmp_path / "run" / "slurm"
        assert all(p["package"] == f"{code}/diffmae_video/__init__.py" for p in envs)
        assert all(p["cwd"] == str(tmp_path) for p in envs)
        ports.add(envs[0]["MASTER_PORT"])
        assert [end.end for end in read_ends(run)] == ["finished"]
    assert len(ports) == 2


def test_interrupted_jobs_resume(cfg: Path, run_with: Callable[..., None], tmp_path: Path) -> None:
    run_with(interrupted_twice)
    assert submit_main(["--cfg", str(cfg), "--local"]) == 0
    run = tmp_path / "run"
    assert [(run / f"count-{rank}").read_text() for rank in (0, 1)] == ["3", "3"]
    assert [end.end for end in read_ends(run)] == ["requeued", "requeued", "finished"]
    assert [(a.restart, a.code) for a in read_attempts(run)] == [(0, 75), (1, 75), (2, 0)]


def test_restarts_are_bounded(cfg: Path, run_with: Callable[..., None], tmp_path: Path) -> None:
    run_with(interrupted_twice)
    assert submit_main(["--cfg", str(cfg), "--local", "slurm.max_requeues=1"]) == 1
    ends = read_ends(tmp_path / "run")
    assert [end.end for end in ends] == ["requeued", "failed"]
    assert "slurm.max_requeues=1 reached, submit again to resume" in ends[-1].reason


def test_a_failing_rank_is_named_with_its_traceback(
    cfg: Path, run_with: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with(second_rank_fails)
    assert submit_main(["--cfg", str(cfg), "--local"]) == 1
    end = read_ends(tmp_path / "run")[-1]
    assert end.end == "failed"
    assert end.reason.startswith("rank 1 on ")
    assert end.reason.endswith("ZeroDivisionError: no frames left")
    # The frame, not its source: this function travels by value, and cloudpickle 3.1.3 leaves such code without a file.
    assert ", in second_rank_fails\n" in end.traceback
    assert end.traceback.endswith("ZeroDivisionError: no frames left\n")
    capsys.readouterr()
    assert sweep_main([str(tmp_path / "run")]) == 0
    assert "ZeroDivisionError: no frames left" in capsys.readouterr().out


def test_one_node_only(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_main(["--cfg", str(cfg), "--local", "slurm.nodes=2"]) == 2
    assert capsys.readouterr().err == "error: slurm.nodes=2: --local has one node; add slurm.nodes=1\n"


@pytest.fixture
def _restore_process() -> Iterator[None]:
    """Restore what a job changes in its process: working directory, variables, signal handlers."""
    folder, variables = os.getcwd(), dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_restore_process")
def test_in_this_process_by_the_debug_executor(tiny_config: Path, tmp_path: Path) -> None:
    """submitit's debug executor, with the engine's own run: one rank trains in this very process."""
    cfg = tmp_path / "short.yaml"
    cfg.write_text(tiny_config.read_text() + "stages: [pretrain]\n")
    job = TrainingJob(config=str(cfg), output_dir=str(tmp_path / "run"), workdir=str(tmp_path), max_requeues=0)
    started = submitit.DebugExecutor(tmp_path / "logs").submit(job)
    assert started.result() == 0
    (attempt,) = read_attempts(tmp_path / "run")
    assert attempt.code == 0
    assert (tmp_path / "run" / "pretrain" / "weights.pt").exists()
    assert read_failures(tmp_path / "run", attempt.job, 0) == []
    settings = {"job": attempt.job, "restart": 0, "exit_code": 0, "slurm_state": "running", "max_requeues": 0}
    assert job_outcome(str(tmp_path / "run"), **settings).end == "finished"


@pytest.mark.usefixtures("_restore_process")
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a.csv:3: no label"), "a.csv:3: no label"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory; check the path"),
        (ZeroDivisionError("by 0"), "ZeroDivisionError: by 0"),
    ],
)
def test_a_mistake_is_recorded_by_its_line_and_a_fault_by_its_class(
    error: Exception, line: str, tiny_config: Path, tmp_path: Path
) -> None:
    def fail(config: str) -> int:
        raise error

    os.environ |= {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7", "SUBMITIT_LOCAL_NTASKS": "1"}
    os.environ |= {"SUBMITIT_LOCAL_NODEID": "0", "SUBMITIT_LOCAL_GLOBALID": "0", "SUBMITIT_LOCAL_LOCALID": "0"}
    os.environ["SUBMITIT_LOCAL_JOB_NUM_NODES"] = "1"
    output_dir = str(tmp_path / "run")
    job = TrainingJob(config=str(tiny_config), run=fail, output_dir=output_dir, workdir=str(tmp_path), max_requeues=0)
    with pytest.raises(type(error)):
        job()
    (failure,) = read_failures(output_dir, "7", 0)
    assert failure.error.startswith(line)
