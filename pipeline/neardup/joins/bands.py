"""Bands: rows within the radius must be close on some few bits, so only rows that are close there are compared.

The bits are cut into disjoint bands, each with its own radius. Rows at a distance <= radius are, on at least one band,
within that band's radius, if sum(band radius + 1) > radius (the general pigeonhole principle; Norouzi, Punjani, Fleet,
"Fast search in Hamming space with multi-index hashing", 2012; Qin et al., "GPH", 2018). For each band the rows are
sorted by their bits there, and buckets whose keys are close are scanned. The first band that meets a pair reports it.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neardup.compiled import compiled
from neardup.errors import UsageError
from neardup.joins.bitslices import CHUNK_BITS, Buffers, Probe, Table, counted, reorder_bits, scan, straddling
from neardup.joins.crowds import LIFTED, Crowd
from neardup.joins.matches import Matches
from neardup.joins.sample import Sample, share_within, spread

MOST_BAND_BITS = 24
MOST_BALLS = 16  # buckets per band that are looked at for a flood
MANY_CROWDED = 1024  # rows of a bucket
MIDDLE_ROWS = 256  # whose majority is the middle of a bucket


class Band(NamedTuple):
    """So many bits of the hash, on which rows meet that differ in at most `radius_bits` of them."""

    bits: int
    radius_bits: int


EVERY_PAIR = (Band(0, 0),)  # one bucket: all rows meet


class Layout(NamedTuple):
    """`order`: which bit of the hash stands where: the bits of the first band, of the second, ..., then the others."""

    bands: tuple[Band, ...]
    order: NDArray[np.int64]
    chunks: int  # chunks of bits that the scan counts at most
    first_check: int


def check_bands(bands: Sequence[Band], radius_bits: int, bits: int) -> None:
    """Raises UsageError when these bands of hashes of so many bits would miss pairs at the radius."""
    met = sum(band.radius_bits + 1 for band in bands)
    used = sum(band.bits for band in bands)
    if used > bits or any(not 0 <= band.bits <= MOST_BAND_BITS or band.radius_bits < 0 for band in bands):
        raise UsageError(f"bands of {used} bits do not fit a hash of {bits}: use up to {MOST_BAND_BITS} bits per band")
    if met <= radius_bits and not any(band.bits <= band.radius_bits for band in bands):
        raise UsageError(
            f"bands with sum(radius + 1) = {met} miss pairs at radius {radius_bits}: use more than {radius_bits}"
        )


def lay_out(bands: Sequence[Band], sample: Sample, radius_bits: int) -> Layout:
    """Deal the most telling bits to the bands in turn, and see in the sample how many bits the scan should count."""
    hands: list[list[int]] = [[] for _ in bands]
    rest = []
    turn = 0
    for bit in sample.order:
        waiting = [k for k in range(len(bands)) if len(hands[k]) < bands[k].bits]
        if waiting:
            chosen = next((k for k in waiting if k >= turn), waiting[0])
            hands[chosen].append(int(bit))
            turn = (chosen + 1) % len(bands)
        else:
            rest.append(int(bit))
    order = np.array([bit for hand in hands for bit in hand] + rest, np.int64)
    survive = share_within(sample, order, CHUNK_BITS, [radius_bits], counted)[0]
    excess = survive - survive[-1]
    chunks = min(len(survive), int(np.argmax(excess == 0)) + 2)
    return Layout(tuple(bands), order, chunks, min(chunks, int(np.argmax(excess * 512 <= 0.25)) + 1))


def join_bands(
    left: NDArray[np.uint64],
    right: NDArray[np.uint64] | None,
    layout: Layout,
    radius_bits: int,
    chunk_pairs: int,
    crowd: Crowd,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Matches]:
    """All matches of rows of `left` and `right` (n, words), or within `left`, in chunks, but of two crowded rows.

    With a share (k, n), those of the k-th of n sets of bands of about the same work: all shares together give each
    match once.
    """
    mine = bands_of_share(layout.bands, share)
    sides = [reordered(side, layout) for side in (left, right) if side is not None]
    tables = [one_bucket(side) for side in sides]
    buffers = Buffers(chunk_pairs)
    start = 0
    for number, band in enumerate(layout.bands):
        if number not in mine:
            start += band.bits
            continue
        if band.bits:
            tables = [in_buckets(side, start, band.bits, table) for side, table in zip(sides, tables, strict=True)]
        references = tables[1] if right is not None else None
        flooded = False
        crowd.start_anew()
        _find_balls(tables, radius_bits, crowd)
        for table, counts in zip(tables, (crowd.queries, crowd.references), strict=False):
            _put_crowded_last(table, counts > crowd.most)
        for found in scan(tables[0], references, probe(layout, number), radius_bits, buffers, crowd):
            if not flooded and crowd.most < LIFTED and 2 * len(found.i) > chunk_pairs:
                flooded = True  # from here on the scan leaves out what is found to be crowded
                crowd.add_crowded(_count_full_buckets(tables, probe(layout, number), radius_bits, crowd.counting()))
            wanted = crowd.worth_having(found.i, found.j)
            if wanted.any():
                yield found if wanted.all() else found.where(wanted)
        start += band.bits


def bands_of_share(bands: Sequence[Band], share: tuple[int, int]) -> set[int]:
    """The bands that the k-th of n tasks takes: each band goes to who has least to do, the most work first."""
    work = [len(key_masks(band)) / (1 << band.bits) for band in bands]
    loads = [0.0] * share[1]
    mine = set()
    for number in sorted(range(len(bands)), key=lambda number: -work[number]):
        least = loads.index(min(loads))
        loads[least] += work[number]
        if least == share[0]:
            mine.add(number)
    return mine


def _find_balls(tables: list[Table], radius_bits: int, crowd: Crowd) -> None:
    """Find rows to be crowded without a look at their matches: those within half the radius of one point all match.

    Where a bucket holds more rows than make a crowd, its middle (the majority of each bit) may be such a point.
    """
    sizes = np.diff(tables[-1].starts)
    sides = list(zip(tables, (crowd.queries, crowd.references), strict=False))
    for bucket in np.argsort(sizes, kind="stable")[: -MOST_BALLS - 1 : -1]:
        rows = slice(tables[-1].starts[bucket], tables[-1].starts[bucket + 1])
        members = tables[-1].words[rows][sides[-1][1][tables[-1].rows[rows]] <= crowd.most]
        if len(members) <= crowd.most:
            continue
        bits = np.unpackbits(spread(members, MIDDLE_ROWS).view(np.uint8), axis=1)
        middle = np.packbits(2 * bits.sum(axis=0) > len(bits)).view(np.uint64)
        if np.count_nonzero(_within(members, middle, radius_bits // 2)) <= crowd.most:
            continue
        balls = [table.rows[_within(table.words, middle, radius_bits // 2)] for table, _ in sides]
        if len(balls[-1]) - (len(balls) == 1) > crowd.most:
            sides[0][1][balls[0]] = crowd.most + 1
        if len(balls[0]) > crowd.most + (len(balls) == 1):
            sides[-1][1][balls[-1]] = crowd.most + 1


def _put_crowded_last(table: Table, is_crowded: NDArray[np.bool_]) -> None:
    """Reorder the buckets that hold many crowded rows, so that the scan meets blocks of nothing else and skips them."""
    if np.count_nonzero(is_crowded) < MANY_CROWDED:
        return
    crowded = is_crowded[table.rows]
    before = np.concatenate([[0], np.cumsum(crowded)])
    for bucket in np.flatnonzero(before[table.starts[1:]] - before[table.starts[:-1]] >= MANY_CROWDED):
        rows = slice(table.starts[bucket], table.starts[bucket + 1])
        order = np.argsort(crowded[rows], kind="stable")
        table.words[rows], table.rows[rows] = table.words[rows][order], table.rows[rows][order]


def _within(words: NDArray[np.uint64], middle: NDArray[np.uint64], radius_bits: int) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.bitwise_count(words ^ middle).sum(axis=1, dtype=np.int64) <= radius_bits
    return near


def _count_full_buckets(tables: list[Table], probe: Probe, radius_bits: int, counting: Crowd) -> Crowd:
    """Count matches between the rows of buckets that hold a crowd: cheap, as few buckets do."""
    full = np.logical_or.reduce([np.diff(table.starts) > counting.most for table in tables])
    some = []
    for table in tables:
        sizes = np.diff(table.starts)
        rows = np.repeat(full, sizes)
        starts = np.concatenate([[0], np.cumsum(np.where(full, sizes, 0))])
        some.append(Table(table.words[rows], table.rows[rows], starts))
    for _nothing in scan(some[0], some[1] if len(some) > 1 else None, probe, radius_bits, Buffers(0), counting):
        pass
    return counting


def probe(layout: Layout, number: int) -> Probe:
    """What to compare for band `number`."""
    ends = np.cumsum([band.bits for band in layout.bands])
    earlier = np.zeros((number, -(-len(layout.order) // 64) * 64), np.uint8)
    for q in range(number):
        earlier[q, ends[q] - layout.bands[q].bits : ends[q]] = 1
    masks = np.packbits(earlier, axis=1, bitorder="little").view(np.uint64)
    radii = np.array([band.radius_bits for band in layout.bands[:number]], np.int64)
    band = layout.bands[number]
    starts = _chunk_starts(int(ends[number]) - band.bits, band.bits, layout)
    return Probe(key_masks(band), starts, min(layout.first_check, len(starts)), masks, radii)


def reordered(words: NDArray[np.uint64], layout: Layout) -> NDArray[np.uint64]:
    """The rows with their bits in the order of the layout."""
    result = np.empty((len(words), -(-len(layout.order) // 64)), np.uint64)
    reorder_bits(words, layout.order, result)
    return result


def key_masks(band: Band) -> NDArray[np.int64]:
    """What to xor a key with to get all keys within the band's radius, itself first."""
    masks = [
        sum(1 << bit for bit in flipped)
        for count in range(min(band.radius_bits, band.bits) + 1)
        for flipped in combinations(range(band.bits), count)
    ]
    return np.array(sorted(masks), np.int64)


def in_buckets(words: NDArray[np.uint64], start: int, bits: int, memory: Table) -> Table:
    """The rows sorted by the value of so many bits from bit `start` on, in the memory of another table."""
    sorted_words = np.empty_like(words) if memory.words is words else memory.words
    table = Table(sorted_words, memory.rows, np.zeros((1 << bits) + 1, np.int64))
    sort_by_key(words, start, bits, table)
    return table


def one_bucket(words: NDArray[np.uint64]) -> Table:
    """All rows in one bucket, so that every pair meets."""
    return Table(words, np.arange(len(words)), np.array([0, len(words)]))


@compiled
def sort_by_key(words: NDArray[np.uint64], start: int, bits: int, table: Table) -> None:
    """Counting sort of the rows by the `bits` bits from bit `start` on, stable."""
    n_rows, n_words = words.shape
    sorted_words, sorted_rows, starts = table.words, table.rows, table.starts
    word, low = start >> 6, np.uint64((1 << bits) - 1)
    keys = np.empty(n_rows, np.uint32)
    for row in range(n_rows):
        following = words[row, word + 1] if word + 1 < n_words else np.uint64(0)
        keys[row] = straddling(words[row, word], following, start) & low
        starts[keys[row] + 1] += 1
    for key in range(1, starts.shape[0]):
        starts[key] += starts[key - 1]
    places = starts[:-1].copy()
    for row in range(n_rows):
        place = places[keys[row]]
        places[keys[row]] += 1
        sorted_rows[place] = row
        for w in range(n_words):
            sorted_words[place, w] = words[row, w]


def _chunk_starts(start: int, bits: int, layout: Layout) -> NDArray[np.int64]:
    """Where the chunks that the scan counts begin: after the band, on round to it, at least one."""
    total = len(layout.order)
    after = list(range(start + bits, total, CHUNK_BITS))
    before = list(range(0, start - CHUNK_BITS + 1, CHUNK_BITS))
    return np.array([*after, *before, 0][: max(1, min(layout.chunks, len(after) + len(before)))], np.int64)
