"""The nearest references of transformed hashes: of the same owner (correct) and of any other (incorrect).

Arrays in, arrays out, block by block: no array is as large as queries times references. A tile of the references gives
a `Nearest`, and `merged` joins those of several tiles into what one large call would have given. `bit_pairs` and
`vector_pairs` count the pairs of different owners by their distance: the tail that a threshold lets through.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from neardup.compiled import compiled, count_ones
from neardup.errors import UsageError
from neardup.joins.words import as_words

BLOCK_QUERIES = 512
BLOCK_REFERENCES = 4096  # 16 MB of distances
CHUNK = 512  # references whose distances to one query are kept in the nearest cache
PAIRS = 1 << 14  # pairs of vectors compared at once
FAR = np.iinfo(np.int64).max

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Values = NDArray[Any]
Measure = Callable[[Values, Values], Floats]


class Owned(NamedTuple):
    """Hashes and whose they are: the original's number, the same for an original and all that was made of it.

    `values`: packed bits (n, bytes) for `nearest_bits`, otherwise vectors (n, length) or, for a function of the user's
    own, anything in one dimension.
    """

    values: Values
    owners: Rows


class Nearest(NamedTuple):
    """For each query: the distance to the nearest reference of its own owner and of the others, NaN where none is.

    `incorrect_row` is that other reference, the first of the nearest in order of owners, -1 where none is.
    """

    correct: Floats
    incorrect: Floats
    incorrect_row: Rows

    @staticmethod
    def nothing(queries: int) -> "Nearest":
        """What no references at all give."""
        return Nearest(np.full(queries, np.nan), np.full(queries, np.nan), np.full(queries, -1))

    def part(self, queries: slice) -> "Nearest":
        """Of some of the queries: views."""
        return Nearest(self.correct[queries], self.incorrect[queries], self.incorrect_row[queries])

    def merged(self, later: "Nearest", row_offset: int) -> "Nearest":
        """Of two tiles of references the second of which starts at row `row_offset`."""
        closer = np.isnan(self.incorrect) | (later.incorrect < self.incorrect)
        return Nearest(
            np.fmin(self.correct, later.correct),
            np.fmin(self.incorrect, later.incorrect),
            np.where(closer & (later.incorrect_row >= 0), later.incorrect_row + row_offset, self.incorrect_row),
        )


def nearest_bits(queries: Owned, references: Owned, bits: int) -> Nearest:
    """By Hamming distance, as a fraction of `bits`, of packed hashes."""
    return _scanned(queries, references, bits, np.empty(0, np.int64))


def bit_pairs(queries: Owned, references: Owned, bits: int) -> tuple[Nearest, Rows]:
    """What `nearest_bits` gives, and how many pairs of different owners differ by 0, 1, ... `bits` bits."""
    pairs = np.zeros(bits + 1, np.int64)
    return _scanned(queries, references, bits, pairs), pairs


def vector_pairs(queries: Owned, references: Owned, metric: str, width: float, bins: int) -> Rows:
    """How many pairs of different owners lie in each of `bins` intervals of this width, the last open-ended.

    Distances are those of `nearest_vectors`; one that is not a number counts nowhere.
    """
    pairs = np.zeros(bins, np.int64)
    exact = pair_metric(metric)
    for start in range(0, len(queries.owners), BLOCK_QUERIES):
        part = slice(start, start + BLOCK_QUERIES)
        for first in range(0, len(references.owners), BLOCK_REFERENCES):
            block = slice(first, first + BLOCK_REFERENCES)
            distance = exact(queries.values[part], references.values[block])
            other = queries.owners[part, None] != references.owners[None, block]
            found = distance[other & ~np.isnan(distance)]
            pairs += np.bincount(np.minimum(found / width, bins - 1).astype(np.int64), minlength=bins)
    return pairs


def _scanned(queries: Owned, references: Owned, bits: int, pairs: Rows) -> Nearest:
    """Of packed hashes; `pairs`, unless it is empty, is counted up."""
    if queries.values.shape[1] != references.values.shape[1]:
        raise UsageError(f"hashes of {queries.values.shape[1]} and {references.values.shape[1]} bytes have no distance")
    if not len(references.owners):
        return Nearest.nothing(len(queries.owners))
    order = np.argsort(references.owners, kind="stable")
    columns = np.ascontiguousarray(as_words(np.ascontiguousarray(references.values[order])).T)
    own_start, own_stop = own_rows(queries.owners, references.owners[order])
    found = np.full((3, len(queries.owners)), FAR, np.int64)
    scan_bits(as_words(queries.values), columns, own_start, own_stop, found, pairs)
    correct, incorrect = (np.where(row == FAR, np.nan, row / bits) for row in found[:2])
    return Nearest(correct, incorrect, np.where(found[1] == FAR, -1, order[np.where(found[1] == FAR, 0, found[2])]))


def nearest_vectors(queries: Owned, references: Owned, metric: str | Callable[[Any, Any], float]) -> Nearest:
    """By a metric of vectors ("euclidean", "sqeuclidean", or another of SciPy's), or by a function of two values.

    Distances are those of `scipy.spatial.distance.cdist` in float64. A distance that is not a number is none.
    """
    order = np.argsort(references.owners, kind="stable")
    ordered = Owned(references.values[order], references.owners[order])
    own_start, own_stop = own_rows(queries.owners, ordered.owners)
    exact = pair_function(metric) if callable(metric) else pair_metric(metric)
    # A product of matrices finds what may be nearest, many times as fast; then that alone is compared exactly.
    screen = squared if metric in ("euclidean", "sqeuclidean") else None
    result = Nearest.nothing(len(queries.owners))
    for start in range(0, len(queries.owners), BLOCK_QUERIES):
        part = slice(start, start + BLOCK_QUERIES)
        own = own_start[part], own_stop[part]
        found = _nearest_of_block(queries.values[part], ordered.values, own, exact, screen)
        for column, values in zip(result, found, strict=True):
            column[part] = values
    row = result.incorrect_row
    row[row >= 0] = order[row[row >= 0]]
    return result


def own_rows(query_owners: Rows, sorted_owners: Rows) -> tuple[Rows, Rows]:
    """For each query, the first and the end of the references of the same owner."""
    return np.searchsorted(sorted_owners, query_owners), np.searchsorted(sorted_owners, query_owners, "right")


def pair_metric(metric: str) -> Measure:
    """The distances of all queries and all references by one of SciPy's metrics."""

    def measure(queries: Values, references: Values) -> Floats:
        try:
            return cast("Floats", cdist(queries, references, metric))
        except ValueError as exc:
            raise UsageError(f"hashes cannot be compared by the metric {metric!r}: {exc}") from exc

    return measure


def pair_function(function: Callable[[Any, Any], float]) -> Measure:
    """The distances of all queries and all references by a function of the user's own, one pair at a time."""
    outer = np.frompyfunc(function, 2, 1).outer
    return lambda queries, references: cast("Floats", outer(queries, references).astype(np.float64))


def squared(queries: Values, references: Values) -> tuple[Floats, float]:
    """Squared Euclidean distances by a product of matrices, and more than they can be off."""
    centre = references.mean(axis=0, dtype=np.float64)
    a, b = queries - centre, references - centre
    a_norms, b_norms = ((each * each).sum(axis=1, keepdims=True) for each in (a, b))
    largest = float(max(a_norms.max(), b_norms.max()))
    # An inner product of n terms is off by about n times the rounding error (Higham 2002, section 3.1).
    margin = 16 * (a.shape[1] + 8) * float(np.finfo(np.float64).eps) * max(largest, 1e-300)
    # -2ab + a² + b² in one product
    return np.hstack([-2 * a, a_norms, np.ones_like(a_norms)]) @ np.hstack(
        [b, np.ones_like(b_norms), b_norms]
    ).T, margin


def _nearest_of_block(
    queries: Values,
    references: Values,
    own: tuple[Rows, Rows],
    exact: Measure,
    screen: Callable[[Values, Values], tuple[Floats, float]] | None,
) -> Nearest:
    result = Nearest.nothing(len(queries))
    enough = np.full((len(queries), 1), np.inf)  # the nearest so far is no farther
    for start in range(0, len(references), BLOCK_REFERENCES):
        block = references[start : start + BLOCK_REFERENCES]
        rows, columns = _own_pairs(own, start, len(block))
        distance, margin = screen(queries, block) if screen else (exact(queries, block), 0.0)
        correct = np.full(len(queries), np.inf)
        own_distance = _of_pairs(queries, block, rows, columns, exact) if screen else distance[rows, columns]
        np.fmin.at(correct, rows, own_distance)
        distance[rows, columns] = np.inf
        least = distance.min(axis=1, keepdims=True)
        if np.isnan(least).any():
            distance[np.isnan(distance)] = np.inf
            least = distance.min(axis=1, keepdims=True)
        enough = np.minimum(enough, least + margin)
        near_rows, near_columns = np.nonzero(distance <= np.where(np.isinf(least), -np.inf, enough + margin))
        values = _of_pairs(queries, block, near_rows, near_columns, exact) if screen else least[near_rows, 0]
        best = np.lexsort((near_columns, values, near_rows))
        first = best[np.flatnonzero(np.diff(near_rows[best], prepend=-1))]
        found = Nearest.nothing(len(queries))
        found.correct[:] = np.where(np.isinf(correct), np.nan, correct)
        found.incorrect[near_rows[first]] = values[first]
        found.incorrect_row[near_rows[first]] = near_columns[first]
        result = result.merged(found, start)
    return result


def _own_pairs(own: tuple[Rows, Rows], start: int, length: int) -> tuple[Rows, Rows]:
    """The pairs of a query and a reference of the same owner, in a block of references."""
    first, stop = (np.clip(bound - start, 0, length) for bound in own)
    counts = stop - first
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)


def _of_pairs(queries: Values, references: Values, rows: Rows, columns: Rows, exact: Measure) -> Floats:
    """The distances of single pairs, `rows` sorted: bit for bit as `exact` gives them for all."""
    result = np.empty(len(rows))
    ends = np.flatnonzero(np.diff(rows, append=-1)) + 1
    first = 0
    for end in ends.tolist():
        row = rows[first]
        for start in range(first, end, PAIRS):
            part = slice(start, min(start + PAIRS, end))
            result[part] = exact(queries[row : row + 1], references[columns[part]])[0]
        first = end
    return result


@compiled
def scan_bits(
    queries: NDArray[np.uint64],
    references: NDArray[np.uint64],
    own_start: NDArray[np.int64],
    own_stop: NDArray[np.int64],
    found: NDArray[np.int64],
    pairs: NDArray[np.int64],
) -> None:
    """Per query the bits that differ from its nearest own reference, from the nearest other, and the row of that.

    `references` has a column for each; `own_start` to `own_stop` are those of the query's owner; `found`: (3, queries).
    `pairs`, unless it is empty, counts the others by their distance.
    """
    n_words, n_references = references.shape
    distance = np.empty(CHUNK, np.int64)
    counting = len(pairs) > 0
    for start in range(0, n_references, CHUNK):  # so many references stay in the nearest cache for all queries
        size = min(CHUNK, n_references - start)
        for query in range(queries.shape[0]):
            word, column = queries[query, 0], references[0, start : start + size]
            for k in range(size):
                distance[k] = count_ones(word ^ column[k])
            for w in range(1, n_words):
                word, column = queries[query, w], references[w, start : start + size]
                for k in range(size):
                    distance[k] += count_ones(word ^ column[k])
            if counting:
                for k in range(size):
                    pairs[distance[k]] += 1
            for k in range(max(0, own_start[query] - start), min(size, own_stop[query] - start)):
                found[0, query] = min(found[0, query], distance[k])
                if counting:
                    pairs[distance[k]] -= 1
                distance[k] = FAR
            least = distance[0]
            for k in range(1, size):
                least = min(least, distance[k])
            if least < found[1, query]:
                found[1, query] = least
                for k in range(size):
                    if distance[k] == least:
                        found[2, query] = start + k
                        break
