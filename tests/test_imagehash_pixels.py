"""The pictures that are hashed: resized as Pillow 13 does and blurred as Pillow does, whichever Pillow there is."""

import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from imagehash_samples import PHOTOS, photo
from neardup.hashers import cropresistant, imagehash_variants


def lanczos_along_rows(plane: np.ndarray, width: int) -> np.ndarray:
    """Lanczos of three lobes with weights of 22 fractional bits, rounded to 8 bits: written out from its definition."""
    length = plane.shape[1]
    if width == length:
        return plane
    scale = length / width
    stretch = max(scale, 1.0)
    out = np.empty((len(plane), width), np.uint8)
    for k in range(width):
        centre = (k + 0.5) * scale
        first = max(int(centre - 3 * stretch + 0.5), 0)
        stop = min(int(centre + 3 * stretch + 0.5), length)
        distances = (np.arange(first, stop) - centre + 0.5) / stretch
        weights = np.where(np.abs(distances) < 3, np.sinc(distances) * np.sinc(distances / 3), 0)
        weights = weights / weights.sum() * 2**22
        weights = (np.sign(weights) * np.floor(np.abs(weights) + 0.5)).astype(np.int64)
        sums = (plane[:, first:stop] * weights).sum(axis=1) + 2**21
        out[:, k] = np.clip(sums >> 22, 0, 255)
    return out


def lanczos(plane: np.ndarray, width: int, height: int, columns_first: bool) -> np.ndarray:
    if columns_first:
        return lanczos_along_rows(lanczos_along_rows(plane.T, height).T, width)
    return lanczos_along_rows(lanczos_along_rows(plane, width).T, height).T


# Sizes (width, height) at and beside the turning point of the rule: 2 * (columns saved) = rows saved.
SIZES = [(109, 207), (109, 208), (109, 209), (300, 40), (40, 300), (9, 9), (5, 200), (200, 5), (9, 8), (8, 500), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_resizing_rounds_between_the_passes_in_the_order_of_pillow_13(size: tuple[int, int]) -> None:
    plane = np.random.default_rng(sum(size)).integers(0, 256, size[::-1]).astype(np.uint8)
    plane.setflags(write=False)
    for width, height in ((9, 8), (8, 8), (60, 60)):
        columns_first = size[1] > height and size[1] - height > 2 * max(0, size[0] - width)
        small = imagehash_variants.lanczos(Image.fromarray(plane), width, height)
        np.testing.assert_array_equal(small, lanczos(plane, width, height, columns_first))


def test_the_order_of_the_passes_shows() -> None:
    """Else the test above would show nothing."""
    plane = np.random.default_rng(1).integers(0, 256, (300, 40)).astype(np.uint8)
    small = imagehash_variants.lanczos(Image.fromarray(plane), 9, 8)
    assert (small != lanczos(plane, 9, 8, columns_first=False)).any()


def test_blur_and_median_equal_pillow() -> None:
    rng = np.random.default_rng(0)
    planes = [np.asarray(photo(name).convert("L")) for name in PHOTOS]
    for low, high in ((0, 256), (0, 2), (250, 256)):
        planes += [rng.integers(low, high, shape).astype(np.uint8) for shape in ((64, 64), (3, 90), (1, 1), (200, 1))]
    planes += [plane // 128 * 255 for plane in planes]
    for plane in planes:
        image = Image.fromarray(plane).filter(ImageFilter.GaussianBlur(2))
        np.testing.assert_array_equal(cropresistant.gaussian_blur(plane), np.asarray(image))
        if min(plane.shape) > 2:
            filtered = cropresistant.segmentation_plane(Image.fromarray(plane).resize((50, 50)), 50)
            blurred = Image.fromarray(plane).resize((50, 50)).filter(ImageFilter.GaussianBlur(2))
            np.testing.assert_array_equal(filtered, np.asarray(blurred.filter(ImageFilter.MedianFilter())))


def test_the_blur_is_exact_where_pillow_weighs_a_half() -> None:
    """Every sum of the three inner and the two outer pixels, by the weights over 2^24."""
    inner, outer = np.mgrid[0:766, 0:511]
    full = math.floor(2**24 / 3.75)
    edge = (2**24 - 3 * full) // 2
    wanted = (full * inner + edge * outer + 2**23) >> 24
    first, step = inner // 3, inner % 3
    rows = np.stack([outer // 2, first + (step > 0), first, first + (step > 1), outer - outer // 2], axis=-1)
    kernel = cropresistant._BOX.astype(np.float64)
    sums = (rows @ kernel).astype(np.int64) + 15 * cropresistant._STEP
    assert sums.max() < 2**24
    levels = sums.astype(np.float32) * np.float32(1 / (30 * cropresistant._STEP))
    np.testing.assert_array_equal(levels.astype(np.uint8), wanted)


def test_haar_bits_by_block_sums_equal_the_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [photo(name).convert("L") for name in PHOTOS[:4]]
    images += [
        Image.fromarray(np.random.default_rng(k).integers(0, 2 + k, (40, 70)).astype(np.uint8)) for k in (0, 1, 9)
    ]
    fast = [imagehash_variants.wavelet_bits(image, 8, 32, "haar", mean) for image in images for mean in (True, False)]
    decided = sum(imagehash_variants._haar_bits(imagehash_variants.lanczos(i, 32, 32), 8) is not None for i in images)
    assert 4 <= decided < len(images)
    monkeypatch.setattr(imagehash_variants, "_haar_bits", lambda small, size: None)
    slow = [imagehash_variants.wavelet_bits(image, 8, 32, "haar", mean) for image in images for mean in (True, False)]
    np.testing.assert_array_equal(fast, slow)
