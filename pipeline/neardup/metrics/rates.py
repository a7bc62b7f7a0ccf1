"""What a threshold finds (recall) and what it lets through (false positives), and how sure that is.

Thresholds are strict here: a distance below the threshold is a match. Equal distances are therefore on one side of it
together, whatever their order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from neardup.metrics.rules import Floats

Counts = NDArray[np.int64]

MOST_POINTS = 512  # of a curve
REPLICATES = 200
_CHUNK = 1 << 22  # weights held at once
_INTERVAL = (2.5, 97.5)  # percentiles


class Exemplars(NamedTuple):
    """The distances of altered pictures; `owners` numbers the originals they were made of. NaN: there is none."""

    owners: Counts
    correct: Floats
    incorrect: Floats


class Pairs(NamedTuple):
    """How many pairs of a picture and another's original lie at each distance.

    `values` are ascending: the distances themselves, or the least of an interval. `counts`: pairs.
    """

    values: Floats
    counts: Counts

    def share_below(self, thresholds: Floats) -> Floats:
        """The share of pairs below each threshold; of intervals, those that begin below. NaN where there is no pair."""
        below = np.concatenate([[0], np.cumsum(self.counts)])
        with np.errstate(invalid="ignore"):
            return np.asarray(below[np.searchsorted(self.values, thresholds, "left")] / below[-1])


class Curve(NamedTuple):
    """What each threshold finds and lets through: shares, one element per threshold."""

    threshold: Floats
    recall: Floats
    fpr_queries: Floats  # exemplars with an incorrect reference below the threshold
    fpr_pairs: Floats  # pairs below it


class Rate(NamedTuple):
    """The largest threshold within a wanted false-positive rate; None where none is too large."""

    of: str  # queries, pairs
    wanted: float
    threshold: float | None
    rate: float  # what it lets through
    recall: float
    low: float  # of the 95 % interval
    high: float


def curve(exemplars: Exemplars, pairs: Pairs) -> Curve:
    """Recall and false-positive rates at every threshold where they change, or at `MOST_POINTS` spread over them."""
    correct, incorrect = _sorted(exemplars.correct), _sorted(exemplars.incorrect)
    values = np.unique(np.concatenate([correct, incorrect]))
    values = values[np.isfinite(values)]
    if len(values):
        values = np.append(values, np.nextafter(values[-1], np.inf))
    if len(values) > MOST_POINTS:
        values = values[np.unique(np.linspace(0, len(values) - 1, MOST_POINTS).astype(np.int64))]
    n = max(1, len(correct))
    return Curve(values, _below(correct, values) / n, _below(incorrect, values) / n, pairs.share_below(values))


def recall_at(exemplars: Exemplars, pairs: Pairs, wanted: Sequence[float], seed: int) -> list[Rate]:
    """For each wanted false-positive rate, of queries and of pairs: the largest threshold within it, and its recall.

    The interval is that of a bootstrap: originals are drawn again, each with all that was made of it, and for the rate
    of queries the threshold is chosen again each time; `seed` decides the draws.
    """
    correct, incorrect = _sorted(exemplars.correct), _sorted(exemplars.incorrect)
    n = len(correct)
    of_queries = np.array([_at(incorrect, int(rate * n + 1e-9)) for rate in wanted])
    of_pairs = np.array([_within(pairs, rate) for rate in wanted])
    drawn = _bootstrap(exemplars, wanted, of_pairs, seed)
    found = []
    for kind, thresholds, recalls in zip(("queries", "pairs"), (of_queries, of_pairs), drawn, strict=True):
        let_through = _below(incorrect, thresholds) / n if kind == "queries" else pairs.share_below(thresholds)
        recall = _below(correct, thresholds) / n
        low, high = np.percentile(recalls, _INTERVAL, axis=0)
        for k, rate in enumerate(wanted):
            threshold = float(thresholds[k]) if np.isfinite(thresholds[k]) else None
            interval = float(low[k]), float(high[k])
            found.append(Rate(kind, rate, threshold, float(let_through[k]), float(recall[k]), *interval))
    return found


def _sorted(distances: Floats) -> Floats:
    """In order; what has no distance is infinitely far."""
    return np.sort(np.where(np.isnan(distances), np.inf, distances))


def _below(ordered: Floats, thresholds: Floats) -> Counts:
    return np.searchsorted(ordered, thresholds, "left")


def _at(ordered: Floats, rank: int) -> float:
    return float(ordered[rank]) if rank < len(ordered) else np.inf


def _within(pairs: Pairs, rate: float) -> float:
    """The largest distance of pairs below which at most this share of them is."""
    through = np.cumsum(pairs.counts)
    too_many = np.flatnonzero(through > rate * through[-1] + 1e-9)
    return float(pairs.values[too_many[0]]) if len(too_many) else np.inf


def _bootstrap(exemplars: Exemplars, wanted: Sequence[float], of_pairs: Floats, seed: int) -> tuple[Floats, Floats]:
    """Recall in each replicate at each wanted rate, (replicates, rates): of queries, and at the thresholds of pairs."""
    owners, numbers = np.unique(exemplars.owners, return_inverse=True)
    (correct, hits), (incorrect, misses) = (_by_value(distances, numbers) for distances in exemplars[1:])
    rng = np.random.default_rng(seed)
    many = max(1, _CHUNK // max(len(owners), len(correct), len(incorrect)))
    by_queries, by_pairs = [], []
    for done in range(0, REPLICATES, many):
        drawn = rng.integers(0, len(owners), (min(many, REPLICATES - done), len(owners)))
        weights = np.stack([np.bincount(one, minlength=len(owners)) for one in drawn], axis=1).astype(np.int32)
        found, let_through = (np.cumsum(each @ weights, axis=0, dtype=np.int64) for each in (hits, misses))
        total = found[-1]
        found = np.concatenate([np.zeros_like(found[:1]), found])  # below each value, and below none too large
        ranks = np.stack([(let_through <= rate * total + 1e-9).sum(axis=0) for rate in wanted])
        at = np.searchsorted(correct, np.append(incorrect, np.inf)[ranks])
        by_queries.append((np.take_along_axis(found, at, axis=0) / total).T)
        by_pairs.append((found[np.searchsorted(correct, of_pairs)] / total).T)
    return np.concatenate(by_queries), np.concatenate(by_pairs)


def _by_value(distances: Floats, owners: Counts) -> tuple[Floats, csr_array]:
    """The different distances, ascending, and of each how many exemplars of each owner have it."""
    values, places = np.unique(np.where(np.isnan(distances), np.inf, distances), return_inverse=True)
    ones = np.ones(len(owners), np.int32)
    return values, csr_array((ones, (places, owners)), shape=(len(values), int(owners.max(initial=-1)) + 1))
