"""The map of docs/architecture.md, read from the imports: which package may import which, and no circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffmae_video"

# Modules at the top that anything may import.
LEAVES = {"command_line", "errors", "files", "seeding", "sizes"}
# A package may import itself, the leaves, and these. Inside the engine a row is a package or a file.
ALLOWED = {
    "data.decoding": set(),
    "data": {"data.decoding"},
    "model": set(),
    "diffusion": {"model"},
    "inpainting": {"data", "data.decoding", "diffusion", "model"},
    "config": {"data", "diffusion"},
    "build": {"config", "data", "diffusion", "model"},
    "engine.distributed": set(),
    "engine.checkpoint": {"engine.distributed"},
    "engine.monitor": {"data", "engine.distributed"},
    "engine.preemption": set(),
    "engine.run_lock": set(),
    "engine.compatibility": {"config"},
    "engine.train": {
        "data",
        "diffusion",
        "engine.checkpoint",
        "engine.compatibility",
        "engine.distributed",
        "engine.monitor",
        "engine.preemption",
        "model",
    },
    "engine.digests": {"data"},
    "engine.results": {"engine.train"},
    "engine.setup": {"build", "config", "data", "diffusion", "engine.distributed", "engine.train", "model"},
    "weights": {"build", "config", "diffusion", "engine.checkpoint", "engine.compatibility", "model"},
    "engine.inputs": {"build", "config", "data", "engine.checkpoint", "engine.setup", "weights"},
    "engine.dry_run": {"build", "config", "data", "diffusion", "engine.setup", "engine.train", "model"},
}
# Entry points: they join everything below them.
ENTRIES = {"engine.stages", "engine.runner", "engine.cli", "launch", "commands", "sample_media"}


def modules() -> dict[str, Path]:
    """Every module of the package: dotted name to file."""
    files = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in files.items()}


def imports_of(path: Path, names: set[str]) -> set[str]:
    """The package's modules that a file imports, wherever in the file, but not for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    unseen = {id(inner) for node in guarded for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in names else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == PACKAGE.name}


MODULES = modules()
IMPORTS = {name: imports_of(path, set(MODULES)) for name, path in MODULES.items()}


def unit(name: str) -> str:
    """The row of the table that a module belongs to."""
    parts = name.split(".")[1:]
    joined = ".".join(parts[:2])
    return joined if joined == "data.decoding" or (parts[:1] == ["engine"] and len(parts) > 1) else (parts or [""])[0]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_package_imports_what_the_map_allows(name: str) -> None:
    own = unit(name)
    if own in ENTRIES or name == PACKAGE.name:
        return
    assert own in ALLOWED or own in LEAVES or own == "engine", f"{name}: its package is not on the map"
    assert {unit(other) for other in IMPORTS[name]} - {own} - LEAVES <= ALLOWED.get(own, set())


def test_no_file_imports_itself_by_way_of_others() -> None:
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name in done:
            return
        for other in sorted(IMPORTS.get(name, set()) - {name}):
            visit(other, [*way, name])
        done.add(name)

    for name in sorted(MODULES):
        visit(name, [])


def test_entry_points_are_imported_by_entry_points_only() -> None:
    for name in MODULES:
        if unit(name) not in ENTRIES and name != PACKAGE.name:
            assert not {unit(other) for other in IMPORTS[name]} & ENTRIES, name
