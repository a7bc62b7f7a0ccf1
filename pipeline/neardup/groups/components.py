"""Connected components by union-find over chunks of edges."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neardup.compiled import compiled
from neardup.errors import UsageError

Edges = tuple[ArrayLike, ArrayLike]
"""A chunk of edges: parallel arrays of the items at their two ends."""


def components(n: int, edges: Iterable[Edges]) -> NDArray[np.int64]:
    """For each of n items the smallest item it is connected to by the edges, directly or not: int64 (n,).

    Edges come in chunks, of which one at a time is held. Raises UsageError when an edge names an item outside 0..n-1.
    """
    labels = np.arange(n, dtype=np.int64)
    for starts, ends in checked(n, edges):
        join_edges(labels, starts, ends)
    label_roots(labels)
    return labels


def checked(n: int, edges: Iterable[Edges]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The chunks as one type of array whatever they come as, so that the compiled code is of one kind too."""
    for i, j in edges:
        starts, ends = _read_only(i), _read_only(j)
        if len(starts) != len(ends):
            raise UsageError(f"{len(starts)} edge starts and {len(ends)} ends: give as many of both")
        for items in (starts, ends):
            if len(items) and not 0 <= items.min() <= items.max() < n:
                raise UsageError(f"an edge names item {items.min()} or {items.max()}, but the items are 0 to {n - 1}")
        yield starts, ends


def _read_only(items: ArrayLike) -> NDArray[np.int64]:
    view = np.ascontiguousarray(items, np.int64).view()
    view.flags.writeable = False
    return view


@compiled
def join_edges(labels: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Union-find with path halving; the smaller root wins, so each root is the smallest item of its component."""
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


@compiled
def label_roots(labels: NDArray[np.int64]) -> None:
    """Point every item at its root: a parent is never larger, so it is final when its children are reached."""
    for item in range(labels.shape[0]):
        labels[item] = labels[labels[item]]
