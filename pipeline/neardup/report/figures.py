"""The plots of a benchmark: a heat map, recall against false positives, and histograms of distances."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neardup import tables
from neardup.hashers import folder_label
from neardup.report.markdown import percent
from neardup.report.results import Results

HEATMAP, CURVES, DISTANCES = "recall.svg", "curves.svg", "distances.png"
_COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D31",
]  # Okabe and Ito 2008
_DASHES = ["-", "--", ":", "-."]
_CORRECT, _INCORRECT = _COLOURS[0], _COLOURS[1]
_BINS = 40
_ABREAST = 4  # panels
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "neardup"}


def draw_all(root: str, results: Results) -> dict[str, bytes]:
    """Each plot as a file, by name. Distances are read one hasher at a time."""
    if not len(results.metrics):
        return {}
    with mpl.rc_context(_STYLE):
        return {
            HEATMAP: _svg(heatmap(results)),
            CURVES: _svg(recall_curves(results)),
            DISTANCES: _png(histograms(results, {name: _read_histogram(root, name) for name in results.hashers})),
        }


def heatmap(results: Results) -> Figure:
    """Recall of each hasher under each transform, each at the threshold of its own that keeps the headline rate."""
    matrix = results.recall_matrix()
    figure = _figure(2.2 + 0.75 * matrix.shape[1], 1.3 + 0.42 * matrix.shape[0])
    axes = figure.subplots()
    axes.imshow(matrix.to_numpy(), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(matrix.shape[1]), matrix.columns, rotation=35, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(matrix.shape[0]), matrix.index)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        if np.isfinite(value):
            colour = "white" if value > 60 else "#222222"
            axes.text(column, row, percent(value), ha="center", va="center", color=colour)
    return figure


def recall_curves(results: Results) -> Figure:
    """Recall against the false-positive rate of queries: all transforms together, then each."""
    curves = results.curves[results.curves["category"].isna()]
    panels: list[str | None] = [None, *results.recall_matrix().columns]
    columns = min(_ABREAST, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.1 * columns, 2.5 * rows + 0.6)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    metrics = results.metrics[results.metrics["category"].isna() & results.metrics["transform"].isna()]
    least = 1 / max(2, int(metrics["n_altered"].max()))
    for axes, panel in zip(grid.flat, panels, strict=False):
        of_panel = curves[curves["transform"].isna() if panel is None else curves["transform"] == panel]
        for number, hasher in reversed(list(enumerate(results.hashers))):  # the best on top
            line = of_panel[of_panel["hasher"] == hasher]
            rate = np.maximum(line["fpr_queries"], least)
            axes.plot(rate, line["recall"], label=hasher, drawstyle="steps-post", **_line(number))
        axes.axvline(results.rate, color="#999999", linewidth=0.8, zorder=0)
        axes.set_title("all transforms" if panel is None else panel, fontweight="bold" if panel is None else "normal")
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xlim(least, 1)
        axes.set_ylim(-2, 102)
        axes.grid(color="#eeeeee", linewidth=0.6)
    _leave_out(grid, len(panels))
    figure.supxlabel("false-positive rate (altered pictures that meet another original)")
    figure.supylabel("recall, %")
    handles, labels = (side[::-1] for side in grid[0, 0].get_legend_handles_labels())
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False)
    return figure


Histogram = tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]  # edges; by transform: correct, incorrect


def histograms(results: Results, found: Mapping[str, Histogram]) -> Figure:
    """A panel per hasher and in it a band per transform: the distances to the original and to the nearest other."""
    transforms, hashers = list(results.recall_matrix().columns), results.hashers
    columns = min(_ABREAST, len(hashers))
    rows = -(-len(hashers) // columns)
    figure = _figure(2.4 * columns + 1, rows * (0.5 * len(transforms) + 0.6) + 0.8)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    rates = results.at_rate().query("category.isna() and transform.notna()").set_index(["hasher", "transform"])
    for hasher, axes in zip(hashers, grid.flat, strict=False):
        edges, by_transform = found[hasher]
        for band, transform in enumerate(reversed(transforms)):
            if transform in by_transform:
                _band(axes, band, edges, by_transform[transform], rates.loc[(hasher, transform)])
        axes.set_title(hasher, fontsize=9, fontweight="bold")
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    _leave_out(grid, len(hashers))
    grid[0, 0].set_yticks(np.arange(len(transforms)) + 0.3, transforms[::-1])
    grid[0, 0].set_ylim(-0.05, len(transforms))
    handles = [mpl.patches.Patch(color=colour, alpha=0.6) for colour in (_CORRECT, _INCORRECT)]
    names = ["to its original", "to the nearest other original"]
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel(
        f"distance; the line is the threshold at a false-positive rate of {results.rate:g}, with its recall"
    )
    return figure


def _leave_out(grid: np.ndarray, used: int) -> None:
    """Hide the panels that are not used; those above them say what their axes are."""
    columns = grid.shape[1]
    for axes in grid.flat[used:]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, used - columns) : used]:
        axes.tick_params(axis="x", labelbottom=True)


def _band(axes: Axes, band: int, edges: np.ndarray, counts: tuple[np.ndarray, np.ndarray], rate: pd.Series) -> None:
    axes.axhline(band, color="#cccccc", linewidth=0.6, zorder=0)
    for values, colour in zip(counts, (_CORRECT, _INCORRECT), strict=True):
        axes.stairs(
            band + 0.85 * values / max(1, values.max()), edges, baseline=band, fill=True, color=colour, alpha=0.6
        )
    if not np.isnan(rate["threshold"]):
        axes.vlines(rate["threshold"], band, band + 0.92, color="#222222", linewidth=1.1)
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}
    text = f"{percent(rate['recall'])} %"
    axes.text(edges[-1], band + 0.9, text, ha="right", va="top", fontsize=8, bbox=box)


def _read_histogram(root: str, hasher: str) -> Histogram:
    folder = f"distances/hasher={folder_label(hasher)}"
    frame = tables.read_live(root, folder, tables.DISTANCES, ["transform", "correct", "incorrect"]).to_pandas()
    both = frame[["correct", "incorrect"]].to_numpy(np.float64)
    known = both[np.isfinite(both)]
    farthest = min(known.max(initial=0.0), 3 * np.quantile(known, 0.9)) if len(known) else 0.0
    edges = np.linspace(0, float(farthest) or 1.0, _BINS + 1)
    return edges, {str(name): _counts(rows, edges) for name, rows in frame.groupby("transform")}


def _counts(rows: pd.DataFrame, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In each interval; what lies beyond the last is in it."""
    within = rows[["correct", "incorrect"]].clip(upper=edges[-1])
    correct, incorrect = (np.histogram(within[name].dropna(), edges)[0] for name in within)
    return correct, incorrect


def _line(number: int) -> dict[str, str]:
    """Neighbours differ in colour and in dashes; so many lines as there are of both have different ones."""
    turn = number // len(_COLOURS)
    return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": _DASHES[(number + turn) % len(_DASHES)]}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _svg(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110, metadata={"Software": None})
    return sink.getvalue()
