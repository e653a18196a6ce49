"""The planted faults are still plantable, and the runner tells a noticed one from one that wasn't."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant, load_mutants
from tests.mutants.run import ROOT, choose, run_tests, try_mutant

ALL = load_mutants()


def test_names_are_unique() -> None:
    assert [name for name, times in Counter(mutant.name for mutant in ALL).items() if times > 1] == []


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_it_can_be_planted_and_its_tests_are_there(mutant: Mutant) -> None:
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1
    planted = source.replace(mutant.old, mutant.new)
    assert not mutant.path.endswith(".py") or ast.dump(ast.parse(planted)) != ast.dump(ast.parse(source))
    assert mutant.tests
    for node in mutant.tests.split():
        file, _, test = node.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {test.partition('[')[0].rpartition('::')[2]}" in text if test else "def test_" in text, node


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "adds.py").write_text("def add(a, b):\n    return a + b\n")
    tests = [
        f"def test_{name}():\n    assert adds.add({a}, 2) == {a + 2}\n" for name, a in (("small", 2), ("other", 1))
    ]
    (tmp_path / "test_adds.py").write_text("import adds\n" + "".join(tests))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "test", "noticed", "words"),
    [
        ("a + b", "a * b", "", True, "test_adds.py::test_other"),
        ("a + b", "a * b", "::test_small", False, "SURVIVED"),
        ("a + b", "a - b", "::test_of_yesterday", False, "NOT RUN: pytest's exit code 4"),
        ("a + b", "a +", "", False, "NOT RUN: pytest's exit code 2"),
        ("a", "c", "", False, "NOT PLANTED: its old text is in adds.py 3 times, not once"),
    ],
)
def test_a_verdict(tree: Path, old: str, new: str, test: str, noticed: bool, words: str) -> None:
    before = (tree / "adds.py").read_text()
    verdict = try_mutant(tree, Mutant("one", "adds.py", old, new, f"test_adds.py{test}"))
    assert (verdict.noticed, verdict.words[: len(words)]) == (noticed, words)
    assert (tree / "adds.py").read_text() == before


def test_tests_without_an_end_are_noticed(tree: Path) -> None:
    (tree / "test_adds.py").write_text("def test_endless():\n    while True:\n        pass\n")
    assert run_tests(tree, ["test_adds.py"], seconds=2).noticed


def test_a_sample_is_drawn_by_its_seed() -> None:
    mutants = [Mutant(str(i), "a.py" if i % 2 else "b.py", "x", "y", "t") for i in range(20)]
    assert choose(mutants, words=["a.py"], sample=0, seed="") == mutants[1::2]
    first, again, other = (choose(mutants, words=[], sample=5, seed=seed) for seed in ("1", "1", "2"))
    assert first == again != other
    assert len({mutant.name for mutant in first}) == 5
