"""A copy of the code at submission, which the job runs: edits while it is pending have no effect."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


def take_snapshot(folder: str | Path) -> Path:
    """Copy the package, and ``tools`` if it is a checkout, to ``folder/code-HASH``.

    The hash covers names and contents of the files, so the same code is stored once. ``git.json`` beside the code
    has the git state (commit, uncommitted changes).

    Returns:
        path of the snapshot, to be the first entry of ``PYTHONPATH``.
    """
    files = _source_files()
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    target = Path(folder).resolve() / f"code-{digest.hexdigest()[:12]}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Copy under a temporary name, then rename: an interrupted copy must not pass for a snapshot.
    partial = Path(tempfile.mkdtemp(prefix=".code-", dir=target.parent))
    for name, path in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, partial / name)
    (partial / "git.json").write_text(json.dumps(git_state(), indent=2) + "\n", encoding="utf-8")
    partial.chmod(0o755)
    try:
        os.rename(partial, target)
    except OSError:  # another submission has created it meanwhile
        shutil.rmtree(partial)
    return target


def git_state() -> dict[str, Any]:
    """Commit, changed files and their diff; all empty if the package isn't in a git checkout."""
    commit = _git("rev-parse", "HEAD").strip()
    changed = _git("status", "--porcelain").splitlines()
    return {"commit": commit, "changed": changed, "diff": _git("diff", "HEAD") if commit else ""}


def _source_files() -> dict[str, Path]:
    """{name inside the snapshot: file}, sorted by name."""
    root = PACKAGE.parent
    folders = [PACKAGE, *([root / "tools"] if (root / "tools" / "run_net.py").exists() else [])]
    found = [p for folder in folders for p in folder.rglob("*") if p.is_file() and p.suffix in (".py", ".typed")]
    return {str(path.relative_to(root)): path for path in sorted(found)}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:  # no git on this machine
        return ""
    return result.stdout if result.returncode == 0 else ""
