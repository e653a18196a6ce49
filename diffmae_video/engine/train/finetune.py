"""Fine-tuning: the encoder and a linear head, on labelled clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import nn

from diffmae_video.data import TrainClips
from diffmae_video.data.normalize import normalize
from diffmae_video.engine.train.trainer import Trainer


def finetune(
    training: Trainer,
    clips: TrainClips,
    *,
    num_classes: int,
    label_smoothing: float,
    mixup: float,
    cutmix: float,
    mean: Sequence[float],
    std: Sequence[float],
    eval_steps: int = 0,
    validate: Callable[[], float] | None = None,
) -> None:
    """Train the classifier ``training.state.model`` until the last step.

    Every ``eval_steps`` steps (0: never) ``validate`` gives a top-1 share; the best one's state is kept.
    """
    model: nn.Module = training.state.model
    mix = _mixup(mixup, cutmix, label_smoothing, num_classes)
    for batch in training.batches(clips):
        model.train()
        for part in training.parts(batch):
            video = normalize(part["clips"].flatten(0, 1), mean=mean, std=std)  # (b*k, T, C, H, W)
            labels = part["label"].repeat_interleave(part["clips"].shape[1])  # (b*k,)
            video, soft = mix(video, labels)
            with training.autocast():
                logits = model(video)
            loss = F.cross_entropy(logits.float(), soft)
            training.backward(loss, correct=(logits.argmax(1) == labels).float().mean())
        training.update(lambda sums: _describe(sums, training))
        if validate and eval_steps and training.step % eval_steps == 0:
            with training.untimed():
                training.maybe_save_best(validate())


Mixing = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def _mixup(alpha: float, cutmix: float, smoothing: float, num_classes: int) -> Mixing:
    """Clips and labels to (mixed) clips and soft labels (B, num_classes); timm mixes pairs of a batch."""
    if not (alpha or cutmix):
        return lambda video, labels: (video, soft_labels(labels, num_classes=num_classes, smoothing=smoothing))
    mixing = Mixup(mixup_alpha=alpha, cutmix_alpha=cutmix, label_smoothing=smoothing, num_classes=num_classes)

    def mix(video: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # timm cuts its boxes in the last two dimensions of (B, C, H, W): time joins the channels,
        # so a clip is cut at the same place in every frame.
        flat, soft = mixing(video.flatten(1, 2), labels)
        return flat.view_as(video), soft

    return mix


def soft_labels(labels: torch.Tensor, *, num_classes: int, smoothing: float) -> torch.Tensor:
    """Labels (B,) to (B, num_classes): 1 - smoothing on the label and smoothing spread over all classes."""
    soft = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return soft.scatter_add(1, labels[:, None], torch.full_like(soft[:, :1], 1 - smoothing))


def _describe(sums: dict[str, torch.Tensor], training: Trainer) -> dict[str, Any]:
    """Share of clips that the model got right in this step, before the step."""
    parts = training.plan.accumulation * training.world.size
    return {"train_top1": float(sums["correct"]) / parts}
