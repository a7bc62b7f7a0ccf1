"""Hashes from the low frequencies of the DCT: PHash and its real-valued and 8-bit forms.

The low frequencies of a small grey image (Zauner 2010) against their median. Zauner's own pHash is
`PHash(hash_size=8, highfreq_factor=4, freq_shift=1, box_filter=True)`.
"""

import functools
from collections.abc import Callable
from typing import cast

import numpy as np

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import PlanesHasher, Vectors
from neardup.hashers.encoding import Vector
from neardup.hashers.isometric import isometric_dct
from neardup.hashers.planes import Planes
from neardup.memory import beyond_limit


def low_frequencies(small: Pixels, size: int, shift: int) -> Vector:
    """The size x size block of the unnormalised DCT-II that starts at frequency `shift` of both axes (float64)."""
    dct = exact_dct()
    rows = dct(small.astype(np.float64), axis=1)[:, shift : shift + size]
    block: Vector = dct(rows, axis=0)[shift : shift + size]
    return block


@functools.cache
def exact_dct() -> Callable[..., Vector]:
    """`scipy.fft.dct`: it takes as long to load as a hundred pictures, and most of them have no use for it."""
    with beyond_limit():
        import scipy.fft

    return cast("Callable[..., Vector]", scipy.fft.dct)


def fast_frequencies(small: Pixels, size: int, shift: int) -> Vector:
    """The same as two matrix products, up to rounding."""
    tall, wide = (_cosines(length, size, shift) for length in small.shape)
    return np.asarray(tall @ small.astype(np.float64) @ wide.T)


@functools.cache
def _cosines(length: int, size: int, shift: int) -> Vector:
    frequencies, places = np.arange(shift, shift + size)[:, None], np.arange(length)[None, :]
    return np.asarray(2 * np.cos(np.pi / (2 * length) * frequencies * (2 * places + 1)))


# Twice the rounding of either transform, relative to the largest possible coefficient; it is at most 1e-13.
_ROUNDING = 1e-11


def is_doubtful(coefficients: Vector, largest: float) -> bool:
    """Might rounding decide on which side of the median a coefficient is?"""
    ordered = np.sort(coefficients)
    middle = ordered[(len(ordered) - 2) // 2 : len(ordered) // 2 + 1 + len(ordered) % 2]
    return bool(np.diff(middle).min() <= _ROUNDING * largest)


def median_bits(coefficients: Vector) -> Vector:
    """Is each coefficient at least the median?"""
    bits: Vector = coefficients >= np.median(coefficients)
    return bits


def scaled_bytes(coefficients: Vector) -> Vector:
    """The coefficients stretched to 0..255, fractions cut."""
    low, high = coefficients.min(), coefficients.max()
    scaled: Vector = (255 * (coefficients - low) / (high - low)).astype(np.uint8)
    return scaled


class _DctHasher(PlanesHasher):
    """The common part: from the image to the block of coefficients and its variants."""

    def __init__(
        self,
        hash_size: int = 8,
        highfreq_factor: int = 4,
        exclude_first_term: bool = False,
        freq_shift: int = 0,
        box_filter: bool = False,
    ) -> None:
        if hash_size < 2:
            raise UsageError(f"hash_size {hash_size} is too small; {type(self).__name__} needs at least 2")
        highest = highfreq_factor * hash_size - hash_size
        if not 0 <= freq_shift <= highest:
            raise UsageError(f"freq_shift {freq_shift} is out of range; at this size it may be 0 to {highest}")
        self.hash_size = hash_size
        self.highfreq_factor = highfreq_factor
        self.exclude_first_term = exclude_first_term
        self.freq_shift = freq_shift
        self.box_filter = box_filter
        self.hash_length = hash_size * hash_size - exclude_first_term

    def _block(self, planes: Planes) -> Vector:
        key = ("dct", self.hash_size, self.highfreq_factor, self.freq_shift, self.box_filter)
        return planes.remember(key, lambda: self._make_block(planes))

    def _make_block(self, planes: Planes) -> Vector:
        return low_frequencies(self._small(planes), self.hash_size, self.freq_shift)

    def _small(self, planes: Planes) -> Pixels:
        size = self.hash_size * self.highfreq_factor
        box = round(7 * size / 32)
        return planes.filtered_area(box, size) if self.box_filter else planes.area("gray", size, size)

    def _finish(self, block: Vector) -> Vector | None:
        return self._vector(self._chosen(block))

    def _chosen(self, block: Vector) -> Vector:
        return block.ravel()[int(self.exclude_first_term) :]

    def _vector(self, coefficients: Vector) -> Vector | None:
        raise NotImplementedError

    def _hash(self, planes: Planes) -> Vector | None:
        return self._finish(self._block(planes))

    def _hash_isometric(self, planes: Planes) -> dict[str, Vectors]:
        blocks = isometric_dct(self._block(planes), self.freq_shift)
        return {variant: self._finish(block) for variant, block in blocks.items()}


class PHash(_DctHasher):
    """PHash: hash_size x hash_size bits (one less with `exclude_first_term`)."""

    dtype = "bool"
    distance_metric = "hamming"

    def _hash(self, planes: Planes) -> Vector | None:
        small = self._small(planes)
        fast = self._chosen(fast_frequencies(small, self.hash_size, self.freq_shift))
        return super()._hash(planes) if is_doubtful(fast, 4 * 255 * small.size) else self._vector(fast)

    def _vector(self, coefficients: Vector) -> Vector:
        return median_bits(coefficients)


class PHashF(_DctHasher):
    """The coefficients of PHash themselves, float32; None where all are zero (black, or flat without the first)."""

    dtype = "float32"
    distance_metric = "euclidean"

    def _vector(self, coefficients: Vector) -> Vector | None:
        return coefficients if coefficients.any() else None


class PHashU8(_DctHasher):
    """The coefficients of PHash stretched to 0..255, uint8; None where all are equal to zero."""

    dtype = "uint8"
    distance_metric = "euclidean"

    def _vector(self, coefficients: Vector) -> Vector | None:
        return scaled_bytes(coefficients) if coefficients.any() else None
