"""The frame around a training loop: resume, batches, gradient steps, guard rails, checkpoints, metrics.

A loop reads top to bottom and says what is particular to its stage::

    for batch in training.batches(loader):
        for part in training.parts(batch):
            training.backward(loss_of(part))
        training.update()
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffmae_video.data import train_loader
from diffmae_video.data.loader import device_prefetch
from diffmae_video.engine.checkpoint.manager import CheckpointManager
from diffmae_video.engine.compatibility import check_same_run
from diffmae_video.engine.distributed.context import DistributedContext, any_rank, set_gradient_sync, sum_over_ranks
from diffmae_video.engine.monitor.decode_failures import DecodeFailures
from diffmae_video.engine.monitor.health import SPIKE_WINDOW, LossSpikeDetector, NonFiniteCounter
from diffmae_video.engine.monitor.metrics import MetricsLog, Progress, details_of, process_seconds
from diffmae_video.engine.monitor.profiling import Speed, trace_steps
from diffmae_video.engine.monitor.status import Status
from diffmae_video.engine.preemption import StopFlag
from diffmae_video.engine.train.hparams import TrainHParams
from diffmae_video.engine.train.optimizer import set_lr
from diffmae_video.engine.train.train_state import TrainState
from diffmae_video.errors import Interrupted, TrainingStopped
from diffmae_video.seeding import derive_seed


class Trainer:
    """One stage's training under way.

    Args:
        state: model, optimiser, moving average and scaler: all that a checkpoint must hold.
        header: plain data that names the stage, its identity and its classes; stored in each checkpoint.
        folder: the stage's folder.
        keeper: the stage's checkpoints; training goes on from the latest.
        dtype: autocast's type; ``torch.float32`` switches it off.
        stop: set by a signal; acted on between steps.
        status: told of each step.
        speed: what the utilisation of the device is reckoned from.
        profile_steps: trace so many steps into ``folder/profile``.
        wandb: Weights & Biases project; "" for none.
    """

    def __init__(
        self,
        state: TrainState,
        *,
        plan: TrainHParams,
        world: DistributedContext,
        folder: Path,
        header: dict[str, Any],
        manager: CheckpointManager,
        dtype: torch.dtype,
        stop: StopFlag,
        status: Status,
        speed: Speed,
        profile_steps: int = 0,
        wandb: str = "",
    ) -> None:
        self.state = state
        self.plan = plan
        self.world = world
        self.header = header
        self.manager = manager
        self.dtype = dtype
        self.stop = stop
        self.status = status
        self.speed = speed
        self.folder, self.profile_steps = folder, profile_steps
        self.step = 0
        self.bad_steps = NonFiniteCounter(limit=plan.max_bad_steps)
        self.best_score = -1.0
        self.validation: dict[str, Any] = {}  # scores of the "last" one and of the "best"
        self.last_loss = float("nan")
        self.resumed_from: Path | None = None
        self.broken = DecodeFailures(folder, world=world, limit=plan.max_broken)
        self._resume()
        self.metrics = MetricsLog(folder, world=world, resume_step=self.step, wandb=wandb)
        self.spikes = LossSpikeDetector(self.metrics.last("loss", SPIKE_WINDOW))
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0
        self._sums: dict[str, torch.Tensor] = {}

    @property
    def samples_seen(self) -> int:
        """Videos that the steps so far have used, over all ranks."""
        return self.step * self.plan.batch_size

    def batches(self, dataset: Any) -> Iterator[dict[str, Any]]:
        """Yield the batch of each step left, on the device; save, log and stop between steps.

        Raises:
            Interrupted: a signal came; the state is saved.
            TrainingStopped: too many non-finite steps in a row, or too many unreadable videos.
        """
        plan, world = self.plan, self.world
        loader = train_loader(
            dataset,
            batch_size=plan.batch_size,
            rank=world.rank,
            world_size=world.size,
            start_step=self.step,
            num_steps=plan.num_steps,
            num_workers=plan.num_workers,
            pin_memory=world.device.type == "cuda",
        )
        progress = Progress(plan.stage, total=plan.num_steps, initial=self.step, world=world)
        traced = self.profile_steps if world.is_main else 0
        tracing = trace_steps(self.folder / "profile", steps=traced, device=world.device)
        with contextlib.closing(progress), tracing as trace:
            self._step_began = self._asked_for_data = time.perf_counter()
            first = self.step + 1
            for batch in device_prefetch(loader, world.device):
                self._data_seconds = time.perf_counter() - self._asked_for_data
                self._seed_step()
                set_lr(self.state.optimizer, plan.lr(self.step))
                for path, reason in self.broken.add(batch["broken"], self.step):
                    progress.note(f"{plan.stage}, step {self.step}: can't read {path}: {reason}")
                for kind, line in batch["notes"].items():
                    progress.note_once(kind, line)
                yield batch
                self.metrics.write(self.step - 1, self._line)
                progress.update(self.step, self._summary, self._details)
                if self.step == first:
                    progress.note(f"{plan.stage}: step {first} done {process_seconds():.1f} s after the command")
                if warning := self.spikes.check(self.last_loss):
                    progress.note(f"{plan.stage}, step {self.step}: {warning}")
                self._between_steps()
                trace.step()

    def parts(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Split a rank's batch into its micro-batches; gradients are exchanged on the last only."""
        count, size = self.plan.accumulation, len(batch["label"]) // self.plan.accumulation
        for i in range(count):
            set_gradient_sync(self.state.model, i == count - 1)
            yield {name: batch[name][i * size : (i + 1) * size] for name in ("clips", "label", "position", "index")}

    def autocast(self) -> torch.autocast:
        """Mixed precision for the forward pass."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.world.device.type, dtype=self.dtype, enabled=enabled)

    def backward(self, loss: torch.Tensor, **sums: torch.Tensor) -> None:
        """Accumulate the gradient of a micro-batch's mean loss; ``sums`` are added up for the metrics."""
        share = loss / self.plan.accumulation
        self.state.scaler.scale(share).backward()
        for name, value in {"loss": share, **sums}.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def update(self, describe: Callable[[dict[str, torch.Tensor]], dict[str, Any]] | None = None) -> None:
        """Take the optimiser's step, or skip it on all ranks alike when loss or gradient isn't finite.

        The step's metrics are written once the loop comes for the next batch.

        ``describe`` turns the sums over all ranks into further entries of the metrics line.
        """
        sums = {name: sum_over_ranks(self.world, value) for name, value in self._sums.items()}
        self._sums = {}
        loss = float(sums.pop("loss")) / self.world.size
        norm = self.state.clip(self.plan.clip_grad)
        lr = self.plan.lr(self.step)
        # Both numbers are the same on every rank, so all ranks decide alike without another exchange.
        finite = bool(np.isfinite(loss) and np.isfinite(norm))
        self.state.apply(finite=finite)
        self.bad_steps.add(finite=finite)
        self._log(loss, lr, norm, describe(sums) if describe else {})
        self.last_loss = loss
        self.step += 1

    def save(self) -> None:
        """Begin to write a checkpoint of the present step; what the loop waits for it goes into the metrics."""
        began = time.perf_counter()
        with self.untimed():
            self.metrics.sync()
            self.manager.save(self.step, self._metadata(), self.state)
        self._saved_at = time.monotonic()
        self._save_seconds = time.perf_counter() - began

    @contextlib.contextmanager
    def untimed(self) -> Iterator[None]:
        """Keep what is done within, such as a validation, out of the time of the step under way."""
        began = time.perf_counter()
        yield
        self._step_began += time.perf_counter() - began

    def note_validation(self, scores: Mapping[str, float | None]) -> None:
        """Add the scores of a validation after the present step to its metrics, and keep them as the last."""
        self._line |= scores
        self.validation["last"] = {"steps": self.step, **scores}

    def maybe_save_best(self, score: float) -> None:
        """Keep the present state as the best one if ``score`` is above all before it."""
        if score > self.best_score:
            self.best_score = score
            self.validation["best"] = self.validation.get("last")
            self.manager.save_best(self._metadata(), self.state)

    def close(self) -> None:
        """Close the files of the metrics."""
        self.metrics.close()

    def _metadata(self) -> dict[str, Any]:
        """What a checkpoint holds beside the state: plain data."""
        return {
            **self.header,
            "step": self.step,
            "bad_steps": self.bad_steps.state(),
            "best_score": self.best_score,
            "validation": dict(self.validation),
            "last_loss": self.last_loss,
            "broken": self.broken.state(),
        }

    def _resume(self) -> None:
        def check(saved: Mapping[str, Any], path: Path) -> None:
            check_same_run(saved, self.header, where=path)
            self.resumed_from = path

        saved = self.manager.resume(self.state, check=check)
        self.broken.load(saved and saved["broken"])
        if saved is None:
            return
        self.step = saved["step"]
        self.best_score, self.last_loss = saved["best_score"], saved["last_loss"]
        self.validation = dict(saved.get("validation", {}))
        self.bad_steps.load(saved["bad_steps"])

    def _seed_step(self) -> None:
        """Make dropout, stochastic depth and mixup functions of (seed, stage, step, rank)."""
        seed = derive_seed(self.plan.seed, self.plan.stage, "step", self.step, self.world.rank)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)

    def _between_steps(self) -> None:
        plan = self.plan
        if self.bad_steps.too_many:
            raise TrainingStopped(self._bad_message())
        self.broken.check(self.samples_seen)
        self.manager.check()
        stop = any_rank(self.world, bool(self.stop))
        done = self.step == plan.num_steps
        overdue = time.monotonic() - self._saved_at > 60 * plan.checkpoint_minutes
        # The clock differs between ranks; saving is collective under FSDP, so they must agree on it.
        if stop or done or self.step % plan.checkpoint_steps == 0 or any_rank(self.world, overdue):
            self.save()
        if stop or done:
            self.manager.wait()
        if stop and not done:
            raise Interrupted(f"{plan.stage}: saved at step {self.step} of {plan.num_steps}")
        self._asked_for_data = time.perf_counter()

    def _bad_message(self) -> str:
        stage = self.plan.stage
        return (
            f"{stage}: {self.bad_steps.in_a_row} non-finite steps in a row, up to step {self.step}; last good "
            f"checkpoint: {self.manager.newest()}; lower {stage}.lr or set {stage}.clip_grad, or precision=fp32"
        )

    def _log(self, loss: float, lr: float, norm: float, extra: dict[str, Any]) -> None:
        # From the end of one step to the end of the next: a GPU's optimiser step, which nobody waits for here, and the
        # work between two steps are part of what a step costs.
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        rate = self.plan.batch_size / seconds
        line: dict[str, Any] = {
            "samples_seen": self.samples_seen + self.plan.batch_size,
            "epoch": round((self.step + 1) / self.plan.steps_per_epoch, 4),
            "loss": loss,
            **extra,
            "lr": lr,
            "grad_norm": norm,
            "skipped_steps": self.bad_steps.total,
            "broken_videos": len(self.broken.files),
            "broken_reads": self.broken.reads,
            "videos_per_second": rate,
            "data_seconds": self._data_seconds,
            "step_seconds": seconds,
            "save_seconds": self._save_seconds,
            "mfu": self.speed.utilization(rate),
            "memory_gb": _memory_gb(self.world.device),
        }
        self._line = line
        self._save_seconds = 0.0
        broken = f" broken {len(self.broken.files)}" if self.broken.files else ""
        self._summary = f"loss {loss:.4f} lr {lr:.1e} {rate:.{0 if rate >= 10 else 2}f} videos/s{broken}"
        self._details = details_of(line)
        self.status.update(stage=self.plan.stage, step=self.step + 1, num_steps=self.plan.num_steps, loss=loss)


def _memory_gb(device: torch.device) -> float:
    """Peak memory of the device, or of this process on a CPU, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
