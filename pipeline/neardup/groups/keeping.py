"""Which member of each group to keep: the first in the order of a list of criteria."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Kept(NamedTuple):
    """One row per item: how many items its group has (1: no near duplicate), whether it is the kept one, and which is.

    `reason` numbers the criterion in which the kept item comes before this one; for the kept item, before the next one.
    It is the number of criteria where all of them are equal: then the smaller item comes first.
    """

    size: Integers
    keep: NDArray[np.bool_]
    kept: Integers
    reason: NDArray[np.int16]


def ranks(values: NDArray[Any], descending: bool = False) -> Integers:
    """The place of each value among the distinct values, 0 for the smallest (or largest), nulls (NaN, NaT) last."""
    null = np.isnat(values) if values.dtype.kind in "mM" else np.isnan(values)
    distinct, place = np.unique(values[~null], return_inverse=True)
    rank = np.full(len(values), len(distinct), np.int64)
    rank[~null] = len(distinct) - 1 - place if descending else place
    return rank


def keep_order(n: int, criteria: Sequence[Integers]) -> Integers:
    """The n items, the one to keep first at the front: by the first criterion, then the second, … then the smaller."""
    return np.lexsort([np.arange(n), *reversed(criteria)])


def choose_kept(labels: Integers, order: Integers, criteria: Sequence[Integers]) -> Kept:
    """The item of each group (equal label) that is first in the order which these criteria gave."""
    n = len(labels)
    by_group = order[np.argsort(labels[order], kind="stable")]
    first = np.ones(n, bool)
    first[1:] = labels[by_group[1:]] != labels[by_group[:-1]]
    group = np.cumsum(first) - 1
    size, kept = np.empty(n, np.int64), np.empty(n, np.int64)
    size[by_group] = np.bincount(group)[group]
    kept[by_group] = by_group[first][group]
    rival = kept.copy()
    second = np.flatnonzero(~first[1:] & first[:-1]) + 1
    rival[kept[by_group[second]]] = by_group[second]
    reason = np.full(n, len(criteria), np.int16)
    for number in reversed(range(len(criteria))):
        reason[criteria[number] != criteria[number][rival]] = number
    return Kept(size, kept == np.arange(n), kept, reason)


def distances_to_kept(
    kept: Integers, twins: Integers, edges: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]
) -> NDArray[np.float64]:
    """For each item the smallest distance of an edge between it and the item kept for it, or between twins of theirs.

    0 for the kept item and its twins, NaN without such an edge. Edges come in chunks: items, items, distances.
    """
    nearest = np.full(len(kept), np.inf)
    wanted = twins[kept]
    for i, j, distance in edges:
        for one, other in ((twins[i], twins[j]), (twins[j], twins[i])):
            direct = wanted[one] == other
            np.minimum.at(nearest, one[direct], distance[direct])
    nearest = nearest[twins]
    nearest[np.isinf(nearest)] = np.nan
    nearest[twins == wanted] = 0
    return nearest
