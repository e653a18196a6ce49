"""Seeds as functions of names: every draw of a run is keyed, never taken from saved generator state.

A sample's clips, crops, mask, noise level and noise are drawn from generators keyed by
``(seed, purpose, epoch, position, clip)``. A run can therefore be resumed mid-epoch, on another number
of ranks or workers, and see exactly the same samples.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """Hash a key to a seed in [0, 2**63).

    Blake2b rather than ``hash``: stable over processes, platforms and Python versions, and keys that
    differ in one unit give unrelated seeds.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on ``device``, seeded by ``key``."""
    rng = torch.Generator(device=device)
    rng.manual_seed(derive_seed(*key))
    return rng
