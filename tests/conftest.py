"""What several test folders share: cheap processes, and a tiny collection of videos with its recipe."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """A way to start real processes that have torch imported already: 50 ms each, not 3 s."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["diffmae_video.engine.distributed"])
    return context


@pytest.fixture
def start_ranks(processes: ForkServerContext) -> Callable[..., list[BaseProcess]]:
    """``start_ranks(function, size, log_folder, *arguments)``: one process a rank, output in rank-N.log."""

    def start(function: Callable[..., Any], size: int, log_folder: Path, *arguments: Any) -> list[BaseProcess]:
        port = _free_port()
        log_folder.mkdir(parents=True, exist_ok=True)
        ranks = [
            processes.Process(
                target=_rank_main, args=(function, rank, size, port, log_folder / f"rank-{rank}.log", arguments)
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


def _rank_main(
    function: Callable[..., Any], rank: int, size: int, port: int, log: Path, arguments: tuple[Any, ...]
) -> None:
    """Body of a rank's process: torchrun's variables, output to a file, errors to sys.excepthook."""
    import torch

    torch.set_num_threads(1)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in places.items()}, MASTER_ADDR="127.0.0.1")
    code = 1
    try:
        code = function(*arguments) or 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        # multiprocessing would print the traceback itself; a program's main module calls the hook.
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
