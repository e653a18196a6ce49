"""The last step of the batch script: once all ranks have exited, one process decides the job's outcome.

    python -m diffmae_video.launch.job_end FOLDER EXIT_CODE_OF_SRUN

It records the outcome, with the traceback of the rank that caused a failure, and requeues the job at most once: only
after a clean save or at the time limit, only if nobody has cancelled or requeued it, and at most
``slurm.max_requeues`` times. Its exit code is the job's, on which dependent jobs (``afterok``) depend.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import submitit

from diffmae_video.launch.job import TrainingJob
from diffmae_video.launch.records import Failure, JobOutcome, add_end, read_attempts, read_failures
from diffmae_video.launch.slurm import SlurmError, call, job_fields, seconds_until_node_is_lost

_INTERRUPTED = 75


def job_outcome(
    output_dir: str, *, job: str, restart: int, exit_code: int, slurm_state: str, max_requeues: int
) -> JobOutcome:
    """The outcome of an attempt, from the records of its ranks.

    Args:
        output_dir: run folder.
        job: job id, ``ID_TASK`` in an array.
        restart: number of the attempt, counted from 0.
        exit_code: of srun, or the highest of the tasks' exit codes.
        slurm_state: "running", "timed out" (at the time limit), "cancelled", or "requeued" by someone else.
        max_requeues: restarts after which the job ends.
    """

    def end(kind: str, reason: str, trace: str = "") -> JobOutcome:
        return JobOutcome(job=job, restart=restart, end=kind, reason=reason, traceback=trace)

    failures = read_failures(output_dir, job, restart)
    codes = [a.code for a in read_attempts(output_dir) if (a.job, a.restart) == (job, restart)]
    code = codes[0] if codes else None
    # Order matters: an error of a rank outweighs everything else, and a finished run stays finished even if the job
    # is cancelled in its last second.
    if failures and failures[0].own:
        return end("failed", *_cause(failures[0]))
    if code == 0:
        return end("finished", "")
    if slurm_state in ("cancelled", "requeued"):
        return end(slurm_state, f"{slurm_state} externally")
    if code == _INTERRUPTED or slurm_state == "timed out":
        why = "time limit" if slurm_state == "timed out" else "stopped by a signal and saved"
        if restart < max_requeues:
            return end("requeued", why)
        return end("failed", f"{why}; slurm.max_requeues={max_requeues} reached, submit again to resume")
    if not failures:
        return end("failed", _describe_exit(exit_code))
    # No rank raised an error of its own: one exited without recording an error, and the others lost their peer.
    reason, trace = _cause(failures[0])
    return end("failed", f"{_describe_exit(exit_code)}; {reason}", trace)


def main(folder: str, exit_code: int) -> int:
    """Record the outcome of the job that this process runs in, requeue it if needed; return the job's exit code.

    Args:
        folder: submitit's folder of logs and pickled jobs.
        exit_code: of srun.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # don't interrupt the record
    os.environ["SUBMITIT_EXECUTOR"] = "slurm"
    job_env = submitit.JobEnvironment()
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    training_job = submitit.SlurmJob(folder=folder, job_id=job_env.job_id).submission().function
    assert isinstance(training_job, TrainingJob)

    def decide() -> JobOutcome:
        return job_outcome(
            training_job.output_dir,
            job=job_env.job_id,
            restart=restart,
            exit_code=exit_code,
            slurm_state=_slurm_state(restart),
            max_requeues=training_job.max_requeues,
        )

    end = decide()
    # A lost node looks like ranks that exit silently until SLURM notices it.
    if (
        end.end == "failed"
        and job_env.num_nodes > 1
        and not _has_cause(training_job.output_dir, job_env.job_id, restart)
    ):
        _wait_for_node_failure()
        end = decide()
    add_end(training_job.output_dir, end)
    print(f"job {job_env.job_id}, restart {restart}: {end.end} {end.reason}\n{end.traceback}", flush=True)
    # Look again: someone may have requeued the job while the outcome was written.
    if end.end == "requeued" and _slurm_state(restart) != "requeued":
        call("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
    return 0 if end.end == "finished" else 1


def _slurm_state(restart: int) -> str:
    """SLURM's state of this job, in the terms of :func:`job_outcome`."""
    fields = job_fields(os.environ["SLURM_JOB_ID"])
    if int(fields["Restarts"]) != restart:
        return "requeued"
    if fields["Reason"] == "TimeLimit":
        return "timed out"
    return "running" if fields["JobState"] == "RUNNING" else "cancelled"


def _has_cause(output_dir: str, job: str, restart: int) -> bool:
    return any(failure.own for failure in read_failures(output_dir, job, restart))


def _wait_for_node_failure() -> None:
    """Give SLURM time to notice a lost node, after ranks exited without an error of their own.

    If a node is lost, SLURM also ends this script, and restarts the job by itself.
    """
    seconds = seconds_until_node_is_lost() + 30
    print(f"no rank recorded an error; waiting {seconds} s for SLURM to detect a lost node", flush=True)
    time.sleep(seconds)


def _cause(failure: Failure) -> tuple[str, str]:
    return f"rank {failure.rank} on {failure.host}: {failure.error}", failure.traceback


def _describe_exit(code: int) -> str:
    """srun's exit code in words; above 128 it is 128 plus the number of the signal that ended a task."""
    if code <= 128:
        return f"the tasks exited without recording an error, exit code {code}; see the logs"
    hint = " (out of memory?)" if code == 128 + signal.SIGKILL else ""
    return f"a task was ended by {signal.Signals(code - 128).name}{hint}; see the logs"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], int(sys.argv[2])))
    except SlurmError as slurm_error:
        sys.exit(f"epilogue: {slurm_error}")
