"""The joint decoder with the mae objective is Hugging Face's VideoMAEForPreTraining, given its weights.

The two designs coincide to the decoder's output, for any mask. Their losses coincide for raw pixels once their
un-normalising constants are 0 and 1 (theirs compares pixels of 0...1, ours normalised ones); for normalised pixels they
don't: VideoMAE normalises each cube per channel, ours over all its values as MAE-ST does.
"""

from __future__ import annotations

import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining
from transformers.models.videomae import modeling_videomae

from diffmae_video.diffusion import DiffMAE, Schedule, StepNoise
from diffmae_video.model import JointDecoder, Mask, SpacetimeViT, draw_masks
from diffmae_video.seeding import generator
from tests.reference.tiny import randomize

EPS = 1e-6


def their_model():
    config = VideoMAEConfig(
        image_size=16,
        patch_size=4,
        num_frames=4,
        tubelet_size=2,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=96,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
        layer_norm_eps=EPS,
        use_mean_pooling=False,
        norm_pix_loss=False,
    )
    model = randomize(VideoMAEForPreTraining(config)).eval()
    model.decoder.norm.eps = EPS  # the only norm that doesn't follow the configuration
    return model


def block_weights(theirs, ours):
    """One VideoMAE layer under our names; its keys have no bias."""
    attention = theirs.attention.attention
    no_bias = torch.zeros_like(attention.query.bias)
    weights = {
        "norm1.weight": theirs.layernorm_before.weight,
        "norm1.bias": theirs.layernorm_before.bias,
        "attn.qkv.weight": torch.cat([attention.query.weight, attention.key.weight, attention.value.weight]),
        "attn.qkv.bias": torch.cat([attention.query.bias, no_bias, attention.value.bias]),
        "attn.proj.weight": theirs.attention.output.dense.weight,
        "attn.proj.bias": theirs.attention.output.dense.bias,
        "norm2.weight": theirs.layernorm_after.weight,
        "norm2.bias": theirs.layernorm_after.bias,
        "mlp.fc1.weight": theirs.intermediate.dense.weight,
        "mlp.fc1.bias": theirs.intermediate.dense.bias,
        "mlp.fc2.weight": theirs.output.dense.weight,
        "mlp.fc2.bias": theirs.output.dense.bias,
    }
    return {f"{ours}.{name}": value for name, value in weights.items()}


def our_model(theirs):
    encoder = SpacetimeViT(num_frames=4, crop_size=16, patch_size=4, width=24, depth=3, num_heads=2)
    decoder = JointDecoder(encoder, width=16, depth=2, num_heads=2)
    model = DiffMAE(encoder, decoder, schedule=Schedule(), objective="mae").eval()
    embed = theirs.videomae.embeddings.patch_embeddings.projection
    state = {
        "encoder.embed.weight": embed.weight.permute(0, 2, 3, 4, 1).flatten(1),
        "encoder.embed.bias": embed.bias,
        "encoder.positions.table": theirs.videomae.embeddings.position_embeddings.reshape(2, 4, 4, 24),
        "encoder.norm.weight": theirs.videomae.layernorm.weight,
        "encoder.norm.bias": theirs.videomae.layernorm.bias,
        "decoder.embed_latents.weight": theirs.encoder_to_decoder.weight,
        "decoder.embed_latents.bias": torch.zeros(16),
        "decoder.positions.table": theirs.position_embeddings.reshape(2, 4, 4, 16),
        "decoder.norm.weight": theirs.decoder.norm.weight,
        "decoder.norm.bias": theirs.decoder.norm.bias,
        "decoder.head.weight": theirs.decoder.head.weight,
        "decoder.head.bias": theirs.decoder.head.bias,
        "objective.mask_token": theirs.mask_token,
    }
    for i, layer in enumerate(theirs.videomae.encoder.layer):
        state |= block_weights(layer, f"encoder.blocks.{i}")
    for i, layer in enumerate(theirs.decoder.decoder_layers):
        state |= block_weights(layer, f"decoder.blocks.{i}")
    model.load_state_dict(state)  # strict: nothing of either model is left out
    return model


def some_masks(kind):
    return draw_masks(kind, (2, 4, 4), ratio=0.75, generators=[generator("m", i) for i in range(3)])


@pytest.mark.parametrize("kind", ["tube", "random"])
def test_outputs_and_raw_losses_are_equal(monkeypatch, kind):
    monkeypatch.setattr(modeling_videomae, "IMAGENET_DEFAULT_MEAN", (0.0, 0.0, 0.0))
    monkeypatch.setattr(modeling_videomae, "IMAGENET_DEFAULT_STD", (1.0, 1.0, 1.0))
    theirs = their_model()
    ours = our_model(theirs)
    clips, mask = torch.randn(3, 4, 3, 16, 16), some_masks(kind)
    drawn = StepNoise(mask, mask.masked, torch.zeros(3, dtype=torch.int64), torch.empty(3, mask.masked.shape[1], 0))
    with torch.no_grad():
        expected = theirs(clips, bool_masked_pos=mask.hidden())
        cubes = ours.encoder.patchify(clips)
        tokens = ours.objective.tokens(torch.empty(*mask.masked.shape, 0), t=drawn.t, noise=drawn.noise)
        output = ours.decode(ours.encode(cubes, mask), tokens, mask, mask.masked)
        torch.testing.assert_close(output, expected.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours(clips, drawn).loss, expected.loss, rtol=1e-5, atol=1e-6)


def test_the_encoder_alone_is_equal_on_all_cubes():
    theirs = their_model()
    ours = our_model(theirs)
    clips = torch.randn(2, 4, 3, 16, 16)
    everything = torch.arange(32).expand(2, -1)
    with torch.no_grad():
        expected = theirs.videomae(clips, bool_masked_pos=torch.zeros(2, 32, dtype=torch.bool)).last_hidden_state
        torch.testing.assert_close(ours.encoder(clips)[0], expected, rtol=1e-5, atol=1e-5)
        whole = ours.encoder(clips, Mask(everything, everything[:, :0]))[0]
        torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)
