"""Nearest references by blocks, tiles and kernels equal the obvious matrix of all distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from neardup.errors import UsageError
from neardup.joins import nearest as module
from neardup.joins.nearest import Nearest, Owned, bit_pairs, nearest_bits, nearest_vectors, vector_pairs


def obvious(distance: np.ndarray, query_owners: np.ndarray, reference_owners: np.ndarray) -> tuple:
    own = query_owners[:, None] == reference_owners[None, :]
    correct = np.where(own, distance, np.inf).min(axis=1, initial=np.inf)
    others = np.where(own, np.inf, distance)
    incorrect = others.min(axis=1, initial=np.inf)
    return np.where(np.isinf(correct), np.nan, correct), np.where(np.isinf(incorrect), np.nan, incorrect), others


def check(found: Nearest, distance: np.ndarray, queries: Owned, references: Owned, exact: bool = True) -> None:
    correct, incorrect, others = obvious(distance, queries.owners, references.owners)
    compare = np.testing.assert_array_equal if exact else np.testing.assert_allclose
    compare(found.correct, correct)
    compare(found.incorrect, incorrect)
    np.testing.assert_array_equal(found.incorrect_row < 0, np.isnan(incorrect))
    rows = np.flatnonzero(found.incorrect_row >= 0)
    compare(others[rows, found.incorrect_row[rows]], incorrect[rows])


def owners(rng: np.random.Generator, n: int, distinct: int) -> np.ndarray:
    return rng.integers(0, distinct, n)


def planted(rng: np.random.Generator, n_queries: int, n_references: int, bits: int) -> tuple[Owned, Owned]:
    """References, and queries near one of them or near another's; some owners without references."""
    references = rng.integers(0, 2, (n_references, bits), dtype=np.uint8)
    reference_owners = owners(rng, n_references, max(1, n_references // 2))
    chosen = rng.integers(0, n_references, n_queries)
    flips = rng.random((n_queries, bits)) < rng.choice([0, 0.01, 0.1, 0.5], n_queries)[:, None]
    query_owners = np.where(rng.random(n_queries) < 0.8, reference_owners[chosen], n_references + 5)
    queries = references[chosen] ^ flips
    return Owned(np.packbits(queries, axis=1), query_owners), Owned(np.packbits(references, axis=1), reference_owners)


@pytest.mark.parametrize(
    ("n_queries", "n_references", "bits"), [(300, 700, 64), (50, 1300, 256), (40, 513, 968), (7, 1, 10), (5, 512, 576)]
)
def test_packed_bits(n_queries: int, n_references: int, bits: int) -> None:
    queries, references = planted(np.random.default_rng(bits), n_queries, n_references, bits)
    unpacked = [np.unpackbits(side.values, axis=1, count=bits) for side in (queries, references)]
    check(nearest_bits(queries, references, bits), cdist(*unpacked, "hamming"), queries, references)


def test_pairs_of_bits_are_counted_by_their_distance() -> None:
    queries, references = planted(np.random.default_rng(8), 90, 1100, 100)
    unpacked = [np.unpackbits(side.values, axis=1, count=100) for side in (queries, references)]
    distance = np.rint(cdist(*unpacked, "hamming") * 100).astype(int)
    others = distance[queries.owners[:, None] != references.owners[None, :]]
    found, pairs = bit_pairs(queries, references, 100)
    np.testing.assert_array_equal(pairs, np.bincount(others, minlength=101))
    for column, wanted in zip(found, nearest_bits(queries, references, 100), strict=True):
        np.testing.assert_array_equal(column, wanted)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_pairs_of_vectors_are_counted_in_intervals(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_QUERIES", 32)
    monkeypatch.setattr(module, "BLOCK_REFERENCES", 50)
    rng = np.random.default_rng(5)
    queries, references = (Owned(rng.random((n, 6)), owners(rng, n, 40)) for n in (70, 130))
    references.values[3] = 0  # no distance by cosine
    others = cdist(queries.values, references.values, metric)[queries.owners[:, None] != references.owners[None, :]]
    width = float(np.nanmax(others)) / 15
    wanted = np.histogram(others[~np.isnan(others)], np.append(np.arange(20) * width, np.inf))[0]
    np.testing.assert_array_equal(vector_pairs(queries, references, metric, width, 20), wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine", "cityblock", "hamming"])
def test_vectors(metric: str, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_QUERIES", 32)
    monkeypatch.setattr(module, "BLOCK_REFERENCES", 50)
    monkeypatch.setattr(module, "PAIRS", 3)
    rng = np.random.default_rng(5)
    references = rng.integers(0, 4 if dtype is np.uint8 else 255, (130, 12)).astype(dtype)
    references[60:90] = references[7]  # a flood of equal ones
    reference_owners = owners(rng, 130, 40)
    queries = references[rng.integers(0, 130, 100)]
    if dtype is np.float32:
        queries = queries + rng.choice([0, 1e-4, 3], (100, 1)).astype(np.float32) * rng.random((100, 12), np.float32)
    sides = Owned(queries, owners(rng, 100, 50)), Owned(references, reference_owners)
    check(nearest_vectors(*sides, metric), cdist(queries, references, metric), *sides)


def test_near_equals_far_from_the_origin_are_told_apart() -> None:
    """|a|² + |b|² - 2ab loses what a difference keeps."""
    rng = np.random.default_rng(2)
    references = np.column_stack([np.repeat([1e6, -1e6], 100), rng.random(200) * 0.1])
    queries = np.column_stack([rng.choice([1e6, -1e6], 50), rng.random(50) * 0.1])
    sides = Owned(queries, np.full(50, 999)), Owned(references, np.arange(200))
    check(nearest_vectors(*sides, "euclidean"), cdist(queries, references), *sides)


def test_a_function_of_ones_own() -> None:
    texts = Owned(np.array(["aaa", "abc"], object), np.array([0, 1]))
    originals = Owned(np.array(["aab", "xbc", "abc"], object), np.array([0, 1, 2]))
    found = nearest_vectors(texts, originals, lambda a, b: sum(x != y for x, y in zip(a, b, strict=True)))
    assert [column.tolist() for column in found] == [[1, 1], [2, 0], [2, 2]]


def test_tiles_of_references_give_what_all_at_once_give() -> None:
    queries, references = planted(np.random.default_rng(3), 200, 900, 64)
    whole = nearest_bits(queries, references, 64)
    result = Nearest.nothing(200)
    for start in range(0, 900, 170):
        tile = Owned(references.values[start : start + 170], references.owners[start : start + 170])
        result = result.merged(nearest_bits(queries, tile, 64), start)
    np.testing.assert_array_equal(result.correct, whole.correct)
    np.testing.assert_array_equal(result.incorrect, whole.incorrect)
    others = obvious(
        cdist(*(np.unpackbits(side.values, axis=1) for side in (queries, references)), "hamming"),
        queries.owners,
        references.owners,
    )[2]
    np.testing.assert_array_equal(others[np.arange(200), result.incorrect_row], whole.incorrect)


@pytest.mark.parametrize(
    "nearest", [lambda q, r: nearest_bits(q, r, 64), lambda q, r: nearest_vectors(q, r, "euclidean")]
)
def test_empty_sides(nearest: object) -> None:
    empty, one = (Owned(np.zeros((n, 8), np.uint8), np.zeros(n, np.int64)) for n in (0, 1))
    assert [len(column) for column in nearest(empty, one)] == [0, 0, 0]
    found = nearest(one, empty)
    assert np.isnan(found.correct).all()
    assert np.isnan(found.incorrect).all()
    assert found.incorrect_row.tolist() == [-1]
    alone = nearest(one, one)
    assert alone.correct.tolist() == [0]
    assert alone.incorrect_row.tolist() == [-1]


def test_distances_that_are_no_numbers_are_none() -> None:
    references = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    sides = Owned(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0, 1])), Owned(references, np.arange(3))
    found = nearest_vectors(*sides, "cosine")
    np.testing.assert_array_equal(np.isnan(found.correct), [True, False])
    np.testing.assert_array_equal(found.incorrect, [np.nan, 1.0])
    assert found.incorrect_row.tolist() == [-1, 2]


def test_what_cannot_be_compared() -> None:
    a, b = (Owned(np.zeros((1, n), np.uint8), np.zeros(1, np.int64)) for n in (8, 9))
    with pytest.raises(UsageError, match="8 and 9 bytes"):
        nearest_bits(a, b, 64)
    with pytest.raises(UsageError, match="metric 'nearness'"):
        nearest_vectors(a, a, "nearness")
