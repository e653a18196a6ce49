"""The draws of a training step: each clip's own, uniform, normal, and a part of the hidden cubes if asked."""

from __future__ import annotations

import pytest
import torch

from diffmae_video.seeding import generator
from tests.reference.tiny import draw, part, tiny_model


@pytest.mark.parametrize("options", [{}, {"predict_fraction": 0.4}, {"objective": "mae"}])
@pytest.mark.parametrize("mask_kind", ["tube", "random", "frame", "block"])
def test_a_clips_draws_depend_on_its_generator_alone(options, mask_kind):
    model = tiny_model("cross", **options)
    together = draw(model, 3, kind=mask_kind, ratio=0.5)
    for b in range(3):
        alone = model.draw([generator("draw", 0, b)], mask_kind=mask_kind, mask_ratio=0.5)
        for ours, theirs in zip(flat(part(together, b)), flat(alone), strict=True):
            assert torch.equal(ours, theirs)


def flat(drawn):
    return [drawn.mask.visible, drawn.mask.masked, drawn.predicted, drawn.t, drawn.noise]


def test_levels_are_uniform_and_noise_is_normal():
    model = tiny_model("cross")
    drawn = draw(model, 4000, ratio=0.5)
    counts = torch.bincount(drawn.t, minlength=50)
    assert counts.shape == (50,)
    assert ((counts - 80.0) ** 2 / 80).sum() < 85  # chi-square with 49 degrees, far below 1 in 1000
    assert drawn.noise.shape == (4000, 12, 24)
    assert abs(drawn.noise.mean()) < 5e-3
    assert abs(drawn.noise.std() - 1) < 5e-3


def test_a_fraction_of_the_hidden_cubes_is_predicted_and_all_are_without():
    model = tiny_model("cross", predict_fraction=0.25)
    drawn = draw(model, 8, ratio=0.67)
    assert drawn.mask.masked.shape == (8, 16)
    assert drawn.predicted.shape == (8, 4)
    assert drawn.noise.shape == (8, 4, 24)
    for chosen, hidden in zip(drawn.predicted.tolist(), drawn.mask.masked.tolist(), strict=True):
        assert set(chosen) <= set(hidden)
        assert chosen == sorted(set(chosen))
    assert len({tuple(sorted(set(row))) for row in drawn.predicted.tolist()}) > 1
    whole = tiny_model("cross")
    assert torch.equal(draw(whole, 2).predicted, draw(whole, 2).mask.masked)
