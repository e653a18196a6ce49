"""Pictures of inpainting: what was there, what the model saw, how others and the model filled it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from torch import Tensor

matplotlib.use("Agg")  # files only; no display is needed

from matplotlib import pyplot

GREY = 0.5  # what hidden pixels look like in the row "seen"


def inpainting_figure(
    path: str | Path,
    rows: Mapping[str, Tensor],
    *,
    title: str,
    seconds: list[float] | None = None,
) -> None:
    """Draw one clip's versions below each other, time running to the right.

    Args:
        path: the PNG to write.
        rows: name of a row to its frames (frames, 3, height, width) float in 0...1; equally many frames each.
        title: above the picture.
        seconds: time of each frame, written above the columns.
    """
    num_frames = len(next(iter(rows.values())))
    assert all(len(frames) == num_frames for frames in rows.values())
    size = (1.1 * num_frames + 1.5, 1.15 * len(rows) + 0.7)
    figure, axes = pyplot.subplots(len(rows), num_frames, figsize=size, squeeze=False, layout="compressed")
    for row, (name, frames) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for axis, frame in zip(row, frames, strict=True):
            # Single pixels stay visible: a smoothing upscale would flatter every row.
            axis.imshow(frame.clamp(0, 1).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, second in zip(axes[0], seconds or [], strict=False):
        axis.set_title(f"{second:.2f} s", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def paint_hidden(video: Tensor, hidden: Tensor) -> Tensor:
    """The clips (..., frames, 3, height, width) with their hidden pixels (..., frames, height, width) grey."""
    return video.masked_fill(hidden[..., None, :, :], GREY)
