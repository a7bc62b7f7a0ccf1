"""Edges between items → groups of near duplicates, and which member of each group to keep.

Items are whole numbers 0..n-1 in the order of their uris, so the smallest number is the smallest uri.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import UsageError
from pipeline.joins.compiled import compiled

REASONS = ("largest_pixels", "largest_bytes", "oldest_mtime", "smallest_uri")


class Kept(NamedTuple):
    """One row per item: how many items its group has (1: no near duplicate), whether to keep it, and which is kept.

    `reason` numbers the entry of REASONS in which the kept item beats this one; for the kept item, the next best one.
    """

    size: NDArray[np.int64]
    keep: NDArray[np.bool_]
    kept: NDArray[np.int64]
    reason: NDArray[np.int8]


def components(n: int, i: ArrayLike, j: ArrayLike) -> NDArray[np.int64]:
    """For each of n items the smallest item it is connected to by the edges (i, j), directly or not.

    Raises UsageError when an edge names an item outside 0..n-1.
    """
    starts, ends = _read_only(i), _read_only(j)
    for items in (starts, ends):
        if len(items) and not 0 <= items.min() <= items.max() < n:
            raise UsageError(f"an edge names item {items.min()} or {items.max()}, but the items are 0 to {n - 1}")
    if len(starts) != len(ends):
        raise UsageError(f"{len(starts)} edge starts and {len(ends)} ends: give as many of both")
    labels = np.arange(n, dtype=np.int64)
    join_edges(labels, starts, ends)
    return labels


def _read_only(items: ArrayLike) -> NDArray[np.int64]:
    """The items as one type of array whatever they come as, so that the compiled code is of one kind too."""
    view = np.ascontiguousarray(items, np.int64).view()
    view.flags.writeable = False
    return view


@compiled
def join_edges(labels: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Union-find with path halving; the smaller root wins, so each label ends as the smallest item of its component."""
    for edge in range(starts.shape[0]):
        x, y = starts[edge], ends[edge]
        while labels[x] != x:
            labels[x] = labels[labels[x]]
            x = labels[x]
        while labels[y] != y:
            labels[y] = labels[labels[y]]
            y = labels[y]
        if x < y:
            labels[y] = x
        else:
            labels[x] = y
    for item in range(labels.shape[0]):  # a parent is never larger, so it is final when its children are reached
        labels[item] = labels[labels[item]]


def choose_kept(labels: NDArray[np.int64], pixels: NDArray[Any], size_bytes: NDArray[Any], mtime: NDArray[Any]) -> Kept:
    """Which item of each group (equal label) to keep: most pixels, then most bytes, then oldest, then smallest uri.

    All arrays have one entry per item. `mtime` may be numbers or datetime64. A null (NaN, NaT) comes last.
    """
    n = len(labels)
    criteria = [_rank(pixels, descending=True), _rank(size_bytes, descending=True), _rank(mtime, descending=False)]
    criteria.append(np.arange(n))
    order = np.lexsort([*reversed(criteria), labels])
    first = np.ones(n, bool)
    first[1:] = labels[order[1:]] != labels[order[:-1]]
    group = np.cumsum(first) - 1
    best = order[first]
    size, kept = np.empty(n, np.int64), np.empty(n, np.int64)
    size[order] = np.bincount(group)[group]
    kept[order] = best[group]
    rival = kept.copy()
    second = np.flatnonzero(~first[1:] & first[:-1]) + 1
    rival[kept[order[second]]] = order[second]
    differs = np.stack([criterion != criterion[rival] for criterion in criteria[:-1]] + [np.ones(n, bool)])
    return Kept(size, kept == np.arange(n), kept, differs.argmax(axis=0).astype(np.int8))


def distances_to_kept(
    kept: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64], distance: NDArray[Any]
) -> NDArray[np.float64]:
    """For each item the distance of its own edge to the item kept for it; 0 for that item, NaN without such an edge."""
    nearest = np.full(len(kept), np.inf)
    for item, other in ((i, j), (j, i)):
        direct = kept[item] == other
        np.minimum.at(nearest, item[direct], distance[direct])
    nearest[np.isinf(nearest)] = np.nan
    nearest[kept == np.arange(len(kept))] = 0
    return nearest


def _rank(values: NDArray[Any], descending: bool) -> NDArray[np.int64]:
    """The place of each value among the distinct values, nulls last."""
    null = np.isnat(values) if values.dtype.kind in "mM" else np.isnan(values)
    distinct, place = np.unique(values[~null], return_inverse=True)
    rank = np.full(len(values), len(distinct), np.int64)
    rank[~null] = len(distinct) - 1 - place if descending else place
    return rank
