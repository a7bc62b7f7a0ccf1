"""How well a threshold separates: the rules by which one is chosen, and what it recalls.

Of each exemplar two distances are known: to the nearest correct reference and to the nearest incorrect one. Sorted by
the first, rank i takes i true matches (`tp`) and as many false ones as there are incorrect distances not above (`fp`).
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neardup.errors import UsageError

Floats = NDArray[np.float64]
Ties = Literal["ranked", "grouped"]


class Choice(NamedTuple):
    """A threshold, the percentage of exemplars that it finds, and its precision in percent or its false share."""

    threshold: float
    recall: float
    accuracy: float


class Rule(NamedTuple):
    """The wanted accuracy, and what it is.

    `kind` "precision": the threshold is the last distance before the precision, 100·tp/(tp+fp), falls below `limit`
    percent; it counts as a match. `kind` "fpr": the threshold is the first distance at which fp/(tp+fp) exceeds
    `limit`; only smaller distances count.

    `ties` "ranked" gives equal distances different ranks, as the reference does, so that many true matches and one
    false one at the same distance find nothing; "grouped" counts all equal distances at once, which is right.
    """

    kind: Literal["precision", "fpr"]
    limit: float
    ties: Ties = "ranked"

    def choose(self, correct: Floats, incorrect: Floats) -> Choice:
        """The threshold for the distances of at least one exemplar; NaN is the distance to nothing."""
        positive = np.sort(np.where(np.isnan(correct), np.inf, correct))
        negative = np.sort(incorrect[~np.isnan(incorrect)])
        tp = np.arange(1, len(positive) + 1) if self.ties == "ranked" else positive.searchsorted(positive, "right")
        fp = negative.searchsorted(positive, "right")
        return (_by_precision if self.kind == "precision" else _by_false_share)(positive, tp, fp, self.limit)


def rule(precision_threshold: float | None, fpr_threshold: float | None, ties: Ties) -> Rule:
    """The rule that one of two limits states; a precision of 99.9 % where neither does."""
    if ties not in ("ranked", "grouped"):
        raise UsageError(f"unknown ties={ties!r}; choose 'ranked' or 'grouped'")
    if fpr_threshold is not None:
        if precision_threshold is not None:
            raise UsageError("precision_threshold and fpr_threshold are two rules; give one of them")
        if not 0 <= fpr_threshold <= 1:
            raise UsageError(f"fpr_threshold={fpr_threshold:g} is outside 0 to 1; it is a fraction")
        return Rule("fpr", fpr_threshold, ties)
    precision = 99.9 if precision_threshold is None else precision_threshold
    if not 1 <= precision <= 100 and precision != 0:
        raise UsageError(
            f"precision_threshold={precision:g} is no percentage from 1 to 100; a false positive rate is fpr_threshold="
        )
    return Rule("precision", precision, ties)


def _by_precision(positive: Floats, tp: NDArray[np.int64], fp: NDArray[np.int64], limit: float) -> Choice:
    precision = 100 * tp / (tp + fp)
    bad = np.flatnonzero(precision < limit)
    if len(bad) == 0:
        return Choice(float(positive[-1]), 100.0, 100.0)
    if bad[0] == 0:
        return Choice(float(positive[0]), 0.0, float("nan"))
    threshold = positive[bad[0] - 1]
    found = positive <= threshold
    return Choice(float(threshold), _percent(found), float(precision[found].min()))


def _by_false_share(positive: Floats, tp: NDArray[np.int64], fp: NDArray[np.int64], limit: float) -> Choice:
    share = fp / (tp + fp)
    bad = np.flatnonzero(share > limit)
    if len(bad) == 0:
        return Choice(float(positive[-1]), 100.0, 0.0)
    threshold = positive[bad[0]]
    found = positive < threshold
    return Choice(float(threshold), _percent(found), float(share[found].max(initial=0.0)))


def _percent(found: NDArray[np.bool_]) -> float:
    return round(100 * int(found.sum()) / len(found), 3)
