"""The feature target: the teacher's own pixels, its grid resampled, and that it stays frozen and out of the way."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from diffmae_video.diffusion import DiffMAE, FeatureTarget, Schedule, Teacher, timm_teacher
from diffmae_video.errors import UserError
from tests.reference.tiny import draw, tiny_decoder, tiny_encoder, tiny_features, video

NAME = "test_vit"  # timm's own miniature, made for tests


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "teacher.pth"
    torch.save(timm.create_model(NAME).state_dict(), path)
    return path


def target(teacher, encoder):
    return FeatureTarget(
        teacher, encoder, width=12, depth=2, num_heads=2, mean=(0.45, 0.4, 0.5), std=(0.225, 0.2, 0.25)
    )


def test_the_teacher_sees_first_frames_of_tubelets_in_its_own_normalisation():
    encoder = tiny_encoder()
    seen = []

    def network(frames):
        seen.append(frames)
        return frames.new_zeros(len(frames), 2, 3, 4)

    teacher = Teacher(network, width=2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = torch.rand(2, 4, 3, 6, 8)
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.45, 0.4, 0.5), (0.225, 0.2, 0.25)))
    target(teacher, encoder).teacher_features((pixels - mean) / std)
    expected = (pixels[:, [0, 2]] - torch.tensor((0.1, 0.2, 0.3))[:, None, None]) / torch.tensor((0.5, 0.6, 0.7))[
        :, None, None
    ]
    torch.testing.assert_close(seen[0], expected.flatten(0, 1))


def test_features_land_on_their_cubes():
    """A teacher that answers mean colours on the cube grid gives each cube its own mean colour."""
    encoder = tiny_encoder()
    teacher = Teacher(lambda f: nn.functional.avg_pool2d(f, 2), width=3, mean=(0.45, 0.4, 0.5), std=(0.225, 0.2, 0.25))
    clips = video(2)
    got = target(teacher, encoder).teacher_features(clips)
    cubes = encoder.patchify(clips).unflatten(-1, (2, 4, 3))  # (B, N, frame, pixel, channel)
    torch.testing.assert_close(got, cubes[:, :, 0].mean(2))


def test_another_grid_is_resampled():
    """A teacher with a finer grid: its features are averaged down; a ramp stays a ramp."""
    encoder = tiny_encoder()
    ramp = torch.arange(8.0).expand(1, 1, 6, 8)
    teacher = Teacher(lambda f: ramp.expand(len(f), 1, 6, 8), width=1, mean=(0.5,) * 3, std=(0.25,) * 3)
    got = target(teacher, encoder).teacher_features(video(1)).view(2, 3, 4)
    assert (got.diff(dim=2) > 1.5).all()  # from 8 columns to 4: two units apart, less at the antialiased ends
    torch.testing.assert_close(got[:, :, 1:3], torch.tensor([2.5, 4.5]).expand(2, 3, 2))


def test_the_loss_is_one_minus_cosine_over_the_predicted_cubes():
    encoder = tiny_encoder()
    features = tiny_features(encoder, taps="last")
    decoder = tiny_decoder("cross", encoder)
    model = DiffMAE(encoder, decoder, schedule=Schedule(), features=features)
    clips, drawn = video(2), draw(model, 2)
    latents = encoder(clips, drawn.mask, taps=features.decoder.taps)
    tokens = features.objective.mask_token.expand(2, drawn.predicted.shape[1], -1)
    output = features.decoder(latents, tokens, visible=drawn.mask.visible, predicted=drawn.predicted)
    wanted = features.teacher_features(clips)
    expected = []
    for b in range(2):
        cosines = [
            torch.dot(output[b, k], wanted[b, i]) / (output[b, k].norm() * wanted[b, i].norm())
            for k, i in enumerate(drawn.predicted[b].tolist())
        ]
        expected.append(1 - torch.stack(cosines).mean())
    torch.testing.assert_close(model(clips, drawn).feature, torch.stack(expected))


@pytest.mark.parametrize("name", [NAME, "test_convnext", "test_resnet"])
def test_a_timm_teacher_is_frozen_and_gives_its_last_feature_map(name, tmp_path):
    network = timm.create_model(name).eval()
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    teacher = timm_teacher(name, checkpoint=tmp_path / "teacher.pth")
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert teacher.mean == tuple(network.pretrained_cfg["mean"])
    frames = torch.randn(2, 3, *teacher.input_size)
    features = teacher.network(frames)
    with torch.no_grad():
        expected = network.forward_features(frames)
    if expected.ndim == 3:  # tokens, the class token first
        side = features.shape[-1]
        expected = expected[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (side, side))
    assert features.shape[1] == teacher.width
    torch.testing.assert_close(features, expected)


def test_the_teacher_stays_frozen_and_out_of_checkpoints_optimisers_and_train(checkpoint):
    encoder = tiny_encoder()
    teacher = timm_teacher(NAME, checkpoint=checkpoint)
    model = DiffMAE(
        encoder, tiny_decoder("cross", encoder), schedule=Schedule(), features=target(teacher, encoder)
    ).train()
    assert not teacher.network.training
    before = [p.clone() for p in teacher.network.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(video(2), draw(model, 2)).loss.backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.network.parameters(), strict=True))
    assert not [name for name in model.state_dict() if "teacher" in name]
    assert all(p.grad is not None for p in model.parameters())


def test_the_teacher_moves_with_the_model(checkpoint):
    encoder = tiny_encoder()
    teacher = timm_teacher(NAME, checkpoint=checkpoint)
    model = DiffMAE(encoder, tiny_decoder("cross", encoder), schedule=Schedule(), features=target(teacher, encoder))
    model.double()
    assert {p.dtype for p in teacher.network.parameters()} == {torch.float64}
    assert model.features.teacher_features(video(1, dtype=torch.float64)).shape == (1, 24, teacher.width)


def test_teachers_without_weights_or_sense_are_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match="'resnet51' is not a timm model"):
        timm_teacher("resnet51", checkpoint=checkpoint)
    with pytest.raises(UserError, match=r"checkpoint '.*none.pth' is not a file; give its weights"):
        timm_teacher(NAME, checkpoint=tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"weight \(0.0\) must be positive"):
        tiny_features(tiny_encoder(), weight=0.0)
