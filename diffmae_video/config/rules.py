"""Validation rules of a config: for single keys and for combinations, each with a remedy."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

from diffmae_video.config.schema import Config, TrainConfig
from diffmae_video.errors import UserError
from diffmae_video.sizes import DECODER_SIZES, SIZES, DecoderSize


class ConfigError(UserError):
    """An invalid config or override; the message is one line with the remedy."""


def check(config: Config) -> None:
    """Raise :class:`ConfigError` for the first rule that ``config`` breaks."""
    for name, spec, value in walk(config):
        check_value(name, spec, value)
    _check_output_dir(config)
    rules = (_check_cubes, _check_mask, _check_decoder, _check_objective, _check_stages, _check_lengths, _check_extra)
    for rule in rules:
        rule(config)
    if config.finetune.rand_augment:
        _check_rand_augment(config.finetune.rand_augment)
    for section in ("pretrain", "finetune"):
        _check_training(section, getattr(config, section), config)


def walk(section: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every field of a config as (dotted name, dataclass field, value), in the order of the schema."""
    for spec in dataclasses.fields(section):
        value = getattr(section, spec.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{spec.name}.")
        else:
            yield f"{prefix}{spec.name}", spec, value


def check_value(name: str, spec: dataclasses.Field[Any], value: Any) -> None:
    """Raise :class:`ConfigError` where ``value``, or an item of it, breaks the choices or bounds of its field."""
    for item in value if isinstance(value, list) else [value]:
        _check_choice(name, item, spec.metadata["choices"])
        _check_bounds(name, item, spec.metadata["bounds"])


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if choices and str(value) not in choices:
        raise ConfigError(f"{name}={value}: must be one of {', '.join(choices)}")


def _check_bounds(name: str, value: Any, bounds: str) -> None:
    if not bounds:
        return
    low, high = (float(end) for end in bounds[1:-1].split(","))
    above = value >= low if bounds[0] == "[" else value > low
    below = value <= high if bounds[-1] == "]" else value < high
    if not (above and below):
        raise ConfigError(f"{name}={value}: must lie in {bounds}")


def _check_output_dir(config: Config) -> None:
    if not config.output_dir.strip():
        raise ConfigError(f"output_dir={config.output_dir}: must name the run's folder, as runs/NAME; . is this one")


def _nearest_multiples(value: int, divisor: int) -> str:
    """The multiples of ``divisor`` below and above ``value``, as "14 or 16"."""
    lower = value - value % divisor
    return f"{lower} or {lower + divisor}" if lower else f"{divisor}"


def _check_cubes(config: Config) -> None:
    data, model = config.data, config.model
    if data.num_frames % model.tubelet:
        nearest = _nearest_multiples(data.num_frames, model.tubelet)
        raise ConfigError(
            f"data.num_frames={data.num_frames}: must be a multiple of model.tubelet ({model.tubelet}); use {nearest}"
        )
    if data.crop_size % model.patch_size:
        nearest = _nearest_multiples(data.crop_size, model.patch_size)
        raise ConfigError(
            f"data.crop_size={data.crop_size}: must be a multiple of model.patch_size "
            f"({model.patch_size}); use {nearest}"
        )
    if data.dataset == "images" and data.num_frames != 1:
        raise ConfigError(
            f"data.num_frames={data.num_frames}: an image is one frame; use data.num_frames=1 model.tubelet=1"
        )


def _check_mask(config: Config) -> None:
    ratio, time = config.mask.ratio, config.data.num_frames // config.model.tubelet
    space = (config.data.crop_size // config.model.patch_size) ** 2
    units = {"tube": space, "frame": time, "random": time * space, "block": time * space}[config.mask.kind]
    if units < 2 or not 0 < round(ratio * units) < units:
        raise ConfigError(
            f"mask.ratio={ratio}: masks {round(ratio * units)} of the {units} positions of a {config.mask.kind} mask; "
            "some must be masked and some visible: change the ratio or mask.kind"
        )


def _check_decoder(config: Config) -> None:
    decoder, depth = config.model.decoder, SIZES[config.model.size]["depth"]
    shape = decoder_shape(config)
    if shape["width"] % shape["num_heads"]:
        raise ConfigError(
            f"model.decoder.width={shape['width']}: must be a multiple of model.decoder.num_heads "
            f"({shape['num_heads']})"
        )
    # The joint decoder reads the last encoder block only.
    reads_taps = decoder.kind != "joint" or config.diffusion.feature.teacher  # the teacher's decoder is a cross one
    if reads_taps and decoder.taps == "reversed" and shape["depth"] > depth:
        raise ConfigError(
            f"model.decoder.depth={shape['depth']}: with taps=reversed each decoder block reads another encoder block, "
            f"and the {config.model.size} encoder has {depth}; use at most {depth}, or model.decoder.taps=last"
        )


def decoder_shape(config: Config) -> DecoderSize:
    """Width, depth and heads of the decoder; where the config has 0, the defaults of the encoder size."""
    decoder, default = config.model.decoder, DECODER_SIZES[config.model.size]
    return {
        "width": decoder.width or default["width"],
        "depth": decoder.depth or default["depth"],
        "num_heads": decoder.num_heads or default["num_heads"],
    }


def _check_objective(config: Config) -> None:
    diffusion, feature = config.diffusion, config.diffusion.feature
    if diffusion.objective == "mae" and diffusion.target != "x0":
        raise ConfigError(f"diffusion.target={diffusion.target}: objective=mae has no noise to predict; use target=x0")
    if diffusion.objective == "diffusion" and diffusion.target_frames != "all":
        raise ConfigError(
            f"diffusion.target_frames={diffusion.target_frames}: is the target of objective=mae (MAE-ST's), a sampler "
            "needs all frames; use target_frames=all"
        )
    if diffusion.objective == "diffusion" and diffusion.target == "eps":
        _check_eps(config)
    if feature.teacher and not feature.checkpoint:
        raise ConfigError(
            f"diffusion.feature.teacher={feature.teacher}: a teacher needs weights; "
            "give diffusion.feature.checkpoint=PATH"
        )
    if feature.checkpoint and not feature.teacher:
        raise ConfigError(
            "diffusion.feature.checkpoint: weights without a model; give diffusion.feature.teacher=TIMM_NAME"
        )


def _check_eps(config: Config) -> None:
    from diffmae_video.diffusion.objective import check_target  # late: it imports torch
    from diffmae_video.diffusion.schedule import Schedule

    diffusion = config.diffusion
    try:
        check_target("eps", Schedule(diffusion.schedule, num_steps=diffusion.num_steps, rho=diffusion.rho))
    except UserError as error:
        raise ConfigError(f"diffusion.target=eps: with diffusion.rho={diffusion.rho}: {error}") from None


def _check_stages(config: Config) -> None:
    order = ["pretrain", "finetune", "test"]
    if not config.stages or config.stages != [stage for stage in order if stage in config.stages]:
        raise ConfigError(f"stages={config.stages}: name each stage once, in the order {', '.join(order)}")
    if config.finetune.init == "none" and config.finetune.init_weights != "auto":
        raise ConfigError(
            f"finetune.init_weights={config.finetune.init_weights}: finetune.init=none reads no weights; drop it, or "
            "give finetune.init"
        )
    if config.finetune.pool == "class" and not config.model.class_token:
        raise ConfigError(
            "finetune.pool=class: the encoder has no class token; use model.class_token=true or finetune.pool=mean"
        )


def _check_lengths(config: Config) -> None:
    pairs = {
        "data.mean": (config.data.mean, 3),
        "data.std": (config.data.std, 3),
        "pretrain.betas": (config.pretrain.betas, 2),
        "finetune.betas": (config.finetune.betas, 2),
    }
    for name, (values, length) in pairs.items():
        if len(values) != length:
            raise ConfigError(f"{name}={values}: must have {length} numbers")
    if min(config.data.std) <= 0:
        raise ConfigError(f"data.std={config.data.std}: must be above 0")


# {sbatch option that slurm.extra can't set: the key that sets it}; "" if tools/submit.py sets it.
_SBATCH_KEYS = {
    "partition": "slurm.partition",
    "account": "slurm.account",
    "qos": "slurm.qos",
    "nodes": "slurm.nodes",
    "ntasks-per-node": "slurm.gpus_per_node or slurm.tasks_per_node",
    "gpus-per-node": "slurm.gpus_per_node",
    "cpus-per-task": "slurm.cpus_per_task",
    "mem": "slurm.mem_gb",
    "time": "slurm.hours",
    "signal": "slurm.signal_delay_seconds",
    "array": "--sweep",
    "output": "output_dir",
    "error": "output_dir",
    "open-mode": "",
}


def _check_extra(config: Config) -> None:
    for name in config.slurm.extra:
        option = name.replace("_", "-")
        if not re.fullmatch("[A-Za-z][A-Za-z-]*", option):
            raise ConfigError(f"slurm.extra.{name}: must be the name of an sbatch option, as constraint")
        if option in _SBATCH_KEYS:
            instead = _SBATCH_KEYS[option]
            remedy = f"set {instead}" if instead else "remove it"
            raise ConfigError(f"slurm.extra.{name}: tools/submit.py sets it; {remedy}")


def _check_rand_augment(text: str) -> None:
    from diffmae_video.data.rand_augment import RandAugment  # late: it imports torch

    try:
        RandAugment.parse(text)
    except UserError as error:
        raise ConfigError(f"finetune.{error}") from None


def _check_training(section: str, train: TrainConfig, config: Config) -> None:
    if train.warmup_epochs >= train.epochs:
        raise ConfigError(
            f"{section}.warmup_epochs={train.warmup_epochs:g}: must be below {section}.epochs ({train.epochs:g})"
        )
    check_batch(config, section, ranks=1)
    low, high = [*train.crop_scale, math.nan, math.nan][:2]
    if len(train.crop_scale) != 2 or not 0 < low <= high <= 1:
        raise ConfigError(
            f"{section}.crop_scale={train.crop_scale}: must be two areas with 0 < smallest <= largest <= 1"
        )
    if train.flip and config.data.dataset == "ssv2" and not config.data.swap_flip_labels:
        raise ConfigError(
            f"{section}.flip=true: ssv2's classes tell left from right; use {section}.flip=null, "
            "or data.swap_flip_labels=true"
        )


def check_batch(config: Config, stage: str, *, ranks: int) -> None:
    """Check that a batch splits equally into the micro-batches of all ranks, and for mixup into pairs of clips.

    Where the number of ranks isn't known yet, pass 1: what fails then fails for any number of ranks.

    Raises:
        ConfigError: the batch size can't be split; names a size or number of clips that can.
    """
    train = config.pretrain if stage == "pretrain" else config.finetune
    parts = ranks * train.accumulation
    if train.batch_size % parts:
        raise ConfigError(
            f"{stage}.batch_size={train.batch_size}: must be a multiple of ranks ({ranks}) x {stage}.accumulation "
            f"({train.accumulation}); use {math.ceil(train.batch_size / parts) * parts}"
        )
    if stage == "finetune" and "finetune" in config.stages:
        _check_mixing(config, ranks=ranks)


def _check_mixing(config: Config, *, ranks: int) -> None:
    train = config.finetune
    if not (train.mixup or train.cutmix):
        return
    parts = ranks * train.accumulation
    clips = train.batch_size // parts * train.clips_per_video
    if clips % 2:
        raise ConfigError(
            f"finetune.batch_size={train.batch_size}: with {ranks} ranks, finetune.accumulation={train.accumulation} "
            f"and finetune.clips_per_video={train.clips_per_video} a forward pass has {clips} clips, which mixup and "
            f"CutMix can't pair; use finetune.batch_size={train.batch_size + parts}, an even finetune.clips_per_video, "
            "or finetune.mixup=0 finetune.cutmix=0"
        )
