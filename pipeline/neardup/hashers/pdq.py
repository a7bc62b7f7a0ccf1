"""PDQ (Facebook 2019) and its real-valued form: 256 coefficients of the DCT of a smoothed 64x64 image.

Smoothing by four box passes and taking 64x64 samples is one linear map, so the 64x64 image is the product of two banded
matrices with the pixels. The reference accumulates in float32, one pixel after the other, and its rounding decides
coefficients next to the median: where the product leaves a doubt, the reference's sums are repeated exactly.
"""

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from neardup.hashers.area import Pixels
from neardup.hashers.base import PlanesHasher, Vectors
from neardup.hashers.encoding import Vector
from neardup.hashers.isometric import VARIANTS, isometric_dct
from neardup.hashers.planes import Planes

_Float32 = npt.NDArray[np.float32]

SIZE = 64
_MIN_SIDE = 5
# Large images are worked on in strips that stay in the processor's cache.
_STRIP_ROWS = 32
# As many rows of pixels go into one product: of a small image those of several output rows.
_BAND_ROWS = 16


# --- the reference, exact ---------------------------------------------------------------------------------------------


def luma(rgb: Pixels) -> _Float32:
    """Rec. 601 luma, computed in float64, kept in float32."""
    plane = np.empty(rgb.shape[:2], np.float32)
    for first in range(0, len(rgb), _STRIP_ROWS):
        r, g, b = cv2.split(rgb[first : first + _STRIP_ROWS])
        plane[first : first + _STRIP_ROWS] = r * 0.299 + g * 0.587 + b * 0.114
    return plane


def smoothed_samples(plane: _Float32) -> _Float32:
    """The 64x64 samples of a plane after two rounds of box passes, accumulated in float32 as the reference does."""
    height, width = plane.shape
    if plane.shape == (SIZE, SIZE):
        return plane
    rows, columns = sample_positions(height), sample_positions(width)
    once = _box_pass(_transposed(_box_pass(_transposed(plane), _window(width))), _window(height))
    twice = _box_pass(_transposed(once), _window(width))[columns]
    return _box_pass(np.ascontiguousarray(twice.T), _window(height))[rows]


def _transposed(plane: _Float32) -> _Float32:
    return np.asarray(cv2.transpose(plane), dtype=np.float32)


def _box_pass(plane: _Float32, window: int) -> _Float32:
    """Means of `window` rows around each row by a running sum: one addition and one subtraction per row, in float32."""
    n = plane.shape[0]
    ahead = (window + 2) // 2
    sums = np.empty_like(plane)
    total = np.add.accumulate(plane[: ahead - 1], axis=0)[-1] if ahead > 1 else np.zeros(plane.shape[1], np.float32)
    for row in range(n):
        low, high = row + ahead - 1 - window, row + ahead - 1
        if high < n:
            total = np.add(total, plane[high], out=sums[row])
        if low >= 0:
            total = np.subtract(total, plane[low], out=sums[row])
    lows, highs = _box_bounds(n)
    sums /= (highs - lows).astype(np.float32)[:, None]
    return sums


def frequencies(samples: _Float32) -> _Float32:
    """Frequencies 1..16 of both axes of the 64x64 samples, each sum accumulated in float32 in order."""
    basis = _basis()
    half = np.zeros((16, SIZE), np.float32)
    for k in range(SIZE):
        half += basis[:, k, None] * samples[None, k]
    block = np.zeros((16, 16), np.float32)
    for k in range(SIZE):
        block += half[:, k, None] * basis[None, :, k]
    return block


def threshold_bits(block: _Float32) -> Vector:
    """Is each coefficient above the lower median? In the order of the hash: highest frequency first."""
    flat = block.ravel()
    bits: Vector = flat > np.partition(flat, 127)[127]
    return bits[::-1].copy()


def gradient_sum(samples: _Float32) -> int:
    """Steps between neighbours of the samples, in whole percents of the range, summed; 9000 is full quality."""
    steps = (np.diff(samples, axis=axis) * np.float32(100) / np.float32(255) for axis in (0, 1))
    return sum(int(np.abs(np.trunc(step)).sum(dtype=np.float64)) for step in steps)


@functools.cache
def _basis() -> _Float32:
    """16x64 DCT-II rows; the scale is rounded to float32 first, as the reference does."""
    i, j = np.arange(1, 17)[:, None], np.arange(SIZE)[None, :]
    scale = float(np.float32(math.sqrt(2 / SIZE)))
    basis: _Float32 = (scale * np.cos(math.pi / 2 / SIZE * i * (2 * j + 1))).astype(np.float32)
    return basis


def sample_positions(length: int) -> npt.NDArray[np.intp]:
    """The 64 rows (or columns) of the smoothed image that are kept."""
    return ((np.arange(SIZE) + 0.5) * length / SIZE).astype(np.intp)


def _window(length: int) -> int:
    return -(-length // 128)


# --- the same as one linear map ---------------------------------------------------------------------------------------


class Band(NamedTuple):
    """A few output rows of a banded matrix: `weights @ pixels[start : start + weights.shape[1]]`."""

    start: int
    weights: _Float32


@functools.lru_cache(maxsize=64)
def smoothing_bands(length: int, outputs: int) -> tuple[Band, ...]:
    """Two box passes and the choice of 64 samples as a 64 x length matrix, `outputs` rows per band."""
    lows, highs = _box_bounds(length)
    rows = [_twice_boxed(int(position), lows, highs) for position in sample_positions(length)]
    return tuple(_stacked(rows[i : i + outputs]) for i in range(0, SIZE, outputs))


def _box_bounds(length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The pixels [low, high) that the mean at each position is over."""
    window, position = _window(length), np.arange(length)
    ahead = (window + 2) // 2
    return np.maximum(position + ahead - window, 0), np.minimum(position + ahead, length)


def _twice_boxed(
    position: int, lows: npt.NDArray[np.intp], highs: npt.NDArray[np.intp]
) -> tuple[int, npt.NDArray[np.float64]]:
    """The weights of one output: first pixel, and the mean of the means."""
    middle = range(lows[position], highs[position])
    start, stop = int(lows[middle[0]]), int(highs[middle[-1]])
    weights = np.zeros(stop - start)
    for m in middle:
        weights[lows[m] - start : highs[m] - start] += 1 / (highs[m] - lows[m]) / len(middle)
    return start, weights


def _stacked(rows: list[tuple[int, npt.NDArray[np.float64]]]) -> Band:
    start = rows[0][0]
    matrix = np.zeros((len(rows), max(first + len(weights) for first, weights in rows) - start), np.float32)
    for line, (first, weights) in zip(matrix, rows, strict=True):
        line[first - start : first - start + len(weights)] = weights
    return Band(start, matrix)


def fast_samples(rgb: Pixels) -> _Float32:
    """The 64x64 samples by two banded products; differ from the reference's by its float32 rounding."""
    height, width = rgb.shape[:2]
    pixels = rgb.reshape(height, width * 3)
    outputs = max(1, _BAND_ROWS * SIZE // height)
    strips = [
        band.weights @ pixels[band.start : band.start + band.weights.shape[1]].astype(np.float32)
        for band in smoothing_bands(height, outputs)
    ]
    columns = cv2.cvtColor(np.concatenate(strips).reshape(SIZE, width, 3), cv2.COLOR_RGB2GRAY)
    blocks = [
        columns[:, band.start : band.start + band.weights.shape[1]] @ band.weights.T
        for band in smoothing_bands(width, 8)
    ]
    return np.concatenate(blocks, axis=1, dtype=np.float32)


def fast_frequencies(samples: _Float32) -> _Float32:
    """`frequencies` as two matrix products."""
    return np.asarray(_basis() @ samples @ _basis().T, dtype=np.float32)


# --- deciding which of the two is needed ------------------------------------------------------------------------------

# How far the two may lie apart: coefficients, and steps between samples in percent of the range. On 1,103 photos and
# drawings this was never exceeded, and 99 % stayed below a quarter of it. The drift of the reference's running sums
# looks like a slow wave, so the lowest frequencies get most of it.
_SHARE = 1 / np.arange(1, 17) ** 2
_FREQUENCY_ROUNDING = 2e-3 * (1 + 6 * _SHARE[:, None] + 6 * _SHARE[None, :] + 12 * np.outer(_SHARE, _SHARE))
_STEP_ROUNDING = 2.5e-3


class Samples:
    """The 64x64 samples of one image: the fast ones, and the exact ones if they turn out to be needed."""

    def __init__(self, rgb: Pixels) -> None:
        self._rgb = rgb
        self.fast = fast_samples(rgb)
        self.too_small = min(rgb.shape[:2]) < _MIN_SIDE

    @functools.cached_property
    def exact(self) -> _Float32:
        """What the reference's float32 sums give."""
        return smoothed_samples(luma(self._rgb))

    @functools.cached_property
    def fast_block(self) -> _Float32:
        """The 16x16 frequencies, up to rounding."""
        return fast_frequencies(self.fast)

    @functools.cached_property
    def exact_block(self) -> _Float32:
        """The 16x16 frequencies as the reference computes them."""
        return frequencies(self.exact)

    @functools.cached_property
    def quality(self) -> int:
        """The official PDQ quality, 0 to 100."""
        if self.too_small:
            return 0
        low, high = _gradient_sum_bounds(self.fast)
        if min(low // 90, 100) == min(high // 90, 100):
            return min(low // 90, 100)
        return min(gradient_sum(self.exact) // 90, 100)

    def bits(self, variant: str = "r0") -> Vector:
        """The 256 bits of one isometric variant."""
        fast = variant_block(self.fast_block, variant)
        return threshold_bits(variant_block(self.exact_block, variant) if is_doubtful(fast) else fast)


def is_doubtful(block: _Float32) -> bool:
    """Might the order of a coefficient above the median and one below turn round?"""
    order = np.argsort(block, axis=None)
    low = (block - _FREQUENCY_ROUNDING).ravel()[order[128:]]
    high = (block + _FREQUENCY_ROUNDING).ravel()[order[:128]]
    return bool(low.min() <= high.max())


def variant_block(block: _Float32, variant: str) -> _Float32:
    """The frequencies of an isometric variant of the image."""
    if variant == "r0":
        return block
    return np.asarray(isometric_dct(block, frequency_offset=1)[variant], dtype=np.float32)


def _gradient_sum_bounds(samples: _Float32) -> tuple[int, int]:
    steps = [np.abs(np.diff(samples, axis=axis)) * (100 / 255) for axis in (0, 1)]
    low = sum(int(np.trunc(np.maximum(step - _STEP_ROUNDING, 0)).sum()) for step in steps)
    return low, sum(int(np.trunc(step + _STEP_ROUNDING).sum()) for step in steps)


class _PdqHasher(PlanesHasher):
    """The common part: samples shared by both hashers."""

    hash_length = 256

    def _vector(self, samples: Samples, variant: str) -> Vector:
        raise NotImplementedError

    def _hash(self, planes: Planes) -> Vector:
        return self._vector(_samples(planes), "r0")

    def _hash_isometric(self, planes: Planes) -> dict[str, Vectors]:
        return {variant: self._vector(_samples(planes), variant) for variant in VARIANTS}

    def _quality(self, planes: Planes) -> int:
        return _samples(planes).quality


def _samples(planes: Planes) -> Samples:
    return planes.remember("pdq", lambda: Samples(planes.rgb))


class PDQHash(_PdqHasher):
    """PDQ (Facebook 2019): 256 bits, with the official quality; the hex format is the official PDQ hex.

    An image with a side under five pixels has the zero hash and quality 0.
    """

    dtype = "bool"
    distance_metric = "hamming"

    def _vector(self, samples: Samples, variant: str) -> Vector:
        return np.zeros(256, bool) if samples.too_small else samples.bits(variant)


class PDQHashF(_PdqHasher):
    """The 256 coefficients of PDQ, in the order of its bits, float32; all variants are real numbers too."""

    dtype = "float32"
    distance_metric = "euclidean"

    def _vector(self, samples: Samples, variant: str) -> Vector:
        return variant_block(samples.fast_block, variant).ravel()[::-1].copy()
