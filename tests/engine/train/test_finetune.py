"""Labels, mixing and scores of fine-tuning and testing, against other packages and by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy
from timm.utils import accuracy

from diffmae_video.config import ConfigError, load_config
from diffmae_video.data.normalize import denormalize, normalize
from diffmae_video.engine.setup import build_plan
from diffmae_video.engine.train.evaluate import _scores, label_ranks
from diffmae_video.engine.train.finetune import _mixup, soft_labels
from diffmae_video.engine.train.hparams import TrainHParams
from diffmae_video.model import VideoClassifier
from tests.reference.tiny import randomize, tiny_encoder, video


def test_smoothed_labels_give_timms_loss() -> None:
    logits, labels = torch.randn(5, 7), torch.tensor([0, 3, 6, 3, 1])
    soft = soft_labels(labels, num_classes=7, smoothing=0.1)
    assert torch.allclose(soft.sum(1), torch.ones(5))
    assert torch.allclose(F.cross_entropy(logits, soft), LabelSmoothingCrossEntropy(0.1)(logits, labels), atol=1e-6)


def test_mixup_mixes_pixels_and_labels_by_the_same_share() -> None:
    np.random.seed(0)
    video = torch.zeros(2, 4, 3, 8, 8)
    video[1] = 1
    mixed, soft = _mixup(1.0, 0.0, 0.0, 2)(video, torch.tensor([0, 1]))
    share = mixed[0, 0, 0, 0, 0]
    assert 0 < share < 1
    assert torch.allclose(mixed[0], share.expand_as(mixed[0]))
    assert torch.allclose(soft, torch.stack([torch.stack([1 - share, share]), torch.stack([share, 1 - share])]))


def test_cutmix_cuts_every_frame_at_the_same_place() -> None:
    np.random.seed(2)
    video = torch.zeros(2, 4, 3, 16, 16)
    video[1] = 1
    mixed, soft = _mixup(0.0, 1.0, 0.0, 2)(video, torch.tensor([0, 1]))
    assert torch.equal(mixed, mixed[:, :1, :1].expand_as(mixed))
    assert 0 < mixed[0].mean() < 1
    assert torch.allclose(soft[0, 1], mixed[0].mean(), atol=1e-6)


def test_ranks_agree_with_timms_accuracy() -> None:
    scores, labels = torch.randn(64, 10), torch.randint(10, (64,))
    ranks = label_ranks(scores, labels)
    top1, top5 = accuracy(scores, labels, topk=(1, 5))
    assert torch.allclose((ranks < 1).float().mean() * 100, top1)
    assert torch.allclose((ranks < 5).float().mean() * 100, top5)


def test_a_constant_classifier_is_never_right() -> None:
    assert label_ranks(torch.zeros(3, 10), torch.tensor([0, 4, 9])).tolist() == [9, 9, 9]


def test_scores_leave_out_what_was_not_read_and_count_it() -> None:
    parts = [([(0, True, True), (2, False, True)], []), ([(1, False, False)], ["b.mp4: empty file"])]
    scores = _scores(parts, total=4)
    assert (scores.used, scores.total, scores.unread) == (3, 4, ["b.mp4: empty file"])
    assert (scores.top1, scores.top5) == (1 / 3, 2 / 3)
    assert "used 3 of 4 videos" in str(scores)


def test_normalising_and_back_is_the_identity_on_every_pixel_value() -> None:
    mean, std = [0.45, 0.5, 0.4], [0.225, 0.2, 0.3]
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(3, 16, 16)[None]
    normal = normalize(pixels, mean=mean, std=std)
    by_hand = (pixels[0, 1].double() / 255 - 0.5) / 0.2
    assert torch.allclose(normal[0, 1].double(), by_hand, atol=1e-6)
    assert torch.equal(denormalize(normal, mean=mean, std=std), pixels)


def test_accumulation_changes_the_partners_of_mixup() -> None:
    """Six clips of six classes: a clip's partner is its mirror image in the forward pass, and each pass has a share."""

    def partners(parts: int) -> list[int]:
        np.random.seed(3)
        size = 6 // parts
        soft = [
            _mixup(1.0, 0.0, 0.0, 6)(torch.zeros(size, 1, 3, 4, 4), labels)[1] for labels in torch.arange(6).split(size)
        ]
        rows = torch.cat(soft)
        rows[range(6), range(6)] = 0
        return rows.argmax(1).tolist()

    assert partners(1) == [5, 4, 3, 2, 1, 0]
    assert partners(3) == [1, 0, 3, 2, 5, 4]


@pytest.mark.parametrize(
    ("drop_path", "head_dropout", "same"), [(0.0, 0.0, True), (0.5, 0.0, False), (0.5, 0.5, False)]
)
def test_accumulation_changes_what_dropout_and_stochastic_depth_drop(
    drop_path: float, head_dropout: float, same: bool
) -> None:
    model = randomize(VideoClassifier(tiny_encoder(drop_path=drop_path), num_classes=3, head_dropout=head_dropout))
    scores = []
    for parts in (1, 2):
        torch.manual_seed(0)
        scores.append(torch.cat([model(clips) for clips in video(8).chunk(parts)]))
    assert torch.allclose(*scores, atol=1e-5) == same


@pytest.mark.parametrize(
    ("overrides", "ranks", "clips"),
    [
        (["finetune.batch_size=32", "finetune.accumulation=4"], 8, 1),
        (["finetune.batch_size=256"], 256, 1),
        (["finetune.batch_size=24", "finetune.clips_per_video=3"], 8, 9),
        (["finetune.batch_size=6", "finetune.accumulation=2"], 1, 3),
    ],
)
@pytest.mark.parametrize("mixing", ["finetune.mixup=0.8", "finetune.cutmix=1"])
def test_an_odd_number_of_clips_to_mix_is_refused(
    tmp_path: Path, overrides: list[str], ranks: int, clips: int, mixing: str
) -> None:
    (tmp_path / "r.yaml").write_text("{}")
    words = rf"a forward pass has {clips} clips, which mixup and CutMix can't pair; use finetune.batch_size=(\d+)"

    def plan(*more: str) -> TrainHParams:
        config = load_config(tmp_path / "r.yaml", [*overrides, *more])
        assert ranks > 1 or mixing not in more or len(more) > 1, "on one rank the config itself is refused"
        return build_plan(config, "finetune", num_videos=1000, world_size=ranks)

    with pytest.raises(ConfigError, match=words) as caught:
        plan(mixing)
    remedy = re.search(words, str(caught.value))
    assert remedy is not None
    for way_out in ([mixing, f"finetune.batch_size={remedy[1]}"], [mixing, "finetune.clips_per_video=2"], []):
        assert plan(*way_out).num_steps > 0


def test_pre_training_alone_does_not_mind_what_fine_tuning_could_not_mix(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("{}")
    config = load_config(
        tmp_path / "r.yaml", ["stages=pretrain", "pretrain.batch_size=3", "finetune.batch_size=3", "finetune.mixup=1"]
    )
    assert build_plan(config, "pretrain", num_videos=10, world_size=3).batch_size == 3
