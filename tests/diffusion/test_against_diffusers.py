"""Single steps and whole walks equal those of diffusers' schedulers, for x0, eps and v."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from diffmae_video.diffusion import Schedule
from diffmae_video.diffusion.process import TARGETS, x0_from_output
from diffmae_video.diffusion.sampler import ddim_step, ddpm_step, sample, time_grid

THEIR_NAME = {"x0": "sample", "eps": "epsilon", "v": "v_prediction"}


def in_float64(scheduler, schedule, num_steps):
    """Their float32 tables replaced by ours, so that steps compare to rounding (the tables have their own test)."""
    scheduler.alphas_cumprod = schedule.alpha_bar
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(num_steps)
    return scheduler


def network(x_t, t):
    """Any function will do; this one is smooth and depends on both."""
    return torch.tanh(x_t * (1 + t / 700) - 0.3)


def to_x0(target, schedule, x_t, t):
    a = schedule.alpha_bar_at(t)
    return x0_from_output(target, network(x_t, t), x_t, signal=math.sqrt(a), sigma=math.sqrt(1 - a))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_ddim_step(target, kind, eta):
    schedule = Schedule(kind)
    theirs = in_float64(
        DDIMScheduler(prediction_type=THEIR_NAME[target], clip_sample=False, timestep_spacing="trailing"), schedule, 50
    )
    x_t, z = torch.randn(2, 6, 7, dtype=torch.float64).unbind(0)
    for t in (999, 499, 39, 19):
        expected = theirs.step(network(x_t, t), t, x_t, eta=eta, variance_noise=z if eta else None).prev_sample
        x0 = to_x0(target, schedule, x_t, t)
        ours = ddim_step(x_t, x0, z, a=schedule.alpha_bar_at(t), b=schedule.alpha_bar_at(t - 20), eta=eta)
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("target", TARGETS)
def test_a_ddpm_step(target):
    schedule = Schedule("linear")
    theirs = in_float64(
        DDPMScheduler(prediction_type=THEIR_NAME[target], clip_sample=False, timestep_spacing="trailing"), schedule, 50
    )
    x_t = torch.randn(6, 7, dtype=torch.float64)
    for t in (999, 499, 39, 19):
        expected = theirs.step(network(x_t, t), t, x_t, generator=torch.Generator().manual_seed(t)).prev_sample
        z = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
        x0 = to_x0(target, schedule, x_t, t)
        ours = ddpm_step(x_t, x0, z, a=schedule.alpha_bar_at(t), b=schedule.alpha_bar_at(t - 20))
        # they keep the variance above 1e-20: their last step, which adds no noise in ours, adds 1e-10 z
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("sampler", "eta", "num_steps"), [("ddim", 0.0, 50), ("ddim", 0.5, 20), ("ddpm", 0.0, 13)])
def test_a_whole_walk(target, sampler, eta, num_steps):
    """The linear schedule: at the cosine's end, diffusers' and our order of operations differ by eps / 5e-5."""
    schedule = Schedule("linear")
    kind = DDIMScheduler if sampler == "ddim" else DDPMScheduler
    theirs = in_float64(
        kind(prediction_type=THEIR_NAME[target], clip_sample=False, timestep_spacing="trailing"), schedule, num_steps
    )
    assert theirs.timesteps.tolist() == time_grid(1000, num_steps)
    start = torch.randn(5, 3, dtype=torch.float64)

    made = torch.Generator().manual_seed(11)
    expected = start
    for t in theirs.timesteps.tolist():
        options = {"eta": eta} if sampler == "ddim" else {}
        expected = theirs.step(network(expected, t), t, expected, generator=made, **options).prev_sample

    ours = sample(
        lambda x_t, t: to_x0(target, schedule, x_t, t),
        start,
        schedule=schedule,
        num_steps=num_steps,
        sampler=sampler,
        eta=eta,
        generator=torch.Generator().manual_seed(11),
    )
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_clipping_x0_is_theirs_with_eps_made_again_from_it():
    schedule = Schedule("linear")
    theirs = in_float64(
        DDIMScheduler(prediction_type="epsilon", clip_sample=True, timestep_spacing="trailing"), schedule, 50
    )
    x_t = torch.randn(6, 7, dtype=torch.float64)
    expected = theirs.step(network(x_t, 499), 499, x_t, use_clipped_model_output=True).prev_sample
    x0 = to_x0("eps", schedule, x_t, 499)
    assert (x0.abs() > 1).any()
    ours = ddim_step(x_t, x0.clamp(-1, 1), x_t, a=schedule.alpha_bar_at(499), b=schedule.alpha_bar_at(479), eta=0.0)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)
