"""The record of a finished stage, result.json: its presence says that the stage is finished.

A training stage has one. A test is a result of its weights, videos and views: each has a folder of its own below the
test stage's, and ``test/result.json`` is the one that the run last came to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffmae_video.files import read_json, replace_text

NAME = "result.json"


def read_result(folder: Path) -> dict[str, Any] | None:
    """The record in a folder; None where there is none."""
    return read_json(folder / NAME)


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the record of a stage whole.

    Raises:
        ValueError: a number in it isn't finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / NAME, json.dumps(result, indent=2, allow_nan=False) + "\n")


def test_folder(stage_folder: Path, header: Mapping[str, Any], *, views: int, crops: int) -> Path:
    """Where the test that ``header`` describes has its result: ``test/5x3-1a2b3c4d``."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
    return stage_folder / f"{views}x{crops}-{digest[:8]}"


test_folder.__test__ = False  # type: ignore[attr-defined]


def show_test(stage_folder: Path, result: Mapping[str, Any]) -> str:
    """Make ``result`` the one in the test stage's own folder; a line where that replaces one that nothing else keeps.

    Results of version 0.1.0 don't say which videos and weights they are of: such a one is put aside.
    """
    before = read_result(stage_folder)
    line = ""
    if before is not None and "weights_sha256" not in before:
        aside = stage_folder / "result-unnamed.json"
        (stage_folder / NAME).replace(aside)
        line = f"{aside}: is the result found here, which doesn't say which videos and weights it is of"
    if before != result:
        write_result(stage_folder, result)
    return line


def describe_test(result: Mapping[str, Any]) -> list[str]:
    """A line for each set of weights that a test scored."""
    # Imported here: what launches jobs reads results without loading torch.
    from diffmae_video.engine.train.evaluate import Scores

    return [f"{name}: {Scores(**result[name])}" for name in ("model", "ema") if name in result]
