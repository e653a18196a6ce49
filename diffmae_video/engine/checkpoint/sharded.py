"""Checkpoints of models that no rank can hold whole: each rank writes its shards.

A checkpoint is a folder ``step-00000120`` of torch.distributed.checkpoint's files, with ``manifest.json``
beside them: the plain data, where each tensor belongs in it, and the SHA-256 of every file. The folder is
written under another name and renamed when all ranks are through, so it exists whole or not at all. It can
be read back on any number of ranks.

torch.distributed.checkpoint keeps its index as a pickle, and would read non-tensors as pickles as well.
Here only tensors are given to it, and the index is read by an unpickler that knows its classes and no others.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from diffmae_video.engine.checkpoint.step_folder import CheckpointError, StepFolder
from diffmae_video.engine.distributed.context import DistributedContext, any_rank, barrier, gather_objects
from diffmae_video.files import reason_of, sha256_of, sync_folder

LOG = logging.getLogger(__name__)

_TENSOR = "__tensor__"  # in the manifest: {"__tensor__": "model/blocks.0.weight"}


class ShardedFolder(StepFolder):
    """The sharded checkpoints of one stage; every rank calls every method.

    Args:
        folder: made at the first save; the ranks must share it.
        world: the ranks.
        keep_last: how many checkpoints to keep.

    Raises:
        UserError: ``keep_last`` is below 1.
    """

    def __init__(self, folder: str | Path, *, world: DistributedContext, keep_last: int = 2) -> None:
        super().__init__(folder, keep_last=keep_last)
        self.world = world

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write ``state``: tensors, shared out over the ranks or the same on each, and JSON-able data.

        Raises:
            CheckpointError: on every rank alike, if any of them couldn't write; older ones are untouched.
        """
        tensors: dict[str, torch.Tensor] = {}
        plain = _take_tensors(state, "", tensors)
        path = self.path_of(step)
        temporary = path.with_name(path.name + ".tmp")
        reason = self._write(temporary, tensors, plain)
        failed = [reason for reason in gather_objects(self.world, reason) if reason]
        if not failed and self.world.is_main:
            shutil.rmtree(path, ignore_errors=True)  # the same step, written by a run before
            os.replace(temporary, path)
            sync_folder(self.folder)
            self._prune()
        if failed:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(
                f"can't write {path}: {failed[0]}; older checkpoints are untouched: free some space or make the "
                "folder writable, then run the same command again"
            )
        barrier(self.world)
        return path

    def latest(self, template: Callable[[], Mapping[str, Any]]) -> tuple[int, dict[str, Any]] | None:
        """Load the newest checkpoint that verifies into the tensors of ``template()``, in place.

        Args:
            template: gives a state as ``save`` takes it, of the same model, shared out over these ranks.
                Called only when there is something to load: to have an optimiser state to fill, torch
                takes an empty optimiser step, which a fresh run must not have behind it.

        Returns:
            (step, state with the loaded tensors), or None where there is no checkpoint.

        Raises:
            CheckpointError: every checkpoint is damaged, or the newest is of another model.
        """
        steps = gather_objects(self.world, self.steps())[0]
        for step in reversed(steps):
            path = self.path_of(step)
            damage = [text for text in gather_objects(self.world, self._damage(path)) if text]
            if not damage:
                return step, self._read(path, template())
            if self.world.is_main:
                LOG.warning("passed over: %s is damaged: %s", path, damage[0])
        if steps:
            raise self.none_readable(len(steps))
        return None

    def _write(self, temporary: Path, tensors: dict[str, torch.Tensor], plain: Any) -> str:
        """Write everything under the temporary name; the reason of a failure, "" if there is none."""
        reason = ""
        try:
            if self.world.is_main:
                for leftover in self.folder.glob("step-*.tmp"):
                    shutil.rmtree(leftover)
                temporary.mkdir(parents=True)
        except OSError as error:
            reason = reason_of(error)
        if any_rank(self.world, reason != ""):
            return reason
        try:
            with _quiet_without_ranks():
                dcp.save(tensors, storage_writer=dcp.FileSystemWriter(temporary))
            own = temporary.glob(f"__{self.world.rank}_*")
            hashes = gather_objects(self.world, {file.name: sha256_of(file) for file in own})
            if self.world.is_main:
                files = {name: digest for part in hashes for name, digest in part.items()}
                files[".metadata"] = sha256_of(temporary / ".metadata")
                _write_json(temporary / "manifest.json", {"files": files, "state": plain})
                sync_folder(temporary)
        except CheckpointException as error:  # the same on every rank
            return _first_cause(error)
        except OSError as error:
            return reason_of(error)
        return ""

    def _damage(self, path: Path) -> str:
        """What is wrong with this rank's share of a checkpoint's files; "" if nothing is."""
        try:
            files = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["files"]
            for name in sorted(files)[self.world.rank :: self.world.size]:
                if sha256_of(path / name) != files[name]:
                    return f"{name} doesn't match its checksum"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return reason_of(error)
        return ""

    def _read(self, path: Path, template: Mapping[str, Any]) -> dict[str, Any]:
        tensors: dict[str, torch.Tensor] = {}
        _take_tensors(template, "", tensors)
        try:
            with _quiet_without_ranks():
                dcp.load(tensors, storage_reader=_SafeReader(path), planner=_TensorsOnly())
        except CheckpointException as error:
            raise CheckpointError(
                f"{path} doesn't fit this model ({_first_cause(error)}); give another output_dir, or the config it was "
                "written with"
            ) from error
        plain = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["state"]
        return _put_tensors(plain, tensors)

    def _prune(self) -> None:
        for path in self.surplus():
            shutil.rmtree(path)


class _SafeReader(dcp.FileSystemReader):
    """Reads the index with an unpickler that can make nothing but the index."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as file:
            metadata = _IndexUnpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError("the index is of another kind")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    _ALLOWED = frozenset(
        {
            ("torch.distributed.checkpoint.metadata", "BytesStorageMetadata"),
            ("torch.distributed.checkpoint.metadata", "ChunkStorageMetadata"),
            ("torch.distributed.checkpoint.metadata", "Metadata"),
            ("torch.distributed.checkpoint.metadata", "MetadataIndex"),
            ("torch.distributed.checkpoint.metadata", "StorageMeta"),
            ("torch.distributed.checkpoint.metadata", "TensorProperties"),
            ("torch.distributed.checkpoint.metadata", "TensorStorageMetadata"),
            ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("torch.serialization", "_get_layout"),
            ("pathlib", "PosixPath"),
            ("torch", "Size"),
            *(("torch", name) for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "bool")),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if module == "pathlib._local":  # where Python 3.13, and no other, says that paths are
            module = "pathlib"
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"the index asks for {module}.{name}, which it has no use for")
        return super().find_class(module, name)


class _TensorsOnly(DefaultLoadPlanner):
    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> NoReturn:
        raise pickle.UnpicklingError(f"{read_item.dest_index.fqn} is no tensor")


def _take_tensors(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move every tensor of nested data into ``tensors``, leaving its name in its place."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        return {key: _take_tensors(item, f"{path}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}; keep to tensors and JSON-able data")


def _put_tensors(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _put_tensors(item, tensors) for key, item in value.items()}
    return [_put_tensors(item, tensors) for item in value] if isinstance(value, list) else value


def _write_json(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())


def _first_cause(error: CheckpointException) -> str:
    """The first rank's reason, without torch's frame around it."""
    return reason_of(next(iter(error.failures.values()))[0])


@contextlib.contextmanager
def _quiet_without_ranks() -> Any:
    """One process is a use like any other here; torch.distributed.checkpoint warns of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.distributed is .*")
        yield
