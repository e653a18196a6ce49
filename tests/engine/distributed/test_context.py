"""Ranks: agreement, sums, equal training under one process, DDP and FSDP2, and deaths that end the job."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from diffmae_video.engine.checkpoint.single_file import load_checkpoint, save_checkpoint
from diffmae_video.engine.distributed import device
from diffmae_video.engine.distributed.context import (
    DistributedContext,
    abort_distributed,
    any_rank,
    barrier,
    full_state,
    gather_objects,
    init_distributed,
    load_full_state,
    parallelize,
    set_gradient_sync,
    shutdown_distributed,
    sum_over_ranks,
)
from diffmae_video.engine.distributed.device import _disagreement, choose_device
from diffmae_video.engine.distributed.env import DistributedError
from diffmae_video.engine.train.train_state import TrainState
from diffmae_video.errors import UserError

ONE = DistributedContext(rank=0, size=1, local_rank=0, device=torch.device("cpu"))


class Blocks(nn.Module):
    """A model with the parts that matter here: a stack of blocks, a norm, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + F.gelu(block(x))
        return self.head(self.norm(x))


def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A global batch of 8."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=generator), torch.randn(8, 4, generator=generator)


def build(world: DistributedContext, strategy: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # a user would see it once a rank and stage
        model = parallelize(Blocks(), world, strategy=strategy)
    if strategy == "ddp" and world.size > 1:
        newer = hasattr(model, "forward_sync_buffers")
        assert not (model.forward_sync_buffers if newer else model.broadcast_buffers)
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if p.ndim > 1], "weight_decay": 0.1, "lr_scale": 1.0},
        {"params": [p for n, p in named if p.ndim <= 1], "weight_decay": 0.0, "lr_scale": 0.5},
    ]
    return model, torch.optim.AdamW(groups, lr=0.01)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    world: DistributedContext,
    steps: range,
    *,
    accumulation: int = 1,
) -> None:
    share = 8 // world.size
    for step in steps:
        x, y = (tensor[world.rank * share : (world.rank + 1) * share] for tensor in batch_of(step))
        for i, (part_x, part_y) in enumerate(zip(x.chunk(accumulation), y.chunk(accumulation), strict=True)):
            set_gradient_sync(model, i == accumulation - 1)
            (F.mse_loss(model(part_x), part_y) / accumulation).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        assert torch.isfinite(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        optimizer.step()
        optimizer.zero_grad()


def reference(steps: int) -> dict[str, torch.Tensor]:
    model, optimizer = build(ONE, "ddp")
    train(model, optimizer, ONE, range(steps))
    return model.state_dict()


def two_ranks(folder: Path) -> None:
    """Everything that two healthy ranks have to show, in one start."""
    world = init_distributed("cpu")
    assert (world.size, world.rank) == (2, int(os.environ["RANK"]))
    assert any_rank(world, world.rank == 1) is True
    assert any_rank(world, False) is False
    mine = torch.tensor([1.0, 10.0]) * (world.rank + 1)
    assert torch.equal(sum_over_ranks(world, mine), torch.tensor([3.0, 30.0]))
    assert torch.equal(mine, torch.tensor([1.0, 10.0]) * (world.rank + 1))
    assert gather_objects(world, {"rank": world.rank}) == [{"rank": 0}, {"rank": 1}]
    barrier(world)
    for strategy in ("ddp", "fsdp"):
        for accumulation in (1, 2):
            model, optimizer = build(world, strategy)
            train(model, optimizer, world, range(4), accumulation=accumulation)
            weights, moments = full_state(model, optimizer)
            if world.is_main:
                state = {"model": weights, "optimizer": moments}
                save_checkpoint(folder / f"{strategy}-{accumulation}.pt", state)
    barrier(world)
    # From one to the other, half-way: the checkpoint of DDP goes on under FSDP2, and the other way round.
    for before, after in (("ddp", "fsdp"), ("fsdp", "ddp")):
        model, optimizer = build(world, after)
        saved = load_checkpoint(folder / f"{before}-1.pt")
        load_full_state(model, optimizer, saved["model"], saved["optimizer"])
        train(model, optimizer, world, range(4, 6))
        weights, moments = full_state(model, optimizer)
        if world.is_main:
            save_checkpoint(folder / f"{before}-to-{after}.pt", {"model": weights, "optimizer": moments})
    # A forward pass without gradients leaves FSDP2's outermost weights gathered; the averages must replace these, too.
    for strategy in ("ddp", "fsdp"):
        model, optimizer = build(world, strategy)
        for group, names in zip(optimizer.param_groups, ("matrices", "vectors"), strict=True):
            group["names"] = [f"{names} {i}" for i in range(len(group["params"]))]
        state = TrainState(model, optimizer, ema_decay=0.5)
        train(model, optimizer, world, range(4))  # the averages stay at the first weights
        first, x = build(ONE, "ddp")[0], batch_of(9)[0]
        with torch.no_grad():
            before = model(x)
            with state.averaged():
                torch.testing.assert_close(model(x), first(x))
            assert torch.equal(model(x), before)
            assert not torch.allclose(before, first(x), atol=1e-3)
    shutdown_distributed(world)


@pytest.mark.cpu_fsdp
def test_two_ranks_equal_one(run_ranks: Callable[..., list[int | None]], tmp_path: Path) -> None:
    codes = run_ranks(two_ranks, 2, tmp_path, tmp_path)
    assert codes == [0, 0], (tmp_path / "rank-0.log").read_text() + (tmp_path / "rank-1.log").read_text()
    files = {"ddp-1": 4, "ddp-2": 4, "fsdp-1": 4, "fsdp-2": 4, "ddp-to-fsdp": 6, "fsdp-to-ddp": 6}
    for name, steps in files.items():
        weights, expected = load_checkpoint(tmp_path / f"{name}.pt")["model"], reference(steps)
        assert weights.keys() == expected.keys(), name
        for key, value in expected.items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")


def test_a_state_of_two_ranks_goes_on_with_one(tmp_path: Path) -> None:
    """And within one process a reload mid-way changes no bit."""
    model, optimizer = build(ONE, "ddp")
    train(model, optimizer, ONE, range(3))
    save_checkpoint(tmp_path / "a.pt", dict(zip(("model", "optimizer"), full_state(model, optimizer), strict=True)))
    fresh, fresh_optimizer = build(ONE, "ddp")
    saved = load_checkpoint(tmp_path / "a.pt")
    load_full_state(fresh, fresh_optimizer, saved["model"], saved["optimizer"])
    train(fresh, fresh_optimizer, ONE, range(3, 6))
    expected = reference(6)
    assert all(torch.equal(value, expected[name]) for name, value in fresh.state_dict().items())
    assert [group["lr_scale"] for group in fresh_optimizer.param_groups] == [1.0, 0.5]
    assert [group["weight_decay"] for group in fresh_optimizer.param_groups] == [0.1, 0.0]


def one_raises() -> None:
    world = init_distributed("cpu")
    barrier(world)
    if world.rank == 1:
        raise ArithmeticError("the loss fell off a cliff")
    barrier(world)  # the rank that is left waits here


def one_is_refused(error: Exception) -> int:
    world = init_distributed("cpu")
    if world.rank == 0:
        abort_distributed(world, error)
        return 2
    barrier(world)
    return 0


def one_is_killed(pids: Path) -> None:
    world = init_distributed("cpu", dead_seconds=6)
    (pids / f"pid-{world.rank}").write_text(str(os.getpid()))
    barrier(world)
    time.sleep(600)


def wait_for(path: Path, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} didn't appear in {seconds} s"
        time.sleep(0.05)


def test_a_rank_that_raises_takes_the_job_down(run_ranks: Callable[..., list[int | None]], tmp_path: Path) -> None:
    began = time.monotonic()
    assert run_ranks(one_raises, 2, tmp_path) == [1, 1]
    assert time.monotonic() - began < 60
    failed, left = ((tmp_path / f"rank-{rank}.log").read_text() for rank in (1, 0))
    assert "rank 1 of 2 failed:\nTraceback" in failed
    assert "in one_raises" in failed
    assert "ArithmeticError: the loss fell off a cliff" in left, "the survivor doesn't name the cause"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("this folder belongs to another run"), 2, "failed: this folder belongs to another run\n"),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            2,
            "failed: /root/x: Permission denied; check the path",
        ),
        (ValueError("ours"), 1, "ValueError: ours"),
    ],
)
def test_a_rank_that_is_refused_takes_the_job_down(
    error: Exception, code: int, words: str, run_ranks: Callable[..., list[int | None]], tmp_path: Path
) -> None:
    """The other rank ends with the code that the first one's command line has: 2 for a user's mistake."""
    assert run_ranks(one_is_refused, 2, tmp_path, error)[1] == code
    assert words in (tmp_path / "rank-1.log").read_text()


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        pytest.param(1, signal.SIGKILL, id="killed"),
        pytest.param(0, signal.SIGKILL, id="main-killed"),
        pytest.param(1, signal.SIGSTOP, id="stuck"),
    ],
)
def test_a_rank_that_vanishes_takes_the_job_down(
    start_ranks: Callable[..., list[BaseProcess]], tmp_path: Path, victim: int, number: int
) -> None:
    ranks = start_ranks(one_is_killed, 2, tmp_path, tmp_path)
    for rank in (0, 1):
        wait_for(tmp_path / f"pid-{rank}")
    time.sleep(2.5)
    os.kill(ranks[victim].pid, number)
    began = time.monotonic()
    ranks[1 - victim].join(60)
    try:
        assert ranks[1 - victim].exitcode == 1
        assert time.monotonic() - began < 60
        log = (tmp_path / f"rank-{1 - victim}.log").read_text()
        assert "rank 1 (host" in log if victim == 1 else "rank 0" in log
    finally:
        for rank in ranks:
            rank.kill()


def test_an_unknown_device_is_one_line() -> None:
    with pytest.raises(DistributedError, match=r"device \(gpu9\) is unknown; use auto"):
        init_distributed("gpu9")


@pytest.mark.parametrize(
    ("name", "visible", "local_rank", "index"),
    [
        ("auto", 8, 3, 3),
        ("cuda", 8, 3, 3),
        ("cuda", 1, 3, 0),  # --gpus-per-task, --gpu-bind=single:1: a task sees its own GPU alone
        ("cuda:2", 8, 3, 2),
    ],
)
def test_a_ranks_gpu(name: str, visible: int, local_rank: int, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert choose_device(name, local_rank=local_rank) == torch.device("cuda", index)


@pytest.mark.parametrize(
    ("name", "visible", "local_rank"), [("cuda", 2, 2), ("cuda:1", 1, 0), ("cuda", 0, 0), ("meta", 1, 0)]
)
def test_a_gpu_that_is_not_there(name: str, visible: int, local_rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    with pytest.raises(DistributedError, match=r"use device=cpu|use auto, cpu, cuda"):
        choose_device(name, local_rank=local_rank)


def disagree(name: str, gpus: list[str]) -> int:
    """Ranks that see these GPUs: "" for none."""
    gpu = gpus[int(os.environ["RANK"])]
    torch.cuda.is_available = lambda: bool(gpu)
    torch.cuda.device_count = lambda: len(gpu[:1])
    torch.cuda.get_device_properties = lambda device: SimpleNamespace(uuid=gpu)
    try:
        init_distributed(name)
    except DistributedError as error:
        print(error)
        return 2
    return 0


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        pytest.param("auto", ["a", ""], "would compute on cpu, the other 1 on cuda; look at the driver", id="driver"),
        pytest.param("auto", ["", "b"], "would compute on cpu, the other 1 on cuda; look at the driver", id="main"),
        pytest.param("cuda", ["a", ""], "needs GPU", id="none"),
        pytest.param("cuda", ["a", "a"], "ranks 0 (host", id="one-for-both"),
    ],
)
def test_ranks_whose_devices_do_not_fit_all_end(
    run_ranks: Callable[..., list[int | None]], tmp_path: Path, device: str, gpus: list[str], words: str
) -> None:
    """At once, on every rank, with the one named that differs."""
    assert run_ranks(disagree, 2, tmp_path, device, gpus, seconds=40) == [2, 2]
    for rank in (0, 1):
        log = (tmp_path / f"rank-{rank}.log").read_text()
        assert words in log
        if "" in gpus and (device == "auto" or rank != gpus.index("")):
            assert f"rank {gpus.index('')} (host" in log


def test_rank_0_stays_until_all_have_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold the store: gone too early, the others would see a lost connection instead of the reason."""
    store, waits = dist.HashStore(), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    beside = dist.PrefixStore("diffmae/device/0", store)
    beside.set("1", json.dumps({"host": "gpu1", "type": "cuda", "gpu": "a", "error": ""}))

    def wait(seconds: float) -> None:
        waits.append(beside.add("read", 1 if len(waits) == 2 else 0))  # rank 1 reads while rank 0 waits

    monkeypatch.setattr(device, "time", SimpleNamespace(sleep=wait, monotonic=lambda: 0.0))
    with pytest.raises(DistributedError, match=r"rank 0 \(host .* would compute on cpu, the other 1 on cuda"):
        device.agree_on_device(store, "auto", rank=0, size=2, local_rank=0)
    assert waits == [1, 1, 2]


def test_many_ranks_are_named_shortly() -> None:
    found = [{"host": f"gpu{rank // 8}", "type": "cuda", "gpu": str(rank), "error": ""} for rank in range(64)]
    assert _disagreement(found) == ""
    for rank in range(8, 16):
        found[rank] |= {"type": "cpu", "gpu": ""}
    assert _disagreement(found).startswith(
        "ranks 8 (host gpu1), 9 (host gpu1), 10 (host gpu1) and 5 more would compute on cpu, the other 56 on cuda; "
    )
    assert _disagreement([dict(one, type="cpu", gpu="") for one in found]) == ""
