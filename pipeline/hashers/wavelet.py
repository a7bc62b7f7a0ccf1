"""WaveletHash: the coarse approximation of a wavelet decomposition against its median.

With Haar wavelets the approximation is the block sums, so the hash is decided by integers; the reference computes in
float32, whose rounding shows only where a block sum (nearly) equals the median. There, and only there, this module
repeats its float32 transform.
"""

import math

import numpy as np
import numpy.typing as npt
import pywt

from pipeline.errors import UsageError
from pipeline.hashers.area import Pixels, area_means, is_worth_it, rounded_block
from pipeline.hashers.base import PlanesHasher
from pipeline.hashers.encoding import Vector
from pipeline.hashers.planes import Planes

_Float32 = npt.NDArray[np.float32]
_HALF = np.float32(1 / math.sqrt(2))

# Rounding of the float32 transform, in units of a block's mean pixel value 0..255; measured at most 1.7e-4.
_ROUNDING = 1e-3


# How far the mean of a block may move when its pixels are rounded to whole levels (and tiny edges are left out).
_LEVEL_ROUNDING = 0.53


def haar_bits(image: Pixels, size: int) -> Vector:
    """Is each of size x size block sums above their median? Equal to `haar_bits_float32`, bit for bit."""
    cell = image.shape[0] // size
    columns = np.add.reduce(image.reshape(size, cell, size * cell), axis=1, dtype=np.int32)
    sums = columns.reshape(size, size, cell).sum(axis=2).ravel()
    bits = _upper_half(sums, sums, sums.size // 2, 2 * _ROUNDING * cell * cell)
    return haar_bits_float32(image, size) if bits is None else bits


def haar_bits_unresized(plane: Pixels, scale: int, size: int) -> Vector | None:
    """`haar_bits` of a plane resized to scale x scale, without resizing more of it than the blocks near the median.

    None where those do not decide it.
    """
    cell = scale // size
    means = area_means(plane, size, size).ravel()
    ordered = np.sort(means)
    lowest = ordered[means.size // 2 - 1] - _LEVEL_ROUNDING
    highest = ordered[means.size // 2] + _LEVEL_ROUNDING
    bits: Vector = means > highest + _LEVEL_ROUNDING
    near = np.flatnonzero(~bits & (means >= lowest - _LEVEL_ROUNDING))
    if len(near) > means.size // 8:
        return None
    below = means.size - int(bits.sum()) - len(near)
    sums = np.array([_block_sums(plane, divmod(int(block), size), cell, scale) for block in near])
    upper = _upper_half(sums[:, 0], sums[:, 1], means.size // 2 - below, 2 * _ROUNDING * cell * cell)
    if upper is None:
        return None
    bits[near] = upper
    return bits


def _upper_half(least: Vector, greatest: Vector, rank: int, gap: float) -> Vector | None:
    """Which values come after the first `rank` in ascending order; None where a gap no wider leaves it open.

    Each value is only known to lie between `least` and `greatest`.
    """
    order = np.argsort(least)
    if least[order[rank:]].min() - greatest[order[:rank]].max() <= gap:
        return None
    upper = np.ones(least.size, bool)
    upper[order[:rank]] = False
    return upper


def _block_sums(plane: Pixels, block: tuple[int, int], cell: int, scale: int) -> tuple[float, float]:
    """The least and the greatest possible sum of the pixels of one block of the resized plane."""
    rows, columns = (range(index * cell, (index + 1) * cell) for index in block)
    least, greatest = rounded_block(plane, rows, columns, (scale, scale))
    return float(least.sum()), float(greatest.sum())


def haar_bits_float32(image: Pixels, size: int) -> Vector:
    """The reference: take the mean out by a full Haar transform and back, decompose to size x size, compare."""
    depth = int(math.log2(image.shape[0]))
    approximation, details = _haar_forward(image.astype(np.float32) / np.float32(255), depth)
    flat = _haar_inverse(np.zeros_like(approximation), details)
    coarse, _ = _haar_forward(flat, depth - int(math.log2(size)))
    bits: Vector = coarse > np.median(coarse)
    return bits.ravel()


def wavelet_bits(image: Pixels, size: int, wavelet: str) -> Vector:
    """Any other wavelet, periodic at the borders: size x size approximations against their median."""
    levels = int(math.log2(image.shape[0] // size))
    plane = image.astype(np.float32) / np.float32(255)
    for _ in range(levels):
        plane, _ = pywt.dwt2(plane, wavelet, mode="periodization")
    bits: Vector = plane > np.median(plane)
    return bits.ravel()


class WaveletHash(PlanesHasher):
    """Wavelet hash: hash_size x hash_size bits of the image resized to a power of two.

    `image_scale` is that size; by default the largest power of two within the image. With another `mode` than "haar"
    the borders are periodic, so that the hash always has hash_length bits (the reference's has more and cannot be
    decoded).
    """

    dtype = "bool"
    distance_metric = "hamming"

    def __init__(self, hash_size: int = 8, image_scale: int | None = None, mode: str = "haar") -> None:
        if hash_size < 2 or hash_size & (hash_size - 1):
            raise UsageError(f"hash_size {hash_size} is not a power of two of at least 2")
        if image_scale is not None and (image_scale < hash_size or image_scale & (image_scale - 1)):
            raise UsageError(f"image_scale {image_scale} is not a power of two of at least hash_size ({hash_size})")
        if mode not in pywt.wavelist(kind="discrete"):
            raise UsageError(f"unknown wavelet {mode!r}; PyWavelets' discrete ones are known (haar, db2, sym4, ...)")
        self.hash_size = hash_size
        self.image_scale = image_scale
        self.mode = mode
        self.hash_length = hash_size * hash_size

    def _hash(self, planes: Planes) -> Vector:
        natural = 1 << (min(planes.rgb.shape[:2]).bit_length() - 1)
        scale = self.image_scale or max(natural, self.hash_size)
        if self.mode != "haar":
            return wavelet_bits(planes.area("gray_swapped", scale, scale), self.hash_size, self.mode)
        bits = None
        if scale > self.hash_size and is_worth_it(planes.gray_swapped, scale, scale):
            bits = haar_bits_unresized(planes.gray_swapped, scale, self.hash_size)
        return haar_bits(planes.area("gray_swapped", scale, scale), self.hash_size) if bits is None else bits


def _haar_forward(plane: _Float32, levels: int) -> tuple[_Float32, list[tuple[_Float32, _Float32, _Float32]]]:
    """Approximation, and details finest first; axis 0, then axis 1, in float32."""
    details = []
    for _ in range(levels):
        even, odd = plane[0::2] * _HALF, plane[1::2] * _HALF
        low, high = even + odd, even - odd
        a, h = _split_columns(low)
        v, d = _split_columns(high)
        details.append((h, v, d))
        plane = a
    return plane, details


def _split_columns(plane: _Float32) -> tuple[_Float32, _Float32]:
    even, odd = plane[:, 0::2] * _HALF, plane[:, 1::2] * _HALF
    return even + odd, even - odd


def _haar_inverse(plane: _Float32, details: list[tuple[_Float32, _Float32, _Float32]]) -> _Float32:
    """The inverse of `_haar_forward`; axis 1, then axis 0, in float32."""
    for h, v, d in reversed(details):
        low, high = _merge_columns(plane, h), _merge_columns(v, d)
        plane = np.empty((2 * low.shape[0], low.shape[1]), np.float32)
        a, b = low * _HALF, high * _HALF
        plane[0::2], plane[1::2] = a + b, a - b
    return plane


def _merge_columns(low: _Float32, high: _Float32) -> _Float32:
    plane = np.empty((low.shape[0], 2 * low.shape[1]), np.float32)
    a, b = low * _HALF, high * _HALF
    plane[:, 0::2], plane[:, 1::2] = a + b, a - b
    return plane
