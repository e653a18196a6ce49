"""A run that is killed at any instant, and started again by the same command, ends as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.engine.driven import arguments, assert_same_bits, drive, drive_and_stop, drive_in_a_group, metrics_of

RunRanks = Callable[..., list[int | None]]
StartRanks = Callable[..., list[BaseProcess]]


@pytest.fixture(scope="module")
def undisturbed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture
def undisturbed(undisturbed_folder: Path, tiny_config: Path, run_ranks: RunRanks) -> tuple[Path, float]:
    """The run that nothing happens to, and the seconds that its process took; made once."""
    clock = undisturbed_folder / "seconds"
    if not clock.exists():
        began = time.monotonic()
        command = arguments(tiny_config, f"output_dir={undisturbed_folder / 'run'}")
        assert run_ranks(drive, 1, undisturbed_folder, command) == [0], (undisturbed_folder / "rank-0.log").read_text()
        clock.write_text(str(time.monotonic() - began))
    return undisturbed_folder / "run", float(clock.read_text())


def kill_again_and_again(start: StartRanks, logs: Path, command: list[str], *, seconds: float, kills: int) -> int:
    """SIGKILL a run ``kills`` times, each at an instant drawn over its whole length; then let it end.

    A run that ends before its instant has come is begun anew. The loader's processes change with every
    start, since they must not matter.
    """
    instants = random.Random(kills)
    output = Path(next(item for item in command if item.startswith("output_dir=")).removeprefix("output_dir="))
    done = started = 0
    while True:
        (run,) = start(drive, 1, logs, [*command, f"data.num_workers={started % 2}"])
        started += 1
        run.join(instants.uniform(0, 0.8 * seconds) if done < kills else 300)
        if run.is_alive():
            assert done < kills, "the run hangs"
            run.kill()
            run.join()
            done += 1
            continue
        assert run.exitcode == 0, (logs / "rank-0.log").read_text()
        if done == kills:
            return started
        shutil.rmtree(output)


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_instants(
    undisturbed: tuple[Path, float], tiny_config: Path, start_ranks: StartRanks, tmp_path: Path, kills: int
) -> None:
    expected, seconds = undisturbed
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}")
    kill_again_and_again(start_ranks, tmp_path, command, seconds=seconds, kills=kills)
    assert_same_bits(tmp_path / "run", expected)


def test_stopped_in_mid_epoch_by_a_signal(
    undisturbed: tuple[Path, float], tiny_config: Path, run_ranks: RunRanks, tmp_path: Path
) -> None:
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}")
    assert run_ranks(drive_and_stop, 1, tmp_path, command, "pretrain", 4, tmp_path) == [75]
    assert len(metrics_of(tmp_path / "run", "pretrain")) == 5, "the step under way is finished, and no further one"
    assert "SIGTERM" in (tmp_path / "run" / "status.json").read_text()
    assert run_ranks(drive_and_stop, 1, tmp_path, command, "finetune", 6, tmp_path) == [75]
    assert run_ranks(drive, 1, tmp_path, command) == [0]
    assert_same_bits(tmp_path / "run", undisturbed[0])


def group_is_gone(group: int, *, seconds: float) -> bool:
    """Workers of a process that ends without joining them notice it within five seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def start_with_workers(start: StartRanks, config: Path, logs: Path, run: str) -> BaseProcess:
    """A run with two loader processes, in a process group of its own, under way."""
    command = arguments(config, f"output_dir={logs / run}", "data.num_workers=2", "pretrain.epochs=500")
    (process,) = start(drive_in_a_group, 1, logs, command)
    metrics = logs / run / "pretrain" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text()):
        assert time.monotonic() < end
        assert process.is_alive(), (logs / "rank-0.log").read_text()
        time.sleep(0.05)
    return process


def test_a_signal_to_the_whole_group_stops_the_run_and_not_its_workers(
    tiny_config: Path, start_ranks: StartRanks, tmp_path: Path
) -> None:
    """So does a scheduler: every process of the job gets it, the loader's workers too."""
    run = start_with_workers(start_ranks, tiny_config, tmp_path, "stopped")
    os.killpg(run.pid, signal.SIGUSR2)
    os.killpg(run.pid, signal.SIGTERM)
    run.join(120)
    assert run.exitcode == 75, (tmp_path / "rank-0.log").read_text()
    assert "Traceback" not in (tmp_path / "rank-0.log").read_text()
    assert group_is_gone(run.pid, seconds=60), "a worker is left behind"


def test_the_workers_of_a_killed_run_end_by_themselves(
    tiny_config: Path, start_ranks: StartRanks, tmp_path: Path
) -> None:
    run = start_with_workers(start_ranks, tiny_config, tmp_path, "killed")
    run.kill()
    run.join()
    assert group_is_gone(run.pid, seconds=60), "a worker is left behind"


def test_a_damaged_checkpoint_costs_steps_and_nothing_else(
    undisturbed: tuple[Path, float], tiny_config: Path, run_ranks: RunRanks, tmp_path: Path
) -> None:
    command = arguments(tiny_config, f"output_dir={tmp_path / 'run'}")
    assert run_ranks(drive_and_stop, 1, tmp_path, command, "pretrain", 7, tmp_path) == [75]
    newest = sorted((tmp_path / "run" / "pretrain" / "checkpoints").glob("step-*.pt"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(bytes(data))
    assert run_ranks(drive, 1, tmp_path, command) == [0]
    assert f"passed over: {newest} is damaged" in (tmp_path / "rank-0.log").read_text()
    assert_same_bits(tmp_path / "run", undisturbed[0])
