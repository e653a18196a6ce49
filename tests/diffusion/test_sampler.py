"""Samplers: on Gaussian data the whole walk is known in closed form, to 1e-10."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from diffmae_video.diffusion import Schedule, Step
from diffmae_video.diffusion.sampler import ddim_step, ddpm_step, sample, time_grid
from diffmae_video.errors import UserError
from tests.reference import gaussian

MEAN, VARIANCE = 0.7, 0.3**2


def predict(schedule, m=MEAN, s2=VARIANCE):
    """The best x0-predictor for N(m, s2)."""

    def x0(x_t, t):
        a = schedule.alpha_bar[t].item()
        return m + s2 * math.sqrt(a) / (a * s2 + 1 - a) * (x_t - math.sqrt(a) * m)

    return x0


class Recorded:
    """Replaces torch.randn in the sampler by one-hot noises, to read off each step's weight in the result."""

    def __init__(self, hot, value):
        self.calls, self.hot, self.value = 0, hot, value

    def __call__(self, shape, **options):
        self.calls += 1
        return torch.full(shape, self.value if self.calls - 1 == self.hot else 0.0, dtype=options["dtype"])


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.35), ("ddim", 1.0)])
def test_the_walk_is_the_closed_forms_affine_map(monkeypatch, kind, num_steps, sampler, eta):
    schedule = Schedule(kind)
    grid = time_grid(1000, num_steps)
    levels = [schedule.alpha_bar[t].item() for t in grid] + [1.0]

    def reference(x, a, b, m, s2):
        return gaussian.ddpm(x, a, b, m, s2) if sampler == "ddpm" else gaussian.ddim(x, a, b, eta, m, s2)

    gain, offset, variance = gaussian.walk(levels, reference, MEAN, VARIANCE)
    run = partial(
        sample,
        predict(schedule),
        schedule=schedule,
        num_steps=num_steps,
        sampler=sampler,
        eta=eta,
        generator=torch.Generator(),
    )
    start = torch.tensor([-2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", Recorded(-1, 0.0))
    silent = run(start)
    torch.testing.assert_close(silent, gain * start + offset, rtol=0, atol=1e-10)

    weights = []
    for hot in range(num_steps) if num_steps <= 50 else ():
        monkeypatch.setattr(torch, "randn", Recorded(hot, 1.0))
        weights.append((run(start) - silent)[0].item())
    if weights:
        assert sum(w * w for w in weights) == pytest.approx(variance, abs=1e-10)


@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 1.0)])
def test_many_steps_give_the_data_distribution(sampler, eta):
    """The closed form itself, independently: 1000 steps end at N(0.7, 0.3^2), within what discrete steps cost."""
    schedule = Schedule("linear")
    levels = [*schedule.alpha_bar.flip(0).tolist(), 1.0]

    def reference(x, a, b, m, s2):
        return gaussian.ddpm(x, a, b, m, s2) if sampler == "ddpm" else gaussian.ddim(x, a, b, eta, m, s2)

    gain, offset, variance = gaussian.walk(levels, reference, MEAN, VARIANCE)
    assert offset == pytest.approx(MEAN, abs=5e-3)
    assert math.sqrt(gain**2 + variance) == pytest.approx(0.3, rel=0.02)


def test_ddim_at_eta_1_is_ddpm():
    x_t, x0, z = torch.randn(3, 4, 5, dtype=torch.float64).unbind(0)
    a, b = 0.21, 0.48
    torch.testing.assert_close(
        ddim_step(x_t, x0, z, a=a, b=b, eta=1.0), ddpm_step(x_t, x0, z, a=a, b=b), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("schedule_steps", [1, 10, 37, 1000])
def test_time_grids_fall_strictly_from_the_noisiest_level(schedule_steps):
    for num_steps in {1, 2, 3, 7, schedule_steps // 2, schedule_steps - 1, schedule_steps} & set(
        range(1, schedule_steps + 1)
    ):
        grid = time_grid(schedule_steps, num_steps)
        assert len(grid) == num_steps
        assert grid[0] == schedule_steps - 1
        assert all(late > early for late, early in pairwise(grid))
        assert grid[-1] >= 0
    assert time_grid(schedule_steps, schedule_steps) == list(range(schedule_steps))[::-1]


def test_a_generator_repeats_a_sample_and_the_trajectory_holds_it():
    schedule = Schedule(num_steps=20)
    run = partial(sample, predict(schedule), torch.ones(3, dtype=torch.float64), schedule=schedule, sampler="ddpm")
    steps: list[Step] = []
    first = run(num_steps=5, generator=torch.Generator().manual_seed(3), trajectory=steps)
    again = run(num_steps=5, generator=torch.Generator().manual_seed(3))
    other = run(num_steps=5, generator=torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(steps[1].x_t, other)
    assert [step.t for step in steps] == [19, 15, 11, 7, 3]
    assert torch.equal(steps[0].x_t, torch.ones(3, dtype=torch.float64))
    assert torch.equal(steps[-1].x0, first)  # the last step goes to alpha_bar = 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "euler"}, "'euler' is not one of ddim, ddpm"),
        ({"eta": 1.5}, r"eta \(1.5\) must be in 0...1"),
        ({"sampler": "ddpm", "eta": 0.5}, "option of ddim"),
        ({"num_steps": 0}, r"num_steps \(0\)"),
        ({"num_steps": 21}, r"num_steps \(21\) of a sampler must be in 1...20"),
    ],
)
def test_bad_options_are_refused(options, words):
    arguments = {"num_steps": 5, **options}
    with pytest.raises(UserError, match=words):
        sample(
            lambda x_t, t: x_t, torch.ones(2), schedule=Schedule(num_steps=20), generator=torch.Generator(), **arguments
        )
