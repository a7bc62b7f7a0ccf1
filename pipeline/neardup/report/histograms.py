"""The distances of a benchmark as a grid of histograms; imported only where a figure is drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import wasserstein_distance

from neardup.metrics.rules import Floats, Rule

__all__ = ["Figure", "draw"]

Key = tuple[Any, ...]


def draw(groups: Mapping[Key, tuple[Floats, Floats]], rule: Rule) -> Figure:
    """A row per group and a column per hasher, which is the last item of a key."""
    rows, columns = _ordered(key[:-1] for key in groups), _ordered(key[-1:] for key in groups)
    figure = Figure(figsize=(4 * max(1, len(columns)), 3 * max(1, len(rows))), layout="tight")
    FigureCanvasAgg(figure)
    if not groups:
        return figure
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    widest = {name: max(_largest(pair) for key, pair in groups.items() if key[-1:] == name) for name in columns}
    for (row, column), axes in np.ndenumerate(grid):
        key = (*rows[row], *columns[column])
        if key in groups:
            _histogram(axes, groups[key], rule, widest[columns[column]])
        if row == 0:
            axes.set_title(str(columns[column][0]))
        if column == 0 and rows[row]:
            axes.set_ylabel(", ".join(map(str, rows[row])))
    grid[0, 0].legend()
    return figure


def _histogram(axes: Axes, distances: tuple[Floats, Floats], rule: Rule, widest: float) -> None:
    choice = rule.choose(*distances)
    correct, incorrect = (values[np.isfinite(values)] for values in distances)
    for values, label in ((incorrect, "neg"), (correct, "pos")):
        axes.hist(values, bins=10, label=label)
    lines = [f"Recall: {choice.recall:.0f}% @ {choice.threshold:.3g}"]
    if len(correct) and len(incorrect):
        lines.append(f"emd: {wasserstein_distance(correct, incorrect):.2f}")
    axes.text(0.5, 0.5, "\n".join(lines), transform=axes.transAxes, ha="center", va="center", weight="bold")
    axes.set_xlim(-0.05 * widest, widest)


def _largest(distances: tuple[Floats, Floats]) -> float:
    values = np.concatenate(distances)
    return float(max(values[np.isfinite(values)].max(initial=0.0), 1e-9))


def _ordered(keys: Any) -> list[Key]:
    return list(dict.fromkeys(sorted(keys)))
