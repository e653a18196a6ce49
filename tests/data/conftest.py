"""Small videos, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.helpers import make_video


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a video, or hand out the one already made with the same arguments."""
    folder = tmp_path_factory.mktemp("videos")
    made: dict[tuple[object, ...], Path] = {}

    def get(name: str, *encoding: str, size: str = "64x48", rate: str = "30", frames: int = 40) -> Path:
        key = (name, encoding, size, rate, frames)
        if key not in made:
            made[key] = make_video(folder / f"{len(made)}-{name}", *encoding, size=size, rate=rate, frames=frames)
        return made[key]

    return get
