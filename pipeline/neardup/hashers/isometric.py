"""The eight isometric variants (flips and quarter turns) of an image, a square of bits and a DCT block.

Every dictionary of variants has the keys of `VARIANTS`, in that order. `fv` turns the rows upside down, `fh` mirrors
the columns, `r90` is a quarter turn counter-clockwise, and `r90fv` and `r90fh` are `fv` and `fh` of that.
"""

from collections.abc import Callable

import numpy as np

from neardup.errors import UsageError
from neardup.hashers.encoding import Vector

# Each variant is a look at the original through strides: whether to transpose, then the steps over rows and columns.
_VIEWS: dict[str, tuple[bool, int, int]] = {
    "r0": (False, 1, 1),
    "fv": (False, -1, 1),
    "fh": (False, 1, -1),
    "r180": (False, -1, -1),
    "r90": (True, -1, 1),
    "r90fv": (True, 1, 1),
    "r90fh": (True, -1, -1),
    "r270": (True, 1, -1),
}
VARIANTS: tuple[str, ...] = tuple(_VIEWS)


def isometric_view(array: Vector, variant: str) -> Vector:
    """One variant of an array of shape (H, W) or (H, W, C), as a view."""
    transposed, rows, columns = _VIEWS[variant]
    upright = np.swapaxes(array, 0, 1) if transposed else array
    return upright[::rows, ::columns]


def isometric_arrays(array: Vector) -> dict[str, Vector]:
    """All eight variants of an array, each contiguous."""
    return {variant: np.ascontiguousarray(isometric_view(array, variant)) for variant in VARIANTS}


def isometric_dct(dct: Vector, frequency_offset: int = 0) -> dict[str, Vector]:
    """The DCT-II blocks of the eight variants of an image, from the block of the image itself.

    Mirroring an image negates its odd frequencies; transposing it transposes them. `frequency_offset` is the frequency
    of the first row and column of the block. Raises `UsageError` for a negative offset.
    """
    if frequency_offset < 0:
        raise UsageError(f"frequency_offset {frequency_offset} is negative; it counts the frequencies left out, from 0")
    blocks = {}
    for variant, (transposed, rows, columns) in _VIEWS.items():
        block = dct.T if transposed else dct
        row_signs = _signs(block.shape[0], frequency_offset) if rows < 0 else np.ones(block.shape[0])
        column_signs = _signs(block.shape[1], frequency_offset) if columns < 0 else np.ones(block.shape[1])
        blocks[variant] = (block * row_signs[:, None] * column_signs[None, :]).astype(dct.dtype)
    return blocks


def isometric_bits(
    bits: Vector, square: Callable[[Vector], Vector], flat: Callable[[Vector], Vector]
) -> dict[str, Vector]:
    """Eight variants of a hash whose bits stand for a square of positions, laid out by `square` and `flat`."""
    return {variant: flat(isometric_view(square(bits), variant)) for variant in VARIANTS}


def _signs(n: int, frequency_offset: int) -> Vector:
    return np.where((np.arange(n) + frequency_offset) % 2, -1.0, 1.0)
