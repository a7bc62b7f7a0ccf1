"""Joins: arrays of packed hashes and a radius in bits → `Matches(i, j, distance)`.

`JOINS` is the catalogue of engines; `self_join` and `cross_join` are the exact one. All of it runs on the calling
thread, without the GIL while it compares.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.errors import UsageError
from pipeline.joins.bitslices import rows_with_prefix, scan
from pipeline.joins.matches import Matches, concatenated
from pipeline.joins.prefix import choose_prefix
from pipeline.joins.words import Hashes, as_words, distinct

__all__ = [
    "CHUNK_PAIRS",
    "JOINS",
    "Engine",
    "Matches",
    "concatenated",
    "cross_join",
    "cross_join_chunks",
    "distinct",
    "radius_from_threshold",
    "self_join",
    "self_join_chunks",
]

CHUNK_PAIRS = 1 << 22  # 84 MB of matches


def self_join(hashes: Hashes, radius_bits: int) -> Matches:
    """All pairs i < j of rows of `hashes`, packed bits (n, width in bytes), at Hamming distance <= `radius_bits`."""
    return concatenated(self_join_chunks(hashes, radius_bits))


def cross_join(left: Hashes, right: Hashes, radius_bits: int) -> Matches:
    """All pairs of a row i of `left` and a row j of `right` at Hamming distance <= `radius_bits`."""
    return concatenated(cross_join_chunks(left, right, radius_bits))


def self_join_chunks(hashes: Hashes, radius_bits: int, chunk_pairs: int = CHUNK_PAIRS) -> Iterator[Matches]:
    """The matches of `self_join` in chunks of 1 to `chunk_pairs`, each sorted, so that a caller can spill them."""
    words = as_words(hashes)
    if len(words) < 2 or radius_bits < 0:
        return
    radius_bits = min(radius_bits, words.shape[1] * 64)
    prefix = choose_prefix(words, words, radius_bits)
    rows = rows_with_prefix(words, prefix)
    yield from scan(rows, None, radius_bits, prefix, chunk_pairs)


def cross_join_chunks(
    left: Hashes, right: Hashes, radius_bits: int, chunk_pairs: int = CHUNK_PAIRS
) -> Iterator[Matches]:
    """The matches of `cross_join` in chunks of 1 to `chunk_pairs`, each sorted, so that a caller can spill them."""
    left_words, right_words = as_words(left), as_words(right)
    if left.shape[1] != right.shape[1]:
        raise UsageError(
            f"hashes of {left.shape[1]} and {right.shape[1]} bytes cannot be joined: use the same hasher on both sides"
        )
    if len(left_words) == 0 or len(right_words) == 0 or radius_bits < 0:
        return
    radius_bits = min(radius_bits, left_words.shape[1] * 64)
    prefix = choose_prefix(left_words, right_words, radius_bits)
    left_rows, right_rows = rows_with_prefix(left_words, prefix), rows_with_prefix(right_words, prefix)
    yield from scan(left_rows, right_rows, radius_bits, prefix, chunk_pairs)


def radius_from_threshold(threshold: float, bits: int) -> int:
    """The largest number d of `bits` differing bits with d / bits < threshold in float64; -1 when nothing can match.

    Raises UsageError when the threshold is not a fraction 0..1.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(
            f"threshold {threshold:g} is outside 0..1: Hamming thresholds are fractions 0..1; "
            "for a number of bits use radius_bits"
        )
    if bits < 1:
        raise UsageError(f"a hash of {bits} bits has no distances: give the number of bits, 1 or more")
    radius = min(int(threshold * bits) + 1, bits)
    while radius >= 0 and radius / bits >= threshold:
        radius -= 1
    return radius


class Engine(NamedTuple):
    """One way to join: its chunked self-join and cross-join, and whether they find every match."""

    self_join_chunks: Callable[[Hashes, int, int], Iterator[Matches]]
    cross_join_chunks: Callable[[Hashes, Hashes, int, int], Iterator[Matches]]
    exact: bool


JOINS: dict[str, Engine] = {"exact": Engine(self_join_chunks, cross_join_chunks, exact=True)}
