"""Encoded images for the tests, made on the spot."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

WIDTH, HEIGHT = 61, 40


def photo(seed: int = 0) -> npt.NDArray[np.uint8]:
    """A smooth picture with an edge and some noise, different in every corner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [120 + 100 * np.sin(x / (9 + 3 * c) + y / (5 + c) + seed) for c in range(3)]
    picture = np.stack(planes, axis=2) + rng.normal(0, 4, (HEIGHT, WIDTH, 3))
    picture[:12, 40:, 0] = 250
    return picture.clip(0, 255).astype(np.uint8)


def pil(mode: str = "RGB", seed: int = 0) -> PIL.Image.Image:
    """The photo in one of Pillow's modes, with a slanting alpha where the mode has one."""
    image = PIL.Image.fromarray(photo(seed))
    if mode in ("RGBA", "LA"):
        image.putalpha(PIL.Image.fromarray(alpha()))
    return image if mode == image.mode else image.convert(mode)


def alpha() -> npt.NDArray[np.uint8]:
    """Opaque, half and fully transparent thirds."""
    return np.repeat(np.repeat(np.uint8([255, 100, 0]), [20, 20, 21])[None], HEIGHT, axis=0)


def encoded(image: PIL.Image.Image, form: str, **options: Any) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def exif(orientation: int) -> PIL.Image.Exif:
    """An EXIF block that holds an orientation."""
    block = PIL.Image.Exif()
    block[0x0112] = orientation
    return block


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(data: bytes, chunk: bytes, before: bytes = b"IDAT") -> bytes:
    """The PNG with one more chunk in front of the first chunk of a kind."""
    at = data.index(before) - 4
    return data[:at] + chunk + data[at:]
