"""What several hashers need of one image, each computed once.

Pixel semantics are those of OpenCV's 8-bit routines, which the reference implementation hashes with.
"""

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import cv2
import numpy as np

from neardup.errors import UsageError
from neardup.hashers.area import Means, Pixels, area_means, area_resize, is_worth_it, rounded_means

T = TypeVar("T")
Plane = Literal["rgb", "gray", "gray_swapped"]


class Planes:
    """One image, shape (H, W, 3), uint8, RGB, and its derived planes, computed when first asked for.

    The pixels may be read-only and are never written; so are the planes: who asks must not write into them.
    """

    def __init__(self, rgb: Pixels) -> None:
        self.rgb: Pixels = np.ascontiguousarray(check_rgb(rgb))
        self._remembered: dict[Hashable, Any] = {}

    @cached_property
    def gray(self) -> Pixels:
        """Rec. 601 luma in 15-bit fixed point."""
        return _pixels(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY))

    @cached_property
    def gray_swapped(self) -> Pixels:
        """The luma weights for red and blue exchanged: several reference hashers read RGB pixels as BGR."""
        return _pixels(cv2.cvtColor(self.rgb, cv2.COLOR_BGR2GRAY))

    @cached_property
    def quality(self) -> int:
        """How much detail the image has, 0 (flat) to 100; see `compute_quality`."""
        return gradient_quality(self.gray)

    def area(self, plane: Plane, width: int, height: int) -> Pixels:
        """A plane resized by averaging the area under each output pixel."""
        return self.remember((plane, width, height), lambda: self._area(plane, width, height))

    def area_means(self, plane: Plane, width: int, height: int) -> Means:
        """The exact means that `area` rounds, float64, for a size within the image's."""
        return self.remember(("means", plane, width, height), lambda: area_means(getattr(self, plane), width, height))

    def _area(self, plane: Plane, width: int, height: int) -> Pixels:
        pixels = getattr(self, plane)
        if not is_worth_it(pixels, width, height):
            return area_resize(pixels, width, height)
        return rounded_means(pixels, self.area_means(plane, width, height))

    def filtered_area(self, box: int, size: int) -> Pixels:
        """The grey plane after a box filter of box x box pixels, resized to size x size by area averaging."""
        return self.remember(("box", box, size), lambda: area_resize(box_filtered(self.gray, box), size, size))

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` returned when this key was first asked for."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        return cast("T", self._remembered[key])


def check_rgb(image: Pixels) -> Pixels:
    """The image itself, if its shape is (H, W, 3) and its type uint8; else `UsageError`."""
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(f"Provided images must be RGB images: shape (height, width, 3), not {image.shape}")
    if image.dtype != np.uint8:
        raise UsageError(f"Provided images must have 8 bits per channel (uint8), not {image.dtype}")
    return image


def box_filtered(gray: Pixels, size: int) -> Pixels:
    """The mean of size x size pixels around each, mirrored at the borders, rounded half up."""
    return _pixels(cv2.blur(gray, (size, size), borderType=cv2.BORDER_REFLECT_101))


def gradient_quality(gray: Pixels) -> int:
    """Sum of the steps between neighbours of the 64x64 image, in percent of the range, over 90; at most 100."""
    small = gray if gray.shape == (64, 64) else cv2.resize(gray, (64, 64), interpolation=cv2.INTER_LINEAR)
    levels = small.astype(np.int32)
    steps = sum(int((100 * np.abs(np.diff(levels, axis=axis)) // 255).sum()) for axis in (0, 1))
    return min(steps // 90, 100)


def _pixels(array: object) -> Pixels:
    return np.asarray(array, dtype=np.uint8)
