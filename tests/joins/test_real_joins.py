"""The join of real-valued hashes equals all distances at once, to the last bit, on every scale and at the threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from neardup.errors import UsageError
from neardup.joins import real

METRICS = list(real.METRICS)
SCALES = {"bytes": (40.0, 128.0), "small": (1e-30, 0.0), "large": (1e30, 5e30), "offset": (1e-3, 1e4)}


def rows_with_neighbours(n: int, width: int, scale: str) -> np.ndarray:
    """Random rows; the second half are copies of the first, every third of them exact."""
    rng = np.random.default_rng(n * width)
    spread, centre = SCALES[scale]
    half = n // 2
    rows = rng.normal(centre, spread, (n, width))
    rows[half : 2 * half] = (
        rows[:half] + rng.normal(0, 0.05 * spread, (half, width)) * (np.arange(half) % 3 > 0)[:, None]
    )
    rows = np.clip(np.round(rows), 0, 255) if scale == "bytes" else rows
    rows = rows.astype(np.float32)[rng.permutation(n)]
    rows.flags.writeable = False
    return rows


def expected(vectors: np.ndarray, threshold: float, metric: str) -> real.RealMatches:
    """Every pair, the slow obvious way."""
    i, j = np.triu_indices(len(vectors), 1)
    if len(i) == 0:
        return real.RealMatches(i, j, np.empty(0))
    distance = cdist(vectors, vectors, metric)[i, j]
    np.testing.assert_array_equal(distance, pdist(vectors, metric))
    near = distance < threshold
    return real.RealMatches(i[near], j[near], distance[near])


def assert_joined(vectors: np.ndarray, threshold: float, metric: str) -> int:
    """The number of matches, which are the expected ones."""
    found = real.self_join_real(vectors, threshold, metric)
    for column, wanted, name in zip(found, expected(vectors, threshold, metric), found._fields, strict=True):
        np.testing.assert_array_equal(column, wanted, err_msg=name)
    assert [column.dtype for column in found] == [np.int64, np.int64, np.float64]
    return len(found.i)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("metric", METRICS)
def test_equals_all_distances_at_thresholds_that_are_distances(metric: str, scale: str) -> None:
    vectors = rows_with_neighbours(500, 48, scale)
    distances = np.unique(pdist(vectors, metric))
    counts = []
    for at in (distances[0], distances[len(distances) // 999], np.quantile(distances, 0.02), distances[-1]):
        counts += [assert_joined(vectors, t, metric) for t in (at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf))]
    assert len(set(counts)) > 3


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 31, 32, 33, 100])
def test_every_number_of_rows_across_tiles(n: int, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "BLOCK_ROWS", 16)
    vectors = rows_with_neighbours(n, 9, "bytes")
    threshold = np.quantile(pdist(vectors, metric), 0.05) if n > 1 else 1.0
    assert_joined(vectors, threshold, metric)
    assert len(list(real.self_join_real_chunks(vectors, threshold, metric))) == real.tile_count(n)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1e-300, 1e300, float("inf"), float("-inf")])
def test_extreme_thresholds(metric: str, threshold: float) -> None:
    for scale in SCALES:
        assert_joined(rows_with_neighbours(60, 5, scale), threshold, metric)


def test_rows_without_a_distance_match_nothing_not_even_their_equals() -> None:
    vectors = np.array([[np.nan, 1], [np.nan, 1], [np.inf, 1], [np.inf, 1], [0, 0], [0, 0], [3, 4], [3, 4]], np.float32)
    for metric in ("euclidean", "sqeuclidean"):
        found = real.self_join_real(vectors, np.inf, metric)
        assert set(zip(found.i.tolist(), found.j.tolist(), strict=True)) == {
            (4, 5), (4, 6), (4, 7), (5, 6), (5, 7), (6, 7),
        }  # fmt: skip
    found = real.self_join_real(vectors, np.inf, "cosine")
    assert (found.i.tolist(), found.j.tolist()) == ([6], [7])


def test_the_screen_passes_few_pairs_that_are_not_near() -> None:
    vectors = rows_with_neighbours(2000, 64, "bytes")
    screen = real._screen(vectors, 20.0, "euclidean")
    assert screen.points.dtype == np.float32
    i, j = screen.tile(0, 0)
    near = (real.pair_distances(vectors, i, j, "euclidean") < 20).sum()
    assert 100 < near <= len(i) < near * 1.5
    # Norms far above the distances do not matter, distances far below the spread do.
    assert real._screen(rows_with_neighbours(200, 64, "offset"), 1e-2, "euclidean").points.dtype == np.float32
    assert real._screen(rows_with_neighbours(200, 64, "offset"), 1e-9, "euclidean").points.dtype == np.float64


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_equals_all_distances(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 5), label="width")
    element = st.floats(width=32, min_value=-(2.0**60), max_value=2.0**60)
    patterns = data.draw(st.lists(st.tuples(*[element] * width), min_size=1, max_size=8), label="rows")
    metric = data.draw(st.sampled_from(METRICS), label="metric")
    vectors = np.array(patterns, np.float32)
    thresholds = [*expected(vectors, np.inf, metric).distance.tolist(), 1.0]
    assert_joined(vectors, data.draw(st.sampled_from(thresholds), label="threshold"), metric)


@pytest.mark.parametrize(
    ("vectors", "threshold", "metric", "message"),
    [
        (np.zeros((2, 3)), 1.0, "euclidean", "float64 and shape"),
        (np.zeros(3, np.float32), 1.0, "euclidean", r"shape \(3,\)"),
        (np.zeros((3, 0), np.float32), 1.0, "euclidean", r"shape \(3, 0\)"),
        (np.zeros((2, 3), np.float32), 1.0, "manhattan", "unknown distance metric 'manhattan'"),
        (np.zeros((2, 3), np.float32), float("nan"), "euclidean", "not a number"),
    ],
)
def test_wrong_inputs_are_refused_in_one_sentence(vectors, threshold: float, metric: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        real.self_join_real(vectors, threshold, metric)
