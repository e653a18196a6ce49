"""One process or many: who we are, agreement between ranks, sums over ranks, wrapped models.

Launchers say in the environment which rank a process is, see :mod:`~diffmae_video.engine.distributed.env`; where they
don't, there is one process and no process group.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from diffmae_video.engine.distributed.device import agree_on_device, choose_device
from diffmae_video.engine.distributed.env import read_rank_env
from diffmae_video.engine.distributed.heartbeat import DEAD_SECONDS, Heartbeat

# A rank that is gone is noticed by the heartbeat; this bounds what the heartbeat can't see.
_COLLECTIVE_TIMEOUT = timedelta(minutes=30)
# DDP's word for sending buffers around before each forward pass; newer torch warns of the older one.
_NEWER, _OLDER = "forward_sync_buffers", "broadcast_buffers"
_SYNC_BUFFERS = _NEWER if _NEWER in inspect.signature(DistributedDataParallel).parameters else _OLDER


@dataclass(frozen=True)
class DistributedContext:
    """This process's place among all: ``rank`` of ``size``, and the device it computes on."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    heartbeat: Heartbeat | None = field(default=None, repr=False, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes files."""
        return self.rank == 0


def init_distributed(device: str = "auto", *, dead_seconds: float = DEAD_SECONDS) -> DistributedContext:
    """Join the other ranks, if there are any.

    Tensors on the CPU travel by gloo and tensors on a GPU by nccl, so that the ranks can agree on a flag
    without waiting for the GPU. A heartbeat ends this process when another rank has died.

    Args:
        device: "cpu", "cuda", "cuda:N" or "auto" (a GPU where there is one).
        dead_seconds: silence after which another rank counts as dead.

    Raises:
        DistributedError: there is no such device, or the launcher's variables are incomplete.
    """
    rank, size, local_rank = read_rank_env(os.environ)
    if size == 1:
        chosen = choose_device(device, local_rank=local_rank)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        return DistributedContext(rank=rank, size=size, local_rank=local_rank, device=chosen)
    store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=_COLLECTIVE_TIMEOUT))
    chosen = agree_on_device(store, device, rank=rank, size=size, local_rank=local_rank)
    backend = "gloo"
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        backend = "cpu:gloo,cuda:nccl"
    store = dist.PrefixStore("default_pg", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_COLLECTIVE_TIMEOUT)
    heartbeat = Heartbeat(rank=rank, size=size, dead_seconds=dead_seconds)
    heartbeat.start()
    return DistributedContext(rank=rank, size=size, local_rank=local_rank, device=chosen, heartbeat=heartbeat)


def shutdown_distributed(world: DistributedContext) -> None:
    """Leave the group after a run that went well; every rank must come here."""
    if world.heartbeat is None:
        return
    barrier(world)  # all have finished their work
    world.heartbeat.stop()
    barrier(world)  # all have stopped watching, so nobody takes an exit for a death
    dist.destroy_process_group()


def abort_distributed(world: DistributedContext, error: BaseException) -> None:
    """Tell the other ranks that this one ends with ``error``, so that none of them waits for it.

    They end with the same exit code: 2 for what a user can put right (UserError), 1 for the rest.
    """
    if world.heartbeat is not None:
        world.heartbeat.fail(error)


def any_rank(world: DistributedContext, flag: bool) -> bool:
    """Whether ``flag`` is true on any rank; every rank gets the same answer."""
    if world.size == 1:
        return flag
    flags = torch.tensor([flag], dtype=torch.int32)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags.item())


def sum_over_ranks(world: DistributedContext, tensor: torch.Tensor) -> torch.Tensor:
    """The sum of every rank's ``tensor``, on every rank; the argument stays as it is."""
    if world.size == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def gather_objects(world: DistributedContext, item: Any) -> list[Any]:
    """Every rank's ``item``, in the order of ranks, on every rank."""
    if world.size == 1:
        return [item]
    items: list[Any] = [None] * world.size
    dist.all_gather_object(items, item)
    return items


def barrier(world: DistributedContext) -> None:
    """Wait until every rank is here; no GPU is involved."""
    any_rank(world, False)


def parallelize(model: nn.Module, world: DistributedContext, *, strategy: str = "ddp") -> nn.Module:
    """Wrap ``model``, already on its device, for training over all ranks.

    Args:
        model: every ``nn.ModuleList`` in it is taken for a stack of blocks, the units that FSDP2 gathers.
        world: with one rank the model comes back as it is.
        strategy: "ddp" keeps all weights on each rank; "fsdp" shares weights, gradients and moments out
            (``fully_shard``), for models that don't fit.

    Returns:
        a module with the same ``forward``; parameters stay float32 in both cases, so that the two give
        the same steps up to the order of sums.
    """
    assert strategy in ("ddp", "fsdp"), strategy
    if world.size == 1:
        return model
    if strategy == "ddp":
        device_ids = [world.device.index] if world.device.type == "cuda" else None
        buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
        return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True, **buffers)
    mesh = init_device_mesh(world.device.type, (world.size,))
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            for block in module:
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def set_gradient_sync(model: nn.Module, sync: bool) -> None:
    """Whether the next backward pass exchanges gradients: False for all micro-batches but the last."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = sync
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(sync)


def needs_all_ranks(model: nn.Module) -> bool:
    """Whether a forward pass is collective, even without gradients: FSDP2 gathers the weights in it."""
    return isinstance(model, FSDPModule)


def full_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and optimiser state, whole and keyed by parameter name, on the CPU.

    The same for a plain model, DDP and FSDP2, so a run can go on under another of them. Collective: every
    rank calls it, and under FSDP2 only rank 0 gets something.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_state_dict(model, optimizer, options=options)


def load_full_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Any],
    moments: dict[str, Any],
) -> None:
    """Take over what :func:`full_state` gave; every rank calls it with the whole state."""
    set_state_dict(
        model,
        optimizer,
        model_state_dict=weights,
        optim_state_dict=moments,
        options=StateDictOptions(full_state_dict=True),
    )


def sharded_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Like :func:`full_state`, but each rank keeps its own shards, where they are."""
    return get_state_dict(model, optimizer)


def load_sharded_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Any],
    moments: dict[str, Any],
) -> None:
    """Take over what :func:`sharded_state` gave, on the same number of ranks or after a resharding read."""
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that FSDP2 may have shared out, in one piece; collective for such a one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A whole ``value`` shared out over the ranks as ``target`` is."""
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
