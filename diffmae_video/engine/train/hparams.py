"""A training stage in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from diffmae_video.engine.train.lr_schedule import lr_at


@dataclass(frozen=True)
class TrainHParams:
    """A training stage in numbers. ``batch_size`` counts videos of a step over all ranks."""

    stage: str
    seed: int
    num_steps: int
    steps_per_epoch: float
    batch_size: int
    accumulation: int
    peak_lr: float
    floor_lr: float
    warmup_steps: int
    decay: str
    clip_grad: float
    max_bad_steps: int
    max_broken: float
    checkpoint_steps: int
    checkpoint_minutes: float
    num_workers: int

    def lr(self, step: int) -> float:
        """Learning rate of ``step``."""
        return lr_at(
            step,
            peak=self.peak_lr,
            floor=self.floor_lr,
            num_steps=self.num_steps,
            warmup_steps=self.warmup_steps,
            decay=self.decay,
        )
