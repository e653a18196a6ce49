"""The training step: its draws, its loss against the formula, its gradients, and what it doesn't depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffmae_video.diffusion import DiffMAE, Schedule, StepNoise
from diffmae_video.diffusion.process import TARGETS
from diffmae_video.errors import UserError
from diffmae_video.inpainting import inpaint
from diffmae_video.seeding import generator
from tests.reference.tiny import (
    DECODERS,
    draw,
    part,
    randomize,
    tiny_decoder,
    tiny_encoder,
    tiny_features,
    tiny_model,
    to_double,
    video,
)

MODES = [("diffusion", target) for target in TARGETS] + [("mae", "x0")]


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("pixels", ["raw", "normalized"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_is_the_formula_clip_by_clip(kind, pixels, target):
    """loss = mean over hidden cubes of (target - Decoder(x_t, t, Encoder(visible)))^2, written with loops."""
    model = tiny_model(kind, target=target, pixels=pixels).double()
    clips, drawn = video(3, dtype=torch.float64), to_double(draw(model, 3))
    losses = model(clips, drawn)
    cubes = model.encoder.patchify(clips)
    alpha_bar = Schedule(num_steps=50, rho=0.8).alpha_bar
    expected = []
    for b in range(3):
        x0 = torch.stack([cubes[b, i] for i in drawn.mask.masked[b].tolist()])
        if pixels == "normalized":
            x0 = torch.stack([(cube - cube.mean()) / (cube.var() + 1e-6).sqrt() for cube in x0])
        a, noise = alpha_bar[drawn.t[b]], drawn.noise[b]
        x_t = a.sqrt() * x0 + (1 - a).sqrt() * noise
        visible = drawn.mask.visible[b : b + 1]
        latents = model.encoder(clips[b : b + 1], part(drawn, b).mask, taps=model.decoder.taps)
        tokens = x_t @ model.objective.embed.weight.T + model.objective.embed.bias
        tokens = tokens + model.objective.time(drawn.t[b : b + 1])
        answer = model.decoder(latents, tokens[None], visible=visible, predicted=drawn.predicted[b : b + 1])[0]
        wanted = {"x0": x0, "eps": noise, "v": a.sqrt() * noise - (1 - a).sqrt() * x0}[target]
        expected.append((answer - wanted).square().mean())
    # 1e-6: the model's noise levels are float32
    torch.testing.assert_close(losses.per_clip, torch.stack(expected).float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(losses.loss, losses.per_clip.mean())
    assert torch.equal(losses.t, drawn.t)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(("objective", "target"), MODES)
@pytest.mark.parametrize("pixels", ["raw", "normalized"])
def test_every_parameter_gets_a_finite_gradient(kind, objective, target, pixels):
    model = tiny_model(
        kind,
        objective=objective,
        target=target,
        pixels=pixels,
        encoder={"class_token": True, "positions": "learned"},
    )
    model(video(2), draw(model, 2)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(("objective", "target"), MODES)
def test_gradients_are_those_of_finite_differences(kind, objective, target):
    """gradcheck through the whole model in float64, for one parameter of each part and for the pixels.

    The loss is made in float32 on purpose; here it is made from its float64 parts instead.
    """
    model = tiny_model(kind, objective=objective, target=target).double()
    drawn = to_double(draw(model, 1, ratio=0.9))
    first = {}
    for name, parameter in model.named_parameters():
        kind_of = name.split(".", 1)[0] + parameter.shape.__repr__() * (parameter.ndim == 1)
        if parameter.numel() <= 60:
            first.setdefault(kind_of, (name, parameter))
    inputs = video(1, dtype=torch.float64).requires_grad_()

    def residual(clips, *_):
        cubes = model.encoder.patchify(clips)
        x0 = cubes.gather(1, drawn.predicted[..., None].expand(-1, -1, cubes.shape[-1]))
        tokens = model.objective.tokens(x0, t=drawn.t, noise=drawn.noise)
        output = model.decode(model.encode(cubes, drawn.mask), tokens, drawn.mask, drawn.predicted)
        return (output - model.objective.target(x0, t=drawn.t, noise=drawn.noise)).square().mean()

    parameters = [parameter for _, parameter in first.values()]
    assert len(parameters) >= 4
    assert torch.autograd.gradcheck(residual, (inputs, *parameters), fast_mode=True)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("objective", ["diffusion", "mae"])
def test_a_batch_of_two_is_two_batches_of_one(kind, objective):
    model = tiny_model(kind, objective=objective).double()
    clips, drawn = video(2, dtype=torch.float64), to_double(draw(model, 2))
    together = model(clips, drawn).per_clip
    alone = torch.cat([model(clips[b : b + 1], part(drawn, b)).per_clip for b in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=0)


def test_a_fraction_is_unbiased_for_the_cross_decoder():
    """Averaged over all subsets of equal size, loss and gradients are those of all hidden cubes."""
    model = tiny_model("cross").double()
    drawn, clips = to_double(draw(model, 1)), video(1, dtype=torch.float64)

    def gradients(columns):
        model.zero_grad()
        some = StepNoise(
            mask=drawn.mask, predicted=drawn.predicted[:, columns], t=drawn.t, noise=drawn.noise[:, columns]
        )
        model(clips, some).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    thirds = torch.arange(18).view(3, 6)  # disjoint thirds: each cube is in one, as in a uniform subset on average
    mean = torch.stack([gradients(columns) for columns in thirds]).mean(0)
    torch.testing.assert_close(mean, gradients(torch.arange(18)), rtol=1e-5, atol=1e-8)


def test_visible_pixels_get_no_loss_and_hidden_ones_reach_the_decoder_only_as_noise():
    """At the noisiest level the decoder's input is nearly x0-free, and visible cubes are in no target."""
    model = tiny_model("cross")
    clips, drawn = video(2), draw(model, 2)
    clips.requires_grad_()
    cubes = model.encoder.patchify(clips)
    tokens = torch.zeros(2, drawn.predicted.shape[1], 20)
    output = model.decode(model.encode(cubes, drawn.mask), tokens, drawn.mask, drawn.predicted)
    gradient = torch.autograd.grad(output.square().sum(), cubes)[0]
    assert not gradient[drawn.mask.hidden()].any()
    assert gradient[~drawn.mask.hidden()].any()


def test_the_mae_objective_reads_neither_t_nor_noise_nor_hidden_pixels():
    model = tiny_model("joint", objective="mae")
    drawn = draw(model, 2)
    assert drawn.noise.shape == (2, 18, 0)
    assert not drawn.t.any()
    tokens = model.objective.tokens(torch.full((2, 18, 24), torch.nan), t=drawn.t, noise=drawn.noise)
    assert torch.equal(tokens, model.objective.mask_token.expand(2, 18, -1))


def test_mae_is_the_limit_of_diffusion_at_alpha_bar_zero():
    """With no signal and no noise, and an embedding that only has a bias, the two objectives are one."""
    mae, diffusion = tiny_model("joint", objective="mae"), tiny_model("joint")
    diffusion.encoder.load_state_dict(mae.encoder.state_dict())
    diffusion.decoder.load_state_dict(mae.decoder.state_dict())
    diffusion.objective.levels.copy_(torch.tensor([0.0, 1.0]))
    with torch.no_grad():
        diffusion.objective.embed.bias.copy_(mae.objective.mask_token[0, 0])
        for parameter in diffusion.objective.time.parameters():
            parameter.zero_()
    drawn = draw(diffusion, 2)
    silent = StepNoise(mask=drawn.mask, predicted=drawn.predicted, t=drawn.t, noise=torch.zeros_like(drawn.noise))
    expected = mae(video(2), StepNoise(drawn.mask, drawn.predicted, drawn.t, drawn.noise[..., :0]))
    torch.testing.assert_close(diffusion(video(2), silent).per_clip, expected.per_clip)


@pytest.mark.parametrize("kind", DECODERS)
def test_checkpointing_changes_neither_loss_nor_gradients(kind):
    results = []
    for checkpointing in (False, True):
        model = tiny_model(kind, encoder={"checkpointing": checkpointing})
        loss = model(video(2), draw(model, 2)).loss
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("kind", DECODERS)
def test_the_loss_is_float32_under_autocast_and_close_to_full_precision(kind):
    model = tiny_model(kind)
    clips, drawn = video(4), draw(model, 4)
    full = model(clips, drawn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(clips, drawn)
    assert half.loss.dtype == half.per_clip.dtype == torch.float32
    torch.testing.assert_close(half.per_clip, full.per_clip, rtol=0.05, atol=0.02)
    half.loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_a_strict_state_dict_round_trip_gives_the_same_loss(kind):
    one, other = tiny_model(kind), tiny_model(kind)
    randomize(other, seed=5)
    drawn = draw(one, 2)
    assert not torch.equal(one(video(2), drawn).loss, other(video(2), drawn).loss)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(video(2), drawn).loss, other(video(2), drawn).loss)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("mask_kind", ["tube", "random", "frame", "block"])
def test_nothing_in_a_step_waits_for_the_device(kind, mask_kind):
    """No operation of draw, forward or backward brings a value to Python or makes a shape depend on values."""
    waits = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2"}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func.overloadpacket.__name__ not in waits, func
            return func(*args, **(kwargs or {}))

    model = tiny_model(kind, pixels="normalized", target="v", predict_fraction=0.5)
    clips, made = video(2), [generator(i) for i in range(2)]
    with Watch():
        model(clips, model.draw(made, mask_kind=mask_kind, mask_ratio=0.5)).loss.backward()
    with Watch(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        clips.sum().item()  # the watch works


def test_tokens_and_tables_are_not_decayed():
    model = tiny_model("cross", objective="mae", encoder={"class_token": True, "positions": "learned"})
    assert model.no_weight_decay() == {"objective.mask_token", "encoder.positions.table", "encoder.class_token"}


def test_schedule_tables_are_not_in_the_checkpoint():
    assert not [name for name in tiny_model("cross").state_dict() if "levels" in name or "frequency" in name]


def test_the_feature_loss_is_added_with_its_weight():
    encoder = tiny_encoder()
    decoder = tiny_decoder("cross", encoder)
    model = DiffMAE(
        encoder, decoder, schedule=Schedule(num_steps=50), features=tiny_features(encoder, weight=0.3, taps="last")
    )
    randomize(model)
    losses = model(video(2), draw(model, 2))
    torch.testing.assert_close(losses.loss, (losses.per_clip + 0.3 * losses.feature).mean())
    assert (losses.feature > 0).all()
    losses.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objective": "gan"}, "'gan' is not one of diffusion, mae"),
        ({"target": "score"}, "'score' is not one of x0, eps, v"),
        ({"objective": "mae", "target": "eps"}, "needs noise, which the mae objective hasn't; use target x0"),
        ({"pixels": "whitened"}, "'whitened' is not one of raw, normalized"),
        ({"predict_fraction": 0.0}, r"predict_fraction \(0.0\) must be above 0"),
        ({"predict_fraction": 1.5}, r"predict_fraction \(1.5\)"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        tiny_model("cross", **options)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("pixels", ["raw", "normalized"])
def test_the_first_frame_of_each_cube_is_mae_sts_target(kind, pixels):
    """Read off the clip itself: frames 0, 2, ... (SlowFast's TIME_STRIDE_LOSS), each patch by its own statistics."""
    encoder = tiny_encoder()
    decoder = tiny_decoder(kind, encoder, out_dim=12)
    options = {"schedule": Schedule(num_steps=50), "objective": "mae", "pixels": pixels, "target_frames": "first"}
    model = randomize(DiffMAE(encoder, decoder, **options)).double()
    clips, drawn = video(2, dtype=torch.float64), to_double(draw(model, 2))
    tokens = model.objective.mask_token.expand(2, drawn.predicted.shape[1], -1)
    answers = model.decode(model.encoder(clips, drawn.mask, model.taps), tokens, drawn.mask, drawn.predicted)
    for b in range(2):
        errors = []
        for answer, cube in zip(answers[b], drawn.predicted[b].tolist(), strict=True):
            t, y, x = cube // 12, cube // 4 % 3, cube % 4
            rows = clips[b, 2 * t, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].permute(1, 2, 0)  # row, column, channel
            values = np.array(rows.flatten().tolist())
            if pixels == "normalized":
                values = (values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6)
            errors.append(np.mean((answer.tolist() - values) ** 2))
        assert model(clips, drawn).per_clip[b].item() == pytest.approx(np.mean(errors), rel=1e-6)


def test_one_frame_of_each_cube_is_for_mae_and_its_decoder():
    encoder = tiny_encoder()
    options = {"schedule": Schedule(num_steps=50), "target_frames": "first"}
    with pytest.raises(UserError, match=r"'first' is the mae objective's; .* use target_frames all"):
        DiffMAE(encoder, tiny_decoder("cross", encoder, out_dim=12), **options)
    with pytest.raises(UserError, match=r"the decoder gives 24 values .* has 12; make it with out_dim=12"):
        DiffMAE(encoder, tiny_decoder("cross", encoder), objective="mae", **options)
    with pytest.raises(UserError, match="'last' is not one of all, first"):
        DiffMAE(encoder, tiny_decoder("cross", encoder), schedule=Schedule(num_steps=50), target_frames="last")
    model = DiffMAE(encoder, tiny_decoder("joint", encoder, out_dim=12), objective="mae", **options)
    mask = draw(model, 1).mask
    with pytest.raises(UserError, match=r"can't fill whole cubes; inpaint with a model trained with target_frames all"):
        inpaint(model, video(1), mask, num_steps=1, generator=torch.Generator())
