"""A bound on how long a call may take, even where it hangs inside a C library: decord's readers can deadlock."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from diffmae_video.data.decoding.base import TIMED_OUT, DecodeError

# A reader that watches the clock itself gives up at the time-out; the watchdog is for those that can't.
_GRACE_SECONDS = 1.0


class Watchdog:
    """Runs calls in one helper thread; a thread that doesn't come back is left behind and another takes over.

    Nothing can end a thread stuck in C, but it is a daemon: it doesn't keep the process alive.
    """

    def __init__(self) -> None:
        self._thread: _Helper | None = None
        self._process = -1

    def run(self, work: Callable[[], Any], *, path: str, timeout_seconds: float) -> Any:
        """The result of ``work()``, or its error.

        Raises:
            DecodeError: it took longer than ``timeout_seconds``.
        """
        if self._thread is None or self._process != os.getpid():  # threads don't survive a fork
            self._thread, self._process = _Helper(), os.getpid()
        try:
            result, error = self._thread.call(work, timeout_seconds + _GRACE_SECONDS)
        except queue.Empty:
            self._thread = None
            raise DecodeError(path, TIMED_OUT) from None
        if error is not None:
            raise error
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {"_thread": None, "_process": -1}


class _Helper:
    """A daemon thread that runs one call at a time."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="video-reader", daemon=True).start()

    def call(self, work: Callable[[], Any], timeout_seconds: float) -> tuple[Any, BaseException | None]:
        self._calls.put(work)
        return self._results.get(timeout=timeout_seconds)

    def _serve(self) -> None:
        while True:
            work = self._calls.get()
            try:
                self._results.put((work(), None))
            except BaseException as error:
                self._results.put((None, error))
