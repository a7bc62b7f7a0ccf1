"""Segments equal those of a slow search that walks from pixel to pixel, early end included."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from imagehash_samples import DRAWN, PHOTOS, VARIANTS, drawn, golden, photo
from neardup import imagehash
from neardup.errors import UsageError
from neardup.hashers import cropresistant, imagehash_variants
from neardup.imagehash import _find_all_segments, _find_region

Region = set[tuple[int, int]]


def walked(inside: np.ndarray) -> list[Region]:
    """The 4-connected regions of a mask, each walked from its first pixel."""
    left = {(int(r), int(c)) for r, c in np.argwhere(inside)}
    regions = []
    for start in sorted(left):
        if start not in left:
            continue
        region, queue = set(), deque([start])
        left.discard(start)
        while queue:
            row, column = queue.popleft()
            region.add((row, column))
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if near in left:
                    left.discard(near)
                    queue.append(near)
        regions.append(region)
    return regions


def slow_segments(pixels: np.ndarray, threshold: float, min_size: float, early_exit: bool = True) -> list[Region]:
    """What ImageHash gives: it stops looking when it believes to have seen as many pixels as there are."""
    hills, valleys = walked(pixels > threshold), walked(~(pixels > threshold))
    seen = 2 * sum(pixels.shape) + sum(len(region) for region in hills if len(region) > 1)
    reached = []
    for region in valleys:
        if early_exit and seen >= pixels.size:
            break
        reached.append(region)
        seen += len(region) if len(region) > 1 else 0
    return [region for region in hills + reached if len(region) > min_size]


def plane(image: Image.Image) -> np.ndarray:
    return cropresistant.segmentation_plane(imagehash_variants.luma(image), 300)


def check_boxes(pixels: np.ndarray, threshold: float, min_size: float) -> None:
    for segment in cropresistant.find_segments(pixels, threshold, min_size):
        found = segment.pixels()
        rows, columns = {row for row, _ in found}, {column for _, column in found}
        assert segment.area == len(found)
        assert (segment.rows, segment.columns) == ((min(rows), max(rows)), (min(columns), max(columns)))


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_have_the_segments_of_the_slow_search(name: str) -> None:
    pixels = plane(photo(name)).astype(np.float32)
    pixels.setflags(write=False)
    for threshold, min_size in ((128, 500), (64, 20)):
        assert _find_all_segments(pixels, threshold, min_size) == slow_segments(pixels, threshold, min_size)
        check_boxes(pixels, threshold, min_size)


def test_the_early_end_loses_the_segments_that_the_reference_loses() -> None:
    lost = []
    for name in PHOTOS:
        for variant in VARIANTS:
            wanted = golden()["images"][name]["variants"][variant]
            if len(wanted["segments"]) < wanted["segments_without_early_exit"]:
                lost.append((photo(name, variant), wanted))
    assert len(lost) == 8
    for image, wanted in lost[::3]:
        assert len(slow_segments(plane(image), 128, 500)) == len(wanted["segments"])
        whole = slow_segments(plane(image), 128, 500, early_exit=False)
        assert len(whole) == wanted["segments_without_early_exit"]
    box = drawn("dark_box_bottom_980")
    assert len(imagehash.crop_resistant_hash(box).segment_hashes) == 1
    assert len(slow_segments(plane(box), 128, 500, early_exit=False)) == 2


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 3)),
    st.integers(-1, 3),
    st.integers(0, 4),
    st.integers(1, 3),
)
def test_any_array_has_the_segments_of_the_slow_search(
    pixels: np.ndarray, threshold: int, min_size: int, enlarged: int
) -> None:
    pixels = np.kron(pixels, np.ones((enlarged, enlarged), np.uint8))
    before = pixels.copy()
    pixels.setflags(write=False)
    assert _find_all_segments(pixels, threshold, min_size) == slow_segments(pixels, threshold, min_size)
    check_boxes(pixels, threshold, min_size)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("side", [1, 2, 4, 5, 30])
def test_single_pixels_are_not_counted_as_seen(side: int) -> None:
    """On a chessboard the reference would look for more when none is left, and fail."""
    board = np.indices((side, side)).sum(axis=0) % 2 * 255
    assert _find_all_segments(board, 128, 0) == slow_segments(board, 128, 0)
    assert _find_all_segments(board, 128, 1) == []


def test_segments_of_strange_arrays() -> None:
    assert _find_all_segments(np.zeros((0, 5)), 128, 0) == []
    assert _find_all_segments(np.zeros((50, 50)), 128, 2500) == []
    assert [len(s) for s in _find_all_segments(np.zeros((50, 50)), 128, 2499)] == [2500]
    assert [len(s) for s in _find_all_segments(np.full((50, 50), 128.0), 128, 10)] == [2500]


@pytest.mark.parametrize("seed", range(20))
def test_one_region_at_a_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(2, 30, 2)
    remaining = rng.random((rows, columns)) < rng.choice([0.3, 0.6, 0.8])
    remaining.setflags(write=False)
    taken = {(int(r), int(c)) for r, c in np.argwhere(rng.random((rows, columns)) < 0.1)}
    border = {(-1, c) for c in range(columns)} | {(rows, c) for c in range(columns)}
    segmented = set(taken | border)
    free = remaining.copy()
    for pixel in taken:
        free[pixel] = False
    start = tuple(int(k) for k in np.argwhere(remaining)[0])
    free[start] = True
    wanted = walked(free)[0]
    assert start in wanted
    assert _find_region(remaining, segmented) == wanted
    assert segmented == taken | border | (wanted if len(wanted) > 1 else set())


def test_regions_one_after_the_other_are_all_regions() -> None:
    remaining = np.random.default_rng(7).random((20, 25)) < 0.5
    wanted, segmented, found = walked(remaining), set(), []
    while remaining.any():
        found.append(_find_region(remaining, segmented))
        for pixel in found[-1]:
            remaining[pixel] = False
    assert found == wanted
    assert segmented == {pixel for region in wanted if len(region) > 1 for pixel in region}
    assert _find_region(remaining, segmented) == set()


@pytest.mark.parametrize("limit", [1, 3, 50, -2])
def test_limited_segments_are_the_largest_in_order_of_size(limit: int) -> None:
    image = photo(PHOTOS[2])
    pixels = plane(image)
    sizes = [segment.area for segment in cropresistant.find_segments(pixels, 128, 500)]
    order = sorted(range(len(sizes)), key=lambda k: (-sizes[k], k))[:limit]
    everything = imagehash.crop_resistant_hash(image).segment_hashes
    limited = imagehash.crop_resistant_hash(image, limit_segments=limit).segment_hashes
    assert limited == [everything[k] for k in order]
    assert imagehash.crop_resistant_hash(image, limit_segments=0).segment_hashes == everything


def test_boxes_are_rounded_half_to_even_from_the_scale() -> None:
    """Column 45 of 300 in an image 310 pixels wide lies at 46.5 and a little more."""
    pixels = np.zeros((300, 310), np.uint8)
    pixels[:, 47:] = 255
    boxes = cropresistant.segment_boxes(Image.fromarray(pixels), cropresistant.Segmentation())
    assert boxes == [(47, 0, 310, 300), (0, 0, 47, 300)]
    pixels = np.zeros((300, 450), np.uint8)
    pixels[:, 226:] = 255  # the segment starts at column 151 of 300, which is 226.5
    assert cropresistant.segment_boxes(Image.fromarray(pixels), cropresistant.Segmentation())[0][0] == 226


@pytest.mark.parametrize("name", [name for name in DRAWN if not golden()["synthetic"][name]["segments"]])
def test_an_image_without_segments_is_hashed_whole(name: str) -> None:
    assert imagehash.crop_resistant_hash(drawn(name)).segment_hashes == [imagehash.dhash(drawn(name))]


def test_boxes_without_pixels_are_left_out() -> None:
    """The upper of four rows is dark; only a part of it, above 110 of 255, is a segment: less than half a pixel."""
    pixels = np.full((4, 300), 255, np.uint8)
    pixels[0] = 120
    image = Image.fromarray(pixels)
    assert len(cropresistant.find_segments(plane(image), 110, 500)) == 2
    boxes = cropresistant.segment_boxes(image, cropresistant.Segmentation(segment_threshold=110))
    assert boxes == [(0, 0, 300, 4)]
    for function in (imagehash.dhash, imagehash.whash, imagehash.colorhash):
        found = imagehash.crop_resistant_hash(image, function, segment_threshold=110)
        assert found.segment_hashes == [function(image)]


def test_where_the_limit_leaves_no_segment_the_image_is_hashed_whole() -> None:
    image = photo(PHOTOS[0])
    assert imagehash.crop_resistant_hash(image, limit_segments=-99).segment_hashes == [imagehash.dhash(image)]


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="segmentation_image_size 0 is too small"):
        imagehash.crop_resistant_hash(photo(PHOTOS[0]), segmentation_image_size=0)
    with pytest.raises(UsageError, match="hash_size 1 is too small"):
        cropresistant.CropResistantHash(hash_size=1)
