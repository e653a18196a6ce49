"""A mutant: a small fault planted in a copy of the tree, which the tests near it must notice."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One planted fault.

    Attributes:
        name: what the fault does, in words.
        path: the file, relative to the root.
        old: text that stands in the file exactly once.
        new: what replaces it.
        tests: test files or node ids of which at least one must fail, separated by spaces.
    """

    name: str
    path: str
    old: str
    new: str
    tests: str


def load_mutants() -> list[Mutant]:
    """The mutants of every list beside this file, in the order of the files' names."""
    files = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    lists = [stem for stem in files if stem not in ("mutant", "run") and not stem.startswith("test_")]
    return [mutant for stem in lists for mutant in importlib.import_module(f"tests.mutants.{stem}").MUTANTS]
