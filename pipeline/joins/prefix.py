"""Which bits of a hash the scan compares first, learned from a sample of the rows. Only speed depends on it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK_BITS = 24  # the scan counts differing bits in steps of so many
SAMPLE_ROWS = 1024
FEW_ROWS = 4096  # below, a scan is cheaper than learning a good order
SAMPLE_SHIFTS = 64  # each sampled row is paired with so many others


class Prefix(NamedTuple):
    """`order`: bit numbers, most telling first, -1 past the last.

    The scan counts at most `chunks` chunks of them, and looks for survivors from chunk `first_check` on.
    """

    order: NDArray[np.int64]
    chunks: int
    first_check: int


def choose_prefix(left: NDArray[np.uint64], right: NDArray[np.uint64], radius_bits: int) -> Prefix:
    """The prefix for pairs of a row of `left` (n, words) and one of `right`: as short as few survivors allow."""
    sample = np.concatenate([_spread(left, SAMPLE_ROWS // 2), _spread(right, SAMPLE_ROWS // 2)])
    bits = np.unpackbits(sample.view(np.uint8), axis=1, bitorder="little")
    if len(left) + len(right) < FEW_ROWS:
        order = np.random.default_rng(0).permutation(bits.shape[1])
    else:
        order = _telling_order(bits)
    order = np.concatenate([order, np.full(-len(order) % CHUNK_BITS, -1)])
    survive = _survivors(bits, order, radius_bits)
    excess = survive - survive[-1]
    enough = int(np.argmax(excess == 0)) + 1
    first = int(np.argmax(excess * 512 <= 0.25)) + 1
    chunks = min(len(survive), enough + 2)
    return Prefix(order[: chunks * CHUNK_BITS], chunks, min(first, chunks))


def _spread(rows: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]


def _telling_order(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bits such that two rows differ in many of every prefix, for the spread of that number (greedily, on a sample)."""
    n_rows, n_bits = bits.shape
    columns = np.packbits(np.pad(bits, ((0, -n_rows % 64), (0, 0))), axis=0).T.copy().view(np.uint64)
    mean = 1 - 2 * bits.mean(axis=0)  # of the bit as -1 or 1
    differ = (1 - mean**2) / 2  # the chance that two rows differ there
    total, variance, shared = 0.0, 0.0, np.zeros(n_bits)
    own_variance = differ * (1 - differ)
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


def _survivors(bits: NDArray[np.uint8], order: NDArray[np.int64], radius_bits: int) -> NDArray[np.float64]:
    """The share of sampled pairs within the radius after 1, 2, ... chunks of `order`."""
    n_chunks = len(order) // CHUNK_BITS
    ordered = np.where(order >= 0, bits[:, order], 0).astype(np.uint8)
    chunks = np.packbits(ordered.reshape(len(bits), n_chunks, CHUNK_BITS), axis=2)
    survivors = np.zeros(n_chunks, np.int64)
    shifts = range(1, min(SAMPLE_SHIFTS, len(bits) - 1) + 1)
    for shift in shifts:
        distance = np.bitwise_count(chunks ^ np.roll(chunks, shift, axis=0)).sum(axis=2, dtype=np.int32).cumsum(axis=1)
        survivors += (distance <= radius_bits).sum(axis=0)
    return survivors / max(1, len(shifts) * len(bits))
