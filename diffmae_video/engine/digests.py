"""Digests of what a stage reads: lists by what they say, weights by their numbers, wherever the files lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from diffmae_video.data import VideoList

# Of a VideoList: where the files lie now, what is shown of it, and what follows from its classes and the config.
_NOT_SAID = {"root", "notes", "flip_allowed", "flip_labels"}
_CHUNK_ELEMENTS = 1 << 24


def list_digest(videos: VideoList) -> str:
    """SHA-256 of what a list says: names below the root, labels, segments, classes, in the list's order.

    The same wherever list and root lie, and in whatever form the list is written.
    """
    digest = hashlib.sha256()
    for spec in fields(videos):
        value = getattr(videos, spec.name)
        if spec.name in _NOT_SAID or value is None:  # a kind of entry that no video has
            continue
        data = repr(value).encode() if isinstance(value, tuple) else bytes(value)
        digest.update(f"{spec.name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def weights_digest(saved: Mapping[str, Any]) -> str:
    """SHA-256 of a checkpoint's weights and their moving averages, by name; the rest of the file doesn't count."""
    digest = hashlib.sha256()
    for kind in ("model", "ema"):
        for name, tensor in sorted((saved.get(kind) or {}).items()):
            digest.update(f"{kind} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            for part in tensor.contiguous().flatten().split(_CHUNK_ELEMENTS):
                digest.update(part.view(torch.uint8).numpy())
    return digest.hexdigest()
