"""OpenCV's `img_hash` hashes on OpenCV's core: MarrHildreth, BlockMean and ColorMoment, bit for bit.

As in the reference, the RGB pixels are read as BGR. OpenCV's bicubic resize, which MarrHildreth and ColorMoment start
with, differs by one level in a few pixels between builds with and without Intel IPP.
"""

import functools
from types import ModuleType

import cv2
import numpy as np
import numpy.typing as npt

from neardup.hashers.area import Pixels
from neardup.hashers.base import PlanesHasher, Vectors
from neardup.hashers.encoding import Vector
from neardup.hashers.isometric import VARIANTS, isometric_view
from neardup.hashers.planes import Planes
from neardup.memory import beyond_limit

_Float32 = npt.NDArray[np.float32]


# --- MarrHildreth -----------------------------------------------------------------------------------------------------


def marr_hildreth_bits(gray: Pixels) -> Vector:
    """Is each block's response to a Marr wavelet above the mean of its 3x3 neighbourhood? (Zauner 2010)"""
    resized = cv2.resize(gaussian_7x7(gray), (512, 512), interpolation=cv2.INTER_CUBIC)
    image = np.asarray(cv2.equalizeHist(resized), dtype=np.uint8)
    responses = block_responses(image)
    margins = np.abs(responses - window_means(responses)).min(axis=1)
    doubtful = margins <= _RESPONSE_ROUNDING * np.abs(responses).max()
    if doubtful.any():
        responses[doubtful] = block_responses_float32(image, doubtful)[doubtful]
    return neighbourhood_bits(responses)


# Rounding of OpenCV's float32 convolution and of the mean, relative to the largest response; measured at most 7e-7.
_RESPONSE_ROUNDING = 4e-6

_GAUSSIAN = np.array([8, 28, 56, 72, 56, 28, 8], np.float32) / 256


def gaussian_7x7(gray: Pixels) -> Pixels:
    """`cv2.GaussianBlur` of 7x7 pixels, three quarters of the time.

    All sums are multiples of 2^-12, exact in float32. This filter rounds halves to even and the blur rounds them up, so
    2^-13 is added: it moves a half and nothing else.
    """
    return np.asarray(cv2.sepFilter2D(gray, -1, _GAUSSIAN, _GAUSSIAN, delta=2.0**-13), dtype=np.uint8)


def block_responses(image: Pixels) -> _Float32:
    """The responses in 8x8 windows of 3x3 blocks, shape (64, 9), of a 512x512 image; window and block order as hashed.

    The kernel is a sum of two separable ones, and a window's blocks depend on 64 rows (and columns) from 8 before it.
    """
    weights = _window_weights()
    framed = cv2.copyMakeBorder(image[:504, :504], 8, 0, 8, 0, cv2.BORDER_REFLECT_101).astype(np.float32)
    halves = (weights @ framed.reshape(8, 64, 512)).reshape(48, 8, 64) @ weights.T
    halves = halves.reshape(8, 6, 8, 6)
    responses = halves[:, :3, :, 3:] + halves[:, 3:, :, :3]
    return responses.transpose(2, 0, 3, 1).reshape(64, 9).astype(np.float32, copy=False)


@functools.cache
def _window_weights() -> _Float32:
    """6x64: for three blocks, convolve with a factor of the kernel and sum over 16 pixels; both factors, g above h.

    (2 - u² - v²)·e^((u² + v²)/2) = g(u)·h(v) + h(u)·g(v) with g(x) = e^(x²/2) and h(x) = (1 - x²)·e^(x²/2).
    """
    x = (np.arange(17) - 8) / 2
    g = np.exp(x**2 / 2)
    weights = np.zeros((6, 64))
    for half, factor in enumerate((g, (1 - x**2) * g)):
        for block in range(3):
            weights[3 * half + block, 16 * block : 16 * block + 32] = np.convolve(np.ones(16), factor)
    return weights.astype(np.float32)


# OpenCV convolves with so large a kernel by Fourier transforms of 256x256 pixels, each for a tile of 240x240.
_TRANSFORM = 256


def block_responses_float32(image: Pixels, wanted: npt.NDArray[np.bool_]) -> _Float32:
    """The reference for the wanted ones of 64 windows: sums of `cv2.filter2D` with the full kernel, rounding and all.

    Only the tiles under these windows are convolved; the other windows' responses mean nothing.
    """
    fourier = _fourier()
    framed = cv2.copyMakeBorder(image, 8, 8, 8, 8, cv2.BORDER_REFLECT_101)
    across = np.asarray(cv2.transpose(framed), dtype=np.float32)
    # Window (i, j) is of blocks 4i to 4i + 2 and 4j to 4j + 2; three neighbours lie in one tile or in two.
    needed = np.zeros((31, 31), bool)
    np.lib.stride_tricks.sliding_window_view(needed.T, (3, 3), writeable=True)[::4, ::4] = wanted.reshape(8, 8, 1, 1)
    blocks = np.zeros((31, 31), np.float32)
    for top in range(0, 31, 15):
        for left in range(0, 31, 15):
            rows = needed[top : top + 15, left : left + 15].max(axis=1)
            if rows.any():
                size = min(_TRANSFORM, len(across) - 16 * top), min(_TRANSFORM, len(across) - 16 * left)
                sums = fourier.block_sums(across, (16 * top, 16 * left), size, _marr_spectrum(), rows)
                into = blocks[top : top + 15, left : left + 15]
                into[:] = sums[: into.shape[0], : into.shape[1]]
    windows = np.lib.stride_tricks.sliding_window_view(blocks.T, (3, 3))[::4, ::4]
    return windows.reshape(64, 9)


@functools.cache
def _fourier() -> ModuleType:
    """`hashers.fourier`, ready: it loads a compiler, which most pictures do not need."""
    with beyond_limit():
        from neardup.hashers import fourier

        fourier.block_sums(np.zeros((32, 32), np.float32), (0, 0), (32, 32), _marr_spectrum(), np.ones(1, bool))
    return fourier


@functools.cache
def _marr_spectrum() -> _Float32:
    from neardup.hashers import fourier

    return fourier.spectrum(marr_kernel())


@functools.cache
def marr_kernel() -> _Float32:
    """(2 - q)·e^(q/2), q = u² + v², each factor rounded to float32 as the reference does."""
    x = (np.arange(17) - 8) / 2
    q = x[:, None] ** 2 + x[None, :] ** 2
    return (2 - q).astype(np.float32) * np.exp(q / 2).astype(np.float32)


def window_means(windows: _Float32) -> _Float32:
    """The mean of each window, shape (64, 1), rounded as the reference does."""
    means: _Float32 = (windows.astype(np.float64).sum(axis=1, keepdims=True) / 9).astype(np.float32)
    return means


def neighbourhood_bits(windows: _Float32) -> Vector:
    """576 bits: is each response above its window's mean?"""
    bits: Vector = windows > window_means(windows)
    return bits.ravel()


class MarrHildreth(PlanesHasher):
    """Marr-Hildreth hash of OpenCV (scale 2, level 1): 576 bits."""

    dtype = "bool"
    distance_metric = "hamming"
    hash_length = 576

    def _hash(self, planes: Planes) -> Vector:
        return marr_hildreth_bits(planes.gray_swapped)


# --- BlockMean --------------------------------------------------------------------------------------------------------


def block_mean_bits(rgb: Pixels) -> Vector:
    """Is the mean of each of 31x31 overlapping blocks at least the image's mean? (Yang, Gu and Niu 2006, method 2)"""
    small = cv2.resize(rgb, (256, 256), interpolation=cv2.INTER_LINEAR_EXACT)
    gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    rows = np.add.reduce(gray.reshape(32, 8, 256), axis=1, dtype=np.int32)
    eighths = np.add.reduce(rows.reshape(32, 32, 8), axis=2)
    blocks = eighths[:-1, :-1] + eighths[:-1, 1:] + eighths[1:, :-1] + eighths[1:, 1:]
    bits: Vector = blocks * 256 >= eighths.sum()
    return bits


def block_mean_vector(bits: Vector) -> Vector:
    """The 961 bits as the 968 elements of the reference: reversed within each eight, seven zeros in the last."""
    return np.unpackbits(np.packbits(bits.ravel(), bitorder="little")).astype(bool)


class BlockMean(PlanesHasher):
    """Block mean hash of OpenCV (mode 1): 968 elements, 961 of them bits of blocks."""

    dtype = "bool"
    distance_metric = "hamming"
    hash_length = 968

    def _hash(self, planes: Planes) -> Vector:
        return block_mean_vector(block_mean_bits(planes.rgb))

    def _hash_isometric(self, planes: Planes) -> dict[str, Vectors]:
        return dict(self._compute_isometric_from_hash(self._hash(planes)))

    def _compute_isometric_from_hash(self, vector: Vector) -> dict[str, Vector]:
        """Exact: the resize and the block sums are integers and symmetric."""
        packed = np.packbits(np.asarray(vector, dtype=bool))
        bits = np.unpackbits(packed, count=961, bitorder="little").reshape(31, 31)
        return {variant: block_mean_vector(isometric_view(bits, variant)) for variant in VARIANTS}


# --- ColorMoment ------------------------------------------------------------------------------------------------------


def color_moments(rgb: Pixels) -> Vector:
    """Seven Hu moments of each channel of HSV, then of YCrCb, times 10,000 (Tang, Dai and Zhang 2012), float64."""
    small = cv2.resize(rgb, (512, 512), interpolation=cv2.INTER_CUBIC)
    blurred = cv2.GaussianBlur(small, (3, 3), 0)
    channels = [
        channel
        for space in (cv2.COLOR_BGR2HSV, cv2.COLOR_BGR2YCrCb)
        for channel in cv2.split(cv2.cvtColor(blurred, space))
    ]
    # The sums are whole numbers in both types, so the moments are the same; OpenCV is four times as fast on float32.
    moments = [cv2.moments(channel.astype(np.float32)) for channel in channels]
    return np.concatenate([cv2.HuMoments(moment).ravel() for moment in moments]) * 10_000


class ColorMoment(PlanesHasher):
    """Color moment hash of OpenCV: 42 real numbers, Euclidean distance."""

    dtype = "float32"
    distance_metric = "euclidean"
    hash_length = 42

    def _hash(self, planes: Planes) -> Vector:
        return color_moments(planes.rgb)
