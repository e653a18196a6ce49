"""What a run says of itself to the outside: status.json."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffmae_video.files import read_json, replace_text

if TYPE_CHECKING:
    from diffmae_video.engine.distributed.context import DistributedContext


class Status:
    """Keeps ``output_dir/status.json`` up to date; rank 0 only, the others write nothing.

    Made at the start of a run: the time of the first start is kept from the file that is there, and the
    restarts are counted up.

    Args:
        output_dir: the run's folder.
        world: this process's place among the ranks.
        every_seconds: pause between two writes while nothing but step and loss has changed.
    """

    def __init__(self, output_dir: str | Path, *, world: DistributedContext, every_seconds: float = 2.0) -> None:
        self.path = Path(output_dir) / "status.json"
        self.every_seconds = every_seconds
        self._is_main = world.is_main
        self._written = -math.inf
        before = read_status(output_dir) if world.is_main else None
        self._fields: dict[str, Any] = {
            "state": "running",
            "stage": "",
            "step": 0,
            "num_steps": 0,
            "loss": None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "restarts": before["restarts"] + 1 if before else 0,
            "started": before["started"] if before else now(),
            "updated": now(),
            "reason": "",
        }
        self._write()

    def update(self, *, stage: str, step: int, num_steps: int, loss: float | None = None) -> None:
        """Say which step of which stage is done; a non-finite ``loss`` is written as null."""
        changed = stage != self._fields["stage"] or step == num_steps
        finite = loss if loss is not None and math.isfinite(loss) else None
        self._fields |= {"stage": stage, "step": step, "num_steps": num_steps, "loss": finite}
        if changed or time.monotonic() - self._written >= self.every_seconds:
            self._write()

    def end(self, state: str, *, reason: str = "") -> None:
        """Say how the run ended: "finished", "failed" or "interrupted", with one line of reason."""
        assert state in ("finished", "failed", "interrupted"), state
        self._fields |= {"state": state, "reason": reason}
        self._write()

    def _write(self) -> None:
        if not self._is_main:
            return
        self._written = time.monotonic()
        self._fields["updated"] = now()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, json.dumps(self._fields, indent=2) + "\n")


def read_status(output_dir: str | Path) -> dict[str, Any] | None:
    """The fields last written, with ``state`` "running" until it ended; None where there is no run."""
    return read_json(Path(output_dir) / "status.json")


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
