"""The benchmarks of models: FLOPs against a count by hand, fair turns, and memory of a process of its own."""

from __future__ import annotations

import json
import time

import pytest
import torch

from benchmarks import model as benchmarks
from benchmarks.contenders import NAMES, BenchModel, Setting
from diffmae_video.sizes import DECODER_SIZES, SIZES
from tools.bench import main

SMALL = Setting("micro", num_frames=4, crop_size=32, patch_size=8, mask_ratio=0.75, batch_size=2)


def flops_by_hand(setting):
    """One clip through encoder and cross decoder: 2 a multiply-add; backward doubles it where inputs get gradients."""
    size, decoder = SIZES[setting.size], DECODER_SIZES[setting.size]
    D, L, E, depth = size["width"], size["depth"], decoder["width"], decoder["depth"]
    N, P = 2 * 4 * 4, 2 * 8 * 8 * 3
    M, V = 3 * N // 4, N // 4
    embeds = 2 * (2 * V * P * D + 2 * M * P * E)  # forward and weights: pixels get no gradient
    block = 2 * V * D * 3 * D + 4 * V * V * D + 2 * V * D * D + 4 * V * D * 4 * D
    cross = 2 * M * E * E + 2 * V * D * 2 * E + 4 * M * V * E + 2 * M * E * E + 4 * M * E * 4 * E
    time_mlp = 2 * (2 * E * E) + 3 * (2 * E * E)
    return embeds + 3 * (L * block + depth * cross + 2 * M * E * P) + time_mlp


def test_flops_are_those_counted_by_hand():
    contender = BenchModel("cross", SMALL, torch.device("cpu"))
    assert benchmarks.count_flops(contender) == SMALL.batch_size * flops_by_hand(SMALL)


def test_contenders_train_and_have_the_same_encoder_and_head():
    """VideoMAE has no key biases, no t and no noisy embedding; the rest of the joint decoder is the same."""
    counts = {}
    for name in NAMES:
        contender = BenchModel(name, SMALL, torch.device("cpu"))
        before = [p.clone() for p in contender.model.parameters()]
        contender.step()
        assert all((a != b).any() for a, b in zip(before, contender.model.parameters(), strict=True)), name
        counts[name] = contender.parameters()
    size, decoder = SIZES["micro"], DECODER_SIZES["micro"]
    D, L, E, depth, P = size["width"], size["depth"], decoder["width"], decoder["depth"], 2 * 8 * 8 * 3
    extra = L * D + depth * E + E  # key biases, and the bias of the latents' projection
    noisy, token = P * E + E + 2 * (E * E + E), E
    assert counts["joint"] - counts["videomae"] == extra + noisy - token


def test_turns_are_taken_and_start_with_another_one_each_round():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = benchmarks.time_steps(steps, rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_seconds_are_seconds():
    seconds = benchmarks.time_steps({"slow": lambda: time.sleep(0.05), "fast": lambda: None}, rounds=2)
    assert all(0.05 <= value < 0.2 for value in seconds["slow"])
    assert all(value < 0.04 for value in seconds["fast"])


def test_peak_memory_counts_weights_gradients_and_adams_state():
    tiny = Setting("tiny", num_frames=2, crop_size=32, mask_ratio=0.5, batch_size=1)
    weights = BenchModel("cross", tiny, torch.device("cpu")).parameters() * 4
    assert 4 * weights < benchmarks.peak_memory("cross", tiny, "cpu", steps=2) < 4 * weights + 200 * 2**20


def test_the_table_and_the_file_hold_the_measurements(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarks, "peak_memory", lambda name, setting, device: 3 * 2**20)
    options = {"--sizes": "micro", "--num-frames": "4", "--crop-size": "64", "--rounds": "2", "--device": "cpu"}
    arguments = [word for option in options.items() for word in option]
    assert main(["model", *arguments, "--out", str(tmp_path / "model.json")]) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "model.json").read_text())["rows"]
    assert [row["name"] for row in rows] == list(NAMES)
    for row in rows:
        assert f"| micro | {row['name']} | {row['parameters'] / 1e6:.1f} M |" in printed
        assert row["ratios"][0] <= row["ratios"][1] <= row["ratios"][2]
    assert rows[-1]["ratios"] == [1.0, 1.0, 1.0]
    assert "3 MiB" in printed


def test_sizes_that_do_not_tile_end_with_one_line(capsys):
    assert main(["model", "--sizes", "micro", "--num-frames", "3", "--device", "cpu"]) == 2
    assert "num_frames (3) must be a multiple of the tubelet (2)" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_bench_on_a_small_setting(tmp_path):
    assert main(["model", "--sizes", "micro", "--num-frames", "4", "--crop-size", "64", "--rounds", "3"]) == 0
