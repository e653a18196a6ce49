"""A lock on a run's folder, so that two runs never write to one."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

from diffmae_video.errors import UserError

LOG = logging.getLogger(__name__)


class RunLockError(UserError):
    """Another live run holds the folder; one line with its host and process id."""


class RunLock:
    """Holds a run's folder against a second run, for as long as the process lives.

    A POSIX record lock: the kernel drops it when the process ends in any way, a kill included, and
    (unlike flock) forked loader workers that outlive a killed parent don't keep it. It holds over hosts on
    NFS and on Lustre mounted with ``flock``. Use it as a context manager, on rank 0 only.

    Raises:
        RunLockError: on entering, when another process holds the folder.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.path = Path(output_dir) / ".lock"
        self._descriptor = -1

    def __enter__(self) -> RunLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                self._close()
                raise RunLockError(
                    f"{self.path.parent} belongs to a live run ({holder}); wait for it, stop it, "
                    "or give this one another output_dir"
                ) from None
            LOG.warning("%s can't be locked (%s): two runs on it would not notice", self.path, error.strerror)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"host {socket.gethostname()}, pid {os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
