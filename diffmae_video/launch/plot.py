"""A figure of a sweep: the metric against each swept key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffmae_video.errors import UserError
from diffmae_video.launch.table import Row, swept_keys


def plot_rows(rows: Sequence[Row], path: str | Path) -> str:
    """Draw top-1 (or, if no run has been tested, the last loss) against each swept key, one panel per key.

    A dot is a run; the line joins the means of the runs with the same value.

    Returns:
        name of the drawn metric, "top1" or "loss".

    Raises:
        UserError: nothing to draw, or matplotlib isn't installed.
    """
    keys = swept_keys(rows)
    metric = "top1" if any(row.top1 is not None for row in rows) else "loss"
    rows = [row for row in rows if getattr(row, metric) is not None]
    if not keys or not rows:
        raise UserError(f"{path}: nothing to draw yet, no run of a swept key has a loss or a top-1")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--plot needs matplotlib: pip install 'diffmae_video[demo]'") from None
    figure = Figure(figsize=(4.2 * len(keys), 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        positions, scale = _axis_positions([row.params[key] for row in rows if key in row.params])
        values: dict[float, list[float]] = {position: [] for position in positions.values()}
        for row in rows:
            if key in row.params:
                values[positions[row.params[key]]].append(getattr(row, metric))
        for position, group in values.items():
            axes.plot([position] * len(group), group, "o", color="tab:blue", alpha=0.6)
        order = sorted(values)
        axes.plot(order, [sum(values[position]) / len(values[position]) for position in order], "-", color="tab:blue")
        if scale == "names":
            axes.set_xticks(list(positions.values()), list(positions))
        else:
            axes.set_xscale(scale)
        axes.set(xlabel=key, ylabel="top-1" if metric == "top1" else "loss")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    return metric


def _axis_positions(texts: Sequence[str]) -> tuple[dict[str, float], str]:
    """Position of each value on the axis, and its scale: linear, log (positive, a decade or more) or names."""
    try:
        positions = {text: float(text) for text in texts}
    except ValueError:
        return {text: float(i) for i, text in enumerate(dict.fromkeys(texts))}, "names"
    low, high = min(positions.values()), max(positions.values())
    return positions, "log" if low > 0 and high >= 10 * low else "linear"
