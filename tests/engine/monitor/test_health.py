"""The rails: bad steps, spikes, memory."""

from __future__ import annotations

import math
import random

import pytest
import torch

from diffmae_video.engine.monitor.health import (
    SPIKE_WINDOW,
    LossSpikeDetector,
    NonFiniteCounter,
    is_out_of_memory,
    oom_hint,
)


def test_bad_steps_in_a_row_are_too_many_and_scattered_ones_are_not() -> None:
    bad = NonFiniteCounter(limit=3)
    for finite in (False, False, True, False, False, True):
        bad.add(finite=finite)
        assert not bad.too_many
    for _ in range(3):
        bad.add(finite=False)
    assert bad.too_many
    assert bad.total == 7


def test_bad_steps_are_counted_on_over_a_resume() -> None:
    bad, resumed = NonFiniteCounter(limit=2), NonFiniteCounter(limit=2)
    bad.add(finite=False)
    resumed.load(bad.state())
    resumed.add(finite=False)
    assert resumed.too_many
    assert resumed.total == 2


def noisy_losses(count: int) -> list[float]:
    noise = random.Random(0)
    return [2 - step / 1000 + noise.gauss(0, 0.05) for step in range(count)]


def test_ordinary_noise_is_no_spike() -> None:
    alarm = LossSpikeDetector()
    assert [message for loss in noisy_losses(1000) if (message := alarm.check(loss))] == []


def test_a_spike_is_told_once_and_again_after_it_has_passed() -> None:
    alarm = LossSpikeDetector(noisy_losses(200))
    assert "loss 5 is far above its last 100" in alarm.check(5.0)
    assert alarm.check(5.0) == ""
    assert alarm.check(1.8) == ""
    assert alarm.check(5.0) != ""


def test_a_plateau_of_spikes_is_no_new_measure() -> None:
    alarm = LossSpikeDetector(noisy_losses(200))
    assert [message for _ in range(90) if (message := alarm.check(5.0))] != []
    assert alarm.check(1.8) == ""
    assert alarm.check(5.0) != ""


def test_a_few_losses_and_broken_ones_say_nothing() -> None:
    alarm = LossSpikeDetector([1.0] * (SPIKE_WINDOW - 1))
    assert alarm.check(100.0) == ""
    assert alarm.check(math.nan) == ""
    assert alarm.check(math.inf) == ""


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of range"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, verdict: bool) -> None:
    assert is_out_of_memory(error) is verdict


def test_torch_itself_says_so_on_this_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "test"])
def test_levers_are_one_line_of_existing_keys(stage: str) -> None:
    from diffmae_video.config.load import config_keys

    line = oom_hint(stage, device=torch.device("cuda", 0))
    assert "\n" not in line
    named = {word.strip("();,").partition("=")[0] for word in line.split() if "." in word}
    assert named <= set(config_keys()) | {"decoder.kind"}
