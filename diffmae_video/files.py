"""Files that are written whole, and checked."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from diffmae_video.errors import UserError

_CHUNK_BYTES = 1 << 22


def sha256(file: BinaryIO, size: int) -> str:
    """SHA-256 of the next ``size`` bytes of ``file`` (or of what is left, if less), in hexadecimal."""
    digest = hashlib.sha256()
    left = size
    while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a whole file, in hexadecimal."""
    with path.open("rb") as file:
        return sha256(file, path.stat().st_size)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that a reader, or a run that follows a kill, sees the old text or the new."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")  # paths may be any bytes
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file that :func:`replace_text` wrote; None where there is no file.

    Raises:
        UserError: the file is damaged, as a power cut may leave it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is damaged, not JSON (line {error.lineno}); remove it, then run again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is damaged, not a JSON object; remove it, then run again")
    return found


def make_folder(folder: Path) -> None:
    """Make a folder for results, and try to write in it, before any work is done for them.

    Raises:
        OSError: neither can be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def reason_of(error: BaseException) -> str:
    """Why something failed, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
