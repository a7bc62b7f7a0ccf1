"""Thresholds chosen by both rules, with ties ranked as the reference does and counted as they should be."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from neardup.errors import UsageError
from neardup.metrics.rules import rule

GOLDEN = json.loads((ROOT / "tests/golden/benchmarking.json").read_text())
CASES = [
    (kind, float(limit), case["correct"], case["incorrect"], answer)
    for case in GOLDEN["threshold_rule"]
    for kind in ("precision", "fpr")
    for limit, answer in case[kind].items()
]


def choose(kind: str, limit: float, correct: list, incorrect: list, ties: str = "ranked") -> tuple:
    limits = (limit, None) if kind == "precision" else (None, limit)
    return rule(*limits, ties).choose(np.array(correct, float), np.array(incorrect, float))


@pytest.mark.parametrize(("kind", "limit", "correct", "incorrect", "answer"), CASES)
def test_both_rules_equal_the_reference(kind: str, limit: float, correct: list, incorrect: list, answer: list) -> None:
    threshold, accuracy, recall = answer
    found = choose(kind, limit, correct, incorrect)
    assert found.threshold == threshold
    assert found.recall == recall
    np.testing.assert_equal(found.accuracy, np.nan if accuracy is None else accuracy)


def test_equal_distances_are_counted_together_where_asked() -> None:
    """1,000 true matches and one false one at distance 0: the precision is 99.9001 %, and nothing is lost."""
    correct, incorrect = [0.0] * 1000, [0.0] + [0.5] * 999
    assert choose("precision", 99.9, correct, incorrect).recall == 0
    assert choose("precision", 99.9, correct, incorrect, "grouped").recall == 100
    assert choose("fpr", 0.001, correct, incorrect).recall == 0
    assert choose("fpr", 0.001, correct, incorrect, "grouped").recall == 100
    assert choose("precision", 99.95, correct, incorrect, "grouped").recall == 0


DISTANCES = st.lists(st.integers(0, 8), min_size=1, max_size=40)


@given(DISTANCES, st.randoms(use_true_random=False), st.sampled_from([50.0, 75.0, 90.0, 99.9, 100.0]))
def test_grouped_choices_are_what_they_say(correct: list[int], random: object, limit: float) -> None:
    incorrect = [random.randint(0, 12) for _ in correct]
    found = choose("precision", limit, correct, incorrect, "grouped")
    tp = sum(each <= found.threshold for each in correct)
    fp = sum(each <= found.threshold for each in incorrect)
    if found.recall > 0:
        assert found.recall == round(100 * tp / len(correct), 3)
        assert 100 * tp / (tp + fp) >= limit
        assert found.recall >= choose("precision", limit, correct, incorrect).recall
    else:
        assert 100 * tp / (tp + fp) < limit
    share = choose("fpr", 1 - limit / 100, correct, incorrect, "grouped")
    assert share.accuracy <= 1 - limit / 100
    assert share.recall >= choose("fpr", 1 - limit / 100, correct, incorrect).recall


def test_without_incorrect_distances_all_is_found() -> None:
    assert choose("precision", 99.9, [0.1, 0.3], [np.nan, np.nan]) == (0.3, 100, 100)
    assert choose("fpr", 0.0, [0.1, 0.3], [np.nan, np.nan]) == (0.3, 100, 0)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((99.9, 0.01, "ranked"), "two rules"),
        ((0.01, None, "ranked"), "a false positive rate is fpr_threshold="),
        ((101, None, "ranked"), "no percentage"),
        ((None, 1.5, "ranked"), "outside 0 to 1"),
        ((None, None, "groupd"), "unknown ties"),
    ],
)
def test_limits_that_cannot_be_meant(limits: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rule(*limits)
