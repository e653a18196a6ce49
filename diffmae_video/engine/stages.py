"""The stages of a run: what each needs, does and leaves in its folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffmae_video.data import VideoList
from diffmae_video.diffusion import DiffMAE
from diffmae_video.engine import build
from diffmae_video.engine.checkpoint import load_checkpoint, save_checkpoint
from diffmae_video.engine.describe import finetune_flops, pretrain_flops
from diffmae_video.engine.distributed import World, barrier, parallelize
from diffmae_video.engine.evaluate import Scores, evaluate
from diffmae_video.engine.files import replace_text
from diffmae_video.engine.finetune import finetune
from diffmae_video.engine.identity import check_same_run, identity
from diffmae_video.engine.keeper import Keeper
from diffmae_video.engine.place import cpu_shortage
from diffmae_video.engine.plan import Plan
from diffmae_video.engine.pretrain import pretrain
from diffmae_video.engine.signals import StopFlag
from diffmae_video.engine.speed import Speed, measure_peak_flops
from diffmae_video.engine.status import Status
from diffmae_video.engine.training import Training
from diffmae_video.engine.weights import load_diffmae_weights, load_encoder_weights
from diffmae_video.errors import UserError
from diffmae_video.model import VideoClassifier
from diffmae_video.recipe import Recipe, plain_recipe
from diffmae_video.seeding import derive_seed


@dataclass(frozen=True)
class Run:
    """What the stages of one run share."""

    recipe: Recipe
    world: World
    stop: StopFlag
    status: Status
    profile_steps: int

    @property
    def folder(self) -> Path:
        """The run's folder; each stage has one in it."""
        return Path(self.recipe.output_dir)

    @property
    def dtype(self) -> torch.dtype:
        """Autocast's type."""
        return build.build_dtype(self.recipe, self.world.device)

    def say(self, text: str) -> None:
        """Print a line, once for all ranks."""
        if self.world.is_main:
            print(text, flush=True)


def run_pretrain(this: Run) -> None:
    """Pre-train encoder and decoder."""
    recipe = this.recipe
    videos = build.build_videos(recipe, "train")
    header = stage_header(recipe, "pretrain", classes=(), num_videos=len(videos))
    if _is_finished(this, header):
        return
    build.preflight(videos, this.world)
    _say_videos(this, "pretrain", videos)
    torch.manual_seed(derive_seed(recipe.seed, "pretrain", "weights"))
    model = build.build_diffmae(recipe)
    if recipe.pretrain.init != "none":
        this.say(f"pretrain: {load_diffmae_weights(model, recipe.pretrain.init)}")
    with contextlib.closing(_start_training(this, model, header)) as training:
        pretrain(
            training,
            model,
            build.build_clips(recipe, "pretrain", videos),
            mask_kind=recipe.mask.kind,
            mask_ratio=recipe.mask.ratio,
            mean=recipe.data.mean,
            std=recipe.data.std,
        )
        _finish_training(this, training)


def run_finetune(this: Run) -> None:
    """Fine-tune the encoder with a head on labelled videos."""
    recipe = this.recipe
    videos = build.build_videos(recipe, "finetune")
    header = stage_header(recipe, "finetune", classes=videos.classes, num_videos=len(videos))
    if _is_finished(this, header):
        return
    build.preflight(videos, this.world)
    _say_videos(this, "finetune", videos)
    torch.manual_seed(derive_seed(recipe.seed, "finetune", "weights"))
    model = build.build_classifier(recipe, num_classes=len(videos.classes))
    source = initial_weights(recipe)
    if source:
        this.say(f"finetune: {load_encoder_weights(model.encoder, source, weights=recipe.finetune.init_weights)}")
    with contextlib.closing(_start_training(this, model, header)) as training:

        def validate() -> float:
            training.keeper.wait()  # the loader's processes are forked, which no thread at work likes
            val = build.class_labels(build.build_videos(recipe, "val"), videos.classes)
            scores = _score(this, training.state.model, val, views=1, crops=1, name="validate")
            this.say(f"finetune: step {training.step}: single-view {scores}")
            return scores.top1

        finetune(
            training,
            build.build_clips(recipe, "finetune", videos),
            num_classes=len(videos.classes),
            label_smoothing=recipe.finetune.label_smoothing,
            mixup=recipe.finetune.mixup,
            cutmix=recipe.finetune.cutmix,
            mean=recipe.data.mean,
            std=recipe.data.std,
            eval_steps=round(recipe.finetune.eval_epochs * training.plan.steps_per_epoch),
            validate=validate,
        )
        _finish_training(this, training)


def run_test(this: Run) -> None:
    """Score the fine-tuned classifier on all views of the validation videos."""
    recipe, test = this.recipe, this.recipe.test
    saved = load_checkpoint(tested_weights(recipe))
    videos = build.class_labels(build.build_videos(recipe, "val"), saved["classes"])
    header = stage_header(recipe, "test", classes=saved["classes"], num_videos=len(videos))
    if _is_finished(this, header):
        return
    _say_videos(this, "test", videos)
    model = build.build_classifier(recipe, num_classes=len(saved["classes"])).to(this.world.device)
    results: dict[str, Any] = {}
    for name in ("model", "ema") if saved["ema"] else ("model",):
        model.load_state_dict({**saved["model"], **(saved["ema"] if name == "ema" else {})})
        scores = _score(this, model, videos, views=test.views, crops=test.crops, name=f"test {name}")
        results[name] = scores.plain()
        this.say(f"test: {name}: {scores}, {test.views} x {test.crops} views")
        for reason in scores.unread[:5]:
            this.say(f"test: not read: {reason}")
    _write_result(this, header, results)


def _say_videos(this: Run, stage: str, videos: VideoList) -> None:
    """Say what the list leaves out and, in training, whether clips are mirrored."""
    for note in videos.notes:
        this.say(f"{stage}: {note}")
    if stage != "test":
        this.say(f"{stage}: mirrored: {build.mirroring(this.recipe, stage, videos)}")


def _score(this: Run, model: nn.Module, videos: VideoList, *, views: int, crops: int, name: str) -> Scores:
    data = this.recipe.data
    return evaluate(
        model,
        build.build_views(this.recipe, videos, views=views, crops=crops),
        world=this.world,
        dtype=this.dtype,
        batch_size=this.recipe.test.batch_size,
        num_workers=data.num_workers,
        mean=data.mean,
        std=data.std,
        name=name,
    )


def stage_header(recipe: Recipe, stage: str, *, classes: Sequence[str], num_videos: int) -> dict[str, Any]:
    """What each checkpoint and result of a stage says of itself."""
    return {
        "stage": stage,
        "identity": identity(recipe, stage),
        "classes": list(classes),
        "num_videos": num_videos,
    }


def initial_weights(recipe: Recipe) -> Path | None:
    """The file that fine-tuning's encoder comes from; None from scratch.

    Raises:
        UserError: ``finetune.init=pretrain`` and this run has no finished pre-training.
    """
    init = recipe.finetune.init
    if init == "none":
        return None
    if init != "pretrain":
        return Path(init)
    path = Path(recipe.output_dir) / "pretrain" / "weights.pt"
    if not path.exists():
        raise UserError(
            f"finetune.init=pretrain: {path} is not there; run the pretrain stage first, or give "
            "finetune.init=PATH (or none, from scratch)"
        )
    return path


def tested_weights(recipe: Recipe) -> Path:
    """The file that the test stage scores."""
    stage = Path(recipe.output_dir) / "finetune"
    known = {"last": stage / "weights.pt", "best": stage / "checkpoints" / "best.pt"}
    path = known[recipe.test.weights] if recipe.test.weights in known else Path(recipe.test.weights)
    if not path.exists():
        raise UserError(
            f"test.weights={recipe.test.weights}: {path} is not there; run the finetune stage first"
            + (" with finetune.eval_epochs above 0" if recipe.test.weights == "best" else "")
        )
    return path


def _start_training(this: Run, model: DiffMAE | VideoClassifier, header: dict[str, Any]) -> Training:
    """Put the model on the device and over the ranks, and go on from the stage's latest checkpoint."""
    recipe, world, stage = this.recipe, this.world, header["stage"]
    train = build.stage_section(recipe, stage)
    plan = build.build_plan(recipe, stage, num_videos=header["num_videos"], world_size=world.size)
    model.to(world.device)
    if recipe.compile:
        model.compile()
    wrapped = parallelize(model, world, strategy=recipe.parallel)
    this.say(_announcement(plan, world, clips_per_video=train.clips_per_video))
    shortage = cpu_shortage(recipe.data.num_workers, usable=len(os.sched_getaffinity(0)))
    if shortage:
        this.say(shortage)
    folder = this.folder / stage
    return Training(
        build.build_state(model, wrapped, train, dtype=this.dtype),
        plan=plan,
        world=world,
        folder=folder,
        header=header,
        keeper=Keeper(
            folder / "checkpoints", world=world, keep_last=train.keep_checkpoints, sharded=recipe.sharded_checkpoints
        ),
        dtype=this.dtype,
        stop=this.stop,
        status=this.status,
        speed=_speed(this, stage),
        profile_steps=this.profile_steps,
        wandb=recipe.wandb,
    )


def _speed(this: Run, stage: str) -> Speed:
    """What the metrics' utilisation is reckoned from."""
    flops = {"pretrain": pretrain_flops, "finetune": finetune_flops}[stage](this.recipe)
    return Speed(
        flops_per_video=flops * build.stage_section(this.recipe, stage).clips_per_video,
        peak_flops=measure_peak_flops(this.world.device, this.dtype),
        num_devices=this.world.size,
    )


def _announcement(plan: Plan, world: World, *, clips_per_video: int) -> str:
    return (
        f"{plan.stage}: {plan.num_steps} steps of {plan.batch_size} videos x {clips_per_video} clips on {world.size} x "
        f"{world.device.type}, peak learning rate {plan.peak_lr:.3g} at {plan.batch_size} videos a step"
    )


def _finish_training(this: Run, training: Training) -> None:
    """Leave the weights alone in weights.pt, and the record that the stage is finished."""
    saved = training.state.state_dict()
    if this.world.is_main:
        weights = {"model": saved["model"], "ema": saved["ema"], "recipe": plain_recipe(this.recipe)}
        save_checkpoint(this.folder / training.plan.stage / "weights.pt", {**training.header, **weights})
    outcome = {
        "steps": training.step,
        "samples_seen": training.samples_seen,
        "skipped_steps": training.bad_steps.total,
        "broken_videos": training.broken.count,
        "final_loss": training.last_loss,
    }
    _write_result(this, training.header, outcome)
    this.say(f"{training.plan.stage}: finished, {this.folder / training.plan.stage}")


def _write_result(this: Run, header: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Write the stage's result.json whole; its presence says that the stage is finished."""
    if this.world.is_main:
        path = this.folder / header["stage"] / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({**header, **outcome}, indent=2) + "\n")
    barrier(this.world)


def _is_finished(this: Run, header: dict[str, Any]) -> bool:
    """Whether the stage has its result; one of another recipe is refused, a test of other views done anew."""
    path = this.folder / header["stage"] / "result.json"
    if not path.exists():
        return False
    saved = json.loads(path.read_text(encoding="utf-8"))
    if header["stage"] == "test":
        return saved["identity"] == header["identity"] and _newer(path, tested_weights(this.recipe))
    check_same_run(saved, header, where=path)
    this.say(f"{header['stage']}: finished before, {path.parent}")
    return True


def _newer(path: Path, other: Path) -> bool:
    return path.stat().st_mtime >= other.stat().st_mtime
