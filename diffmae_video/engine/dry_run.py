"""What a config comes to, before anything is run: cubes, parameters, FLOPs, batch and rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffmae_video import build
from diffmae_video.config import Config, dump_config
from diffmae_video.data import VideoList
from diffmae_video.data.annotations import NUM_CLASSES
from diffmae_video.diffusion import StepNoise
from diffmae_video.engine import setup
from diffmae_video.engine.train.lr_schedule import scaled_lr
from diffmae_video.errors import UserError
from diffmae_video.model import Mask, SpacetimeViT, VideoClassifier, draw_mask
from diffmae_video.seeding import generator

META = torch.device("meta")


def describe(config: Config, *, world_size: int = 1) -> str:
    """The resolved config, and the numbers of each stage, as text of at most 80 columns beside the YAML."""
    lines = [dump_config(config).rstrip(), "", *_cubes(config)]
    if "pretrain" in config.stages:
        lines += _stage(config, "pretrain", pretrain_flops(config), world_size)
    if "finetune" in config.stages:
        lines += _stage(config, "finetune", finetune_flops(config), world_size)
    if "test" in config.stages:
        test = config.test
        forward = f"{classifier_flops(config) / 1e9:.2f}"
        lines += [f"test: {test.views} views x {test.crops} crops a video, {forward} GFLOPs each"]
    return "\n".join(lines)


def count_parameters(model: torch.nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def pretrain_flops(config: Config) -> int:
    """FLOPs of one clip's forward and backward pass in pre-training; a multiply-add counts two.

    Counted by torch's FlopCounterMode on the meta device: matrix products and attention, as is usual. What
    ``model.checkpointing`` recomputes isn't counted: it is no progress.
    """
    config = _without_recomputation(config)
    with META:
        model = build.build_diffmae(config)
    draw = model.draw([generator(0)], mask_kind=config.mask.kind, mask_ratio=config.mask.ratio)
    return _count(lambda: model(_clip(config), _on_meta(draw)).loss.backward())


def finetune_flops(config: Config) -> int:
    """FLOPs of one clip's forward and backward pass in fine-tuning, counted as in pre-training."""
    model = _meta_classifier(_without_recomputation(config))
    return _count(lambda: model(_clip(config)).sum().backward())


def classifier_flops(config: Config) -> int:
    """FLOPs of one view's forward pass in testing."""
    model = _meta_classifier(config).eval()
    with torch.no_grad():
        return _count(lambda: model(_clip(config)))


def _without_recomputation(config: Config) -> Config:
    return replace(config, model=replace(config.model, checkpointing=False))


def _cubes(config: Config) -> list[str]:
    encoder = _on_meta_encoder(config)
    time, height, width = encoder.grid
    mask = draw_mask(config.mask.kind, encoder.grid, ratio=config.mask.ratio, generator=generator(0))
    visible, masked = mask.visible.shape[1], mask.masked.shape[1]
    return [
        f"cubes: {time} x {height} x {width} = {encoder.num_cubes} a clip; in pre-training {visible} visible, "
        f"{masked} masked",
        f"encoder: {config.model.size}, {count_parameters(encoder) / 1e6:.2f} M parameters",
    ]


def _stage(config: Config, stage: str, flops_per_clip: int, world_size: int) -> list[str]:
    train = build.stage_section(config, stage)
    clips = train.batch_size * train.clips_per_video
    rank_videos = train.batch_size / (world_size * train.accumulation)
    return [
        f"{stage}: {_stage_parameters(config, stage) / 1e6:.2f} M parameters in all",
        *_videos(config, stage),
        f"  effective batch {train.batch_size} videos x {train.clips_per_video} clips = {clips} clips a step",
        f"  {rank_videos:g} videos a forward pass, of {train.accumulation} accumulated on each of {world_size} ranks",
        f"  peak learning rate {scaled_lr(train.lr, train.batch_size):.4g} at {train.batch_size} videos a step "
        f"(= {train.lr:g} x {train.batch_size} / 256 videos)",
        f"  {flops_per_clip / 1e9:.2f} GFLOPs a clip, {flops_per_clip * clips / 1e12:.2f} TFLOPs a step, "
        "forward and backward",
    ]


def _videos(config: Config, stage: str) -> list[str]:
    """Epochs, steps where the list is there to count its videos, what it leaves out, and the rule for mirroring."""
    train = build.stage_section(config, stage)
    epochs = f"{train.epochs:g} epochs ({train.warmup_epochs:g} of warm-up)"
    videos = _list(config, {"pretrain": "train", "finetune": "finetune"}[stage])
    if videos is None:
        return [f"  {epochs}; the list isn't here to count steps", f"  mirrored: {build.mirroring(config, stage)}"]
    plan = setup.build_plan(config, stage, num_videos=len(videos), world_size=1)
    return [
        f"  {epochs} of {len(videos)} videos, {plan.num_steps} steps",
        *(f"  {note}" for note in videos.notes),
        f"  mirrored: {build.mirroring(config, stage, videos)}",
    ]


def _stage_parameters(config: Config, stage: str) -> int:
    with META:
        model = build.build_diffmae(config) if stage == "pretrain" else _meta_classifier(config)
    return count_parameters(model)


def _on_meta_encoder(config: Config) -> SpacetimeViT:
    with META:
        return build.build_encoder(config)


def _meta_classifier(config: Config) -> VideoClassifier:
    with META:
        return build.build_classifier(config, num_classes=num_classes(config))


def num_classes(config: Config) -> int:
    """Classes of the config's collection, from its list or, where that isn't here, its official number; else 1."""
    videos = _list(config, "finetune")
    if videos is not None and videos.classes:
        return len(videos.classes)
    return NUM_CLASSES.get(config.data.dataset, 1)


def _list(config: Config, split: str) -> VideoList | None:
    """A list of the config; None where it isn't here or can't be read, which inputs.py reports."""
    try:
        return build.build_videos(config, split)
    except (UserError, OSError):
        return None


def _clip(config: Config) -> torch.Tensor:
    data = config.data
    return torch.empty(1, data.num_frames, 3, data.crop_size, data.crop_size, device=META)


def _on_meta(draw: StepNoise) -> StepNoise:
    mask = Mask(draw.mask.visible.to(META), draw.mask.masked.to(META))
    return StepNoise(mask, draw.predicted.to(META), draw.t.to(META), draw.noise.to(META))


def _count(step: Callable[[], object]) -> int:
    # The fused attention kernels of the CPU aren't in the counter's table; the plain formulation counts alike.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()
