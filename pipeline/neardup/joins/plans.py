"""Which bands join these rows fastest: a cost model, its constants measured here and now on some of the rows."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neardup.joins.bands import (
    EVERY_PAIR,
    MOST_BAND_BITS,
    Band,
    Layout,
    in_buckets,
    lay_out,
    one_bucket,
    probe,
    reordered,
)
from neardup.joins.bitslices import BLOCK_ROWS, Buffers, Probe, Table, cut_blocks, fill_lookups, scan
from neardup.joins.crowds import crowd
from neardup.joins.sample import Sample, share_within, spread, without_crowds

MOST_BAND_RADIUS = 3
WINDOWS = 4  # places at which the sample's pairs are counted on 1, 2, ... bits
FEW_PAIRS = 1 << 32  # below, every pair is compared: planning would take as long
CACHE_MISSES = 8.0  # a row costs so much more among many rows than in the sample, counting its work as a query
MOST_ROWS = 1 << 20  # rows that are searched for some that fall in one bucket
BUCKETS = 8  # so many buckets are measured
_SKEW_BITS = 8
BUCKET_SECONDS = 5e-9  # to look at one bucket of a band and one of the buckets that it meets


class Plan(NamedTuple):
    """The bands to join by, and the seconds on one core that this, and comparing every pair, should take."""

    rows: tuple[int, int]
    bits: int
    radius_bits: int
    bands: tuple[Band, ...]
    seconds: float
    every_pair_seconds: float
    skew: float = 1.0  # how many times as often as uniform rows two of these agree on a few bits

    def __str__(self) -> str:
        left, right = self.rows
        size = f"{left:,}" if left == right else f"{left:,} × {right:,}"
        head = f"{size} hashes of {self.bits} bits at radius {self.radius_bits}: "
        if self.bands == EVERY_PAIR:
            return f"{head}compare every pair, about {self.every_pair_seconds:.2g} s"
        return f"{head}{self.how()}, about {self.seconds:.2g} s (every pair: {self.every_pair_seconds:.2g} s)"

    def how(self) -> str:
        """The bands in words."""
        if self.bands == EVERY_PAIR:
            return "every pair"
        kinds = dict.fromkeys(self.bands)
        return ", ".join(f"{self.bands.count(b)} bands of {b.bits} bits at radius {b.radius_bits}" for b in kinds)


class Costs(NamedTuple):
    """Seconds per row (to sort it), per block of 512 (to transpose it), and per row and block that it is compared with.

    The last grows with the bits of a band: rows that agree on some bits are closer on the others too.
    """

    row: float
    block: float
    compare: Callable[[int], float]


def choose_plan(left: NDArray[np.uint64], right: NDArray[np.uint64] | None, sample: Sample, radius_bits: int) -> Plan:
    """The fastest bands for rows `left` (n, words) with `right` or with each other."""
    itself = right is None
    rows = (len(left), len(left if right is None else right))
    bits = sample.bits.shape[1]
    pairs = rows[0] * rows[1] // (2 if itself else 1)
    seconds = pairs / BLOCK_ROWS * 4e-8
    if pairs < FEW_PAIRS or radius_bits >= bits:
        return Plan(rows, bits, radius_bits, EVERY_PAIR, seconds, seconds)
    costs = measure(left if right is None else right, sample, radius_bits)
    return fastest(rows, itself, without_crowds(sample, radius_bits), radius_bits, costs)


def fastest(rows: tuple[int, int], itself: bool, sample: Sample, radius_bits: int, costs: Costs) -> Plan:
    """The fastest bands by the cost model for so many rows on each side (`itself`: the same rows), as in the sample."""
    bits = sample.bits.shape[1]
    pairs = rows[0] * rows[1] // (2 if itself else 1)
    every_pair = pairs / BLOCK_ROWS * costs.compare(0) + sum(rows) * costs.row
    table = _band_costs(rows, itself, sample, costs)
    best: tuple[float, tuple[Band, ...]] = (every_pair, EVERY_PAIR)
    for count in range(1, radius_bits + 2):
        upper, more = divmod(radius_bits + 1, count)
        if upper + (more > 0) <= MOST_BAND_RADIUS + 1 and bits // count > 0:
            best = min(best, _best_bits(count - more, more, upper, bits, table))
    few = min(_SKEW_BITS, bits)
    skew = float(_closeness(sample, [0])[0, few]) * 2.0**few
    return Plan(rows, bits, radius_bits, best[1], best[0], every_pair, skew)


def measure(words: NDArray[np.uint64], sample: Sample, radius_bits: int) -> Costs:
    """The costs on this machine at this moment: of random rows, and of rows that are equal on the bits of a band."""
    words = spread(words, MOST_ROWS)
    bits = min(max(1, round(math.log2(len(words) / BLOCK_ROWS))), MOST_BAND_BITS, len(sample.order))
    layout = lay_out((Band(bits, 0),), sample._replace(order=_mixed(sample)), radius_bits)
    some = reordered(spread(words, 2 * BUCKETS * BLOCK_ROWS), layout)
    alike = reordered(words[_alike(words, layout)], layout)
    apart = [one_bucket(some[half::2].copy()) for half in range(2)]  # halves, so that no row meets itself
    together = [in_buckets(alike[half::2], 0, bits, one_bucket(alike[half::2].copy())) for half in range(2)]
    compare_apart = _compare_seconds(apart, probe(layout, 0), radius_bits)
    more = max(0.0, _compare_seconds(together, probe(layout, 0), radius_bits) - compare_apart)
    memory = one_bucket(np.empty_like(some))
    row = _best_of(3, lambda: in_buckets(some, 0, bits, memory)) / len(some) * CACHE_MISSES
    return Costs(row, _block_seconds(apart[0], probe(layout, 0)), lambda b: compare_apart + more * min(b / bits, 1.5))


def _alike(words: NDArray[np.uint64], layout: Layout) -> NDArray[np.bool_]:
    """Which rows to take to have some buckets full, as they would be on the first band."""
    on_band = np.zeros(words.shape[1] * 64, np.uint8)
    on_band[layout.order[: layout.bands[0].bits]] = 1
    mask = np.packbits(on_band, bitorder="little").view(np.uint64)
    alike = np.zeros(len(words), bool)
    for seed in spread(words, BUCKETS):
        alike[np.flatnonzero((((words ^ seed) & mask) == 0).all(axis=1))[: 2 * BLOCK_ROWS]] = True
    return alike


def _compare_seconds(sides: list[Table], work: Probe, radius_bits: int) -> float:
    """Seconds to compare one row with one block of its own bucket."""
    queries, references = sides
    buffers = Buffers(1 << 16)

    def run(times: int) -> None:
        again = work._replace(masks=np.zeros(times, np.int64))
        nobody = crowd(len(queries.rows), len(references.rows))
        for _matches in scan(queries, references, again, radius_bits, buffers, nobody):
            pass

    run(1)
    calls = int((np.diff(queries.starts) * np.diff(cut_blocks(references.starts).firsts)).sum())
    return max(_best_of(5, lambda: run(5)) - _best_of(5, lambda: run(1)), 0.0) / (4 * max(calls, 1))


def _block_seconds(table: Table, work: Probe) -> float:
    """Seconds to transpose one block."""
    blocks = cut_blocks(table.starts)
    lookups = Buffers(0).lookups(len(blocks.starts), len(work.chunk_starts))

    def fill() -> None:
        fill_lookups(table.words, blocks.starts, blocks.stops, work.chunk_starts, lookups)

    return _best_of(3, fill) / len(blocks.starts)


def _best_of(times: int, job: Callable[[], object]) -> float:
    seconds = []
    for _ in range(times):
        start = time.thread_time()  # of the processor: other programs must not change the plan
        job()
        seconds.append(time.thread_time() - start)
    return min(seconds)


def _band_costs(rows: tuple[int, int], itself: bool, sample: Sample, costs: Costs) -> NDArray[np.float64]:
    """Seconds for one band, by its radius and bits (MOST_BAND_RADIUS + 1, MOST_BAND_BITS + 1)."""
    radii = list(range(MOST_BAND_RADIUS + 1))
    close = _closeness(sample, radii)
    seconds = np.full((len(radii), MOST_BAND_BITS + 1), math.inf)
    for bits in range(1, min(MOST_BAND_BITS, len(sample.order)) + 1):
        bucket = rows[1] / 2.0**bits
        blocks = _blocks(bucket)
        for radius in radii[: bits + 1]:
            keys = sum(math.comb(bits, flips) for flips in range(radius + 1))
            met = rows[1] * max(close[radius, bits], keys / 2.0**bits) / BLOCK_ROWS  # full blocks, for each row
            met += keys * (blocks - bucket / BLOCK_ROWS)  # those that are not full
            if itself:
                met /= 2
            seconds[radius, bits] = (
                (rows[0] + (0 if itself else rows[1])) * costs.row
                + 2.0**bits * (blocks * costs.block + keys * BUCKET_SECONDS)
                + rows[0] * met * costs.compare(bits)
            )
    return seconds


def _mixed(sample: Sample) -> NDArray[np.int64]:
    """All bits, as bands get them: some telling, some less."""
    return np.random.default_rng(0).permutation(sample.order)


def _closeness(sample: Sample, radii: list[int]) -> NDArray[np.float64]:
    """The chance that two unrelated rows differ in at most so many of so many bits of a band (radii, bits)."""
    mixed = _mixed(sample)
    width = min(MOST_BAND_BITS, len(mixed))
    places = np.linspace(0, len(mixed) - width, WINDOWS).astype(int)
    shares = np.mean([share_within(sample, mixed[place : place + width], 1, radii) for place in places], axis=0)
    return np.concatenate([np.ones((len(radii), 1)), shares, np.ones((len(radii), MOST_BAND_BITS - width))], axis=1)


def _blocks(rows: float) -> float:
    """How many blocks a bucket takes that holds so many rows on average (Poisson, by the normal distribution)."""
    full = 1 - math.exp(-rows)
    for boundary in range(1, int(rows / BLOCK_ROWS) + 3):
        full += 0.5 * math.erfc((boundary * BLOCK_ROWS - rows) / math.sqrt(2 * rows + 1e-9))
    return full


def _best_bits(
    lower_count: int, upper_count: int, upper: int, bits: int, table: NDArray[np.float64]
) -> tuple[float, tuple[Band, ...]]:
    """The cheapest sizes for so many bands of radius `upper - 1` and so many of radius `upper`, with their seconds."""
    best: tuple[float, tuple[Band, ...]] = (math.inf, EVERY_PAIR)
    for upper_bits in range(1, MOST_BAND_BITS + 1) if upper_count else [0]:
        left = (bits - upper_count * upper_bits) // lower_count
        if left < 1:
            break
        lower_bits = 1 + int(np.argmin(table[upper - 1, 1 : left + 1]))
        seconds = lower_count * table[upper - 1, lower_bits]
        bands = (Band(lower_bits, upper - 1),) * lower_count
        if upper_count:
            seconds += upper_count * table[upper, upper_bits]
            bands += (Band(upper_bits, upper),) * upper_count
        best = min(best, (float(seconds), bands))
    return best
