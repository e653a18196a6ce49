"""The one way through: which part may import which, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "diffmae_video"

# A part may import itself, the leaves, and these.
ALLOWED = {
    "data": set(),
    "model": set(),
    "diffusion": {"model"},
    "recipe": {"data", "diffusion"},  # the notation of RandAugment, the levels of a schedule
    "report": {"data", "model", "diffusion"},
    "engine": {"data", "model", "diffusion", "recipe"},
    "bench": {"data", "model", "diffusion", "recipe", "engine", "wheels"},
    "launch": {"recipe", "engine"},
}
LEAVES = {"seeding", "errors", "command_line", "sizes"}
# Inside the engine, only these know the recipe: loops take numbers.
RECIPE_READERS = {
    "build.py",
    "cli.py",
    "describe.py",
    "identity.py",
    "inputs.py",
    "runner.py",
    "stages.py",
    "weights.py",
}


def imported_parts(path: Path) -> set[str]:
    """Second words of every ``diffmae_video.X`` import in a file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("diffmae_video.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/**/*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0]
    assert imported_parts(path) - {part, *LEAVES} <= ALLOWED[part]


def test_loops_do_not_know_the_recipe() -> None:
    readers = {p.name for p in (PACKAGE / "engine").glob("*.py") if "recipe" in imported_parts(p)}
    assert readers <= RECIPE_READERS
