"""The record of a run (metrics.jsonl, TensorBoard, wandb) and its display (a live screen, or plain lines)."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

import psutil
from tqdm import tqdm

from diffmae_video.engine.distributed.context import DistributedContext
from diffmae_video.errors import UserError
from diffmae_video.files import replace_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Value = float | int | str | None | Sequence[float | None]


class MetricsLog:
    """One JSON line a step in ``folder/metrics.jsonl``, with TensorBoard's files beside it; on rank 0 only.

    On a resume the lines of steps that will be done again are dropped first, and so is a line that a
    kill cut short: the file of a run that was killed equals that of one that was not.

    Args:
        folder: the stage's folder.
        world: ranks other than 0 write nothing.
        resume_step: the first step that will be written; lines from it on are dropped.
        tensorboard: write TensorBoard's event files to ``folder/tensorboard``.
        wandb: a project to log to as well; "" for no wandb.

    Raises:
        UserError: ``wandb`` is set and wandb isn't installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        world: DistributedContext,
        resume_step: int = 0,
        tensorboard: bool = True,
        wandb: str = "",
    ) -> None:
        self.path = Path(folder) / "metrics.jsonl"
        self._file: TextIO | None = None
        self._board: SummaryWriter | None = None
        self._wandb: Any = None
        if not world.is_main:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        drop_from(self.path, resume_step)
        self._file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self._board = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=resume_step)
        if wandb:
            self._wandb = _start_wandb(wandb, Path(folder))

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Append ``values`` as the line of ``step``; a non-finite number is written as null."""
        if self._file is None:
            return
        assert "step" not in values
        line = {"step": step, **{name: finite(value) for name, value in values.items()}}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()  # to the kernel: a killed process loses no line
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def last(self, name: str, count: int) -> list[float]:
        """Up to ``count`` numbers last written under ``name``, oldest first; none on ranks other than 0."""
        if self._file is None:
            return []
        values = (line[name] for line in read_metrics(self.path)[-count:])
        return [value for value in values if value is not None]

    def sync(self) -> None:
        """Flush to the disk; call it before a checkpoint, which must not outlive the lines before it."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close everything; writing afterwards does nothing."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None
        if self._board is not None:
            self._board.close()
            self._board = None
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None


class Progress:
    """Where a loop stands: a bar with the time left and details below it on a terminal, plain lines elsewhere.

    Args:
        label: the loop's name.
        total: steps of the whole loop.
        initial: steps done before (a resume).
        world: ranks other than 0 show nothing.
        stream: where to write; standard error by default.
        every_seconds: pause between plain lines; the first and the last step always have one.
    """

    _noted: ClassVar[set[str]] = set()

    def __init__(
        self,
        label: str,
        *,
        total: int,
        initial: int = 0,
        world: DistributedContext,
        stream: TextIO | None = None,
        every_seconds: float = 30.0,
    ) -> None:
        self.label, self.total, self.every_seconds = label, total, every_seconds
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = not world.is_main
        self._initial = self._step = initial
        self._began = time.monotonic()
        self._printed = -math.inf
        self._bar: tqdm[Any] | None = None
        self._rows: list[tqdm[Any]] = []
        if self._stream.isatty() and not self._quiet:
            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=label,
                file=self._stream,
                dynamic_ncols=True,
                smoothing=0.05,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            )

    def update(self, step: int, text: str, details: Sequence[str] = ()) -> None:
        """Show that ``step`` steps are done, with a short ``text`` beside it; a terminal also shows ``details``."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            if self._bar.update(step - self._step):  # drawn: not at every step, a terminal is slow
                self._show(details)
        self._step = step
        if self._bar is None and not self._quiet:
            self._print_now_and_then(text)

    def note(self, text: str) -> None:
        """Write a line of its own, without tearing the live line."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif not self._quiet:
            print(text, file=self._stream, flush=True)

    def note_once(self, kind: str, text: str) -> None:
        """Write the first ``text`` of a ``kind`` in this process, with the loop's name; an empty one is nothing."""
        if text and kind not in Progress._noted:
            Progress._noted.add(kind)
            self.note(f"{self.label}: {text}")

    def close(self) -> None:
        """End the live display."""
        if self._bar is not None:
            for row in reversed(self._rows):
                row.close()
            self._bar.close()

    def _show(self, details: Sequence[str]) -> None:
        """A row for each of ``details`` below the bar."""
        while len(self._rows) < len(details):
            below = len(self._rows) + 1
            self._rows.append(tqdm(file=self._stream, position=below, bar_format="{desc}", leave=False))
        for row, detail in zip(self._rows, details, strict=False):
            row.set_description_str(detail[: shutil.get_terminal_size().columns - 1])

    def _print_now_and_then(self, text: str) -> None:
        seconds = time.monotonic()
        if self._step < self.total and seconds - self._printed < self.every_seconds:
            return
        self._printed = seconds
        left = (seconds - self._began) / max(self._step - self._initial, 1) * (self.total - self._step)
        line = f"{self.label} {self._step}/{self.total}, {clock(left)} left, {text}"
        print(line if len(line) <= 80 else line[:77] + "...", file=self._stream, flush=True)


def details_of(line: Mapping[str, Any]) -> list[str]:
    """A line of the metrics in rows for the live display."""
    rows = [
        f"  gradient norm {line['grad_norm']:.3g}, skipped steps {line['skipped_steps']}, "
        f"broken videos {line['broken_videos']}, met {line['broken_reads']} times",
        f"  step {line['step_seconds'] * 1e3:.0f} ms, {line['data_seconds'] / line['step_seconds']:.0%} of it waiting "
        f"for data, MFU {line['mfu']:.0%}, memory {line['memory_gb']:.2f} GB",
    ]
    if "loss_by_noise" in line:
        levels = " ".join("   -" if loss is None else f"{loss:.2f}" for loss in line["loss_by_noise"])
        rows.insert(0, f"  loss from low to high noise {levels}")
    if "train_top1" in line:
        rows.insert(0, f"  top-1 of the step's own clips {line['train_top1']:.0%}")
    return rows


def drop_from(path: Path, step: int) -> None:
    """Remove the lines of ``step`` and later, and any line that is cut short, from a metrics file."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) < step]
    if len(kept) < len(lines):
        replace_text(path, "".join(kept))


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, oldest first; a last line that is cut short is left out."""
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def process_seconds() -> float:
    """Seconds since this process was started."""
    return time.time() - psutil.Process().create_time()


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34, 3:04:05 or 2d 03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _step_of(line: str) -> float:
    """The step a line is of; infinite for a line that isn't whole."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def finite(value: Value) -> Value:
    """``value`` as JSON may hold it: None for a number that isn't finite, also inside a sequence."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]  # type: ignore[misc]
    return value


def _start_wandb(project: str, folder: Path) -> Any:
    try:
        import wandb
    except ImportError:
        raise UserError(f"wandb ({project}) needs the package of that name; install it, or leave wandb empty") from None
    # One id a stage folder: a resumed run goes on in the same record.
    name = f"{folder.resolve().parent.name}-{folder.name}"
    return wandb.init(project=project, dir=str(folder), id=name, name=name, resume="allow")
