"""An encoder's weights out of a checkpoint of ours, and whole models out of a run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffmae_video.build import build_classifier, build_diffmae, build_encoder
from diffmae_video.config import Config, ConfigError, load_config
from diffmae_video.diffusion import DiffMAE
from diffmae_video.engine.checkpoint.single_file import load_checkpoint
from diffmae_video.engine.compatibility import stage_config
from diffmae_video.errors import UserError
from diffmae_video.model import SpacetimeViT, VideoClassifier

WEIGHTS = ("auto", "ema", "model")
WEIGHTS_HELP = "moving averages of the weights (auto: where the run kept them), or those of the last step"


def choose_weights(saved: Mapping[str, Any], weights: str, *, path: str | Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, by name, as a state dict.

    Args:
        saved: the checkpoint.
        weights: "ema" for the moving averages (buffers have none and are the model's), "model" for the weights of the
            last step, "auto" for the averages where the checkpoint has them.
        path: what the message names.

    Raises:
        UserError: for another name, or "ema" of a checkpoint without averages.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights {weights!r} is not one of {', '.join(WEIGHTS)}")
    averages = saved.get("ema") or {}
    if weights == "ema" and not averages:
        raise UserError(
            f"{path}: has no moving averages of its weights (ema_decay was 0); take weights 'model', or train with it"
        )
    return dict(saved["model"]) if weights == "model" else {**saved["model"], **averages}


def load_encoder_weights(encoder: SpacetimeViT, path: str | Path, *, weights: str = "auto") -> str:
    """Copy the encoder of a pre-training or fine-tuning checkpoint into ``encoder``; position tables are resized.

    Args:
        encoder: whose weights are replaced.
        path: the checkpoint.
        weights: which of the checkpoint's, see ``choose_weights``.

    Returns:
        one line on what was copied.

    Raises:
        UserError: the file isn't a checkpoint of ours, has no such weights, or its encoder has another size.
    """
    saved = load_checkpoint(path)
    kind = "moving averages" if weights != "model" and saved.get("ema") else "weights of the last step"
    chosen = choose_weights(saved, weights, path=path)
    found = encoder_part(chosen)
    check_fit(encoder, found, path, resized=("positions",))
    encoder.load_state_dict(found)
    return f"encoder from {path}, {kind}: {len(found)} tensors matched, none missing, none unexpected"


def encoder_part(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's weights, by the encoder's own names, of those of a pre-training or fine-tuning."""
    return {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}


def check_fit(
    model: nn.Module, found: Mapping[str, torch.Tensor], path: str | Path, *, resized: Sequence[str] = ()
) -> None:
    """Compare weights by names and shapes with those of ``model``, whose tensors may be on the meta device.

    Args:
        model: what the weights are for.
        found: the weights.
        path: what the message names.
        resized: parts of names of tensors whose shape may differ.

    Raises:
        UserError: how many differ, and the first of them.
    """
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    shared = sorted(own.keys() & found.keys())
    differ = [n for n in shared if own[n].shape != found[n].shape and not any(part in n for part in resized)]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", differ))
    if detail := ", ".join(f"{len(names)} {word} ({names[0]})" for word, names in kinds if names):
        what = "encoder" if isinstance(model, SpacetimeViT) else "model"
        raise UserError(f"{path}: its {what} doesn't fit: {detail}; use the model section it was trained with")


def weights_file(path: Path, stage: str) -> Path:
    """A file of weights; of a run's folder its ``stage``'s, of a stage's folder its own. It may not exist."""
    if not path.is_dir():
        return path
    own = path / "weights.pt"
    return own if own.exists() else path / stage / "weights.pt"


def load_diffmae_weights(model: DiffMAE, source: str | Path) -> str:
    """Copy a checkpoint's encoder into ``model``, and what lies behind the encoder where all of it fits.

    A fine-tuning's checkpoint has no decoder, and one of another kind or size doesn't fit: the model then keeps its
    own. Moving averages are taken where the checkpoint has them.

    Args:
        model: whose weights are replaced.
        source: a checkpoint, a stage's folder, or a run's folder (its pre-training).

    Returns:
        one line on what was copied.

    Raises:
        UserError: there is no such file, it isn't a checkpoint of ours, or its encoder has another size.
    """
    path = weights_file(Path(source), "pretrain")
    if not path.exists():
        raise UserError(f"{path} is not there; give a run whose pre-training is finished, a checkpoint, or none")
    told = load_encoder_weights(model.encoder, path)
    chosen = choose_weights(load_checkpoint(path), "auto", path=path)
    rest = {name: value for name, value in chosen.items() if not name.startswith("encoder.")}
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("encoder.")}
    fits = own.keys() == rest.keys() and all(own[n].shape == rest[n].shape or "positions" in n for n in own)
    if fits:
        model.load_state_dict(rest, strict=False)
    return f"{told}; decoder {'too' if fits else 'fresh: that of the checkpoint is another, or none'}"


def load_encoder(run: str | Path, *, stage: str = "pretrain", weights: str = "auto") -> SpacetimeViT:
    """The encoder of a run's finished ``stage``, in eval mode.

    Args:
        run: the run's folder.
        stage: "pretrain" or "finetune".
        weights: "auto" (moving averages where the stage kept them), "ema" or "model", see ``choose_weights``.
    """
    config = run_config(run, stage)
    encoder = build_encoder(config)
    load_encoder_weights(encoder, _weights(run, stage), weights=weights)
    return encoder.eval()


def load_diffmae(run: str | Path, *, weights: str = "auto") -> tuple[DiffMAE, Config]:
    """The pre-trained model of a run and its config, in eval mode: what inpainting needs.

    Args:
        run: the run's folder.
        weights: "auto" (moving averages where the stage kept them), "ema" or "model", see ``choose_weights``.
    """
    config = run_config(run, "pretrain")
    model = build_diffmae(config)
    path = _weights(run, "pretrain")
    model.load_state_dict(choose_weights(load_checkpoint(path), weights, path=path))
    return model.eval(), config


def load_classifier(run: str | Path, *, weights: str = "auto") -> tuple[VideoClassifier, list[str]]:
    """The fine-tuned classifier of a run and its class names, in eval mode.

    Args:
        run: the run's folder.
        weights: "auto" (moving averages where the stage kept them), "ema" or "model", see ``choose_weights``.
    """
    config = run_config(run, "finetune")
    path = _weights(run, "finetune")
    saved = load_checkpoint(path)
    model = build_classifier(config, num_classes=len(saved["classes"]))
    model.load_state_dict(choose_weights(saved, weights, path=path))
    return model.eval(), saved["classes"]


def run_config(run: str | Path, stage: str) -> Config:
    """The resolved config that ``stage`` of a run used.

    Raises:
        ConfigError: there is none.
    """
    path = stage_config(Path(run), stage)
    if not path.exists():
        raise ConfigError(f"{run}: holds no config.yaml; give the folder of a run (a config's output_dir)")
    return load_config(path)


def _weights(run: str | Path, stage: str) -> Path:
    path = Path(run) / stage / "weights.pt"
    if not path.exists():
        raise UserError(f"{path}: not there; the run's {stage} stage isn't finished")
    return path
