"""The hashes of the ImageHash library, bit for bit, and their catalogue entries.

They differ from the hashers of the same names in this package in how they make an image grey and small: Pillow's luma,
then Pillow's Lanczos resize. The algorithms take Pillow images, most of them in mode L, and return arrays of bits.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pywt
from PIL import Image

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import PlanesHasher
from neardup.hashers.dct import exact_dct
from neardup.hashers.encoding import Vector
from neardup.hashers.planes import Planes

Bits = npt.NDArray[np.bool_]
_Plane = npt.NDArray[np.float64]

_HUE_BINS = 6
_VALUES = 2 + 2 * _HUE_BINS  # of a colour hash: black, gray, faint hues, bright hues


# --- what all have in common --------------------------------------------------------------------------------------


def luma(image: Image.Image) -> Image.Image:
    """The image in mode L: Rec. 601 weights in 16-bit fixed point; transparency is ignored. Raises `UsageError`."""
    if 0 in image.size:
        raise UsageError(f"an image of {image.width}x{image.height} pixels has no hash")
    return image if image.mode == "L" else image.convert("L")


def shared_luma(planes: Planes) -> Image.Image:
    """The luma of an image whose derived planes are shared with other hashers; who asks must not write into it."""
    return planes.remember("pillow_luma", lambda: luma(Image.fromarray(planes.rgb)))


def lanczos(gray: Image.Image, width: int, height: int) -> Pixels:
    """An image in mode L resized as Pillow 13 does it, whichever Pillow is installed.

    Between its two passes Pillow rounds to 8 bits, so their order shows. Up to version 12 it is always rows first; 13
    takes the columns first where that saves work. A resize along one axis is the same in all, hence two of them.
    """
    saved_rows, saved_columns = gray.height - height, max(0, gray.width - width)
    columns_first = saved_rows > 2 * saved_columns
    between = (gray.width, height) if columns_first else (width, gray.height)
    resample = Image.Resampling.LANCZOS
    return np.asarray(gray.resize(between, resample).resize((width, height), resample))


def check_size(hash_size: int, name: str, smallest: int = 2) -> None:
    """Raises `UsageError` for a hash size that is too small."""
    if hash_size < smallest:
        raise UsageError(f"hash_size {hash_size} is too small; {name} needs at least {smallest}")


def check_factor(highfreq_factor: int, smallest: int = 1) -> None:
    """Raises `UsageError` for a factor that leaves too few frequencies."""
    if highfreq_factor < smallest:
        raise UsageError(f"highfreq_factor {highfreq_factor} is too small; it must be at least {smallest}")


def check_binbits(binbits: int) -> None:
    """Raises `UsageError` for a number of bits that is too small."""
    if binbits < 1:
        raise UsageError(f"binbits {binbits} is too small; colorhash needs at least 1")


# --- the algorithms -----------------------------------------------------------------------------------------------


def average_bits(gray: Image.Image, size: int, mean: Callable[[Any], Any] = np.mean) -> Bits:
    """Is each of size x size pixels brighter than their mean? (Krawetz 2011)"""
    small = lanczos(gray, size, size)
    bits: Bits = small > mean(small)
    return bits


def difference_bits(gray: Image.Image, size: int) -> Bits:
    """Is each pixel brighter than its left neighbour? (Krawetz 2013)"""
    small = lanczos(gray, size + 1, size)
    return small[:, 1:] > small[:, :-1]


def vertical_difference_bits(gray: Image.Image, size: int) -> Bits:
    """Is each pixel brighter than the one above?"""
    small = lanczos(gray, size, size + 1)
    return small[1:] > small[:-1]


def dct_bits(gray: Image.Image, size: int, factor: int) -> Bits:
    """Is each of the size x size lowest frequencies, the mean included, above their median? (after Zauner 2010)"""
    dct = exact_dct()
    small = lanczos(gray, size * factor, size * factor).astype(np.float64)
    block = dct(dct(small, axis=0), axis=1)[:size, :size]
    bits: Bits = block > np.median(block)
    return bits


def row_dct_bits(gray: Image.Image, size: int, factor: int) -> Bits:
    """Is each low frequency of the first rows, the mean left out, above their mean?"""
    dct = exact_dct()
    small = lanczos(gray, size * factor, size * factor)[:size].astype(np.float64)
    block = dct(small, axis=1)[:, 1 : size + 1]
    bits: Bits = block > block.mean()
    return bits


def wavelet_bits(gray: Image.Image, size: int, scale: int, mode: str, remove_mean: bool) -> Bits:
    """Is each value of the wavelet approximation of the image, resized to scale x scale, above their median?

    With Haar wavelets the hash is size x size, with longer ones larger: `wavelet_side`. `remove_mean` takes the mean of
    the image out first (by a full Haar transform, as the reference does), which shows only in rounding.
    """
    small = lanczos(gray, scale, scale)
    if mode == "haar":
        bits = _haar_bits(small, size)
        if bits is not None:
            return bits
    plane: _Plane = small / 255.0
    if remove_mean:
        coefficients = pywt.wavedec2(plane, "haar", level=int(math.log2(scale)))
        coefficients[0] *= 0
        plane = pywt.waverec2(coefficients, "haar")
    for _ in range(int(math.log2(scale // size))):
        plane, _ = pywt.dwt2(plane, mode)
    above: Bits = plane > np.median(plane)
    return above


def wavelet_side(size: int, scale: int, mode: str) -> int:
    """The number of rows, and of columns, of the bits that `wavelet_bits` gives."""
    length, filter_length = scale, pywt.Wavelet(mode).dec_len
    for _ in range(int(math.log2(scale // size))):
        length = pywt.dwt_coeff_len(length, filter_length, "symmetric")
    return length


def wavelet_scale(gray_size: tuple[int, int], size: int, scale: int | None) -> int:
    """The power of two to which an image is resized for its wavelet hash. Raises `UsageError`."""
    if size < 1 or size & (size - 1):
        raise UsageError(f"hash_size {size} is not a power of two")
    if scale is None:
        return max(size, 1 << (min(gray_size).bit_length() - 1))
    if scale < 1 or scale & (scale - 1):
        raise UsageError(f"image_scale {scale} is not a power of two")
    if scale < size:
        raise UsageError(f"image_scale {scale} is smaller than hash_size {size}")
    return scale


def check_wavelet(mode: str) -> None:
    """Raises `UsageError` for a wavelet that PyWavelets does not know."""
    if mode not in pywt.wavelist(kind="discrete"):
        raise UsageError(f"unknown wavelet {mode!r}; PyWavelets' discrete ones are known (haar, db4, sym4, ...)")


def color_bits(image: Image.Image, binbits: int) -> Bits:
    """How much of the image is black, gray, and of six hues, faint and bright: 14 values of `binbits` bits.

    The bits of a value are ImageHash's: bit k is set where the value, divided by 2^(binbits - 1 - k), is not a multiple
    of 2^(binbits - k). From the second on that is not plain binary (3 bits: 4 and 6 are both 110).
    """
    check_binbits(binbits)
    intensity = np.asarray(luma(image))
    hue, saturation = (np.asarray(band) for band in image.convert("HSV").split()[:2])
    black = intensity < 32
    gray = ~black & (saturation < 85)
    colored = ~(black | gray)
    counts = [(int(black.sum()), black.size), (int(gray.sum()), gray.size)]
    for chosen in (colored & (saturation < 170), colored & (saturation > 170)):  # 170 itself is neither
        bins = np.minimum(hue[chosen].astype(np.int64) * 2 * _HUE_BINS // 510, _HUE_BINS - 1)
        counts += [(int(n), max(1, int(colored.sum()))) for n in np.bincount(bins, minlength=_HUE_BINS)]
    levels = 1 << binbits
    values = [min(levels - 1, count * levels // total) for count, total in counts]
    return np.array([[(v >> (binbits - 1 - k)) % (1 << (binbits - k)) > 0 for k in range(binbits)] for v in values])


def _haar_bits(small: Pixels, size: int) -> Bits | None:
    """The Haar approximation is the block sums; None where blocks that tie at the median leave it to rounding."""
    cell = small.shape[0] // size
    rows = np.add.reduce(small.reshape(size, cell, size * cell), axis=1, dtype=np.int64)
    sums = rows.reshape(size, size, cell).sum(axis=2)
    middle = sums.size // 2
    if sums.size < 2:
        return None
    below, above = np.partition(sums.ravel(), (middle - 1, middle))[middle - 1 : middle + 1]
    bits: Bits = sums >= above
    return bits if below < above else None


# --- the catalogue entries ----------------------------------------------------------------------------------------


class _ImageHashVariant(PlanesHasher):
    """The common part: bits that are compared by the share that differs."""

    dtype = "bool"
    distance_metric = "hamming"

    def _bits(self, planes: Planes) -> Bits:
        raise NotImplementedError

    def _hash(self, planes: Planes) -> Vector:
        return self._bits(planes).ravel()


class ImageHashAverage(_ImageHashVariant):
    """ImageHash's average_hash: hash_size x hash_size bits, against the mean or the median."""

    def __init__(self, hash_size: int = 8, mean: Literal["mean", "median"] = "mean") -> None:
        check_size(hash_size, "average_hash")
        if mean not in ("mean", "median"):
            raise UsageError(f"mean {mean!r} is unknown; use 'mean' or 'median'")
        self.hash_size = hash_size
        self.mean = mean
        self.hash_length = hash_size * hash_size

    def _bits(self, planes: Planes) -> Bits:
        return average_bits(shared_luma(planes), self.hash_size, np.mean if self.mean == "mean" else np.median)


class ImageHashDHash(_ImageHashVariant):
    """ImageHash's dhash: hash_size x hash_size bits."""

    def __init__(self, hash_size: int = 8) -> None:
        check_size(hash_size, "dhash")
        self.hash_size = hash_size
        self.hash_length = hash_size * hash_size

    def _bits(self, planes: Planes) -> Bits:
        return difference_bits(shared_luma(planes), self.hash_size)


class ImageHashDHashVertical(_ImageHashVariant):
    """ImageHash's dhash_vertical: hash_size x hash_size bits."""

    def __init__(self, hash_size: int = 8) -> None:
        check_size(hash_size, "dhash_vertical", 1)
        self.hash_size = hash_size
        self.hash_length = hash_size * hash_size

    def _bits(self, planes: Planes) -> Bits:
        return vertical_difference_bits(shared_luma(planes), self.hash_size)


class ImageHashPHash(_ImageHashVariant):
    """ImageHash's phash: hash_size x hash_size bits."""

    def __init__(self, hash_size: int = 8, highfreq_factor: int = 4) -> None:
        check_size(hash_size, "phash")
        check_factor(highfreq_factor)
        self.hash_size = hash_size
        self.highfreq_factor = highfreq_factor
        self.hash_length = hash_size * hash_size

    def _bits(self, planes: Planes) -> Bits:
        return dct_bits(shared_luma(planes), self.hash_size, self.highfreq_factor)


class ImageHashPHashSimple(_ImageHashVariant):
    """ImageHash's phash_simple: hash_size x hash_size bits."""

    def __init__(self, hash_size: int = 8, highfreq_factor: int = 4) -> None:
        check_size(hash_size, "phash_simple", 1)
        check_factor(highfreq_factor, 2)
        self.hash_size = hash_size
        self.highfreq_factor = highfreq_factor
        self.hash_length = hash_size * hash_size

    def _bits(self, planes: Planes) -> Bits:
        return row_dct_bits(shared_luma(planes), self.hash_size, self.highfreq_factor)


class ImageHashWHash(_ImageHashVariant):
    """ImageHash's whash: hash_size x hash_size bits with Haar wavelets.

    With another `mode` there are more bits, as many as the scale decides: then `image_scale` must be given, so that all
    hashes have one length.
    """

    def __init__(
        self, hash_size: int = 8, image_scale: int | None = None, mode: str = "haar", remove_max_haar_ll: bool = True
    ) -> None:
        check_wavelet(mode)
        scale = wavelet_scale((hash_size, hash_size), hash_size, image_scale)
        side = hash_size
        if pywt.Wavelet(mode).dec_len > 2:
            if image_scale is None:
                raise UsageError(f"mode {mode!r} gives hashes of many lengths; give image_scale, as image_scale=256")
            side = wavelet_side(hash_size, scale, mode)
        self.hash_size = hash_size
        self.image_scale = image_scale
        self.mode = mode
        self.remove_max_haar_ll = remove_max_haar_ll
        self.hash_length = side * side

    def _bits(self, planes: Planes) -> Bits:
        gray = shared_luma(planes)
        scale = wavelet_scale(gray.size, self.hash_size, self.image_scale)
        return wavelet_bits(gray, self.hash_size, scale, self.mode, self.remove_max_haar_ll)


class ImageHashColor(_ImageHashVariant):
    """ImageHash's colorhash: 14 values of `binbits` bits."""

    def __init__(self, binbits: int = 3) -> None:
        check_binbits(binbits)
        self.binbits = binbits
        self.hash_length = _VALUES * binbits

    def _bits(self, planes: Planes) -> Bits:
        return color_bits(Image.fromarray(planes.rgb), self.binbits)
