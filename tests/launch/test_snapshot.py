"""The copy of the code that a job runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diffmae_video.launch import snapshot


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout of a small package with tools, data and runs beside it, as the one to be copied."""
    root = tmp_path / "checkout"
    for name in (
        "pack/__init__.py",
        "pack/sub/part.py",
        "pack/py.typed",
        "tools/run_net.py",
        "runs/big.pt",
        "data.bin",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    (root / "pack" / "__pycache__").mkdir()
    (root / "pack" / "__pycache__" / "part.pyc").write_text("compiled")
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "pack"], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    monkeypatch.setattr(snapshot, "PACKAGE", root / "pack")
    return root


def test_it_holds_the_code_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    copy = snapshot.take_snapshot(tmp_path / "run" / "slurm")
    files = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert files == {"pack/__init__.py", "pack/sub/part.py", "pack/py.typed", "tools/run_net.py", "git.json"}
    assert copy.parent == tmp_path / "run" / "slurm"
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]  # no temporary folder is left


def test_the_git_state_names_commit_and_changes(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pack" / "sub" / "part.py").write_text("edited = True\n")
    state = json.loads((snapshot.take_snapshot(tmp_path) / "git.json").read_text())
    head = subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()
    assert state["commit"] == head
    assert " M pack/sub/part.py" in state["changed"]
    assert "+edited = True" in state["diff"]


def test_the_same_code_is_kept_once_and_edits_change_nothing(checkout: Path, tmp_path: Path) -> None:
    first = snapshot.take_snapshot(tmp_path)
    assert snapshot.take_snapshot(tmp_path) == first
    (checkout / "pack" / "__init__.py").write_text("edited = True\n")
    second = snapshot.take_snapshot(tmp_path)
    assert second != first
    assert (first / "pack" / "__init__.py").read_text() == "# pack/__init__.py\n"


def test_without_git(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / ".git")
    state = json.loads((snapshot.take_snapshot(tmp_path / "x") / "git.json").read_text())
    assert state == {"commit": "", "changed": [], "diff": ""}


def test_the_package_can_be_imported_from_it(tmp_path: Path) -> None:
    copy = snapshot.take_snapshot(tmp_path)
    command = [sys.executable, "-c", "import diffmae_video.launch.job_end as e; print(e.__file__)"]
    printed = subprocess.check_output(command, cwd=copy, env={"PYTHONPATH": str(copy)}, text=True)
    assert printed.strip() == f"{copy}/diffmae_video/launch/job_end.py"
