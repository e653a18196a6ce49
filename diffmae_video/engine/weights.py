"""An encoder's weights out of a checkpoint of ours, and whole models out of a run's folder."""

from __future__ import annotations

from pathlib import Path

from diffmae_video.diffusion import DiffMAE
from diffmae_video.engine.build import build_classifier, build_diffmae, build_encoder
from diffmae_video.engine.checkpoint import load_checkpoint
from diffmae_video.errors import UserError
from diffmae_video.model import SpacetimeViT, VideoClassifier
from diffmae_video.recipe import Recipe, RecipeError, load_recipe


def load_encoder_weights(encoder: SpacetimeViT, path: str | Path) -> str:
    """Copy the encoder of a pre-training or fine-tuning checkpoint into ``encoder``; position tables are resized.

    Returns:
        one line on what was copied.

    Raises:
        UserError: the file isn't a checkpoint of ours, or its encoder has another size.
    """
    weights = load_checkpoint(path)["model"]
    found = {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
    own = encoder.state_dict()
    missing, unexpected = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    differ = [n for n in own.keys() & found.keys() if own[n].shape != found[n].shape and "positions" not in n]
    if missing or unexpected or differ:
        detail = ", ".join(
            f"{len(names)} {word} ({names[0]})"
            for word, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differ))
            if names
        )
        raise UserError(f"{path}: its encoder doesn't fit: {detail}; use the model section it was trained with")
    encoder.load_state_dict(found)
    return f"encoder from {path}: {len(found)} tensors matched, none missing, none unexpected"


def load_encoder(run: str | Path, *, stage: str = "pretrain") -> SpacetimeViT:
    """The encoder of a run's finished ``stage``, in eval mode.

    Args:
        run: the run's folder, with its recipe.yaml.
        stage: "pretrain" or "finetune".
    """
    recipe = run_recipe(run)
    encoder = build_encoder(recipe)
    load_encoder_weights(encoder, _weights(run, stage))
    return encoder.eval()


def load_diffmae(run: str | Path) -> tuple[DiffMAE, Recipe]:
    """The pre-trained model of a run and its recipe, in eval mode: what inpainting needs."""
    recipe = run_recipe(run)
    model = build_diffmae(recipe)
    model.load_state_dict(load_checkpoint(_weights(run, "pretrain"))["model"])
    return model.eval(), recipe


def load_classifier(run: str | Path) -> tuple[VideoClassifier, list[str]]:
    """The fine-tuned classifier of a run and its class names, in eval mode."""
    recipe = run_recipe(run)
    saved = load_checkpoint(_weights(run, "finetune"))
    model = build_classifier(recipe, num_classes=len(saved["classes"]))
    model.load_state_dict(saved["model"])
    return model.eval(), saved["classes"]


def run_recipe(run: str | Path) -> Recipe:
    """The resolved recipe that a run's folder holds.

    Raises:
        RecipeError: there is none.
    """
    path = Path(run) / "recipe.yaml"
    if not path.exists():
        raise RecipeError(f"{run}: holds no recipe.yaml; give the folder of a run (a recipe's output_dir)")
    return load_recipe(path)


def _weights(run: str | Path, stage: str) -> Path:
    path = Path(run) / stage / "weights.pt"
    if not path.exists():
        raise UserError(f"{path}: not there; the run's {stage} stage isn't finished")
    return path
