"""Schedules: their formulas, against diffusers, and rho."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from diffmae_video.diffusion import Schedule
from diffmae_video.errors import UserError


@pytest.mark.parametrize(("kind", "name"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_matches_diffusers(kind, name):
    ours, theirs = Schedule(kind), DDPMScheduler(beta_schedule=name)
    torch.testing.assert_close(ours.betas.float(), theirs.betas, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.alpha_bar.float(), theirs.alphas_cumprod, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("num_steps", [1, 7, 50, 1000, 4000])
@pytest.mark.parametrize("rho", [0.6, 1.0, 1.3])
def test_alpha_bar_falls_strictly_within_0_and_1(kind, num_steps, rho):
    alpha_bar = Schedule(kind, num_steps=num_steps, rho=rho).alpha_bar
    assert alpha_bar.dtype == torch.float64
    assert alpha_bar.shape == (num_steps,)
    assert (alpha_bar.diff() < 0).all()
    assert 0 < alpha_bar[-1] <= alpha_bar[0] < 1


def test_rho_exponentiates_each_beta():
    plain, bent = Schedule("linear"), Schedule("linear", rho=0.8)
    assert torch.equal(bent.betas, plain.betas**0.8)
    assert (bent.alpha_bar < plain.alpha_bar).all()  # below 1: more noise at every step


def test_linear_ends_equally_noisy_for_any_number_of_steps():
    ends = torch.stack([Schedule("linear", num_steps=n).alpha_bar[-1].log() for n in (250, 1000, 4000)])
    assert (ends / ends[1] - 1).abs().max() < 0.05


def test_levels_are_the_two_factors():
    schedule = Schedule("cosine", num_steps=20)
    levels = schedule.levels()
    torch.testing.assert_close(levels[:, 0] ** 2, schedule.alpha_bar, rtol=0, atol=1e-15)
    torch.testing.assert_close(levels.square().sum(1), torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-15)


def test_the_level_after_the_last_step_is_clean():
    schedule = Schedule()
    assert schedule.alpha_bar_at(-1) == 1.0
    assert schedule.alpha_bar_at(999) == schedule.alpha_bar[999].item()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "sqrt"}, "'sqrt' is not one of linear, cosine"),
        ({"num_steps": 0}, r"num_steps \(0\)"),
        ({"rho": 0.0}, r"rho \(0.0\) must be positive"),
        ({"rho": 0.05}, r"rho \(0.05\) leaves nothing of x0"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        Schedule(**options)


def test_which_rho_table_of_method_md():
    """Every number of the table: where the mean of a cube's pixels of one colour has a signal above its noise."""
    text = (Path(__file__).parents[2] / "docs" / "method.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) % \| (\d+) % \| (\d+) % \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert [row[0] for row in rows] == ["1.0", "0.8", "0.6", "0.5", "0.3"]
    for rho, *numbers in rows:
        alpha_bar = Schedule("linear", num_steps=1000, rho=float(rho)).alpha_bar
        mean_snr = [alpha_bar / (1 - alpha_bar) * pixels for pixels in (2 * 16 * 16, 16 * 16, 2 * 8 * 8)]
        shares = [f"{100 * (snr > 1).double().mean():.0f}" for snr in mean_snr]
        noise = float((1 - alpha_bar[0]).sqrt())
        assert numbers == [*shares, f"{noise:.3f}", f"{noise * 0.225 * 255:.1f}"]
