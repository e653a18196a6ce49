"""What a recipe comes to, before anything is run: cubes, parameters, FLOPs, batch and rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffmae_video.data import VideoList
from diffmae_video.data.annotations import NUM_CLASSES
from diffmae_video.diffusion import Draw
from diffmae_video.engine import build
from diffmae_video.engine.lr import scaled_lr
from diffmae_video.errors import UserError
from diffmae_video.model import Mask, SpacetimeViT, VideoClassifier, draw_mask
from diffmae_video.recipe import Recipe, dump_recipe
from diffmae_video.seeding import generator

META = torch.device("meta")


def describe(recipe: Recipe, *, world_size: int = 1) -> str:
    """The resolved recipe, and the numbers of each stage, as text of at most 80 columns beside the YAML."""
    lines = [dump_recipe(recipe).rstrip(), "", *_cubes(recipe)]
    if "pretrain" in recipe.stages:
        lines += _stage(recipe, "pretrain", pretrain_flops(recipe), world_size)
    if "finetune" in recipe.stages:
        lines += _stage(recipe, "finetune", finetune_flops(recipe), world_size)
    if "test" in recipe.stages:
        test = recipe.test
        forward = f"{classifier_flops(recipe) / 1e9:.2f}"
        lines += [f"test: {test.views} views x {test.crops} crops a video, {forward} GFLOPs each"]
    return "\n".join(lines)


def count_parameters(model: torch.nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def pretrain_flops(recipe: Recipe) -> int:
    """FLOPs of one clip's forward and backward pass in pre-training; a multiply-add counts two.

    Counted by torch's FlopCounterMode on the meta device: matrix products and attention, as is usual. What
    ``model.checkpointing`` recomputes isn't counted: it is no progress.
    """
    recipe = _without_recomputation(recipe)
    with META:
        model = build.build_diffmae(recipe)
    draw = model.draw([generator(0)], mask_kind=recipe.mask.kind, mask_ratio=recipe.mask.ratio)
    return _count(lambda: model(_clip(recipe), _on_meta(draw)).loss.backward())


def finetune_flops(recipe: Recipe) -> int:
    """FLOPs of one clip's forward and backward pass in fine-tuning, counted as in pre-training."""
    model = _meta_classifier(_without_recomputation(recipe))
    return _count(lambda: model(_clip(recipe)).sum().backward())


def classifier_flops(recipe: Recipe) -> int:
    """FLOPs of one view's forward pass in testing."""
    model = _meta_classifier(recipe).eval()
    with torch.no_grad():
        return _count(lambda: model(_clip(recipe)))


def _without_recomputation(recipe: Recipe) -> Recipe:
    return replace(recipe, model=replace(recipe.model, checkpointing=False))


def _cubes(recipe: Recipe) -> list[str]:
    encoder = _on_meta_encoder(recipe)
    time, height, width = encoder.grid
    mask = draw_mask(recipe.mask.kind, encoder.grid, ratio=recipe.mask.ratio, generator=generator(0))
    visible, masked = mask.visible.shape[1], mask.masked.shape[1]
    return [
        f"cubes: {time} x {height} x {width} = {encoder.num_cubes} a clip; in pre-training {visible} visible, "
        f"{masked} masked",
        f"encoder: {recipe.model.size}, {count_parameters(encoder) / 1e6:.2f} M parameters",
    ]


def _stage(recipe: Recipe, stage: str, flops_per_clip: int, world_size: int) -> list[str]:
    train = build.stage_section(recipe, stage)
    clips = train.batch_size * train.clips_per_video
    rank_videos = train.batch_size / (world_size * train.accumulation)
    return [
        f"{stage}: {_stage_parameters(recipe, stage) / 1e6:.2f} M parameters in all",
        *_videos(recipe, stage),
        f"  effective batch {train.batch_size} videos x {train.clips_per_video} clips = {clips} clips a step",
        f"  {rank_videos:g} videos a forward pass, of {train.accumulation} accumulated on each of {world_size} ranks",
        f"  peak learning rate {scaled_lr(train.lr, train.batch_size):.4g} at {train.batch_size} videos a step "
        f"(= {train.lr:g} x {train.batch_size} / 256 videos)",
        f"  {flops_per_clip / 1e9:.2f} GFLOPs a clip, {flops_per_clip * clips / 1e12:.2f} TFLOPs a step, "
        "forward and backward",
    ]


def _videos(recipe: Recipe, stage: str) -> list[str]:
    """Epochs, steps where the list is there to count its videos, what it leaves out, and the rule for mirroring."""
    train = build.stage_section(recipe, stage)
    epochs = f"{train.epochs:g} epochs ({train.warmup_epochs:g} of warm-up)"
    videos = _list(recipe, {"pretrain": "train", "finetune": "finetune"}[stage])
    if videos is None:
        return [f"  {epochs}; the list isn't here to count steps", f"  mirrored: {build.mirroring(recipe, stage)}"]
    plan = build.build_plan(recipe, stage, num_videos=len(videos), world_size=1)
    return [
        f"  {epochs} of {len(videos)} videos, {plan.num_steps} steps",
        *(f"  {note}" for note in videos.notes),
        f"  mirrored: {build.mirroring(recipe, stage, videos)}",
    ]


def _stage_parameters(recipe: Recipe, stage: str) -> int:
    with META:
        model = build.build_diffmae(recipe) if stage == "pretrain" else _meta_classifier(recipe)
    return count_parameters(model)


def _on_meta_encoder(recipe: Recipe) -> SpacetimeViT:
    with META:
        return build.build_encoder(recipe)


def _meta_classifier(recipe: Recipe) -> VideoClassifier:
    with META:
        return build.build_classifier(recipe, num_classes=num_classes(recipe))


def num_classes(recipe: Recipe) -> int:
    """Classes of the recipe's collection, from its list or, where that isn't here, its official number; else 1."""
    videos = _list(recipe, "finetune")
    if videos is not None and videos.classes:
        return len(videos.classes)
    return NUM_CLASSES.get(recipe.data.dataset, 1)


def _list(recipe: Recipe, split: str) -> VideoList | None:
    """A list of the recipe; None where it isn't here or can't be read, which inputs.py reports."""
    try:
        return build.build_videos(recipe, split)
    except (UserError, OSError):
        return None


def _clip(recipe: Recipe) -> torch.Tensor:
    data = recipe.data
    return torch.empty(1, data.num_frames, 3, data.crop_size, data.crop_size, device=META)


def _on_meta(draw: Draw) -> Draw:
    mask = Mask(draw.mask.visible.to(META), draw.mask.masked.to(META))
    return Draw(mask, draw.predicted.to(META), draw.t.to(META), draw.noise.to(META))


def _count(step: Callable[[], object]) -> int:
    # The fused attention kernels of the CPU aren't in the counter's table; the plain formulation counts alike.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()
