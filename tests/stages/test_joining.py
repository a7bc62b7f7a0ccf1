"""From matching hashes to pairs of items: against a slow, obvious derivation."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neardup import joins
from neardup.hashers.isometric import VARIANTS, isometric_view
from neardup.joins.forests import bit_distances
from neardup.stages import pairing, tiles
from neardup.stages.joining import Near, Rows
from neardup.stages.pairing import Reach
from neardup.stages.tiles import Radius

NOWHERE = Reach(bit_distances(np.zeros((2, 1), np.uint8)), Radius("hamming", -1).reaches)


def prepared(hashes: np.ndarray, items: np.ndarray) -> tuple[Rows, Near, Reach]:
    unique, sets = joins.distinct(hashes)
    order = np.lexsort((items, sets))
    starts = np.searchsorted(sets[order], np.arange(len(unique) + 1))
    uris = pa.array([f"u{n:03d}" for n in range(items.max() + 1)])
    rows = Rows(uris, items[order], order, np.zeros(len(items), np.int64), np.full(len(items), np.nan), starts)
    same = np.flatnonzero(np.diff(starts) > 1)
    within = joins.Matches(same, same, np.zeros(len(same), np.int32))
    matches = joins.concatenated(iter([within, joins.self_join(unique, 3)]))
    return rows, Near(matches, np.zeros(len(unique), bool)), Reach(bit_distances(unique), Radius("hamming", 3).reaches)


def obvious(hashes: np.ndarray, items: np.ndarray) -> dict[tuple[int, int], tuple[int, int, float, float]]:
    rows = defaultdict(list)
    for a in range(len(items)):
        for b in range(len(items)):
            distance = int(np.bitwise_count(hashes[a] ^ hashes[b]).sum())
            if items[a] < items[b] and distance <= 3:
                rows[int(items[a]), int(items[b])].append((a, b, distance))
    count = np.bincount(items)
    return {
        (x, y): (
            min(d for _, _, d in found),
            len(found),
            len({a for a, _, _ in found}) / count[x],
            len({b for _, b, _ in found}) / count[y],
        )
        for (x, y), found in rows.items()
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 63)), min_size=1, max_size=40))
def test_pairs_equal_the_obvious_derivation(rows: list[tuple[int, int]]) -> None:
    """Items with several rows (frames, segments), equal hashes within and across items, near ones."""
    items = np.array([item for item, _ in rows])
    items = np.unique(items, return_inverse=True)[1]
    hashes = np.array([[value, value // 3] for _, value in rows], np.uint8)
    found, hubs = pairing.item_pairs(*prepared(hashes, items))
    got = {
        (int(a), int(b)): (int(d), int(m), float(oa), float(ob))
        for a, b, d, m, oa, ob, *_ in zip(*found, strict=True)
    }  # fmt: skip
    assert got == obvious(hashes, items)
    assert len(hubs.item) == 0


@pytest.mark.parametrize("swap", [False, True])
def test_large_sets_become_stars_around_their_smallest_item(swap: bool) -> None:
    """A set of 50 is a star, and its centre is linked with each of the 40 of another, which are all paired."""
    near, far = (1, 0) if swap else (0, 1)
    hashes = np.array([[near]] * 40 + [[far]] * 50, np.uint8)
    items = np.random.default_rng(0).permutation(90)
    found, hubs = pairing.item_pairs(*prepared(hashes, items))
    first, second = items[:40], items[40:]
    centre = second.min()
    expected = {(min(a, b), max(a, b)) for i, a in enumerate(first) for b in first[:i]}
    expected |= {(min(centre, b), max(centre, b)) for b in items if b != centre}
    assert set(zip(found.item_a.tolist(), found.item_b.tolist(), strict=True)) == expected
    assert (hubs.item.tolist(), hubs.items.tolist()) == ([centre], [50])


def test_every_turn_is_undone_by_its_inverse() -> None:
    pixels = np.arange(12).reshape(3, 4)
    for number, variant in enumerate(VARIANTS):
        undone = isometric_view(isometric_view(pixels, variant), VARIANTS[pairing._INVERSE[number]])
        assert np.array_equal(undone, pixels), variant


def test_a_tile_spills_its_matches_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(0).integers(0, 16, (300, 1), np.uint8) * np.uint8([1, 0, 0])
    hashes[:, 1:] = np.arange(600).reshape(300, 2) % 251
    root = f"file://{tmp_path}"
    ((block,),) = blocks = tiles.cut_blocks("work/join-x", 3, [np.ones(300, bool)], 300)
    tiles.write_blocks(root, blocks, hashes)
    task = tiles.JoinTask(root, "work/join-x/tile-0-0.parquet", "phash", block, block, Radius("hamming", 3))
    whole = joins.self_join(hashes, 3)
    assert len(whole.i) > 100
    monkeypatch.setattr(joins, "self_join_chunks", partial(joins.self_join_chunks, chunk_pairs=7))
    assert tiles.join_tile(task).matches == len(whole.i)
    assert len(list(tmp_path.glob("work/*/tile*"))) >= len(whole.i) // 7
    found = pa.concat_tables(tiles.read_matches(root, task.tile)).sort_by([("i", "ascending"), ("j", "ascending")])
    for column, expected in zip(found.columns, whole, strict=True):
        assert np.array_equal(column, expected)


def test_a_turned_side_of_a_match_may_be_either() -> None:
    """Item 0 turned matches item 1 upright: then item 1 turned back matches item 0; turned and turned say nothing."""
    quarter, back, upright = VARIANTS.index("r90"), VARIANTS.index("r270"), VARIANTS.index("r0")
    for variants, expected in [((quarter, upright), back), ((upright, quarter), quarter), ((quarter, back), None)]:
        two = np.array([0, 1])
        rows = Rows(pa.array(["a", "b"]), two, two, np.array(variants), np.full(2, np.nan), np.array([0, 1, 2]))
        near = Near(joins.Matches(two[:1], two[1:], np.array([5])), np.zeros(2, bool))
        found, _ = pairing.item_pairs(rows, near, NOWHERE)
        assert found.variant.tolist() == ([] if expected is None else [expected])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 63)), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 1)), min_size=13, max_size=13),
    st.sampled_from([1, 2]),
)
def test_only_items_of_one_block_are_paired(
    rows: list[tuple[int, int]], block_codes: list[tuple[int, int]], kinds: int
) -> None:
    items = np.unique(np.array([item for item, _ in rows]), return_inverse=True)[1]
    hashes = np.array([[value, value // 3] for _, value in rows], np.uint8)
    blocks = [np.array([code[kind] for code in block_codes[: items.max() + 1]]) for kind in range(kinds)]
    found, _ = pairing.item_pairs(*prepared(hashes, items), blocks)
    got = {(a, b): rest for a, b, *rest in zip(*(column.tolist() for column in found[:6]), strict=True)}
    expected = {
        (x, y): list(values)
        for (x, y), values in obvious(hashes, items).items()
        if any(block[x] == block[y] >= 0 for block in blocks)
    }
    assert got == expected


def test_a_star_stays_within_its_block() -> None:
    items = np.arange(120)
    found, hubs = pairing.item_pairs(*prepared(np.zeros((120, 2), np.uint8), items), [items % 2])
    assert set(zip(found.item_a.tolist(), found.item_b.tolist(), strict=True)) == {(n % 2, n) for n in range(2, 120)}
    assert (hubs.item.tolist(), hubs.items.tolist()) == ([0, 1], [60, 60])


def test_blocks_by_rule() -> None:
    uris = pa.array(["file:///a/x.jpg", "file:///a/y.jpg", "s3://b/c/x.jpg", "s3://b/c/d/z.jpg"])
    assert pairing.block_of(uris, "folder").tolist() == [0, 0, 1, 2]
    assert pairing.block_of(uris, "pattern:([xy]).jpg$").tolist() == [0, 1, 0, -1]
    assert pairing.block_of(uris, "pattern:s3|file").tolist() == [0, 0, 1, 1]
