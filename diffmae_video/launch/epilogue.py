"""The end of the batch script: every rank has ended, and one process decides what becomes of the job.

    python -m diffmae_video.launch.epilogue FOLDER EXIT_CODE_OF_SRUN

It records the end, with the traceback of the rank that caused it, and requeues the job at most once: only after
a clean save or at the time limit, only while nobody has cancelled or requeued it, and at most
``slurm.max_requeues`` times. Its exit code is the job's, which dependent jobs wait for.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import submitit

from diffmae_video.launch.cluster import SlurmError, call, job_fields, seconds_until_node_is_lost
from diffmae_video.launch.records import End, Failure, add_end, read_attempts, read_failures
from diffmae_video.launch.slurm import TrainingJob

_INTERRUPTED = 75


def conclude(output_dir: str, *, job: str, restart: int, exit_code: int, standing: str, max_requeues: int) -> End:
    """How an attempt ended, from the records of its ranks.

    Args:
        exit_code: of srun, or the worst of the tasks' own.
        standing: "running"; "timed out" at its limit; "cancelled"; "requeued" by somebody else.
        max_requeues: restarts after which the job ends.
    """

    def end(kind: str, reason: str, trace: str = "") -> End:
        return End(job=job, restart=restart, end=kind, reason=reason, traceback=trace)

    failures = read_failures(output_dir, job, restart)
    codes = [a.code for a in read_attempts(output_dir) if (a.job, a.restart) == (job, restart)]
    code = codes[0] if codes else None
    if failures and failures[0].own:
        return end("failed", *_cause(failures[0]))
    if code == 0:
        return end("finished", "")
    if standing in ("cancelled", "requeued"):
        return end(standing, f"{standing} from outside")
    if code == _INTERRUPTED or standing == "timed out":
        why = "time limit" if standing == "timed out" else "stopped by a signal and saved"
        if restart < max_requeues:
            return end("requeued", why)
        return end("failed", f"{why}; slurm.max_requeues={max_requeues} reached, submit again to go on")
    if not failures:
        return end("failed", _exit_words(exit_code))
    # Nobody raised by itself: some rank is gone without a word, the others noticed.
    reason, trace = _cause(failures[0])
    return end("failed", f"{_exit_words(exit_code)}; {reason}", trace)


def main(folder: str, exit_code: int) -> int:
    """Conclude the job that this process runs in; the job's exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["SUBMITIT_EXECUTOR"] = "slurm"
    here = submitit.JobEnvironment()
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    started = submitit.SlurmJob(folder=folder, job_id=here.job_id).submission().function
    assert isinstance(started, TrainingJob)

    def judge() -> End:
        return conclude(
            started.output_dir,
            job=here.job_id,
            restart=restart,
            exit_code=exit_code,
            standing=_standing(restart),
            max_requeues=started.max_requeues,
        )

    end = judge()
    if end.end == "failed" and here.num_nodes > 1 and not _has_cause(started.output_dir, here.job_id, restart):
        _wait_for_node_failure()
        end = judge()
    add_end(started.output_dir, end)
    print(f"job {here.job_id}, restart {restart}: {end.end} {end.reason}\n{end.traceback}", flush=True)
    if end.end == "requeued" and _standing(restart) != "requeued":
        call("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
    return 0 if end.end == "finished" else 1


def _standing(restart: int) -> str:
    """What SLURM says of this job; see :func:`conclude`."""
    fields = job_fields(os.environ["SLURM_JOB_ID"])
    if int(fields["Restarts"]) != restart:
        return "requeued"
    if fields["Reason"] == "TimeLimit":
        return "timed out"
    return "running" if fields["JobState"] == "RUNNING" else "cancelled"


def _has_cause(output_dir: str, job: str, restart: int) -> bool:
    return any(failure.own for failure in read_failures(output_dir, job, restart))


def _wait_for_node_failure() -> None:
    """Ranks went without an error of their own: give SLURM the time to find that a node is lost.

    It then ends this script too, and restarts the job by itself.
    """
    seconds = seconds_until_node_is_lost() + 30
    print(f"no rank says why it ended; waiting {seconds} s for SLURM's word on the nodes", flush=True)
    time.sleep(seconds)


def _cause(failure: Failure) -> tuple[str, str]:
    return f"rank {failure.rank} on {failure.host}: {failure.error}", failure.traceback


def _exit_words(code: int) -> str:
    """srun's exit code in words; above 128 it is 128 plus the signal that ended a task."""
    if code <= 128:
        return f"the tasks ended without a word, exit code {code}; see the logs"
    hint = " (out of memory?)" if code == 128 + signal.SIGKILL else ""
    return f"a task was ended by {signal.Signals(code - 128).name}{hint}; see the logs"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], int(sys.argv[2])))
    except SlurmError as slurm_error:
        sys.exit(f"epilogue: {slurm_error}")
