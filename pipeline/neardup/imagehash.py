"""The ImageHash library's interface: the same names and parameters, the same hashes, whichever Pillow is installed.

    from neardup import imagehash

    full, part = imagehash.crop_resistant_hash("full.jpg"), imagehash.crop_resistant_hash("part.jpg")
    full.matches(part)  # is a segment of one near a segment of the other?

An image is a Pillow image, which is taken as it is (as the reference does), or anything `hashers.tools.read` reads: a
path, URL, bytes or file object, which is turned upright and laid on white, or an array. What differs from ImageHash
4.3.2 on purpose is listed in docs/compatibility.md. The algorithms are in `neardup.hashers`.
"""

import math
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from neardup.errors import UsageError
from neardup.hashers import cropresistant, imagehash_variants
from neardup.hashers.imagehash_variants import Bits, check_factor, check_size, luma
from neardup.hashers.reading import ImageInput, read

__all__ = [
    "ImageHash",
    "ImageMultiHash",
    "IncomparableError",
    "average_hash",
    "colorhash",
    "crop_resistant_hash",
    "dhash",
    "dhash_vertical",
    "hex_to_flathash",
    "hex_to_hash",
    "hex_to_multihash",
    "old_hex_to_hash",
    "phash",
    "phash_simple",
    "whash",
]

# Share of differing bits up to which two segments are near, where the caller states no other.
DEFAULT_BIT_ERROR_RATE = 0.25


class IncomparableError(UsageError, TypeError):
    """Two hashes have different numbers of bits, so they have no distance."""


class ImageHash:
    """One hash: an array of bits in `hash`, any shape, first bit most significant in the hex form `str` gives."""

    def __init__(self, binary_array: npt.ArrayLike) -> None:
        self.hash: Bits = np.asarray(binary_array, dtype=np.bool_)

    def __str__(self) -> str:
        bits = self.hash.ravel()
        padded = np.concatenate([np.zeros(-bits.size % 8, np.bool_), bits])
        return np.packbits(padded).tobytes().hex()[-_digits(bits.size) :] if bits.size else ""

    def __repr__(self) -> str:
        return repr(self.hash)

    def __len__(self) -> int:
        return int(self.hash.size)

    def __sub__(self, other: "ImageHash") -> int:
        """The number of differing bits. Raises `IncomparableError` where the numbers of bits differ."""
        if not isinstance(other, ImageHash):
            return NotImplemented
        if self.hash.size != other.hash.size:
            raise IncomparableError(
                f"hashes of shapes {self.hash.shape} and {other.hash.shape} cannot be compared; "
                "make both with the same function and parameters"
            )
        return int(np.count_nonzero(self.hash.ravel() != other.hash.ravel()))

    def __eq__(self, other: object) -> bool:
        """Are all bits equal? Shapes do not matter."""
        return isinstance(other, ImageHash) and np.array_equal(self.hash.ravel(), other.hash.ravel())

    def __hash__(self) -> int:
        return hash((self.hash.size, np.packbits(self.hash).tobytes()))


class ImageMultiHash:
    """The hashes of an image's segments, in `segment_hashes`.

    Comparisons start from the left one's segments, so `a - b` and `b - a` differ; `a.distance(b)` is symmetric.
    """

    def __init__(self, hashes: Iterable[ImageHash]) -> None:
        self.segment_hashes: list[ImageHash] = list(hashes)

    def __str__(self) -> str:
        return ",".join(str(segment) for segment in self.segment_hashes)

    def __repr__(self) -> str:
        return repr(self.segment_hashes)

    def __eq__(self, other: object) -> bool:
        """Does `matches` hold? One near pair of segments suffices: symmetric, but not transitive."""
        return isinstance(other, ImageMultiHash) and self.matches(other)

    def __hash__(self) -> int:
        """Equal for equal segments only, so a dict or set finds exact copies, not all that `==` finds equal."""
        return hash(tuple(self.segment_hashes))

    def __sub__(
        self, other: "ImageMultiHash", hamming_cutoff: float | None = None, bit_error_rate: float | None = None
    ) -> float:
        """How many of this hash's segments are missing in the other, plus the mean error of those found: 0 is best.

        The greatest value is the number of this hash's segments. Raises `UsageError` where it has none.
        """
        if not isinstance(other, ImageMultiHash):
            return NotImplemented
        return self._difference(other, hamming_cutoff, bit_error_rate)

    def hash_diff(
        self, other_hash: "ImageMultiHash", hamming_cutoff: float | None = None, bit_error_rate: float | None = None
    ) -> tuple[int, int]:
        """How many of this hash's segments have a near one in the other, and the sum of their distances in bits.

        Near is at most `hamming_cutoff` bits or, without it, the share `bit_error_rate` of the bits (0.25). Raises
        `IncomparableError` where no segments of the two have the same number of bits.
        """
        near = self._near(other_hash, hamming_cutoff, bit_error_rate)
        return len(near), sum(distance for distance, _ in near)

    def matches(
        self,
        other_hash: "ImageMultiHash",
        region_cutoff: int = 1,
        hamming_cutoff: float | None = None,
        bit_error_rate: float | None = None,
    ) -> bool:
        """Have at least `region_cutoff` of this hash's segments a near one in the other?"""
        return self.hash_diff(other_hash, hamming_cutoff, bit_error_rate)[0] >= region_cutoff

    def best_match(
        self,
        other_hashes: Iterable["ImageMultiHash"],
        hamming_cutoff: float | None = None,
        bit_error_rate: float | None = None,
    ) -> "ImageMultiHash":
        """The one of the others with the smallest `self - other`, the first of equals, even where nothing is near."""
        others = list(other_hashes)
        if not others:
            raise UsageError("best_match needs at least one other multi-hash")
        return min(others, key=lambda other: self._difference(other, hamming_cutoff, bit_error_rate))

    def distance(
        self, other: "ImageMultiHash", hamming_cutoff: float | None = None, bit_error_rate: float | None = None
    ) -> float:
        """The mean of both directions' differences as shares of their segments, 0 to 1: symmetric."""
        there = self._difference(other, hamming_cutoff, bit_error_rate) / len(self.segment_hashes)
        back = other._difference(self, hamming_cutoff, bit_error_rate) / len(other.segment_hashes)
        return (there + back) / 2

    def _difference(self, other: "ImageMultiHash", hamming_cutoff: float | None, bit_error_rate: float | None) -> float:
        if not self.segment_hashes:
            raise UsageError("a multi-hash without segments has no distance to others")
        near = self._near(other, hamming_cutoff, bit_error_rate)
        if not near:
            return len(self.segment_hashes)
        whole = math.lcm(*(length for _, length in near))
        error = sum(distance * (whole // length) for distance, length in near) / (len(near) * whole)
        return len(self.segment_hashes) - (len(near) - error)

    def _near(
        self, other: "ImageMultiHash", hamming_cutoff: float | None, bit_error_rate: float | None
    ) -> list[tuple[int, int]]:
        """The distance and the number of bits of each segment that has a near one; those of other lengths are far."""
        if not isinstance(other, ImageMultiHash):
            raise IncomparableError(f"a multi-hash cannot be compared with {type(other).__name__}")
        rate = DEFAULT_BIT_ERROR_RATE if bit_error_rate is None else bit_error_rate
        ours, theirs = _by_length(self.segment_hashes), _by_length(other.segment_hashes)
        if ours and theirs and not ours.keys() & theirs.keys():
            raise IncomparableError(
                f"segment hashes of {_lengths(ours)} bits and of {_lengths(theirs)} bits cannot be compared; "
                "make both with the same function and parameters"
            )
        near: list[tuple[int, int]] = []
        for length in ours.keys() & theirs.keys():
            cutoff = length * rate if hamming_cutoff is None else hamming_cutoff
            differing = np.bitwise_count(ours[length][:, None] ^ theirs[length][None]).sum(axis=2, dtype=np.int64)
            near += [(distance, length) for distance in differing.min(axis=1).tolist() if distance <= cutoff]
        return near


# --- hashes of images ---------------------------------------------------------------------------------------------


def average_hash(image: ImageInput, hash_size: int = 8, mean: Callable[[Any], Any] = np.mean) -> ImageHash:
    """Is each of hash_size x hash_size pixels brighter than `mean` of them? (Krawetz 2011)"""
    check_size(hash_size, "average_hash")
    return ImageHash(imagehash_variants.average_bits(luma(_picture(image)), hash_size, mean))


def phash(image: ImageInput, hash_size: int = 8, highfreq_factor: int = 4) -> ImageHash:
    """Is each of hash_size x hash_size low frequencies above their median? (Krawetz 2011, after Zauner 2010)"""
    check_size(hash_size, "phash")
    check_factor(highfreq_factor)
    return ImageHash(imagehash_variants.dct_bits(luma(_picture(image)), hash_size, highfreq_factor))


def phash_simple(image: ImageInput, hash_size: int = 8, highfreq_factor: int = 4) -> ImageHash:
    """Is each low frequency along the first hash_size rows above their mean?"""
    check_size(hash_size, "phash_simple", 1)
    check_factor(highfreq_factor, 2 if hash_size == 1 else 1)
    return ImageHash(imagehash_variants.row_dct_bits(luma(_picture(image)), hash_size, highfreq_factor))


def dhash(image: ImageInput, hash_size: int = 8) -> ImageHash:
    """Is each of hash_size x hash_size pixels brighter than its left neighbour? (Krawetz 2013)"""
    check_size(hash_size, "dhash")
    return ImageHash(imagehash_variants.difference_bits(luma(_picture(image)), hash_size))


def dhash_vertical(image: ImageInput, hash_size: int = 8) -> ImageHash:
    """Is each of hash_size x hash_size pixels brighter than the one above?"""
    check_size(hash_size, "dhash_vertical", 1)
    return ImageHash(imagehash_variants.vertical_difference_bits(luma(_picture(image)), hash_size))


def whash(
    image: ImageInput,
    hash_size: int = 8,
    image_scale: int | None = None,
    mode: str = "haar",
    remove_max_haar_ll: bool = True,
) -> ImageHash:
    """Is each coarse wavelet approximation above their median?

    hash_size x hash_size bits with Haar wavelets; with others, such as "db4", more, and how many depends on the size of
    the image unless `image_scale` (a power of two) is given.
    """
    imagehash_variants.check_wavelet(mode)
    gray = luma(_picture(image))
    scale = imagehash_variants.wavelet_scale(gray.size, hash_size, image_scale)
    return ImageHash(imagehash_variants.wavelet_bits(gray, hash_size, scale, mode, remove_max_haar_ll))


def colorhash(image: ImageInput, binbits: int = 3) -> ImageHash:
    """How much of an image is black, gray, and of six faint and six bright hues: shape (14, binbits)."""
    return ImageHash(imagehash_variants.color_bits(_picture(image), binbits))


def crop_resistant_hash(
    image: ImageInput,
    hash_func: Callable[[Image.Image], ImageHash] = dhash,
    limit_segments: int | None = None,
    segment_threshold: float = 128,
    min_segment_size: float = 500,
    segmentation_image_size: int = 300,
) -> ImageMultiHash:
    """The `hash_func` of each bright and dark segment's box, so that a crop shares hashes with the whole image.

    The segments are those of the image at segmentation_image_size x segmentation_image_size pixels (both images of a
    comparison need the same): connected, brighter than `segment_threshold` or not, of more than `min_segment_size` of
    these pixels; with `limit_segments` the largest so many, in order of size. An image without segments is hashed
    whole. After Steinebach, Liu and Yannikos (ARES 2014).
    """
    settings = cropresistant.Segmentation(limit_segments, segment_threshold, min_segment_size, segmentation_image_size)
    picture = _picture(image)
    gray = luma(picture)
    source = gray if hash_func in _ON_LUMA else picture
    return ImageMultiHash([hash_func(source.crop(box)) for box in cropresistant.segment_boxes(gray, settings)])


# Functions that look at an image's luma only, which is then computed once for all of its segments.
_ON_LUMA = frozenset({average_hash, phash, phash_simple, dhash, dhash_vertical, whash})


def _picture(image: ImageInput) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray) and image.ndim == 2 and image.dtype == np.uint8:
        return Image.fromarray(image)
    return Image.fromarray(read(image))


# --- hashes from text ---------------------------------------------------------------------------------------------


def hex_to_hash(hexstr: str, shape: Sequence[int] | None = None) -> ImageHash:
    """The hash that `str` made the text of: a square one or, with `shape`, any, such as (14, 3) of a colorhash.

    Raises `UsageError` for a text of no square hash.
    """
    if shape is None:
        side = math.isqrt(4 * len(hexstr))
        if not hexstr or _digits(side * side) != len(hexstr):
            raise UsageError(
                f"{_shortened(hexstr)} has {len(hexstr)} hex digits, which is no square hash; "
                "give shape=, such as shape=(14, 3) for a colorhash, or use hex_to_flathash"
            )
        shape = (side, side)
    elif _digits(math.prod(shape)) != len(hexstr):
        raise UsageError(f"{_shortened(hexstr)} has {len(hexstr)} hex digits; shape {tuple(shape)} is another size")
    return ImageHash(_bits(hexstr, math.prod(shape)).reshape(tuple(shape)))


def hex_to_flathash(hexstr: str, hashsize: int) -> ImageHash:
    """A hash of one row from its text: as many whole multiples of `hashsize` bits as its digits hold.

    For a colorhash, `hashsize` is 14 * binbits.
    """
    if hashsize < 1 or hashsize > 4 * len(hexstr):
        raise UsageError(f"{_shortened(hexstr)} holds no hash of {hashsize} bits")
    return ImageHash(_bits(hexstr, 4 * len(hexstr) // hashsize * hashsize)[None])


def hex_to_multihash(hexstr: str, shape: Sequence[int] | None = None) -> ImageMultiHash:
    """The multi-hash that `str` made the text of; `shape` is that of each segment's hash where it is not square."""
    return ImageMultiHash([hex_to_hash(segment, shape) for segment in hexstr.split(",")] if hexstr else [])


def old_hex_to_hash(hexstr: str, hash_size: int = 8) -> ImageHash:
    """A hash from its text as ImageHash wrote it before version 4: bytes, least significant bit first."""
    count = hash_size * (hash_size // 4)
    if len(hexstr) != count:
        raise UsageError(f"{_shortened(hexstr)} has {len(hexstr)} hex digits; hash_size {hash_size} has {count}")
    raw = np.packbits(_bits(hexstr[: count // 2 * 2], count // 2 * 8))
    return ImageHash(np.unpackbits(raw, bitorder="little").reshape(-1, 8))


def _digits(bits: int) -> int:
    return -(-bits // 4)


def _bits(hexstr: str, length: int) -> Bits:
    """The last `length` bits of a hex text; those before must be zero."""
    if not set(hexstr) <= set(string.hexdigits):
        raise UsageError(f"{_shortened(hexstr)} is not a hex text")
    bits = np.unpackbits(np.frombuffer(bytes.fromhex("0" * (len(hexstr) % 2) + hexstr), np.uint8)).astype(np.bool_)
    padding = bits.size - length
    if bits[:padding].any():
        raise UsageError(f"{_shortened(hexstr)} is more than {length} bits: it is a hash of another shape")
    return bits[padding:]


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


# --- comparing segments -------------------------------------------------------------------------------------------


def _by_length(hashes: list[ImageHash]) -> dict[int, npt.NDArray[np.uint8]]:
    """The packed hashes of each number of bits."""
    packed: dict[int, list[npt.NDArray[np.uint8]]] = {}
    for one in hashes:
        packed.setdefault(one.hash.size, []).append(np.packbits(one.hash))
    return {length: np.stack(rows) for length, rows in packed.items()}


def _lengths(by_length: dict[int, npt.NDArray[np.uint8]]) -> str:
    return ", ".join(str(length) for length in sorted(by_length))


# --- segments as sets of pixels -----------------------------------------------------------------------------------


def _find_region(
    remaining_pixels: npt.NDArray[np.bool_], segmented_pixels: set[tuple[int, int]]
) -> set[tuple[int, int]]:
    """The (row, column) pairs of the connected region around the first of the remaining pixels, row by row.

    Pixels of `segmented_pixels` bound it; the region's own are added to them, unless it is a single pixel (as in
    ImageHash). Empty where no pixel remains.
    """
    free = np.array(remaining_pixels, dtype=np.bool_)
    if not free.any():
        return set()
    start = int(np.argmax(free))
    rows, columns = free.shape
    for row, column in segmented_pixels:
        if 0 <= row < rows and 0 <= column < columns:
            free[row, column] = False
    free.flat[start] = True
    # The start is the first free pixel, so its region is the first.
    found = cropresistant.find_segments(free, 0.5, 0)[0].pixels()
    if len(found) > 1:
        segmented_pixels |= found
    return found


def _find_all_segments(
    pixels: npt.NDArray[Any], segment_threshold: float, min_segment_size: float
) -> list[set[tuple[int, int]]]:
    """The (row, column) pairs of each segment: the bright ones, then the dark ones; see `cropresistant`."""
    return [segment.pixels() for segment in cropresistant.find_segments(pixels, segment_threshold, min_segment_size)]
