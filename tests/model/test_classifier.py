"""The classifier: what its head reads, and its names for the optimiser."""

from __future__ import annotations

import pytest
import torch

from diffmae_video.errors import UserError
from diffmae_video.model import VideoClassifier
from tests.reference.tiny import randomize, tiny_encoder, video


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_scores_are_the_head_of_the_pooled_features(pool):
    model = randomize(VideoClassifier(tiny_encoder(class_token=True), num_classes=7, pool=pool)).eval()
    clips = video(2)
    expected = model.encoder.features(clips, pool=pool) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(clips), expected)


def test_every_parameter_gets_a_gradient():
    model = randomize(VideoClassifier(tiny_encoder(positions="learned"), num_classes=3))
    model(video(2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_the_head_starts_small():
    head = VideoClassifier(tiny_encoder(), num_classes=50).head
    assert head.weight.std().item() == pytest.approx(2e-5, rel=0.1)
    assert not head.bias.any()


def test_head_dropout_is_on_in_training_only():
    model = randomize(VideoClassifier(tiny_encoder(), num_classes=3, head_dropout=0.5))
    clips = video(2)
    assert not torch.equal(model(clips), model(clips))
    model.eval()
    assert torch.equal(model(clips), model(clips))


def test_layers_and_undecayed_names_are_the_encoders_with_its_prefix():
    model = VideoClassifier(tiny_encoder(class_token=True, positions="learned"), num_classes=3)
    assert model.no_weight_decay() == {"encoder.positions.table", "encoder.class_token"}
    names = {name for name, _ in model.named_parameters()}
    assert model.no_weight_decay() <= names
    assert model.layer_of("encoder.embed.bias") == 0
    assert model.layer_of("encoder.blocks.1.attn.qkv.weight") == 2
    assert model.layer_of("encoder.norm.bias") == model.layer_of("head.weight") == 4


def test_bad_pools_are_refused():
    with pytest.raises(UserError, match="needs a class token"):
        VideoClassifier(tiny_encoder(), num_classes=3, pool="class")
    with pytest.raises(UserError, match="'mean' or 'class', not 'tokens'"):
        VideoClassifier(tiny_encoder(), num_classes=3, pool="tokens")
