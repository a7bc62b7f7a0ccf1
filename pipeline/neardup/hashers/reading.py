"""One array of RGB pixels for an image, however it is given: path, URL, bytes, file object, PIL image or array.

Files, URLs, buffers and bytes go through `neardup.media.decode_image`, so that one image has one hash.
"""

import hashlib
import io
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from neardup import media
from neardup.errors import MissingError, PolicyError, TransientError, UndecodableError, UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.planes import check_rgb

# Anything `read` takes: str, Path, bytes, a file object, a PIL image, or an array. PIL is not imported here.
ImageInput = Any

MAX_DOWNLOAD_BYTES = 256 * 1024 * 1024
DEFAULT_TIMEOUT_S = 60.0


def read(filepath_or_buffer: ImageInput, timeout: float | None = None) -> Pixels:
    """The RGB pixels, shape (H, W, 3), uint8, of an image in any form.

    A string with `http://` or `https://` is fetched (at most `MAX_DOWNLOAD_BYTES`, `timeout` seconds per wait), any
    other string is a path. Raises `MissingError` (a `FileNotFoundError`), `UndecodableError` (a `ValueError`),
    `PolicyError`, `TransientError`, and `UsageError` for a type that cannot be an image.
    """
    if isinstance(filepath_or_buffer, np.ndarray):
        return check_rgb(filepath_or_buffer)
    if hasattr(filepath_or_buffer, "getexif") and hasattr(filepath_or_buffer, "convert"):
        return _pil_pixels(filepath_or_buffer)
    return media.decode_image(read_bytes(filepath_or_buffer, timeout)).pixels


def to_image_array(image: ImageInput, require_color: bool = True) -> npt.NDArray[Any]:
    """The array that is hashed: an array given is checked and made contiguous, anything else is read.

    `require_color=False` lets arrays of any shape pass.
    """
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(check_rgb(image) if require_color else image)
    return np.ascontiguousarray(read(image))


def read_bytes(source: ImageInput, timeout: float | None = None) -> bytes:
    """The encoded bytes behind a path, an http(s) URL, a file object or bytes."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if isinstance(source, str) and urlsplit(source).scheme.lower() in ("http", "https"):
            return _fetch(source, DEFAULT_TIMEOUT_S if timeout is None else timeout)
        return _file_bytes(Path(os.fsdecode(text)))
    if hasattr(source, "read"):
        return _stream_bytes(source)
    raise UsageError(
        f"Unhandled filepath_or_buffer type: {type(source).__name__}; "
        "give a path, a URL, bytes, a file object, a PIL image or an array"
    )


def compute_md5(filepath: str | Path) -> str:
    """The MD5 of a file's bytes, lower-case hex."""
    try:
        with open(filepath, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (FileNotFoundError, IsADirectoryError) as exc:
        raise MissingError(f"Could not find file at path: {filepath}") from exc


def _pil_pixels(image: Any) -> Pixels:
    """Through an exact PNG, which keeps orientation, palette and depth for the one decoder there is."""
    buffer = io.BytesIO()
    exif = image.getexif()
    plain = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else image.convert("RGB")
    plain.save(buffer, format="PNG", exif=exif, compress_level=0)
    return media.decode_image(buffer.getvalue()).pixels


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as exc:
        raise MissingError(f"Could not find image at path: {path}") from exc
    except PermissionError as exc:
        raise MissingError(f"Could not read image at path: {path} ({exc.strerror})") from exc
    except OSError as exc:
        raise TransientError(f"Could not read image at path: {path} ({exc})") from exc


def _stream_bytes(stream: IO[Any]) -> bytes:
    data = stream.read()
    if not isinstance(data, (bytes, bytearray)):
        raise UsageError(f"a file object must give bytes, not {type(data).__name__}; open it in binary mode")
    return bytes(data)


def _fetch(url: str, timeout_s: float) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "neardup"})
    try:
        with _opener().open(request, timeout=timeout_s) as response:
            data = cast("bytes", response.read(MAX_DOWNLOAD_BYTES + 1))
    except urllib.error.HTTPError as exc:
        kind = MissingError if 400 <= exc.code < 500 and exc.code not in (408, 429) else TransientError
        raise kind(f"Could not fetch {url}: HTTP status {exc.code}") from exc
    except (OSError, urllib.error.URLError) as exc:
        raise TransientError(f"Could not fetch {url}: {exc}") from exc
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise PolicyError(f"{url} is larger than {MAX_DOWNLOAD_BYTES} bytes")
    if not data:
        raise UndecodableError(f"{url} gave no bytes")
    return data


def _opener() -> urllib.request.OpenerDirector:
    """Only http and https, redirects included: a server must not send us to a local file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
