"""Utilisation against a measured peak, and traces."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from diffmae_video.engine.speed import Speed, measure_peak_flops, trace_steps

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
