"""Labels, mixing and scores of fine-tuning and testing, against other packages and by hand."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy
from timm.utils import accuracy

from diffmae_video.engine.evaluate import _scores, label_ranks
from diffmae_video.engine.finetune import _mixup, soft_labels
from diffmae_video.engine.pixels import denormalize, normalize


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
