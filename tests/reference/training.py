"""Pre-training and fine-tuning written out in plain PyTorch: the slow, obvious version of the engine's loops.

Nothing of ``diffmae_video.engine`` or ``diffmae_video.seeding`` is used: rates, weight decay, moving averages, labels
and the keys of all draws are written down once more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn


@dataclass(frozen=True)
class Numbers:
    """A stage's section of a config, in numbers."""

    seed: int
    num_steps: int
    warmup_steps: int
    batch_size: int
    accumulation: int
    clips_per_video: int
    lr: float
    min_lr: float
    betas: tuple[float, float]
    weight_decay: float
    clip_grad: float
    ema_decay: float
    layer_decay: float = 1.0
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)


@dataclass
class Trained:
    """What a stage leaves: a line a step, and the moving average of each parameter."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)


def seed_of(*key: int | str) -> int:
    """The seed of a key: eight bytes of its blake2b, without the sign bit."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


def keyed(*key: int | str) -> torch.Generator:
    """A generator of a key's own."""
    made = torch.Generator()
    made.manual_seed(seed_of(*key))
    return made


def pretrain(model: nn.Module, clips: Any, n: Numbers, *, mask_kind: str, mask_ratio: float) -> Trained:
    """``clips[position]`` gives k clips; their mask, level and noise are drawn by (seed, position, clip)."""

    def loss_of(positions: range) -> tuple[Tensor, dict[str, Any]]:
        video = _video(clips, positions, n)
        keys = [keyed(n.seed, "noise", p, c) for p in positions for c in range(n.clips_per_video)]
        losses = model(video, model.draw(keys, mask_kind=mask_kind, mask_ratio=mask_ratio))
        return losses.per_clip.mean(), {"levels": losses.t.tolist(), "losses": losses.per_clip.tolist()}

    return _train(model, loss_of, n, stage="pretrain", scale_of=lambda name: 1.0)


def finetune(
    model: nn.Module, clips: Any, n: Numbers, *, num_classes: int, smoothing: float, mixup: float, cutmix: float
) -> Trained:
    """Every clip of a video has its label; smoothed, and mixed by timm where ``mixup`` or ``cutmix`` is above 0."""
    depth = len(model.encoder.blocks)

    def scale_of(name: str) -> float:
        blocks_above = {"embed": depth, "positions": depth, "class_token": depth}.get(name.split(".")[1], -1)
        if name.startswith("encoder.blocks."):
            blocks_above = depth - 1 - int(name.split(".")[2])
        return n.layer_decay ** (blocks_above + 1)

    def loss_of(positions: range) -> tuple[Tensor, dict[str, Any]]:
        video = _video(clips, positions, n)
        labels = torch.tensor([clips[p]["label"] for p in positions for _ in range(n.clips_per_video)])
        soft = (1 - smoothing) * F.one_hot(labels, num_classes) + smoothing / num_classes
        if mixup or cutmix:
            mixing = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=smoothing, num_classes=num_classes)
            mixed, soft = mixing(video.flatten(1, 2), labels)
            video = mixed.view_as(video)
        logits = model(video)
        right = (logits.argmax(1) == labels).double().mean()
        return -(soft * logits.log_softmax(1)).sum(1).mean(), {"right": [float(right)]}

    return _train(model, loss_of, n, stage="finetune", scale_of=scale_of)


def _video(clips: Any, positions: range, n: Numbers) -> Tensor:
    pixels = torch.cat([clips[p]["clips"] for p in positions]).float() / 255  # (b*k, T, C, H, W)
    mean, std = (torch.tensor(x)[:, None, None] for x in (n.mean, n.std))
    return (pixels - mean) / std


def _train(
    model: nn.Module,
    loss_of: Callable[[range], tuple[Tensor, dict[str, Any]]],
    n: Numbers,
    *,
    stage: str,
    scale_of: Callable[[str], float],
) -> Trained:
    """AdamW, step by step: batch s has the positions s*G up to (s+1)*G, in equal parts."""
    model.train()
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    first, second = ({name: torch.zeros_like(p) for name, p in weights.items()} for _ in range(2))
    done = Trained(average={name: p.detach().clone() for name, p in weights.items()})
    part = n.batch_size // n.accumulation
    for step in range(n.num_steps):
        torch.manual_seed(seed_of(n.seed, stage, "step", step, 0))
        np.random.seed(seed_of(n.seed, stage, "step", step, 0) % 2**32)
        line: dict[str, Any] = {"step": step, "loss": 0.0, "lr": rate(n, step)}
        for i in range(n.accumulation):
            begin = step * n.batch_size + i * part
            loss, facts = loss_of(range(begin, begin + part))
            (loss / n.accumulation).backward()
            line["loss"] += float(loss.detach()) / n.accumulation
            for name, values in facts.items():
                line[name] = line.get(name, []) + values
        line["grad_norm"] = math.sqrt(sum(float(p.grad.square().sum()) for p in weights.values()))
        shrink = min(1.0, n.clip_grad / line["grad_norm"]) if n.clip_grad else 1.0
        with torch.no_grad():
            for name, p in weights.items():
                gradient, lr = p.grad * shrink, line["lr"] * scale_of(name)
                decayed = p.ndim > 1 and not name.endswith(("mask_token", "class_token", "positions.table"))
                p *= 1 - lr * n.weight_decay * decayed
                first[name].lerp_(gradient, 1 - n.betas[0])
                second[name].lerp_(gradient.square(), 1 - n.betas[1])
                mean = first[name] / (1 - n.betas[0] ** (step + 1))
                variance = second[name] / (1 - n.betas[1] ** (step + 1))
                p -= lr * mean / (variance.sqrt() + 1e-8)
                done.average[name].lerp_(p, 1 - (min(n.ema_decay, (1 + step) / (10 + step)) if step else 0))
                p.grad = None
        done.lines.append(line)
    return done


def rate(n: Numbers, step: int) -> float:
    """Linear warm-up, then a cosine to ``min_lr``; ``lr`` is for 256 videos a step."""
    peak = n.lr * n.batch_size / 256
    if step < n.warmup_steps:
        return peak * (step + 1) / n.warmup_steps
    share = (step - n.warmup_steps) / (n.num_steps - n.warmup_steps)
    return n.min_lr + (peak - n.min_lr) * (1 + math.cos(math.pi * share)) / 2
