"""What the objectives give the decoder: the embedding of t, levels under casts, and targets that a schedule allows."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from diffmae_video.diffusion import Schedule
from diffmae_video.diffusion.objective import DiffusionObjective, TimeEmbedding
from diffmae_video.errors import UserError
from diffmae_video.inpainting import inpaint
from diffmae_video.model import draw_masks
from diffmae_video.seeding import generator
from tests.reference.tiny import DECODERS, draw, tiny_model, video


@pytest.mark.parametrize("num_steps", [50, 250, 1000])
@pytest.mark.parametrize("width", [20, 64])
def test_the_embedding_of_t_is_diffusers_at_t_on_a_scale_of_1000(num_steps, width):
    embedding = TimeEmbedding(width, num_steps=num_steps)
    embedding.mlp = torch.nn.Sequential(torch.nn.Linear(width, width))
    torch.nn.init.eye_(embedding.mlp[0].weight)
    torch.nn.init.zeros_(embedding.mlp[0].bias)
    t = torch.arange(num_steps)
    theirs = get_timestep_embedding(1000 / num_steps * t, width, downscale_freq_shift=0)
    torch.testing.assert_close(embedding(t), theirs, rtol=0, atol=2e-4)  # float32 angles of up to 1000


def test_a_cast_of_the_embedding_rounds_its_waves_not_their_angles():
    waves = []
    for dtype in (torch.float32, torch.bfloat16):
        embedding = TimeEmbedding(64, num_steps=1000).to(dtype)
        embedding.mlp.register_forward_pre_hook(lambda module, inputs: waves.append(inputs[0]))
        assert embedding(torch.arange(1000)).dtype == dtype
    assert torch.equal(waves[1], waves[0].bfloat16())
    assert len(waves[1].float().unique(dim=0)) == 1000


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_cast_of_the_model_leaves_the_levels_as_they_are(dtype):
    schedule = Schedule(num_steps=50, rho=0.8)
    objective = DiffusionObjective(schedule, target="v", cube_dim=24, width=12).to(dtype)
    assert objective.embed.weight.dtype == dtype
    assert torch.equal(objective.levels, schedule.levels().float())
    assert objective.to("meta").levels.is_meta


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("options", [{}, {"target": "v"}, {"objective": "mae"}])
@pytest.mark.parametrize("clips", [torch.float32, torch.bfloat16])
def test_a_bfloat16_model_inpaints_and_trains_nearly_as_in_float32(kind, options, clips):
    model = tiny_model(kind, **options)
    mask = draw_masks("random", model.encoder.grid, ratio=0.5, generators=[generator(i) for i in range(2)])
    steps = 1 if "objective" in options else 3
    expected = inpaint(model, video(2), mask, num_steps=steps, generator=torch.Generator().manual_seed(0))
    drawn = draw(model, 2)
    loss = model(video(2), drawn).loss
    half = model.to(torch.bfloat16)
    torch.testing.assert_close(half(video(2, dtype=clips), drawn).loss, loss, rtol=0.05, atol=0)
    made = torch.Generator().manual_seed(0)
    filled = inpaint(half, video(2, dtype=clips), mask, num_steps=steps, generator=made)
    assert filled.dtype == clips
    if clips == torch.float32:  # the walk is float32 too, and starts from the same noise
        assert (filled - expected).square().mean() < 0.01 * expected.square().mean()
    else:
        assert filled.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "num_steps", "rho", "allowed"),
    [
        ("linear", 1000, 1.0, True),
        ("linear", 1000, 0.85, True),
        ("linear", 1000, 0.8, False),
        ("linear", 1000, 0.5, False),
        ("linear", 250, 0.8, True),
        ("cosine", 1000, 1.0, True),
        ("cosine", 1000, 0.9, False),
    ],
)
def test_eps_needs_a_schedule_whose_last_level_holds_something_of_x0(kind, num_steps, rho, allowed):
    schedule = Schedule(kind, num_steps=num_steps, rho=rho)
    for target in ("x0", "v"):
        DiffusionObjective(schedule, target=target, cube_dim=24, width=12)
    if allowed:
        DiffusionObjective(schedule, target="eps", cube_dim=24, width=12)
        return
    with pytest.raises(UserError, match=r"must end above 1e-10; use target x0 or v, or a larger rho"):
        DiffusionObjective(schedule, target="eps", cube_dim=24, width=12)


def test_where_eps_is_allowed_float32_gives_x0_back_at_every_level():
    """Why 1e-10: at the noisiest level that is allowed, rounding costs less than 2 % of x0's deviation."""
    schedule = Schedule("linear", num_steps=1000, rho=0.82)
    objective = DiffusionObjective(schedule, target="eps", cube_dim=24, width=12)
    x0, noise = torch.randn(2, 1, 1000, 24, generator=torch.Generator().manual_seed(0)).unbind(0)
    for t in (0, 500, 999):
        signal, sigma = objective.levels[t]
        back = objective.x0(noise, signal * x0 + sigma * noise, t)
        assert (back - x0).square().mean().sqrt() < 0.02
