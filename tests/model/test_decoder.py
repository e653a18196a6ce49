"""The decoders: against a slow loop, the taps, and what each cube may see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffmae_video.errors import UserError
from diffmae_video.model import decoder_to_encoder_layers, draw_masks
from diffmae_video.seeding import generator
from diffmae_video.sizes import DECODER_SIZES, SIZES
from tests.reference import slow_vit
from tests.reference.tiny import DECODERS, randomize, tiny_decoder, tiny_encoder, video


def setting(kind, *, class_token=False, **options):
    """A random decoder in float64, with latents of a random encoder for two clips."""
    encoder = randomize(tiny_encoder(class_token=class_token)).double()
    decoder = randomize(tiny_decoder(kind, encoder, **options), seed=2).double()
    mask = draw_masks("random", encoder.grid, ratio=0.75, generators=[generator(i) for i in range(2)])
    latents = encoder(video(2, dtype=torch.float64), mask, taps=decoder.taps)
    tokens = torch.randn(2, mask.masked.shape[1], 20, dtype=torch.float64)
    return decoder, latents, tokens, {"visible": mask.visible, "predicted": mask.masked}


def slow(kind, weights, latents, tokens, visible, predicted):
    """One clip through a decoder of two blocks with two heads."""
    table = weights["positions.table"].reshape(24, -1)
    x = tokens + table[predicted]
    if kind == "joint":
        seen = slow_vit.linear(latents[0], weights, "embed_latents")
        seen[len(seen) - len(visible) :] += table[visible]  # a class token, in front, has no place
        x = np.concatenate([seen, x])
    for i in range(2):
        if kind == "joint":
            x = slow_vit.block(x, weights, f"blocks.{i}", 2)
        elif kind == "cross":
            x = slow_vit.cross_block(x, latents[i], weights, f"blocks.{i}", 2)
        else:
            x = slow_vit.cross_self_block(x, latents[i], weights, f"blocks.{i}", 2)
    return slow_vit.linear(slow_vit.layer_norm(x[-len(predicted) :], weights, "norm"), weights, "head")


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("kind", DECODERS)
def test_matches_a_slow_loop(kind, class_token):
    decoder, latents, tokens, index = setting(kind, class_token=class_token)
    output = decoder(latents, tokens, **index)
    weights = {name: value.numpy() for name, value in decoder.state_dict().items()}
    for b in range(2):
        one = [latent[b].detach().numpy() for latent in latents]
        places = index["visible"][b].numpy(), index["predicted"][b].numpy()
        expected = slow(kind, weights, one, tokens[b].numpy(), *places)
        torch.testing.assert_close(output[b], torch.from_numpy(expected), rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", DECODERS)
def test_permuting_hidden_tokens_permutes_the_output(kind):
    decoder, latents, tokens, index = setting(kind)
    order = torch.randperm(tokens.shape[1])
    straight = decoder(latents, tokens, **index)
    moved = {**index, "predicted": index["predicted"][:, order]}
    torch.testing.assert_close(decoder(latents, tokens[:, order], **moved), straight[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_subset_of_the_hidden_cubes_is_the_same_for_cross_only(kind):
    decoder, latents, tokens, index = setting(kind)
    part = torch.tensor([1, 4, 5, 11])
    whole = decoder(latents, tokens, **index)[:, part]
    alone = decoder(latents, tokens[:, part], **{**index, "predicted": index["predicted"][:, part]})
    same = torch.allclose(whole, alone, rtol=0, atol=1e-12)
    assert same == (kind == "cross")


@pytest.mark.parametrize("kind", ["cross", "cross_self"])
def test_each_block_reads_its_own_tap(kind):
    """Changing one latent changes the result, and reordering them does too."""
    decoder, latents, tokens, index = setting(kind)
    before = decoder(latents, tokens, **index)
    for i in range(2):
        changed = [latent + (j == i) * 0.1 * torch.randn_like(latent) for j, latent in enumerate(latents)]
        assert not torch.allclose(decoder(changed, tokens, **index), before)
    assert not torch.allclose(decoder(latents[::-1], tokens, **index), before)


@pytest.mark.parametrize(
    ("taps", "encoder", "decoder", "expected"),
    [
        ("reversed", 12, 12, tuple(range(11, -1, -1))),
        ("reversed", 12, 4, (11, 7, 4, 0)),
        ("reversed", 24, 8, (23, 20, 16, 13, 10, 7, 3, 0)),
        ("reversed", 6, 1, (5,)),
        ("last", 12, 3, (11, 11, 11)),
        ("last", 2, 4, (1, 1, 1, 1)),
    ],
)
def test_taps(taps, encoder, decoder, expected):
    assert decoder_to_encoder_layers(taps, encoder_depth=encoder, decoder_depth=decoder) == expected


def test_taps_reach_the_decoder():
    encoder = tiny_encoder()
    assert tiny_decoder("cross", encoder).taps == (2, 0)
    assert tiny_decoder("cross_self", encoder, taps="last").taps == (2, 2)
    assert tiny_decoder("joint", encoder).taps == (2,)


def test_meaningless_taps_are_refused():
    with pytest.raises(UserError, match=r"no deeper than the encoder.*use 3 decoder blocks or taps 'last'"):
        tiny_decoder("cross", tiny_encoder(), depth=4)
    with pytest.raises(UserError, match="'top' is not one of reversed, last"):
        tiny_decoder("cross", tiny_encoder(), taps="top")


def test_every_encoder_size_has_a_default_decoder_that_can_be_built():
    assert DECODER_SIZES.keys() == SIZES.keys()
    for name, size in DECODER_SIZES.items():
        assert size["width"] % size["num_heads"] == 0, name
        assert size["depth"] <= SIZES[name]["depth"], name
        assert size["width"] <= SIZES[name]["width"], name


def test_the_cross_decoder_makes_no_tensor_of_pairs_of_hidden_cubes():
    """No operation, forward or backward, gives a tensor with two axes as long as the hidden cubes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Shapes(TorchDispatchMode):
        seen: set[tuple[int, ...]]

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    self.seen.add(tuple(tensor.shape))
            return out

    def pairs(kind):
        decoder, latents, tokens, index = setting(kind)
        with Shapes() as shapes, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            shapes.seen = set()
            decoder(latents, tokens, **index).sum().backward()
        return [shape for shape in shapes.seen if shape.count(18) > 1]

    assert pairs("cross") == []
    assert pairs("cross_self") != []  # the check can fail
