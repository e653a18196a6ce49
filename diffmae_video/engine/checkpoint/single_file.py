"""Checkpoints that survive: written whole or not at all, and verified by checksum when they are read.

A checkpoint file is what ``torch.save`` writes, followed by a trailer with the SHA-256 of those bytes (a
zip archive may be followed by other bytes, so plain ``torch.load`` opens the file too). The state inside
is tensors and JSON-able data only, so that the safe loader (``weights_only=True``) always suffices and
nothing in a checkpoint can ever be executed.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from diffmae_video.engine.checkpoint.step_folder import CheckpointError, StepFolder
from diffmae_video.files import reason_of, sha256, sync_folder

LOG = logging.getLogger(__name__)

_MARK = b"\nDIFFMAE-SHA256:"
_TRAILER_BYTES = len(_MARK) + 64


def save_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path`` so that the file exists whole or not at all.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are renamed over
    ``path``; a crash at any instant leaves the old file or the new one.

    Args:
        path: the file to write; its folder is made.
        state: tensors, numbers, strings, booleans and None in dicts, lists and tuples.

    Raises:
        CheckpointError: the disk is full or the folder can't be written. The temporary file is gone
            and every other file is as it was.
        TypeError: ``state`` holds something that the safe loader would refuse.
    """
    path = Path(path)
    _check_plain(state, "state")
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(temporary, lambda file: torch.save(dict(state), file))
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(temporary)
        raise CheckpointError(
            f"can't write {path}: {reason_of(error)}; older checkpoints are untouched: {_remedy(error)}, "
            "then run the same command again"
        ) from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, after verifying its checksum.

    Raises:
        CheckpointError: the file is missing, damaged, not one of ours, or holds more than plain data.
    """
    verify_checkpoint(path)
    return _load(Path(path), mmap=False)


def peek_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint with its tensors left on the disk until they are used: names and shapes cost no reading of weights.

    Raises:
        CheckpointError: as :func:`load_checkpoint`, except that damage of the weights isn't noticed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TRAILER_BYTES))
            trailer = file.read()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {reason_of(error)}; check the path") from error
    _check_ours(path, trailer)
    return _load(path, mmap=True)


def _load(path: Path, *, mmap: bool) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is refused by the safe loader ({reason_of(error)}); use a checkpoint that this package wrote"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a dict; use a checkpoint of ours")
    return state


def verify_checkpoint(path: str | Path) -> None:
    """Compare a file's bytes with the SHA-256 in its trailer.

    Raises:
        CheckpointError: the file can't be read, has no trailer, or differs from what was written.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = sha256(file, size - _TRAILER_BYTES).encode()
            trailer = file.read()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {reason_of(error)}; check the path") from error
    _check_ours(path, trailer)
    if trailer != _MARK + digest:
        raise CheckpointError(f"{path} is damaged: its checksum doesn't match its bytes; use an older checkpoint")


def _check_ours(path: Path, trailer: bytes) -> None:
    if not trailer.startswith(_MARK):
        raise CheckpointError(
            f"{path} has no checksum at its end: cut short, or written by another program (it {_looks_like(path)}); "
            "give a weights.pt or a checkpoint that a run of this package wrote"
        )


def _looks_like(path: Path) -> str:
    """What a file that isn't ours seems to be, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "is an empty file"
    if head.startswith(b"PK\x03\x04"):
        return "looks like a file of torch.save"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "looks like a pickle, as torch.save wrote before 1.6"
    if head[8:9] == b"{":
        return "looks like safetensors"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, which git lfs pull replaces by the file"
    if head.lstrip()[:1] == b"<":
        return "looks like a web page"
    return "is of no kind that is known here"


class CheckpointFolder(StepFolder):
    """The checkpoints of one stage: ``step-00000120.pt``, and ``best.pt`` beside them.

    Only one process may write (rank 0); every rank may read.

    ``best.pt`` never counts and is never pruned.
    """

    suffix = ".pt"

    @property
    def best_path(self) -> Path:
        """Where the best state is kept; the file may not exist yet."""
        return self.folder / "best.pt"

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write ``state`` as the checkpoint of ``step``, then delete what is older than the last few.

        Raises:
            CheckpointError: see ``save_checkpoint``.
        """
        self._remove_leftovers()
        path = self.path_of(step)
        save_checkpoint(path, state)
        self._prune(path)
        return path

    def save_best(self, state: Mapping[str, Any]) -> Path:
        """Replace ``best.pt``.

        Raises:
            CheckpointError: see ``save_checkpoint``.
        """
        save_checkpoint(self.best_path, state)
        return self.best_path

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint that verifies, as (step, state); None where there is none at all.

        Raises:
            CheckpointError: there are checkpoints, and every one of them is damaged. Starting over in
                silence would throw the run away.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, load_checkpoint(self.path_of(step))
            except CheckpointError as error:
                LOG.warning("passed over: %s", error)
        if steps:
            raise self.none_readable(len(steps))
        return None

    def _prune(self, written: Path) -> None:
        """Delete old step files, but none before the one just written has been read back whole."""
        surplus = [path for path in self.surplus() if path != written]
        if not surplus:
            return
        try:
            verify_checkpoint(written)
        except CheckpointError as error:
            LOG.warning("older checkpoints are kept: %s", error)
            return
        for path in surplus:
            path.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Delete temporary files of a run that was killed while it wrote."""
        if self.folder.is_dir():
            for leftover in self.folder.glob("*.tmp"):
                _remove_quietly(leftover)


class _HashingFile:
    """A write-only file that hashes what passes: the checksum is of the bytes meant, not of those on disk.

    ``error`` keeps the first OSError: torch's zip writer replaces it by one about positions in the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write_synced(path: Path, write: Callable[[Any], None]) -> None:
    with path.open("wb") as file:
        hashing = _HashingFile(file)
        try:
            write(hashing)
        except RuntimeError:
            if hashing.error is None:
                raise
            raise hashing.error from None
        file.write(_MARK + hashing.digest.hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())


def _check_plain(value: object, where: str) -> None:
    if value is None or isinstance(value, (bool, int, float, str)):
        return
    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise TypeError(f"{where} is a {type(value).__name__}; gather it to a plain tensor first")
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):  # type: ignore[arg-type]
            _check_plain(item, f"{where}[{index}]")
    else:
        raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint holds tensors and JSON-able data only")


def _remedy(error: BaseException) -> str:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "free some space" if full else "make the folder writable"


def _remove_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        LOG.warning("couldn't remove %s: %s", path, reason_of(error))
