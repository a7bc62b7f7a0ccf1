"""Temporal match kernels: one real-valued vector for a whole video (Poullot et al. 2015; Facebook's TMK+PDQF, 2019)."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from scipy.special import iv

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import DistanceMetric, Hasher
from neardup.hashers.dct import PHashF
from neardup.hashers.encoding import Vector
from neardup.hashers.video.base import State, VideoHasher, frame_vector
from neardup.media.video import Rate, check_rate

Normalization = Literal["matrix", "feat", "freq", "feat_freq"]

PERIODS: Final = (2731, 4391, 9767, 14653)
TERMS: Final = 32
_BETA: Final = 32.0
_TINY: Final = 1e-8

_WEIGHTS: Final = np.sqrt(
    np.concatenate([[(iv(0, _BETA) - np.exp(-_BETA)) / 2], iv(np.arange(1, TERMS), _BETA)]) / np.sinh(_BETA)
)
"""Square roots of the Fourier coefficients of the kernel, a_0 … a_31."""
_ROW_WEIGHTS: Final = np.concatenate([_WEIGHTS, _WEIGHTS])[:, np.newaxis]
_FREQUENCIES: Final = (2 * np.pi * np.arange(TERMS) / np.array(PERIODS)[:, np.newaxis]).astype(np.float32)


class TMKL1(VideoHasher):
    """The mean of the frame vectors, divided by its `norm`-norm (None: not divided); None without any frame vector.

    `frame_hasher` gives real or uint8 vectors. Frames without one (black, flat) or of a quality below
    `quality_threshold` do not count.
    """

    def __init__(
        self,
        frame_hasher: Hasher | None = None,
        frames_per_second: Rate = 15,
        dtype: str = "float32",
        distance_metric: DistanceMetric = "cosine",
        norm: float | None = 2,
        quality_threshold: float | None = None,
    ) -> None:
        check_rate(frames_per_second)
        self.frame_hasher = _real_valued(frame_hasher)
        self.frames_per_second = frames_per_second
        self.dtype = dtype
        self.distance_metric = distance_metric
        self.norm = norm
        self.quality_threshold = quality_threshold
        self.hash_length = self.frame_hasher.hash_length

    def process_frame(
        self,
        frame: Pixels,
        frame_index: int,  # noqa: ARG002
        frame_timestamp: float,  # noqa: ARG002
        state: State | None = None,
    ) -> State:
        """Adds the frame's vector to the sum."""
        state = state or _nothing(self.hash_length)
        vector = frame_vector(self.frame_hasher, frame, self.quality_threshold)
        if vector is not None:
            _add(state, vector.astype(np.float32).astype(np.float64))
            state["frames"] += 1
        return state

    def hash_from_final_state(self, state: State) -> Vector | None:
        """The normalised mean."""
        if not state["frames"]:
            return None
        mean: Vector = (state["sum"] + state["rest"]) / state["frames"]
        if self.norm is not None and (length := np.linalg.norm(mean, self.norm)) > 0:
            mean = mean / length
        return mean.astype(self.dtype)

    def merge_states(self, states: Sequence[State]) -> State:
        """The sums of segments, added in their order."""
        return _added(states)


class TMKL2(VideoHasher):
    """Where in time each frame vector occurs, as sines and cosines of four periods; None without any frame vector.

    A vector of 4 x 64 x d values: for each period, 32 sine and 32 cosine terms of the d values of the frame vector. It
    is a running sum: its size and the memory needed do not depend on the duration. The distance is 1 - score
    (`score_pair`, with `normalization`).
    """

    dtype = "float32"
    distance_metric = "custom"

    def __init__(
        self,
        frame_hasher: Hasher | None = None,
        frames_per_second: Rate = 15,
        normalization: Normalization = "matrix",
    ) -> None:
        check_rate(frames_per_second)
        _check_normalization(normalization)
        self.frame_hasher = _real_valued(frame_hasher)
        self.frames_per_second = frames_per_second
        self.normalization: Normalization = normalization
        self.hash_length = len(PERIODS) * 2 * TERMS * self.frame_hasher.hash_length

    def process_frame(
        self,
        frame: Pixels,
        frame_index: int,  # noqa: ARG002
        frame_timestamp: float,
        state: State | None = None,
    ) -> State:
        """Adds the frame's vector, weighted by the waves at its timestamp."""
        state = state or _nothing((len(PERIODS), 2 * TERMS, self.frame_hasher.hash_length))
        vector = frame_vector(self.frame_hasher, frame, None)
        if vector is not None:
            _add(state, _waves(frame_timestamp)[:, :, np.newaxis] * vector.astype(np.float64))
            state["frames"] += 1
        return state

    def hash_from_final_state(self, state: State) -> Vector | None:
        """The sums, flattened."""
        total: Vector = state["sum"] + state["rest"]
        return total.ravel() if state["frames"] else None

    def merge_states(self, states: Sequence[State]) -> State:
        """The sums of segments, added in their order."""
        return _added(states)

    def score_pair(
        self,
        v1: Vector,
        v2: Vector,
        offsets: Sequence[float] | None = None,
        normalization: Normalization | None = None,
    ) -> Vector:
        """How alike two hashes are when the second is shifted by each of `offsets` seconds (default: by 0).

        With "matrix" 1 is equal, 0 unrelated; the scales of the others are the reference's (an identical pair has about
        0.004 by "feat", 255 by "freq" and 16 by "feat_freq").
        """
        normalization = normalization or self.normalization
        _check_normalization(normalization)
        a, b = (_normalized(self._terms(vector), normalization) for vector in (v1, v2))
        sin_a, cos_a, sin_b, cos_b = a[:, :TERMS], a[:, TERMS:], b[:, :TERMS], b[:, TERMS:]
        in_phase = (sin_a * sin_b + cos_a * cos_b).sum(axis=2)
        out_of_phase = (sin_a * cos_b - cos_a * sin_b).sum(axis=2)
        shifts = np.asarray([0.0] if offsets is None else offsets)[:, np.newaxis, np.newaxis] * _FREQUENCIES
        dots = (in_phase * np.cos(shifts) + out_of_phase * np.sin(shifts)).sum(axis=2)
        if normalization == "matrix":
            scores = dots / (_length(a, axis=(1, 2)) * _length(b, axis=(1, 2)))
        else:
            scores = dots / (TERMS if normalization == "freq" else 512)
        mean: Vector = scores.mean(axis=1)
        return mean

    _score_pair = score_pair  # the name that the reference's own tests call

    def _compute_distance(self, vector1: Vector, vector2: Vector) -> float:
        return 1.0 - float(self.score_pair(vector1, vector2)[0])

    def _as_points(self, vector: Vector) -> Vector:
        """The normalised terms: the mean over the periods of their inner products is the score without an offset."""
        terms = _normalized(self._terms(vector), self.normalization)
        if self.normalization == "matrix":
            terms = terms / _length(terms, axis=(1, 2), keepdims=True)
        else:
            terms = terms / np.sqrt(TERMS if self.normalization == "freq" else 512)
        points: Vector = terms.ravel() / np.sqrt(len(PERIODS))
        return points

    def _terms(self, vector: Vector) -> Vector:
        if vector.size % (len(PERIODS) * 2 * TERMS):
            raise UsageError(f"a vector of {vector.size} values is no TMKL2 hash; it has a multiple of 256")
        return vector.reshape(len(PERIODS), 2 * TERMS, -1).astype(np.float64)


def _waves(timestamp_s: float) -> Vector:
    """The weighted sines and cosines of all periods at one time, shape (4, 64)."""
    angles = _FREQUENCIES.astype(np.float64) * timestamp_s
    waves: Vector = np.concatenate([_WEIGHTS * np.sin(angles), _WEIGHTS * np.cos(angles)], axis=1)
    return waves


def _normalized(terms: Vector, normalization: Normalization) -> Vector:
    if "feat" in normalization:
        terms = terms / _ROW_WEIGHTS
        terms = terms / _length(terms, axis=2, keepdims=True) * _ROW_WEIGHTS
    if "freq" in normalization:
        terms = terms / (np.sqrt((terms**2).sum(axis=1, keepdims=True) / TERMS + _TINY) + _TINY)
    return terms


def _length(terms: Vector, axis: int | tuple[int, ...], keepdims: bool = False) -> Vector:
    length: Vector = np.sqrt((terms**2).sum(axis=axis, keepdims=keepdims) + _TINY) + _TINY
    return length


def _nothing(shape: int | tuple[int, ...]) -> State:
    return {"sum": np.zeros(shape), "rest": np.zeros(shape), "frames": 0}


def _add(state: State, terms: Vector) -> None:
    """Add to the sum, and what its rounding loses to the rest (Knuth's two-sum).

    So the total is that of unrounded numbers, rounded once: the same however a video is cut into segments.
    """
    before = state["sum"]
    after = before + terms
    share = after - before
    state["rest"] += (before - (after - share)) + (terms - share)
    state["sum"] = after


def _added(states: Sequence[State]) -> State:
    total = {**_nothing(states[0]["sum"].shape), "end": states[-1].get("end")}
    for state in states:
        _add(total, state["sum"])
        total["rest"] += state["rest"]
        total["frames"] += state["frames"]
    return total


def _real_valued(frame_hasher: Hasher | None) -> Hasher:
    if frame_hasher is None:
        return PHashF(hash_size=16, exclude_first_term=True, freq_shift=1)
    if frame_hasher.dtype == "bool":
        raise UsageError(f"{type(frame_hasher).__name__} gives bits; TMK adds up real values: use PHashF or PHashU8")
    return frame_hasher


def _check_normalization(normalization: str) -> None:
    if normalization not in get_args(Normalization):
        raise UsageError(f"Invalid normalization {normalization!r}; choose one of {', '.join(get_args(Normalization))}")
