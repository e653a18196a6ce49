"""AdamW over parameter groups: no decay on vectors, and a learning rate that falls layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import torch
from torch import nn


def param_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    no_decay: Set[str] = frozenset(),
    layer_of: Callable[[str], int] | None = None,
    num_layers: int = 0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Group the trainable parameters by weight decay and by learning-rate scale.

    Vectors (biases, norms) and the names in ``no_decay`` get no weight decay. With ``layer_of``, a parameter
    of layer i has its rate scaled by ``layer_decay ** (num_layers - i)`` (BEiT, arXiv 2106.08254):
    layer 0 is the embedding, ``num_layers`` the head, whose rate is the full one.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim <= 1 or name in no_decay else weight_decay
        scale = layer_decay ** (num_layers - layer_of(name)) if layer_of else 1.0
        group = groups.setdefault((decay, scale), {"params": [], "names": [], "weight_decay": decay, "lr_scale": scale})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def build_optimizer(groups: list[dict[str, Any]], *, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW with torch's fused kernel, which CPUs and GPUs have."""
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group ``lr`` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
