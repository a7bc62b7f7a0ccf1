"""Every hash of ImageHash 4.3.2, string for string, on ten photos, their crops and drawn pictures."""

import hashlib

import numpy as np
import pytest

from imagehash_samples import DRAWN, FUNCTIONS, PHOTOS, SETTINGS, VARIANTS, drawn, golden, photo, photo_hash
from neardup import imagehash
from neardup.hashers import Planes, cropresistant
from neardup.hashers import imagehash_variants as variants

# On flat and repeating pictures the DCT is rounding noise, which differs between processors.
NOISE = ("phash", "phash_16")


def segments(image) -> list[list[int]]:
    plane = cropresistant.segmentation_plane(variants.luma(image), 300)
    found = cropresistant.find_segments(plane, 128, 500)
    return [[s.area, s.rows[0], s.columns[0], s.rows[1], s.columns[1]] for s in found]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", PHOTOS)
def test_photos(name: str, variant: str) -> None:
    image, wanted = photo(name, variant), golden()["images"][name]["variants"][variant]
    assert hashlib.sha256(image.tobytes()).hexdigest() == wanted["rgb_sha256"]
    hashes = {function: FUNCTIONS[function](image) for function in FUNCTIONS}
    shape = list(hashes["whash_db4"].hash.shape)
    assert {**{k: str(value) for k, value in hashes.items()}, "whash_db4_shape": shape} == wanted["hashes"]
    assert {key: str(photo_hash(name, variant, key)) for key in SETTINGS} == wanted["crop_resistant"]
    assert segments(image) == wanted["segments"]


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_pictures(name: str) -> None:
    image, wanted = drawn(name), golden()["synthetic"][name]
    assert ([*image.size], image.mode) == (wanted["size"], wanted["mode"])
    assert hashlib.sha256(image.tobytes()).hexdigest() == wanted["pixels_sha256"]
    for function in FUNCTIONS.keys() - set(NOISE):
        assert str(FUNCTIONS[function](image)) == wanted["hashes"][function], function
    assert list(FUNCTIONS["whash_db4"](image).hash.shape) == wanted["hashes"]["whash_db4_shape"]
    for key, text in wanted["crop_resistant"].items():
        assert str(imagehash.crop_resistant_hash(image, **SETTINGS[key])) == text
    assert segments(image) == wanted["segments"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_crops_are_found_as_the_reference_finds_them(settings: str) -> None:
    for name in PHOTOS:
        for pair, (count, total, difference, matching) in golden()["images"][name]["compare"][settings].items():
            a, b = (photo_hash(name, variant, settings) for variant in pair.split("|"))
            assert a.hash_diff(b) == (count, total)
            assert a - b == difference
            assert a.matches(b) is matching
            assert (a == b) is matching


@pytest.mark.parametrize("settings", golden()["unrelated_pairs"])
def test_unrelated_photos_match_where_the_reference_matches_them(settings: str) -> None:
    found = {}
    for a in PHOTOS:
        for b in PHOTOS:
            count, total = photo_hash(a, "orig", settings).hash_diff(photo_hash(b, "orig", settings))
            if a != b and count:
                found[f"{a}|{b}"] = [count, total]
    assert found == golden()["unrelated_pairs"][settings]


@pytest.mark.parametrize("name", PHOTOS)
def test_the_best_match_of_a_crop_is_its_photo(name: str) -> None:
    crop = photo_hash(name, "left10", "default")
    photos = [photo_hash(other, "orig", "default") for other in PHOTOS]
    assert crop.best_match(photos) is photos[PHOTOS.index(name)]


@pytest.mark.parametrize("spec", golden()["hashers"])
def test_catalogue_entries(spec: str) -> None:
    name, _, text = spec.partition(":")
    parameters = dict(item.split("=") for item in text.split(",") if item)
    words = {"true": True, "false": False}
    arguments = {k: int(v) if v.isdigit() else words.get(v, v) for k, v in parameters.items()}
    hasher = CLASSES[name](**arguments)
    assert hasher.hash_length == golden()["hashers"][spec]["hash_length"]
    for photo_name, wanted in golden()["hashers"][spec]["hashes"].items():
        pixels = np.asarray(photo(photo_name))
        vectors, quality = hasher.hash_planes(Planes(pixels))
        packed = [hasher.pack(v).hex() for v in vectors] if hasher.returns_multiple else hasher.pack(vectors).hex()
        assert packed == wanted
        assert hasher.compute(pixels, "hex") == packed
        assert 0 <= quality <= 100


CLASSES = {
    "cropresistant": cropresistant.CropResistantHash,
    "imagehash.average_hash": variants.ImageHashAverage,
    "imagehash.colorhash": variants.ImageHashColor,
    "imagehash.dhash": variants.ImageHashDHash,
    "imagehash.dhash_vertical": variants.ImageHashDHashVertical,
    "imagehash.phash": variants.ImageHashPHash,
    "imagehash.phash_simple": variants.ImageHashPHashSimple,
    "imagehash.whash": variants.ImageHashWHash,
}


def test_the_golden_file_is_whole() -> None:
    assert (len(PHOTOS), len(DRAWN), len(golden()["hashers"])) == (10, 17, 22)
    assert {spec.partition(":")[0] for spec in golden()["hashers"]} == set(CLASSES)
