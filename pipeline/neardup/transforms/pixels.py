"""What every transform takes and gives: one array of RGB pixels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from neardup.errors import UsageError

Pixels = npt.NDArray[np.uint8]
"""Shape (height, width, 3), uint8, RGB."""


def check_pixels(image: Any) -> Pixels:
    """The array itself, where it is a picture; else `UsageError`."""
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or not image.size or dtype != np.uint8:
        found = type(image).__name__ if shape is None else f"shape {shape} and type {dtype}"
        raise UsageError(f"a picture is an array of shape (height, width, 3) and type uint8, not {found}")
    pixels: Pixels = image
    return pixels


def as_pixels(array: Any) -> Pixels:
    """What a library gave back, as contiguous uint8."""
    return np.ascontiguousarray(array, dtype=np.uint8)


def rounded(values: npt.NDArray[Any]) -> Pixels:
    """Real values to the nearest of 0 to 255."""
    return as_pixels(np.clip(np.rint(values), 0, 255))


def part(length: int, fraction: float) -> int:
    """A fraction of a length in whole pixels."""
    return round(length * fraction)


def scaled(length: int, factor: float) -> int:
    """A length times a factor in whole pixels, at least one."""
    return max(1, round(length * factor))
