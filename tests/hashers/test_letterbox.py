"""Where a picture lies within its bars, by the rules of the reference."""

import numpy as np
import pytest

from neardup.errors import UsageError
from neardup.hashers.tools import unletterbox, unletterbox_crop
from video_clips import picture

PICTURE = picture(3, 320, 240)


def boxed(level: int, top: int = 0, left: int = 0) -> np.ndarray:
    return np.pad(PICTURE, ((top, top), (left, left), (0, 0)), constant_values=level)


@pytest.mark.parametrize("level", [0, 255, 128])
@pytest.mark.parametrize(("top", "left"), [(40, 0), (0, 60), (30, 50)])
def test_bars_of_any_level_are_found(level: int, top: int, left: int) -> None:
    image = boxed(level, top, left)
    assert unletterbox(image) == ((left, left + 320), (top, top + 240))
    np.testing.assert_array_equal(unletterbox_crop(image), PICTURE)
    black_only = ((left, left + 320), (top, top + 240)) if level == 0 else ((0, 320 + 2 * left), (0, 240 + 2 * top))
    assert unletterbox(image, only_remove_black=True) == black_only


def test_compression_and_a_caption_in_a_bar_are_no_picture() -> None:
    image = boxed(0, 40)
    image[:40] += np.random.default_rng(0).integers(0, 3, (40, 320, 3)).astype(np.uint8)
    image[10:20, 150:170] = 255
    assert unletterbox(image) == ((0, 320), (40, 280))


def test_what_has_no_bars_is_whole() -> None:
    whole = ((0, 320), (0, 240))
    assert unletterbox(PICTURE) == whole
    corners = PICTURE.copy()
    for level, (y, x) in zip((5, 80, 160, 240), ((0, 0), (0, -1), (-1, 0), (-1, -1)), strict=True):
        corners[y, x] = level
    assert unletterbox(corners) == whole
    assert unletterbox(boxed(0, 2)) == ((0, 320), (0, 244))  # 1.6 % of one side


def test_what_would_leave_nothing_is_none() -> None:
    assert unletterbox(np.zeros((100, 100, 3), np.uint8)) is None
    small = np.pad(PICTURE[:49, :100], ((60, 60), (60, 60), (0, 0)))
    assert unletterbox(small) is None and unletterbox_crop(small) is None
    assert unletterbox(small, min_side_length=49) == ((60, 160), (60, 109))
    with pytest.raises(UsageError, match="min_reduction is 2"):
        unletterbox(PICTURE, min_reduction=2)
    with pytest.raises(TypeError, match="not a str"):
        unletterbox_crop("photo.jpg")
