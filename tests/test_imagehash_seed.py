"""The examples of the reference page on crop-resistant hashing, as they stand there, on sample photos."""

import inspect

import pytest
from PIL import Image

from conftest import SAMPLES
from neardup import imagehash


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.open(SAMPLES / "perception/image3.jpg")


@pytest.fixture(scope="module")
def full_image() -> Image.Image:
    return Image.open(SAMPLES / "perception/image5.jpg")


@pytest.fixture(scope="module")
def cropped_image(full_image: Image.Image) -> Image.Image:
    """30 % cut off on the right."""
    return full_image.crop((0, 0, round(0.7 * full_image.width), full_image.height))


def test_signatures() -> None:
    parameters = inspect.signature(imagehash.crop_resistant_hash).parameters
    assert {name: parameter.default for name, parameter in list(parameters.items())[1:]} == {
        "hash_func": imagehash.dhash,
        "limit_segments": None,
        "segment_threshold": 128,
        "min_segment_size": 500,
        "segmentation_image_size": 300,
    }
    assert list(inspect.signature(imagehash._find_region).parameters) == ["remaining_pixels", "segmented_pixels"]
    assert list(inspect.signature(imagehash._find_all_segments).parameters) == [
        "pixels",
        "segment_threshold",
        "min_segment_size",
    ]


def test_usage_example(full_image: Image.Image, cropped_image: Image.Image) -> None:
    full_hash = imagehash.crop_resistant_hash(full_image)
    crop_hash = imagehash.crop_resistant_hash(cropped_image)
    matches = full_hash.matches(crop_hash, region_cutoff=1)
    assert matches is True
    num_matches, sum_distance = full_hash.hash_diff(crop_hash)
    assert num_matches >= 1
    assert sum_distance <= 16 * num_matches
    similarity_score = full_hash - crop_hash
    assert 0 < similarity_score < len(full_hash.segment_hashes)


def test_custom_hash_functions(image: Image.Image) -> None:
    ahash_segments = imagehash.crop_resistant_hash(image, imagehash.average_hash)
    phash_segments = imagehash.crop_resistant_hash(image, imagehash.phash)
    assert len(ahash_segments.segment_hashes) == len(phash_segments.segment_hashes) == 21

    def custom_hash(img):
        return imagehash.whash(img, mode="db4")

    custom_segments = imagehash.crop_resistant_hash(image, custom_hash)
    assert len({segment.hash.shape for segment in custom_segments.segment_hashes}) > 1
    assert custom_segments.matches(custom_segments)
    assert custom_segments == custom_segments
    assert custom_segments - custom_segments == 0
    crop = imagehash.crop_resistant_hash(image.crop((0, 0, image.width, image.height * 9 // 10)), custom_hash)
    assert custom_segments.hash_diff(crop)[0] > 0
    text = str(custom_segments)
    assert imagehash.hex_to_multihash(text).segment_hashes == custom_segments.segment_hashes


def test_segmentation_parameters(image: Image.Image) -> None:
    fine_hash = imagehash.crop_resistant_hash(
        image,
        segment_threshold=64,
        min_segment_size=200,
        segmentation_image_size=500,
    )
    coarse_hash = imagehash.crop_resistant_hash(
        image,
        segment_threshold=200,
        min_segment_size=1000,
        limit_segments=5,
    )
    assert (len(fine_hash.segment_hashes), len(coarse_hash.segment_hashes)) == (27, 3)


def test_segment_limiting(image: Image.Image) -> None:
    limited_hash = imagehash.crop_resistant_hash(image, limit_segments=3, min_segment_size=1000)
    assert len(limited_hash.segment_hashes) == 3


def test_processing_size(image: Image.Image) -> None:
    fast_hash = imagehash.crop_resistant_hash(image, segmentation_image_size=200)
    accurate_hash = imagehash.crop_resistant_hash(image, segmentation_image_size=600)
    assert (len(fast_hash.segment_hashes), len(accurate_hash.segment_hashes)) == (4, 47)


def test_comparison_and_matching(full_image: Image.Image, cropped_image: Image.Image, image: Image.Image) -> None:
    hash1 = imagehash.crop_resistant_hash(full_image)
    hash2 = imagehash.crop_resistant_hash(cropped_image)
    other = imagehash.crop_resistant_hash(image)
    assert hash1 == hash2
    assert hash1.matches(hash2)
    assert hash1.matches(hash2, region_cutoff=2, hamming_cutoff=8) in (True, False)
    assert not hash1.matches(hash2, region_cutoff=1000)
    assert hash1.matches(hash2, bit_error_rate=0.1)
    assert hash2.best_match([other, hash1]) is hash1
