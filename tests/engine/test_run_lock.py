"""The lock of a run's folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from diffmae_video.engine.run_lock import RunLock, RunLockError

# The module is loaded without its package, whose imports would cost seconds.
HOLDER = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
try:
    with lock.RunLock(sys.argv[2]):
        if sys.argv[3] == "fork" and os.fork() == 0:
            time.sleep(600)
        print("held", flush=True)
        sys.stdin.read()
except lock.RunLockError as error:
    print(error, flush=True)
"""


def start_holder(folder: Path, *, fork: bool = False) -> subprocess.Popen[str]:
    source = sys.modules["diffmae_video.engine.run_lock"].__file__
    command = [sys.executable, "-c", HOLDER, source, str(folder), "fork" if fork else "alone"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_second_run_is_refused_with_host_and_pid(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunLockError) as caught, RunLock(tmp_path):
            pass
        assert f"host {socket.gethostname()}, pid {holder.pid}" in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        holder.kill()
        holder.wait()


def test_the_lock_goes_with_a_killed_run_and_its_forks_dont_keep_it(tmp_path: Path) -> None:
    holder = start_holder(tmp_path, fork=True)
    try:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
        with RunLock(tmp_path):
            refused = start_holder(tmp_path)
            assert f"pid {os.getpid()}" in refused.communicate()[0]
    finally:
        os.killpg(holder.pid, 9)


def test_the_lock_is_free_after_a_run_that_ended_well(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        pass
    free = start_holder(tmp_path)
    assert free.communicate("")[0] == "held\n"
