"""From a recipe to objects: the one place where its keys meet the constructors' arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from diffmae_video.data import TestViews, TrainClips, VideoList, read_videos, with_flip_labels
from diffmae_video.data.annotations import NO_FLIP
from diffmae_video.diffusion import DiffMAE, FeatureTarget, Schedule, timm_teacher
from diffmae_video.diffusion.diffmae import target_dim
from diffmae_video.engine.lr import scaled_lr
from diffmae_video.engine.optim import build_optimizer, param_groups
from diffmae_video.engine.plan import Plan
from diffmae_video.engine.state import TrainState
from diffmae_video.errors import UserError
from diffmae_video.model import (
    CrossDecoder,
    Decoder,
    JointDecoder,
    SpacetimeViT,
    VideoClassifier,
)
from diffmae_video.recipe import Recipe
from diffmae_video.recipe.rules import check_batch, decoder_shape
from diffmae_video.recipe.schema import FinetuneRecipe, TrainRecipe
from diffmae_video.sizes import SIZES

PREPARED_BY = {
    "kinetics400": "datasets/kinetics.py",
    "kinetics600": "datasets/kinetics.py",
    "kinetics700": "datasets/kinetics.py",
    "ssv2": "datasets/ssv2.py",
    "ucf101": "datasets/ucf101.py",
    "hmdb51": "datasets/hmdb51.py",
    "list": "datasets/motion.py (the embedded collection)",
    "folder": "a folder of class folders of videos",
    "images": "a folder of class folders of pictures",
}


class MissingDataError(UserError):
    """A list that the recipe names isn't there; one line with the command that makes it."""


def list_key(recipe: Recipe, split: str) -> str:
    """The recipe's key for the list of ``split``, see :func:`build_videos`."""
    if split == "val":
        return "data.val_list"
    return "finetune.train_list" if split == "finetune" and recipe.finetune.train_list else "data.train_list"


def build_videos(recipe: Recipe, split: str) -> VideoList:
    """The videos of ``split``: "train", "finetune" (its own list if it has one) or "val"."""
    data = recipe.data
    paths = {
        "train": data.train_list,
        "finetune": recipe.finetune.train_list or data.train_list,
        "val": data.val_list,
    }
    path, key = paths[split], list_key(recipe, split)
    if not path or not Path(path).exists():
        maker = PREPARED_BY[data.dataset]
        named = f"{path} is not there" if path else "not given"
        raise MissingDataError(f"{key}: {named}; make it with {maker}, or point {key} at your list")
    videos = read_videos(path, root=data.root, dataset=data.dataset, manifest=data.manifest or None)
    return with_flip_labels(videos) if data.swap_flip_labels else videos


def mirroring(recipe: Recipe, stage: str, videos: VideoList | None = None) -> str:
    """Whether a stage's clips are mirrored, and by which rule; without the list, by the collection's alone."""
    allowed = recipe.data.dataset not in NO_FLIP if videos is None else videos.flip_allowed
    if stage_section(recipe, stage).flip is False:
        return f"none ({stage}.flip=false)"
    if recipe.data.swap_flip_labels:
        return "half of the clips, their classes with left and right exchanged"
    return "half of the clips" if allowed else "none (a mirrored video would show another class)"


def build_clips(recipe: Recipe, stage: str, videos: VideoList) -> TrainClips:
    """Training clips of a stage, augmented as its section says."""
    data, train = recipe.data, stage_section(recipe, stage)
    finetune = train if isinstance(train, FinetuneRecipe) else None
    return TrainClips(
        videos,
        seed=recipe.seed,
        num_frames=data.num_frames,
        stride_frames=data.stride_frames,
        fps=data.fps,
        crop_size=data.crop_size,
        clips_per_video=train.clips_per_video,
        sampling=finetune.sampling if finetune else "dense",
        scale=(train.crop_scale[0], train.crop_scale[1]),
        flip=train.flip,
        rand_augment=finetune.rand_augment if finetune else "",
        color_jitter=finetune.color_jitter if finetune else 0.0,
        erase_prob=finetune.erase_prob if finetune else 0.0,
        mean=data.mean,
        std=data.std,
        short_video=data.short_video,
        backend=data.backend,
        timeout_seconds=data.timeout_seconds,
    )


def build_views(recipe: Recipe, videos: VideoList, *, views: int, crops: int) -> TestViews:
    """Test views of videos, sampled as the fine-tuning's clips were."""
    data = recipe.data
    return TestViews(
        videos,
        num_frames=data.num_frames,
        stride_frames=data.stride_frames,
        fps=data.fps,
        crop_size=data.crop_size,
        num_views=views,
        num_crops=crops,
        sampling=recipe.finetune.sampling,
        short_video=data.short_video,
        backend=data.backend,
        timeout_seconds=data.timeout_seconds,
    )


def build_encoder(recipe: Recipe, *, drop_path: float = 0.0) -> SpacetimeViT:
    """The encoder, freshly initialised from torch's global generator."""
    model, data = recipe.model, recipe.data
    return SpacetimeViT(
        num_frames=data.num_frames,
        crop_size=data.crop_size,
        tubelet=model.tubelet,
        patch_size=model.patch_size,
        class_token=model.class_token,
        positions=model.positions,
        position_base=model.position_base,
        drop_path=drop_path,
        checkpointing=model.checkpointing,
        **SIZES[model.size],
    )


def build_decoder(recipe: Recipe, encoder: SpacetimeViT) -> Decoder:
    """The decoder of the recipe's kind."""
    decoder, shape = recipe.model.decoder, decoder_shape(recipe)
    out_dim = target_dim(encoder, recipe.diffusion.target_frames)
    if decoder.kind == "joint":
        return JointDecoder(encoder, out_dim=out_dim, **shape)
    self_attention = decoder.kind == "cross_self"
    return CrossDecoder(encoder, self_attention=self_attention, taps=decoder.taps, out_dim=out_dim, **shape)


def build_diffmae(recipe: Recipe) -> DiffMAE:
    """Encoder, decoder and diffusion process, freshly initialised."""
    diffusion = recipe.diffusion
    encoder = build_encoder(recipe)
    return DiffMAE(
        encoder,
        build_decoder(recipe, encoder),
        schedule=Schedule(diffusion.schedule, num_steps=diffusion.num_steps, rho=diffusion.rho),
        objective=diffusion.objective,
        target=diffusion.target,
        pixels=diffusion.pixels,
        target_frames=diffusion.target_frames,
        predict_fraction=recipe.model.decoder.predict_fraction,
        features=build_feature_target(recipe, encoder),
    )


def build_feature_target(recipe: Recipe, encoder: SpacetimeViT) -> FeatureTarget | None:
    """The frozen teacher and its decoder, or None where the recipe names no teacher."""
    feature = recipe.diffusion.feature
    if not feature.teacher:
        return None
    return FeatureTarget(
        timm_teacher(feature.teacher, checkpoint=feature.checkpoint),
        encoder,
        taps=recipe.model.decoder.taps,
        weight=feature.weight,
        mean=recipe.data.mean,
        std=recipe.data.std,
        **decoder_shape(recipe),
    )


def build_classifier(recipe: Recipe, *, num_classes: int) -> VideoClassifier:
    """Encoder and head for fine-tuning and testing."""
    finetune = recipe.finetune
    return VideoClassifier(
        build_encoder(recipe, drop_path=finetune.drop_path),
        num_classes=num_classes,
        pool=finetune.pool,
        head_dropout=finetune.head_dropout,
        head_init_scale=finetune.head_init_scale,
    )


def build_state(
    model: DiffMAE | VideoClassifier,
    wrapped: nn.Module,
    train: TrainRecipe,
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
        layer_decay=train.layer_decay if isinstance(train, FinetuneRecipe) else 1.0,
    )
    return TrainState(
        wrapped,
        build_optimizer(groups, betas=(train.betas[0], train.betas[1])),
        ema_decay=train.ema_decay,
        scale_gradients=dtype == torch.float16,
    )


def build_plan(recipe: Recipe, stage: str, *, num_videos: int, world_size: int) -> Plan:
    """The stage in steps and rates.

    Raises:
        UserError: the batch can't be shared out equally over ranks and accumulation steps, or not in pairs for mixup.
    """
    train = stage_section(recipe, stage)
    check_batch(recipe, stage, ranks=world_size)
    steps_per_epoch = num_videos / train.batch_size

    def steps(epochs: float) -> int:
        return max(1, math.ceil(epochs * steps_per_epoch))

    return Plan(
        stage=stage,
        seed=recipe.seed,
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
        max_broken=recipe.data.max_broken,
        checkpoint_steps=steps(train.checkpoint_epochs),
        checkpoint_minutes=train.checkpoint_minutes,
        num_workers=recipe.data.num_workers,
    )


def stage_section(recipe: Recipe, stage: str) -> TrainRecipe:
    """The recipe's section of a training stage."""
    sections: dict[str, TrainRecipe] = {"pretrain": recipe.pretrain, "finetune": recipe.finetune}
    return sections[stage]


def build_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Autocast's type: as asked, or bf16 on GPUs that have it, fp16 on older ones, fp32 on CPUs."""
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if recipe.precision != "auto":
        return names[recipe.precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def class_labels(videos: VideoList, classes: Sequence[str]) -> VideoList:
    """``videos`` with labels in the order of ``classes``, matched by name.

    Raises:
        UserError: a class of the videos isn't among ``classes``.
    """
    if tuple(videos.classes) == tuple(classes):
        return videos
    unknown = sorted(set(videos.classes) - set(classes))
    if unknown:
        raise UserError(
            f"class {unknown[0]!r} ({len(unknown)} such) of the list isn't among the model's {len(classes)}; "
            "test on lists prepared with the classes.txt of its training"
        )
    return videos.reordered(classes)


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
