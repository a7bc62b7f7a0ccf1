"""Packed hashes as 64-bit words, and the distinct ones among them."""

import numpy as np
from numpy.typing import NDArray

from neardup.errors import UsageError

Hashes = NDArray[np.uint8]


def as_words(hashes: Hashes) -> NDArray[np.uint64]:
    """The rows (n, width in bytes) as uint64 words (n, words), padded with zero bits; a view where that is possible.

    Raises UsageError for other arrays.
    """
    rows = np.asarray(hashes)
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] == 0:
        raise UsageError(
            f"hashes of type {rows.dtype} and shape {rows.shape} cannot be joined: give packed bits, uint8 (n, bytes)"
        )
    if rows.shape[1] % 8 == 0 and rows.flags.c_contiguous and rows.ctypes.data % 8 == 0:
        return rows.view(np.uint64)
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    return padded.view(np.uint64)


def distinct(hashes: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
    """The distinct rows in lexicographic order (m, width), and for each row of `hashes` its place among them (n,)."""
    words = as_words(hashes).byteswap() if np.little_endian else as_words(hashes)
    order = np.argsort(words[:, 0])
    starts = words[order, 0]
    same_start = starts[1:] == starts[:-1]
    if words.shape[1] > 1 and same_start.any():
        _sort_ties(words, order, same_start)
    first = np.ones(len(words), bool)  # of its equals, in order
    again = np.flatnonzero(same_start)
    first[1:][again] = (words[order[again + 1]] != words[order[again]]).any(axis=1)
    inverse = np.empty(len(words), np.int64)
    inverse[order] = np.cumsum(first) - 1
    return np.ascontiguousarray(hashes[order[first]]), inverse


def _sort_ties(words: NDArray[np.uint64], order: NDArray[np.int64], same_start: NDArray[np.bool_]) -> None:
    """Sort `order` by all words, in place, where rows have the same first word and then differ."""
    again = np.flatnonzero(same_start)
    differ = np.zeros(len(same_start), bool)
    differ[again] = (words[order[again + 1], 1:] != words[order[again], 1:]).any(axis=1)
    run = np.concatenate([[0], np.cumsum(~same_start)])
    unsorted = np.isin(run, run[1:][differ])
    tied = order[unsorted]
    order[unsorted] = tied[np.lexsort(words[tied].T[::-1])]
