"""Components equal scipy's; the kept item of a group is what a plain sort says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline import groups
from pipeline.errors import UsageError


def smallest_member(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    _, component = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)
    smallest = np.full(component.max() + 1, n)
    np.minimum.at(smallest, component, np.arange(n))
    return smallest[component]


@pytest.mark.parametrize("edges_per_item", [0.1, 0.4, 0.5, 0.6, 1, 3])
def test_components_equal_scipy_on_random_graphs(edges_per_item: float) -> None:
    for seed, n in enumerate([1, 2, 3, 10, 1000, 50_000]):
        rng = np.random.default_rng(seed)
        i, j = rng.integers(0, n, (2, int(n * edges_per_item)))
        np.testing.assert_array_equal(groups.components(n, i, j), smallest_member(n, i, j))


def test_components_of_paths_and_stars_in_the_worst_order() -> None:
    n = 100_000
    down, shuffled = np.arange(n - 1, 0, -1), np.random.default_rng(0).permutation(n - 1) + 1
    for i in (down, down[::-1], shuffled):
        assert (groups.components(n, i, i - 1) == 0).all()
        assert (groups.components(n, np.full(n - 1, n // 2), i) == np.where(np.arange(n), 1, 0)).sum() >= n - 2


def test_components_without_edges_or_items() -> None:
    np.testing.assert_array_equal(groups.components(0, [], []), np.empty(0, np.int64))
    labels = groups.components(3, [], [])
    np.testing.assert_array_equal(labels, [0, 1, 2])
    assert labels.dtype == np.int64


def test_edges_outside_the_items_are_refused() -> None:
    for i, j in (([0], [3]), ([-1], [0])):
        with pytest.raises(UsageError, match="items are 0 to 2"):
            groups.components(3, i, j)
    with pytest.raises(UsageError, match="as many of both"):
        groups.components(3, [0, 1], [2])


def test_components_leave_read_only_edges_alone() -> None:
    i, j = np.array([3, 1]), np.array([1, 0])
    i.flags.writeable = j.flags.writeable = False
    np.testing.assert_array_equal(groups.components(4, i, j), [0, 0, 2, 0])


MEMBERS = st.tuples(
    st.integers(0, 5),
    st.integers(0, 2),
    st.integers(0, 2),
    st.one_of(st.just(float("nan")), st.integers(0, 2).map(float)),
)


def check_kept_items(members: list[tuple[int, int, int, float]], dates: bool) -> None:
    """The kept item and the reasons, against sorting each group in plain Python."""
    bucket, pixels, size_bytes, mtime = (np.array([m[k] for m in members]) for k in range(4))
    labels = np.array([int(np.flatnonzero(bucket == b)[0]) for b in bucket], np.int64)
    when = mtime.astype(float)
    moments = np.array(np.where(np.isnan(when), "NaT", when.astype("M8[s]").astype(str)), "M8[s]")
    kept = groups.choose_kept(labels, pixels.astype(np.int64), size_bytes.astype(np.int64), moments if dates else when)
    key = [
        (-p, -b, np.inf if np.isnan(t) else t, x)
        for x, (p, b, t) in enumerate(zip(pixels, size_bytes, when, strict=True))
    ]
    for item in range(len(members)):
        group = sorted(np.flatnonzero(labels == labels[item]), key=lambda x: key[x])
        best = group[0]
        assert (kept.kept[item], kept.keep[item], kept.size[item]) == (best, best == item, len(group))
        rival = (group[1] if len(group) > 1 else item) if item == best else best
        wanted = next(c for c in range(4) if key[item][c] != key[rival][c] or c == 3)
        assert groups.REASONS[kept.reason[item]] == groups.REASONS[wanted]


@given(st.lists(MEMBERS, max_size=30), st.booleans())
def test_the_kept_item_is_first_in_a_plain_sort(members: list[tuple[int, int, int, float]], dates: bool) -> None:
    check_kept_items(members, dates)


def test_the_kept_item_among_many_ties() -> None:
    rng = np.random.default_rng(0)
    columns = rng.integers(0, [[40], [2], [2], [4]], (4, 400))
    times = np.where(columns[3] == 3, np.nan, columns[3])
    check_kept_items(list(zip(*columns[:3], times, strict=True)), dates=True)


def test_null_pixels_and_bytes_come_last_too() -> None:
    labels = np.zeros(3, np.int64)
    kept = groups.choose_kept(labels, np.array([np.nan, 5, 5]), np.array([9.0, np.nan, 1]), np.array([1, 1, 1]))
    np.testing.assert_array_equal(kept.kept, [2, 2, 2])
    assert [groups.REASONS[r] for r in kept.reason] == ["largest_pixels", "largest_bytes", "largest_bytes"]


def test_distance_to_the_kept_item_is_of_a_direct_edge() -> None:
    kept = np.array([2, 2, 2, 2, 4])
    distances = groups.distances_to_kept(kept, np.array([0, 1, 2, 0]), np.array([1, 2, 1, 2]), np.array([3, 9, 7, 5]))
    np.testing.assert_array_equal(distances, [5, 7, 0, np.nan, 0])
