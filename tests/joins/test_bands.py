"""Every set of bands that covers the radius finds what brute force finds; so does whatever the planner chooses."""

import numpy as np
import pytest
from brute_force import assert_same, brute_force, flipped, planted, random_hashes

from neardup import joins
from neardup.errors import UsageError
from neardup.joins import EVERY_PAIR, Band, plans
from neardup.joins.bands import key_masks
from neardup.joins.sample import take_sample
from neardup.joins.words import as_words

PLANS = [
    (64, 6, [Band(9, 0)] * 7),
    (64, 6, [Band(16, 1)] * 3 + [Band(16, 0)]),
    (64, 10, [Band(12, 1)] * 5 + [Band(4, 0)]),
    (64, 11, [Band(5, 2)] * 4),
    (64, 3, [Band(20, 3)]),
    (64, 20, [Band(2, 2), Band(7, 0)]),
    (64, 64, list(EVERY_PAIR)),
    (8, 3, [Band(2, 0)] * 4),
    (8, 5, [Band(4, 2)] * 2),
    (72, 8, [Band(8, 0)] * 9),
    (128, 12, [Band(7, 0), Band(11, 1), Band(20, 2), Band(3, 0), Band(9, 1), Band(13, 1), Band(8, 1)]),
    (256, 31, [Band(8, 0)] * 32),
    (256, 31, [Band(16, 1)] * 16),
    (256, 31, [Band(11, 0)] * 14 + [Band(11, 1)] * 9),
    (256, 51, [Band(10, 1)] * 20 + [Band(11, 2)] * 4),
    (256, 30, [Band(18, 3)] * 8),
    (576, 40, [Band(14, 0)] * 41),
    (968, 60, [Band(14, 1)] * 31),
]
BY_NAME = pytest.mark.parametrize(
    ("bits", "radius", "bands"), PLANS, ids=[f"{bits}-{radius}-{len(bands)}" for bits, radius, bands in PLANS]
)


@pytest.fixture(params=["this CPU", "portable"], autouse=True)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "portable":
        monkeypatch.setenv("NEARDUP_PORTABLE", "1")


@BY_NAME
def test_self_join_by_bands_equals_brute_force(bits: int, radius: int, bands: list[Band]) -> None:
    hashes = planted(np.random.default_rng(bits + radius), 1500, bits, radius + 1)
    hashes[::50] = hashes[0]
    expected = brute_force(hashes, hashes, radius, upper=True)
    assert_same(joins.concatenated(joins.self_join_chunks(hashes, radius, bands=bands)), expected)
    chunks = list(joins.self_join_chunks(hashes, radius, 600, bands))
    assert all(1 <= len(chunk.i) <= 600 for chunk in chunks)
    assert_same(joins.concatenated(chunks), expected)


@BY_NAME
def test_shares_together_give_each_match_once(bits: int, radius: int, bands: list[Band]) -> None:
    hashes = planted(np.random.default_rng(bits), 900, bits, radius + 1)
    chunks = [c for k in range(3) for c in joins.self_join_chunks(hashes, radius, bands=bands, share=(k, 3))]
    assert_same(joins.concatenated(chunks), brute_force(hashes, hashes, radius, upper=True))
    left, right = hashes[:400], hashes[400:]
    chunks = [c for k in range(2) for c in joins.cross_join_chunks(left, right, radius, bands=bands, share=(k, 2))]
    assert_same(joins.concatenated(chunks), brute_force(left, right, radius))


@BY_NAME
def test_cross_join_by_bands_equals_brute_force(bits: int, radius: int, bands: list[Band]) -> None:
    rng = np.random.default_rng(bits + radius)
    left, right = random_hashes(rng, 700, bits), random_hashes(rng, 1300, bits)
    right[500:1200] = flipped(rng, left, rng.permutation(700) % (min(radius + 1, bits) + 1), bits)
    left[::40] = left[0]
    expected = brute_force(left, right, radius)
    assert_same(joins.concatenated(joins.cross_join_chunks(left, right, radius, bands=bands)), expected)
    turned = brute_force(right, left, radius)
    assert_same(joins.concatenated(joins.cross_join_chunks(right, left, radius, bands=bands)), turned)


@BY_NAME
def test_each_band_finds_the_pairs_that_only_it_can_find(bits: int, radius: int, bands: list[Band]) -> None:
    """At the radius and one bit more on every other band than it allows: the pigeonhole is at its limit."""
    words = as_words(random_hashes(np.random.default_rng(0), 100, bits))
    order = take_sample(words, words, bits).order  # of so few rows it does not depend on them
    ends = np.cumsum([band.bits for band in bands])
    rest = order[ends[-1] :]
    rng = np.random.default_rng(bits)
    expected, pairs = set(), []
    for q, own in enumerate(bands):
        for more in (0, 1):  # bits that differ on band q beyond what it allows
            flips = []
            for b, (band, end) in enumerate(zip(bands, ends, strict=True)):
                count = band.radius_bits + (more if b == q else 1)
                flips += rng.permutation(order[end - band.bits : end])[:count].tolist()
            spare = radius - len(flips)
            if spare < 0 and not more:
                continue  # other bands find these too
            flips += rng.permutation(rest)[: max(0, spare)].tolist()
            changed = np.zeros(bits, np.uint8)
            changed[flips] = 1
            one = random_hashes(rng, 1, bits)
            pairs += [one, one ^ np.packbits(changed, bitorder="little")]
            if changed.sum() <= radius:
                expected.add((len(pairs) - 2, len(pairs) - 1))
        assert own.bits >= own.radius_bits
    hashes = np.concatenate([*pairs, random_hashes(rng, 200, bits)])
    found = joins.concatenated(joins.self_join_chunks(hashes, radius, bands=bands))
    assert expected <= set(zip(found.i.tolist(), found.j.tolist(), strict=True))
    assert_same(found, brute_force(hashes, hashes, radius, upper=True))


def test_bands_find_pairs_that_differ_only_on_one_band() -> None:
    """All the difference on few bits: the first-band rule and the pigeonhole are at their limits."""
    rng = np.random.default_rng(0)
    seeds = random_hashes(rng, 60, 64)
    where = np.packbits(np.eye(64, dtype=np.uint8), axis=1)
    close = seeds[:, None] ^ np.bitwise_xor.accumulate(where, axis=0)[None, rng.permutation(64)]
    hashes = np.concatenate([seeds, close.reshape(-1, 8)])
    for bands in ([Band(9, 0)] * 7, [Band(18, 1)] * 3 + [Band(10, 0)], [Band(20, 2)] * 3):
        found = joins.concatenated(joins.self_join_chunks(hashes, 6, bands=bands))
        assert_same(found, brute_force(hashes, hashes, 6, upper=True))


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_reference_blocks_taken_a_few_at_a_time(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neardup.joins.bitslices.LOOKUP_BYTES", step * 2 * 8 * 18 * 64)
    hashes = planted(np.random.default_rng(1), 3000, 64, 12)
    for bands in (EVERY_PAIR, [Band(2, 0)] * 12, [Band(5, 1)] * 6):
        found = joins.concatenated(joins.self_join_chunks(hashes, 11, 500, bands))
        assert_same(found, brute_force(hashes, hashes, 11, upper=True))
        found = joins.concatenated(joins.cross_join_chunks(hashes, hashes[:1100], 11, 500, bands))
        assert_same(found, brute_force(hashes, hashes[:1100], 11))


def test_bands_that_could_miss_a_pair_are_refused() -> None:
    hashes = np.zeros((3, 8), np.uint8)
    with pytest.raises(UsageError, match=r"= 6 miss pairs at radius 6"):
        joins.concatenated(joins.self_join_chunks(hashes, 6, bands=[Band(10, 1)] * 3))
    with pytest.raises(UsageError, match="do not fit a hash of 64"):
        joins.concatenated(joins.cross_join_chunks(hashes, hashes, 6, bands=[Band(10, 0)] * 7))
    for wrong in (Band(25, 9), Band(4, -1)):
        with pytest.raises(UsageError, match="do not fit"):
            joins.concatenated(joins.self_join_chunks(hashes, 6, bands=[wrong, Band(0, 0)]))


def test_key_masks_are_all_keys_within_the_radius() -> None:
    for bits, radius in ((0, 0), (1, 1), (5, 0), (5, 2), (10, 3), (3, 5)):
        wanted = [key for key in range(1 << bits) if key.bit_count() <= radius]
        np.testing.assert_array_equal(key_masks(Band(bits, radius)), wanted)


def correlated(n: int, steepness: float) -> np.ndarray:
    """Hashes whose neighbouring bits go together, as those of smooth pictures do."""
    rng = np.random.default_rng(n)
    walk = (rng.normal(size=(n, 257)) * steepness + np.cos(np.arange(257) / 9) * rng.normal(size=(n, 1))).cumsum(axis=1)
    return np.packbits(walk[:, 1:] > walk.mean(axis=1, keepdims=True), axis=1)


@pytest.mark.parametrize("kind", ["uniform", "correlated", "blank", "few bits"])
def test_whatever_the_planner_chooses_is_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "FEW_PAIRS", 0)
    hashes = planted(np.random.default_rng(9), 6000, 256, 52)
    if kind == "correlated":
        hashes = correlated(6000, 1.0)
    elif kind == "blank":
        hashes[::5] = 0
    elif kind == "few bits":
        hashes[:, 2:] = 0
        hashes = hashes[:1500]
    for radius in (0, 3, 31) if kind == "few bits" else (5, 31, 51):
        assert_same(joins.self_join(hashes, radius), brute_force(hashes, hashes, radius, upper=True))
    left, right = hashes[:1000], hashes[700:]
    assert_same(joins.cross_join(left, right, 12), brute_force(left, right, 12))
    assert_same(joins.cross_join(right, left, 12), brute_force(right, left, 12))


@pytest.mark.parametrize(("bits", "radius"), [(64, 6), (64, 10), (256, 31), (256, 51), (968, 96)])
def test_the_planner_uses_bands_where_there_are_many_rows(
    bits: int, radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = plans.Costs(row=3e-8, block=8e-6, compare=lambda bits: 2.5e-8)
    monkeypatch.setattr(plans, "measure", lambda *arguments: fixed)
    words = as_words(random_hashes(np.random.default_rng(0), 5000, bits))
    sample = take_sample(words, words, -(-bits // 8) * 8)
    few, many = (np.broadcast_to(words[:1], (n, words.shape[1])) for n in (70_000, 3_000_000))
    assert plans.choose_plan(few[:60_000], None, sample, radius).bands == EVERY_PAIR
    plan = plans.choose_plan(many, None, sample, radius)
    assert sum(band.radius_bits + 1 for band in plan.bands) == radius + 1
    assert sum(band.bits for band in plan.bands) <= bits
    assert plan.seconds < plan.every_pair_seconds / 2
    assert "3,000,000 hashes" in str(plan)
    assert f"bands of {plan.bands[0].bits} bits at radius {plan.bands[0].radius_bits}" in str(plan)


def test_a_plan_says_what_it_will_do() -> None:
    hashes = random_hashes(np.random.default_rng(0), 1000, 64)
    assert str(joins.plan(hashes, 6)).startswith("1,000 hashes of 64 bits at radius 6: compare every pair, about ")
    assert str(joins.plan(hashes, 6, hashes[:10])).startswith("1,000 × 10 hashes of 64 bits")
