"""Recipe files and overrides to a checked :class:`Recipe`, and back to YAML.

A value is read by the type of its key, never by its looks: a text key keeps the text as it was typed (``007``, ``1e5``,
``12:00``, ``no``), and a number is a decimal one. So YAML gives the structure only (mappings, lists, quotes); its rules
for guessing types, which differ between its versions, are not used.
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

from diffmae_video.recipe.rules import RecipeError, check
from diffmae_video.recipe.schema import Recipe

# Old name of a key: its present one. A recipe with the old name is refused with a line that says the new one.
RENAMED = {
    "finetune.rand_augment_ops": "finetune.rand_augment",
    "finetune.rand_augment_magnitude": "finetune.rand_augment",
}

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.?[0-9]*)([eE][-+]?[0-9]+)?")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL = ("null", "Null", "NULL")
_CLOCK = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-5]?[0-9]):([0-5]?[0-9])|([0-9]+)-([0-9]+)(?::([0-5]?[0-9]))?")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe, apply ``key=value`` overrides in order (the last one wins), check the result.

    Raises:
        RecipeError: one line naming the file and line or the override, the key and the rule it breaks.
    """
    if not os.path.exists(path):
        shipped = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none here"
        raise RecipeError(f"{path}: no such recipe; shipped ones: {shipped}")
    given = _Given()
    root = read_yaml(path)
    try:
        given.read_section("", root, place=lambda node: f"{path}:{node.start_mark.line + 1}")
    except NodeError as error:
        raise RecipeError(f"{path}:{error.line}: {error}") from None
    for override in overrides:
        _apply(given, override)
    recipe = _build(Recipe, "", given.values)
    try:
        check(recipe)
    except RecipeError as error:
        broken = re.split("[=:]", str(error), maxsplit=1)[0]
        raise RecipeError(f"{given.places.get(broken, path)}: {error}") from None
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe, every field written out, as YAML that :func:`load_recipe` reads back."""
    return yaml.safe_dump(plain_recipe(recipe), sort_keys=False, allow_unicode=True, width=math.inf)


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested plain dicts and lists, as checkpoints store it."""
    return dataclasses.asdict(recipe)


def recipe_keys() -> list[str]:
    """Every dotted name that a recipe or an override may set."""
    return [name for name, key in _schema().items() if key.section is None]


def value_text(value: Any) -> str:
    """A key's value as an override writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(value_text, value))}]"
    return str(value)


def read_yaml(path: str | Path) -> yaml.MappingNode:
    """The mapping that a YAML file holds, as nodes; an empty file is an empty mapping.

    Raises:
        RecipeError: the file can't be read, isn't YAML, or holds something else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RecipeError(f"{path}: can't be read ({reason}); it must be a YAML text file") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: {_yaml_problem(error)}") from None
    if root is None:
        return yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(f"{path}: must be a mapping of keys to values, as configs/*.yaml are")
    return root


def pairs(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """The keys and values of a mapping.

    Raises:
        NodeError: it is no mapping, a key is given twice, or a key or a tag is no plain text.
    """
    if not isinstance(node, yaml.MappingNode):
        raise NodeError(node, "must be a mapping, as {name: value}")
    _refuse_tag(node)
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


class NodeError(RecipeError):
    """A value or a key that isn't possible, and its line; who has read the text adds the file or the override."""

    def __init__(self, node: yaml.Node, rule: str, *, key: str = "", line: int = 0) -> None:
        self.rule, self.key = rule, key
        self.line = line or (node.start_mark.line + 1 if node.start_mark else 0)
        self.text = f"={node.value}" if isinstance(node, yaml.ScalarNode) else ""

    def __str__(self) -> str:
        return f"{self.key}{self.text}: {self.rule}" if self.key else self.rule


@dataclass(frozen=True)
class _Key:
    """A dotted name: type, kind and documentation, or the dataclass whose fields it holds."""

    type: Any
    kind: str = ""
    doc: str = ""
    section: type | None = None


@functools.cache
def _schema() -> dict[str, _Key]:
    """Every dotted name of a recipe, sections included."""
    found = {}

    def walk(section: type, prefix: str) -> None:
        types = typing.get_type_hints(section)
        for spec in dataclasses.fields(section):
            name, kind = f"{prefix}{spec.name}", types[spec.name]
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                found[name] = _Key(kind, section=kind)
                walk(kind, f"{name}.")
            else:
                found[name] = _Key(kind, kind=spec.metadata["kind"], doc=spec.metadata["doc"])

    walk(Recipe, "")
    return found


class _Given:
    """The values that a file and overrides have set, by dotted name, and where each was set last."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.places: dict[str, str] = {}

    def read_section(self, prefix: str, node: yaml.MappingNode, *, place: Callable[[yaml.Node], str]) -> None:
        """Set the keys of a section; ``prefix`` is its name with a dot, or empty."""
        for word, value in pairs(node):
            if "." in word or f"{prefix}{word}" not in _schema():
                raise NodeError(value, _unknown(f"{prefix}{word}"))
            self.set(f"{prefix}{word}", value, place=place)

    def set(self, name: str, node: yaml.Node, *, place: Callable[[yaml.Node], str]) -> None:
        """Set a key, or the keys of a section; ``place`` says where a node was read."""
        key = _schema()[name]
        if key.section is None:
            self.values[name] = _value(name, key, node)
            self.places[name] = place(node)
        elif isinstance(node, yaml.MappingNode):
            self.read_section(f"{name}.", node, place=place)
        elif not (node.start_mark and node.value in ("", *_NULL)):  # a file may hold a section without keys
            first = next(each for each in recipe_keys() if each.startswith(f"{name}."))
            raise NodeError(node, f"is a section; set its keys, as {first}=VALUE", key=name)


def _apply(given: _Given, override: str) -> None:
    """Apply one ``key=value``; everything behind the first = is the value."""
    name, equals, text = override.partition("=")
    place = f"override {override}"
    if not equals or not name:
        raise RecipeError(f"{place}: must read key=value, as in pretrain.lr=1e-3")
    try:
        key = _schema().get(name)
        if key is None:
            _set_entry(given, name, text)
        else:
            in_brackets = text.lstrip()[:1] in ("[", "{") and key.type is not str
            given.set(name, _compose(text) if in_brackets else _scalar(text), place=lambda node: place)
    except NodeError as error:
        raise RecipeError(f"{place}: {error.rule if error.key == name else error}") from None


def _set_entry(given: _Given, name: str, text: str) -> None:
    """Set an entry of a mapping, as ``slurm.extra.constraint=a100`` or ``slurm.stages.test.nodes=1``."""
    owner = next((key for key in recipe_keys() if name.startswith(f"{key}.")), None)
    words = name[len(owner) + 1 :].split(".") if owner else []
    if owner is None or len(words) != _mapping_depth(_schema()[owner].type) or not all(words):
        raise NodeError(_scalar(text), _unknown(name))
    entries = given.values[owner] = copy.deepcopy(given.values.get(owner, {}))
    for word in words[:-1]:
        entries = entries.setdefault(word, {})
    entries[words[-1]] = _text(_scalar(text))


def _mapping_depth(kind: Any) -> int:
    return 1 + _mapping_depth(typing.get_args(kind)[1]) if typing.get_origin(kind) is dict else 0


def _scalar(text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text)


def _compose(text: str) -> yaml.Node:
    """A list or a mapping in an override."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise NodeError(_scalar(text), _yaml_problem(error)) from None
    assert node is not None  # the text is not empty
    return node


def _yaml_problem(error: yaml.YAMLError) -> str:
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = getattr(error, "problem_mark", None)
    return f"not YAML: {problem}" + (f", in line {mark.line + 1}" if mark else "")


def _value(name: str, key: _Key, node: yaml.Node) -> Any:
    """The value of a key, by its type."""
    try:
        return _typed(key.type, key.kind, node)
    except NodeError as error:
        error.key = name
        raise


def _typed(type_: Any, kind: str, node: yaml.Node) -> Any:
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    _refuse_tag(node)
    if origin is list:
        return [_typed(arguments[0], kind, item) for item in _items(node)]
    if origin is dict:
        return {word: _typed(arguments[1], kind, value) for word, value in pairs(node)}
    if not isinstance(node, yaml.ScalarNode):
        raise NodeError(node, "must be one value, not a list or a mapping")
    if type(None) in arguments:
        if node.value in ("", "~", *_NULL):
            return None
        type_ = next(each for each in arguments if each is not type(None))
    return _READERS[kind or type_](node)


def _refuse_tag(node: yaml.Node) -> None:
    if not node.tag.startswith("tag:yaml.org,2002:") or "/" in node.tag:
        raise NodeError(node, "values have no tags; leave it out")


def _items(node: yaml.Node) -> list[yaml.Node]:
    """The items of a list; one value, or several with commas between them, needs no brackets."""
    if isinstance(node, yaml.SequenceNode):
        return node.value
    if not isinstance(node, yaml.ScalarNode):
        raise NodeError(node, "must be a list, as [a, b]")
    words = [word.strip() for word in node.value.split(",")] if node.value.strip() else []
    return [yaml.ScalarNode(node.tag, word, node.start_mark, node.end_mark) for word in words]


def _text(node: yaml.ScalarNode) -> str:
    if node.style is None and node.value in _NULL:
        raise NodeError(node, "null is no text; leave the value empty")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in node.value):
        raise NodeError(node, "holds a control character or a byte that isn't UTF-8; leave it out")
    return node.value


def _whole(node: yaml.ScalarNode) -> int:
    if not _WHOLE.fullmatch(node.value):
        raise NodeError(node, "must be a whole number, as 16")
    return int(node.value)


def _number(node: yaml.ScalarNode) -> float:
    if not _DECIMAL.fullmatch(node.value) or math.isinf(float(node.value)):
        raise NodeError(node, "must be a number, as 0.1 or 1e-3")
    return float(node.value)


def _truth(node: yaml.ScalarNode) -> bool:
    if node.value not in _TRUTH:
        raise NodeError(node, "must be true or false")
    return _TRUTH[node.value]


def _hours(node: yaml.ScalarNode) -> float:
    """Hours: a number, or a time as SLURM writes it, in which the parts are never a mere mm:ss."""
    if _DECIMAL.fullmatch(node.value):
        return _number(node)
    found = _CLOCK.fullmatch(node.value)
    if found is None:
        raise NodeError(node, "must be a number of hours, or a time as 12:00:00, 1-12:00:00 or 1-12")
    days, hours, minutes, seconds, long_days, long_hours, long_minutes = (int(part or 0) for part in found.groups())
    return 24.0 * (days + long_days) + hours + long_hours + (minutes + long_minutes) / 60 + seconds / 3600


def _path(node: yaml.ScalarNode) -> str:
    """A path, with ~ and ~user expanded as a shell does."""
    text = _text(node)
    if not text.startswith("~"):
        return text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise NodeError(node, f"no user {text.partition('/')[0][1:]}; write ./{text} for a name that begins with ~")
    return expanded


_READERS: dict[Any, Callable[[yaml.ScalarNode], Any]] = {
    int: _whole,
    float: _number,
    bool: _truth,
    str: _text,
    "path": _path,
    "hours": _hours,
}


def _build(section: type, prefix: str, values: Mapping[str, Any]) -> Any:
    """The section's dataclass with the values that are set and its own defaults for the others."""
    own = {}
    for spec in dataclasses.fields(section):
        name = f"{prefix}{spec.name}"
        inner = _schema()[name].section
        if inner is not None:
            own[spec.name] = _build(inner, f"{name}.", values)
        elif name in values:
            own[spec.name] = values[name]
    return section(**own)


def _unknown(name: str) -> str:
    """What to say to a key that no recipe has."""
    if name in RENAMED:
        return f"{name} was renamed to {RENAMED[name]} ({_schema()[RENAMED[name]].doc})"
    if name in _schema():
        section, _, word = name.rpartition(".")
        return f"unknown key {name} in a file; write it nested, as {section}: {{{word}: VALUE}}"
    # A key put into the wrong section: the same last word elsewhere is the likelier wish.
    same_word = [key for key in recipe_keys() if key.rpartition(".")[2] == name.rpartition(".")[2]]
    found = same_word[:3] or difflib.get_close_matches(name, list(_schema()), n=1, cutoff=0.5)
    return f"unknown key {name}; " + (f"did you mean {' or '.join(found)}?" if found else "run_net.py --keys lists all")
