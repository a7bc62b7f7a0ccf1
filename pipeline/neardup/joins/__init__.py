"""Joins: arrays of packed hashes and a radius in bits → `Matches(i, j, distance)`.

`JOINS` is the catalogue of engines; `self_join` and `cross_join` are the exact one: `plan` says whether it compares
every pair or only those that are close on a band of bits. All of it runs on the calling thread, without the GIL while
it compares. What an engine that is not exact has missed, `recall` measures.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neardup.errors import UsageError
from neardup.joins.approximate import Annoy, annoy_cross_join_chunks, annoy_self_join_chunks, require_annoy
from neardup.joins.bands import EVERY_PAIR, Band, check_bands, join_bands, lay_out
from neardup.joins.bitslices import LOOKUP_BYTES
from neardup.joins.crowds import Crowd
from neardup.joins.crowds import crowd as nobody
from neardup.joins.matches import Matches, concatenated, in_order
from neardup.joins.plans import Plan, choose_plan
from neardup.joins.sample import take_sample
from neardup.joins.words import Hashes, as_words, distinct

__all__ = [
    "CHUNK_PAIRS",
    "EVERY_PAIR",
    "JOINS",
    "Annoy",
    "Band",
    "Crowd",
    "Engine",
    "Matches",
    "Plan",
    "annoy_cross_join_chunks",
    "annoy_self_join_chunks",
    "concatenated",
    "cross_join",
    "cross_join_chunks",
    "distinct",
    "memory_bytes",
    "plan",
    "radius_from_threshold",
    "recall",
    "require_annoy",
    "self_join",
    "self_join_chunks",
    "warm_up",
]

CHUNK_PAIRS = 1 << 22  # 84 MB of matches


def self_join(hashes: Hashes, radius_bits: int) -> Matches:
    """All pairs i < j of rows of `hashes`, packed bits (n, width in bytes), at Hamming distance <= `radius_bits`."""
    return concatenated(self_join_chunks(hashes, radius_bits))


def cross_join(left: Hashes, right: Hashes, radius_bits: int) -> Matches:
    """All pairs of a row i of `left` and a row j of `right` at Hamming distance <= `radius_bits`."""
    return concatenated(cross_join_chunks(left, right, radius_bits))


def self_join_chunks(
    hashes: Hashes,
    radius_bits: int,
    chunk_pairs: int = CHUNK_PAIRS,
    bands: Sequence[Band] | None = None,
    share: tuple[int, int] = (0, 1),
    crowd: Crowd | None = None,
) -> Iterator[Matches]:
    """The matches of `self_join` in chunks of 1 to `chunk_pairs`, each sorted, so that a caller can spill them.

    `bands` replaces the planner's choice; raises UsageError when such bands could miss a match. With bands and a share
    (k, n), only the matches of the k-th of n sets of the bands: the shares 0..n-1 together give each match once.
    With a crowd, matches are counted there, and those of two rows that have too many may be left out.
    """
    words = as_words(hashes)
    bits = hashes.shape[1] * 8
    if bands is not None:
        check_bands(bands, min(radius_bits, bits), bits)
    if len(words) < 2 or radius_bits < 0:
        return
    radius_bits = min(radius_bits, bits)
    sample = take_sample(words, words, bits)
    if bands is None:
        bands = choose_plan(words, None, sample, radius_bits).bands
    layout = lay_out(bands, sample, radius_bits)
    yield from join_bands(words, None, layout, radius_bits, chunk_pairs, crowd or nobody(len(words)), share)


def cross_join_chunks(
    left: Hashes,
    right: Hashes,
    radius_bits: int,
    chunk_pairs: int = CHUNK_PAIRS,
    bands: Sequence[Band] | None = None,
    share: tuple[int, int] = (0, 1),
    crowd: Crowd | None = None,
) -> Iterator[Matches]:
    """The matches of `cross_join` in chunks of 1 to `chunk_pairs`, each sorted; the rest as in `self_join_chunks`."""
    left_words, right_words = as_words(left), as_words(right)
    bits = left.shape[1] * 8
    if left.shape[1] != right.shape[1]:
        raise UsageError(
            f"hashes of {left.shape[1]} and {right.shape[1]} bytes cannot be joined: use the same hasher on both sides"
        )
    if bands is not None:
        check_bands(bands, min(radius_bits, bits), bits)
    if len(left_words) == 0 or len(right_words) == 0 or radius_bits < 0:
        return
    if len(left_words) < len(right_words):  # the right side is the one to be transposed
        other = crowd and crowd.swapped()
        for found in cross_join_chunks(right, left, radius_bits, chunk_pairs, bands, share, other):
            yield in_order(Matches(found.j, found.i, found.distance))
        return
    radius_bits = min(radius_bits, bits)
    sample = take_sample(left_words, right_words, bits)
    if bands is None:
        bands = choose_plan(left_words, right_words, sample, radius_bits).bands
    layout = lay_out(bands, sample, radius_bits)
    crowd = crowd or nobody(len(left_words), len(right_words))
    yield from join_bands(left_words, right_words, layout, radius_bits, chunk_pairs, crowd, share)


def plan(hashes: Hashes, radius_bits: int, right: Hashes | None = None) -> Plan:
    """How a join of these hashes (with `right`, or with each other) would go about it; `str(plan)` says so in words."""
    left_words, right_words = as_words(hashes), None if right is None else as_words(right)
    other = left_words if right_words is None else right_words
    return choose_plan(left_words, right_words, take_sample(left_words, other, hashes.shape[1] * 8), radius_bits)


def memory_bytes(rows: int, width: int) -> int:
    """The memory that a join of so many rows of `width` bytes (of both sides together) takes beside its results."""
    return rows * (4 * -(-width // 8) * 8 + 8) + CHUNK_PAIRS * 20 + LOOKUP_BYTES  # given, as words, reordered, sorted


def warm_up() -> None:
    """Load the compiled kernels, so that the first join of this process need not: they take a second."""
    for _found in self_join_chunks(np.zeros((3, 32), np.uint8), 31, bands=[Band(8, 1)] * 16):
        pass


def recall(
    hashes: Hashes, radius_bits: int, found: Matches, sample: NDArray[np.int64], hubs: NDArray[np.bool_] | None = None
) -> tuple[int, int]:
    """Of all matches of the rows `sample` with any row of `hashes`, joined exactly: how many are in `found`, and all.

    `found` holds matches i < j between rows of `hashes`, whichever engine found them. Those of two `hubs` do not count.
    """
    true = cross_join(hashes[sample], hashes, radius_bits)
    if hubs is not None:
        true = true.where(~(hubs[sample[true.i]] & hubs[true.j]))
    i, j = np.minimum(sample[true.i], true.j), np.maximum(sample[true.i], true.j)
    wanted = np.unique(i[i < j] * len(hashes) + j[i < j])
    return int(np.isin(wanted, found.i * len(hashes) + found.j).sum()), len(wanted)


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


JOINS: dict[str, Engine] = {
    "exact": Engine(self_join_chunks, cross_join_chunks, exact=True),
    "annoy": Engine(annoy_self_join_chunks, annoy_cross_join_chunks, exact=False),
}
