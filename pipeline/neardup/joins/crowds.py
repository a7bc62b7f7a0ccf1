"""Floods: rows with so many neighbours that their matches with each other are not worth having.

A thousand hashes that are all near each other have half a million matches, a hundred thousand have five billion. So a
row with more than `most` matches is crowded, and a match of two crowded rows need not be reported. How many matches a
row has in all is known to no single tile: a tile may report such a match or not, and says which rows it knows to be
crowded. All matches of the other rows are always there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LIFTED = (1 << 31) - 1  # more than the matches of any row


class Crowd(NamedTuple):
    """The matches met so far per row, by its number in the caller's array, and how many make it crowded.

    Bands meet some matches again, so they are counted band by band: the row stays crowded, the others start anew.
    """

    queries: NDArray[np.int64]  # the left rows
    references: NDArray[np.int64]  # the right rows; the same array in a self-join
    most: int
    report: bool = True  # false: matches are counted only

    def swapped(self) -> "Crowd":
        """The same with left and right exchanged."""
        return self._replace(queries=self.references, references=self.queries)

    def counting(self) -> "Crowd":
        """An empty one for the same rows, to count in."""
        queries = np.zeros_like(self.queries)
        itself = self.references is self.queries
        return Crowd(queries, queries if itself else np.zeros_like(self.references), self.most, report=False)

    def start_anew(self) -> None:
        """Forget the counts of the rows that are not crowded."""
        for counts in (self.queries, self.references):
            counts[counts <= self.most] = 0

    def add_crowded(self, other: "Crowd") -> None:
        """Whoever is crowded there is crowded here."""
        for mine, theirs in ((self.queries, other.queries), (self.references, other.references)):
            np.copyto(mine, theirs, where=theirs > self.most)

    def worth_having(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which matches are not of two crowded rows."""
        wanted: NDArray[np.bool_] = (self.queries[i] <= self.most) | (self.references[j] <= self.most)
        return wanted


def crowd(n_left: int, n_right: int | None = None, most: int = LIFTED) -> Crowd:
    """Nothing counted yet, for a join of so many rows with so many others, or (None) with themselves."""
    queries = np.zeros(n_left, np.int64)
    return Crowd(queries, queries if n_right is None else np.zeros(n_right, np.int64), most)
