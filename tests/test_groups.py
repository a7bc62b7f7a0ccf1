"""Components equal scipy's; bounded groups equal a slow greedy one; the kept item is what a plain sort says."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup import groups
from neardup.config import JoinJob
from neardup.errors import UsageError

BOUNDED = ("diameter", "clique-like")


def none_equal(n: int) -> np.ndarray:
    return np.arange(n)


# --- components -------------------------------------------------------------------------------------------------------


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
        chunks = zip(np.array_split(i, 7), np.array_split(j, 7), strict=True)  # an iterator: each chunk is seen once
        np.testing.assert_array_equal(groups.components(n, chunks), smallest_member(n, i, j))


def test_components_of_paths_and_stars_in_the_worst_order() -> None:
    n = 100_000
    down, shuffled = np.arange(n - 1, 0, -1), np.random.default_rng(0).permutation(n - 1) + 1
    for i in (down, down[::-1], shuffled):
        assert (groups.components(n, [(i, i - 1)]) == 0).all()
        star = groups.components(n, [(np.full(n - 1, n // 2), i)])
        np.testing.assert_array_equal(star, np.where(np.arange(n), 1, 0))


def test_components_without_edges_or_items() -> None:
    np.testing.assert_array_equal(groups.components(0, []), np.empty(0, np.int64))
    for nothing in ([], [([], [])]):
        labels = groups.components(3, nothing)
        np.testing.assert_array_equal(labels, [0, 1, 2])
        assert labels.dtype == np.int64


@pytest.mark.parametrize("grouping", groups.GROUPINGS)
def test_edges_outside_the_items_are_refused(grouping: str) -> None:
    def grouped(i: list[int], j: list[int]) -> None:
        groups.GROUPINGS[grouping]([([0], [1]), (i, j)], np.arange(3), none_equal(3))

    for i, j in (([0], [3]), ([-1], [0])):
        with pytest.raises(UsageError, match="items are 0 to 2"):
            grouped(i, j)
    with pytest.raises(UsageError, match="as many of both"):
        grouped([0, 1], [2])


@pytest.mark.parametrize("grouping", groups.GROUPINGS)
def test_read_only_edges_are_left_alone(grouping: str) -> None:
    i, j = np.array([3, 1], np.int32), np.array([1, 0], np.int32)
    order = np.array([3, 1, 2, 0])
    for array in (i, j, order):
        array.flags.writeable = False
    labels = groups.GROUPINGS[grouping]([(i, j)], order, none_equal(4))
    np.testing.assert_array_equal(labels, [0, 0, 2, 0] if grouping == "component" else [0, 1, 2, 1])


def test_the_configuration_names_every_kind_of_group_and_the_default_policy() -> None:
    fields = JoinJob.model_fields
    assert fields["groups"].annotation.__args__ == tuple(groups.GROUPINGS)  # type: ignore[union-attr]
    assert fields["keep"].default == groups.DEFAULT_KEEP


def test_every_kind_of_group_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "groups.md").read_text()
    assert all(f"`{grouping}`" in page for grouping in groups.GROUPINGS)


# --- bounded groups ---------------------------------------------------------------------------------------------------


def obvious(grouping: str, order: list[int], near: Callable[[int, int], bool]) -> list[list[int]]:
    """The groups as docs/groups.md defines them."""
    free, found = list(order), []
    while free:
        group = [free.pop(0)]
        for item in list(free):
            if all(near(item, other) for other in (group if grouping == "clique-like" else group[:1])):
                group.append(item)
                free.remove(item)
        found.append(group)
    return found


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Edges of a graph (some twice, some from an item to itself), an order of its items, and which are equal."""
    n = draw(st.integers(1, 14))
    pairs = list(combinations(range(n), 2)) + [(item, item) for item in range(n)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=60))
    order = draw(st.permutations(range(n)))
    equal = draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n) | st.just(list(range(n))))
    return edges, order, equal


def nearness(edges: list[tuple[int, int]], twins: list[int]) -> Callable[[int, int], bool]:
    linked = {frozenset((twins[a], twins[b])) for a, b in edges}
    return lambda a, b: twins[a] == twins[b] or frozenset((twins[a], twins[b])) in linked


def chunked(edges: list[tuple[int, int]], parts: int) -> list[groups.Edges]:
    flat = np.array(edges, np.int64).reshape(-1, 2)
    return [(part[:, 0], part[:, 1]) for part in np.array_split(flat, parts)]


@pytest.mark.parametrize("grouping", BOUNDED)
@settings(max_examples=300, deadline=None, derandomize=True)
@example(graph=([(0, 1), (1, 2), (2, 3), (0, 1)], [1, 0, 3, 2], [0, 1, 2, 3]), chance=0, parts=2)
@given(graph=graphs(), chance=st.integers(0, 9), parts=st.integers(1, 3))
def test_bounded_groups_equal_the_obvious_ones(
    grouping: str, graph: tuple[list[tuple[int, int]], list[int], list[int]], chance: int, parts: int
) -> None:
    edges, order, equal = graph
    twins = np.array([equal.index(kind) for kind in equal])
    near = nearness(edges, twins.tolist())
    rng = np.random.default_rng(chance)
    shuffled = [edge[:: rng.choice([-1, 1])] for edge in rng.permutation(np.array(edges).reshape(-1, 2))]
    labels = groups.GROUPINGS[grouping](chunked(shuffled, parts), np.array(order), twins)
    expected = obvious(grouping, order, near)
    assert [labels[group].tolist() for group in expected] == [[min(group)] * len(group) for group in expected]
    for group in expected:  # what docs/groups.md promises
        assert all(near(group[0], item) for item in group[1:])
        assert grouping == "diameter" or all(near(a, b) for a, b in combinations(group, 2))
    if grouping == "diameter":
        assert not any(near(a[0], b[0]) for a, b in combinations(expected, 2))


def test_a_chain_of_a_thousand_is_one_component_but_many_small_groups() -> None:
    n = 1000
    edges = [(np.arange(n - 1), np.arange(1, n))]
    for order in (np.arange(n), np.random.default_rng(0).permutation(n)):
        sizes = {
            grouping: np.unique(group(edges, order, none_equal(n)), return_counts=True)[1]
            for grouping, group in groups.GROUPINGS.items()
        }
        assert sizes["component"].tolist() == [n]
        assert sizes["diameter"].max() <= 3 and sizes["clique-like"].max() <= 2
        assert sum(sizes["clique-like"]) == sum(sizes["diameter"]) == n


def test_bounded_groups_of_large_graphs_equal_the_obvious_ones() -> None:
    rng = np.random.default_rng(1)
    n = 300
    for share in (0.02, 0.3, 0.9):
        edges = [edge for edge in combinations(range(n), 2) if rng.random() < share]
        order = rng.permutation(n)
        for grouping in BOUNDED:
            labels = groups.GROUPINGS[grouping](chunked(edges, 3), order, none_equal(n))
            for group in obvious(grouping, order.tolist(), nearness(edges, list(range(n)))):
                assert set(labels[group]) == {min(group)}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=1, max_size=12), st.booleans())
def test_twins_are_equal_by_every_hasher(hashes: list[tuple[int, int]], star: bool) -> None:
    """Hash 0 stands for an item that no other is near; 1 and 2 are near each other, and so are 3 and 4."""
    n = len(hashes)

    def edges_of(column: int) -> tuple[list[groups.Edges], list[groups.Edges]]:
        values = [one[column] for one in hashes]
        met = [
            (a, b) for a, b in combinations(range(n), 2) if values[a] and (values[a] - 1) // 2 == (values[b] - 1) // 2
        ]
        if star:
            met = [(a, b) for a, b in met if values.index(values[a]) == a or values[a] != values[b]]
        return chunked(met, 2), chunked([(a, b) for a, b in met if values[a] == values[b]], 1)

    twins = groups.find_twins(n, [edges_of(0), edges_of(1)])

    def key(item: int) -> Iterator[int]:
        for column in range(2):
            i, j = (np.concatenate([np.asarray(chunk[side]) for chunk in edges_of(column)[0]]) for side in range(2))
            yield hashes[item][column] if item in i or item in j else 0

    keys = [tuple(key(item)) for item in range(n)]
    assert twins.tolist() == [keys.index(one) for one in keys]


# --- what is kept -----------------------------------------------------------------------------------------------------


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
    criteria = [
        groups.ranks(pixels.astype(np.int64), descending=True),
        groups.ranks(size_bytes.astype(np.int64), descending=True),
        groups.ranks(moments if dates else when),
    ]
    kept = groups.choose_kept(labels, groups.keep_order(len(members), criteria), criteria)
    key = [
        (-p, -b, np.inf if np.isnan(t) else t, x)
        for x, (p, b, t) in enumerate(zip(pixels, size_bytes, when, strict=True))
    ]
    for item in range(len(members)):
        group = sorted(np.flatnonzero(labels == labels[item]), key=lambda x: key[x])
        best = group[0]
        assert (kept.kept[item], kept.keep[item], kept.size[item]) == (best, best == item, len(group))
        rival = (group[1] if len(group) > 1 else item) if item == best else best
        assert kept.reason[item] == next(c for c in range(4) if key[item][c] != key[rival][c] or c == 3)


@given(st.lists(MEMBERS, max_size=30), st.booleans())
def test_the_kept_item_is_first_in_a_plain_sort(members: list[tuple[int, int, int, float]], dates: bool) -> None:
    check_kept_items(members, dates)


def test_the_kept_item_among_many_ties() -> None:
    rng = np.random.default_rng(0)
    columns = rng.integers(0, [[40], [2], [2], [4]], (4, 400))
    times = np.where(columns[3] == 3, np.nan, columns[3])
    check_kept_items(list(zip(*columns[:3], times, strict=True)), dates=True)


def test_nulls_come_last_in_either_direction() -> None:
    values = np.array([np.nan, 5, 7, np.nan, 5])
    np.testing.assert_array_equal(groups.ranks(values), [2, 0, 1, 2, 0])
    np.testing.assert_array_equal(groups.ranks(values, descending=True), [2, 1, 0, 2, 1])


def test_distance_to_the_kept_item_is_of_an_edge_of_its_own_or_of_its_twins() -> None:
    kept = np.array([2, 2, 2, 2, 4, 2])
    i, j, distance = np.array([0, 1, 2, 0]), np.array([1, 2, 1, 2]), np.array([3, 9, 7, 5])
    chunks = [(i[:2], j[:2], distance[:2]), (i[2:], j[2:], distance[2:])]
    distances = groups.distances_to_kept(kept, none_equal(6), chunks)
    np.testing.assert_array_equal(distances, [5, 7, 0, np.nan, 0, np.nan])
    distances = groups.distances_to_kept(kept, np.array([0, 1, 2, 1, 4, 2]), chunks)
    np.testing.assert_array_equal(distances, [5, 7, 0, 7, 0, 0])


# --- the policy as text -----------------------------------------------------------------------------------------------


def test_criteria_are_read_and_written_as_text() -> None:
    texts = ["prefer:s3://gold/", "format:PNG > webp>jpeg", "-pixels", " bytes", "-mtime", "uri"]
    written = ["prefer:s3://gold/", "format:png>webp>jpeg", "-pixels", "bytes", "-mtime", "uri"]
    assert [str(one) for one in groups.parse_keep(texts)] == written
    assert [str(one) for one in groups.parse_keep(["prefer:a:b", "prefer:c"])] == ["prefer:a:b", "prefer:c", "uri"]
    assert [str(one) for one in groups.parse_keep(["-uri"])] == ["-uri"]
    assert groups.parse_keep([]) == groups.parse_keep(["uri"])
    assert tuple(map(str, groups.parse_keep(groups.DEFAULT_KEEP))) == groups.DEFAULT_KEEP


BAD = {
    "pixls": "did you mean 'pixels'?",
    "-pixel": "did you mean '-pixels'?",
    "-byte": "did you mean '-bytes'?",
    "prefr:s3://x/": "did you mean 'prefer:s3://x/'?",
    "formats:png>gif": "did you mean 'format:png>gif'?",
    "largest": "known are duration, -duration, pixels,",
    "": "known are duration, -duration, pixels,",
    "pixels:": "did you mean 'pixels'?",
    "prefer:": "names no prefix",
    "format:": "name each format once",
    "format:png>>gif": "name each format once",
    "format:png>PNG": "name each format once",
}


@pytest.mark.parametrize("text", BAD)
def test_a_misspelt_criterion_is_refused_with_what_was_meant(text: str) -> None:
    with pytest.raises(UsageError, match=f"--keep {text!r}") as raised:
        groups.parse_keep(["uri", text] if text else [text])
    assert BAD[text] in str(raised.value) and "\n" not in str(raised.value)


def test_a_criterion_that_could_not_decide_is_refused() -> None:
    for second in ("pixels", "-pixels"):
        with pytest.raises(UsageError, match="twice"):
            groups.parse_keep(["-pixels", "mtime", second])
