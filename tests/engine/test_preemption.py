"""Signals set a flag; a second Ctrl-C leaves at once."""

from __future__ import annotations

import os
import signal

import pytest

from diffmae_video.engine.preemption import StopFlag


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_sets_the_flag_and_nothing_else(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopFlag() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_name == number.name
    assert signal.getsignal(number) is before


def test_the_first_signal_is_the_one_named() -> None:
    with StopFlag() as stop:
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert stop.signal_name == "SIGUSR2"


def test_a_second_interrupt_leaves_at_once() -> None:
    pid = os.fork()
    if pid == 0:
        with StopFlag():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), StopFlag():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before
