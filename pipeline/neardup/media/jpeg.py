"""JPEG through libjpeg-turbo: accurate integer IDCT and fancy upsampling, as Pillow and OpenCV decode by default."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg

from neardup.errors import UndecodableError

Values = npt.NDArray[np.uint8]

_END: Final = b"\xff\xd9"
_START_OF_SCAN: Final = 0xDA
_APP1: Final = 0xE1
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xDA)})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# libjpeg-turbo calls these warnings and fills what is missing with flat grey.
_DATA_MISSING: Final = ("Premature end of JPEG file", "premature end of data segment")


class JpegHeader(NamedTuple):
    """What libjpeg-turbo says of the file."""

    width: int
    height: int
    colorspace: str


class Jpeg(NamedTuple):
    """RGB pixels as stored (not turned), the EXIF block, and what libjpeg-turbo complained about."""

    pixels: npt.NDArray[np.uint8]
    exif: bytes
    warning: str | None


class _Layout(NamedTuple):
    """What stands before the first scan."""

    exif: bytes
    scan: int  # offset of the first scan's marker, or the length of the data
    one_scan: bool  # sequential, every component in the first scan


def read_header(data: bytes) -> JpegHeader | None:
    """Size and colour space, or None where libjpeg-turbo's simple interface does not take the file."""
    try:
        height, width, colorspace, _subsampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return JpegHeader(width, height, colorspace)


def decode(data: bytes, header: JpegHeader) -> Jpeg:
    """The picture of a greyscale, YCbCr, RGB, CMYK or YCCK JPEG.

    Raises UndecodableError where picture data is missing, ValueError where libjpeg-turbo gives up.
    """
    layout = _layout(data)
    space = "CMYK" if header.colorspace in ("CMYK", "YCCK") else "RGB"
    values, warning = _decode_values(data, space, layout)
    return Jpeg(_rgb_from_cmyk(values) if space == "CMYK" else values, layout.exif, warning)


def _decode_values(data: bytes, space: str, layout: _Layout) -> tuple[Values, str | None]:
    try:
        return simplejpeg.decode_jpeg(data, space), None
    except ValueError as exc:
        warning = str(exc)
    if data.find(_END, layout.scan) < 0:
        return _complete_without_end(data, space, layout), "no end-of-image marker"
    if any(text in warning for text in _DATA_MISSING):
        raise UndecodableError(f"damaged JPEG of {len(data):,} bytes: {warning}")
    return simplejpeg.decode_jpeg(data, space, strict=False), warning


def _complete_without_end(data: bytes, space: str, layout: _Layout) -> Values:
    """The picture where only the end marker is missing: with it, libjpeg-turbo has nothing left to complain about."""
    if layout.one_scan:
        try:
            return simplejpeg.decode_jpeg(data + _END, space)  # type: ignore[no-any-return]
        except ValueError:
            pass
    raise UndecodableError(f"truncated JPEG: the picture is not complete after {len(data):,} bytes")


def _rgb_from_cmyk(cmyk: Values) -> Values:
    """Colour times black: the light each ink leaves, as Adobe stores it (assumed always, as Pillow and OpenCV do)."""
    product = cmyk[:, :, :3] * cmyk[:, :, 3:].astype(np.uint16)
    product += 127
    product //= 255
    return product.astype(np.uint8)


def _layout(data: bytes) -> _Layout:
    exif, components, progressive = b"", -1, False
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == 0x00 or marker in _STANDALONE:
            position += 2
        elif marker == _START_OF_SCAN:
            scanned = data[position + 4] if position + 4 < len(data) else 0
            return _Layout(exif, position, not progressive and scanned == components)
        else:
            body = data[position + 4 : position + 2 + int.from_bytes(data[position + 2 : position + 4])]
            if marker == _APP1 and not exif and body.startswith(b"Exif\0\0"):
                exif = body
            elif marker in _FRAMES and len(body) > 5:
                components, progressive = body[5], marker in _PROGRESSIVE
            position += 4 + len(body)
    return _Layout(exif, len(data), False)
