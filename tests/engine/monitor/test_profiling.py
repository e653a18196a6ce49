"""Utilisation against a measured peak, and traces."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffmae_video.engine import cli, stages
from diffmae_video.engine.checkpoint.manager import CheckpointManager
from diffmae_video.engine.monitor.decode_failures import DecodeFailures
from diffmae_video.engine.monitor.metrics import read_metrics
from diffmae_video.engine.monitor.profiling import Speed, measure_peak_flops, trace_steps
from diffmae_video.engine.train import finetune, trainer
from diffmae_video.engine.train.train_state import TrainState
from tests.engine.driven import arguments

CPU = torch.device("cpu")


def test_utilization_is_a_share_of_all_devices() -> None:
    speed = Speed(flops_per_video=2e9, peak_flops=1e12, num_devices=4)
    assert speed.utilization(500.0) == pytest.approx(0.25)


def test_the_measured_peak_is_plausible() -> None:
    """Between a slow single core and the fastest CPUs; and a product timed here can't beat it by much."""
    assert 1e9 < measure_peak_flops(CPU, torch.float32) < 1e14


@pytest.mark.parametrize(("taken", "traced"), [(8, 2), (4, 1)])
def test_a_trace_holds_the_steps_asked_for(tmp_path: Path, taken: int, traced: int) -> None:
    """Three are left out; a run that ends early leaves what there is."""
    a = torch.randn(4, 4)
    with trace_steps(tmp_path / "profile", steps=2, device=CPU) as trace:
        for _ in range(taken):
            a @ a
            trace.step()
    with gzip.open(tmp_path / "profile" / "trace.json.gz") as file:
        names = [event["name"] for event in json.load(file)["traceEvents"] if "name" in event]
    assert names.count("aten::mm") == traced
    assert "aten::mm" in (tmp_path / "profile" / "operators.txt").read_text()


def test_no_steps_no_trace(tmp_path: Path) -> None:
    with trace_steps(tmp_path / "profile", steps=0, device=CPU) as trace:
        trace.step()
    assert list(tmp_path.iterdir()) == []


def test_a_steps_time_is_all_of_it_but_checkpoints_and_validation(
    tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that only the parts of a step move: data 5 s, forward 100, optimiser 20, between 3, save 1000."""
    now = [0.0]

    def takes(seconds: float, owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def slow(*rest: Any, **named: Any) -> Any:
            now[0] += seconds
            return function(*rest, **named)

        monkeypatch.setattr(owner, name, slow)

    def slow_data(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
        for batch in batches:
            now[0] += 5
            yield batch

    monkeypatch.setattr(trainer, "device_prefetch", slow_data)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: 0.0))
    monkeypatch.setattr(stages, "measure_peak_flops", lambda *_: 1e9)
    takes(100, finetune, "normalize")
    takes(20, TrainState, "apply")
    takes(3, DecodeFailures, "check")
    takes(1000, CheckpointManager, "save")
    takes(50_000, stages, "evaluate")  # twice: after 3 and 6 steps, with the epochs
    few = ("stages=[finetune]", "finetune.init=none", "finetune.epochs=2", "finetune.checkpoint_epochs=1")
    assert cli.main(arguments(tiny_config, *few)) == 0
    lines = read_metrics(tiny_config.parent / "run" / "finetune" / "metrics.jsonl")
    assert [line["step_seconds"] for line in lines] == [125.0, *[128.0] * 5]
    assert [line["data_seconds"] for line in lines] == [5.0] * 6
    assert [line["save_seconds"] for line in lines] == [0.0, 0.0, 0.0, 1000.0, 0.0, 0.0]
    assert [line["videos_per_second"] for line in lines] == [4 / line["step_seconds"] for line in lines]
    flops = lines[0]["mfu"] * 125
    assert [line["mfu"] for line in lines] == pytest.approx([flops / line["step_seconds"] for line in lines])
