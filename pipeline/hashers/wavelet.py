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
from pipeline.hashers.base import PlanesHasher
from pipeline.hashers.encoding import Vector
from pipeline.hashers.planes import Pixels, Planes

_Float32 = npt.NDArray[np.float32]
_HALF = np.float32(1 / math.sqrt(2))

# Rounding of the float32 transform, in units of a block's mean pixel value 0..255; measured at most 1.7e-4.
_ROUNDING = 1e-3


def haar_bits(image: Pixels, size: int) -> Vector:
    """Is each of size x size block sums above their median? Equal to `haar_bits_float32`, bit for bit."""
    cell = image.shape[0] // size
    columns = np.add.reduce(image.reshape(size, cell, size * cell), axis=1, dtype=np.int32)
    sums = columns.reshape(size, size, cell).sum(axis=2).ravel()
    ordered = np.sort(sums)
    below, above = int(ordered[sums.size // 2 - 1]), int(ordered[sums.size // 2])
    if above - below <= 2 * _ROUNDING * cell * cell:
        return haar_bits_float32(image, size)
    bits: Vector = sums >= above
    return bits


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
        image = planes.area("gray_swapped", scale, scale)
        if self.mode == "haar":
            return haar_bits(image, self.hash_size)
        return wavelet_bits(image, self.hash_size, self.mode)


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
