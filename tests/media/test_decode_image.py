"""What comes out of each format, mode and orientation."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from media_samples import HEIGHT, WIDTH, alpha, encoded, exif, photo, pil, png_chunk, png_with

from neardup.errors import UndecodableError
from neardup.media import DECODER_REVISION, FORMATS, DecodePolicy, decode_image, jpeg, probe_image

DROP = DecodePolicy(alpha="drop")
AVIF = pytest.mark.skipif(FORMATS["AVIF"] is None, reason="this Pillow has no AVIF")

LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "webp": ("WEBP", {"lossless": True}),
    "jp2": ("JPEG2000", {}),
    "j2k": ("JPEG2000", {"no_jp2": True}),
}


def opencv_rgb(data: bytes) -> np.ndarray:
    """OpenCV's default reading: 8 bits, 3 channels, upright."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def near(left: np.ndarray, right: np.ndarray, by: int) -> bool:
    return left.shape == right.shape and int(np.abs(left.astype(int) - right).max()) <= by


# --- formats


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_back_the_pixels(name: str) -> None:
    form, options = LOSSLESS[name]
    image = decode_image(encoded(pil(), form, **options))
    assert np.array_equal(image.pixels, photo())
    assert image[1:] == (form, 1, False, None)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 30},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:1:1"},
        {"progressive": True},
        {"keep_rgb": True},
        {"restart_marker_blocks": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_equals_opencv_and_pillow(mode: str, options: dict[str, Any]) -> None:
    data = encoded(pil(mode), "JPEG", **options)
    image = decode_image(data)
    assert np.array_equal(image.pixels, opencv_rgb(data))
    assert np.array_equal(image.pixels, np.array(PIL.Image.open(io.BytesIO(data)).convert("RGB")))
    assert image[1:] == ("JPEG", 1, False, None)


def test_jpeg_that_the_fast_decoder_does_not_take_is_still_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(pil(), "JPEG", exif=exif(6))
    fast = decode_image(data)
    monkeypatch.setattr(jpeg, "read_header", lambda data: None)  # as of some rare sampling factors
    slow = decode_image(data)
    assert np.array_equal(slow.pixels, fast.pixels)
    assert slow[1:] == fast[1:]
    assert probe_image(data) == ("JPEG", WIDTH, HEIGHT)


@AVIF
def test_avif_is_near() -> None:
    image = decode_image(encoded(pil(), "AVIF", quality=100, subsampling="4:4:4"))
    assert near(image.pixels, photo(), 12)
    assert image.format == "AVIF"


def test_gif_and_lossy_webp_are_near() -> None:
    few = pil().quantize(32)
    assert np.array_equal(decode_image(encoded(few, "GIF")).pixels, np.array(few.convert("RGB")))
    lossy = encoded(pil(), "WEBP", quality=95)
    assert np.array_equal(decode_image(lossy).pixels, opencv_rgb(lossy))


def test_every_format_of_the_catalogue_is_tested_here() -> None:
    tested = {form for form, _ in LOSSLESS.values()} | {"JPEG", "GIF", "AVIF"}
    assert tested == set(FORMATS)


def test_multi_picture_jpeg_is_its_first_picture() -> None:
    both = encoded(pil(), "MPO", save_all=True, append_images=[pil(seed=5)])
    image = decode_image(both)
    assert (image.format, image.frame_count) == ("JPEG", 1)
    assert near(image.pixels, photo(), 60)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read_and_all_are_counted(form: str) -> None:
    frames = [pil(seed=seed).quantize(64) if form == "GIF" else pil(seed=seed) for seed in range(3)]
    options = {"lossless": True} if form == "WEBP" else {}
    image = decode_image(encoded(frames[0], form, save_all=True, append_images=frames[1:], **options))
    assert (image.frame_count, image.partial) == (3, False)
    assert np.array_equal(image.pixels, np.array(frames[0].convert("RGB")))


@AVIF
def test_avif_sequence_is_counted() -> None:
    data = encoded(pil(), "AVIF", save_all=True, append_images=[pil(seed=1)])
    assert decode_image(data).frame_count == 2


# --- the shape of what comes out


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000"])
@pytest.mark.parametrize("wrap", [bytes, memoryview, lambda data: memoryview(bytearray(data))])
def test_pixels_are_owned_contiguous_rgb_bytes(form: str, wrap: Any) -> None:
    pixels = decode_image(wrap(encoded(pil(), form))).pixels
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert pixels.flags.c_contiguous and pixels.flags.writeable


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 3)])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_tiny_images(form: str, size: tuple[int, int]) -> None:
    assert decode_image(encoded(PIL.Image.new("RGB", size, "red"), form)).pixels.shape == (size[1], size[0], 3)


def test_threads_decode_alike() -> None:
    files = [encoded(pil(seed=seed), form) for seed in range(4) for form in ("JPEG", "PNG", "WEBP", "TIFF")] * 4
    alone = [decode_image(data).pixels.tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert [image.pixels.tobytes() for image in pool.map(decode_image, files)] == alone


# --- modes and depth


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_grey_and_palettes_become_rgb(form: str, mode: str) -> None:
    image = pil().quantize(16) if mode == "P" else pil(mode)
    assert np.array_equal(decode_image(encoded(image, form)).pixels, np.array(image.convert("RGB")))


def test_bilevel_tiff_by_fax() -> None:
    image = pil("1")
    expected = np.array(image.convert("RGB"))
    assert np.array_equal(decode_image(encoded(image, "TIFF", compression="group4")).pixels, expected)


def test_colour_profiles_are_ignored() -> None:
    plain = decode_image(encoded(pil(), "PNG")).pixels
    swapped = PIL.Image.open(io.BytesIO(encoded(pil(), "PNG")))
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert np.array_equal(decode_image(encoded(swapped, "PNG", icc_profile=profile)).pixels, plain)


WIDE = photo().astype(np.uint16) * 257
OPENCV_16 = {
    "png-rgb": (".png", WIDE),
    "png-grey": (".png", WIDE[:, :, 0]),
    "tiff-rgb": (".tiff", WIDE),
    "tiff-grey": (".tiff", WIDE[:, :, 0]),
}


@pytest.mark.parametrize("name", OPENCV_16)
@pytest.mark.parametrize("low", [0, 1, 255], ids="low byte {}".format)
def test_16_bits_keep_their_high_byte(name: str, low: int) -> None:
    suffix, wide = OPENCV_16[name]
    values = wide & 0xFF00 | low
    data = cv2.imencode(suffix, values[:, :, ::-1] if values.ndim == 3 else values)[1].tobytes()
    expected = photo() if values.ndim == 3 else np.repeat(photo()[:, :, :1], 3, axis=2)
    assert np.array_equal(decode_image(data).pixels, expected)


def test_16_bit_alpha_is_laid_on_white() -> None:
    wide = np.dstack([WIDE, alpha().astype(np.uint16) * 257])
    data = cv2.imencode(".png", wide[:, :, [2, 1, 0, 3]])[1].tobytes()
    narrow = encoded(pil("RGBA"), "PNG")
    assert np.array_equal(decode_image(data).pixels, decode_image(narrow).pixels)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bit_grey_in_either_byte_order(mode: str) -> None:
    wide = WIDE[:, :, 1].astype("<u2" if mode == "I;16" else ">u2")
    image = PIL.Image.frombytes(mode, (WIDTH, HEIGHT), wide.tobytes())
    assert np.array_equal(decode_image(encoded(image, "TIFF")).pixels[:, :, 0], photo()[:, :, 1])


def test_16_bit_jpeg2000() -> None:
    image = PIL.Image.frombytes("I;16", (WIDTH, HEIGHT), WIDE[:, :, 1].astype("<u2").tobytes())
    assert np.array_equal(decode_image(encoded(image, "JPEG2000")).pixels[:, :, 0], photo()[:, :, 1])


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_stretched_to_the_full_range(dtype: type) -> None:
    values = photo()[:, :, 0].astype(dtype) * 1000 - 7
    pixels = decode_image(encoded(PIL.Image.fromarray(values), "TIFF")).pixels
    low, high = int(photo()[:, :, 0].min()), int(photo()[:, :, 0].max())
    expected = np.rint((photo()[:, :, :1].astype(float) - low) * 255 / (high - low)).astype(np.uint8)
    assert near(pixels, np.repeat(expected, 3, axis=2), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 5.0])
def test_floats_without_a_range_are_black(value: float) -> None:
    data = encoded(PIL.Image.fromarray(np.full((4, 5), value, np.float32)), "TIFF")
    assert not decode_image(data).pixels.any()


def test_floats_that_are_no_numbers_are_black() -> None:
    values = np.float32([[0, 1, np.nan, np.inf, -np.inf]])
    assert decode_image(encoded(PIL.Image.fromarray(values), "TIFF")).pixels[0, :, 0].tolist() == [0, 255, 0, 0, 0]


# --- ink


def test_cmyk_jpeg_is_converted() -> None:
    data = encoded(pil("CMYK"), "JPEG", quality=95)
    by_pillow = np.array(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    assert near(decode_image(data).pixels, by_pillow, 1)
    assert near(decode_image(data).pixels, opencv_rgb(data), 3)


def test_cmyk_jpeg_without_adobes_mark_is_read_like_one_with_it() -> None:
    data = encoded(pil("CMYK"), "JPEG", quality=95)
    at = data.index(b"\xff\xee")
    unmarked = data[:at] + data[at + 16 :]
    by_pillow = np.array(PIL.Image.open(io.BytesIO(unmarked)).convert("RGB"))
    assert near(decode_image(unmarked).pixels, by_pillow, 1)
    assert near(decode_image(unmarked).pixels, opencv_rgb(unmarked), 3)


def test_ycck_jpeg_is_converted() -> None:
    data = bytearray(encoded(pil("CMYK"), "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2  # the same numbers, said to be luminance and chrominance
    by_pillow = np.array(PIL.Image.open(io.BytesIO(bytes(data))).convert("RGB"))
    assert near(decode_image(bytes(data)).pixels, by_pillow, 1)


def test_cmyk_tiff_is_converted() -> None:
    image = pil("CMYK")
    assert np.array_equal(decode_image(encoded(image, "TIFF")).pixels, np.array(image.convert("RGB")))


# --- transparency


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "JPEG2000"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white_or_dropped(form: str, mode: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    data = encoded(pil(mode), form, **options)
    opaque = np.array(pil(mode).convert("RGBA"))[:, :, :3].astype(int)
    cover = alpha()[:, :, None].astype(int)
    white = np.rint((opaque * cover + 255 * (255 - cover)) / 255).astype(int)
    assert near(decode_image(data).pixels, white, 1)
    assert (decode_image(data).pixels[:, 40:] == 255).all()
    assert np.array_equal(decode_image(data, DROP).pixels, opaque)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_transparent_palette_entry(form: str) -> None:
    image = pil().quantize(16)
    hidden = np.array(image) == 3
    data = encoded(image, form, transparency=3)
    assert (decode_image(data).pixels[hidden] == 255).all()
    opaque = np.array(image.convert("RGB"))
    assert np.array_equal(decode_image(data).pixels[~hidden], opaque[~hidden])
    assert np.array_equal(decode_image(data, DROP).pixels, opaque)


def test_palette_with_degrees_of_transparency() -> None:
    image = pil().quantize(4)
    data = encoded(image, "PNG", transparency=bytes([255, 128, 0, 255]))
    index, colours = np.array(image), np.array(image.convert("RGB")).astype(int)
    assert (decode_image(data).pixels[index == 2] == 255).all()
    half = (colours[index == 1] * 128 + 255 * 127) / 255
    assert near(decode_image(data).pixels[index == 1], np.rint(half).astype(int), 1)


def test_transparent_colour_without_an_alpha_channel() -> None:
    colour = tuple(int(value) for value in photo()[5, 5])
    pixels = decode_image(encoded(pil(), "PNG", transparency=colour)).pixels
    assert pixels[5, 5].tolist() == [255, 255, 255]
    assert pixels[30, 30].tolist() == photo()[30, 30].tolist()
    grey = int(np.array(pil("L"))[5, 5])
    assert decode_image(encoded(pil("L"), "PNG", transparency=grey)).pixels[5, 5].tolist() == [255, 255, 255]


def test_transparent_colour_of_16_bits() -> None:
    wide = WIDE & 0xFF00 | 1
    grey = cv2.imencode(".png", wide[:, :, 0])[1].tobytes()
    with_grey = png_with(grey, png_chunk(b"tRNS", struct.pack(">H", wide[5, 5, 0])))
    assert decode_image(with_grey).pixels[5, 5].tolist() == [255, 255, 255]
    assert decode_image(with_grey, DROP).pixels[5, 5].tolist() == [photo()[5, 5, 0]] * 3
    colour = cv2.imencode(".png", wide[:, :, ::-1])[1].tobytes()
    with_colour = png_with(colour, png_chunk(b"tRNS", struct.pack(">3H", *wide[5, 5])))
    assert decode_image(with_colour).pixels[5, 5].tolist() == [255, 255, 255]
    assert decode_image(with_colour).pixels[30, 30].tolist() == photo()[30, 30].tolist()


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=AVIF)])
def test_orientation_is_applied(form: str, orientation: int) -> None:
    options = {"lossless": True} if form == "WEBP" else {"quality": 100} if form == "AVIF" else {}
    data = encoded(pil(), form, exif=exif(orientation), **options)
    labelled = pil()
    labelled.getexif()[0x0112] = orientation
    expected = np.array(PIL.ImageOps.exif_transpose(labelled))
    if form == "AVIF":
        assert float(np.abs(decode_image(data).pixels.astype(int) - expected).mean()) < 5
    else:
        assert np.array_equal(decode_image(data).pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_orientation_of_jpeg_equals_opencv(mode: str, orientation: int) -> None:
    data = encoded(pil(mode), "JPEG", exif=exif(orientation), quality=95)
    assert near(decode_image(data).pixels, opencv_rgb(data), 3 if mode == "CMYK" else 0)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate"])
@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_orientation_of_compressed_tiff(compression: str, orientation: int) -> None:
    plain = decode_image(encoded(pil(), "TIFF", compression=compression)).pixels
    data = encoded(pil(), "TIFF", compression=compression, tiffinfo={0x0112: orientation})
    turned = {3: plain[::-1, ::-1], 6: plain[::-1].transpose(1, 0, 2), 7: plain[::-1, ::-1].transpose(1, 0, 2)}
    assert np.array_equal(decode_image(data).pixels, turned[orientation])


def test_orientation_behind_the_picture_data_of_a_png() -> None:
    data = encoded(pil(), "PNG")
    block = exif(6).tobytes().removeprefix(b"Exif\0\0")
    pixels = decode_image(png_with(data, png_chunk(b"eXIf", block), before=b"IEND")).pixels
    assert np.array_equal(pixels, photo()[::-1].transpose(1, 0, 2))


def test_orientation_of_16_bits_and_of_alpha() -> None:
    block = png_chunk(b"eXIf", exif(8).tobytes().removeprefix(b"Exif\0\0"))
    wide = cv2.imencode(".png", WIDE[:, :, 0])[1].tobytes()
    assert np.array_equal(decode_image(png_with(wide, block)).pixels[:, :, 0], photo()[:, ::-1, 0].T)
    assert decode_image(png_with(encoded(pil("RGBA"), "PNG"), block)).pixels.shape == (WIDTH, HEIGHT, 3)


# --- policy and header


def test_spec_names_what_can_change_a_pixel() -> None:
    assert DecodePolicy().spec == f"alpha=white;decoder={DECODER_REVISION}"
    assert DecodePolicy(alpha="drop", max_pixels=5).spec == f"alpha=drop;decoder={DECODER_REVISION}"


@pytest.mark.parametrize("options", [{"alpha": "black"}, {"max_pixels": 0}])
def test_policies_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        DecodePolicy(**options)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000"])
def test_probe_reads_the_header_alone(form: str) -> None:
    assert probe_image(encoded(pil(), form)) == (form, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("chunk", "options"),
    [
        (b"VP8L", {"lossless": True}),
        (b"VP8 ", {"quality": 50}),
        (b"VP8X", {"exif": exif(1)}),
        (b"VP8X", {"save_all": True, "append_images": [pil().resize((300, 1025))]}),
    ],
)
def test_probe_reads_every_kind_of_webp(chunk: bytes, options: dict[str, Any]) -> None:
    data = encoded(PIL.Image.new("RGB", (300, 1025), "teal"), "WEBP", **options)
    assert data[12:16] == chunk
    assert probe_image(data) == ("WEBP", 300, 1025)


def test_probe_of_a_cut_picture_still_knows_its_size() -> None:
    assert probe_image(encoded(pil(), "PNG")[:40]) == ("PNG", WIDTH, HEIGHT)
    with pytest.raises(UndecodableError):
        probe_image(b"")
