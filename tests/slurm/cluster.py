#!/usr/bin/env python3
"""A real two-node SLURM on this machine: start it, stop it, lose one of its nodes.

    python tests/slurm/cluster.py start FOLDER     # prints the export line that points SLURM's tools at it
    python tests/slurm/cluster.py stop FOLDER

All state (configuration, key, sockets, spool, logs) is under FOLDER, so the machine's own SLURM and
munge, if any, are left alone. Needs root and Debian's packages slurm-wlm and munge; no systemd.
Both nodes are this machine: two slurmd under the names n1 and n2, each said to have four CPUs and two GPUs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NODES = ("n1", "n2")
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
START_SECONDS = 60
# The time limits and GPUs are there for tests that exceed them.
CONFIG = """\
ClusterName=local
SlurmctldHost=localhost
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
JobRequeue=0
KillWait=5
SlurmdTimeout=15
SlurmctldTimeout=15
{node_lines}
PartitionName=train Nodes=n1,n2 Default=YES MaxTime=1-00:00:00 DefaultTime=10 State=UP
PartitionName=short Nodes=n1 MaxTime=00:05:00 State=UP
"""
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000 Gres=gpu:2"


class ClusterError(RuntimeError):
    """The cluster can't be started or stopped; one line says why."""


class Cluster:
    """The cluster whose state is under ``folder``."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point SLURM's commands at this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Run one of SLURM's commands against this cluster; its standard output.

        Raises:
            ClusterError: the command failed.
        """
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self) -> None:
        """Start munge, the controller and both nodes, and wait until both nodes are idle. Idempotent.

        Raises:
            ClusterError: a package is missing, this isn't root, or a daemon didn't come up.
        """
        missing = [name for name in DAEMONS if shutil.which(name, path=_sbin_path()) is None]
        if missing:
            raise ClusterError(f"{', '.join(missing)} not found; run: apt-get install -y slurm-wlm munge")
        if os.geteuid() != 0:
            raise ClusterError("slurmd starts jobs for users and needs root; run this as root")
        if self._controller_answers():
            return
        self._clear()
        self._write_files()
        self._daemon(
            "munged",
            "--force",
            *(f"--{kind}-file={self.folder}/munge.{kind}" for kind in ("key", "seed", "log", "pid")),
            f"--socket={self.folder}/munge.socket",
        )
        self._daemon("slurmctld", "-c")
        _wait_until(self._controller_answers, "slurmctld doesn't answer", self.folder / "slurmctld.log")
        for name in NODES:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        """Start the slurmd of one node and wait until the controller takes it."""
        self._daemon("slurmd", "-N", name)
        log = self.folder / f"slurmd-{name}.log"
        _wait_until(lambda: self.node_state(name) in ("idle", "mixed", "allocated"), f"node {name} isn't up", log)

    def lose_node(self, name: str) -> None:
        """End a node as a power cut would: its slurmd, its job steps and their processes, all by KILL."""
        for pid in (self._pid(f"slurmd-{name}"), *self._step_pids(name)):
            for process in (pid, *_descendants(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def node_state(self, name: str) -> str:
        """The state of a node as sinfo prints it, for example ``idle`` or ``down*``."""
        return self.run("sinfo", "-h", "-n", name, "-p", "train", "-o", "%T").strip()

    def stop(self) -> None:
        """Cancel all jobs and end all daemons. Idempotent; the folder is left for its logs."""
        if not (self.folder / "slurm.conf").exists():
            return
        with contextlib.suppress(ClusterError, subprocess.TimeoutExpired):
            self.run("scancel", "--full", "--signal=KILL", "--user=root")
            self.run("scontrol", "shutdown")
        names = ["slurmctld", *(f"slurmd-{name}" for name in NODES), "munge"]
        pids = [self._pid(name) for name in names if (self.folder / f"{name}.pid").exists()]
        for pid in [*pids, *(step for name in NODES for step in self._step_pids(name))]:
            _end(pid)

    def _controller_answers(self) -> bool:
        if not (self.folder / "slurm.conf").exists():
            return False
        try:
            return "UP" in self.run("scontrol", "ping")
        except (ClusterError, subprocess.TimeoutExpired):
            return False

    def _clear(self) -> None:
        """End the daemons of a killed test run, and delete its jobs."""
        self.stop()
        for leftover in ("state", *(f"spool-{name}" for name in NODES)):
            shutil.rmtree(self.folder / leftover, ignore_errors=True)

    def _write_files(self) -> None:
        # munged insists that nobody else can write beside its key.
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(exist_ok=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(NODE.format(name=n, port=p) for n, p in zip(NODES, ports[1:], strict=True))
        config = CONFIG.format(folder=self.folder, controller_port=ports[0], node_lines=nodes)
        (self.folder / "slurm.conf").write_text(config)
        # Stand-ins for device files: SLURM counts them and sets CUDA_VISIBLE_DEVICES, nobody opens them.
        for number in range(2):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={self.folder}/gpu[0-1]\n")

    def _daemon(self, *command: str) -> None:
        environment = {**os.environ, **self.environment, "PATH": _sbin_path()}
        log = (self.folder / "start.log").open("a")
        with log:
            code = subprocess.call(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        if code:
            tail = (self.folder / "start.log").read_text().strip().splitlines()[-1:]
            raise ClusterError(f"{command[0]} ended with {code}: {' '.join(tail)}")

    def _pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def _step_pids(self, name: str) -> list[int]:
        """The slurmstepd processes that belong to a node, by the title that each gives itself.

        A step's spool folder holds a socket NODE_JOB.STEP; its daemon is a child of nobody once slurmd is gone.
        """
        sockets = [p.name.rpartition("_")[2] for p in (self.folder / f"spool-{name}").glob(f"{name}_*.*")]
        steps = {socket_name.partition(".")[0] for socket_name in sockets}
        titles = {f"slurmstepd: [{step}" for step in steps}
        return [pid for pid, title in _titles() if any(title.startswith(t) for t in titles) and self._on(pid, name)]

    def _on(self, pid: int, name: str) -> bool:
        """Whether a slurmstepd serves node ``name``: it holds that node's socket or log file."""
        marks = (f"/spool-{name}/", f"/slurmd-{name}.log")
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if any(mark in os.readlink(link) for mark in marks):
                        return True
        return False


def _sbin_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on; held together while being chosen so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("", 0))
        return [sock.getsockname()[1] for sock in sockets]


def _wait_until(condition: Callable[[], bool], message: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            tail = log.read_text().strip().splitlines()[-3:] if log.exists() else ["no log"]
            raise ClusterError(f"{message} after {START_SECONDS} s; {log}: {' | '.join(tail)}")
        time.sleep(0.2)


def _titles() -> Iterator[tuple[int, str]]:
    """(pid, command line) of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            yield int(folder.name), title


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The fields after the parenthesised name: state, parent.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _end(pid: int) -> None:
    """TERM, and KILL after five seconds."""
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 1.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)


def main() -> int:
    """Command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    cluster = Cluster(args.folder)
    try:
        getattr(cluster, args.action)()
    except ClusterError as error:
        print(f"cluster.py: {error}", file=sys.stderr)
        return 1
    if args.action == "start":
        print(f"export SLURM_CONF={cluster.folder / 'slurm.conf'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
