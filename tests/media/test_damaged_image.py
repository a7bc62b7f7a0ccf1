"""Hostile and damaged bytes: an error of the tree, or the picture; nothing else."""

import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.WebPImagePlugin
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from media_samples import HEIGHT, WIDTH, encoded, exif, photo, pil, png_chunk, png_with
from PIL.PngImagePlugin import PngImageFile, PngInfo

from neardup.errors import MediaError, PolicyError, UndecodableError
from neardup.media import DecodePolicy, decode_image, probe_image
from neardup.media.image import _quiet

PAGES = {"save_all": True, "append_images": [pil(seed=1)]}
FILES = {
    "jpeg": encoded(pil(), "JPEG"),
    "jpeg-exif": encoded(pil(), "JPEG", exif=exif(6)),
    "jpeg-grey": encoded(pil("L"), "JPEG"),
    "jpeg-progressive": encoded(pil(), "JPEG", progressive=True),
    "jpeg-restarts": encoded(pil(), "JPEG", restart_marker_blocks=1),
    "jpeg-cmyk": encoded(pil("CMYK"), "JPEG"),
    "png": encoded(pil(), "PNG", exif=exif(6)),
    "png-alpha": encoded(pil("RGBA"), "PNG"),
    "png-palette": encoded(pil().quantize(64), "PNG", transparency=3),
    "png-animated": encoded(pil(), "PNG", **PAGES),
    "webp": encoded(pil(), "WEBP"),
    "webp-lossless": encoded(pil("RGBA"), "WEBP", lossless=True, exif=exif(3)),
    "webp-animated": encoded(pil(), "WEBP", **PAGES),
    "gif": encoded(pil().quantize(64), "GIF"),
    "gif-animated": encoded(pil().quantize(64), "GIF", save_all=True, append_images=[pil(seed=1).quantize(64)]),
    "bmp": encoded(pil(), "BMP"),
    "tiff": encoded(pil(), "TIFF", exif=exif(8)),
    "tiff-lzw": encoded(pil(), "TIFF", compression="tiff_lzw"),
    "tiff-pages": encoded(pil(), "TIFF", **PAGES),
    "jp2": encoded(pil(), "JPEG2000"),
}
ENTROPY_CODED = [name for name in FILES if name.startswith("jpeg")]


# --- cut off


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_an_error_or_the_whole_picture(name: str) -> None:
    data = FILES[name]
    whole = decode_image(data).pixels
    cuts = {*range(1, len(data), max(1, len(data) // 80)), *range(len(data) - 24, len(data))}
    failed = 0
    for cut in sorted(cuts):
        try:
            image = decode_image(data[:cut])
        except UndecodableError as exc:
            failed += 1
            assert "\n" not in str(exc)
        else:
            assert np.array_equal(image.pixels, whole), cut
            assert image.partial == (image.warning is not None)
            assert image.frame_count >= 1
    assert failed > len(cuts) // 4


@pytest.mark.parametrize("name", ENTROPY_CODED)
def test_a_jpeg_cut_in_its_picture_is_truncated(name: str) -> None:
    data = FILES[name]
    scan = data.index(b"\xff\xda")
    for cut in range(scan + 16, len(data) - 10, 37):
        with pytest.raises(UndecodableError, match=f"truncated JPEG: the picture is not complete after {cut:,} bytes"):
            decode_image(data[:cut])


@pytest.mark.parametrize("name", ["jpeg", "jpeg-exif", "jpeg-grey", "jpeg-restarts", "jpeg-cmyk"])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_partial(name: str, missing: int) -> None:
    image = decode_image(FILES[name][:-missing])
    assert np.array_equal(image.pixels, decode_image(FILES[name]).pixels)
    assert (image.partial, image.warning) == (True, "no end-of-image marker")


def test_a_progressive_jpeg_without_its_end_may_lack_detail() -> None:
    with pytest.raises(UndecodableError, match="truncated"):
        decode_image(FILES["jpeg-progressive"][:-2])


@pytest.mark.parametrize("name", ["jpeg", "jpeg-grey", "jpeg-cmyk", "jpeg-progressive"])
def test_an_end_marker_behind_half_a_picture_does_not_make_it_whole(name: str) -> None:
    data = FILES[name]
    scan = data.index(b"\xff\xda") if name != "jpeg-progressive" else data.rindex(b"\xff\xda")
    with pytest.raises(UndecodableError, match="premature end of data segment"):
        decode_image(data[: (scan + len(data)) // 2] + b"\xff\xd9")


def test_a_thumbnails_end_marker_is_not_the_pictures() -> None:
    comment = b"\xff\xfe\0\x04\xff\xd9"
    data = FILES["jpeg"]
    with pytest.raises(UndecodableError, match="truncated"):
        decode_image(data[:2] + comment + data[2:-40])


def test_junk_before_the_end_of_a_jpeg_is_harmless() -> None:
    data = FILES["jpeg"]
    image = decode_image(data[:-2] + b"\x12\x34\x56" * 9 + data[-2:])
    assert np.array_equal(image.pixels, decode_image(data).pixels)
    assert image.partial
    assert image.warning is not None and "extraneous bytes" in image.warning


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "bmp", "webp"])
def test_junk_behind_the_picture_is_nothing(name: str) -> None:
    image = decode_image(FILES[name] + b"junk\xff\xd9" * 9)
    assert np.array_equal(image.pixels, decode_image(FILES[name]).pixels)
    assert not image.partial


def test_an_animation_cut_behind_its_first_frame_is_partial() -> None:
    for name in ("gif-animated", "png-animated"):
        image = decode_image(FILES[name][:-300])
        assert (image.frame_count, image.partial) == (1, True) or name == "png-animated"
        assert image.warning
        assert np.array_equal(image.pixels, decode_image(FILES[name]).pixels)


def test_a_damaged_second_page_does_not_harm_the_first() -> None:
    tiff = bytearray(FILES["tiff-pages"])
    struct.pack_into("<I", tiff, next_directory(FILES["tiff-pages"]), len(tiff) + 999)
    image = decode_image(bytes(tiff))
    assert np.array_equal(image.pixels, photo())
    assert (image.frame_count, image.partial) == (1, True)
    assert image.warning is not None and image.warning.startswith("damaged after the first frame: ")


def next_directory(tiff: bytes) -> int:
    """Where the first page says where the second is."""
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (entries,) = struct.unpack_from("<H", tiff, directory)
    return int(directory + 2 + 12 * entries)


# --- PNG's chunks


def test_a_png_that_lacks_its_end_is_partial() -> None:
    data = FILES["png"]
    image = decode_image(data[: data.index(b"IEND") - 4])
    assert (image.partial, image.warning) == (True, "no IEND chunk")
    assert np.array_equal(image.pixels, decode_image(data).pixels)


def test_a_png_with_a_wrong_checksum_is_partial() -> None:
    data = bytearray(FILES["png"])
    at = data.index(b"IEND") - 5
    data[at] ^= 1
    image = decode_image(bytes(data))
    assert (image.partial, image.warning) == (True, "wrong checksum of the picture data")


def test_what_accompanies_a_png_cannot_harm_it() -> None:
    plain = encoded(pil(), "PNG")
    huge = zlib.compress(bytes(80_000_000))
    for chunk in (
        png_chunk(b"zTXt", b"key\0\0" + huge),
        png_chunk(b"iCCP", b"name\0\0" + huge),
        png_chunk(b"iCCP", b"name\0\x07not zlib"),
        png_chunk(b"acTL", b"\0"),
        png_chunk(b"acTL", struct.pack(">II", 0, 0)),
        png_chunk(b"pHYs", b"")[:-1] + b"?",
    ):
        image = decode_image(png_with(plain, chunk))
        assert np.array_equal(image.pixels, photo())
        assert (image.frame_count, image.partial) == (1, False)


# --- header bombs


def bomb_png() -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 900_000, 900_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


def bomb_jpeg() -> bytes:
    data = bytearray(FILES["jpeg"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def bomb_gif() -> bytes:
    data = bytearray(FILES["gif"])
    data[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(data)


def bomb_gif_frame() -> bytes:
    data = bytearray(FILES["gif"])
    frame = data.index(b"\x2c\0\0\0\0" + struct.pack("<HH", WIDTH, HEIGHT))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 65_535, 65_535)
    return bytes(data)


def bomb_webp() -> bytes:
    data = bytearray(FILES["webp-animated"])
    data[24:30] = (12_000).to_bytes(3, "little") * 2  # not so large that Pillow itself would refuse
    return bytes(data)


def bomb_webp_lossless() -> bytes:
    data = bytearray(encoded(pil(), "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", 16_383 | 16_383 << 14)
    return bytes(data)


def bomb_webp_lossy() -> bytes:
    data = bytearray(FILES["webp"])
    data[26:30] = struct.pack("<HH", 16_383, 16_383)
    return bytes(data)


def bomb_bmp() -> bytes:
    data = bytearray(FILES["bmp"])
    data[18:26] = struct.pack("<ii", 40_000, 40_000)
    return bytes(data)


def bomb_tiff() -> bytes:
    return encoded(pil(), "TIFF").replace(
        struct.pack("<HHIHH", 256, 4, 1, WIDTH, 0), struct.pack("<HHII", 256, 4, 1, 4_000_000)
    )


def bomb_jp2() -> bytes:
    data = bytearray(FILES["jp2"])
    box = data.index(b"ihdr") + 4
    data[box : box + 8] = struct.pack(">II", 65_000, 65_000)
    return bytes(data)


BOMBS = [value for name, value in sorted(globals().items()) if name.startswith("bomb_")]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_header_bomb_is_refused_before_it_is_decoded(
    bomb: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bomb()

    def decoding(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decoding)
    monkeypatch.setattr(PIL.Image.core, "new", decoding)
    monkeypatch.setattr(PIL.WebPImagePlugin, "_webp", None)  # it allocates the canvas on opening
    with pytest.raises(PolicyError, match=r"[\d,]+ megapixels is over the limit of 100 \(--max-pixels\)") as caught:
        decode_image(data)
    assert caught.value.error_class == "policy"


def test_the_message_says_how_large_it_is() -> None:
    with pytest.raises(PolicyError, match=r"^4,225 megapixels is over the limit of 100 \(--max-pixels\)$"):
        decode_image(bomb_jpeg())


def test_a_cut_bomb_is_still_a_bomb() -> None:
    with pytest.raises(PolicyError, match="810,000 megapixels"):
        decode_image(bomb_png()[:60])


@pytest.mark.parametrize("name", FILES)
def test_the_limit_is_inclusive(name: str) -> None:
    assert decode_image(FILES[name], DecodePolicy(max_pixels=WIDTH * HEIGHT)).pixels.size == WIDTH * HEIGHT * 3
    with pytest.raises(PolicyError):
        decode_image(FILES[name], DecodePolicy(max_pixels=WIDTH * HEIGHT - 1))


def test_the_limit_is_ours_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT - 1)  # Pillow would warn
    for name in FILES:
        decode_image(FILES[name])


# --- no image at all


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an image: it is empty"),
        (b"<html>not found</html>", "not an image of a known format: starts with b'<html>not fo'"),
        (b"\0\0\2\0\0\0\0\0\0\0\0\0\x10\0\x10\0\x18\0" + bytes(768), "known format"),  # a TGA has no signature
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "known format"),
        (b"P6 1 1 255 abc", "known format"),
        (b"BM", "damaged BMP|truncated BMP"),
        (b"BMW is a car maker, and this is text", "BMP"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\xff\xd8\xff\xd9", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF89a", "GIF"),
        (b"II*\0", "TIFF"),
        (b"RIFF\0\0\0\0WEBP", "WEBP"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    ],
)
def test_what_is_no_image_is_undecodable(data: bytes, message: str) -> None:
    for read in (decode_image, probe_image):
        with pytest.raises(UndecodableError, match=message) as caught:
            read(data)
        assert caught.value.error_class == "permanent"


# --- everything else that may arrive


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12))
def test_damaged_bytes_give_an_image_or_a_media_error(name: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(FILES[name])
    for where, value in changes:
        data[int(where**2 * (len(data) - 1))] = value  # more often near the head, where structure is
    try:
        image = decode_image(bytes(data), DecodePolicy(max_pixels=4_000_000))
    except MediaError as exc:
        assert str(exc) and "\n" not in str(exc)
    else:
        assert image.pixels.dtype == np.uint8 and image.pixels.ndim == 3
        assert image.partial == (image.warning is not None)
        assert image.frame_count >= 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([data[:12] for data in FILES.values()]), st.binary(max_size=300))
def test_noise_behind_a_signature_is_an_error(signature: bytes, noise: bytes) -> None:
    with pytest.raises(MediaError):
        decode_image(signature + noise, DecodePolicy(max_pixels=4_000_000))


@pytest.mark.parametrize(
    "foreign",
    [
        OSError("a\nb"),
        ValueError("x"),
        SyntaxError("x"),
        TypeError("x"),
        NotImplementedError("x"),
        KeyError("x"),
        IndexError("x"),
        OverflowError("x"),
        ZeroDivisionError("x"),
        AttributeError("x"),
        RecursionError("x"),
        SystemError("x"),
        EOFError("x"),
        AssertionError(""),
        struct.error("x"),
        zlib.error("x"),
    ],
    ids=lambda foreign: type(foreign).__name__,
)
def test_foreign_exceptions_are_translated(foreign: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: object) -> None:
        raise foreign

    monkeypatch.setattr(PngImageFile, "load", load)
    with pytest.raises(UndecodableError, match=r"damaged PNG of [\d,]+ bytes: \S") as caught:
        decode_image(FILES["png"])
    assert caught.value.__cause__ is foreign
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_running_out_of_memory_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", exhausted)
    monkeypatch.setattr(PngImageFile, "load", exhausted)
    with pytest.raises(MemoryError):
        decode_image(FILES[name])


# --- noise and state


def test_pillows_warnings_do_not_leak() -> None:
    tiff = FILES["tiff-pages"]
    broken = bytearray(tiff)
    struct.pack_into("<I", broken, next_directory(tiff), len(tiff) + 999)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for data in (bytes(broken), tiff[:-3]):
            try:
                decode_image(data)
            except UndecodableError:
                continue
    assert [str(warning.message) for warning in seen] == []


def test_warnings_stay_silent_until_the_last_thread_is_done() -> None:
    before = list(warnings.filters)
    first, second = _quiet(), _quiet()
    with first:
        second.__enter__()
    warnings.warn("an error in these tests, were it not silenced", stacklevel=1)
    second.__exit__(None, None, None)
    assert warnings.filters == before


def test_warning_filters_are_as_before() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=decode_image, args=(FILES[name],)) for name in FILES for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(UndecodableError):
        decode_image(b"GIF89a")
    assert warnings.filters == before


def test_damaged_files_make_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    for name, data in FILES.items():
        if not name.startswith("tiff"):  # libtiff inside Pillow writes to stderr, and cannot be told not to
            with pytest.raises(UndecodableError):
                decode_image(data[: len(data) // 3])
    assert capfd.readouterr() == ("", "")


def test_pillows_settings_stay_as_they_are() -> None:
    before = (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES)
    decode_image(encoded(pil(), "PNG", pnginfo=PngInfo()))
    assert before == (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES)
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("PIL").handlers)
