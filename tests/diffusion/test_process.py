"""The three parametrisations are one prediction."""

from __future__ import annotations

import pytest
import torch

from diffmae_video.diffusion import Schedule
from diffmae_video.diffusion.process import TARGETS, add_noise, eps_from_x0, target_from_x0, x0_from_output


def draws(schedule):
    made = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(schedule.num_steps, 3, 5, generator=made, dtype=torch.float64) for _ in range(2))
    signal, sigma = schedule.levels().T[:, :, None, None]
    return x0, noise, {"signal": signal, "sigma": sigma}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_going_to_a_target_and_back_is_the_identity(target, kind):
    x0, noise, level = draws(Schedule(kind))
    x_t = add_noise(x0, noise, **level)
    output = target_from_x0(target, x0, noise, **level)
    # eps loses what sigma / signal amplifies: at the cosine's noisiest level that is 2e4
    torch.testing.assert_close(x0_from_output(target, output, x_t, **level), x0, rtol=0, atol=1e-10)


def test_eps_from_x0_finds_the_noise():
    x0, noise, level = draws(Schedule("linear"))
    torch.testing.assert_close(eps_from_x0(x0, add_noise(x0, noise, **level), **level), noise, rtol=0, atol=1e-12)


def test_the_noisy_cubes_have_the_stated_moments():
    made = torch.Generator().manual_seed(1)
    x0 = torch.full((200_000,), 2.0, dtype=torch.float64)
    noise = torch.randn(200_000, generator=made, dtype=torch.float64)
    x_t = add_noise(x0, noise, signal=0.6, sigma=0.8)
    assert abs(x_t.mean() - 1.2) < 0.01
    assert abs(x_t.std() - 0.8) < 0.01


def test_the_three_targets_are_what_their_papers_say():
    x0, noise = torch.tensor([3.0]), torch.tensor([-2.0])
    level = {"signal": 0.6, "sigma": 0.8}
    assert target_from_x0("x0", x0, noise, **level).item() == 3.0
    assert target_from_x0("eps", x0, noise, **level).item() == -2.0
    assert target_from_x0("v", x0, noise, **level).item() == pytest.approx(0.6 * -2 - 0.8 * 3)
