"""Recipe files and overrides to a checked :class:`Recipe`, and back to YAML. OmegaConf stays in this file."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from diffmae_video.recipe.rules import RecipeError, check, walk
from diffmae_video.recipe.schema import Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe, apply ``key=value`` overrides in order, check the result.

    Raises:
        RecipeError: one line naming the file or override, the key and the rule it breaks.
    """
    config = OmegaConf.structured(Recipe)
    OmegaConf.set_readonly(config, False)
    config = _merge(config, _read(path), source=str(path))
    for override in overrides:
        config = _merge(config, _parse(override), source=f"override {override}")
    recipe = OmegaConf.to_object(config)
    assert isinstance(recipe, Recipe)
    try:
        check(recipe)
    except RecipeError as error:
        broken_key = str(error).partition("=")[0]
        source = next((f"override {o}" for o in reversed(overrides) if o.partition("=")[0] == broken_key), path)
        raise RecipeError(f"{source}: {error}") from None
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe, every field written out, as YAML that :func:`load_recipe` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested plain dicts and lists, as checkpoints store it."""
    return dataclasses.asdict(recipe)


def recipe_keys() -> list[str]:
    """Every dotted name that a recipe or an override may set."""
    return [name for name, _, _ in walk(Recipe())]


def _read(path: str | Path) -> DictConfig:
    try:
        config = OmegaConf.create(Path(path).read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        shipped = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none here"
        raise RecipeError(f"{path}: no such recipe; shipped ones: {shipped}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: can't be read ({error}); a recipe is a YAML text file") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, DictConfig):
        raise RecipeError(f"{path}: must be a mapping of keys to values, as configs/*.yaml are")
    return config


def _parse(override: str) -> DictConfig:
    name, equals, _ = override.partition("=")
    if not equals or not name:
        raise RecipeError(f"override {override}: must read key=value, as in pretrain.lr=1e-3")
    try:
        return OmegaConf.from_dotlist([override])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise RecipeError(f"override {override}: {' '.join(str(error).split())}") from None


def _merge(config: DictConfig, update: DictConfig, *, source: str) -> DictConfig:
    try:
        merged = OmegaConf.merge(config, update)
    except ConfigKeyError as error:
        raise RecipeError(f"{source}: unknown key {error.full_key}; {_nearest(str(error.full_key))}") from None
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        raise RecipeError(f"{source}: {where}{str(error).splitlines()[0]}") from None
    assert isinstance(merged, DictConfig)
    return merged


def _nearest(name: str) -> str:
    keys = recipe_keys()
    sections = {key.rpartition(".")[0] for key in keys} - {""}
    close = difflib.get_close_matches(name, [*keys, *sections], n=1, cutoff=0.5)
    # A key put into the wrong section: the same last word elsewhere is the likelier wish.
    same_word = [key for key in keys if key.rpartition(".")[2] == name.rpartition(".")[2]]
    found = same_word[:3] or close
    return f"did you mean {' or '.join(found)}?" if found else "run_net.py --keys lists all"
