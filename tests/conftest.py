"""What several test folders share: cheap processes, and a tiny collection of videos with its config."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from importlib import metadata
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from packaging.version import Version

from tests.data.helpers import make_video
from tests.processes import free_port, rank_main

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what torch itself can't do yet, and say so."""
    torch_version = metadata.version("torch")
    if Version(torch_version) >= Version("2.7"):
        return
    for item in items:
        if item.get_closest_marker("cpu_fsdp"):
            item.add_marker(pytest.mark.skip(reason=f"torch {torch_version} runs FSDP2 on GPUs only, 2.7 on CPUs"))


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a video, or hand out the one already made with the same arguments."""
    folder = tmp_path_factory.mktemp("videos")
    known: dict[tuple[object, ...], Path] = {}

    def get(name: str, *encoding: str, size: str = "64x48", rate: str = "30", frames: int = 40) -> Path:
        key = (name, encoding, size, rate, frames)
        if key not in known:
            known[key] = make_video(folder / f"{len(known)}-{name}", *encoding, size=size, rate=rate, frames=frames)
        return known[key]

    return get


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """A way to start real processes that have torch imported already: 50 ms each, not 3 s."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["diffmae_video.engine.cli", "diffmae_video.engine.runner"])
    return context


@pytest.fixture
def start_ranks(processes: ForkServerContext) -> Callable[..., list[BaseProcess]]:
    """``start_ranks(function, size, log_folder, *arguments)``: one process a rank, output in rank-N.log."""

    def start(function: Callable[..., Any], size: int, log_folder: Path, *arguments: Any) -> list[BaseProcess]:
        port = free_port()
        log_folder.mkdir(parents=True, exist_ok=True)
        ranks = [
            processes.Process(
                target=rank_main, args=(function, rank, size, port, log_folder / f"rank-{rank}.log", arguments)
            )
            for rank in range(size)
        ]
        for rank in ranks:
            rank.start()
        return ranks

    return start


@pytest.fixture
def run_ranks(start_ranks: Callable[..., list[BaseProcess]]) -> Callable[..., list[int | None]]:
    """Like ``start_ranks``, but waits for the end and gives the exit codes."""

    def run(
        function: Callable[..., Any], size: int, log_folder: Path, *arguments: Any, seconds: float = 120
    ) -> list[int | None]:
        ranks = start_ranks(function, size, log_folder, *arguments)
        for rank in ranks:
            rank.join(seconds)
        for rank in ranks:
            if rank.is_alive():
                rank.kill()
        return [rank.exitcode for rank in ranks]

    return run


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv (12 videos), val.csv (5) and classes.txt (3): a bright bar moves in noise.

    48 x 32 pixels, 20 frames at 10 Hz; the class is the direction of the motion.
    """
    folder = tmp_path_factory.mktemp("videos")
    classes = ("still", "left", "right")
    (folder / "classes.txt").write_text("\n".join(classes) + "\n")
    for split, count in (("train", 12), ("val", 5)):
        rows = ["path,label"]
        for i in range(count):
            label = i % len(classes)
            write_video(folder / f"{split}-{i}.mp4", speed=(0, -2, 2)[label], seed=1000 * (split == "val") + i)
            rows.append(f"{split}-{i}.mp4,{label}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def tiny_config(tiny_videos: Path, tmp_path: Path) -> Path:
    """A config over ``tiny_videos`` whose three stages take seconds; its run folder is ``tmp_path/run``."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE.format(videos=tiny_videos, output_dir=tmp_path / "run"))
    return path


TINY_RECIPE = """
output_dir: {output_dir}
device: cpu
precision: fp32
data:
  dataset: list
  root: {videos}
  train_list: {videos}/train.csv
  val_list: {videos}/val.csv
  num_frames: 4
  stride_frames: 2
  fps: 10
  crop_size: 32
  backend: pyav
  num_workers: 0
model:
  size: micro
  patch_size: 8
  decoder: {{depth: 1, width: 32, num_heads: 2}}
mask: {{ratio: 0.75}}
pretrain: {{epochs: 4, warmup_epochs: 1, batch_size: 4, lr: 0.2, checkpoint_epochs: 1}}
finetune: {{epochs: 3, batch_size: 4, lr: 0.2, ema_decay: 0.9, head_dropout: 0.1, mixup: 0.8, eval_epochs: 1}}
test: {{views: 2, crops: 1, batch_size: 2}}
"""


def write_video(path: Path, *, speed: int, seed: int) -> None:
    """A bar that moves ``speed`` pixels a frame over noise, as H.264."""
    pixels = np.random.default_rng(seed)
    start, noise = pixels.integers(48), pixels.integers(0, 60, (32, 48, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i in range(20):
            image = noise.copy()
            image[:, (start + speed * i + np.arange(8)) % 48] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
