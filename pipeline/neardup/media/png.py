"""PNG's chunks: the picture without what merely accompanies it (W3C PNG, 3rd edition).

Text, profiles and animation frames can be damaged, or unpack to gigabytes, while the picture is whole.
"""

import struct
import zlib
from typing import Final, NamedTuple

from neardup.errors import UndecodableError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_END: Final = b"\0\0\0\0IEND\xae\x42\x60\x82"


class Png(NamedTuple):
    """A PNG that holds the picture alone, and what was read from the other chunks."""

    picture: bytes
    exif: bytes
    frame_count: int
    warning: str | None


def read_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that IHDR announces, or None without one."""
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def read_picture(data: bytes) -> Png:
    """The chunks that make the picture. Raises UndecodableError where one of them is cut off."""
    picture, exif, frames, warning = [SIGNATURE], b"", 0, "no IEND chunk"
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunk = data[position : position + 12 + length]
        if len(chunk) < 12 + length:
            break
        if kind in _PICTURE:
            picture.append(chunk)
        elif kind == b"eXIf":
            exif = chunk[8:-4]
        elif kind == b"fcTL":
            frames += 1
        elif kind == b"IEND":
            warning = ""
            break
        position += len(chunk)
    if warning and data[position + 4 : position + 8] in _PICTURE:
        raise UndecodableError(f"truncated PNG: the picture is not complete after {len(data):,} bytes")
    if any(_is_damaged(chunk) for chunk in picture[1:] if chunk[4:8] == b"IDAT"):
        warning = "wrong checksum of the picture data"
    return Png(b"".join([*picture, _END]), exif, max(1, frames), warning or None)


def _is_damaged(chunk: bytes) -> bool:
    return zlib.crc32(memoryview(chunk)[4:-4]) != int.from_bytes(chunk[-4:])
