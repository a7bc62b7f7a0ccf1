"""Rows in a flood → a spanning forest: as few matches as keep together what matches keep together.

The forest depends on the rows alone. First stars: each row in turn that no star holds yet becomes the centre of one,
and takes those of the rest that match it. Then bridges: each row in turn is linked with the first match in an earlier
star that its own star does not hang together with. Where all rows match each other the first star is the forest, and
only one row was compared with the others.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neardup.compiled import compiled, count_ones
from neardup.joins.words import Hashes, as_words

Integers = NDArray[np.int64]
Distances = Callable[[int, Integers], NDArray[Any]]  # row, other rows → their distances
Near = Callable[[NDArray[Any]], NDArray[np.bool_]]  # distances → which are within the radius


def spanning_forest(n: int, distances: Distances, near: Near) -> tuple[Integers, Integers, NDArray[Any]]:
    """Matches i < j of rows 0..n-1, and their distances: a tree for each component that all matches would give."""
    star, found = _stars(n, distances, near)
    found += _bridges(star, distances, near)
    i, j = (np.array([pair[side] for pair in found], np.int64) for side in (0, 1))
    apart = np.array([pair[2] for pair in found])
    order = np.lexsort((np.maximum(i, j), np.minimum(i, j)))
    return np.minimum(i, j)[order], np.maximum(i, j)[order], apart[order]


Edge = tuple[int, int, Any]


def _stars(n: int, distances: Distances, near: Near) -> tuple[Integers, list[Edge]]:
    """For each row the centre of its star, and the matches that make the stars."""
    star = np.arange(n)
    found: list[Edge] = []
    free = np.arange(n)
    while len(free):
        centre, free = int(free[0]), free[1:]
        apart = distances(centre, free)
        taken = near(apart)
        star[free[taken]] = centre
        found += [(centre, row, distance) for row, distance in zip(free[taken].tolist(), apart[taken], strict=True)]
        free = free[~taken]
    return star, found


def _bridges(star: Integers, distances: Distances, near: Near) -> list[Edge]:
    """Matches that link stars, none that closes a circle."""
    order = np.argsort(star, kind="stable")  # the rows star by star
    centres, starts = np.unique(star[order], return_index=True)
    number = np.searchsorted(centres, star[order])  # the star of each of them, counted
    tree = np.arange(len(centres))  # of each star: the first star that it hangs together with
    found: list[Edge] = []
    for later in range(1, len(centres)):
        stop = starts[later + 1] if later + 1 < len(starts) else len(order)
        for row in order[starts[later] : stop].tolist():
            others = np.flatnonzero(tree[number[: starts[later]]] != tree[later])
            if not len(others):
                break
            apart = distances(row, order[others])
            hits = near(apart)
            for k in np.flatnonzero(hits).tolist():
                mine, other = tree[later], tree[number[others[k]]]
                if mine != other:
                    found.append((int(order[others[k]]), row, apart[k]))
                    tree[tree == max(mine, other)] = min(mine, other)
    return found


def bit_distances(hashes: Hashes) -> Distances:
    """The Hamming distances of packed hashes (n, width in bytes)."""
    words = as_words(hashes)

    def distances(row: int, others: Integers) -> NDArray[np.int32]:
        found = np.empty(len(others), np.int32)
        count_differing(words, row, others, found)
        return found

    return distances


@compiled
def count_differing(words: NDArray[np.uint64], row: int, others: Integers, found: NDArray[np.int32]) -> None:
    """How many bits of one row and of each other row differ."""
    for k in range(others.shape[0]):
        distance = 0
        for w in range(words.shape[1]):
            distance += count_ones(words[row, w] ^ words[others[k], w])
        found[k] = distance
