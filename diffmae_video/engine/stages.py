"""The stages of a run: what each needs, does and leaves in its folder."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffmae_video import build
from diffmae_video.config import Config, dump_config, plain_config
from diffmae_video.data import VideoList
from diffmae_video.diffusion import DiffMAE
from diffmae_video.engine import setup
from diffmae_video.engine.checkpoint.manager import CheckpointManager
from diffmae_video.engine.checkpoint.single_file import load_checkpoint, save_checkpoint
from diffmae_video.engine.compatibility import check_same_run, identity
from diffmae_video.engine.digests import list_digest, weights_digest
from diffmae_video.engine.distributed.context import DistributedContext, barrier, gather_objects, parallelize
from diffmae_video.engine.distributed.env import cpu_shortage
from diffmae_video.engine.dry_run import finetune_flops, pretrain_flops
from diffmae_video.engine.inputs import Inputs, check_classifier, initial_weights, tested_weights
from diffmae_video.engine.monitor.decode_failures import write_broken
from diffmae_video.engine.monitor.metrics import finite
from diffmae_video.engine.monitor.profiling import Speed, measure_peak_flops
from diffmae_video.engine.monitor.status import Status
from diffmae_video.engine.preemption import StopFlag
from diffmae_video.engine.results import describe_test, read_result, show_test, test_folder, write_result
from diffmae_video.engine.train.evaluate import Scores, evaluate
from diffmae_video.engine.train.finetune import finetune
from diffmae_video.engine.train.hparams import TrainHParams
from diffmae_video.engine.train.pretrain import pretrain
from diffmae_video.engine.train.trainer import Trainer
from diffmae_video.errors import UserError
from diffmae_video.files import replace_text
from diffmae_video.model import VideoClassifier
from diffmae_video.seeding import derive_seed
from diffmae_video.weights.load import load_diffmae_weights, load_encoder_weights


@dataclass(frozen=True)
class Run:
    """What the stages of one run share."""

    config: Config
    world: DistributedContext
    inputs: Inputs
    stop: StopFlag
    status: Status
    profile_steps: int

    @property
    def folder(self) -> Path:
        """The run's folder; each stage has one in it."""
        return Path(self.config.output_dir)

    @property
    def dtype(self) -> torch.dtype:
        """Autocast's type."""
        return setup.build_dtype(self.config, self.world.device)

    def say(self, text: str) -> None:
        """Print a line, once for all ranks."""
        if self.world.is_main:
            print(text, flush=True)


def run_pretrain(this: Run) -> None:
    """Pre-train encoder and decoder."""
    config, videos = this.config, this.inputs.videos["train"]
    header = {**stage_header(config, "pretrain", classes=(), videos=videos), **_init_digest(config, "pretrain")}
    if _is_finished(this, header):
        return
    _begin(this, "pretrain", videos)
    torch.manual_seed(derive_seed(config.seed, "pretrain", "weights"))
    model = build.build_diffmae(config)
    if config.pretrain.init != "none":
        this.say(f"pretrain: {load_diffmae_weights(model, config.pretrain.init)}")
    with contextlib.closing(_start_training(this, model, header)) as training:
        pretrain(
            training,
            model,
            build.build_clips(config, "pretrain", videos),
            mask_kind=config.mask.kind,
            mask_ratio=config.mask.ratio,
            mean=config.data.mean,
            std=config.data.std,
        )
        _finish_training(this, training)


def run_finetune(this: Run) -> None:
    """Fine-tune the encoder with a head on labelled videos."""
    config, videos = this.config, this.inputs.videos["finetune"]
    header, source = finetune_header(this), initial_weights(config, "finetune")
    if _is_finished(this, header):
        return
    _begin(this, "finetune", videos)
    torch.manual_seed(derive_seed(config.seed, "finetune", "weights"))
    model = build.build_classifier(config, num_classes=len(videos.classes))
    if source:
        this.say(f"finetune: {load_encoder_weights(model.encoder, source, weights=config.finetune.init_weights)}")
    with contextlib.closing(_start_training(this, model, header)) as training:
        finetune(
            training,
            build.build_clips(config, "finetune", videos),
            num_classes=len(videos.classes),
            label_smoothing=config.finetune.label_smoothing,
            mixup=config.finetune.mixup,
            cutmix=config.finetune.cutmix,
            mean=config.data.mean,
            std=config.data.std,
            eval_steps=_eval_steps(config, training.plan),
            validate=lambda: _validate(this, training),
        )
        _finish_training(this, training)


def finetune_header(this: Run) -> dict[str, Any]:
    """Fine-tuning's header, with digests of the weights it begins from and of the videos its best is chosen by."""
    config, videos = this.config, this.inputs.videos["finetune"]
    header = stage_header(config, "finetune", classes=videos.classes, videos=videos)
    if "val" in this.inputs.videos and config.finetune.eval_epochs:
        header["val_videos"] = list_digest(build.class_labels(this.inputs.videos["val"], videos.classes))
    return header | _init_digest(config, "finetune")


def _init_digest(config: Config, stage: str) -> dict[str, str]:
    """What a stage began from, for its header; nothing where the file is gone since the stage finished."""
    source = initial_weights(config, stage)
    if source is None:
        return {"init": "none"}
    return {"init": weights_digest(load_checkpoint(source))} if source.exists() else {}


def _validate(this: Run, training: Trainer) -> float:
    """Score the weights, and their moving averages where there are any; the share that the best is chosen by."""
    training.manager.wait()  # the loader's processes are forked, which no thread at work likes
    val = build.class_labels(this.inputs.videos["val"], training.header["classes"])
    noted: dict[str, float | None] = {}
    named = set(training.broken.files)
    chosen = math.nan
    for kind in ("model", "ema") if training.state.average else ("model",):
        weights = training.state.averaged() if kind == "ema" else contextlib.nullcontext()
        with weights:
            scores = _score(this, training.state.model, val, views=1, crops=1, name=f"validate {kind}", named=named)
        training.broken.name(scores.unread, training.step)
        this.say(f"finetune: step {training.step}: {kind}: single-view {scores}")
        prefix = "val" if kind == "model" else "val_ema"
        noted |= {f"{prefix}_{name}": getattr(scores, name) if scores.used else None for name in ("top1", "top5")}
        chosen = scores.top1
    training.note_validation(noted)
    return chosen


def _eval_steps(config: Config, plan: TrainHParams) -> int:
    """Steps between validations; 0 for none."""
    epochs = config.finetune.eval_epochs
    return max(1, round(epochs * plan.steps_per_epoch)) if epochs else 0


def run_test(this: Run) -> None:
    """Score the fine-tuned classifier on all views of the validation videos."""
    config, test, path = this.config, this.config.test, tested_weights(this.config)
    saved = load_checkpoint(path)
    check_classifier(config, saved, path)
    videos = build.class_labels(this.inputs.videos["val"], saved["classes"])
    header = stage_header(config, "test", classes=saved["classes"], videos=videos)
    header["weights_sha256"] = weights_digest(saved)
    folder = test_folder(this.folder / "test", header, views=test.views, crops=test.crops)
    result = read_result(folder)
    if result and (readable := _readable_now(this, videos, result)):
        this.say(
            f"test: {readable} videos that could not be read before can be read now; they are scored with the rest"
        )
        result = None
    if result:
        this.say(f"test: finished before, {folder}; remove it to score again")
        for line in describe_test(result):
            this.say(f"test: {line}, {test.views} x {test.crops} views")
    else:
        _begin(this, "test", videos, folder)
        result = {**header, **_score_all(this, saved, videos, folder)}
    # As they stand in the config, for people and for the table of a sweep: neither decides the result.
    result |= {"given": {"data.val_list": config.data.val_list, "test.weights": test.weights}}
    if this.world.is_main:
        write_result(folder, result)
        if line := show_test(this.folder / "test", result):
            this.say(f"test: {line}")
    barrier(this.world)


def _readable_now(this: Run, videos: VideoList, result: Mapping[str, Any]) -> int:
    """How many of the videos that a test left out can be read by now, the same on every rank."""
    unread = {path for kind in ("model", "ema") if kind in result for path, _ in result[kind]["unread"]}
    found = 0
    if this.world.is_main and unread:
        # The root may be another one now: the names below it are the list's.
        below = {os.path.join(*parts[i:]) for parts in (Path(path).parts for path in unread) for i in range(len(parts))}
        left_out = videos.subset([i for i in range(len(videos)) if videos.name(i) in below])
        test = this.config.test
        views = build.build_views(this.config, left_out, views=test.views, crops=test.crops)
        found = sum(not views[i]["error"] for i in range(len(views)))
    return max(gather_objects(this.world, found))


def _score_all(this: Run, saved: Mapping[str, Any], videos: VideoList, folder: Path) -> dict[str, Any]:
    """The scores of a checkpoint's weights and of their moving averages, as plain data."""
    config, test = this.config, this.config.test
    if this.world.is_main:
        setup.preflight(videos)
    model = build.build_classifier(config, num_classes=len(saved["classes"])).to(this.world.device)
    results: dict[str, Any] = {}
    named: set[str] = set()
    for name in ("model", "ema") if saved["ema"] else ("model",):
        model.load_state_dict({**saved["model"], **(saved["ema"] if name == "ema" else {})})
        scores = _score(this, model, videos, views=test.views, crops=test.crops, name=f"test {name}", named=named)
        if this.world.is_main:
            write_broken(folder / "broken.csv", [(path, reason, None) for path, reason in scores.unread])
        if not scores.used:
            path, reason = scores.unread[0]
            raise UserError(
                f"test: none of {scores.total} videos could be read ({path}: {reason}, ...); check data.root, or "
                "examine them by tools/scan_videos.py"
            )
        results[name] = scores.plain()
        this.say(f"test: {name}: {scores}, {test.views} x {test.crops} views")
    if unread := len(results["model"]["unread"]):
        this.say(f"test: {unread} videos could not be read, {folder / 'broken.csv'} names them")
    return results


def _begin(this: Run, stage: str, videos: VideoList, folder: Path | None = None) -> None:
    """Leave the config in the folders of the stage that now works by it and of the run; say what it is about to use."""
    if this.world.is_main:
        for place in (folder or this.folder / stage, this.folder):
            place.mkdir(parents=True, exist_ok=True)
            replace_text(place / "config.yaml", dump_config(this.config))
    _say_videos(this, stage, videos)


def _say_videos(this: Run, stage: str, videos: VideoList) -> None:
    """Say what the list leaves out and, in training, whether clips are mirrored."""
    for note in videos.notes:
        this.say(f"{stage}: {note}")
    if stage != "test":
        this.say(f"{stage}: mirrored: {build.mirroring(this.config, stage, videos)}")


def _score(
    this: Run, model: nn.Module, videos: VideoList, *, views: int, crops: int, name: str, named: set[str]
) -> Scores:
    data = this.config.data
    return evaluate(
        model,
        build.build_views(this.config, videos, views=views, crops=crops),
        world=this.world,
        dtype=this.dtype,
        batch_size=this.config.test.batch_size,
        num_workers=data.num_workers,
        mean=data.mean,
        std=data.std,
        name=name,
        named=named,
    )


def stage_header(config: Config, stage: str, *, classes: Sequence[str], videos: VideoList) -> dict[str, Any]:
    """What each checkpoint and result of a stage says of itself."""
    return {
        "stage": stage,
        "identity": identity(config, stage),
        "classes": list(classes),
        "num_videos": len(videos),
        "videos": list_digest(videos),
    }


def _start_training(this: Run, model: DiffMAE | VideoClassifier, header: dict[str, Any]) -> Trainer:
    """Put the model on the device and over the ranks, and go on from the stage's latest checkpoint."""
    config, world, stage = this.config, this.world, header["stage"]
    train = build.stage_section(config, stage)
    plan = setup.build_plan(config, stage, num_videos=header["num_videos"], world_size=world.size)
    model.to(world.device)
    if config.compile:
        model.compile()
    wrapped = parallelize(model, world, strategy=config.parallel)
    this.say(_announcement(plan, world, clips_per_video=train.clips_per_video))
    shortage = cpu_shortage(config.data.num_workers, usable=len(os.sched_getaffinity(0)))
    if shortage:
        this.say(shortage)
    folder = this.folder / stage
    training = Trainer(
        setup.build_state(model, wrapped, train, dtype=this.dtype),
        plan=plan,
        world=world,
        folder=folder,
        header=header,
        manager=CheckpointManager(
            folder / "checkpoints", world=world, keep_last=train.keep_checkpoints, sharded=config.sharded_checkpoints
        ),
        dtype=this.dtype,
        stop=this.stop,
        status=this.status,
        speed=_speed(this, stage),
        profile_steps=this.profile_steps,
        wandb=config.wandb,
    )
    if training.resumed_from:
        this.say(f"{stage}: goes on from step {training.step} of {plan.num_steps}, {training.resumed_from}")
    return training


def _speed(this: Run, stage: str) -> Speed:
    """What the metrics' utilisation is reckoned from."""
    flops = {"pretrain": pretrain_flops, "finetune": finetune_flops}[stage](this.config)
    return Speed(
        flops_per_video=flops * build.stage_section(this.config, stage).clips_per_video,
        peak_flops=measure_peak_flops(this.world.device, this.dtype),
        num_devices=this.world.size,
    )


def _announcement(plan: TrainHParams, world: DistributedContext, *, clips_per_video: int) -> str:
    return (
        f"{plan.stage}: {plan.num_steps} steps of {plan.batch_size} videos x {clips_per_video} clips on {world.size} x "
        f"{world.device.type}, peak learning rate {plan.peak_lr:.3g} at {plan.batch_size} videos a step"
    )


def _finish_training(this: Run, training: Trainer) -> None:
    """Leave the weights alone in weights.pt, and the record that the stage is finished."""
    saved = training.state.state_dict()
    if this.world.is_main:
        weights = {"model": saved["model"], "ema": saved["ema"], "config": plain_config(this.config)}
        save_checkpoint(this.folder / training.plan.stage / "weights.pt", {**training.header, **weights})
    outcome: dict[str, Any] = {
        "steps": training.step,
        "samples_seen": training.samples_seen,
        "skipped_steps": training.bad_steps.total,
        "broken_videos": len(training.broken.files),
        "broken_reads": training.broken.reads,
        "final_loss": finite(training.last_loss),
    }
    if training.validation:
        outcome["validation"] = training.validation
    if this.world.is_main:
        write_result(this.folder / training.plan.stage, {**training.header, **outcome})
    barrier(this.world)
    this.say(f"{training.plan.stage}: finished, {this.folder / training.plan.stage}")


def _is_finished(this: Run, header: dict[str, Any]) -> bool:
    """Whether a training stage has its result; one of another run is refused."""
    folder = this.folder / header["stage"]
    saved = read_result(folder)
    if saved is None:
        return False
    check_same_run(saved, header, where=folder / "result.json")
    this.say(f"{header['stage']}: finished before, {folder}")
    return True
