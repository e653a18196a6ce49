"""Testing, worked out by hand: logits that are known, probabilities averaged over the views, each video once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffmae_video.engine.distributed.context import DistributedContext
from diffmae_video.engine.train import evaluate as module
from diffmae_video.engine.train.evaluate import Scores, evaluate

VIEWS, CLASSES = 6, 7  # two moments of three crops
MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.25, 0.2]


class KnownLogits(nn.Module):
    """Reads the number of a view from its normalised pixels, and answers with that row of a table."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = torch.tensor(table, dtype=torch.float32)
        self.modes: list[bool] = []

    def forward(self, video: Tensor) -> Tensor:
        self.modes.append(self.training)
        assert video.shape[1:] == (2, 3, 4, 4)
        pixels = (video * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255
        number = pixels.mean((1, 2, 3, 4)).round().long()
        assert torch.allclose(pixels, number[:, None, None, None, None].float(), atol=1e-3)
        return self.table[number]


class NumberedViews:
    """Video i's view v is a clip of the grey level ``VIEWS * i + v``; ``broken`` ones can't be read."""

    num_frames, crop_size = 2, 4

    def __init__(self, labels: list[int], broken: tuple[int, ...] = ()) -> None:
        self.labels, self.broken = labels, broken
        self.videos = SimpleNamespace(path=lambda i: f"{i}.mp4")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        levels = torch.arange(VIEWS * i, VIEWS * (i + 1), dtype=torch.uint8)
        clips = levels[:, None, None, None, None].expand(VIEWS, 2, 3, 4, 4).clone()
        return {"clips": clips, "label": self.labels[i], "index": i, "error": "cut short" if i in self.broken else ""}


def score(model: nn.Module, views: NumberedViews, *, rank: int = 0, size: int = 1, batch_size: int = 2) -> Scores:
    return evaluate(
        model,
        views,  # type: ignore[arg-type]
        world=DistributedContext(rank=rank, size=size, local_rank=rank, device=torch.device("cpu")),
        dtype=torch.float32,
        batch_size=batch_size,
        num_workers=0,
        mean=MEAN,
        std=STD,
    )


def test_three_videos_by_hand() -> None:
    """Of the first the mean probability is right and the mean logit isn't; of the second it is the other way round."""
    logits = np.zeros((3, VIEWS, CLASSES))
    logits[0, :, 0], logits[0, :, 1] = [2, 2, 2, 2, -30, -30], [0, 0, 0, 0, 0, 0]  # class 0: 4 views of 6
    logits[0, :, 2:] = -30
    logits[1, :, 3] = [30, -2, -2, -2, -2, -2]  # one view is very sure of class 3, the others of class 4
    logits[1, :, 4] = [0, 2, 2, 2, 2, 2]
    logits[2] = np.arange(CLASSES)  # always class 6, then 5, 4, 3, 2, ...
    labels = [0, 3, 2]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    order = np.argsort(-probabilities.mean(1), axis=1)
    places = [int(np.where(order[i] == labels[i])[0][0]) for i in range(3)]
    assert places == [0, 1, 4]
    assert [int(np.argmax(logits[i].mean(0))) for i in range(3)] == [1, 3, 6], "the mean logit says otherwise"
    model = KnownLogits(logits.reshape(-1, CLASSES)).train()
    scores = score(model, NumberedViews(labels))
    assert (scores.top1, scores.top5, scores.used, scores.total) == (1 / 3, 1.0, 3, 3)
    labels[2] = 1  # the sixth
    assert score(model, NumberedViews(labels)).top5 == 2 / 3
    assert set(model.modes) == {False}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 9])
def test_random_videos_by_numpy_in_batches_of_any_size(batch_size: int) -> None:
    rng = np.random.default_rng(batch_size)
    logits, labels = 3 * rng.standard_normal((9, VIEWS, CLASSES)), rng.integers(CLASSES, size=9).tolist()
    mean = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).mean(1)
    places = [int((mean[i] > mean[i, label]).sum()) for i, label in enumerate(labels) if i != 4]
    scores = score(KnownLogits(logits.reshape(-1, CLASSES)), NumberedViews(labels, broken=(4,)), batch_size=batch_size)
    assert scores.top1 == pytest.approx(np.mean([place < 1 for place in places]))
    assert scores.top5 == pytest.approx(np.mean([place < 5 for place in places]))
    assert (scores.used, scores.total, len(scores.unread)) == (8, 9, 1)


@pytest.mark.parametrize(("size", "videos"), [(2, 5), (3, 5), (4, 3)])
def test_ranks_score_each_video_once(monkeypatch: pytest.MonkeyPatch, size: int, videos: int) -> None:
    """No video is counted twice to fill a batch or a rank; a rank may have none."""
    rng = np.random.default_rng(size)
    logits, labels = rng.standard_normal((videos, VIEWS, CLASSES)), rng.integers(CLASSES, size=videos).tolist()
    model, views = KnownLogits(logits.reshape(-1, CLASSES)), NumberedViews(labels)
    whole = score(model, views)
    parts: list[Any] = []
    monkeypatch.setattr(module, "gather_objects", lambda world, mine: (parts.append(mine), [mine])[1])
    for rank in range(size):
        with pytest.raises(AssertionError, match="neither scored nor named"):
            score(model, views, rank=rank, size=size)
    monkeypatch.setattr(module, "gather_objects", lambda world, mine: parts)
    assert sorted(row[0] for rows, _ in parts for row in rows) == list(range(videos))
    assert score(model, views, rank=0, size=size) == whole
