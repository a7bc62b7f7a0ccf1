"""Every engine equals brute force, on planted distances 0 to radius + 1, duplicates, floods and empty sides."""

import subprocess
import sys

import numpy as np
import pytest
from brute_force import assert_same, brute_force, flipped, planted, random_hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from neardup import joins
from neardup.errors import UsageError

WIDTHS = [1, 8, 63, 64, 65, 128, 255, 256, 576, 968]
ENGINES = sorted(name for name, engine in joins.JOINS.items() if engine.exact)


def radii(bits: int) -> list[int]:
    return sorted({0, 1, bits // 10, bits // 5, bits // 3, bits - 1, bits, bits + 7})


@pytest.fixture(params=["this CPU", "portable"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "portable":
        monkeypatch.setenv("NEARDUP_PORTABLE", "1")
    return request.param


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> joins.Engine:
    return joins.JOINS[request.param]


def self_join(engine: joins.Engine, hashes: np.ndarray, radius_bits: int, chunk_pairs: int = 1 << 22) -> joins.Matches:
    return joins.concatenated(engine.self_join_chunks(hashes, radius_bits, chunk_pairs))


def cross_join(engine: joins.Engine, left: np.ndarray, right: np.ndarray, radius_bits: int) -> joins.Matches:
    return joins.concatenated(engine.cross_join_chunks(left, right, radius_bits, 1 << 22))


@pytest.mark.parametrize("bits", WIDTHS)
def test_self_join_finds_neighbours_planted_at_every_distance(bits: int, engine: joins.Engine, machine: str) -> None:
    rng = np.random.default_rng(bits)
    for radius in radii(bits):
        hashes = planted(rng, 700, bits, radius + 1)
        assert_same(self_join(engine, hashes, radius), brute_force(hashes, hashes, radius, upper=True))


@pytest.mark.parametrize("bits", WIDTHS)
def test_cross_join_finds_neighbours_planted_at_every_distance(bits: int, engine: joins.Engine, machine: str) -> None:
    rng = np.random.default_rng(bits + 1)
    for radius in radii(bits):
        left = random_hashes(rng, 600, bits)
        right = random_hashes(rng, 1100, bits)
        right[300:900] = flipped(rng, left, rng.permutation(600) % (min(radius + 1, bits) + 1), bits)
        expected = brute_force(left, right, radius)
        assert_same(cross_join(engine, left, right, radius), expected)
        turned = cross_join(engine, right, left, radius)
        order = np.lexsort((turned.i, turned.j))
        assert_same(joins.Matches(turned.j[order], turned.i[order], turned.distance[order]), expected)


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025])
def test_every_number_of_rows(n: int, engine: joins.Engine, machine: str) -> None:
    hashes = planted(np.random.default_rng(n), n, 64, 9)
    assert_same(self_join(engine, hashes, 8), brute_force(hashes, hashes, 8, upper=True))
    for other in (hashes[:0], hashes[:1], hashes[-130:]):
        assert_same(cross_join(engine, hashes, other, 8), brute_force(hashes, other, 8))
        assert_same(cross_join(engine, other, hashes, 8), brute_force(other, hashes, 8))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_self_and_cross_join_equal_brute_force(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 40), label="bytes")
    patterns = data.draw(st.lists(st.binary(min_size=width, max_size=width), min_size=1, max_size=6), label="patterns")
    rows = data.draw(st.lists(st.integers(0, len(patterns) - 1), max_size=700), label="rows")
    noise = np.random.default_rng(data.draw(st.integers(0, 9), label="noise"))
    radius = data.draw(st.integers(-1, 8 * width + 1), label="radius")
    hashes = np.frombuffer(b"".join(patterns), np.uint8).reshape(-1, width)[rows]
    hashes = flipped(noise, hashes, noise.integers(0, 4, len(hashes)), 8 * width)
    split = len(hashes) // 3
    for engine in (joins.JOINS[name] for name in ENGINES):
        assert_same(self_join(engine, hashes, radius, 100), brute_force(hashes, hashes, radius, upper=True))
        left, right = hashes[:split], hashes[split:]
        assert_same(cross_join(engine, left, right, radius), brute_force(left, right, radius))


def test_100_000_hashes_with_neighbours_at_every_distance_to_60() -> None:
    hashes = planted(np.random.default_rng(5), 100_000, 256, 60)
    expected = brute_force(hashes, hashes, 60, upper=True)
    assert set(expected.distance) == set(range(61))
    for radius in (31, 51, 60):
        within = expected.distance <= radius
        assert_same(joins.self_join(hashes, radius), joins.Matches(*(column[within] for column in expected)))


def test_whole_runs_of_bits_that_differ(engine: joins.Engine, machine: str) -> None:
    """The scan counts four differing bits of four as two: it must neither miss such a pair nor report it too near."""
    rng = np.random.default_rng(6)
    seeds = random_hashes(rng, 40, 256)
    runs = np.array(
        [[start <= bit < start + length for bit in range(256)] for start in range(5) for length in range(40)]
    )
    hashes = np.concatenate([seeds, *(seeds[:4] ^ np.packbits(run) for run in runs)])
    for radius in (4, 20, 31, 38):
        assert_same(self_join(engine, hashes, radius), brute_force(hashes, hashes, radius, upper=True))


def test_blank_flood_comes_in_bounded_sorted_chunks(engine: joins.Engine, machine: str) -> None:
    hashes = random_hashes(np.random.default_rng(0), 1500, 256)
    hashes[::3] = 0
    expected = brute_force(hashes, hashes, 31, upper=True)
    assert len(expected.i) > 120_000
    for chunk_pairs in (1, 100, 1000, 50_000, 1 << 22):
        some = hashes[:90] if chunk_pairs == 1 else hashes
        chunks = list(engine.self_join_chunks(some, 31, chunk_pairs))
        assert all(1 <= len(chunk.i) <= chunk_pairs for chunk in chunks)
        for chunk in chunks:
            assert (np.lexsort((chunk.j, chunk.i)) == np.arange(len(chunk.i))).all()
        assert_same(joins.concatenated(chunks), brute_force(some, some, 31, upper=True))
    chunks = list(engine.cross_join_chunks(hashes, hashes[:700], 31, 1000))
    assert max(len(chunk.i) for chunk in chunks) <= 1000
    assert_same(joins.concatenated(chunks), brute_force(hashes, hashes[:700], 31))


def test_correlated_and_constant_bits(engine: joins.Engine, machine: str) -> None:
    rng = np.random.default_rng(2)
    walk = rng.normal(size=(5000, 1)) + rng.normal(size=(5000, 256)).cumsum(axis=1) / 3
    hashes = np.packbits(walk > np.median(walk), axis=1)
    hashes[:, 5:9] = 0xF0
    for radius in (3, 12):
        assert_same(self_join(engine, hashes, radius), brute_force(hashes, hashes, radius, upper=True))


def test_inputs_may_be_read_only_strided_and_stay_unchanged(engine: joins.Engine) -> None:
    wide = planted(np.random.default_rng(3), 900, 256, 30)
    views = [wide[::2], wide[::-1], wide[:, 3:20], np.asfortranarray(wide), wide[:, ::2]]
    for view in views:
        view.flags.writeable = False
        before = view.copy()
        expected = brute_force(before, before, 20, upper=True)
        assert_same(self_join(engine, view, 20), expected)
        assert_same(cross_join(engine, view, view[:100], 20), brute_force(before, before[:100], 20))
        np.testing.assert_array_equal(view, before)


def test_the_same_array_on_both_sides_of_a_cross_join_matches_itself(engine: joins.Engine) -> None:
    hashes = random_hashes(np.random.default_rng(4), 600, 64)
    assert_same(cross_join(engine, hashes, hashes, 5), brute_force(hashes, hashes, 5))


@pytest.mark.parametrize("groups_of_blocks", [1, 2, 3])
def test_reference_rows_taken_a_few_blocks_at_a_time(groups_of_blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = planted(np.random.default_rng(7), 3000, 64, 12)
    chunks = 2
    monkeypatch.setattr("neardup.joins.bitslices.LOOKUP_BYTES", groups_of_blocks * chunks * 8 * 18 * 64)
    assert_same(joins.self_join(hashes, 11), brute_force(hashes, hashes, 11, upper=True))
    assert_same(joins.cross_join(hashes[:999], hashes, 11), brute_force(hashes[:999], hashes, 11))


def test_wrong_inputs_are_refused_in_one_sentence() -> None:
    good = np.zeros((3, 8), np.uint8)
    for bad in (good.astype(np.int8), good[0], good[:, :0], good.view(np.uint64)):
        with pytest.raises(UsageError, match="packed bits"):
            joins.self_join(bad, 3)
    with pytest.raises(UsageError, match="8 and 7 bytes"):
        joins.cross_join(good, good[:, :7], 3)


@pytest.mark.parametrize("bits", WIDTHS)
def test_distinct_equals_numpy_unique(bits: int) -> None:
    rng = np.random.default_rng(bits)
    for n in (0, 1, 2, 1000):
        hashes = random_hashes(rng, n, bits)
        hashes[n // 3 :: 2] = hashes[: len(hashes[n // 3 :: 2])]
        if bits > 64:
            hashes[n // 2 :, :8] = 7  # many share the first word and then differ
            hashes[n // 4 : n // 2] = hashes[:1]
        hashes.flags.writeable = False
        unique, inverse = joins.distinct(hashes)
        wanted, wanted_inverse = np.unique(hashes, axis=0, return_inverse=True)
        np.testing.assert_array_equal(unique, wanted)
        np.testing.assert_array_equal(inverse, wanted_inverse.reshape(-1))
        assert (unique.dtype, inverse.dtype) == (np.uint8, np.int64)


@given(threshold=st.floats(0, 1), bits=st.integers(1, 1000))
def test_radius_is_the_largest_distance_below_the_threshold(threshold: float, bits: int) -> None:
    distances = np.arange(bits + 1) / np.float64(bits)
    assert joins.radius_from_threshold(threshold, bits) == int((distances < threshold).sum()) - 1


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_threshold_that_is_itself_a_distance_is_strict(bits: int) -> None:
    for distance in range(bits + 1):
        assert joins.radius_from_threshold(distance / bits, bits) == distance - 1


@pytest.mark.parametrize("threshold", [7, -0.1, 1.0000001, float("nan"), float("inf")])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match=f"threshold {threshold:g} .*use radius_bits"):
        joins.radius_from_threshold(threshold, 64)


def test_a_second_process_compiles_nothing() -> None:
    code = (
        "import numpy as np; from neardup import joins; from neardup.joins import bands, bitslices;"
        "h = np.zeros((600, 32), np.uint8); joins.self_join(h, 31); joins.cross_join(h, h, 31);"
        "joins.concatenated(joins.self_join_chunks(h, 31, bands=[joins.Band(16, 1)] * 16));"
        "kernels = [bitslices.scan_buckets, bitslices.fill_lookups, bitslices.reorder_bits, bands.sort_by_key];"
        "print(sum(sum(k.stats.cache_misses.values()) for k in kernels))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[1].stdout.strip() == "0"
