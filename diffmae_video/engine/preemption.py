"""Signals that ask a run to stop: they set a flag, and the loop acts on it at a step boundary."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: stopped on request, saved; the same command goes on
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopFlag:
    """Catches SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 while it is entered, and remembers the first.

    A handler must not save or talk to other ranks: it may run between any two bytecodes, and on one rank
    only. So it sets a flag; the ranks agree on it after a step (``distributed.any_rank``). A second
    Ctrl-C leaves at once, with exit code 130. Enter it in the main thread.
    """

    def __init__(self) -> None:
        self.signal_name = ""
        self._interrupts = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def __bool__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal_name != ""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name
        if number != signal.SIGINT:
            return
        self._interrupts += 1
        if self._interrupts > 1:
            os._exit(130)
        if sys.stderr.isatty():
            os.write(2, b"\nstopping after this step; Ctrl-C again leaves at once, without saving\n")
