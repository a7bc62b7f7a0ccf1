"""Recall and false-positive rates against counting them one by one, and intervals that mean what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neardup.metrics import rates as module
from neardup.metrics.rates import Exemplars, Pairs, curve, recall_at

DISTANCE = st.one_of(st.integers(0, 6).map(float), st.just(float("nan")))
CASES = st.lists(st.tuples(st.integers(0, 5), DISTANCE, DISTANCE), min_size=1, max_size=40)
WANTED = (0.0, 0.05, 0.3)


def exemplars(case: list[tuple]) -> Exemplars:
    owners, correct, incorrect = zip(*case, strict=True)
    return Exemplars(np.array(owners), np.array(correct), np.array(incorrect))


def pairs_of(rng: np.random.Generator) -> Pairs:
    return Pairs(np.arange(8.0), rng.integers(0, 30, 8))


@settings(deadline=None)  # a busy machine may take its time
@given(CASES, st.integers(0, 99))
def test_thresholds_are_the_largest_within_the_rate(case: list[tuple], seed: int) -> None:
    one, pairs = exemplars(case), pairs_of(np.random.default_rng(seed))
    candidates = np.append(np.arange(0, 8, 0.5), 99)
    for found in recall_at(one, pairs, WANTED, seed):
        threshold = np.inf if found.threshold is None else found.threshold
        assert found.recall == sum(each < threshold for each in one.correct) / len(case)
        assert found.low <= found.high and found.low >= 0 and found.high <= 1
        for limit in [threshold, *candidates]:
            if found.of == "queries":
                let_through = sum(each < limit for each in one.incorrect) / len(case)
            else:
                let_through = pairs.counts[pairs.values < limit].sum() / pairs.counts.sum()
            if limit <= threshold:
                assert let_through <= found.wanted
            elif found.of == "queries":
                assert let_through > found.wanted or not any(threshold <= each < limit for each in one.incorrect)


@settings(deadline=None)  # a busy machine may take its time
@given(CASES, st.integers(0, 99))
def test_the_curve_counts_what_is_below_each_threshold(case: list[tuple], seed: int) -> None:
    one, pairs = exemplars(case), pairs_of(np.random.default_rng(seed))
    drawn = curve(one, pairs)
    present = {each for column in one[1:] for each in column if not np.isnan(each)}
    assert set(drawn.threshold) >= present and np.all(np.diff(drawn.threshold) > 0)
    for threshold, recall, queries, of_pairs in zip(*drawn, strict=True):
        assert recall == np.mean(one.correct < threshold)
        assert queries == np.mean(one.incorrect < threshold)
        np.testing.assert_allclose(of_pairs, pairs.counts[pairs.values < threshold].sum() / pairs.counts.sum())
    if present:
        assert drawn.recall[-1] == np.mean(~np.isnan(one.correct))


def test_equal_distances_are_on_one_side_of_a_threshold() -> None:
    """1,000 true matches and one false one at distance 0: nothing is below 0, all is below the next distance."""
    one = Exemplars(np.arange(1000), np.zeros(1000), np.array([0.0] + [0.5] * 999))
    strict, loose = recall_at(one, Pairs(np.array([0.0]), np.array([1])), (0.0, 0.001), 1)[:2]
    assert (strict.threshold, strict.recall) == (0.0, 0.0)
    assert (loose.threshold, loose.recall) == (0.5, 1.0)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """All ten pictures of an original share its fate: an interval that took them for independent is too narrow."""
    pairs = Pairs(np.array([0.0, 1.0]), np.array([5, 5]))
    truth, held = 0.7, 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = np.repeat(rng.random(60) < truth, 10)
        one = Exemplars(np.repeat(np.arange(60), 10), np.where(found, 0.1, 0.9), np.full(600, 0.5))
        rate = recall_at(one, pairs, (0.0,), seed)[0]
        held += rate.low <= truth <= rate.high
    assert 85 <= held <= 100


def test_intervals_are_those_of_scoring_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Originals drawn again, each with all that was made of it, and the threshold of queries chosen anew."""
    monkeypatch.setattr(module, "REPLICATES", 40)
    rng = np.random.default_rng(3)
    owners, distances = rng.integers(0, 12, 60) * 3, rng.integers(0, 9, (2, 60)) / 8
    distances[rng.random((2, 60)) < 0.1] = np.nan
    one, pairs = Exemplars(owners, *distances), pairs_of(rng)
    found = recall_at(one, pairs, WANTED, 7)
    of_pairs = [rate.threshold for rate in found[len(WANTED) :]]
    recalls: list[list[float]] = []
    for draw in np.random.default_rng(7).integers(0, 12, (40, 12)):
        rows = np.concatenate([np.flatnonzero(owners == np.unique(owners)[each]) for each in draw])
        drawn = Exemplars(*(column[rows] for column in one))
        chosen = [rate.recall for rate in recall_at(drawn, pairs, WANTED, 1)[: len(WANTED)]]
        recalls.append(chosen + [float(np.mean(drawn.correct < threshold)) for threshold in of_pairs])
    low, high = np.percentile(recalls, (2.5, 97.5), axis=0)
    np.testing.assert_allclose([rate.low for rate in found], low)
    np.testing.assert_allclose([rate.high for rate in found], high)


def test_draws_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    one = Exemplars(rng.integers(0, 30, 100), rng.random(100), rng.random(100))
    first = recall_at(one, pairs_of(rng), WANTED, 7)
    monkeypatch.setattr(module, "_CHUNK", 300)
    assert recall_at(one, pairs_of(np.random.default_rng(4)), WANTED, 7)[:3] == first[:3]
    assert recall_at(one, pairs_of(rng), WANTED, 8)[:3] != first[:3]


def test_many_points_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_POINTS", 10)
    rng = np.random.default_rng(1)
    drawn = curve(Exemplars(np.arange(500), rng.random(500), rng.random(500)), Pairs(np.zeros(1), np.ones(1, int)))
    assert len(drawn.threshold) == 10 and drawn.recall[0] <= 0.002 and drawn.recall[-1] == 1
