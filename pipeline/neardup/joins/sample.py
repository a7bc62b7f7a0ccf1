"""What a sample of the rows tells about the whole: which bits tell rows apart, and how close unrelated rows are.

Only the speed of a join depends on it, most on hashes like dHash, whose bits go together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLE_ROWS = 1024
SHIFTS = 32  # each sampled row is paired with so many others
CROWDED = 16  # rows of the sample within the radius of one: over 1 % of all rows would match it
FEW_ROWS = 4096  # below, a scan is cheaper than learning a good order


class Sample(NamedTuple):
    """`order`: all bit numbers, most telling first; `bits`: those of the sampled rows, one to a byte (rows, bits)."""

    order: NDArray[np.int64]
    bits: NDArray[np.uint8]


def take_sample(left: NDArray[np.uint64], right: NDArray[np.uint64], n_bits: int) -> Sample:
    """The sample for pairs of a row of `left` (n, words) and one of `right` (may be the same), of their first bits."""
    rows = np.concatenate([spread(left, SAMPLE_ROWS // 2), spread(right, SAMPLE_ROWS // 2)])
    bits = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")[:, :n_bits]
    few = len(left) + len(right) < FEW_ROWS
    return Sample(np.random.default_rng(0).permutation(n_bits) if few else _telling_order(bits), bits)


def spread(rows: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """At most so many rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def without_crowds(sample: Sample, radius_bits: int) -> Sample:
    """The sample without rows that match many others: most pairs of a flood are left out, so it should not count."""
    bits = sample.bits.astype(np.float32)
    ones = bits.sum(axis=1)
    distance = ones[:, np.newaxis] + ones - 2 * bits @ bits.T
    alone = (distance <= radius_bits).sum(axis=1) <= CROWDED
    return sample._replace(bits=sample.bits[alone]) if alone.sum() > SHIFTS else sample


def share_within(
    sample: Sample,
    order: NDArray[np.int64],
    step: int,
    radii: list[int],
    count: Callable[[NDArray[np.uint8]], NDArray[Any]] = np.bitwise_count,
) -> NDArray[np.float64]:
    """The share of sampled pairs that differ in at most so many of the first `step` bits of `order`, of the first
    2 * `step`, ..., of all of them (radii, steps). `count` says what eight bits that differ or not count.
    """
    n_rows, n_steps = len(sample.bits), -(-len(order) // step)
    steps = np.zeros((n_rows, n_steps * step), np.uint8)
    steps[:, : len(order)] = sample.bits[:, order]
    packed = np.packbits(steps.reshape(n_rows, n_steps, step), axis=2)
    within = np.zeros((len(radii), n_steps), np.int64)
    shifts = range(1, min(SHIFTS, n_rows - 1) + 1)
    for shift in shifts:
        differ = count(packed ^ np.roll(packed, shift, axis=0)).sum(axis=2, dtype=np.int32)
        distance = differ.cumsum(axis=1)
        within += [(distance <= radius).sum(axis=0) for radius in radii]
    return within / max(1, len(shifts) * n_rows)


def _telling_order(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bits such that two rows differ in many of every prefix, for the spread of that number (greedily)."""
    n_rows, n_bits = bits.shape
    columns = np.packbits(np.pad(bits, ((0, -n_rows % 64), (0, 0))), axis=0).T.copy().view(np.uint64)
    mean = 1 - 2 * bits.mean(axis=0)  # of the bit as -1 or 1
    differ = (1 - mean**2) / 2  # the chance that two rows differ there
    own_variance = differ * (1 - differ)
    total, variance, shared = 0.0, 0.0, np.zeros(n_bits)
    order = np.empty(n_bits, np.int64)
    left = np.ones(n_bits, bool)
    for place in range(n_bits):
        score = (total + differ) / np.sqrt(variance + own_variance + 2 * shared + 1e-9)
        chosen = int(np.argmax(np.where(left, score, -1.0)))
        order[place], left[chosen] = chosen, False
        total += differ[chosen]
        variance += own_variance[chosen] + 2 * shared[chosen]
        opposite = np.bitwise_count(columns ^ columns[chosen]).sum(axis=1, dtype=np.int64)
        correlation = 1 - 2 * opposite / n_rows
        shared += np.maximum(correlation**2 - (mean * mean[chosen]) ** 2 - 1 / n_rows, 0) / 4
    return order
