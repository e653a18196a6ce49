"""What the stages hand on to each other: which weights are scored, and under which name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffmae_video import build
from diffmae_video.config import load_config
from diffmae_video.engine import runner, stages
from diffmae_video.engine.checkpoint.single_file import save_checkpoint
from diffmae_video.engine.train.evaluate import Scores
from tests.engine.driven import result_of


@pytest.mark.parametrize("averaged", [True, False])
def test_a_test_scores_the_weights_and_their_averages(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaged: bool
) -> None:
    """Each under its name: the averages in every parameter that has one, on the checkpoint that is named."""
    config = load_config(tiny_config, ["stages=[test]", "test.weights=best", "tf32=false"])
    model = build.build_classifier(config, num_classes=3)
    weights = dict(model.state_dict())
    averages = {name: value.detach() + 1 for name, value in model.named_parameters()} if averaged else {}
    saved = {"stage": "finetune", "identity": {}, "classes": ["still", "left", "right"], "num_videos": 12}
    finetuned = tmp_path / "run" / "finetune"
    save_checkpoint(finetuned / "weights.pt", {**saved, "model": {n: w + 2 for n, w in weights.items()}, "ema": {}})
    save_checkpoint(finetuned / "checkpoints" / "best.pt", {**saved, "model": weights, "ema": averages})
    scored: list[dict[str, torch.Tensor]] = []

    def evaluate(model: nn.Module, views: Any, **options: Any) -> Scores:
        scored.append({name: value.clone() for name, value in model.state_dict().items()})
        return Scores(top1=len(scored) / 10, top5=len(scored) / 5, used=5, total=5, unread=[])

    monkeypatch.setattr(stages, "evaluate", evaluate)
    assert runner.run(config) == 0
    assert len(scored) == 1 + averaged
    for found, expected in zip(scored, (weights, {**weights, **averages}), strict=False):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    results = [result_of(tmp_path / "run", "test").get(name) for name in ("model", "ema")]
    assert [result and result["top1"] for result in results] == [0.1, 0.2 if averaged else None]
