"""Items near entries: against a slow, obvious derivation and plain numpy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neardup
from conftest import PHOTOS
from neardup import joins, tables
from neardup.errors import UsageError
from neardup.hashers import PDQHash, parse
from neardup.stages import matching, tiles
from neardup.stages.known import Known
from neardup.stages.live import maker
from neardup.stages.matching import Side, Wanted
from neardup.stages.tiles import Radius

RADIUS = Wanted(maker(parse("phash:hash_size=4")), Radius("hamming", 3))


def side(rows: Sequence[tuple[int, int, bool]]) -> Side:
    """Rows of (item, hash, upright): 16-bit hashes, crowded enough to be near each other."""
    names = pa.chunked_array([pa.array([f"u{item}" for item, _, _ in rows], pa.string())])
    hashes = np.array([[value, value // 3] for _, value, _ in rows], np.uint8).reshape(-1, 2)
    return matching._side(names, hashes, np.array([upright for _, _, upright in rows], bool))


def obvious(left: Sequence[tuple[int, int, bool]], right: Sequence[tuple[int, int, bool]]) -> dict[Any, Any]:
    """(item, entry) → (smallest distance, first row of the list that has it)."""
    found: dict[Any, Any] = {}
    for item, a, upright_a in left:
        for row, (entry, b, upright_b) in enumerate(right):
            distance = (a ^ b).bit_count() + ((a // 3) ^ (b // 3)).bit_count()
            if distance <= 3 and (upright_a or upright_b):
                key = (f"u{item}", f"u{entry}")
                found[key] = min(found.get(key, (99, 0)), (distance, row))
    return found


ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 63), st.booleans()), max_size=25)


def near(left: Side, right: Side, matches: joins.Matches, at_a_time: int = 1 << 22) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    keys = []
    for piece in matching.items_near(left, right, matches, at_a_time):
        for item, entry, distance, row in zip(*(column.tolist() for column in piece), strict=True):
            keys.append((left.names[item].as_py(), right.names[entry].as_py()))
            found[keys[-1]] = (int(distance), row)
    assert keys == sorted(set(keys))  # each pair once, in order, also across pieces
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(ROWS, ROWS, st.integers(1, 40))
def test_items_near_equal_the_obvious_derivation(
    left: list[tuple[int, int, bool]], right: list[tuple[int, int, bool]], at_a_time: int
) -> None:
    """Several rows per item and entry, equal hashes within and across, turned rows, in one piece or many."""
    corpus, listed = side(left), side(right)
    matches = matching.matches_in_memory(corpus, listed, RADIUS)
    assert near(corpus, listed, matches) == obvious(left, right)
    assert near(corpus, listed, matches, at_a_time) == obvious(left, right)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=30), st.integers(1, 30))
def test_pieces_hold_whole_items_and_no_more_than_asked(rows: list[tuple[int, int]], at_a_time: int) -> None:
    items, weights = np.array(sorted(rows), np.int64).reshape(-1, 2).T
    pieces = list(matching._pieces(items, weights, at_a_time))
    assert np.concatenate([np.empty(0, np.int64), *pieces]).tolist() == np.flatnonzero(weights).tolist()
    for piece, following in zip(pieces, [*pieces[1:], np.empty(0, np.int64)], strict=False):
        assert weights[piece].sum() <= at_a_time or len(set(items[piece])) == 1
        assert len(following) == 0 or items[piece[-1]] < items[following[0]]


@pytest.mark.parametrize("block_rows", [1, 7, 1000])
def test_tiles_find_what_one_join_finds_and_never_meet_their_own_side(tmp_path: Path, block_rows: int) -> None:
    random = np.random.default_rng(3)
    left, right = (
        [(int(n), int(v), bool(u)) for n, v, u in zip(*random.integers(0, [[9], [64], [2]], (3, 40)), strict=True)]
        for _ in range(2)
    )
    corpus, listed = side(left), side(right)
    prepared = matching.prepare(f"file://{tmp_path}", corpus, listed, RADIUS, block_rows)
    sizes = [int(s.distinct.upright.sum()) for s in (corpus, listed)]
    turned = [len(s.distinct.upright) - n for s, n in zip((corpus, listed), sizes, strict=True)]
    compared = sum(tiles.join_tile(task).compared for task in prepared.tasks)
    assert compared == sizes[0] * sizes[1] + sizes[0] * turned[1] + turned[0] * sizes[1]
    assert near(corpus, listed, matching.all_matches(f"file://{tmp_path}", prepared)) == obvious(left, right)
    again = matching.prepare(f"file://{tmp_path}", corpus, listed, RADIUS, block_rows)
    assert again.tasks == [] and again.tiles == prepared.tiles  # tiles are their own receipts
    other = matching.prepare(
        f"file://{tmp_path}", corpus, listed, RADIUS._replace(radius=Radius("hamming", 2)), block_rows
    )
    assert len(other.tasks) == len(prepared.tasks)


# --- from Python, against numpy ---------------------------------------------------------------------------------------


def planted(radius: int, bits: int = 256) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A corpus and a list with pairs at every distance 0…radius + 1, and one entry that nothing is near."""
    random = np.random.default_rng(radius)
    corpus, known = {}, {}
    for distance in range(radius + 2):
        for copy in range(3):
            base = random.integers(0, 2, bits, np.uint8)
            other = base.copy()
            other[random.choice(bits, distance, replace=False)] ^= 1
            corpus[f"item{distance}-{copy}"] = np.packbits(base).tobytes()
            known[f"entry{distance}-{copy}"] = np.packbits(other).tobytes()
    known["far"] = np.packbits(random.integers(0, 2, bits, np.uint8)).tobytes()
    return corpus, known


def brute_force(corpus: Mapping[str, bytes], known: Mapping[str, bytes], radius: int, bits: int) -> set[Any]:
    a, b = (np.frombuffer(b"".join(side.values()), np.uint8).reshape(len(side), -1) for side in (corpus, known))
    distance = np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2)
    names, entries = list(corpus), list(known)
    return {(names[i], entries[j], distance[i, j] / bits) for i, j in np.argwhere(distance <= radius)}


def found(table: pa.Table) -> set[Any]:
    return set(zip(*(table[name].to_pylist() for name in ("uri", "entry", "distance")), strict=True))


@pytest.mark.parametrize("radius", [0, 1, 31, 51, 90])
def test_planted_distances_are_found_up_to_the_radius(radius: int) -> None:
    corpus, known = planted(radius)
    table = neardup.match(corpus, known, "pdq", radius_bits=radius)
    assert found(table) == brute_force(corpus, known, radius, 256)
    assert len({one for one in found(table) if one[2] == radius / 256}) >= 3
    assert table.schema == tables.MATCHES and set(table["hasher"].to_pylist()) == {"pdq"}
    assert found(neardup.match(corpus, known, f"pdq@{(radius + 0.5) / 256}")) == found(table)


def test_odd_widths_and_real_values() -> None:
    corpus, known = ({n: h[:1] + bytes([h[1] & 0x80]) for n, h in side.items()} for side in planted(4))
    table = neardup.match(corpus, known, "phash:hash_size=3", radius_bits=2)
    assert found(table) == brute_force(corpus, known, 2, 9)
    vectors = {name: np.float32(np.random.default_rng(n).normal(0, 1, 42)) for n, name in enumerate("abc")}
    moved = {name.upper(): vector + np.float32(0.01) for name, vector in vectors.items()}
    table = neardup.match(vectors, moved, "colormoment@0.1")
    assert [(u, e) for u, e, _ in sorted(found(table))] == [("a", "A"), ("b", "B"), ("c", "C")]
    assert table["distance"].to_numpy() == pytest.approx([0.01 * 42**0.5] * 3, rel=1e-3)


def test_photos_in_memory(tmp_path: Path) -> None:
    hasher = PDQHash()
    known = {photo.name: hasher.compute(photo, hash_format="hex") for photo in PHOTOS[:3]}
    (tmp_path / "list.txt").write_text("\n".join(f"{one} {name}" for name, one in known.items()))
    corpus = pd.Series({str(photo): hasher.compute(photo) for photo in PHOTOS}).to_dict()
    frame = neardup.match(corpus, [tmp_path / "list.txt", known], "pdq").to_pandas()
    assert sorted(frame["list"]) == ["list.txt"] * 3 + ["mapping"] * 3
    assert [Path(uri).name for uri in frame["uri"]] == sorted(known) * 2
    assert frame["label"].tolist()[:3] == frame["entry"].tolist()[3:] == sorted(known)


def test_the_nearest_of_several_rows_gives_the_label() -> None:
    pdq = maker(parse("pdq"))
    hashes = np.zeros((4, 32), np.uint8)
    hashes[0, 0], hashes[1, 0], hashes[3, 0] = 3, 1, 1
    entries, labels = pa.array(["x", "x", "y", "x"]), pa.array(["two away", "one away", None, "too late"])
    listed = Known("list", "v", hashes, np.ones(4, bool), entries, labels, {})
    corpus = matching.side_of(matching.of_mapping({"a": bytes(32)}, pdq))
    right = matching.side_of(listed)
    matches = matching.matches_in_memory(corpus, right, Wanted(pdq, Radius("hamming", 9)))
    (table,) = matching.match_tables(pdq, corpus, listed, right, matches)
    rows = list(zip(*(table[name].to_pylist() for name in ("entry", "label", "distance")), strict=True))
    assert rows == [("x", "one away", 1 / 256), ("y", None, 0.0)]


def test_nothing_to_match() -> None:
    assert len(neardup.match({}, {"a": bytes(32)}, "pdq")) == len(neardup.match({"a": bytes(32)}, {}, "pdq")) == 0
    assert len(neardup.match({"a": bytes(32)}, [], "pdq")) == 0
    assert len(neardup.match({"a": bytes(32)}, {"a": bytes(32)}, "pdq@0")) == 0  # a threshold is strict


@pytest.mark.parametrize(
    ("hasher", "radius", "message"),
    [
        ("pdq@near", None, "'near' is not a number"),
        ("pdq@7", None, "outside 0..1"),
        ("phash", None, "no recommended threshold"),
        ("colormoment", 3, "real-valued"),
        ("fash", None, "did you mean 'phash'"),
    ],
)
def test_what_cannot_be_meant(hasher: str, radius: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neardup.match({}, {}, hasher, radius_bits=radius)


def test_a_corpus_that_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not an output of neardup"):
        neardup.match(tmp_path, {}, "pdq")
