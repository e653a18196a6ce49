"""What both forms of checkpoints share: a folder with one entry a step, of which the last few are kept."""

from __future__ import annotations

import re
from pathlib import Path

from diffmae_video.errors import UserError


class CheckpointError(UserError):
    """A checkpoint can't be written or read; one line naming the file and what is left to go on from."""


class StepFolder:
    """A folder of checkpoints named ``step-00000120`` and a suffix.

    Args:
        folder: made at the first save.
        keep_last: how many steps to keep.

    Raises:
        UserError: ``keep_last`` is below 1.
    """

    suffix = ""

    def __init__(self, folder: str | Path, *, keep_last: int = 2) -> None:
        if keep_last < 1:
            raise UserError(f"keep_last ({keep_last}) must be at least 1, or nothing could be resumed; use 1 or more")
        self.folder = Path(folder)
        self.keep_last = keep_last
        self._name = re.compile(r"step-(\d{8,})" + re.escape(self.suffix))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first; nothing is verified."""
        if not self.folder.is_dir():
            return []
        matches = (self._name.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def path_of(self, step: int) -> Path:
        """The checkpoint of ``step``; it may not exist."""
        return self.folder / f"step-{step:08d}{self.suffix}"

    def surplus(self) -> list[Path]:
        """What is older than the last few."""
        return [self.path_of(step) for step in self.steps()[: -self.keep_last]]

    def none_readable(self, count: int) -> CheckpointError:
        """The error where all ``count`` checkpoints are damaged: starting over in silence would lose the run."""
        return CheckpointError(
            f"none of the {count} checkpoints in {self.folder} can be read; restore one from a copy, or remove the "
            "folder to start this stage over"
        )
