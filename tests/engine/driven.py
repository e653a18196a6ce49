"""Whole runs of the engine with something done to them on the way, and what they leave behind.

The functions called ``drive_*`` are bodies of rank processes: the command line, with one part of the engine
changed first. Changing it inside the process is what lets a test stop, break or watch a run at a chosen step.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from diffmae_video.engine import cli
from diffmae_video.engine.checkpoint.single_file import load_checkpoint
from diffmae_video.engine.monitor.metrics import read_metrics
from diffmae_video.engine.train.trainer import Trainer

# What measures time or memory differs from run to run, and is left out of comparisons.
MEASURED = {"videos_per_second", "data_seconds", "step_seconds", "save_seconds", "memory_gb", "mfu"}


def arguments(config: Path, *overrides: str) -> list[str]:
    """The command line of a run."""
    return ["--cfg", str(config), *overrides]


def drive(command: list[str]) -> int:
    """The command line as it is."""
    return cli.main(command)


def drive_and_stop(command: list[str], stage: str, step: int, ids: Path) -> int:
    """SIGTERM to rank 0 while it does ``step`` of ``stage`` (-1: never); each rank's positions go to ``ids``."""
    update, parts = Trainer.update, Trainer.parts

    def stopping_update(self: Trainer, *rest: Any) -> None:
        if self.plan.stage == stage and self.step == step and self.world.is_main:
            os.kill(os.getpid(), signal.SIGTERM)
        update(self, *rest)

    def noting_parts(self: Trainer, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        line = {"stage": self.plan.stage, "step": self.step, "rank": self.world.rank}
        line |= {name: batch[name].tolist() for name in ("position", "index")}
        with (ids / f"ids-{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        yield from parts(self, batch)

    Trainer.update, Trainer.parts = stopping_update, noting_parts  # type: ignore[method-assign,assignment]
    return cli.main(command)


def drive_with_bad_losses(command: list[str], steps: list[int], rank: int) -> int:
    """A loss that is no number, at ``steps`` of the pre-training, on one rank only."""
    backward = Trainer.backward

    def bad_backward(self: Trainer, loss: torch.Tensor, **sums: torch.Tensor) -> None:
        bad = self.plan.stage == "pretrain" and self.step in steps and self.world.rank == rank
        backward(self, loss * float("nan") if bad else loss, **sums)

    Trainer.backward = bad_backward  # type: ignore[method-assign]
    return cli.main(command)


def drive_to_a_crash(command: list[str], step: int, rank: int) -> int:
    """An error of our own making on one rank."""
    _at_step(step, rank, _crash)
    return cli.main(command)


def drive_to_a_kill(command: list[str], step: int, rank: int) -> int:
    """SIGKILL to one rank, in the middle of a step."""
    _at_step(step, rank, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return cli.main(command)


def drive_slowly(command: list[str]) -> int:
    """Half a second a step."""
    backward = Trainer.backward

    def slow_backward(self: Trainer, loss: torch.Tensor, **sums: torch.Tensor) -> None:
        time.sleep(0.5)
        backward(self, loss, **sums)

    Trainer.backward = slow_backward  # type: ignore[method-assign]
    return cli.main(command)


def drive_in_a_group(command: list[str]) -> int:
    """As the leader of a process group of its own, as a job's step is."""
    os.setsid()
    return cli.main(command)


def _crash() -> None:
    raise ArithmeticError("a bug of ours")


def _at_step(step: int, rank: int, act: Callable[[], None]) -> None:
    backward = Trainer.backward

    def acting_backward(self: Trainer, loss: torch.Tensor, **sums: torch.Tensor) -> None:
        if self.step == step and self.world.rank == rank:
            act()
        backward(self, loss, **sums)

    Trainer.backward = acting_backward  # type: ignore[method-assign]


def metrics_of(run: Path, stage: str) -> list[dict[str, Any]]:
    """The metrics of a stage without what is measured by a clock."""
    lines = read_metrics(run / stage / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def result_of(run: Path, stage: str) -> dict[str, Any]:
    """The record of a finished stage."""
    return json.loads((run / stage / "result.json").read_text())


def tensors_of(run: Path, stage: str) -> dict[str, torch.Tensor]:
    """The final weights of a stage and their moving average, by name."""
    saved = load_checkpoint(run / stage / "weights.pt")
    return {f"{kind} {name}": value for kind in ("model", "ema") for name, value in saved[kind].items()}


def assert_same_bits(run: Path, other: Path) -> None:
    """Weights, moving averages, metrics, results: equal to the last bit."""
    for stage in ("pretrain", "finetune"):
        mine, theirs = tensors_of(run, stage), tensors_of(other, stage)
        assert mine.keys() == theirs.keys()
        differ = [name for name, value in mine.items() if not torch.equal(value, theirs[name])]
        assert not differ, f"{stage}: {differ}"
        assert metrics_of(run, stage) == metrics_of(other, stage)
    for stage in ("pretrain", "finetune", "test"):
        assert result_of(run, stage) == result_of(other, stage)


def assert_close(run: Path, other: Path, stage: str, *, atol: float) -> None:
    """The weights of a stage and its losses agree to float tolerance, and its samples exactly."""
    mine, theirs = tensors_of(run, stage), tensors_of(other, stage)
    assert mine.keys() == theirs.keys()
    for name in mine:
        value, twin = (decided_part(name, tensors[name]) for tensors in (mine, theirs))
        torch.testing.assert_close(value, twin, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}")
    for line, twin in zip(metrics_of(run, stage), metrics_of(other, stage), strict=True):
        assert (line["step"], line["samples_seen"], line["lr"]) == (twin["step"], twin["samples_seen"], twin["lr"])
        torch.testing.assert_close(line["loss"], twin["loss"], rtol=1e-4, atol=1e-5)


def decided_part(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without the biases of attention's keys.

    A bias on all keys shifts a query's logits alike, and softmax doesn't see it: the gradient is zero but
    for rounding, which AdamW blows up to full steps. Those values mean nothing and agree with nothing.
    """
    if name.endswith("qkv.bias"):
        query, _, value = tensor.chunk(3)
        return torch.cat([query, value])
    return tensor.chunk(2)[1] if name.endswith("kv.bias") else tensor
