"""What holds for every transform of the catalogue, what a few of them do in particular, and how they are spelled."""

import inspect
import pickle
import re

import numpy as np
import pytest

from conftest import PHOTOS
from neardup import media
from neardup.errors import PolicyError, UsageError
from neardup.transforms import TRANSFORMS, Transform, call, parse, seed_of

SIZES = ((1, 1), (1, 7), (9, 1), (2, 3), (64, 64), (37, 250), (33_000, 2), (1200, 900))


def picture(height: int, width: int) -> np.ndarray:
    """Pixels by a formula, read-only."""
    r, c, k = np.ogrid[:height, :width, :3]
    pixels = ((17 + k) * r // 4 + (31 - 5 * k) * c // 4 + (r * c) % 251 + 40 * k).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    pixels = media.decode_image(PHOTOS[0].read_bytes()).pixels
    pixels.flags.writeable = False
    return pixels


def swapped_channels(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": image[..., ::-1]}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_makes_a_picture_of_every_size(name: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    before = image.copy()
    if name == "webp" and max(size) > 16_383:
        with pytest.raises(PolicyError, match="16,383"):
            parse(name)(image, 3)
        return
    result = parse(name)(image, 3)
    assert result.dtype == np.uint8
    assert result.ndim == 3
    assert result.shape[2] == 3
    assert result.size
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_changes_a_photo_and_the_same_seed_changes_it_alike(name: str, photo: np.ndarray) -> None:
    transform = parse(name)
    result = transform(photo, seed_of("file:///a.jpg"))
    copied = pickle.loads(pickle.dumps(transform))  # noqa: S301  our own
    np.testing.assert_array_equal(result, copied(photo, seed_of("file:///a.jpg")))
    assert (result.shape == photo.shape and np.array_equal(result, photo)) == (name == "noop")
    drawn = "rng" in inspect.signature(TRANSFORMS[name]).parameters
    other = transform(photo, seed_of("file:///b.jpg"))
    assert np.array_equal(result, other) != drawn


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_called_by_keyword_too_and_spelled_in_one_way(name: str, photo: np.ndarray) -> None:
    transform = parse(name)
    assert transform.spec == name
    np.testing.assert_array_equal(transform(image=photo), transform(photo, 0))
    assert inspect.getdoc(TRANSFORMS[name])


def test_a_catalogue_of_at_least_twenty() -> None:
    assert len(TRANSFORMS) >= 20


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("jpeg:quality=95", "jpeg"),
        ("jpeg:60", "jpeg:quality=60"),
        (" blur : sigma = 2 ", "blur"),
        ("blur:2.50", "blur:sigma=2.5"),
        ("pad:0.1,level=255,sides=all", "pad:fraction=0.1,level=255,sides=all"),
        ("noise:0.2,per_channel=True", "noise:per_channel=true"),
        ("crop:0.05+jpeg:60", "crop+jpeg:quality=60"),
        ("watermark:text=MY SITE", "watermark:text=MY SITE"),
        ("noop:256", "noop:longer_side=256"),
    ],
)
def test_texts_have_a_canonical_form(text: str, spec: str) -> None:
    assert parse(text).spec == spec
    assert parse(parse(text).spec).spec == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blurr", "unknown transform 'blurr'; did you mean 'blur'?"),
        ("crop+", "unknown transform ''"),
        ("jpeg:qualty=60", "unknown parameter 'qualty' of jpeg; did you mean 'quality'?"),
        ("jpeg:101", "quality=101 of jpeg cannot be meant: it is outside 1 to 100"),
        ("jpeg:high", "'high' is no int"),
        ("jpeg:60,90", "parameter '90' of jpeg has no value"),
        ("jpeg:60,quality=90", "parameter 'quality' of jpeg is given twice"),
        ("jpeg:", "has no value"),
        ("blur:nan", "give a finite number"),
        ("noise:per_channel=maybe", "'maybe' is no bool"),
        ("flip:horizontl", "did you mean 'horizontal'?"),
        ("grayscale:1", "grayscale has no parameters; leave out '1'"),
        ("no.such.module", "cannot import transform 'no.such.module'"),
        ("os.sep", "is no function"),
    ],
)
def test_what_cannot_be_meant_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_transform_of_ones_own_by_its_dotted_path(photo: np.ndarray) -> None:
    mine = parse(f"{__name__}.swapped_channels")
    np.testing.assert_array_equal(mine(photo), photo[..., ::-1])
    assert mine.spec == f"{__name__}.swapped_channels"


def test_a_chain_is_its_steps_one_after_the_other(photo: np.ndarray) -> None:
    np.testing.assert_array_equal(parse("crop:0.1+gamma:3")(photo), parse("gamma:3")(parse("crop:0.1")(photo)))
    twice = parse("noise+noise")(photo, 5)
    assert not np.array_equal(twice, parse("noise")(parse("noise")(photo, 5), 5))  # each step draws anew


@pytest.mark.parametrize(
    "wrong", [None, np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused_going_in_and_coming_out(wrong: object) -> None:
    with pytest.raises(UsageError, match="a picture is an array"):
        parse("noop")(wrong)
    with pytest.raises(UsageError, match="a picture is an array"):
        call(lambda image: wrong, picture(2, 2))


def test_sizes_are_those_announced(photo: np.ndarray) -> None:
    height, width = photo.shape[:2]
    expected = {
        "resize:0.5": (round(height / 2), round(width / 2)),
        "pad:0.2": (height + 2 * round(0.2 * height), width),
        "crop:0.05": (height - 2 * round(0.05 * height), width - 2 * round(0.05 * width)),
        "rotate90": (width, height),
        "rotate:4": (height, width),
        "mirror-tile": (2 * height, 2 * width),
        "aspect:2": (height, 2 * width),
        "downscale:0.1": (height, width),
    }
    assert {text: parse(text)(photo).shape[:2] for text in expected} == expected
    assert max(parse("noop:256")(photo).shape) == 256
    assert max(parse("noop:700")(photo).shape) == 700


def test_levels_are_those_of_the_formulas() -> None:
    grey = np.full((40, 40, 3), 128, np.uint8)
    assert (parse("gamma:2")(grey) == round(255 * (128 / 255) ** 2)).all()
    assert (parse("invert")(grey) == 127).all()
    assert (parse("brightness:1.5")(grey) == 192).all()
    assert (parse("border:0.1,level=7")(grey)[0] == 7).all()
    noisy = parse("noise:0.1")(np.full((400, 400, 3), 128, np.uint8), 1).astype(float)
    assert abs(noisy.std() - 25.5) < 0.5
    assert (noisy[..., 0] == noisy[..., 2]).all()
    assert (
        parse("noise:0.1,per_channel=true")(grey, 1)[..., 0] != parse("noise:0.1,per_channel=true")(grey, 1)[..., 2]
    ).any()
    shifted = parse("shift:0.25,level=9")(grey)
    assert (shifted[:10] == 9).all()
    assert (shifted[10:, 10:] == 128).all()
    assert (parse("perspective:0")(picture(50, 40), 2) == picture(50, 40)).all()
    assert isinstance(parse("flip"), Transform)
