"""WaveletHash: the coarse approximation of a wavelet decomposition against its median.

With Haar wavelets the approximation is the block sums, so the hash is decided by integers; the reference computes in
float32, whose rounding shows only where a block sum (nearly) equals the median. There, and only there, this module
repeats its float32 transform.
"""

import math

import numpy as np
import numpy.typing as npt
import pywt

from neardup.errors import UsageError
from neardup.hashers.area import Means, Pixels, block_sum_bounds, shrinks_unevenly
from neardup.hashers.base import PlanesHasher
from neardup.hashers.encoding import Vector
from neardup.hashers.planes import Planes

_Float32 = npt.NDArray[np.float32]
_HALF = np.float32(1 / math.sqrt(2))

# Rounding of the float32 transform, in units of a block's mean pixel value 0..255; measured at most 1.7e-4.
_ROUNDING = 1e-3


# How far the mean of a block may move when its pixels are rounded to whole levels (and tiny edges are left out).
_LEVEL_ROUNDING = 0.53


def haar_bits(image: Pixels, size: int) -> Vector:
    """Which of size x size approximations by Haar wavelets are above their median?

    The reference takes the mean out by a full transform and back, decomposes to size x size, and compares.
    """
    cell = image.shape[0] // size
    columns = np.add.reduce(image.reshape(size, cell, size * cell), axis=1, dtype=np.int32)
    sums = columns.reshape(size, size, cell).sum(axis=2).ravel()
    doubt = 2 * _ROUNDING * cell * cell
    middle = sums.size // 2
    below, above = np.partition(sums, (middle - 1, middle))[middle - 1 : middle + 1]
    bits: Vector = sums >= above
    if above - below <= doubt:
        near = np.flatnonzero((sums >= below - doubt) & (sums <= above + doubt))
        values = float32_values(image, size, near)
        ordered = np.sort(values)[middle - np.count_nonzero(sums < below - doubt) - 1 :]
        bits[near] = values > np.mean(ordered[:2])
    return bits


def haar_bits_unresized(plane: Pixels, means: Means, scale: int) -> Vector | None:
    """`haar_bits` of a plane resized to scale x scale, of which only the blocks near the median are resized.

    `means` are the means of the plane over size x size areas. None where those blocks do not decide it.
    """
    size, flat, middle = len(means), means.ravel(), means.size // 2
    below, above = np.partition(flat, (middle - 1, middle))[middle - 1 : middle + 1]
    bits: Vector = flat > above + 2 * _LEVEL_ROUNDING
    near = np.flatnonzero(~bits & (flat >= below - 2 * _LEVEL_ROUNDING))
    if len(near) > max(8, flat.size // 8):
        return None
    cell = scale // size
    areas = [[range(k * cell, (k + 1) * cell) for k in divmod(int(block), size)] for block in near]
    bounds = np.array([block_sum_bounds(plane, rows, columns, (scale, scale)) for rows, columns in areas])
    order = np.argsort(bounds[:, 0])
    rank = middle - (flat.size - int(bits.sum()) - len(near))
    lower, upper = order[:rank], order[rank:]
    if bounds[upper, 0].min() - bounds[lower, 1].max() <= 2 * _ROUNDING * cell * cell:
        return None
    bits[near[upper]] = True
    return bits


def float32_values(image: Pixels, size: int, chosen: npt.NDArray[np.intp]) -> _Float32:
    """The chosen ones of size x size approximations as the reference's float32 transforms give them."""
    cell = image.shape[0] // size
    plane = image.astype(np.float32) / np.float32(255)
    top, details = _haar_forward(_haar_approximation(plane, int(math.log2(cell))), int(math.log2(size)))
    means_out = _haar_inverse(np.zeros_like(top), details).ravel()
    blocks = plane.reshape(size, cell, size, cell).swapaxes(1, 2).reshape(-1, cell, cell)
    # Equal blocks (in flat areas, the usual reason to be here) are transformed once.
    keys = [(blocks[k].tobytes(), float(means_out[k])) for k in chosen]
    some = dict(zip(keys, chosen.tolist(), strict=True))
    unique = list(some.values())
    _, details = _haar_forward(blocks[unique], int(math.log2(cell)))
    flat = _haar_inverse(means_out[unique].reshape(-1, 1, 1), details)
    values = _haar_approximation(flat, int(math.log2(cell))).ravel()
    index = {key: position for position, key in enumerate(some)}
    return values[[index[key] for key in keys]]


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
        if scale > self.hash_size and shrinks_unevenly(planes.gray_swapped, scale, scale):
            means = planes.area_means("gray_swapped", self.hash_size, self.hash_size)
            bits = haar_bits_unresized(planes.gray_swapped, means, scale)
        return haar_bits(planes.area("gray_swapped", scale, scale), self.hash_size) if bits is None else bits


def _haar_approximation(planes: _Float32, levels: int) -> _Float32:
    """The approximations of (..., h, w) planes; rows, then columns, in float32."""
    for _ in range(levels):
        planes = planes[..., 0::2, :] * _HALF + planes[..., 1::2, :] * _HALF
        planes = planes[..., 0::2] * _HALF + planes[..., 1::2] * _HALF
    return planes


def _haar_forward(planes: _Float32, levels: int) -> tuple[_Float32, list[tuple[_Float32, _Float32, _Float32]]]:
    """The approximations of (..., h, w) planes and their details, finest first; rows, then columns, in float32."""
    details = []
    for _ in range(levels):
        even, odd = planes[..., 0::2, :] * _HALF, planes[..., 1::2, :] * _HALF
        planes, h = _split_columns(even + odd)
        v, d = _split_columns(even - odd)
        details.append((h, v, d))
    return planes, details


def _split_columns(planes: _Float32) -> tuple[_Float32, _Float32]:
    even, odd = planes[..., 0::2] * _HALF, planes[..., 1::2] * _HALF
    return even + odd, even - odd


def _haar_inverse(planes: _Float32, details: list[tuple[_Float32, _Float32, _Float32]]) -> _Float32:
    """The inverse of `_haar_forward`; columns, then rows, in float32."""
    for h, v, d in reversed(details):
        low, high = _merge_columns(planes, h) * _HALF, _merge_columns(v, d) * _HALF
        planes = np.empty((*low.shape[:-2], 2 * low.shape[-2], low.shape[-1]), np.float32)
        planes[..., 0::2, :], planes[..., 1::2, :] = low + high, low - high
    return planes


def _merge_columns(low: _Float32, high: _Float32) -> _Float32:
    planes = np.empty((*low.shape[:-1], 2 * low.shape[-1]), np.float32)
    a, b = low * _HALF, high * _HALF
    planes[..., 0::2], planes[..., 1::2] = a + b, a - b
    return planes
