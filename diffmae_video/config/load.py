"""Read config files and overrides into a checked :class:`Config`, and write it back as YAML.

The type of its key decides how a value is read, not its looks: a text key keeps the text as written (``007``, ``1e5``,
``12:00``, ``no``), and numbers are decimal. YAML gives the structure only (mappings, lists, quotes); its rules for
guessing types, which differ between its versions, are not used.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import math
import os
import re
import typing
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from diffmae_video.config.rules import ConfigError, check, check_value
from diffmae_video.config.schema import STAGES, Config, SlurmConfig

# {old name of a key: its new name}. A config with an old name is refused with a line that says the new one.
RENAMED = {
    "finetune.rand_augment_ops": "finetune.rand_augment",
    "finetune.rand_augment_magnitude": "finetune.rand_augment",
}

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.?[0-9]*)([eE][-+]?[0-9]+)?")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL = ("null", "Null", "NULL")
_SLURM_TIME = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-5]?[0-9]):([0-5]?[0-9])|([0-9]+)-([0-9]+)(?::([0-5]?[0-9]))?")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config, apply ``key=value`` overrides in order (the last one wins), check the result.

    Raises:
        ConfigError: one line naming the file and line or the override, the key and the rule it breaks.
    """
    if not os.path.exists(path):
        shipped = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none here"
        raise ConfigError(f"{path}: no such config; available: {shipped}")
    values = _Values()
    root = read_yaml(path)
    try:
        values.read_section("", root, source_of=lambda node: f"{path}:{node.start_mark.line + 1}")
    except NodeError as error:
        raise ConfigError(f"{path}:{error.line}: {error}") from None
    for override in overrides:
        _apply(values, override)
    config = _build(Config, "", values.by_name)
    try:
        check(config)
        _check_resources(config.slurm)
    except ConfigError as error:
        # Name the line or override that set the key at fault; every rule's message starts with its key.
        key = re.split("[=:]", str(error), maxsplit=1)[0]
        raise ConfigError(f"{values.source_of(key) or path}: {error}") from None
    return config


def dump_config(config: Config) -> str:
    """The resolved config with all fields, as YAML that :func:`load_config` reads back."""
    return yaml.safe_dump(plain_config(config), sort_keys=False, allow_unicode=True, width=math.inf)


def plain_config(config: Config) -> dict[str, Any]:
    """The config as nested plain dicts and lists, as checkpoints store it."""
    return dataclasses.asdict(config)


def config_keys() -> list[str]:
    """Every dotted name that a config or an override may set."""
    return [name for name, key in _schema().items() if key.section is None]


def value_text(value: Any) -> str:
    """A value in the notation of an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(value_text, value))}]"
    return str(value)


def read_yaml(path: str | Path) -> yaml.MappingNode:
    """Parse a YAML file into a mapping node, empty for an empty file.

    Raises:
        ConfigError: the file can't be read, isn't YAML, or isn't a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: can't be read ({reason}); it must be a YAML text file") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_yaml_problem(error)}") from None
    if root is None:
        return yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: must be a mapping of keys to values, as configs/*.yaml are")
    return root


def pairs(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """The keys and values of a mapping.

    Raises:
        NodeError: not a mapping, a key is given twice or isn't text, or the mapping has a tag.
    """
    if not isinstance(node, yaml.MappingNode):
        raise NodeError(node, "must be a mapping, as {name: value}")
    _check_no_tag(node)
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise NodeError(key, "a key must be text, as in key: value")
        line = key.start_mark.line + 1
        if key.value in lines:
            raise NodeError(
                node, f"{key.value} is given twice, in lines {lines[key.value]} and {line}; keep one", line=line
            )
        lines[key.value] = line
        yield key.value, value


class NodeError(ConfigError):
    """An invalid key or value, with its line; the caller adds the file or the override."""

    def __init__(self, node: yaml.Node, rule: str, *, key: str = "", line: int = 0) -> None:
        self.rule, self.key = rule, key
        self.line = line or (node.start_mark.line + 1 if node.start_mark else 0)
        self.text = f"={node.value}" if isinstance(node, yaml.ScalarNode) else ""

    def __str__(self) -> str:
        return f"{self.key}{self.text}: {self.rule}" if self.key else self.rule


@dataclass(frozen=True)
class _Key:
    """A key: its type, kind and documentation; or a section: its dataclass."""

    type: Any
    kind: str = ""
    doc: str = ""
    section: type | None = None


@functools.cache
def _schema() -> dict[str, _Key]:
    """{dotted name: key}, including sections."""
    keys = {}

    def add_section(section: type, prefix: str) -> None:
        types = typing.get_type_hints(section)
        for spec in dataclasses.fields(section):
            name, kind = f"{prefix}{spec.name}", types[spec.name]
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                keys[name] = _Key(kind, section=kind)
                add_section(kind, f"{name}.")
            else:
                keys[name] = _Key(kind, kind=spec.metadata["kind"], doc=spec.metadata["doc"])

    add_section(Config, "")
    return keys


class _Values:
    """Values set by a file and overrides, by dotted name, and the source of each: a file's line or an override."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self.sources: dict[str, str] = {}

    def source_of(self, name: str) -> str:
        """Source of a key or of an entry of a mapping; "" if it has its default."""
        while name and name not in self.sources:
            name = name.rpartition(".")[0]
        return self.sources.get(name, "")

    def read_section(self, prefix: str, node: yaml.MappingNode, *, source_of: Callable[[yaml.Node], str]) -> None:
        """Set the keys of a section; ``prefix`` is its name with a dot, or empty."""
        for word, value in pairs(node):
            if "." in word or f"{prefix}{word}" not in _schema():
                raise NodeError(value, _unknown_key_message(f"{prefix}{word}"))
            self.set(f"{prefix}{word}", value, source_of=source_of)

    def set(self, name: str, node: yaml.Node, *, source_of: Callable[[yaml.Node], str]) -> None:
        """Set a key, or the keys of a section; ``source_of`` gives the source of a node."""
        key = _schema()[name]
        if key.section is None:
            self.by_name[name] = _read_value(name, key, node)
            for entry in [entry for entry in self.sources if entry.startswith(f"{name}.")]:
                del self.sources[entry]
            self.sources[name] = source_of(node)
        elif isinstance(node, yaml.MappingNode):
            self.read_section(f"{name}.", node, source_of=source_of)
        elif not (node.start_mark and node.value in ("", *_NULL)):  # an empty section in a file is valid
            example = next(key for key in config_keys() if key.startswith(f"{name}."))
            raise NodeError(node, f"is a section; set its keys, as {example}=VALUE", key=name)


def _apply(values: _Values, override: str) -> None:
    """Apply one ``key=value``; everything after the first = is the value."""
    name, equals, text = override.partition("=")
    source = f"override {override}"
    if not equals or not name:
        raise ConfigError(f"{source}: must read key=value, as in pretrain.lr=1e-3")
    try:
        key = _schema().get(name)
        if key is None:
            _set_entry(values, name, text)
            values.sources[name] = source
        else:
            # Only lists and mappings are parsed as YAML: any other text is the value itself, whatever it looks like.
            in_brackets = text.lstrip()[:1] in ("[", "{") and key.type is not str
            values.set(
                name, _parse_brackets(text) if in_brackets else _scalar_node(text), source_of=lambda node: source
            )
    except NodeError as error:
        raise ConfigError(f"{source}: {error.rule if error.key == name else error}") from None


def _set_entry(values: _Values, name: str, text: str) -> None:
    """Set an entry of a mapping, as ``slurm.extra.constraint=a100`` or ``slurm.stages.test.nodes=1``."""
    owner = next((key for key in config_keys() if name.startswith(f"{key}.")), None)
    words = name[len(owner) + 1 :].split(".") if owner else []
    if owner is None or len(words) != _mapping_depth(_schema()[owner].type) or not all(words):
        raise NodeError(_scalar_node(text), _unknown_key_message(name))
    entries = values.by_name[owner] = copy.deepcopy(values.by_name.get(owner, {}))
    for word in words[:-1]:
        entries = entries.setdefault(word, {})
    entries[words[-1]] = _read_str(_scalar_node(text))


def _mapping_depth(kind: Any) -> int:
    """1 for dict[str, str], 2 for dict[str, dict[str, str]], 0 for other types."""
    return 1 + _mapping_depth(typing.get_args(kind)[1]) if typing.get_origin(kind) is dict else 0


def _check_resources(slurm: SlurmConfig) -> None:
    """Check the values in slurm.stages by the rules of the slurm keys that they replace."""
    specs = {spec.name: spec for spec in dataclasses.fields(SlurmConfig) if spec.name not in ("extra", "stages")}
    for stage, resources in slurm.stages.items():
        if stage not in STAGES:
            raise ConfigError(f"slurm.stages.{stage}: no such stage; there are {', '.join(STAGES)}")
        for word, text in resources.items():
            name = f"slurm.stages.{stage}.{word}"
            if word not in specs:
                raise ConfigError(f"{name}={text}: a stage can have its own {', '.join(specs)}")
            try:
                value = _read_value(name, _schema()[f"slurm.{word}"], _scalar_node(text))
            except NodeError as error:
                raise ConfigError(str(error)) from None
            check_value(name, specs[word], value)


def _scalar_node(text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text)


def _parse_brackets(text: str) -> yaml.Node:
    """A list or a mapping in an override."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise NodeError(_scalar_node(text), _yaml_problem(error)) from None
    assert node is not None  # the text is not empty
    return node


def _yaml_problem(error: yaml.YAMLError) -> str:
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = getattr(error, "problem_mark", None)
    return f"not YAML: {problem}" + (f", in line {mark.line + 1}" if mark else "")


def _read_value(name: str, key: _Key, node: yaml.Node) -> Any:
    """The value of a key, by its type."""
    try:
        return _read_typed(key.type, key.kind, node)
    except NodeError as error:
        error.key = name
        raise


def _read_typed(type_: Any, kind: str, node: yaml.Node) -> Any:
    origin, type_args = typing.get_origin(type_), typing.get_args(type_)
    _check_no_tag(node)
    if origin is list:
        return [_read_typed(type_args[0], kind, item) for item in _list_items(node)]
    if origin is dict:
        return {word: _read_typed(type_args[1], kind, value) for word, value in pairs(node)}
    if not isinstance(node, yaml.ScalarNode):
        raise NodeError(node, "must be one value, not a list or a mapping")
    if type(None) in type_args:
        if node.value in ("", "~", *_NULL):
            return None
        type_ = next(arg for arg in type_args if arg is not type(None))
    return _READERS[kind or type_](node)


def _check_no_tag(node: yaml.Node) -> None:
    if not node.tag.startswith("tag:yaml.org,2002:") or "/" in node.tag:
        raise NodeError(node, "values have no tags; remove it")


def _list_items(node: yaml.Node) -> list[yaml.Node]:
    """The items of a list; brackets are optional, around one value as around several with commas."""
    if isinstance(node, yaml.SequenceNode):
        return node.value
    if not isinstance(node, yaml.ScalarNode):
        raise NodeError(node, "must be a list, as [a, b]")
    words = [word.strip() for word in node.value.split(",")] if node.value.strip() else []
    return [yaml.ScalarNode(node.tag, word, node.start_mark, node.end_mark) for word in words]


def _read_str(node: yaml.ScalarNode) -> str:
    if node.style is None and node.value in _NULL:
        raise NodeError(node, "null is no text; leave the value empty")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in node.value):
        raise NodeError(node, "holds a control character or a byte that isn't UTF-8; remove it")
    return node.value


def _read_int(node: yaml.ScalarNode) -> int:
    if not _INT.fullmatch(node.value):
        raise NodeError(node, "must be a whole number, as 16")
    return int(node.value)


def _read_float(node: yaml.ScalarNode) -> float:
    if not _FLOAT.fullmatch(node.value) or math.isinf(float(node.value)):
        raise NodeError(node, "must be a number, as 0.1 or 1e-3")
    return float(node.value)


def _read_bool(node: yaml.ScalarNode) -> bool:
    if node.value not in _BOOL:
        raise NodeError(node, "must be true or false")
    return _BOOL[node.value]


def _read_hours(node: yaml.ScalarNode) -> float:
    """Hours: a number, or a time in SLURM's notation; 12:30 is refused, since SLURM reads it as minutes:seconds."""
    if _FLOAT.fullmatch(node.value):
        return _read_float(node)
    found = _SLURM_TIME.fullmatch(node.value)
    if found is None:
        raise NodeError(node, "must be a number of hours, or a time as 12:00:00, 1-12:00:00 or 1-12")
    days, hours, minutes, seconds, long_days, long_hours, long_minutes = (int(part or 0) for part in found.groups())
    return 24.0 * (days + long_days) + hours + long_hours + (minutes + long_minutes) / 60 + seconds / 3600


def _read_path(node: yaml.ScalarNode) -> str:
    """A path, with ~ and ~user expanded as a shell does."""
    text = _read_str(node)
    if not text.startswith("~"):
        return text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise NodeError(node, f"no user {text.partition('/')[0][1:]}; write ./{text} for a name that begins with ~")
    return expanded


_READERS: dict[Any, Callable[[yaml.ScalarNode], Any]] = {
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    str: _read_str,
    "path": _read_path,
    "hours": _read_hours,
}


def _build(section: type, prefix: str, values: Mapping[str, Any]) -> Any:
    """An instance of the section's dataclass, with its defaults for keys that are not in ``values``."""
    kwargs = {}
    for spec in dataclasses.fields(section):
        name = f"{prefix}{spec.name}"
        inner = _schema()[name].section
        if inner is not None:
            kwargs[spec.name] = _build(inner, f"{name}.", values)
        elif name in values:
            kwargs[spec.name] = values[name]
    return section(**kwargs)


def _unknown_key_message(name: str) -> str:
    """The message for a key that doesn't exist."""
    if name in RENAMED:
        return f"{name} was renamed to {RENAMED[name]} ({_schema()[RENAMED[name]].doc})"
    if name in _schema():
        section, _, word = name.rpartition(".")
        return f"unknown key {name} in a file; write it nested, as {section}: {{{word}: VALUE}}"
    # A key in the wrong section is likelier than a misspelled one.
    same_word = [key for key in config_keys() if key.rpartition(".")[2] == name.rpartition(".")[2]]
    found = same_word[:3] or difflib.get_close_matches(name, list(_schema()), n=1, cutoff=0.5)
    return f"unknown key {name}; " + (f"did you mean {' or '.join(found)}?" if found else "run_net.py --keys lists all")
