"""Groups that no chain can stretch: greedy in the order of what is kept first, in time linear in the edges.

Twins (items whose hashes are equal, see `find_twins`) stand for each other: an edge of one is an edge of all. So the
groups are the same whether every pair of a thousand equal items is among the edges, or only a star of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neardup.compiled import compiled
from neardup.groups.components import Edges, checked, components

Integers = NDArray[np.int64]


def diameter(edges: Sequence[Edges], order: Integers, twins: Integers) -> Integers:
    """Stars: every member of a group has an edge to the one that is kept. No two that are kept have one.

    `order` lists the items, the one to keep first at the front. Each item in turn that is in no group yet begins one
    and takes all its neighbours that are in none. Gives the smallest item of each item's group.
    """
    return _grouped(edges, order, twins, take_stars)


def clique_like(edges: Sequence[Edges], order: Integers, twins: Integers) -> Integers:
    """Cliques: every two members of a group have an edge.

    As `diameter`, but a group takes a neighbour only if that has an edge to every member taken before it. The cliques
    are greedy, not the largest there are.
    """
    return _grouped(edges, order, twins, take_cliques)


def find_twins(n: int, hashers: Sequence[tuple[Sequence[Edges], Sequence[Edges]]]) -> Integers:
    """For each item the smallest item that equals it by every hasher: items with the same neighbours by definition.

    For each hasher all its edges, and those of them that join items of equal hashes. An item without an edge of a
    hasher equals, by that hasher, all others without one.
    """
    code = np.zeros(n, np.int64)
    for edges, equal in hashers:
        same = components(n, equal) + 1
        met = np.zeros(n, bool)
        for starts, ends in checked(n, edges):
            met[starts] = met[ends] = True
        same[~met] = 0
        code = np.unique(code * (n + 1) + same, return_inverse=True)[1].astype(np.int64)
    return _smallest(code)


def _grouped(edges: Sequence[Edges], order: Integers, twins: Integers, take: Callable[..., Any]) -> Integers:
    n = len(order)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    best = np.full(n, n, np.int64)
    np.minimum.at(best, twins, place)
    place = best[twins]
    first = np.full(n, -1, np.int64)  # at each place the place of the first of its group
    take(*_neighbours(edges, place), first)
    return _smallest(first[place])


def _smallest(group: Integers) -> Integers:
    """For each item the smallest item with the same group number, which is below the number of items."""
    smallest = np.full(len(group), len(group), np.int64)
    np.minimum.at(smallest, group, np.arange(len(group)))
    return smallest[group]


def _neighbours(edges: Sequence[Edges], place: Integers) -> tuple[Integers, NDArray[np.int32]]:
    """The neighbours of the item at place p, as places in ascending order: neighbours[starts[p] : starts[p + 1]]."""
    n = len(place)
    starts = np.zeros(n + 1, np.int64)
    for i, j in checked(n, edges):
        count_neighbours(place, i, j, starts[1:])
    np.cumsum(starts, out=starts)
    unsorted = np.empty(starts[-1], np.int32)
    ends = starts[:-1].copy()
    for i, j in checked(n, edges):
        fill_neighbours(place, i, j, ends, unsorted)
    neighbours = np.empty_like(unsorted)
    sort_neighbours(starts, unsorted, starts[:-1].copy(), neighbours)
    return starts, neighbours


@compiled
def count_neighbours(place: Integers, i: Integers, j: Integers, counts: Integers) -> None:
    """Add the neighbours that these edges give to each place. Twins are one place, no neighbours."""
    for edge in range(i.shape[0]):
        a, b = place[i[edge]], place[j[edge]]
        if a != b:
            counts[a] += 1
            counts[b] += 1


@compiled
def fill_neighbours(place: Integers, i: Integers, j: Integers, ends: Integers, neighbours: NDArray[np.int32]) -> None:
    """Write the neighbours that these edges give behind those written before; `ends` says where, and moves on."""
    for edge in range(i.shape[0]):
        a, b = place[i[edge]], place[j[edge]]
        if a != b:
            neighbours[ends[a]] = b
            neighbours[ends[b]] = a
            ends[a] += 1
            ends[b] += 1


@compiled
def sort_neighbours(
    starts: Integers, unsorted: NDArray[np.int32], ends: Integers, neighbours: NDArray[np.int32]
) -> None:
    """Tell each neighbour of each place in turn about that place: all hear of their neighbours in ascending order."""
    for p in range(starts.shape[0] - 1):
        for at in range(starts[p], starts[p + 1]):
            q = unsorted[at]
            neighbours[ends[q]] = p
            ends[q] += 1


@compiled
def take_stars(starts: Integers, neighbours: NDArray[np.int32], first: Integers) -> None:
    """Each free place (first is -1) in turn takes its free neighbours."""
    for p in range(first.shape[0]):
        if first[p] >= 0:
            continue
        first[p] = p
        for at in range(starts[p], starts[p + 1]):
            if first[neighbours[at]] < 0:
                first[neighbours[at]] = p


@compiled
def take_cliques(starts: Integers, neighbours: NDArray[np.int32], first: Integers) -> None:
    """Each free place in turn takes those of its free neighbours that are neighbours of all it took before.

    Every member tells its free neighbours that it is in; who was told by all members may become one. So each list of
    neighbours is read once as a member's, and once more as that of the first of a group.
    """
    told_for = np.full(first.shape[0], -1, np.int64)  # the group that `told` counts for
    told = np.zeros(first.shape[0], np.int64)
    for p in range(first.shape[0]):
        if first[p] >= 0:
            continue
        first[p] = p
        members = 1
        tell_neighbours(starts, neighbours, p, p, told_for, told)
        for at in range(starts[p], starts[p + 1]):
            q = neighbours[at]
            if first[q] < 0 and told_for[q] == p and told[q] == members:
                first[q] = p
                members += 1
                tell_neighbours(starts, neighbours, q, p, told_for, told)


@compiled
def tell_neighbours(
    starts: Integers, neighbours: NDArray[np.int32], member: int, group: int, told_for: Integers, told: Integers
) -> None:
    """Count one more member of this group at each of its neighbours, once where there are several edges."""
    last = -1
    for at in range(starts[member], starts[member + 1]):
        q = neighbours[at]
        if q == last:
            continue
        last = q
        if told_for[q] != group:
            told_for[q] = group
            told[q] = 0
        told[q] += 1
