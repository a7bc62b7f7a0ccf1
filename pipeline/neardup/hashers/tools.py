"""The functions of the reference's `hashers.tools`: reading, encodings, quality and isometric transforms."""

import importlib
from typing import Any

from neardup.hashers.area import Pixels
from neardup.hashers.encoding import (
    Vector,
    b64_to_hex,
    get_string_length,
    hex_to_b64,
    string_to_vector,
    vector_to_string,
)
from neardup.hashers.isometric import isometric_arrays, isometric_dct
from neardup.hashers.letterbox import unletterbox, unletterbox_crop
from neardup.hashers.planes import Planes, gradient_quality
from neardup.hashers.reading import ImageInput, compute_md5, read, to_image_array

__all__ = [
    "ImageInput",
    "b64_to_hex",
    "compute_md5",
    "compute_quality",
    "get_isometric_dct_transforms",
    "get_isometric_transforms",
    "get_string_length",
    "hex_to_b64",
    "read",
    "string_to_vector",
    "to_image_array",
    "unletterbox",
    "unletterbox_crop",
    "vector_to_string",
]


def compute_quality(image: Pixels) -> int:
    """How much detail an image has, 0 (flat) to 100; shape (H, W, 3) or grey (H, W), uint8.

    The reference gives 0 for every image of exactly 64x64 pixels (its 8-bit arithmetic wraps); here such an image has
    the quality its pixels deserve.
    """
    return gradient_quality(image) if image.ndim == 2 else Planes(image).quality


def get_isometric_transforms(image: ImageInput, require_color: bool = True) -> dict[str, Vector]:
    """The eight flips and quarter turns of an image, each contiguous: r0, fv, fh, r180, r90, r90fv, r90fh, r270."""
    return isometric_arrays(to_image_array(image, require_color=require_color))


def get_isometric_dct_transforms(dct: Vector, frequency_offset: int = 0) -> dict[str, Vector]:
    """The DCT-II blocks of the eight variants of an image, from its own; see `isometric.isometric_dct`."""
    return isometric_dct(dct, frequency_offset)


_VIDEO = ("compute_synchronized_video_hashes", "get_common_framerates", "read_video")


def __getattr__(name: str) -> Any:
    """`SaferMatcher` under the name that the reference documents also use; its home, `neardup.tools`, lies above.

    And the functions for videos, which load the FFmpeg libraries on first use.
    """
    if name == "SaferMatcher":
        return importlib.import_module("neardup.tools").SaferMatcher
    if name in _VIDEO:
        return getattr(importlib.import_module("neardup.hashers.video"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
