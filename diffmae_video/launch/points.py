"""The points of a sweep: which recipes, named by what differs between them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from diffmae_video.recipe import Recipe, RecipeError, load_recipe
from diffmae_video.recipe.rules import walk


@dataclass(frozen=True)
class Point:
    """One run: a recipe file with overrides, checked. ``differs`` says what sets it apart in its sweep."""

    name: str
    cfg: str
    overrides: tuple[str, ...]
    recipe: Recipe
    differs: dict[str, str] = field(default_factory=dict)

    def for_stage(self, stage: str) -> Recipe:
        """The recipe of one stage as a job of its own, with that stage's resources.

        Raises:
            RecipeError: ``slurm.stages`` names an unknown resource or a value of the wrong type.
        """
        resources = self.recipe.slurm.stages.get(stage) or {}
        own = [f"stages=[{stage}]", *(f"slurm.{key}={value}" for key, value in resources.items())]
        return load_recipe(self.cfg, [*self.overrides, *own])


def single_point(cfg: str, overrides: Sequence[str]) -> Point:
    """One run, in the recipe's own folder."""
    return _make_point(cfg, overrides, "", {}, folder=_base_folder(cfg, overrides))


def product_points(cfg: str, overrides: Sequence[str], axes: Sequence[str]) -> list[Point]:
    """Every combination of ``key=value,value,...`` axes; a value spelled twice (1e-4, 0.0001) counts once.

    Raises:
        RecipeError: an axis or one point isn't possible; one line naming it.
    """
    values = dict(_parse_axis(axis) for axis in axes)
    folder = _base_folder(cfg, overrides)
    points: dict[str, Point] = {}
    for combination in itertools.product(*values.values()):
        changes = dict(zip(values, combination, strict=True))
        recipe = load_recipe(cfg, [*overrides, *(f"{key}={value}" for key, value in changes.items())])
        differs = {key: _text_of(recipe, key) for key in values}
        name = ",".join(f"{key}={_file_name(value)}" for key, value in differs.items())
        if name in points and points[name].differs != differs:
            raise RecipeError(f"sweep: two points would share the folder {name}; use --sweep-file and name them")
        points[name] = _make_point(cfg, overrides, name, changes, folder=folder, differs=differs)
    return list(points.values())


def file_points(cfg: str, overrides: Sequence[str], path: str) -> list[Point]:
    """The named points of a YAML file, ``name: {key: value, ...}``.

    Raises:
        RecipeError: the file or one of its points isn't possible; one line naming it.
    """
    folder = _base_folder(cfg, overrides)
    points = []
    for name, changes in _read_points(path).items():
        if not re.fullmatch(r"[\w.,=+-]+", name) or name in (".", "..", "slurm"):
            raise RecipeError(f"{path}: point {name}: a name becomes a folder; use letters, digits and . , = + -")
        texts = {key: yaml.safe_dump(value, default_flow_style=True, width=10**6) for key, value in changes.items()}
        texts = {key: text.removesuffix("\n").removesuffix("\n...") for key, text in texts.items()}
        try:
            points.append(_make_point(cfg, overrides, name, texts, folder=folder, differs=texts))
        except RecipeError as error:
            raise RecipeError(f"{path}: point {name}: {error}") from None
    return points


def _make_point(
    cfg: str,
    overrides: Sequence[str],
    name: str,
    changes: dict[str, str],
    *,
    folder: str,
    differs: dict[str, str] | None = None,
) -> Point:
    for key in changes:
        if key == "output_dir" or key.split(".")[0] == "slurm":
            raise RecipeError(f"sweep: {key} can't be swept, the points share it; set it before --sweep")
    own = [f"{key}={value}" for key, value in changes.items()]
    every = (*overrides, *own, f"output_dir={os.path.join(folder, name) if name else folder}")
    return Point(name=name, cfg=cfg, overrides=every, recipe=load_recipe(cfg, every), differs=differs or {})


def _base_folder(cfg: str, overrides: Sequence[str]) -> str:
    return os.path.abspath(load_recipe(cfg, overrides).output_dir)


def _parse_axis(axis: str) -> tuple[str, list[str]]:
    key, equals, text = axis.partition("=")
    # Commas inside brackets belong to a value: stages=[pretrain],[pretrain,finetune]
    values = [value for value in re.split(r",(?![^\[]*\])", text) if value]
    if not key or not equals or not values:
        raise RecipeError(f"sweep {axis}: must read key=value,value,... as in pretrain.lr=1e-4,3e-4")
    return key, values


def _read_points(path: str) -> dict[str, dict[str, object]]:
    try:
        read = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: can't be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(read, dict) or not read or not all(isinstance(changes, dict) for changes in read.values()):
        raise RecipeError(f"{path}: must hold points as name: {{key: value, ...}}")
    return {str(name): {str(key): value for key, value in changes.items()} for name, changes in read.items()}


def _text_of(recipe: Recipe, key: str) -> str:
    found = [value for name, _, value in walk(recipe) if name == key]
    if not found:
        raise RecipeError(f"sweep: {key} is a section of the recipe; sweep one of its keys")
    return _text(found[0])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    return str(value)


def _file_name(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", value).strip("_") or "empty"
