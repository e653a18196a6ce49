"""Plant each mutant in a copy of the tree and run the tests named for it: every one must be noticed.

python -m tests.mutants.run [WORD ...] [--sample N --seed TEXT] [--jobs N]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.mutant import Mutant, load_mutants

ROOT = Path(__file__).parents[2]
SECONDS = 300


@dataclass(frozen=True)
class Verdict:
    """What a run of tests said: whether they noticed, and the first that did or the reason why not."""

    noticed: bool
    words: str


def run_tests(tree: Path, tests: Sequence[str], *, seconds: float = SECONDS) -> Verdict:
    """Run ``tests`` in ``tree``; noticed only where a test failed, not where none could be run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
    # A file changed and changed back within a second keeps its size and time: no compiled copy may outlive it.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    pytest = subprocess.Popen(
        command, cwd=tree, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = pytest.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(pytest.pid, signal.SIGKILL)  # with the processes that tests start
        pytest.communicate()
        return Verdict(True, f"no end within {seconds:g} s")
    if pytest.returncode == 0:
        return Verdict(False, "SURVIVED")
    failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if pytest.returncode == 1 and failed:
        return Verdict(True, failed[0].split()[1])
    lines = output.strip().splitlines() or ["no output"]
    return Verdict(False, f"NOT RUN: pytest's exit code {pytest.returncode}: {lines[-1]}")


def try_mutant(tree: Path, mutant: Mutant, *, seconds: float = SECONDS) -> Verdict:
    """Plant ``mutant`` in ``tree``, run its tests, and put the file back."""
    path = tree / mutant.path
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        return Verdict(
            False, f"NOT PLANTED: its old text is in {mutant.path} {source.count(mutant.old)} times, not once"
        )
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return run_tests(tree, mutant.tests.split(), seconds=seconds)
    finally:
        path.write_text(source, encoding="utf-8")


@contextmanager
def copies(count: int) -> Iterator[SimpleQueue[Path]]:
    """So many copies of the files that git knows or would add, each to be taken by one worker at a time."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for i in range(count):
            for name in names:
                target = Path(folder, str(i), name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
            free.put(Path(folder, str(i)))
        yield free


def choose(mutants: Sequence[Mutant], *, words: Sequence[str], sample: int, seed: str) -> list[Mutant]:
    """Those with one of ``words`` in name or file (all without words), or ``sample`` of them drawn by ``seed``."""
    named = [m for m in mutants if not words or any(word in f"{m.name} {m.path}" for word in words)]
    return random.Random(seed).sample(named, sample) if 0 < sample < len(named) else named


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every mutant was noticed, 1 when one wasn't, 2 when the tests fail without any."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in their name or file")
    parser.add_argument("--sample", type=int, default=0, help="so many, drawn by --seed (0: all)")
    parser.add_argument("--seed", default="", help="any text")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree in use at a time")
    options = parser.parse_args(arguments)
    chosen = choose(load_mutants(), words=options.words, sample=options.sample, seed=options.seed)
    if not chosen:
        parser.error(f"no mutant has {' or '.join(options.words)} in its name or file")
    with copies(options.jobs) as free, ThreadPoolExecutor(options.jobs) as workers:

        def attempt(mutant: Mutant) -> Verdict:
            tree = free.get()
            try:
                return try_mutant(tree, mutant)
            finally:
                free.put(tree)

        whole = free.get()
        sound = run_tests(whole, sorted({test for mutant in chosen for test in mutant.tests.split()}), seconds=1800)
        free.put(whole)
        if sound.words != "SURVIVED":
            print(f"the tests fail without any mutant: {sound.words}")
            return 2
        missed = []
        for mutant, verdict in zip(chosen, workers.map(attempt, chosen), strict=True):
            print(f"{mutant.path}: {mutant.name}: {'killed by ' if verdict.noticed else ''}{verdict.words}", flush=True)
            missed += [] if verdict.noticed else [mutant.name]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutants killed" + "".join(f"\n  not: {m}" for m in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
