"""Bars around a picture: where the picture itself lies."""

from collections import Counter

import cv2
import numpy as np

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.planes import Planes

Bounds = tuple[tuple[int, int], tuple[int, int]]


def unletterbox(
    image: Pixels,
    only_remove_black: bool = False,
    min_fraction_meaningful_pixels: float = 0.1,
    color_threshold: float = 2,
    min_side_length: int = 50,
    min_reduction: float = 0.02,
) -> Bounds | None:
    """Where the picture lies within its bars: ((left, right), (top, bottom)), right and bottom exclusive.

    Bars have the grey level that most corners share, or 0 with `only_remove_black`, give or take `color_threshold`;
    rows and columns with a larger share of other pixels than `min_fraction_meaningful_pixels` are picture. The whole
    image where there are no bars, or where they are less than `min_reduction` of both sides; None where nothing would
    be left, or less than `min_side_length` pixels. (As perception's `hashers.tools.unletterbox`.)
    """
    shares = {"min_fraction_meaningful_pixels": min_fraction_meaningful_pixels, "min_reduction": min_reduction}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UsageError(f"{name} is {share}; it is a share, 0 to 1")
    gray = Planes(image).gray if image.ndim == 3 else image
    height, width = gray.shape
    whole = ((0, width), (0, height))
    background = 0 if only_remove_black else _background(gray)
    if background is None:
        return whole
    is_content = cv2.absdiff(gray, np.full_like(gray, background)) > color_threshold
    if is_content.all():
        return whole
    columns = np.flatnonzero(is_content.sum(axis=0) > min_fraction_meaningful_pixels * height)
    rows = np.flatnonzero(is_content.sum(axis=1) > min_fraction_meaningful_pixels * width)
    if not len(columns) or not len(rows):
        return None
    (left, right), (top, bottom) = ((int(found[0]), int(found[-1]) + 1) for found in (columns, rows))
    if right - left > (1 - min_reduction) * width and bottom - top > (1 - min_reduction) * height:
        return whole
    if min(right - left, bottom - top) < min_side_length:
        return None
    return (left, right), (top, bottom)


def unletterbox_crop(image: Pixels, only_remove_black: bool = False) -> Pixels | None:
    """The picture without its bars, a contiguous array; None as `unletterbox` says."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is an array here, not a {type(image).__name__}")
    bounds = unletterbox(image, only_remove_black)
    if bounds is None:
        return None
    (left, right), (top, bottom) = bounds
    return np.ascontiguousarray(image[top:bottom, left:right])


def _background(gray: Pixels) -> int | None:
    """The level that most corners share, of two pairs the upper or left one; None where all differ."""
    (level, corners), *_ = Counter(gray[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()).most_common()
    return int(level) if corners > 1 else None
