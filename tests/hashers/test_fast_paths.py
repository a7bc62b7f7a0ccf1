"""Every fast path equals the slow obvious one, above all where bits hang on rounding."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import pywt
from hasher_samples import PHOTOS, image

from neardup.hashers import PDQHash, PDQHashF, PHash, Planes, area, dct, fourier, imghash, pdq, wavelet


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def symmetric(height: int, width: int, seed: int) -> np.ndarray:
    """Coarse blocks that are their own mirror image: half of the frequencies are nothing but rounding."""
    quarter = np.kron(noise(4, 4, seed), np.ones((height // 8, width // 8, 1), np.uint8))
    half = np.concatenate([quarter, quarter[::-1]])
    return np.ascontiguousarray(np.concatenate([half, half[:, ::-1]], axis=1))


def few_tones(size: int, tones: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).integers(0, tones, (size, size)) * (255 // tones)).astype(np.uint8)


def large(height: int, width: int) -> np.ndarray:
    """A smooth image with grain: large enough for the paths of large images, sides of no round numbers."""
    coarse = noise(9, 11, height)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + noise(height, width, width) // 8, 0, 255).astype(np.uint8)


TIED = {
    "flat": np.full((90, 70, 3), 77, np.uint8),
    "symmetric": symmetric(160, 96, 1),
    "symmetric odd": symmetric(160, 96, 2)[:-3, 1:],
    "square": np.pad(np.full((40, 40, 3), 255, np.uint8), ((30, 30), (30, 30), (0, 0))),
    "stripes": np.tile(np.array([[[0] * 3], [[255] * 3]], np.uint8), (60, 130, 1)),
    "one pixel": np.pad(np.full((1, 1, 3), 200, np.uint8), ((50, 60), (70, 20), (0, 0))),
}
SIZES = [(5, 5), (7, 300), (64, 64), (127, 129), (128, 256), (301, 203), (512, 100)]


@pytest.mark.parametrize("pixels", [*TIED.values(), *(noise(*size) for size in SIZES)])
def test_pdq_bits_and_quality_equal_the_exact_sums(pixels: np.ndarray) -> None:
    samples = pdq.Samples(pixels)
    np.testing.assert_allclose(samples.fast, samples.exact, atol=2e-3)
    for variant in ("r0", "fv", "r90", "r270"):
        exact = pdq.threshold_bits(pdq.variant_block(samples.exact_block, variant))
        np.testing.assert_array_equal(samples.bits(variant), exact)
    assert samples.quality == min(pdq.gradient_sum(samples.exact) // 90, 100)


@pytest.mark.parametrize("pixels", [*TIED.values(), *(noise(*size) for size in SIZES), image("image7.jpg")])
def test_pdq_equals_pdqhash(pixels: np.ndarray) -> None:
    pdqhash = pytest.importorskip("pdqhash")
    bits, quality = pdqhash.compute(pixels)
    vector, our_quality = PDQHash().hash_planes(Planes(pixels))
    np.testing.assert_array_equal(vector, bits.astype(bool))
    assert our_quality == quality
    values, _ = pdqhash.compute_float(pixels)
    np.testing.assert_array_equal(pdq.Samples(pixels).exact_block.ravel()[::-1], values)
    np.testing.assert_allclose(PDQHashF().compute(pixels, "vector"), values, atol=1e-2)


def test_pdq_doubts_only_where_it_must() -> None:
    doubted = [pdq.is_doubtful(pdq.Samples(image(name)).fast_block) for name in PHOTOS]
    assert sum(doubted) <= 2
    assert pdq.is_doubtful(pdq.Samples(TIED["flat"]).fast_block)


def float32_bits(plane: np.ndarray, size: int) -> np.ndarray:
    """The reference: PyWavelets on float32, the mean taken out by a full transform and back."""
    depth = int(math.log2(len(plane)))
    coefficients = pywt.wavedec2(plane.astype(np.float32) / 255, "haar", level=depth)
    coefficients[0] *= 0
    flat = pywt.waverec2(coefficients, "haar")
    coarse = pywt.wavedec2(flat, "haar", level=depth - int(math.log2(size)))[0]
    return (coarse > np.median(coarse)).ravel()


@pytest.mark.parametrize("size", [2, 8, 16])
@pytest.mark.parametrize("seed", range(4))
def test_wavelet_bits_equal_the_float32_transform(size: int, seed: int) -> None:
    for scale in (16, 64, 256):
        photo = Planes(image(PHOTOS[seed])).area("gray_swapped", scale, scale)
        half_flat = np.where(np.arange(scale)[:, None] < scale * 5 // 8, 200, photo).astype(np.uint8)
        for plane in (photo, few_tones(scale, 2, seed), few_tones(scale, 5, seed), half_flat, np.full_like(photo, 9)):
            np.testing.assert_array_equal(wavelet.haar_bits(plane, size), float32_bits(plane, size))


def test_wavelet_bits_at_a_distance_of_one_from_the_median() -> None:
    """The two middle blocks differ by one level in one pixel, then by none."""
    plane = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4) * 10, np.ones((32, 32), np.uint8))
    plane[plane == 80] = 70
    for extra in (1, 0):
        plane[64, 0] = 70 + extra
        np.testing.assert_array_equal(wavelet.haar_bits(plane, 4), float32_bits(plane, 4))


LARGE = [(500, 777), (1023, 640), (512, 1000), (640, 600), (2049, 129)]


@pytest.mark.parametrize("shape", LARGE)
def test_area_resize_equals_opencv(shape: tuple[int, int]) -> None:
    pixels = large(*shape)
    gray = Planes(pixels).gray
    for plane, width, height in ((pixels, 17, 16), (pixels, 9, 8), (gray, 16, 16), (gray, 64, 64), (gray, 50, 77)):
        opencv = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(area.area_resize(plane, width, height), opencv)
    opencv = cv2.resize(gray, (31, 29), interpolation=cv2.INTER_AREA)
    single = [[area.opencv_pixel(gray, (row, column), (31, 29)) for column in range(31)] for row in range(29)]
    np.testing.assert_array_equal(single, opencv)


@pytest.mark.parametrize("shape", LARGE)
def test_wavelet_bits_without_the_resize(shape: tuple[int, int]) -> None:
    plane = Planes(large(*shape)).gray_swapped
    scale = 1 << (min(shape).bit_length() - 1)
    resized = cv2.resize(plane, (scale, scale), interpolation=cv2.INTER_AREA)
    decided = 0
    for size in (4, 8, 16):
        bits = wavelet.haar_bits_unresized(plane, area.area_means(plane, size, size), scale)
        if bits is not None:
            decided += 1
            np.testing.assert_array_equal(bits, float32_bits(resized, size))
    assert decided
    assert wavelet.haar_bits_unresized(np.full_like(plane, 7), np.full((8, 8), 7.0), scale) is None


def test_wavelet_blocks_that_rounding_brings_into_another_order() -> None:
    """Fine grain of 100 and 101 is rounded away, coarse grain is not: the block with most of it comes to lie lowest."""
    blocks = np.array([50] * 7 + [100] * 3 + [150] * 6, np.uint8).reshape(4, 4)
    plane = np.kron(blocks, np.ones((150, 150), np.uint8))
    fine = np.random.default_rng(0).random((150, 150)) < 0.42
    plane[150:300, 450:][:60] += 1  # 0.40 of block 7
    plane[300:450, :150][:62] += 1  # 0.41 of block 8
    plane[300:450, 150:300] += fine  # 0.42 of block 9
    means = area.area_means(plane, 4, 4)
    assert means[1, 3] < means[2, 0] < means[2, 1]
    resized = cv2.resize(plane, (64, 64), interpolation=cv2.INTER_AREA)
    bits = wavelet.haar_bits_unresized(plane, means, 64)
    np.testing.assert_array_equal(bits, float32_bits(resized, 4))
    assert bits[[7, 8, 9]].tolist() == [True, True, False]


def test_wavelet_blocks_that_are_equal_are_left_to_the_float32_transform() -> None:
    blocks = np.array([*range(10, 80, 10), 100, 100, *range(120, 190, 10)], np.uint8).reshape(4, 4)
    plane = np.kron(blocks, np.ones((150, 150), np.uint8))
    assert wavelet.haar_bits_unresized(plane, area.area_means(plane, 4, 4), 64) is None


def equalised(gray: np.ndarray) -> np.ndarray:
    """What Marr-Hildreth convolves, by OpenCV's own functions."""
    resized = cv2.resize(cv2.GaussianBlur(gray, (7, 7), 0), (512, 512), interpolation=cv2.INTER_CUBIC)
    return cv2.equalizeHist(resized)


def opencv_responses(plane: np.ndarray) -> np.ndarray:
    """The reference: OpenCV's float32 convolution of the whole, summed over blocks of 16x16.

    By OpenCV's own code: with Intel's library, where its builds have it, the rounding depends on the processor.
    """
    with without_ipp():
        response = cv2.filter2D(plane, cv2.CV_32F, imghash.marr_kernel())[:496, :496]
    blocks = response.astype(np.float64).reshape(31, 16, 31, 16).sum(axis=(1, 3)).T.astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(blocks, (3, 3))[::4, ::4].reshape(64, 9)


@contextmanager
def without_ipp() -> Iterator[None]:
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)


def test_the_spectrum_of_a_kernel_is_that_of_opencv() -> None:
    kernel = np.random.default_rng(0).normal(size=(17, 17)).astype(np.float32)
    padded = np.zeros((256, 256), np.float32)
    padded[:17, :17] = kernel
    with without_ipp():
        packed = cv2.dft(padded, nonzeroRows=17)
    ours = fourier.spectrum(kernel).reshape(9, 256, 2, 16)
    frequencies = ours[:8].transpose(2, 1, 0, 3).reshape(2, 256, 128)[..., 1:]
    np.testing.assert_array_equal(frequencies, np.stack([packed[:, 1:-1:2], packed[:, 2:-1:2]]))
    for lane, column in enumerate((0, -1)):
        np.testing.assert_array_equal(ours[8, [0, 128], 0, lane], packed[[0, -1], column])
        np.testing.assert_array_equal(ours[8, 1:128, :, lane].ravel(), packed[1:-1, column])


MARR_HILDRETH = ["image1.jpg", "image5.jpg", "F(512,384)", "low_detail(100,100)", "square(32,32)"]


@pytest.mark.parametrize("name", MARR_HILDRETH)
def test_marr_hildreth_equals_opencv_convolution(name: str) -> None:
    gray = Planes(image(name)).gray_swapped
    plane = equalised(gray)
    slow = opencv_responses(plane)
    np.testing.assert_array_equal(imghash.marr_hildreth_bits(gray), imghash.neighbourhood_bits(slow))
    np.testing.assert_allclose(imghash.block_responses(plane), slow, atol=3e-6 * np.abs(slow).max())


def test_marr_hildreth_where_flat_areas_leave_nothing_but_rounding() -> None:
    """Every window lies in a flat area or along an edge between two; so the bits are those of OpenCV's DFT."""
    for seed in range(3):
        coarse = np.kron(noise(3, 4, seed)[..., 0], np.ones((170, 130), np.uint8))
        assert imghash.marr_hildreth_bits(coarse).any()
        expected = imghash.neighbourhood_bits(opencv_responses(equalised(coarse)))
        np.testing.assert_array_equal(imghash.marr_hildreth_bits(coarse), expected)


def test_marr_hildreth_windows_by_opencv_tiles() -> None:
    """Each window for itself: 3 and 4 meet at a tile's edge, the last row and column of windows lie across one."""
    plane = equalised(noise(300, 400)[..., 0])
    slow = opencv_responses(plane)
    for window in range(64):
        wanted = np.arange(64) == window
        np.testing.assert_array_equal(imghash.block_responses_float32(plane, wanted)[window], slow[window])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (7, 5), (64, 33), (301, 203), (480, 640)])
def test_gaussian_rounds_as_opencv_does(shape: tuple[int, int]) -> None:
    """Few tones make halves frequent; OpenCV rounds them up here, to even elsewhere."""
    for tones in (2, 3, 5, 256):
        gray = (np.random.default_rng(tones).integers(0, tones, shape) * (255 // (tones - 1))).astype(np.uint8)
        np.testing.assert_array_equal(imghash.gaussian_7x7(gray), cv2.GaussianBlur(gray, (7, 7), 0))


@pytest.mark.parametrize(("scale", "size"), [((60, 40), (16, 8)), ((49, 54), (11, 8)), ((49, 56), (10, 10))])
def test_area_resize_by_whole_numbers(scale: tuple[int, int], size: tuple[int, int]) -> None:
    """All means lie next to halves. OpenCV's float64 takes only the first of these scales for whole numbers.

    Its two ways round such halves differently.
    """
    width, height = size
    rows, columns = np.indices((scale[1] * height, scale[0] * width))
    plane = ((rows + columns) % 2 + rows // 8).astype(np.uint8)
    opencv = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(area.area_resize(plane, width, height), opencv)
    np.testing.assert_array_equal(area.rounded_means(plane, area.area_means(plane, width, height)), opencv)
    single = [[area.opencv_pixel(plane, (row, column), size) for column in range(width)] for row in range(height)]
    np.testing.assert_array_equal(single, opencv)


@pytest.mark.parametrize("size", [64, 128, 512])
def test_pdq_quality_where_steps_are_whole_percents(size: int) -> None:
    """Steps of 51 levels are exactly 20 percent, or a rounding below."""
    for seed in range(20):
        gray = np.kron(np.random.default_rng(seed).integers(0, 6, (2, 2)) * 51, np.ones((size // 2, size // 2)))
        pixels = np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)
        samples = pdq.Samples(pixels)
        assert samples.quality == min(pdq.gradient_sum(samples.exact) // 90, 100)


@pytest.mark.parametrize("name", ["noise", *TIED])
@pytest.mark.parametrize("exclude_first_term", [False, True])
def test_phash_by_products_equals_the_transform(name: str, exclude_first_term: bool) -> None:
    """Coefficients that only rounding tells from the median are those of the transform."""
    planes = Planes(TIED.get(name, noise(300, 400)))
    hasher = PHash(hash_size=16, exclude_first_term=exclude_first_term)
    small = planes.area("gray", 64, 64)
    exact, fast = dct.low_frequencies(small, 16, 0), dct.fast_frequencies(small, 16, 0)
    np.testing.assert_array_equal(hasher._hash(planes), dct.median_bits(exact.ravel()[int(exclude_first_term) :]))
    np.testing.assert_allclose(fast, exact, atol=1e-12 * 4 * 255 * small.size)
    if name in ("noise", "flat", "symmetric"):
        assert dct.is_doubtful(fast.ravel(), 4 * 255 * small.size) == (name != "noise")
