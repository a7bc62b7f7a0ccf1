"""What every join engine gives back: matches of row numbers, in order."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Matches(NamedTuple):
    """Pairs of rows within the radius: three parallel arrays, sorted by (i, j), each pair once.

    `distance` counts differing bits. In a self-join i < j; in a cross-join i numbers left rows and j right rows.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    distance: NDArray[np.int32]

    def part(self, start: int, stop: int) -> "Matches":
        """The matches start to stop, as views."""
        return Matches(self.i[start:stop], self.j[start:stop], self.distance[start:stop])

    def where(self, wanted: NDArray[np.bool_] | NDArray[np.int64]) -> "Matches":
        """Those of the matches that a mask or their places name."""
        return Matches(self.i[wanted], self.j[wanted], self.distance[wanted])


def in_order(matches: Matches) -> Matches:
    """The same matches sorted by (i, j), as new arrays."""
    if len(matches.i) == 0:
        return Matches(matches.i.copy(), matches.j.copy(), matches.distance.copy())
    order = np.argsort(matches.i * (matches.j.max() + 1) + matches.j)  # one key sorts 10 times faster than two
    return Matches(matches.i[order], matches.j[order], matches.distance[order])


def concatenated(chunks: Iterable[Matches]) -> Matches:
    """All chunks as one, sorted by (i, j)."""
    pieces = list(chunks)
    if len(pieces) == 1:
        return pieces[0]
    empty = Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))
    return in_order(Matches(*(np.concatenate(column) for column in zip(empty, *pieces, strict=True))))
