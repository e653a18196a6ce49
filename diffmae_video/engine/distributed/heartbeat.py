"""A rank that dies takes the job down, with its traceback shown, instead of hanging it.

Collectives wait for a dead peer: gloo notices a closed socket, nccl waits out its time limit, and a
process that is stopped or stuck is noticed by neither. So each rank counts up a number in the job's
key-value store and watches everybody else's; and a rank that raises leaves its traceback there first.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from datetime import timedelta
from types import TracebackType
from typing import NoReturn

import torch.distributed as dist

from diffmae_video.command_line import USER_ERROR, error_line, is_user_error

BEAT_SECONDS = 1.0
DEAD_SECONDS = 40.0
_FAILED = "failed"


class Heartbeat:
    """Beats for this rank and watches the others, in a thread of its own with its own connection.

    From :meth:`start` to :meth:`stop` an uncaught exception of this rank is printed, told to the others,
    and ends the process with code 1; and so does the failure or the silence of another rank.

    Args:
        rank: this rank.
        size: ranks in the job.
        dead_seconds: silence after which a rank counts as dead.
    """

    def __init__(self, *, rank: int, size: int, dead_seconds: float) -> None:
        self.rank, self.size, self.dead_seconds = rank, size, dead_seconds
        self._store = _connect(seconds=dead_seconds)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._excepthook = sys.excepthook

    def start(self) -> None:
        """Begin to beat and to watch; returns once every rank has joined."""
        self._store.set(self._key(self.rank), f"0 {socket.gethostname()} {os.getpid()}")
        self._store.wait([self._key(rank) for rank in range(self.size)])
        sys.excepthook = self._report
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; call it when every rank has finished its work."""
        self._halt()
        sys.excepthook = self._excepthook

    def fail(self, error: BaseException) -> None:
        """Tell the others that this rank ends with ``error``; returns once they can have read it."""
        if self._stopping.is_set():
            return
        self._halt()
        code, last = 1, traceback.format_exception_only(error)[-1].strip()
        if is_user_error(error):
            code, last = USER_ERROR, error_line(error)
        with contextlib.suppress(RuntimeError):
            reason = f"{code} rank {self.rank} (host {socket.gethostname()}) failed: {last}"
            self._store.compare_set(_FAILED, "", reason)  # the first to fail is the cause of the others
            time.sleep(3 * BEAT_SECONDS)  # rank 0 may hold the store: the others must read this before it goes

    def _halt(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _key(self, rank: int) -> str:
        return f"beat/{rank}"

    def _watch(self) -> None:
        others = [rank for rank in range(self.size) if rank != self.rank]
        seen = {rank: ("", time.monotonic()) for rank in others}
        beats = 0
        while not self._stopping.wait(BEAT_SECONDS):
            beats += 1
            try:
                values = self._exchange(beats, others)
            except RuntimeError:
                self._leave("the job's key-value store is gone, and with it the process that held it (rank 0)")
            now = time.monotonic()
            for rank, value in zip(others, values, strict=True):
                if value != seen[rank][0]:
                    seen[rank] = (value, now)
                elif now - seen[rank][1] > self.dead_seconds:
                    host, pid = value.split(" ")[1:]
                    seconds = now - seen[rank][1]
                    self._leave(f"rank {rank} (host {host}, pid {pid}) is dead or stuck for {seconds:.0f} s")

    def _exchange(self, beats: int, others: list[int]) -> list[str]:
        """Beat, leave if a rank has failed, and read what the others beat last."""
        self._store.set(self._key(self.rank), f"{beats} {socket.gethostname()} {os.getpid()}")
        if self._store.check([_FAILED]):
            code, reason = self._store.get(_FAILED).decode().split(" ", 1)
            self._leave(reason, code=int(code))
        return [value.decode() for value in self._store.multi_get([self._key(rank) for rank in others])]

    def _report(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
        """The excepthook: show the traceback, tell the others, end without waiting for anybody."""
        text = "".join(traceback.format_exception(kind, error, trace))
        print(f"rank {self.rank} of {self.size} failed:\n{text}", file=sys.stderr, flush=True)
        self.fail(error)
        _exit(1)

    def _leave(self, reason: str, *, code: int = 1) -> NoReturn:
        print(f"rank {self.rank} of {self.size} ends: {reason}", file=sys.stderr, flush=True)
        _exit(code)


def _connect(*, seconds: float) -> dist.Store:
    """A connection of our own: one that waits in the main thread would block the beats."""
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=seconds),
    )
    # torchrun keeps its store over restarts: an old attempt's failure isn't ours.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"diffmae/heartbeat/{attempt}", store)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
