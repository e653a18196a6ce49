"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

REFERENCE_BATCH = 256


def scaled_lr(lr: float, batch_size: int) -> float:
    """The linear scaling rule (Goyal et al., arXiv 1706.02677): ``lr`` is stated for 256 videos a step.

    ``batch_size`` counts the videos of an optimiser step over all ranks; clips drawn repeatedly of one
    video aren't counted again, as in MAE-ST.
    """
    return lr * batch_size / REFERENCE_BATCH


def lr_at(step: int, *, peak: float, floor: float, num_steps: int, warmup_steps: int, decay: str) -> float:
    """Learning rate of ``step`` in 0..num_steps-1: linear warm-up from near 0, then the decay to ``floor``.

    The first step already moves the weights (rate ``peak / warmup_steps``), and the first step after the
    warm-up has ``peak`` itself.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    shapes = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "constant": 1.0,
    }
    return floor + (peak - floor) * shapes[decay]
