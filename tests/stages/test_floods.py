"""Floods of near-identical hashes: bounded, and the same whatever the tiles, blocks and increments."""

from pathlib import Path

import numpy as np
import pytest
from hash_tables import Joined, Row, components, join, write_hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from neardup import joins
from neardup.hashers import parse
from neardup.joins import crowds, real
from neardup.stages.live import maker
from neardup.stages.pairing import Rules
from neardup.stages.tiles import Radius

AHASH = maker(parse("ahash"))  # 64 bits
NEAR = Radius("hamming", 3)


def root_of(folder: pytest.TempPathFactory | Path) -> str:
    return f"file://{folder.mktemp('out') if isinstance(folder, pytest.TempPathFactory) else folder}"


def rows_of(codes: list[tuple[int, int]]) -> list[Row]:
    """Items with frames; a code is a bit pattern of 14 bits, so that many hashes are near each other, in 8 bytes."""
    seen: dict[int, int] = {}
    rows = []
    for item, code in codes:
        seen[item] = seen.get(item, -1) + 1
        value = (code & 127) | (code >> 7) << 40
        rows.append((f"u{item:03d}", seen[item], None, value.to_bytes(8, "big")))
    return rows


def without_order(found: Joined) -> tuple[list[str], list[str]]:
    return sorted(map(str, found.pairs)), sorted(map(str, found.hubs))


codes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, (1 << 14) - 1)), min_size=2, max_size=60)
few_bits = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 63)), min_size=2, max_size=60)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(found=codes | few_bits, most=st.integers(1, 6), block_rows=st.integers(3, 30), cut=st.integers(0, 60))
def test_tiles_and_increments_do_not_change_the_pairs_hubs_and_groups(
    tmp_path_factory: pytest.TempPathFactory,
    found: list[tuple[int, int]],
    most: int,
    block_rows: int,
    cut: int,
) -> None:
    rows = rows_of(found)
    whole = root_of(tmp_path_factory)
    write_hashes(whole, AHASH, rows)
    expected = join(whole, AHASH, NEAR, most)
    grown = root_of(tmp_path_factory)
    for some in (rows[: cut // 2 + 1], rows[: cut + 1], rows[cut // 3 :], rows):
        if some:
            write_hashes(grown, AHASH, some)
            last = join(grown, AHASH, NEAR, most, block_rows)
    assert without_order(last) == without_order(expected)
    for before, wider in ((most + 2, NEAR), (max(1, most - 1), NEAR), (most, Radius("hamming", 5))):
        join(grown, AHASH, wider, before)
        assert without_order(join(grown, AHASH, NEAR, most, block_rows)) == without_order(expected)

    full = join(whole, AHASH, NEAR)
    assert components(full.pairs) == components(expected.pairs)
    assert not full.hubs or max(hub["items"] for hub in full.hubs) > 45
    hashes = np.unique(np.array([list(row[3]) for row in rows], np.uint8), axis=0)
    apart = np.bitwise_count(hashes[:, None] ^ hashes).sum(axis=2)
    crowded = {bytes(hashes[k]) for k in np.flatnonzero((apart <= 3).sum(axis=1) - 1 > most)}
    assert len(expected.hubs) == len(crowded)
    pairs = {(pair["uri_a"], pair["uri_b"]): pair for pair in full.pairs}
    written = {(pair["uri_a"], pair["uri_b"]): pair for pair in expected.pairs}
    assert set(written) <= set(pairs)
    only_hubs = {uri for uri in {row[0] for row in rows} if all(row[3] in crowded for row in rows if row[0] == uri)}
    assert all(set(pair) <= only_hubs or _through_hubs(pair, rows, crowded) for pair in set(pairs) - set(written))
    frames = {uri: sum(row[0] == uri for row in rows) for uri, *_ in rows}
    for pair, row in written.items():
        if max(frames[uri] for uri in pair) > 1:  # what hubs leave out are pairs, never frames of those written
            assert row == pairs[pair]


def _through_hubs(pair: tuple[str, str], rows: list[Row], crowded: set[bytes]) -> bool:
    """Whether all matches of two items are between hubs or equal hashes that are hubs."""
    a, b = ([row[3] for row in rows if row[0] == uri] for uri in pair)
    return all(
        x in crowded and y in crowded for x in a for y in b if (int.from_bytes(x) ^ int.from_bytes(y)).bit_count() <= 3
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(found=few_bits, most=st.integers(1, 6), folders=st.integers(1, 3))
def test_hubs_hold_together_what_is_in_one_block(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, int]], most: int, folders: int
) -> None:
    rows = [(f"f{int(uri[1:]) % folders}/{uri}", *rest) for uri, *rest in rows_of(found)]
    root = root_of(tmp_path_factory)
    write_hashes(root, AHASH, rows)
    rules = Rules(("folder", "pattern:[02468]$"))
    some, full = join(root, AHASH, NEAR, most, 1000, rules), join(root, AHASH, NEAR, 0, 1000, rules)
    assert components(some.pairs) == components(full.pairs)
    assert {(pair["uri_a"], pair["uri_b"]) for pair in some.pairs} <= {(p["uri_a"], p["uri_b"]) for p in full.pairs}


def flooded(rng: np.random.Generator, count: int, blanks: int, noise: float) -> np.ndarray:
    """Hashes of 256 bits, of which the first are one hash with some bits changed at random."""
    hashes = rng.integers(0, 256, (count, 32), np.uint8)
    hashes[:blanks] = hashes[0] ^ np.packbits(rng.random((blanks, 256)) < noise, axis=1)
    return hashes


@pytest.mark.parametrize("block_rows", [5000, 2000])
def test_a_flood_is_bounded_wherever_it_is_written(tmp_path: Path, block_rows: int) -> None:
    phash = maker(parse("phash:hash_size=16"))
    hashes = flooded(np.random.default_rng(0), 5000, 3000, 0.05)
    write_hashes(root_of(tmp_path), phash, [(f"u{n:04d}", 0, None, bytes(row)) for n, row in enumerate(hashes)])
    found = join(root_of(tmp_path), phash, Radius("hamming", 31), 64, block_rows)
    assert len(joins.self_join(hashes, 31).i) > 4_000_000
    assert found.found < 64 * 5000 and found.near < 5000 and len(found.pairs) < 2 * 3000
    assert len(found.hubs) > 2900
    (group,) = components(found.pairs)
    assert len(group) == 3000


@pytest.mark.parametrize("bands", [None, [joins.Band(8, 1)] * 16, [joins.Band(16, 3)] * 8])
@pytest.mark.parametrize("chunk_pairs", [600, 1 << 20])
@pytest.mark.parametrize("itself", [True, False])
def test_a_crowd_loses_only_matches_within_it(bands: list[joins.Band] | None, chunk_pairs: int, itself: bool) -> None:
    hashes = flooded(np.random.default_rng(1), 1200, 700, 0.05)
    left, right = (hashes, None) if itself else (hashes[::2], hashes[1::2])
    n_left, n_right = len(left), None if right is None else len(right)
    whole = joins.self_join(left, 31) if right is None else joins.cross_join(left, right, 31)
    most, crowd = 60, crowds.crowd(n_left, n_right, 60)
    chunks = (
        joins.self_join_chunks(left, 31, chunk_pairs, bands, crowd=crowd)
        if right is None
        else joins.cross_join_chunks(left, right, 31, chunk_pairs, bands, crowd=crowd)
    )
    pieces = list(chunks)
    degree_i, degree_j = np.bincount(whole.i, minlength=n_left), np.bincount(whole.j, minlength=n_right or n_left)
    if itself:
        degree_i = degree_j = degree_i + degree_j
    found = {(i, j) for piece in pieces for i, j in zip(piece.i.tolist(), piece.j.tolist(), strict=True)}
    assert len(found) == sum(len(piece.i) for piece in pieces)
    assert found <= set(zip(whole.i.tolist(), whole.j.tolist(), strict=True))
    needed = (degree_i[whole.i] <= most) | (degree_j[whole.j] <= most)
    assert set(zip(whole.i[needed].tolist(), whole.j[needed].tolist(), strict=True)) <= found
    assert len(found) < len(whole.i) / 3
    for counts, degree in ((crowd.queries, degree_i), (crowd.references, degree_j)):
        assert not ((counts > most) & (degree <= most)).any()
        if bands is None:
            assert np.array_equal(counts > most, degree > most)


def test_a_flood_of_real_valued_hashes_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real, "BLOCK_ROWS", 64)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(600, 42)).astype(np.float32)
    vectors[:400] = vectors[0] + 0.01 * rng.normal(size=(400, 42))
    colors = maker(parse("colormoment"))
    write_hashes(root_of(tmp_path), colors, [(f"u{n:03d}", 0, None, row.tolist()) for n, row in enumerate(vectors)])
    found = join(root_of(tmp_path), colors, Radius("euclidean", 0.5), 50, 600)
    assert len(found.hubs) == 400 and len(found.pairs) == 399 and found.found < 50 * 600
    (group,) = components(found.pairs)
    assert len(group) == 400
    whole = join(root_of(tmp_path), colors, Radius("euclidean", 0.5), 0, 250)
    assert len(whole.pairs) == 400 * 399 // 2 and not whole.hubs


def test_a_negative_radius_matches_nothing_not_even_equal_hashes(tmp_path: Path) -> None:
    write_hashes(root_of(tmp_path), AHASH, [(f"u{n}", 0, None, bytes(8)) for n in range(3)])
    assert join(root_of(tmp_path), AHASH, Radius("hamming", -1)).pairs == []
    assert len(join(root_of(tmp_path), AHASH, Radius("hamming", 0)).pairs) == 3
