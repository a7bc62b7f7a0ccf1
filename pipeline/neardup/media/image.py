"""Image bytes to RGB pixels, the same pixels however the bytes arrived.

Orientation (EXIF) is always applied, transparency is laid on white, 16 bits keep their high byte, CMYK is converted.
Embedded colour profiles (ICC) are ignored, as the reference implementations do. Of an animation, the first frame.

Pillow's own settings stay as they are: `PIL.Image.MAX_IMAGE_PIXELS` is not used (the limit is checked here, on the
header), `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` must stay False. Two things are shared with the rest of the process:
warnings are silenced while an image is decoded, and the logger "PIL" has a handler that drops what nobody listens to.
"""

import io
import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from neardup.errors import PolicyError, UndecodableError, UsageError
from neardup.media import gif, jpeg, png
from neardup.media.exif import read_orientation, turn_upright

try:  # Pillow before 11.2
    from PIL.AvifImagePlugin import AvifImageFile
except ImportError:
    AvifImageFile = None  # type: ignore[assignment, misc]

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its complaints become errors or warnings of the item

DECODER_REVISION: Final = 1
"""Goes up whenever a decoded pixel may change."""

FORMATS: Final[dict[str, type[ImageFile] | None]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
    "JPEG2000": Jpeg2KImageFile,
}
"""What is read. Only formats with a signature: a damaged file of another kind opens as a TGA of 828 megapixels."""

_SIGNATURES: Final = {
    b"\xff\xd8\xff": "JPEG",
    png.SIGNATURE: "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_AVIF_BRANDS: Final = (b"avif", b"avis")

# What the decoders raise on damaged input; MemoryError is none of them: the child process turns it into a poison row.
_FOREIGN: Final = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    SystemError,
    EOFError,
    AssertionError,
    BufferError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class DecodePolicy:
    """What may be chosen about decoding.

    `alpha`: "white" lays transparent pixels on white, "drop" keeps the colour they hide, as the reference does.
    `max_pixels`: larger images are refused before they are decoded.
    """

    alpha: Literal["white", "drop"] = "white"
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if self.alpha not in ("white", "drop"):
            raise UsageError(f"unknown alpha policy {self.alpha!r}; choose 'white' or 'drop'")
        if self.max_pixels < 1:
            raise UsageError(f"max_pixels is {self.max_pixels}; it must be at least 1")

    @property
    def spec(self) -> str:
        """Canonical text of everything that can change a decoded pixel."""
        return f"alpha={self.alpha};decoder={DECODER_REVISION}"


class Header(NamedTuple):
    """What the first bytes announce; width and height as stored, before the orientation is applied."""

    format: str
    width: int
    height: int


class Image(NamedTuple):
    """A decoded image: uint8 RGB of shape (height, width, 3), C-contiguous, upright."""

    pixels: npt.NDArray[np.uint8]
    format: str
    frame_count: int
    partial: bool
    warning: str | None


def probe_image(data: bytes | memoryview) -> Header:
    """Format and size from the header, without decoding. Raises UndecodableError."""
    data = bytes(data)
    name = format_of(data)
    with decoding(name, data, DecodePolicy()):
        if name == "JPEG" and (found := jpeg.read_header(data)):
            return Header(name, found.width, found.height)
        if size := _announced_size(name, data):
            return Header(name, *size)
        with open_image(name, data) as opened:
            return Header(name, *opened.size)


def decode_image(data: bytes | memoryview, policy: DecodePolicy = DecodePolicy()) -> Image:
    """The image that `data` encodes, or its first frame.

    Raises UndecodableError where the bytes are not a whole image of a known format, PolicyError where the header
    announces more than `policy.max_pixels`. MemoryError passes.
    """
    data = bytes(data)
    name = format_of(data)
    with decoding(name, data, policy):
        if name == "JPEG" and (header := jpeg.read_header(data)):
            check_pixels(header.width, header.height, policy)
            pixels, exif, warning = jpeg.decode(data, header)
            return Image(turn_upright(pixels, read_orientation(exif)), name, 1, warning is not None, warning)
        if size := _announced_size(name, data):
            check_pixels(*size, policy)
        return _decode_with_pillow(name, data, policy)


def _decode_with_pillow(name: str, data: bytes, policy: DecodePolicy) -> Image:
    chunks = png.read_picture(data) if name == "PNG" else None
    with open_image(name, chunks.picture if chunks else data) as opened:
        check_pixels(*opened.size, policy)
        _match_transparency_depth(opened)
        opened.load()
        pixels = to_rgb(opened, policy)
        if chunks:
            exif, frame_count, warning = chunks.exif, chunks.frame_count, chunks.warning
        else:
            exif = opened.info.get("exif", b"")  # a TIFF has none here: Pillow turned it upright while it loaded
            frame_count, warning = gif.read_frames(data) if name == "GIF" else _count_frames(opened)
    return Image(turn_upright(pixels, read_orientation(exif)), name, max(1, frame_count), warning is not None, warning)


def to_rgb(opened: PIL.Image.Image, policy: DecodePolicy) -> npt.NDArray[np.uint8]:
    """Any of Pillow's modes as RGB."""
    if opened.mode.startswith("I;16"):
        return _rgb_from_grey16(opened, policy)
    if opened.mode in ("I", "F"):
        return _replicated(_stretched(np.asarray(opened)))
    if policy.alpha == "white" and opened.has_transparency_data:
        rgba = opened.convert("RGBA")
        white = PIL.Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba)
        return np.array(white)
    return np.array(opened if opened.mode == "RGB" else opened.convert("RGB"))


def _rgb_from_grey16(opened: PIL.Image.Image, policy: DecodePolicy) -> npt.NDArray[np.uint8]:
    """The high byte: exact for 8 bits widened by 257 or by 256, and what OpenCV and Pillow do to 16-bit colour."""
    values = np.asarray(opened)
    grey = (values >> 8).astype(np.uint8)
    transparent = opened.info.get("transparency")
    if policy.alpha == "white" and isinstance(transparent, int):
        grey[values == transparent] = 255
    return _replicated(grey)


def _stretched(values: npt.NDArray[np.int32] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """32-bit integers and floats have no agreed white: the smallest finite value is black, the largest white."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = (float(bound(values[finite])) for bound in (np.min, np.max))
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled = (np.where(finite, values, low).astype(np.float64) - low) * scale
    return np.rint(scaled).astype(np.uint8)


def _replicated(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _match_transparency_depth(opened: ImageFile) -> None:
    """Pillow keeps the high byte of 16-bit colour but all 16 bits of its transparent colour."""
    transparent = opened.info.get("transparency")
    if isinstance(transparent, tuple) and any(value > 255 for value in transparent):
        opened.info["transparency"] = tuple(value >> 8 for value in transparent)


def _count_frames(opened: ImageFile) -> tuple[int, str | None]:
    """How many frames there are, and what is wrong with those behind the first."""
    try:
        return int(getattr(opened, "n_frames", 1)), None
    except _FOREIGN as exc:
        return opened.tell(), f"damaged after the first frame: {_one_line(exc)}"


def check_pixels(width: int, height: int, policy: DecodePolicy) -> None:
    """Raises PolicyError for more pixels than the policy allows."""
    if width * height > policy.max_pixels:
        raise _too_large(width * height, policy)


def _too_large(announced: int, policy: DecodePolicy) -> PolicyError:
    size, limit = (f"{pixels / 1e6:,.9g}" for pixels in (announced, policy.max_pixels))
    return PolicyError(f"{size} megapixels is over the limit of {limit} (--max-pixels)")


def format_of(data: bytes) -> str:
    """The format by the first bytes. Raises UndecodableError."""
    if not data:
        raise UndecodableError("not an image: it is empty")
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4]), 256)]
        if any(brands[at : at + 4] in _AVIF_BRANDS for at in range(0, len(brands), 4)):
            return "AVIF"
    raise UndecodableError(f"not an image of a known format: starts with {data[:12]!r}")


def _announced_size(name: str, data: bytes) -> tuple[int, int] | None:
    """Width and height, where they must be known before Pillow opens the file."""
    if name == "PNG":
        return png.read_size(data)
    return _webp_size(data) if name == "WEBP" else None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """The canvas, which Pillow allocates on opening (RFC 9649)."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None


@contextmanager
def open_image(name: str, data: bytes) -> Iterator[ImageFile]:
    """Pillow's reader of this one format: `PIL.Image.open` would try others and apply its own limit first."""
    reader = FORMATS[name]
    if reader is None:
        raise UndecodableError(f"{name} needs Pillow 11.2 or newer")
    with reader(io.BytesIO(data)) as opened:
        yield opened


@contextmanager
def decoding(name: str, data: bytes, policy: DecodePolicy) -> Iterator[None]:
    """Silences Pillow and turns whatever a decoder raises into one clear line."""
    try:
        with _quiet():
            yield
    except (UndecodableError, PolicyError):
        raise
    except PIL.Image.DecompressionBombError as exc:  # a GIF's first frame may exceed its announced canvas
        raise _bomb(exc, policy) from exc
    except _FOREIGN as exc:
        text = _one_line(exc)
        problem = "truncated" if "truncated" in text.lower() else "damaged"
        raise UndecodableError(f"{problem} {name} of {len(data):,} bytes: {text}") from exc


def _bomb(exc: PIL.Image.DecompressionBombError, policy: DecodePolicy) -> PolicyError:
    announced = next((int(word) for word in re.findall(r"\d+", str(exc))), 0)
    if announced > policy.max_pixels:
        return _too_large(announced, policy)
    return PolicyError(f"over Pillow's own limit (PIL.Image.MAX_IMAGE_PIXELS): {_one_line(exc)}")


def _one_line(exc: BaseException) -> str:
    text = " ".join(str(exc).split())[:200]
    return text if isinstance(exc, OSError | ValueError | SyntaxError) and text else f"{type(exc).__name__} {text}"


_quiet_lock = threading.Lock()
_quiet_threads = 0
_quiet_stack = ExitStack()


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings while any thread decodes. The filters are the whole process's: first in and last out set them."""
    global _quiet_threads
    with _quiet_lock:
        if _quiet_threads == 0:
            _quiet_stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _quiet_threads += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_threads -= 1
            if _quiet_threads == 0:
                _quiet_stack.close()
