"""A figure of a sweep: the metric against each swept key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffmae_video.errors import UserError
from diffmae_video.launch.table import Row, swept_keys


def plot_rows(rows: Sequence[Row], path: str | Path) -> str:
    """Draw top-1 (or, where no run has been tested, the last loss) against each swept key; one panel a key.

    A dot is a run, the line joins the means over the runs that share a value.

    Returns:
        the name of the metric drawn.

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
        raise UserError("a plot needs matplotlib: pip install 'diffmae_video[demo]'") from None
    figure = Figure(figsize=(4.2 * len(keys), 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        places, scale = _places([row.differs[key] for row in rows if key in row.differs])
        values: dict[float, list[float]] = {place: [] for place in places.values()}
        for row in rows:
            if key in row.differs:
                values[places[row.differs[key]]].append(getattr(row, metric))
        for place, group in values.items():
            axes.plot([place] * len(group), group, "o", color="tab:blue", alpha=0.6)
        order = sorted(values)
        axes.plot(order, [sum(values[place]) / len(values[place]) for place in order], "-", color="tab:blue")
        if scale == "names":
            axes.set_xticks(list(places.values()), list(places))
        else:
            axes.set_xscale(scale)
        axes.set(xlabel=key, ylabel="top-1" if metric == "top1" else "loss")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    return metric


def _places(texts: Sequence[str]) -> tuple[dict[str, float], str]:
    """Where each value goes on the axis, and the axis: linear, log (positive, over a decade or more) or names."""
    try:
        places = {text: float(text) for text in texts}
    except ValueError:
        return {text: float(i) for i, text in enumerate(dict.fromkeys(texts))}, "names"
    low, high = min(places.values()), max(places.values())
    return places, "log" if low > 0 and high >= 10 * low else "linear"
