"""The self-join of real-valued hashes: rows, a threshold and a metric → all pairs below the threshold, none missed.

Rows are compared tile by tile. A matrix product finds every pair that could lie below the threshold: its rounding
error is bounded (Higham 2002, section 3.1: about n·u per inner product of n terms, in any order of summation) and added
to the threshold. What it finds is then decided by `scipy.spatial.distance.cdist` in float64, as the reference does.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from neardup.errors import UsageError
from neardup.joins import crowds
from neardup.joins.crowds import Crowd

BLOCK_ROWS = 2048  # a tile of products takes 16 MB in float32
PAIRS_AT_A_TIME = 64  # whose inner products are taken at once
METRICS = ("euclidean", "sqeuclidean", "cosine", "hamming")

Metric = Literal["euclidean", "sqeuclidean", "cosine", "hamming", "inner"]
Rows = NDArray[np.float32]


class RealMatches(NamedTuple):
    """Pairs i < j of rows below the threshold: three parallel arrays, sorted by (i, j), each pair once."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    distance: NDArray[np.float64]


def self_join_real(vectors: Rows, threshold: float, metric: Metric) -> RealMatches:
    """All pairs i < j of rows of `vectors` (n, d) at a distance < `threshold`, and the distances in float64.

    `metric` is "euclidean", "sqeuclidean", "cosine" (1 - cos), "inner" (1 - the inner product) or "hamming" (the share
    of differing elements). A distance that is not a number is below nothing: rows that are not finite, and null rows by
    cosine, match no row, not even their equals. Raises `UsageError` for other metrics, for arrays that are not float32
    (n, d) and for a threshold that is not a number.
    """
    empty = RealMatches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    pieces = [empty, *self_join_real_chunks(vectors, threshold, metric)]
    i, j, distance = (np.concatenate(column) for column in zip(*pieces, strict=True))
    order = np.lexsort((j, i))
    return RealMatches(i[order], j[order], distance[order])


def self_join_real_chunks(
    vectors: Rows, threshold: float, metric: Metric, split: int | None = None, crowd: Crowd | None = None
) -> Iterator[RealMatches]:
    """The matches of `self_join_real` in one sorted chunk per tile, so that a caller can spill them.

    With `split`, only those of a row before it with a row from it on. With a crowd, matches are counted there, and
    those of two rows that have too many may be left out.
    There are `tile_count(len(vectors))` tiles, fewer where some rows have no distance.
    """
    _check(vectors, threshold, metric)
    comparable = np.flatnonzero(_comparable(vectors, metric))
    rows = vectors[comparable]
    screen = None if metric == "hamming" or len(rows) == 0 else _screen(rows, threshold, metric)
    starts = range(0, len(rows), BLOCK_ROWS)
    middle = None if split is None else int(np.searchsorted(comparable, split))
    for top in starts:
        for left in starts[top // BLOCK_ROWS :]:
            if middle is not None and (top >= middle or left + BLOCK_ROWS <= middle):
                continue
            if crowd is not None and all(
                (crowd.queries[comparable[start : start + BLOCK_ROWS]] > crowd.most).all() for start in (top, left)
            ):
                continue
            i, j = _tile(rows, top, left) if screen is None else screen.tile(top, left)
            if middle is not None:
                across = (i < middle) & (j >= middle)
                i, j = i[across], j[across]
            distance = pair_distances(rows, i, j, metric)
            near = distance < threshold
            found = RealMatches(comparable[i[near]], comparable[j[near]], distance[near])
            if crowd is not None:
                np.add.at(crowd.queries, found.i, 1)
                np.add.at(crowd.references, found.j, 1)
                wanted = crowd.worth_having(found.i, found.j)
                found = RealMatches(found.i[wanted], found.j[wanted], found.distance[wanted])
            yield found


def cross_join_real_chunks(
    left: Rows, right: Rows, threshold: float, metric: Metric, crowd: Crowd | None = None
) -> Iterator[RealMatches]:
    """The pairs of a row i of `left` and a row j of `right` below the threshold, in one sorted chunk per tile."""
    split = len(left)
    both = None if crowd is None else crowds.crowd(split + len(right), most=crowd.most)
    for found in self_join_real_chunks(np.concatenate([left, right]), threshold, metric, split, both):
        yield RealMatches(found.i, found.j - split, found.distance)
    if crowd is not None and both is not None:
        crowd.queries[:], crowd.references[:] = both.queries[:split], both.queries[split:]


def tile_count(n_rows: int) -> int:
    """The number of chunks that `self_join_real_chunks` gives for so many rows that have a distance."""
    blocks = -(-n_rows // BLOCK_ROWS)
    return blocks * (blocks + 1) // 2


def pair_distances(vectors: Rows, i: NDArray[np.int64], j: NDArray[np.int64], metric: Metric) -> NDArray[np.float64]:
    """The distances of rows i[k] and j[k], `i` sorted: bit for bit as `cdist` gives them for whole arrays."""
    distance = np.empty(len(i), np.float64)
    if metric == "inner":
        for start in range(0, len(i), PAIRS_AT_A_TIME):
            some = slice(start, start + PAIRS_AT_A_TIME)
            a, b = vectors[i[some]].astype(np.float64), vectors[j[some]].astype(np.float64)
            distance[some] = 1 - np.einsum("pd,pd->p", a, b)
        return distance
    ends = np.flatnonzero(np.diff(i, append=-1)) + 1
    start = 0
    for end in ends.tolist():
        row = i[start]
        distance[start:end] = cdist(vectors[row : row + 1], vectors[j[start:end]], metric)[0]
        start = end
    return distance


class _Screen(NamedTuple):
    """Points whose squared distances a matrix product gives: a pair below the threshold has one below `limit`."""

    points: NDArray[Any]  # (n, d), float32 or float64
    half_norms: NDArray[Any]  # (n, 1), half of the squared norms
    limit: float

    def tile(self, top: int, left: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs i < j of a block of rows from `top` and one from `left` that may be near, sorted."""
        a, half_a = self.points[top : top + BLOCK_ROWS], self.half_norms[top : top + BLOCK_ROWS]
        b, half_b = self.points[left : left + BLOCK_ROWS], self.half_norms[left : left + BLOCK_ROWS]
        # a·b - |a|²/2 - |b|²/2 is minus half the squared distance, in one product.
        product = np.hstack([a, -half_a, np.ones_like(half_a)]) @ np.hstack([b, np.ones_like(half_b), -half_b]).T
        return _ordered(product > -self.limit / 2, top, left)


def _screen(rows: Rows, threshold: float, metric: Metric) -> _Screen:
    points = rows.astype(np.float64)
    if metric == "inner":  # without norms, the product is that of the rows
        largest = float((points * points).sum(axis=1).max())
        kind: type[np.floating[Any]] = np.float32 if largest < 1e30 else np.float64
        margin = _margin(rows.shape[1], largest + 1, kind)
        return _Screen(points.astype(kind), np.zeros((len(rows), 1), kind), 2 * (threshold - 1) + margin)
    limit = threshold if metric == "sqeuclidean" else threshold * threshold
    if metric == "cosine":  # of unit vectors, 1 - cos is half the squared distance
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        limit = 2 * threshold
    points -= points.mean(axis=0)  # distances stay, norms and with them rounding errors shrink
    largest = float((points * points).sum(axis=1).max())
    scale = max(largest, 1.0) if metric == "cosine" else largest
    limit = min(limit, 8 * scale)  # no squared distance is above 4 times the largest squared norm
    margin = _margin(rows.shape[1], scale + limit, np.float32)
    if scale < 1e30 and margin <= limit / 4:
        points = points.astype(np.float32)
    else:
        margin = _margin(rows.shape[1], scale + limit, np.float64)
    half_norms = (points.astype(np.float64) ** 2).sum(axis=1, keepdims=True) / 2
    return _Screen(points, half_norms.astype(points.dtype), limit + margin)


def _margin(width: int, scale: float, dtype: type[np.floating[Any]]) -> float:
    """More than squared distances of up to `scale` can be off: products, rounded points and norms, and underflow."""
    info = np.finfo(dtype)
    return 16 * (width + 8) * (float(info.eps) / 2 * scale + float(info.tiny))


def _tile(rows: Rows, top: int, left: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs i < j of two blocks, sorted: where no product can tell which are near."""
    shape = (min(BLOCK_ROWS, len(rows) - top), min(BLOCK_ROWS, len(rows) - left))
    return _ordered(np.ones(shape, bool), top, left)


def _comparable(vectors: Rows, metric: Metric) -> NDArray[np.bool_]:
    """Which rows have a distance at all."""
    if metric == "hamming":
        return np.ones(len(vectors), bool)
    finite = np.isfinite(vectors).all(axis=1)
    if metric == "cosine":
        finite &= vectors.any(axis=1)
    return cast("NDArray[np.bool_]", finite)


def _ordered(near: NDArray[np.bool_], top: int, left: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    i, j = np.divmod(np.flatnonzero(near), near.shape[1])
    i, j = i + top, j + left
    if top == left:
        i, j = i[i < j], j[i < j]
    return cast("NDArray[np.int64]", i), cast("NDArray[np.int64]", j)


def _check(vectors: Rows, threshold: float, metric: str) -> None:
    if metric not in get_args(Metric):
        raise UsageError(f"unknown distance metric {metric!r}; use one of {', '.join(get_args(Metric))}")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] == 0:
        raise UsageError(
            f"vectors of type {vectors.dtype} and shape {vectors.shape} cannot be joined: give float32 (n, elements)"
        )
    if np.isnan(threshold):
        raise UsageError("the threshold is not a number: give a distance")
