"""The outcome of a job, from the records of its ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmae_video.launch.job_end import job_outcome
from diffmae_video.launch.records import (
    Attempt,
    Failure,
    JobOutcome,
    Submission,
    add_end,
    add_submission,
    read_ends,
    read_submissions,
    record_folder,
    write_attempt,
    write_failure,
)


def attempt(folder: Path, code: int | None, *, restart: int = 0) -> None:
    ended = None if code is None else 9.0
    write_attempt(folder, Attempt(job="7", restart=restart, host="n1", started=1.0, ended=ended, code=code))


def failure(folder: Path, *, rank: int, time: float, own: bool, error: str) -> None:
    trace = f"Traceback of {rank}"
    write_failure(
        folder,
        Failure(job="7", restart=0, rank=rank, host=f"n{rank}", time=time, own=own, error=error, traceback=trace),
    )


def decide(
    folder: Path, *, restart: int = 0, exit_code: int = 0, slurm_state: str = "running", limit: int = 2
) -> JobOutcome:
    return job_outcome(
        str(folder), job="7", restart=restart, exit_code=exit_code, slurm_state=slurm_state, max_requeues=limit
    )


def test_finished(tmp_path: Path) -> None:
    attempt(tmp_path, 0)
    assert decide(tmp_path).end == "finished"
    assert decide(tmp_path, slurm_state="cancelled").end == "finished"


@pytest.mark.parametrize("slurm_state", ["running", "timed out"])
def test_saved_is_requeued_up_to_the_bound(tmp_path: Path, slurm_state: str) -> None:
    for restart in range(3):
        attempt(tmp_path, 75, restart=restart)
    assert [decide(tmp_path, restart=r, slurm_state=slurm_state).end for r in range(3)] == [
        "requeued",
        "requeued",
        "failed",
    ]
    assert "slurm.max_requeues=2 reached" in decide(tmp_path, restart=2, slurm_state=slurm_state).reason


def test_cut_short_at_the_time_limit_is_requeued(tmp_path: Path) -> None:
    attempt(tmp_path, None)
    assert decide(tmp_path, exit_code=137, slurm_state="timed out").end == "requeued"


@pytest.mark.parametrize("slurm_state", ["cancelled", "requeued"])
@pytest.mark.parametrize("code", [75, None])
def test_cancelled_or_requeued_externally(tmp_path: Path, slurm_state: str, code: int | None) -> None:
    attempt(tmp_path, code)
    assert decide(tmp_path, slurm_state=slurm_state).end == slurm_state


def test_the_cause_is_the_rank_that_failed_first_by_itself(tmp_path: Path) -> None:
    attempt(tmp_path, None)
    failure(tmp_path, rank=0, time=1.0, own=False, error="RuntimeError: Connection closed by peer")
    failure(tmp_path, rank=3, time=3.0, own=True, error="ValueError: later")
    failure(tmp_path, rank=2, time=2.0, own=True, error="ValueError: bad frame")
    end = decide(tmp_path, exit_code=1)
    assert (end.end, end.reason, end.traceback) == ("failed", "rank 2 on n2: ValueError: bad frame", "Traceback of 2")


def test_without_a_cause_the_consequence_is_reported(tmp_path: Path) -> None:
    attempt(tmp_path, None)
    failure(tmp_path, rank=0, time=1.0, own=False, error="RuntimeError: Connection closed by peer")
    reason = decide(tmp_path, exit_code=137).reason
    assert reason.startswith("a task was ended by SIGKILL (out of memory?); see the logs; ")
    assert reason.endswith("rank 0 on n0: RuntimeError: Connection closed by peer")


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (1, "without recording an error, exit code 1"),
        (137, "ended by SIGKILL (out of memory?)"),
        (139, "ended by SIGSEGV"),
    ],
)
def test_a_silent_death(tmp_path: Path, exit_code: int, words: str) -> None:
    assert words in decide(tmp_path, exit_code=exit_code).reason


def test_other_jobs_and_attempts_do_not_count(tmp_path: Path) -> None:
    attempt(tmp_path, 75, restart=0)
    failure(tmp_path, rank=0, time=1.0, own=True, error="ValueError: of the first attempt")
    attempt(tmp_path, 0, restart=1)
    assert decide(tmp_path, restart=1).end == "finished"


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    end = JobOutcome(job="7", restart=0, end="requeued", reason="saved")
    entry = Submission(job="7", cluster="slurm", stages=["test"], submitted="t", config="r", code="c", logs="l")
    add_end(tmp_path, end)
    add_submission(tmp_path, entry)
    with (record_folder(tmp_path) / "ends.jsonl").open("a") as file:
        file.write('{"job": "7", "rest')
    assert read_ends(tmp_path) == [end]
    assert read_submissions(tmp_path) == [entry]


def test_an_attempt_is_judged_by_its_own_code(tmp_path: Path) -> None:
    attempt(tmp_path, 75, restart=0)
    attempt(tmp_path, 0, restart=1)
    assert decide(tmp_path, restart=1).end == "finished"
    assert decide(tmp_path, restart=0).end == "requeued"
