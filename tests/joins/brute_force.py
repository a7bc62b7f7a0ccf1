"""The slow obvious join that the engines are compared with, and data with neighbours planted at every distance."""

import numpy as np
from numpy.typing import NDArray

from neardup.joins import Matches


def brute_force(left: NDArray[np.uint8], right: NDArray[np.uint8], radius_bits: int, upper: bool = False) -> Matches:
    """All pairs within the radius by numpy alone, in tiles; with `upper`, only i < j."""
    pieces = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))]
    padding = ((0, 0), (0, -left.shape[1] % 8))
    columns = np.ascontiguousarray(np.pad(right, padding)).view(np.uint64).T.copy()
    rows = np.ascontiguousarray(np.pad(left, padding)).view(np.uint64)
    for start_i in range(0, len(left), 64):
        part = rows[start_i : start_i + 64]
        for start_j in range(start_i if upper else 0, len(right), 4096):
            distance = np.zeros((len(part), len(columns[0][start_j : start_j + 4096])), np.int32)
            for word, column in enumerate(columns):
                distance += np.bitwise_count(part[:, word, None] ^ column[None, start_j : start_j + 4096])
            near = np.flatnonzero(distance.ravel() <= radius_bits)
            if len(near):
                i, j = np.divmod(near, distance.shape[1])
                pieces.append((i + start_i, j + start_j, distance.ravel()[near]))
    i, j, distance = (np.concatenate(column) for column in zip(*pieces, strict=True))
    chosen = i < j if upper else np.ones(len(i), bool)
    order = np.lexsort((j[chosen], i[chosen]))
    return Matches(i[chosen][order], j[chosen][order], distance[chosen][order])


def random_hashes(rng: np.random.Generator, n: int, bits: int) -> NDArray[np.uint8]:
    """Uniform hashes of so many bits, packed, most significant bit first."""
    return np.packbits(rng.integers(0, 2, (n, bits), dtype=np.uint8), axis=1)


def flipped(rng: np.random.Generator, hashes: NDArray[np.uint8], distances: NDArray[np.int64], bits: int):
    """Each hash with `distances` of its bits changed."""
    places = rng.random((len(hashes), bits)).argsort(axis=1).argsort(axis=1)
    return hashes ^ np.packbits(places < np.asarray(distances)[:, None], axis=1)


def planted(rng: np.random.Generator, n: int, bits: int, farthest: int) -> NDArray[np.uint8]:
    """Random hashes, in random order, of which up to half have a partner at distance 0, 1, ... `farthest`, in turn."""
    hashes = random_hashes(rng, n, bits)
    half = n // 2
    hashes[half : 2 * half] = flipped(rng, hashes[:half], np.arange(half) % (min(farthest, bits) + 1), bits)
    return hashes[rng.permutation(n)]


def assert_same(found: Matches, expected: Matches) -> None:
    """Equal arrays, in the same order, with the promised types."""
    for column, wanted, name in zip(found, expected, Matches._fields, strict=True):
        np.testing.assert_array_equal(column, wanted, err_msg=name)
    assert [column.dtype for column in found] == [np.int64, np.int64, np.int32]
