"""A mutant: a small fault planted in a copy of the tree, which the tests near it must notice."""

from __future__ import annotations

from dataclasses import dataclass


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
