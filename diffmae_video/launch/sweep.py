"""The points of a sweep: one config each, named by its values of the swept keys."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import yaml

from diffmae_video.config import Config, ConfigError, load_config, value_text
from diffmae_video.config.load import NodeError, pairs, read_yaml
from diffmae_video.config.rules import walk

_NAME_BYTES = 200  # file systems allow 255; temporary files add to a name


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: its folder inside the sweep's; "" for a single run.
        cfg: path of the config file.
        overrides: ``key=value`` texts, in order.
        config: the file with the overrides, checked.
        params: values of the swept keys.
    """

    name: str
    cfg: str
    overrides: tuple[str, ...]
    config: Config
    params: dict[str, str] = field(default_factory=dict)

    def for_stage(self, stage: str) -> Config:
        """The config of a job that runs one stage only, with the resources of that stage."""
        resources = self.config.slurm.stages.get(stage) or {}
        stage_overrides = [f"stages=[{stage}]", *(f"slurm.{key}={value}" for key, value in resources.items())]
        return load_config(self.cfg, [*self.overrides, *stage_overrides])


def single_point(cfg: str, overrides: Sequence[str]) -> Point:
    """One run, in the output_dir of its config."""
    return _make_point(cfg, overrides, "", {}, folder=_base_folder(cfg, overrides))


def product_points(cfg: str, overrides: Sequence[str], axes: Sequence[str]) -> list[Point]:
    """Every combination of ``key=value,value,...`` axes; two spellings of a value (1e-4, 0.0001) count once.

    Args:
        cfg: path of the config file.
        overrides: ``key=value`` texts for all points.
        axes: one ``key=value,value,...`` per swept key.

    Raises:
        ConfigError: an axis or a point is invalid; one line naming it.
    """
    values: dict[str, list[str]] = {}
    for key, texts in map(_parse_axis, axes):
        if key in values:
            raise ConfigError(f"sweep: {key} is given twice; put all its values behind one {key}=")
        values[key] = texts
    folder = _base_folder(cfg, overrides)
    points: dict[str, Point] = {}
    for combination in itertools.product(*values.values()):
        changes = dict(zip(values, combination, strict=True))
        config = load_config(cfg, [*overrides, *(f"{key}={value}" for key, value in changes.items())])
        params = {key: _swept_value(config, key) for key in values}
        name = _shorten(",".join(f"{key}={_to_file_name(value)}" for key, value in params.items()))
        if name in points and points[name].params != params:
            raise ConfigError(f"sweep: two points would share the folder {name}; use --sweep-file and name them")
        points[name] = _make_point(cfg, overrides, name, changes, folder=folder, params=params)
    return list(points.values())


def file_points(cfg: str, overrides: Sequence[str], path: str) -> list[Point]:
    """The named points of a YAML file, ``name: {key: value, ...}``.

    Raises:
        ConfigError: the file or one of its points is invalid; one line naming it.
    """
    folder = _base_folder(cfg, overrides)
    points: list[Point] = []
    for name, changes in _read_points(path).items():
        if not re.fullmatch(r"[\w.,=+-]+", name) or name in (".", "..", "slurm") or _shorten(name) != name:
            raise ConfigError(
                f"{path}: point {name}: must be the name of a folder; use letters, digits and . , = + -, "
                f"at most {_NAME_BYTES} bytes"
            )
        try:
            point = _make_point(cfg, overrides, name, changes, folder=folder, params=changes)
        except ConfigError as error:
            raise ConfigError(f"{path}: point {name}: {error}") from None
        for other in points:
            if dataclasses.replace(other.config, output_dir=point.config.output_dir) == point.config:
                raise ConfigError(f"{path}: points {other.name} and {name} are the same config; leave one out")
        points.append(point)
    return points


def _make_point(
    cfg: str,
    overrides: Sequence[str],
    name: str,
    changes: dict[str, str],
    *,
    folder: str,
    params: dict[str, str] | None = None,
) -> Point:
    for key in changes:
        if key == "output_dir" or key.split(".")[0] == "slurm":
            raise ConfigError(f"sweep: {key} can't be swept, all points share it; set it before --sweep")
    swept = [f"{key}={value}" for key, value in changes.items()]
    all_overrides = (*overrides, *swept, f"output_dir={os.path.join(folder, name) if name else folder}")
    return Point(
        name=name, cfg=cfg, overrides=all_overrides, config=load_config(cfg, all_overrides), params=params or {}
    )


def _base_folder(cfg: str, overrides: Sequence[str]) -> str:
    return os.path.abspath(load_config(cfg, overrides).output_dir)


def _parse_axis(axis: str) -> tuple[str, list[str]]:
    key, equals, text = axis.partition("=")
    # Commas inside brackets belong to a value: stages=[pretrain],[pretrain,finetune]
    values = re.split(r",(?![^\[]*\])", text)
    if not key or not equals or not all(values):
        raise ConfigError(f"sweep {axis}: must read key=value,value,... as in pretrain.lr=1e-4,3e-4")
    return key, values


def _read_points(path: str) -> dict[str, dict[str, str]]:
    """Points of a file: {name: {key: value as in an override}}."""
    points: dict[str, dict[str, str]] = {}
    try:
        for name, changes in pairs(read_yaml(path)):
            points[name] = {key: _override_text(value) for key, value in pairs(changes)}
    except NodeError as error:
        raise ConfigError(f"{path}:{error.line}: {error}") from None
    if not points:
        raise ConfigError(f"{path}: holds no points; write name: {{key: value, ...}}")
    return points


def _override_text(node: yaml.Node) -> str:
    """A value as it is written in the file; lists and mappings in brackets, on one line."""
    if isinstance(node, yaml.ScalarNode):
        return node.value
    for inner in [node, *_nodes_below(node)]:
        if isinstance(inner, yaml.CollectionNode):
            inner.flow_style = True
    return yaml.serialize(node, width=math.inf).strip()


def _nodes_below(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.CollectionNode):
        for entry in node.value:
            for inner in entry if isinstance(entry, tuple) else (entry,):
                yield inner
                yield from _nodes_below(inner)


def _swept_value(config: Config, key: str) -> str:
    found = [value for name, _, value in walk(config) if name == key]
    if not found:
        raise ConfigError(f"sweep: {key} is a section of the config; sweep one of its keys")
    return value_text(found[0])


def _to_file_name(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", value).strip("_") or "empty"


def _shorten(name: str) -> str:
    """Cut a name that is too long for a folder, and append a hash of the full name to keep names distinct."""
    if len(name.encode()) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name.encode()[: _NAME_BYTES - 11].decode(errors='ignore')}-{digest}"
