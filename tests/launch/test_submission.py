"""What submit.py requests of SLURM, as --dry-run prints it; tests/slurm submits to a real cluster."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from diffmae_video.engine.distributed.env import read_rank_env, rendezvous_port
from diffmae_video.launch.cli import submit_main
from diffmae_video.launch.job import find_rank_env, is_peer_loss
from diffmae_video.launch.submission import _dependency


@pytest.fixture
def cfg(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(f"output_dir: {tmp_path}/runs\nslurm: {{nodes: 8, partition: train, hours: 72, mem_gb: 500}}\n")
    return str(path)


def sbatch_options(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE))


def test_a_dry_run_shows_the_script_and_leaves_nothing(
    cfg: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM is needed for it
    extra = [
        "slurm.account=vision",
        "slurm.qos=long",
        "slurm.extra.constraint=a100",
        "slurm.extra.hold=true",
        "--dry-run",
    ]
    assert submit_main(["--cfg", cfg, *extra]) == 0
    script = capsys.readouterr().out
    options = sbatch_options(script)
    assert options.pop("output").startswith(f"{tmp_path}/runs/slurm/")
    assert options.pop("error").startswith(f"{tmp_path}/runs/slurm/")
    assert options == {
        "job-name": "runs-run",
        "nodes": "8",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "cpus-per-task": "10",
        "mem": "500GB",
        "partition": "train",
        "account": "vision",
        "qos": "long",
        "constraint": "a100",
        "hold": "",
        "time": "4320",
        "signal": "USR2@120",
        "open-mode": "append",
        "requeue": "",
    }
    assert "srun" in script
    (srun,) = (shlex.split(line) for line in script.splitlines() if line.startswith("srun"))
    assert {"--kill-on-bad-exit=1", "--cpus-per-task=10"} <= set(srun)  # SLURM 22.05 to 23.02 don't inherit the latter
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_a_sweep_and_of_a_chain(cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_main(["--cfg", cfg, "--dry-run", "--max-parallel", "2", "--sweep", "seed=0,1,2"]) == 0
    assert sbatch_options(capsys.readouterr().out)["array"] == "0-2%2"
    stages = ["slurm.stages.test.nodes=1", "slurm.stages.test.hours=2", "--split-stages"]
    assert submit_main(["--cfg", cfg, "--dry-run", *stages]) == 0
    out, error = capsys.readouterr()
    assert not error
    scripts = out.split("#!/bin/bash")[1:]
    options = [sbatch_options(script) for script in scripts]
    assert [(a["job-name"], a["nodes"], a["time"]) for a in options] == [
        ("runs-pretrain", "8", "4320"),
        ("runs-finetune", "8", "4320"),
        ("runs-test", "1", "120"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep", "seed=0,1", "--sweep-file", "x.yaml"], "--sweep and --sweep-file: give one of them"),
        (["--sweep", "stages=[pretrain],[finetune]", "--split-stages"], "the points differ in their stages"),
        (["pretrain.batch_size=96"], "pretrain.batch_size=96: must be a multiple of ranks (64)"),
        (["stages=finetune", "finetune.batch_size=64", "finetune.mixup=0.8"], "with 64 ranks"),
        (["--local", "finetune.batch_size=96"], "finetune.batch_size=96: must be a multiple of ranks (64)"),
        (["--sweep", "pretrain.batch_size=64,65"], "pretrain.batch_size=65: must be a multiple of ranks (64)"),
        (
            ["--split-stages", "slurm.stages.finetune.nodes=3"],
            "must be a multiple of ranks (24)",
        ),
    ],
)
def test_bad_arguments(cfg: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_main(["--cfg", cfg, "--dry-run", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_resources_of_stages_that_nothing_reads_are_said(cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_main(["--cfg", cfg, "--dry-run", "slurm.stages.test.nodes=1"]) == 0
    assert capsys.readouterr().err == "note: slurm.stages is not used without --split-stages\n"


def test_a_batch_is_held_to_the_ranks_of_the_stages_that_run(cfg: str) -> None:
    assert submit_main(["--cfg", cfg, "--dry-run", "stages=test", "pretrain.batch_size=3"]) == 0
    few = ["slurm.gpus_per_node=0", "slurm.nodes=1", "slurm.tasks_per_node=3"]
    assert submit_main(["--cfg", cfg, "--dry-run", "pretrain.batch_size=9", "finetune.batch_size=6", *few]) == 0
    assert submit_main(["--cfg", cfg, "--dry-run", "pretrain.batch_size=8", "finetune.batch_size=6", *few]) == 2


def test_a_number_out_of_bounds_is_one_line(cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        submit_main(["--cfg", cfg, "--dry-run", "--max-parallel", "0"])
    assert capsys.readouterr().err.startswith("error: argument --max-parallel: 0 must be a whole number, 1 or more")


def test_no_sbatch(
    cfg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submit_main(["--cfg", cfg]) == 2
    assert capsys.readouterr().err == (
        "error: no sbatch on this machine: run this on a cluster's login node, or add --local\n"
    )
    assert not (tmp_path / "runs").exists()


def test_a_task_finds_its_rank_by_slurms_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Task 5 of 16 on the second of two nodes, in an array, after one restart."""
    variables = {
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": "4711",
        "SLURM_ARRAY_JOB_ID": "4700",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_NTASKS": "16",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NODEID": "1",
        "SLURM_PROCID": "13",
        "SLURM_LOCALID": "5",
        "SLURM_RESTART_COUNT": "1",
        "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    env = find_rank_env(tmp_path)
    assert (env.job, env.restart) == ("4700_3", 1)
    assert env.variables() == {
        "RANK": "13",
        "LOCAL_RANK": "5",
        "WORLD_SIZE": "16",
        "MASTER_ADDR": "10.0.0.7",
        "MASTER_PORT": str(12000 + 4711),
    }
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    assert find_rank_env(tmp_path).address == "127.0.0.1"


def test_one_formula_for_the_port_whoever_started_the_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variables = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "39999", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1"}
    variables |= {"SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "n1"}
    environment = {**variables, **step}
    read_rank_env(environment)
    assert environment["MASTER_PORT"] == find_rank_env(tmp_path).variables()["MASTER_PORT"] == str(12000 + 19999)


@pytest.mark.parametrize("name", ["a b", "it's", "a$HOME", "a;b", "#a", "日本", '"a"', "(a)"])
def test_folders_with_odd_names_are_one_word_of_the_script(
    cfg: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / name
    assert submit_main(["--cfg", cfg, f"output_dir={folder}", "--dry-run"]) == 0
    lines = [line.removeprefix("#SBATCH ") for line in capsys.readouterr().out.splitlines()]
    words = [word for line in lines if str(tmp_path) in line for word in shlex.split(line)]
    assert f"--output={folder}/slurm/%j_0_log.out" in words
    assert f"{folder}/slurm/%j_%t_log.out" in words
    assert f"{folder}/slurm/code-HASH" in words
    assert words.count(f"{folder}/slurm") == 2  # the job's, and the epilogue's


@pytest.mark.parametrize("name", ["100%", "a\\b", "%j"])
def test_folders_that_slurm_would_read_as_patterns(
    cfg: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for rest in (["--dry-run"], ["--sweep", "seed=0,1", "--dry-run"], [], ["--local"]):
        assert submit_main(["--cfg", cfg, f"output_dir={tmp_path / name}", *rest]) == 2
        assert "SLURM and submitit read" in capsys.readouterr().err


def test_times_as_slurm_writes_them_reach_the_script(cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    stages = ["slurm.hours=1-12:00:00", "slurm.stages.test.hours=0:30:00", "slurm.account=0123", "--split-stages"]
    assert submit_main(["--cfg", cfg, "--dry-run", *stages]) == 0
    options = [sbatch_options(script) for script in capsys.readouterr().out.split("#!/bin/bash")[1:]]
    assert [a["time"] for a in options] == ["2160", "2160", "30"]
    assert {a["account"] for a in options} == {"0123"}


def test_each_point_of_an_array_waits_for_its_own() -> None:
    assert _dependency(["7_0", "7_1"]) == "aftercorr:7"
    assert _dependency(["8"]) == "afterok:8"


def test_jobs_on_one_node_have_different_ports() -> None:
    ports = [rendezvous_port(str(job)) for job in range(115_000, 135_000)]
    assert len(set(ports)) == 20_000
    assert min(ports) >= 1024
    assert max(ports) < 32768  # where Linux's ephemeral ports begin


@pytest.mark.parametrize(
    ("error", "is_loss"),
    [
        (RuntimeError("[pair.cc:545] Read error [127.0.0.1]:44246: Connection reset by peer."), True),
        (RuntimeError("[enforce fail at pair.cc] Connection closed by peer [10.0.0.2]:1"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("Connection reset by peer"), False),
    ],
)
def test_which_errors_follow_from_a_lost_rank(error: Exception, is_loss: bool) -> None:
    assert is_peer_loss(error) == is_loss
