"""The learning rate against its closed form, and against torch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch

from diffmae_video.engine.train.lr_schedule import lr_at, scaled_lr


def rates(decay: str, num_steps: int = 100, warmup_steps: int = 10) -> list[float]:
    keep = {"peak": 2.0, "floor": 0.5, "num_steps": num_steps, "warmup_steps": warmup_steps}
    return [lr_at(step, decay=decay, **keep) for step in range(num_steps)]


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    assert rates("cosine")[:11] == pytest.approx([2.0 * (i + 1) / 10 for i in range(10)] + [2.0])


def test_cosine_agrees_with_torchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.5)
    theirs = []
    for _ in range(100):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates("cosine", warmup_steps=0) == pytest.approx(theirs, rel=1e-9)


def test_linear_and_constant() -> None:
    assert rates("linear", warmup_steps=0) == pytest.approx([2.0 - 1.5 * i / 100 for i in range(100)])
    assert set(rates("constant", warmup_steps=0)) == {2.0}


def test_all_warm_up_divides_by_nothing() -> None:
    assert math.isfinite(lr_at(5, peak=1, floor=0, num_steps=5, warmup_steps=5, decay="cosine"))


def test_the_scaling_rule_counts_256_videos() -> None:
    assert scaled_lr(1.6e-3, 512) == pytest.approx(3.2e-3)
    assert scaled_lr(1.6e-3, 256) == 1.6e-3
