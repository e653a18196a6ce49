"""A process's place among the ranks, from torchrun's variables, SLURM's, or none."""

from __future__ import annotations

import pytest

from diffmae_video.engine.distributed.env import DistributedError, cpu_shortage, first_host, read_rank_env

SLURM = {
    "SLURM_JOB_ID": "40123",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


def test_without_a_launcher_there_is_one_process() -> None:
    environment: dict[str, str] = {}
    assert read_rank_env(environment) == (0, 1, 0)
    assert environment == {}


def test_torchruns_variables() -> None:
    environment = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert read_rank_env(environment) == (3, 4, 1)


def test_sruns_variables_become_torchruns() -> None:
    environment = dict(SLURM)
    assert read_rank_env(environment) == (5, 8, 1)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("gpu07", "12123")
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["LOCAL_RANK"]) == ("5", "8", "1")


def test_what_is_set_wins_over_what_slurm_says() -> None:
    environment = {**SLURM, "MASTER_ADDR": "elsewhere", "MASTER_PORT": "7"}
    read_rank_env(environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("elsewhere", "7")


@pytest.mark.parametrize(
    "variables", [{"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}]
)
def test_a_plain_process_inside_an_allocation_is_alone(variables: dict[str, str]) -> None:
    """``python tools/run_net.py`` in a batch script, without srun, sees the job's SLURM_NTASKS."""
    assert read_rank_env(dict(variables)) == (0, 1, 0)


def test_too_few_cpus_for_the_loader_is_one_line() -> None:
    assert cpu_shortage(3, usable=4) == ""
    assert cpu_shortage(0, usable=1) == ""
    line = cpu_shortage(4, usable=4)
    assert "4 CPUs for data.num_workers=4" in line
    assert "slurm.cpus_per_task" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("gpu[3,5]", "gpu3"),
        ("rack-a[1-2]-ib,b", "rack-a1-ib"),
        ("node-1", "node-1"),
    ],
)
def test_first_host(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR, MASTER_PORT is not"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"},
            r"RANK \(2\) must be in 0\.\.1",
        ),
        ({"WORLD_SIZE": "0", "RANK": "0", "LOCAL_RANK": "0"}, r"WORLD_SIZE \(0\) must be 1 or more"),
        ({"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0"}, r"WORLD_SIZE \('two'\) must be an integer"),
    ],
)
def test_a_wrong_environment_is_one_line(variables: dict[str, str], words: str) -> None:
    with pytest.raises(DistributedError, match=words) as caught:
        read_rank_env(dict(variables))
    assert "\n" not in str(caught.value)
