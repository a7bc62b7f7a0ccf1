"""The orientation tag in every way it is written."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neardup.media.exif import read_orientation, turn_upright


def block(order: str, type_code: int = 3, value: int = 6, tag: int = 0x0112) -> bytes:
    """A directory of two entries; the orientation is the second."""
    packed = {1: "B3x", 3: "H2x", 4: "I"}.get(type_code, "I")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 2)
    return (
        head
        + struct.pack(order + "HHII", 0x0100, 4, 1, 77)
        + struct.pack(order + "HHI" + packed, tag, type_code, 1, value)
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("type_code", [1, 3, 4])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_both_byte_orders_and_all_integer_types(order: str, type_code: int, prefix: bytes) -> None:
    for value in range(1, 9):
        assert read_orientation(prefix + block(order, type_code, value)) == value


@pytest.mark.parametrize(
    "damaged",
    [b"", b"Exif\0\0", b"II*\0", b"junk" * 9, block("<")[:-12], block("<", value=0), block("<", value=9)],
)
def test_no_orientation_is_upright(damaged: bytes) -> None:
    assert read_orientation(damaged) == 1


def test_other_tags_and_types_are_no_orientation() -> None:
    assert read_orientation(block("<", tag=0x0113)) == 1
    assert read_orientation(block("<", type_code=5)) == 1


@given(st.binary(max_size=60), st.sampled_from([b"", b"II*\0", b"MM\0*", b"Exif\0\0II*\0"]))
def test_any_bytes_have_an_orientation(noise: bytes, head: bytes) -> None:
    assert 1 <= read_orientation(head + noise) <= 8


# EXIF 2.3: where the visual top-left corner and the corner to its right lie in the stored picture [[1, 2], [3, 4]].
CORNERS = {1: (1, 2), 2: (2, 1), 3: (4, 3), 4: (3, 4), 5: (1, 3), 6: (3, 1), 7: (4, 2), 8: (2, 4)}


@pytest.mark.parametrize("orientation", CORNERS)
def test_turning_upright(orientation: int) -> None:
    stored = np.uint8([[1, 1, 2], [3, 3, 4]])[:, :, None].repeat(3, axis=2)
    stored.flags.writeable = False
    upright = turn_upright(stored, orientation)
    assert (upright[0, 0, 0], upright[0, -1, 0]) == CORNERS[orientation]
    assert upright.flags.c_contiguous
    assert upright.shape == ((2, 3, 3) if orientation < 5 else (3, 2, 3))
