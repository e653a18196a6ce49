"""What training changes and a checkpoint holds: weights, optimiser, moving average, gradient scale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from diffmae_video.engine.distributed.context import (
    full_state,
    like,
    load_full_state,
    load_sharded_state,
    sharded_state,
    whole,
)


class TrainState:
    """Model and optimiser with what moves beside them.

    Args:
        model: the module the loop calls, wrapped for distribution or not.
        optimizer: over the model's parameters.
        ema_decay: decay a step of the moving average of the weights once it has warmed up, see ``average_decay``; 0
            keeps none.
        scale_gradients: scale the loss against float16's underflow.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        ema_decay: float = 0.0,
        scale_gradients: bool = False,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.ema_decay = ema_decay
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(self.parameters[0].device.type, enabled=scale_gradients)
        self.names = [name for group in optimizer.param_groups for name in group["names"]]
        self.average = [p.detach().clone() for p in self.parameters] if ema_decay else []
        self.steps_taken = 0  # of the optimiser: those that were skipped don't count

    def clip(self, max_norm: float) -> float:
        """Clip the gradient to ``max_norm`` (0 leaves it) and return its norm before."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, max_norm or float("inf"))
        return float(whole(norm))

    def apply(self, *, finite: bool) -> None:
        """Move the weights, or leave everything as it was where the step isn't ``finite``."""
        if finite:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self._move_average()
            self.steps_taken += 1
        elif self.scaler.is_enabled():
            # Not update(): under FSDP2 it would back off only on the ranks whose own shards overflowed.
            self.scaler.update(self.scaler.get_scale() * self.scaler.get_backoff_factor())
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and data, the same for one process, DDP and FSDP2."""
        weights, moments = full_state(self.model, self.optimizer)
        averages = dict(zip(self.names, map(whole, self.average), strict=True)) if self.average else {}
        return {"model": weights, "optimizer": moments, "ema": averages, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        load_full_state(self.model, self.optimizer, saved["model"], saved["optimizer"])
        for name, mean in zip(self.names, self.average, strict=False):
            mean.copy_(like(saved["ema"][name], mean))
        self.scaler.load_state_dict(saved["scaler"])
        self.steps_taken = self._optimizer_steps()

    def shards(self) -> dict[str, Any]:
        """Like :meth:`state_dict`, but each rank has its own shards, where they are."""
        weights, moments = sharded_state(self.model, self.optimizer)
        averages = dict(zip(self.names, self.average, strict=True)) if self.average else {}
        return {"model": weights, "optimizer": moments, "ema": averages, "scaler": self.scaler.state_dict()}

    def load_shards(self, saved: dict[str, Any]) -> None:
        """Take over what was read into the tensors of :meth:`shards`; the averages are in place already."""
        load_sharded_state(self.model, self.optimizer, saved["model"], saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.steps_taken = self._optimizer_steps()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its moving averages as weights, within; the weights come back bit for bit after."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        assert self.average
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # what a forward pass without gradients has left gathered would hide the change
        for weight, mean in zip(self.parameters, self.average, strict=True):
            kept = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(kept)

    @torch.no_grad()
    def _move_average(self) -> None:
        if self.ema_decay:
            decay = average_decay(self.steps_taken, self.ema_decay)
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def _optimizer_steps(self) -> int:
        """Steps that AdamW has counted, which checkpoints of every form and age hold."""
        return max((int(whole(state["step"])) for state in self.optimizer.state.values() if "step" in state), default=0)


def average_decay(steps_before: int, decay: float) -> float:
    """Decay of the moving average at a step that ``steps_before`` others came before: min(decay, (1 + n) / (10 + n)).

    So the average looks back over about a tenth of a short run, not at its beginning. The first step, n = 0, has 0: no
    trace of the initialisation is left. The warm-up is that of diffusers' EMAModel.
    """
    return min(decay, (1 + steps_before) / (10 + steps_before)) if steps_before else 0.0
