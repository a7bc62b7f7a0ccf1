"""Hashes as values: text forms, distances, comparisons, inputs; and what is not as in ImageHash on purpose."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import SAMPLES
from imagehash_samples import FUNCTIONS, PHOTOS, photo, photo_hash
from neardup import imagehash
from neardup.errors import MissingError, UndecodableError, UsageError
from neardup.hashers import Planes, cropresistant, tools
from neardup.hashers import imagehash_variants as variants
from neardup.imagehash import ImageHash, ImageMultiHash, IncomparableError

BITS = st.lists(st.booleans(), min_size=1, max_size=70)


def square(side: int) -> st.SearchStrategy[ImageHash]:
    rows = st.lists(st.lists(st.booleans(), min_size=side, max_size=side), min_size=side, max_size=side)
    return rows.map(ImageHash)


def multi(side: int) -> st.SearchStrategy[ImageMultiHash]:
    return st.lists(square(side), min_size=1, max_size=5).map(ImageMultiHash)


def flat(*bits: int) -> ImageHash:
    return ImageHash([bits])


# --- text ---------------------------------------------------------------------------------------------------------


@given(BITS)
def test_the_text_is_the_number_in_hex(bits: list[bool]) -> None:
    number = int("".join(map(str, map(int, bits))), 2)
    text = str(ImageHash([bits]))
    assert text == f"{number:0{math.ceil(len(bits) / 4)}x}"
    assert imagehash.hex_to_hash(text, shape=(1, len(bits))) == ImageHash(bits)
    assert imagehash.hex_to_flathash(text, len(bits)).hash.shape[0] == 1
    if len(bits) > 3:
        assert imagehash.hex_to_flathash(text, len(bits)) == ImageHash(bits)


@given(st.integers(2, 20).flatmap(square))
def test_square_hashes_come_back_from_their_text(one: ImageHash) -> None:
    again = imagehash.hex_to_hash(str(one))
    np.testing.assert_array_equal(again.hash, one.hash)
    assert imagehash.hex_to_hash(str(one).upper()) == one
    assert hash(again) == hash(one)


@given(st.integers(2, 9).flatmap(multi))
def test_multi_hashes_come_back_from_their_text(many: ImageMultiHash) -> None:
    again = imagehash.hex_to_multihash(str(many))
    assert again.segment_hashes == many.segment_hashes
    assert str(again) == str(many)
    assert hash(again) == hash(many)


@pytest.mark.parametrize("binbits", [1, 2, 3, 4, 5, 8])
def test_colour_hashes_come_back_from_their_text(binbits: int) -> None:
    for name in PHOTOS:
        one = imagehash.colorhash(photo(name), binbits)
        assert one.hash.shape == (14, binbits)
        np.testing.assert_array_equal(imagehash.hex_to_hash(str(one), shape=(14, binbits)).hash, one.hash)
        assert imagehash.hex_to_flathash(str(one), 14 * binbits) == one
        assert binbits == 1 or imagehash.hex_to_flathash(str(one), binbits) == one
    many = imagehash.crop_resistant_hash(photo(PHOTOS[2]), imagehash.colorhash)
    assert imagehash.hex_to_multihash(str(many), shape=(14, 3)).segment_hashes == many.segment_hashes


def test_old_texts_have_the_least_bit_first() -> None:
    one = imagehash.old_hex_to_hash("0102040810204080")
    np.testing.assert_array_equal(one.hash, np.eye(8, dtype=bool))
    assert imagehash.old_hex_to_hash("ab" * 8) == imagehash.hex_to_hash("d5" * 8)
    assert imagehash.old_hex_to_hash("f" * 18, hash_size=9).hash.shape == (9, 8)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: imagehash.hex_to_hash("07000000000"), "11 hex digits, which is no square hash; give shape="),
        (lambda: imagehash.hex_to_hash(""), "no square hash"),
        (lambda: imagehash.hex_to_hash("0x00000000000000"), "is not a hex text"),
        (lambda: imagehash.hex_to_hash("00_0000000000000"), "is not a hex text"),
        (lambda: imagehash.hex_to_hash("8000000"), "'8000000' is more than 25 bits"),
        (lambda: imagehash.hex_to_hash("ab", shape=(3, 4)), "shape (3, 4) is another size"),
        (lambda: imagehash.hex_to_flathash("ab", 9), "holds no hash of 9 bits"),
        (lambda: imagehash.hex_to_flathash("ab", 0), "holds no hash of 0 bits"),
        (lambda: imagehash.hex_to_flathash("ff", 7), "is more than 7 bits"),
        (lambda: imagehash.hex_to_multihash("0000000000000000,"), "no square hash"),
        (lambda: imagehash.old_hex_to_hash("abcd"), "hash_size 8 has 16"),
    ],
)
def test_texts_of_no_hash_are_refused(work, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        work()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- one hash -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 80).flatmap(lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n)] * 3)))
def test_the_distance_is_a_metric(bits) -> None:
    a, b, c = map(ImageHash, bits)
    assert a - b == b - a == sum(x != y for x, y in zip(bits[0], bits[1], strict=True))
    assert a - a == 0
    assert a - c <= (a - b) + (b - c)
    assert (a == b) is (a - b == 0)
    assert type(a - b) is int
    assert a != b or hash(a) == hash(b)


def test_hashes_are_compared_bit_by_bit_whatever_their_shape() -> None:
    bits = np.arange(64) % 3 == 0
    one, row = ImageHash(bits.reshape(8, 8)), ImageHash(bits[None])
    assert one == row
    assert hash(one) == hash(row)
    assert one - row == 0
    assert len(one) == 64
    assert repr(one) == repr(bits.reshape(8, 8))
    assert one != ImageHash(~bits)
    assert ImageHash(bits[:60]) != one


def test_a_hash_differs_from_everything_that_is_no_hash() -> None:
    one = flat(1, 0, 1)
    for other in (None, 5, "a", one.hash):
        assert one != other
        assert not one == other  # noqa: SIM201
        with pytest.raises(TypeError, match="unsupported operand"):
            one - other
    with pytest.raises(TypeError, match=r"shapes \(1, 3\) and \(1, 2\) cannot be compared"):
        one - flat(1, 0)


def test_equal_numbers_of_bits_in_each_column_do_not_make_equal_python_hashes() -> None:
    texts = {hash(ImageHash(np.roll(np.eye(8, dtype=bool), k, axis=1))) for k in range(8)}
    assert len(texts) == 8
    assert hash(flat(0, 0)) != hash(flat(0, 0, 0))


# --- several ------------------------------------------------------------------------------------------------------


def slow_hash_diff(a: ImageMultiHash, b: ImageMultiHash, cutoff: float) -> tuple[int, int]:
    nearest = [min(one - other for other in b.segment_hashes) for one in a.segment_hashes]
    near = [distance for distance in nearest if distance <= cutoff]
    return len(near), sum(near)


@given(multi(4), multi(4), st.sampled_from([None, 0, 3, 4.5, 16]), st.sampled_from([None, 0, 0.1, 0.5]))
def test_segments_are_near_up_to_the_cutoff(a: ImageMultiHash, b: ImageMultiHash, cutoff, rate) -> None:
    effective = cutoff if cutoff is not None else 16 * (0.25 if rate is None else rate)
    count, total = slow_hash_diff(a, b, effective)
    assert a.hash_diff(b, cutoff, rate) == (count, total)
    difference = len(a.segment_hashes)
    if count:
        difference = len(a.segment_hashes) - (count - total / (count * 16))
    assert a.__sub__(b, cutoff, rate) == difference
    for region_cutoff in range(7):
        assert a.matches(b, region_cutoff, cutoff, rate) is (count >= region_cutoff)
    assert a.distance(b, cutoff, rate) == b.distance(a, cutoff, rate)
    assert 0 <= a.distance(b, cutoff, rate) <= 1


@given(multi(4), multi(4))
def test_equality_is_symmetric_and_the_distance_to_itself_is_zero(a: ImageMultiHash, b: ImageMultiHash) -> None:
    assert (a == b) is (b == a) is a.matches(b)
    assert (a != b) is not (a == b)
    assert a - a == 0
    assert a.distance(a) == 0
    assert a == a


@given(multi(4), st.lists(multi(4), min_size=1, max_size=6))
def test_the_best_match_is_the_first_of_the_nearest(a: ImageMultiHash, others: list[ImageMultiHash]) -> None:
    differences = [a - other for other in others]
    assert a.best_match(iter(others)) is others[differences.index(min(differences))]


def test_the_symmetric_distance_compares_across_images() -> None:
    one, far = flat(*[0] * 16), flat(*[1] * 16)
    assert ImageMultiHash([one]).distance(ImageMultiHash([far])) == 1
    assert ImageMultiHash([one]).distance(ImageMultiHash([one, far])) == 0.25
    assert ImageMultiHash([one, far]).distance(ImageMultiHash([one])) == 0.25


def test_a_multi_hash_differs_from_everything_that_is_none() -> None:
    many = ImageMultiHash([flat(1, 0)])
    for other in (None, 5, flat(1, 0)):
        assert many != other
        assert not many == other  # noqa: SIM201
        with pytest.raises(TypeError):
            many - other
    with pytest.raises(IncomparableError, match="cannot be compared with NoneType"):
        many.matches(None)
    assert repr(many) == repr([flat(1, 0)])


def test_an_empty_multi_hash_matches_nothing() -> None:
    empty, many = imagehash.hex_to_multihash(""), ImageMultiHash([flat(1, 0)])
    assert str(empty) == ""
    assert empty.hash_diff(many) == many.hash_diff(empty) == (0, 0)
    assert empty != many
    assert many != empty
    assert many - empty == 1
    assert many.best_match([empty, many]) is many
    with pytest.raises(UsageError, match="without segments"):
        empty - many
    with pytest.raises(UsageError, match="at least one other"):
        many.best_match([])


def test_segments_of_several_lengths_meet_only_their_own_kind() -> None:
    a = ImageMultiHash([flat(*[0] * 16), flat(*[0] * 32), flat(*[0] * 9)])
    b = ImageMultiHash([flat(*[0] * 32), flat(1, *[0] * 15)])
    assert a.hash_diff(b) == b.hash_diff(a) == (2, 1)
    assert a - b == 3 - (2 - (1 / 16) / 2)
    assert a == b
    with pytest.raises(TypeError, match="of 9 bits and of 16, 32 bits cannot be compared"):
        ImageMultiHash([flat(*[0] * 9)]).hash_diff(b)
    with pytest.raises(IncomparableError, match="of 64 bits and of 256 bits"):
        photo_hash(PHOTOS[0], "orig", "default").matches(
            imagehash.crop_resistant_hash(photo(PHOTOS[0]), lambda image: imagehash.dhash(image, 16))
        )


# --- inputs -------------------------------------------------------------------------------------------------------


def test_an_image_may_be_given_in_any_form() -> None:
    path = SAMPLES / "perception" / PHOTOS[0]
    image = Image.open(path)
    pixels = np.asarray(image.convert("RGB"))
    assert not pixels.flags.writeable
    for function in (*FUNCTIONS.values(), imagehash.crop_resistant_hash):
        wanted = str(function(image))
        for form in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), pixels):
            assert str(function(form)) == wanted
    gray = np.asarray(image.convert("L"))
    assert imagehash.dhash(gray) == imagehash.dhash(image)
    assert imagehash.crop_resistant_hash(gray).segment_hashes == imagehash.crop_resistant_hash(image).segment_hashes


def test_files_are_turned_upright_and_pillow_images_are_taken_as_they_are() -> None:
    turned, upright = SAMPLES / "copies/tracks-turned.jpg", SAMPLES / "scratch/train-tracks1.jpg"
    assert imagehash.phash(turned) - imagehash.phash(upright) <= 6
    assert imagehash.phash(Image.open(turned)) - imagehash.phash(Image.open(upright)) > 16


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_segments_are_hashed_alike_by_known_and_unknown_functions(mode: str) -> None:
    image = photo(PHOTOS[2]).convert(mode)
    pixels = image.tobytes()
    for function in (imagehash.phash, imagehash.whash, imagehash.colorhash):
        known = imagehash.crop_resistant_hash(image, function)
        unknown = imagehash.crop_resistant_hash(image, lambda crop, function=function: function(crop))
        assert known.segment_hashes == unknown.segment_hashes
    assert image.tobytes() == pixels


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(MissingError):
        imagehash.dhash("no-such-file.jpg")
    with pytest.raises(UndecodableError):
        imagehash.crop_resistant_hash(b"no image")
    with pytest.raises(UsageError, match="Unhandled"):
        imagehash.phash(None)
    with pytest.raises(UsageError, match="0x5 pixels has no hash"):
        imagehash.dhash(Image.new("L", (0, 5)))
    with pytest.raises(UsageError, match="0x5 pixels has no hash"):
        imagehash.colorhash(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda image: imagehash.average_hash(image, 1), "average_hash needs at least 2"),
        (lambda image: imagehash.phash(image, 1), "phash needs at least 2"),
        (lambda image: imagehash.dhash(image, 1), "dhash needs at least 2"),
        (lambda image: imagehash.dhash_vertical(image, 0), "dhash_vertical needs at least 1"),
        (lambda image: imagehash.phash_simple(image, 1, 1), "highfreq_factor 1 is too small"),
        (lambda image: imagehash.phash(image, 8, 0), "highfreq_factor 0 is too small"),
        (lambda image: imagehash.whash(image, 12), "hash_size 12 is not a power of two"),
        (lambda image: imagehash.whash(image, 8, 100), "image_scale 100 is not a power of two"),
        (lambda image: imagehash.whash(image, 8, 4), "image_scale 4 is smaller than hash_size 8"),
        (lambda image: imagehash.whash(image, mode="harr"), "unknown wavelet 'harr'"),
        (lambda image: imagehash.colorhash(image, 0), "colorhash needs at least 1"),
        (lambda image: variants.ImageHashAverage(mean="mode"), "mean 'mode' is unknown"),
        (lambda image: variants.ImageHashWHash(mode="db4"), "give image_scale"),
        (lambda image: variants.ImageHashColor(binbits=0), "colorhash needs at least 1"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(work, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        work(photo(PHOTOS[0]))
    assert message in str(caught.value)


def test_small_hashes() -> None:
    image = photo(PHOTOS[0])
    assert imagehash.dhash_vertical(image, 1).hash.shape == (1, 1)
    assert imagehash.phash_simple(image, 1).hash.shape == (1, 1)
    assert imagehash.whash(image, 1).hash.shape == (1, 1)
    assert imagehash.average_hash(image, 2, mean=np.median).hash.shape == (2, 2)


# --- the catalogue entry ------------------------------------------------------------------------------------------


def test_the_hasher_shares_its_luma_and_hashes_every_variant() -> None:
    hasher = cropresistant.CropResistantHash()
    pixels = tools.read(SAMPLES / "perception" / PHOTOS[2])
    planes = Planes(pixels)
    assert variants.shared_luma(planes) is variants.shared_luma(planes)
    texts = hasher.compute(pixels, "hex")
    assert ",".join(texts) == str(photo_hash(PHOTOS[2], "orig", "default"))
    arrays = tools.get_isometric_transforms(pixels)
    variants_of_it = hasher.compute_isometric(pixels, "hex")
    assert variants_of_it == {variant: hasher.compute(arrays[variant], "hex") for variant in arrays}
    assert hasher.hash_planes_isometric(planes)[1] == hasher.hash_planes(planes)[1]
    assert hasher.compute_distance(texts[0], texts[1], "hex") == (
        (imagehash.hex_to_hash(texts[0]) - imagehash.hex_to_hash(texts[1])) / 64
    )
