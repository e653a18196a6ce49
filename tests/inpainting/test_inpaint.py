"""Inpainting: what it may read, what it leaves alone, and that it is the sampler around the decoder."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from diffmae_video.diffusion import Schedule
from diffmae_video.diffusion.sampler import ddim_step, time_grid
from diffmae_video.errors import UserError
from diffmae_video.inpainting import inpaint, pixel_limits
from diffmae_video.model import draw_masks, unpatchify
from diffmae_video.seeding import generator
from tests.reference.tiny import DECODERS, tiny_model, video


def mask_for(model, batch=2):
    return draw_masks("random", model.encoder.grid, ratio=0.5, generators=[generator(i) for i in range(batch)])


def hidden_pixels(model, mask):
    hidden = mask.hidden()[..., None].expand(-1, -1, model.encoder.cube_dim)
    return unpatchify(hidden, model.encoder.grid, tubelet=2, patch_size=2)


def made(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("target", ["x0", "eps", "v"])
def test_it_is_ddim_around_the_decoder_written_out(kind, target):
    model = tiny_model(kind, target=target).double()
    clips, mask = video(2, dtype=torch.float64), mask_for(model)
    result = inpaint(model, clips, mask, num_steps=3, generator=made())

    schedule = Schedule(num_steps=50, rho=0.8)
    latents = model.encoder(clips, mask, taps=model.decoder.taps)
    x_t = torch.randn(2, 12, 24, generator=made(), dtype=torch.float64)
    grid = time_grid(50, 3)
    for t, later in zip(grid, [*grid[1:], -1], strict=True):
        a, b = schedule.alpha_bar_at(t), schedule.alpha_bar_at(later)
        tokens = model.objective.embed(x_t) + model.objective.time(torch.tensor([t, t]))[:, None]
        output = model.decoder(latents, tokens, visible=mask.visible, predicted=mask.masked)
        x0 = {
            "x0": output,
            "eps": (x_t - math.sqrt(1 - a) * output) / math.sqrt(a),
            "v": math.sqrt(a) * x_t - math.sqrt(1 - a) * output,
        }[target]
        x_t = ddim_step(x_t, x0, x_t, a=a, b=b, eta=0.0)
    cubes = model.encoder.patchify(clips)
    filled = cubes.scatter(1, mask.masked[..., None].expand_as(x_t), x_t)
    expected = unpatchify(filled, model.encoder.grid, tubelet=2, patch_size=2)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_hidden_pixels_are_never_read_and_visible_ones_are_kept(sampler):
    model = tiny_model("cross_self")
    clips, mask = video(2), mask_for(model)
    hidden = hidden_pixels(model, mask)
    run = partial(inpaint, model, mask=mask, num_steps=4, sampler=sampler)
    with_pixels = run(clips, generator=made())
    with_nothing = run(torch.where(hidden, torch.nan, clips), generator=made())
    assert torch.equal(with_pixels, with_nothing)
    assert torch.equal(with_pixels[~hidden], clips[~hidden])
    assert not torch.equal(with_pixels[hidden], clips[hidden])


def test_the_encoder_runs_once_and_the_decoder_once_a_step():
    model = tiny_model("cross")
    calls = []
    model.encoder.embed.register_forward_hook(lambda *_: calls.append("encoder"))
    model.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    inpaint(model, video(2), mask_for(model), num_steps=7, generator=made())
    assert calls == ["encoder"] + ["decoder"] * 7


def test_the_generator_repeats_a_sample():
    model = tiny_model("cross")
    run = partial(inpaint, model, video(2), mask_for(model), num_steps=4, sampler="ddpm")
    assert torch.equal(run(generator=made()), run(generator=made()))
    assert not torch.equal(run(generator=made()), run(generator=made(4)))


def test_predictions_are_clipped_to_pixels():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    limits = pixel_limits(mean, std)
    model = tiny_model("cross")
    clips = (torch.rand(2, 4, 3, 6, 8) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    steps = []
    run = partial(inpaint, model, clips, mask_for(model), num_steps=3)
    filled = run(generator=made(), limits=limits, trajectory=steps)
    for image in (filled, *(step.x0 for step in steps)):
        pixels = image * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
        assert pixels.min() > -1e-6
        assert pixels.max() < 1 + 1e-6
    hidden = hidden_pixels(model, mask_for(model))
    low, high = (torch.tensor(side)[:, None, None].expand_as(clips)[hidden] for side in limits)
    free = run(generator=made())[hidden]
    assert (free < low).any()  # without limits this random model leaves the range on both sides
    assert (free > high).any()


def test_a_trajectory_shows_every_step_with_the_visible_part_pasted_in():
    model = tiny_model("cross")
    clips, mask = video(2), mask_for(model)
    steps = []
    filled = inpaint(model, clips, mask, num_steps=4, generator=made(), trajectory=steps)
    assert [step.t for step in steps] == time_grid(50, 4)
    visible = ~hidden_pixels(model, mask)
    for step in steps:
        assert torch.equal(step.x_t[visible], clips[visible])
        assert torch.equal(step.x0[visible], clips[visible])
    assert torch.equal(steps[-1].x0, filled)
    plain = inpaint(model, clips, mask, num_steps=4, generator=made())
    assert torch.equal(plain, filled)


def test_a_mae_model_fills_in_one_step():
    model = tiny_model("joint", objective="mae")
    clips, mask = video(2), mask_for(model)
    filled = inpaint(model, clips, mask, num_steps=1, generator=made())
    latents = model.encoder(clips, mask, taps=model.decoder.taps)
    tokens = model.objective.mask_token.expand(2, 12, -1)
    output = model.decoder(latents, tokens, visible=mask.visible, predicted=mask.masked)
    cubes = model.encoder.patchify(filled)
    torch.testing.assert_close(cubes.gather(1, mask.masked[..., None].expand_as(output)), output)


def test_oracle_stats_give_a_perfect_normalised_prediction_its_pixels():
    """A decoder that answers the true normalised cubes gives the true video, within the clipping range."""
    model = tiny_model("cross", pixels="normalized", target="x0").double()
    clips, mask = video(2, dtype=torch.float64), mask_for(model)
    cubes = model.encoder.patchify(clips)
    hidden = cubes.gather(1, mask.masked[..., None].expand(-1, -1, 24))
    truth = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, keepdim=True) + 1e-6).sqrt()
    model.decoder.forward = lambda *_, **__: truth
    run = partial(inpaint, model, clips, mask, num_steps=3, oracle_stats=True)
    torch.testing.assert_close(run(generator=made()), clips)
    narrow = run(generator=made(), limits=([-0.5] * 3, [0.5] * 3))
    where = hidden_pixels(model, mask)
    torch.testing.assert_close(narrow[where], clips.clamp(-0.5, 0.5)[where])


def test_masks_of_another_grid_or_batch_are_refused():
    model = tiny_model("cross")
    with pytest.raises(UserError, match=r"\(clips, cubes\) = \(1, 24\) doesn't fit 2 clips of 24 cubes"):
        inpaint(model, video(2), mask_for(model, batch=1), num_steps=2, generator=made())
    other = draw_masks("random", (2, 2, 2), ratio=0.5, generators=[generator(i) for i in range(2)])
    with pytest.raises(UserError, match=r"= \(2, 8\) doesn't fit 2 clips of 24 cubes"):
        inpaint(model, video(2), other, num_steps=2, generator=made())


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ({"pixels": "normalized"}, {}, "pass oracle_stats to take them from the original"),
        ({}, {"oracle_stats": True}, "this one predicts raw pixels: drop it"),
        ({"objective": "mae"}, {"num_steps": 5}, r"num_steps \(5\) must be 1"),
        ({}, {"num_steps": 51}, r"num_steps \(51\) of a sampler must be in 1\.\.\.50"),
        ({}, {"sampler": "heun"}, "'heun' is not one of ddim, ddpm"),
        ({}, {"sampler": "ddpm", "eta": 1.0}, "option of ddim"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, options, words):
    made_model = tiny_model("cross", **model)
    arguments = {"num_steps": 2, **options}
    with pytest.raises(UserError, match=words):
        inpaint(made_model, video(2), mask_for(made_model), generator=made(), **arguments)
