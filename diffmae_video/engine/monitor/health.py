"""Rails beside a training: steps that aren't finite, losses that jump, memory that doesn't suffice."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from diffmae_video.errors import UserError

SPIKE_WINDOW = 100
SPIKE_SIGMAS = 6.0


class NonFiniteCounter:
    """Counts the steps that were skipped because loss or gradient wasn't finite.

    Args:
        limit: so many in a row are too many.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.in_a_row = 0
        self.total = 0

    def add(self, *, finite: bool) -> None:
        """Count one step."""
        self.in_a_row = 0 if finite else self.in_a_row + 1
        self.total += not finite

    @property
    def too_many(self) -> bool:
        """Whether the run should stop."""
        return self.in_a_row >= self.limit

    def state(self) -> dict[str, int]:
        """Plain data for a checkpoint."""
        return {"in_a_row": self.in_a_row, "total": self.total}

    def load(self, state: dict[str, Any]) -> None:
        """Go on counting from a checkpoint's state."""
        self.in_a_row, self.total = state["in_a_row"], state["total"]


class LossSpikeDetector:
    """Says when a loss stands out of those before it, which often comes ahead of a divergence.

    A spike is a loss above the mean of the last ``SPIKE_WINDOW`` by more than ``SPIKE_SIGMAS`` of their standard
    deviations. It speaks once until the loss is back inside. It changes nothing in the training.

    Args:
        losses: those before a resume, oldest first.
    """

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self._window: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._sounding = False
        for loss in losses:
            self.check(loss)

    def check(self, loss: float) -> str:
        """Take in a loss; one line where it is a spike, else ""."""
        if not math.isfinite(loss):
            return ""  # the other rail's matter
        message = ""
        outside = False
        if len(self._window) == SPIKE_WINDOW:
            mean, deviation = statistics.fmean(self._window), statistics.pstdev(self._window)
            outside = loss > mean + SPIKE_SIGMAS * deviation
            if outside and not self._sounding:
                message = (
                    f"loss {loss:.4g} is far above its last {SPIKE_WINDOW} (mean {mean:.4g}, deviation "
                    f"{deviation:.2g}); if it stays there, lower lr or clip_grad and go back to an earlier checkpoint"
                )
        self._sounding = outside
        if not outside:  # a plateau of spikes must not become the new measure at once
            self._window.append(loss)
        return message


class OutOfMemory(UserError):
    """The device's memory doesn't suffice; one line with the levers."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a GPU's or the host's memory is exhausted."""
    # torch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def oom_hint(stage: str, *, device: torch.device) -> str:
    """One line for a stage that ran out of memory: what to change, the harmless first."""
    if stage == "test":
        return f"test: out of memory on {device}; lower test.batch_size (same result) or test.views"
    fraction = ", model.decoder.predict_fraction below 1 (decoder.kind=cross)" if stage == "pretrain" else ""
    return (
        f"{stage}: out of memory on {device}; same result: a larger {stage}.accumulation or "
        f"model.checkpointing=true; several GPUs: parallel=fsdp; else: a smaller {stage}.batch_size or "
        f"clips_per_video{fraction}"
    )
