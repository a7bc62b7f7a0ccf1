"""EXIF orientation, read straight from the bytes so that every container is turned upright the same way."""

import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_BYTE_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION_TAG: Final = 0x0112
_INTEGER_TYPES: Final = {1: "B", 3: "H", 4: "I"}

# EXIF 2.3, tag 0x0112: how the stored rows and columns lie; each entry turns them upright.
_UPRIGHT: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}


def read_orientation(exif: bytes) -> int:
    """The orientation 1..8 that an EXIF block states; 1 (upright) where it states none or is damaged."""
    block = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(block[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, type_code = struct.unpack_from(order + "HH", block, entry)
            if tag == _ORIENTATION_TAG and type_code in _INTEGER_TYPES:
                (value,) = struct.unpack_from(order + _INTEGER_TYPES[type_code], block, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels as a viewer shows them, C-contiguous."""
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
