"""The encoder: against timm, against a slow loop, and what it must not see."""

from __future__ import annotations

import warnings
import weakref

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from diffmae_video.errors import UserError
from diffmae_video.model import Mask, SpacetimeViT, VideoClassifier, draw_mask, draw_masks, unpatchify
from diffmae_video.seeding import generator
from diffmae_video.sizes import SIZES
from tests.reference.slow_vit import encoder_taps
from tests.reference.tiny import randomize, tiny_encoder, video


def masks(batch, ratio=0.75, kind="random"):
    return draw_masks(kind, (2, 3, 4), ratio=ratio, generators=[generator("m", i) for i in range(batch)])


@pytest.mark.parametrize("class_token", [False, True])
def test_an_image_model_is_timms_vision_transformer(class_token):
    size = {"depth": 3, "num_heads": 2, "class_token": class_token}
    rest = {"num_classes": 0, "no_embed_class": True, "global_pool": ""}
    theirs = randomize(VisionTransformer(img_size=16, patch_size=4, embed_dim=24, **rest, **size)).eval()
    ours = SpacetimeViT(num_frames=1, crop_size=16, tubelet=1, patch_size=4, width=24, **size)
    state = {name: value for name, value in theirs.state_dict().items() if name.startswith(("blocks", "norm"))}
    weight = theirs.patch_embed.proj.weight  # (D, 3, row, column); ours reads (row, column, channel)
    state["embed.weight"] = weight.permute(0, 2, 3, 1).flatten(1)
    state["embed.bias"] = theirs.patch_embed.proj.bias
    state["positions.table"] = theirs.pos_embed.reshape(1, 4, 4, 24)
    if class_token:
        state["class_token"] = theirs.cls_token
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = theirs.forward_features(images)
        torch.testing.assert_close(ours(images[:, None])[0], expected, rtol=1e-5, atol=1e-5)
        cubes = expected[:, 1:] if class_token else expected
        torch.testing.assert_close(ours.features(images[:, None], pool="tokens"), cubes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("class_token", [False, True])
def test_every_tap_of_visible_cubes_matches_a_slow_loop(class_token):
    encoder = randomize(tiny_encoder(class_token=class_token)).double()
    clips, mask = video(2, dtype=torch.float64), masks(2)
    outputs = encoder(clips, mask, taps=(2, 0, 1))
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    for b in range(2):
        places = [(i // 12, i // 4 % 3, i % 4) for i in mask.visible[b].tolist()]
        slow = encoder_taps(clips[b].numpy(), places, weights, tubelet=2, patch=2, depth=3, heads=2)
        for tap, output in zip((2, 0, 1), outputs, strict=True):
            torch.testing.assert_close(output[b], torch.from_numpy(slow[tap]), rtol=0, atol=1e-11)


def test_no_mask_is_all_cubes_and_no_taps_the_last_block():
    encoder = randomize(tiny_encoder())
    clips = video(2)
    everything = torch.arange(24).expand(2, -1)
    expected = encoder(clips, Mask(everything, everything[:, :0]), taps=(2,))
    assert torch.equal(encoder(clips)[0], expected[0])


def test_pixels_under_the_mask_never_change_the_output_bit_by_bit():
    encoder = randomize(tiny_encoder(class_token=True))
    clips, mask = video(3), masks(3)
    other = video(3, seed=9)
    cubes, other_cubes = encoder.patchify(clips), encoder.patchify(other)
    mixed = torch.where(mask.hidden()[..., None], other_cubes, cubes)
    nothing = torch.where(mask.hidden()[..., None], torch.nan, cubes)
    for changed in (mixed, nothing):
        before = encoder.encode(cubes.gather(1, index_of(mask, cubes)), mask.visible, (0, 1, 2))
        after = encoder.encode(changed.gather(1, index_of(mask, cubes)), mask.visible, (0, 1, 2))
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    whole = unpatchify(nothing, encoder.grid, tubelet=2, patch_size=2)
    assert torch.equal(encoder(whole, mask)[0], encoder(clips, mask)[0])


def index_of(mask, cubes):
    return mask.visible[..., None].expand(-1, -1, cubes.shape[-1])


def test_permuting_the_visible_cubes_permutes_the_output():
    encoder = randomize(tiny_encoder()).double()
    cubes = encoder.patchify(video(2, dtype=torch.float64))[:, :7]
    index = torch.arange(24)[None].expand(2, -1)[:, :7]
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    straight = encoder.encode(cubes, index)[0]
    permuted = encoder.encode(cubes[:, order], index[:, order])[0]
    torch.testing.assert_close(permuted, straight[:, order], rtol=0, atol=1e-12)


def test_a_batch_of_two_is_two_batches_of_one():
    encoder = randomize(tiny_encoder()).double()
    clips, mask = video(2, dtype=torch.float64), masks(2)
    together = encoder(clips, mask)[0]
    alone = [encoder(clips[b : b + 1], Mask(mask.visible[b : b + 1], mask.masked[b : b + 1]))[0] for b in (0, 1)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)


def test_only_visible_cubes_are_computed():
    encoder = tiny_encoder()
    sizes = []
    for layer in (encoder.embed, encoder.blocks[0].attn.qkv, encoder.blocks[2].mlp.fc1):
        layer.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[1]))
    encoder(video(2), masks(2, ratio=0.75))
    assert sizes == [6, 6, 6]


def test_checkpointing_changes_nothing():
    plain, saving = randomize(tiny_encoder()), randomize(tiny_encoder(checkpointing=True))
    clips, mask = video(2), masks(2)
    results = []
    for encoder in (plain, saving):
        out = torch.cat(encoder(clips, mask, taps=(0, 2)), dim=1)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in encoder.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_drop_path_grows_with_depth_and_is_off_in_eval():
    encoder = randomize(tiny_encoder(drop_path=0.5))
    assert [block.drop_path.drop_prob for block in encoder.blocks] == [0.0, 0.25, 0.5]
    clips = video(4)
    torch.manual_seed(0)
    one = encoder(clips)[0]
    assert not torch.equal(one, encoder(clips)[0])
    still = randomize(tiny_encoder()).eval()
    assert torch.equal(encoder.eval()(clips)[0], still(clips)[0])


@pytest.mark.parametrize("pool", ["mean", "class", "tokens"])
def test_pooled_features_are_the_pool_of_the_last_block_normalised(pool):
    encoder = randomize(tiny_encoder(class_token=True))
    kept = []
    encoder.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    features = encoder.features(video(2), pool=pool)
    last = kept[0]
    expected = {"mean": last[:, 1:].mean(1), "class": last[:, 0], "tokens": last[:, 1:]}[pool]
    torch.testing.assert_close(features, encoder.norm(expected))


def test_layers_for_layer_decay_cover_every_parameter_in_order():
    encoder = tiny_encoder(class_token=True, positions="learned")
    layers = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert layers["embed.weight"] == layers["positions.table"] == layers["class_token"] == 0
    assert layers["blocks.0.norm1.weight"] == 1
    assert layers["blocks.2.mlp.fc2.bias"] == 3
    assert layers["norm.weight"] == 4
    assert encoder.no_weight_decay() == {"positions.table", "class_token"}
    assert tiny_encoder().no_weight_decay() == set()


@pytest.mark.parametrize(
    ("name", "millions"),
    [("tiny", 5.7), ("small", 22.0), ("base", 86.6), ("large", 304.2), ("huge", 632.0), ("giant", 1012.6)],
)
def test_sizes_have_the_parameters_that_the_papers_say(name, millions):
    with torch.device("meta"):
        encoder = SpacetimeViT(**SIZES[name])
    count = sum(p.numel() for p in encoder.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_frames": 5}, r"num_frames \(5\).*use 4 or 6"),
        ({"num_heads": 5}, r"width \(24\) must be a multiple of num_heads \(5\)"),
        ({"positions": "rope"}, "'rope' is not one of sincos, learned"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        tiny_encoder(**options)


def test_a_clip_of_another_size_is_refused():
    with pytest.raises(UserError, match=r"\(2, 6, 8\) doesn't fit a model made for \(4, 6, 8\)"):
        tiny_encoder()(video(1)[:, :2])


def test_class_pooling_needs_a_class_token():
    with pytest.raises(UserError, match="needs a class token"):
        tiny_encoder().features(video(1), pool="class")
    with pytest.raises(UserError, match="'max' is not one of mean, class, tokens"):
        tiny_encoder().features(video(1), pool="max")


def test_masks_and_model_agree_on_the_order_of_cubes():
    """One bright cube, hidden by a mask built from its pixels, is not among what the encoder embeds."""
    encoder = tiny_encoder()
    clips = torch.zeros(1, 4, 3, 6, 8)
    clips[0, 2:4, :, 2:4, 6:8] = 1.0  # cube t=1, y=1, x=3
    cubes = encoder.patchify(clips)
    assert cubes[0].abs().sum(1).nonzero().item() == 1 * 12 + 1 * 4 + 3
    assert draw_mask("random", encoder.grid, ratio=0.5, generator=generator(0)).visible.max() < encoder.num_cubes


def test_outputs_that_nobody_reads_are_let_go():
    """While the blocks run, only tapped outputs and the present block's input and output are held."""
    encoder = tiny_encoder(depth=6)
    alive, most = [], []

    def watch(module, inputs, output):
        alive.append(weakref.ref(output))
        most.append(sum(ref() is not None for ref in alive))

    for block in encoder.blocks:
        block.register_forward_hook(watch)
    with torch.no_grad():
        encoder.features(video(1))
        assert most == [1, 2, 2, 2, 2, 2]
        alive.clear()
        most.clear()
        taps = encoder(video(1), taps=(1, 5))
    assert most == [1, 2, 2, 3, 3, 3]
    assert len(taps) == 2


@pytest.mark.parametrize("tap", [3, -1])
def test_a_tap_beyond_the_blocks_is_refused(tap):
    with pytest.raises(UserError, match=rf"tap {tap} is not one of the encoder's blocks; use 0 to 2"):
        tiny_encoder()(video(1), taps=(0, tap))


@pytest.mark.parametrize("class_token", [False, True])
def test_an_exported_program_takes_any_batch(class_token):
    encoder = randomize(tiny_encoder(class_token=class_token)).eval()
    classifier = VideoClassifier(randomize(tiny_encoder(class_token=class_token)), num_classes=5).eval()
    randomize(classifier.head)
    for model in (encoder, classifier):
        program = torch.export.export(
            model, (video(2),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
        )
        with torch.no_grad():
            for batch in (1, 2, 5):
                ours, exported = model(video(batch)), program.module()(video(batch))
                for a, b in zip(ours, exported, strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        ("film.mp4", r"must be a tensor \(B, frames, 3, height, width\), not str"),
        (
            torch.zeros(1, 4, 3, 6, 8, dtype=torch.uint8),
            r"clips of torch.uint8 .* floats \(pixels / 255 - mean\) / std",
        ),
        (torch.zeros(1, 4, 3, 6, 8, dtype=torch.int64), r"clips of torch.int64"),
        (torch.zeros(4, 3, 6, 8), r"shape \(4, 3, 6, 8\) .* add the batch with clip\[None\]"),
        (torch.zeros(3, 6, 8), r"shape \(3, 6, 8\) .* stack frames"),
        (torch.zeros(1, 3, 4, 6, 8), r"shape \(1, 3, 4, 6, 8\) .* axis 1, use clips.transpose\(1, 2\)"),
        (torch.zeros(1, 4, 6, 8, 3), r"shape \(1, 4, 6, 8, 3\) .* axis 4, use clips.permute\(0, 1, 4, 2, 3\)"),
        (torch.zeros(1, 4, 1, 6, 8), r"shape \(1, 4, 1, 6, 8\) .* use three channels"),
        (torch.linspace(0, 255, 576).view(1, 4, 3, 6, 8), r"values up to 255 aren't normalised; give floats"),
    ],
)
def test_what_is_no_normalised_clip_is_refused_in_one_line(clips, words):
    encoder = tiny_encoder()
    for call in (encoder, encoder.features, VideoClassifier(tiny_encoder(), num_classes=2)):
        with pytest.raises(UserError, match=words) as caught:
            call(clips)
        assert "\n" not in str(caught.value)


def test_clips_in_0_to_1_get_a_warning_and_others_none():
    encoder = tiny_encoder()
    with pytest.warns(UserWarning, match=r"look like pixels in 0...1; give floats \(pixels / 255 - mean\) / std"):
        encoder.features(torch.rand(1, 4, 3, 6, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clips in (video(1), torch.zeros(1, 4, 3, 6, 8), torch.full((1, 4, 3, 6, 8), 0.5), video(0)):
            encoder.features(clips)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_reads_float32_clips(dtype):
    encoder = randomize(tiny_encoder(class_token=True))
    expected = encoder.features(video(2))
    features = encoder.to(dtype).features(video(2))
    assert features.dtype == dtype
    torch.testing.assert_close(features.float(), expected, rtol=0, atol=0.1 if dtype == torch.bfloat16 else 1e-5)
