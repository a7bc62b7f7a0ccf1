"""Approximate joins by annoy, an index of random trees: it misses matches, and only a measurement says how many.

The nearest rows of each row are asked for, 32 first, then more while all of them are within the radius. annoy is an
extra: its package has no wheels and needs a compiler. (Bernhardsson, https://github.com/spotify/annoy.)
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neardup.errors import UsageError
from neardup.joins.matches import Matches
from neardup.joins.words import Hashes, as_words

NEAREST = 32  # rows asked for at first
BATCH_ROWS = 1 << 14


class Annoy(NamedTuple):
    """`trees` of the index, and how many of its nodes a query inspects (-1: trees times the rows asked for)."""

    trees: int = 10
    search_k: int = -1


def require_annoy() -> Any:
    """The annoy module. Raises UsageError, which names the extra, where it is not installed."""
    try:
        import annoy
    except ImportError as error:
        raise UsageError(
            "--engine annoy needs the package annoy; install it with: pip install 'neardup[annoy]', which needs a C++ "
            "compiler, or use the exact engine"
        ) from error
    return annoy


def annoy_self_join_chunks(
    hashes: Hashes, radius_bits: int, chunk_pairs: int, search: Annoy | None = None
) -> Iterator[Matches]:
    """Pairs i < j of rows within the radius that the index finds, in chunks of 1 to `chunk_pairs`, each sorted.

    The distances are exact, no pair comes twice, and the same hashes give the same pairs.
    """
    words = as_words(hashes)
    if len(words) < 2 or radius_bits < 0:
        return
    index = _index(hashes, search or Annoy())
    pieces = []
    for start in range(0, len(words), BATCH_ROWS):
        queries = range(start, min(start + BATCH_ROWS, len(words)))
        i, j = _neighbours(index, [(row, None) for row in queries], radius_bits, search or Annoy())
        other = i != j
        pieces.append(np.stack([np.minimum(i, j)[other], np.maximum(i, j)[other]]))
    i, j = np.unique(np.concatenate(pieces, axis=1), axis=1)
    yield from _chunks(words, words, i, j, chunk_pairs)


def annoy_cross_join_chunks(
    left: Hashes, right: Hashes, radius_bits: int, chunk_pairs: int, search: Annoy | None = None
) -> Iterator[Matches]:
    """Pairs of a row i of `left` and a row j of `right` that the index of `right` finds; the rest as above."""
    left_words, right_words = as_words(left), as_words(right)
    if left.shape[1] != right.shape[1]:
        raise UsageError(
            f"hashes of {left.shape[1]} and {right.shape[1]} bytes cannot be joined: use the same hasher on both sides"
        )
    if len(left_words) == 0 or len(right_words) == 0 or radius_bits < 0:
        return
    index = _index(right, search or Annoy())
    for start in range(0, len(left_words), BATCH_ROWS):
        vectors = np.unpackbits(left[start : start + BATCH_ROWS], axis=1).tolist()
        queries = list(enumerate(vectors, start))
        i, j = _neighbours(index, queries, radius_bits, search or Annoy())
        order = np.lexsort((j, i))
        yield from _chunks(left_words, right_words, i[order], j[order], chunk_pairs)


def _index(hashes: Hashes, search: Annoy) -> Any:
    """The index of all rows, built on one thread from a fixed seed."""
    index = require_annoy().AnnoyIndex(hashes.shape[1] * 8, "hamming")
    index.set_seed(1)
    for start in range(0, len(hashes), BATCH_ROWS):
        vectors = np.unpackbits(hashes[start : start + BATCH_ROWS], axis=1).tolist()
        for row, vector in enumerate(vectors, start):
            index.add_item(row, vector)
    index.build(search.trees, 1)
    return index


def _neighbours(
    index: Any, queries: list[tuple[int, list[int] | None]], radius_bits: int, search: Annoy
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each query (its number, and its bits unless it is a row of the index): itself and a row within the radius."""
    rows, others = [], []
    for number, vector in queries:
        asked = NEAREST
        while True:
            if vector is None:
                near, distances = index.get_nns_by_item(number, asked, search.search_k, True)
            else:
                near, distances = index.get_nns_by_vector(vector, asked, search.search_k, True)
            if len(near) < asked or distances[-1] > radius_bits:
                break
            asked *= 4
        within = [row for row, distance in zip(near, distances, strict=True) if distance <= radius_bits]
        rows.append(np.full(len(within), number, np.int64))
        others.append(np.array(within, np.int64))
    return np.concatenate(rows), np.concatenate(others)


def _chunks(
    left: NDArray[np.uint64], right: NDArray[np.uint64], i: NDArray[np.int64], j: NDArray[np.int64], chunk_pairs: int
) -> Iterator[Matches]:
    for start in range(0, len(i), chunk_pairs):
        a, b = i[start : start + chunk_pairs], j[start : start + chunk_pairs]
        yield Matches(a, b, np.bitwise_count(left[a] ^ right[b]).sum(axis=1, dtype=np.int32))
