"""One array for an image, however it is given."""

import hashlib
import http.server
import io
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hasher_samples import photo_path

from neardup import errors
from neardup.hashers import PHash, reading, tools


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """A photo that EXIF says is to be turned."""
    path = tmp_path / "turned é #1%20.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    with PIL.Image.open(photo_path("image1.jpg")) as photo:
        photo.save(path, quality=95, exif=exif)
    return path


class _Files(http.server.BaseHTTPRequestHandler):
    data = b""

    def do_GET(self) -> None:
        if self.path == "/photo.jpg":
            self._answer(200, self.data)
        elif self.path == "/redirect":
            self._answer(302, b"", Location="/photo.jpg")
        elif self.path == "/file":
            self._answer(302, b"", Location="file:///etc/hostname")
        elif self.path == "/busy":
            self._answer(503, b"")
        elif self.path == "/empty":
            self._answer(200, b"")
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(turned: Path) -> Iterator[str]:
    _Files.data = turned.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_one_image_has_one_array_however_it_arrives(turned: Path, server: str) -> None:
    data = turned.read_bytes()
    pixels = tools.read(turned)
    with PIL.Image.open(photo_path("image1.jpg")) as upright:
        assert pixels.shape == (upright.width, upright.height, 3)
    with (
        turned.open("rb") as file,
        PIL.Image.open(turned) as opened,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        spooled.write(data)
        spooled.seek(0)
        for source in (
            str(turned), data, bytearray(data), memoryview(data), io.BytesIO(data), file, spooled, opened, pixels,
            f"{server}/photo.jpg", f"{server}/redirect",
        ):  # fmt: skip
            np.testing.assert_array_equal(tools.read(source), pixels)
    with turned.open("rb") as file:
        assert PHash().compute(file) == PHash().compute(pixels) == PHash().compute(turned)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_pil_images_of_every_mode(mode: str) -> None:
    with PIL.Image.open(photo_path("image2.jpg")) as photo:
        rgb = photo.convert("RGB")
        image = rgb.convert(mode)
    pixels = tools.read(image)
    assert pixels.shape == (rgb.height, rgb.width, 3)
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(pixels, np.asarray(rgb))


@pytest.mark.parametrize("path", ["/no/such/photo.jpg", "", "photo\0.jpg"])
def test_a_missing_path_is_a_file_not_found_error(path: str) -> None:
    with pytest.raises(FileNotFoundError, match="Could not find image at path: ") as caught:
        tools.read(path)
    assert isinstance(caught.value, errors.MissingError)
    assert path in str(caught.value)


def test_failures_have_their_class(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.UndecodableError):
        tools.read(b"no image at all")
    with pytest.raises(errors.UndecodableError):
        tools.read(io.BytesIO())
    with pytest.raises(errors.MissingError, match="Could not find"):
        tools.read(tmp_path)
    with pytest.raises(errors.MissingError, match="404"):
        tools.read(f"{server}/nothing.jpg")
    with pytest.raises(errors.TransientError, match="503"):
        tools.read(f"{server}/busy")
    with pytest.raises(errors.UndecodableError, match="no bytes"):
        tools.read(f"{server}/empty")
    with pytest.raises(errors.MediaError):
        tools.read(f"{server}/file")
    with pytest.raises(errors.TransientError, match="Could not fetch"):
        tools.read("http://127.0.0.1:9/photo.jpg", timeout=2)
    monkeypatch.setattr(reading, "MAX_DOWNLOAD_BYTES", 100)
    with pytest.raises(errors.PolicyError, match="larger than 100 bytes"):
        tools.read(f"{server}/photo.jpg")


def test_other_schemes_are_paths() -> None:
    with pytest.raises(errors.MissingError):
        tools.read("file:///etc/hostname")


@pytest.mark.parametrize("source", [None, 7, io.StringIO("text"), ["photo.jpg"]])
def test_what_cannot_be_an_image_is_refused(source: object) -> None:
    with pytest.raises(errors.UsageError):
        tools.read(source)


def test_md5_of_a_file(tmp_path: Path) -> None:
    data = photo_path("image1.jpg").read_bytes()
    assert tools.compute_md5(photo_path("image1.jpg")) == hashlib.md5(data).hexdigest()
    assert tools.compute_md5(str(photo_path("image1.jpg"))) == "598b5a8149b892c8806287eda9e696f6"
    with pytest.raises(FileNotFoundError, match="Could not find"):
        tools.compute_md5(tmp_path / "missing")


def test_quality_of_a_grey_image_is_that_of_the_colours(turned: Path) -> None:
    pixels = tools.read(turned)
    gray = np.full((80, 70), 9, np.uint8)
    assert tools.compute_quality(gray) == tools.compute_quality(np.repeat(gray[..., None], 3, axis=2)) == 0
    assert tools.compute_quality(pixels) == 100
