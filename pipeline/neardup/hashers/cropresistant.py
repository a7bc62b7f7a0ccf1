"""The crop-resistant hash: an image is cut into bright and dark segments, and each segment's box is hashed.

After Steinebach, Liu and Yannikos, Efficient Cropping-Resistant Robust Image Hashing (ARES 2014), in the form that
ImageHash 4.3.2 gave it. The segments are the connected components of the thresholded image, so nothing has to grow
pixel by pixel.
"""

from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import ImageHasher, Vectors
from neardup.hashers.encoding import Vector
from neardup.hashers.imagehash_variants import check_size, difference_bits, lanczos, shared_luma
from neardup.hashers.planes import Planes

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom exclusive
_Integers = npt.NDArray[np.int32]
_Indexes = npt.NDArray[np.int64]

# One of the three passes along an axis that make up Pillow's Gaussian blur of radius 2: a box of 3.75 pixels, weights
# 3 8 8 8 3 over 30, rounded to 8 bits. Pillow's own weights are integers over 2^24, which shows where a value lies half
# way between two levels: it is rounded up where the two outer pixels are brighter than the three inner ones. The small
# offsets do the same (half way, they sum up to at least 5; elsewhere a value stays _STEP - 3 * 510 away from half way).
# All sums are integers below 2^24, thus exact in float32.
_STEP = 2187
_BOX = np.array([3 * _STEP + 3, 8 * _STEP - 2, 8 * _STEP - 2, 8 * _STEP - 2, 3 * _STEP + 3], np.float32)


class Segmentation(NamedTuple):
    """How an image is cut into segments; the names and defaults are those of ImageHash's crop_resistant_hash."""

    limit_segments: int | None = None
    segment_threshold: float = 128
    min_segment_size: float = 500
    segmentation_image_size: int = 300

    def checked(self) -> Self:
        """Itself. Raises `UsageError` for a size that no image can have."""
        if self.segmentation_image_size < 1:
            raise UsageError(f"segmentation_image_size {self.segmentation_image_size} is too small; it is at least 1")
        return self


class Segment(NamedTuple):
    """One connected region: its pixels are those of `labels` that equal `label`; its box is inclusive."""

    labels: _Integers
    label: int
    area: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def pixels(self) -> set[tuple[int, int]]:
        """The (row, column) of every pixel."""
        top, left = self.rows[0], self.columns[0]
        box = self.labels[top : self.rows[1] + 1, left : self.columns[1] + 1]
        rows, columns = np.nonzero(box == self.label)
        return set(zip((rows + top).tolist(), (columns + left).tolist(), strict=True))


class _Regions(NamedTuple):
    """Connected regions in the order of their first pixels: where each is in `labels`, its area and its box."""

    labels: _Integers
    label: _Indexes
    areas: _Indexes
    rows: _Indexes
    columns: _Indexes

    def segments(self, chosen: npt.NDArray[np.bool_]) -> list[Segment]:
        return [
            Segment(self.labels, int(self.label[k]), int(self.areas[k]), _pair(self.rows[k]), _pair(self.columns[k]))
            for k in np.flatnonzero(chosen)
        ]


def find_segments(pixels: npt.NDArray[Any], threshold: float, min_size: float) -> list[Segment]:
    """The 4-connected regions of more than `min_size` pixels: those above the threshold first, then the others.

    Either kind comes in the order of its first pixel, row by row. As in ImageHash, which these lists must equal, the
    search ends early: it counts the pixels that it has seen, but starts with those around the image as if they were
    some of it, and does not count regions of one pixel. Thus the last dark regions of an image may be missing.
    """
    if not pixels.size:
        return []
    bright = pixels > threshold
    hills, valleys = _regions(bright), _regions(~bright)
    seen = 2 * sum(bright.shape) + _counted(hills).sum()
    seen_before = seen + np.cumsum(_counted(valleys)) - _counted(valleys)
    reached = seen_before < bright.size
    return [
        *hills.segments(hills.areas > min_size),
        *valleys.segments((valleys.areas > min_size) & reached),
    ]


def _counted(regions: _Regions) -> npt.NDArray[np.int64]:
    return np.where(regions.areas > 1, regions.areas, 0)


def _regions(mask: npt.NDArray[np.bool_]) -> _Regions:
    """The 4-connected regions of a mask, whatever order OpenCV numbers them in.

    Areas and boxes come from the runs of each row, of which there are few: OpenCV's own statistics take four times as
    long as its labels.
    """
    count, found = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    labels = np.asarray(found, dtype=np.int32)
    bordered = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    bordered[:, 1:-1] = mask
    steps = np.diff(bordered, axis=1)
    row, start = np.divmod(np.flatnonzero(steps == 1), steps.shape[1])
    stop = np.flatnonzero(steps == -1) % steps.shape[1]
    label = labels[row, start] - 1
    first = np.full(count - 1, row.size)
    np.minimum.at(first, label, np.arange(row.size))
    areas, bottom, right = np.zeros((3, count - 1), np.int64)
    np.add.at(areas, label, stop - start)
    np.maximum.at(bottom, label, row)
    np.maximum.at(right, label, stop - 1)
    left = np.full(count - 1, mask.shape[1])
    np.minimum.at(left, label, start)
    order = np.argsort(first)
    rows, columns = np.stack([row[first], bottom], axis=1), np.stack([left, right], axis=1)
    return _Regions(labels, order + 1, areas[order], rows[order], columns[order])


def _pair(numbers: _Indexes) -> tuple[int, int]:
    return int(numbers[0]), int(numbers[1])


def segmentation_plane(gray: Image.Image, size: int) -> Pixels:
    """What is cut into segments: size x size, blurred (Gaussian, radius 2), then the median of 3 x 3."""
    return np.asarray(cv2.medianBlur(gaussian_blur(lanczos(gray, size, size)), 3), dtype=np.uint8)


def gaussian_blur(plane: Pixels) -> Pixels:
    """Pillow's Gaussian blur of radius 2, bit for bit: three box filters along the rows, then along the columns."""
    for kernel in (*(_BOX[None],) * 3, *(_BOX[:, None],) * 3):
        sums = cv2.filter2D(plane, cv2.CV_32F, kernel, delta=15 * _STEP, borderType=cv2.BORDER_REPLICATE)
        plane = (sums * np.float32(1 / (30 * _STEP))).astype(np.uint8)
    return plane


def segment_boxes(gray: Image.Image, settings: Segmentation) -> list[Box]:
    """The boxes of an image's segments in its own pixels; the whole image where it has no segment.

    `gray` is in mode L. A box that rounds to no pixel, as in images smaller than the segmentation, is left out.
    """
    size = settings.checked().segmentation_image_size
    plane = segmentation_plane(gray, size)
    scale_x, scale_y = gray.width / size, gray.height / size
    sized: list[tuple[int, Box]] = []
    for segment in find_segments(plane, settings.segment_threshold, settings.min_segment_size):
        left, right = round(segment.columns[0] * scale_x), round((segment.columns[1] + 1) * scale_x)
        top, bottom = round(segment.rows[0] * scale_y), round((segment.rows[1] + 1) * scale_y)
        if left < right and top < bottom:
            sized.append((segment.area, (left, top, right, bottom)))
    if settings.limit_segments:
        sized = sorted(sized, key=lambda item: -item[0])[: settings.limit_segments]
    return [box for _, box in sized] or [(0, 0, gray.width, gray.height)]


class CropResistantHash(ImageHasher):
    """The dhash of each segment of an image: several hashes of hash_size x hash_size bits.

    Two images show parts of one picture where some of their hashes are near. The other parameters are those of
    ImageHash's crop_resistant_hash, and so are the hashes and their order.
    """

    dtype = "bool"
    distance_metric = "hamming"
    returns_multiple = True

    def __init__(
        self,
        hash_size: int = 8,
        limit_segments: int | None = None,
        segment_threshold: int = 128,
        min_segment_size: int = 500,
        segmentation_image_size: int = 300,
    ) -> None:
        check_size(hash_size, "CropResistantHash")
        Segmentation(segmentation_image_size=segmentation_image_size).checked()
        self.hash_size = hash_size
        self.limit_segments = limit_segments
        self.segment_threshold = segment_threshold
        self.min_segment_size = min_segment_size
        self.segmentation_image_size = segmentation_image_size
        self.hash_length = hash_size * hash_size

    def hash_planes(self, planes: Planes) -> tuple[Vectors, int]:
        """The hashes and the quality of an image whose derived planes are shared with other hashers."""
        return self._hashes(planes), planes.quality

    def _compute(self, image: Pixels) -> Vectors:
        return self._hashes(Planes(image))

    def _hashes(self, planes: Planes) -> list[Vector]:
        gray = shared_luma(planes)
        settings = Segmentation(
            self.limit_segments, self.segment_threshold, self.min_segment_size, self.segmentation_image_size
        )
        return [difference_bits(gray.crop(box), self.hash_size).ravel() for box in segment_boxes(gray, settings)]
