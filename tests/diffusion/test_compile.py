"""The training step is one graph for torch.compile, and compiled equals eager."""

from __future__ import annotations

import pytest
import torch

from tests.reference.tiny import draw, tiny_model, video


def step(model, clips, drawn):
    losses = model(clips, drawn)
    losses.loss.backward()
    return [losses.loss.detach(), losses.per_clip.detach(), *(p.grad for p in model.parameters())]


@pytest.mark.parametrize("kind", ["cross", "cross_self"])
@pytest.mark.parametrize("options", [{}, {"target": "v", "pixels": "normalized"}, {"objective": "mae"}])
def test_the_step_is_one_graph(kind, options):
    """Traced without a break, and run by autograd's own graph: any break or data-dependent branch is an error."""
    model = tiny_model(kind, **options)
    clips, drawn = video(2), draw(model, 2)
    expected = step(model, clips, drawn)
    model.zero_grad()
    torch._dynamo.reset()
    got = step(torch.compile(model, fullgraph=True, backend="aot_eager"), clips, drawn)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["cross", pytest.param("cross_self", marks=pytest.mark.slow)])
def test_compiled_machine_code_equals_eager(kind):
    model = tiny_model(kind, encoder={"depth": 1}, decoder={"depth": 1})
    clips, drawn = video(2), draw(model, 2)
    expected = step(model, clips, drawn)
    model.zero_grad()
    torch._dynamo.reset()
    got = step(torch.compile(model, fullgraph=True), clips, drawn)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_new_draws_and_masks_of_the_same_shape_do_not_compile_again():
    model = tiny_model("cross")
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for seed in range(3):
        compiled(video(2, seed=seed), draw(model, 2, seed=seed))
    assert counter.frame_count == 1
