"""What training changes: averages in closed form, scaled gradients, skipped steps, a state that goes on."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from diffmae_video.engine.train.train_state import TrainState


def state_of(*, ema_decay: float = 0.0, scale_gradients: bool = False) -> TrainState:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    group = {"params": list(model.parameters()), "names": ["weight", "bias"], "lr_scale": 1.0}
    return TrainState(model, torch.optim.AdamW([group], lr=0.1), ema_decay=ema_decay, scale_gradients=scale_gradients)


def loss_of(state: TrainState, seed: int) -> torch.Tensor:
    return state.model(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().mean()


def step(state: TrainState, seed: int, *, finite: bool = True) -> float:
    loss = loss_of(state, seed)
    state.scaler.scale(loss if finite else loss * float("inf")).backward()
    norm = state.clip(0.0)
    state.apply(finite=finite)
    return norm


def weights(state: TrainState) -> list[torch.Tensor]:
    return [p.detach().clone() for p in state.parameters]


def test_the_average_is_the_closed_form() -> None:
    """mean = sum of w_i (1 - d_i) d_(i+1) ... d_n: the initial weights have no share."""
    state, decay = state_of(ema_decay=0.25), 0.25
    history = []
    for seed in range(6):
        step(state, seed)
        history.append(weights(state))
    decays = [0.0, 2 / 11, decay, decay, decay, decay]  # (1 + 2) / (10 + 2) reaches it
    for i, mean in enumerate(state.average):
        expected = sum((1 - decays[n]) * math.prod(decays[n + 1 :]) * history[n][i].double() for n in range(6))
        torch.testing.assert_close(mean.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_the_average_warms_up_as_diffusers_does(decay: float) -> None:
    state = state_of(ema_decay=decay)
    theirs = EMAModel(state.parameters, decay=decay)
    for seed in range(30):
        step(state, seed, finite=seed % 7 != 3)
        if seed % 7 != 3:  # a skipped step moves nothing and counts for nothing
            theirs.step(state.parameters)
        for mine, other in zip(state.average, theirs.shadow_params, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_after_a_short_run_the_average_is_near_the_weights() -> None:
    """With 0.9999 from the start, 40 steps would leave it 99.6 % initialisation."""
    state = state_of(ema_decay=0.9999)
    first = weights(state)
    for seed in range(40):
        step(state, seed)
    for start, now, mean in zip(first, weights(state), state.average, strict=True):
        assert (mean - now).norm() < 0.3 * (start - now).norm()


def test_scaled_gradients_give_the_same_steps() -> None:
    plain, scaled = state_of(), state_of(scale_gradients=True)
    assert scaled.scaler.get_scale() > 1000
    for seed in range(3):
        torch.testing.assert_close(step(scaled, seed), step(plain, seed), rtol=1e-6, atol=0)
    for mine, theirs in zip(scaled.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def test_a_step_that_isnt_finite_changes_nothing_but_the_scale() -> None:
    state = state_of(ema_decay=0.5, scale_gradients=True)
    step(state, 0)
    before, averages, moments = (
        weights(state),
        copy.deepcopy(state.average),
        copy.deepcopy(state.optimizer.state_dict()),
    )
    scale = state.scaler.get_scale()
    assert not torch.isfinite(torch.tensor(step(state, 1, finite=False)))
    assert all(torch.equal(a, b) for a, b in zip(weights(state), before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(state.average, averages, strict=True))
    after = state.optimizer.state_dict()["state"]
    assert all(torch.equal(after[i][k], v) for i, entry in moments["state"].items() for k, v in entry.items())
    assert state.scaler.get_scale() == scale / 2
    assert all(p.grad is None for p in state.parameters)
    step(state, 2)
    assert not torch.equal(weights(state)[0], before[0])


def test_clipping_returns_the_norm_before_and_leaves_the_norm_asked_for() -> None:
    state = state_of()
    loss_of(state, 0).backward()
    whole = torch.cat([p.grad.flatten() for p in state.parameters]).norm()
    assert whole > 0.01
    torch.testing.assert_close(state.clip(0.01), float(whole))
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in state.parameters]).norm(), torch.tensor(0.01))


def test_both_forms_of_a_state_go_on_to_the_same_bits() -> None:
    undisturbed = state_of(ema_decay=0.9, scale_gradients=True)
    whole, shards = state_of(ema_decay=0.9, scale_gradients=True), state_of(ema_decay=0.9, scale_gradients=True)
    for seed in range(3):
        step(undisturbed, seed)
    saved = copy.deepcopy(undisturbed.state_dict())
    whole.load_state_dict(saved)
    template = shards.shards()
    for name in ("weight", "bias"):  # what a sharded read does: fill the template's tensors in place
        template["model"][name].copy_(saved["model"][name])
        template["ema"][name].copy_(saved["ema"][name])
        for key, value in saved["optimizer"]["state"][name].items():
            template["optimizer"]["state"][name][key].copy_(value)
    shards.load_shards({**template, "scaler": saved["scaler"]})
    for state in (undisturbed, whole, shards):
        for seed in range(3, 6):
            step(state, seed)
    for state in (whole, shards):
        assert all(torch.equal(a, b) for a, b in zip(weights(state), weights(undisturbed), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(state.average, undisturbed.average, strict=True))
        assert state.scaler.state_dict() == undisturbed.scaler.state_dict()
        assert state.steps_taken == undisturbed.steps_taken == 6
