"""A configuration's training objects: state, hyper-parameters, precision; and a look for the videos."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from diffmae_video.build.datasets import (
    MissingDataError,
    stage_section,
)
from diffmae_video.config import Config
from diffmae_video.config.rules import check_batch
from diffmae_video.config.schema import FinetuneConfig, TrainConfig
from diffmae_video.data import VideoList
from diffmae_video.diffusion import DiffMAE
from diffmae_video.engine.train.hparams import TrainHParams
from diffmae_video.engine.train.lr_schedule import scaled_lr
from diffmae_video.engine.train.optimizer import build_optimizer, param_groups
from diffmae_video.engine.train.train_state import TrainState
from diffmae_video.model import (
    VideoClassifier,
)


def build_state(
    model: DiffMAE | VideoClassifier,
    wrapped: nn.Module,
    train: TrainConfig,
    *,
    dtype: torch.dtype,
) -> TrainState:
    """Optimiser and moving average over ``wrapped``'s parameters, grouped by ``model``'s names."""
    groups = param_groups(
        model,
        weight_decay=train.weight_decay,
        no_decay=model.no_weight_decay(),
        layer_of=model.layer_of if isinstance(model, VideoClassifier) else None,
        num_layers=model.encoder.depth + 1,
        layer_decay=train.layer_decay if isinstance(train, FinetuneConfig) else 1.0,
    )
    return TrainState(
        wrapped,
        build_optimizer(groups, betas=(train.betas[0], train.betas[1])),
        ema_decay=train.ema_decay,
        scale_gradients=dtype == torch.float16,
    )


def build_plan(config: Config, stage: str, *, num_videos: int, world_size: int) -> TrainHParams:
    """The stage in steps and rates.

    Raises:
        UserError: the batch can't be shared out equally over ranks and accumulation steps, or not in pairs for mixup.
    """
    train = stage_section(config, stage)
    check_batch(config, stage, ranks=world_size)
    steps_per_epoch = num_videos / train.batch_size

    def steps(epochs: float) -> int:
        return max(1, math.ceil(epochs * steps_per_epoch))

    return TrainHParams(
        stage=stage,
        seed=config.seed,
        num_steps=steps(train.epochs),
        steps_per_epoch=steps_per_epoch,
        batch_size=train.batch_size,
        accumulation=train.accumulation,
        peak_lr=scaled_lr(train.lr, train.batch_size),
        floor_lr=train.min_lr,
        warmup_steps=round(train.warmup_epochs * steps_per_epoch),
        decay=train.decay,
        clip_grad=train.clip_grad,
        max_bad_steps=train.max_bad_steps,
        max_broken=config.data.max_broken,
        checkpoint_steps=steps(train.checkpoint_epochs),
        checkpoint_minutes=train.checkpoint_minutes,
        num_workers=config.data.num_workers,
    )


def build_dtype(config: Config, device: torch.device) -> torch.dtype:
    """Autocast's type: as asked, or bf16 on GPUs that have it, fp16 on older ones, fp32 on CPUs."""
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if config.precision != "auto":
        return names[config.precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def preflight(videos: VideoList, *, probes: int = 32) -> None:
    """Look for a few videos spread over the list, so that a wrong root is noticed at once.

    Raises:
        MissingDataError: with the first file that isn't there, if most of those looked for are missing.
    """
    picks = sorted({round(i * (len(videos) - 1) / max(1, probes - 1)) for i in range(probes)})
    missing = [videos.path(i) for i in picks if not Path(videos.path(i)).exists()]
    if 2 * len(missing) > len(picks):
        raise MissingDataError(
            f"{missing[0]}: not there, nor are {len(missing) - 1} of {len(picks) - 1} others; check data.root"
        )
