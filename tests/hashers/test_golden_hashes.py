"""Every hash of the reference implementation, bit for bit, on ten photos and 31 arrays made by formulas."""

import hashlib
import platform

import numpy as np
import pytest
from hasher_samples import PHOTOS, golden, golden_bits, golden_floats, image

from neardup.hashers import VARIANTS, Planes, parse, tools

IMAGES = tuple(golden()["images"])

# What is not held to the golden file, and why.
NOT_BINDING = {
    "wavelet:mode=db4": "the reference gives 196 bits where hash_length says 64; ours are 64, periodic at the borders",
}
# The reference wraps 8-bit arithmetic at exactly 64x64 pixels and always gives 0; the right value is expected here.
RIGHT_QUALITY = {"F(64,64)": 100, "S(64,64)": 14}
# OpenCV's bicubic resize has two results: with Intel IPP (x86 wheels) and without. Of arrays, only the first is known.
CUBIC = ("marrhildreth", "colormoment")

SPECS = tuple(spec for spec in golden()["hashers"] if spec not in NOT_BINDING)
BIT_SPECS = tuple(spec for spec in SPECS if golden()["hashers"][spec][1] != "float32")
REAL_SPECS = tuple(spec for spec in SPECS if golden()["hashers"][spec][1] == "float32")


def named(name: str) -> dict:
    return golden()["images"][name]


def cases(spec: str) -> tuple[str, ...]:
    """The images whose golden hash this machine can be held to."""
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    return PHOTOS if spec in CUBIC and not on_x86 else IMAGES


def expected_quality(spec: str, name: str) -> int:
    quality = named(name)["hashes"][spec][1]
    return quality if spec in ("pdq", "pdqf") else RIGHT_QUALITY.get(name, quality)


def differing_bits(spec: str, name: str) -> int:
    hasher = parse(spec)
    vector, quality = hasher.hash_planes(Planes(image(name)))
    assert quality == expected_quality(spec, name)
    wanted = [named(name)["hashes"][spec][0]]
    if wanted[0] is None:
        assert vector is None
        return 0
    if spec in CUBIC and name in PHOTOS:
        wanted.append(named(name)["without_ipp"][spec])
    bits = np.unpackbits(np.frombuffer(hasher.pack(vector), np.uint8))
    return min(int(np.count_nonzero(bits != golden_bits(text))) for text in wanted)


@pytest.mark.parametrize("name", IMAGES)
def test_the_images_are_those_that_the_reference_hashed(name: str) -> None:
    assert hashlib.sha256(image(name).tobytes()).hexdigest() == named(name)["rgb_sha256"]
    assert tools.compute_quality(image(name)) == RIGHT_QUALITY.get(name, named(name)["quality"])


@pytest.mark.parametrize("spec", BIT_SPECS)
def test_bits_equal_the_reference(spec: str) -> None:
    assert {name: bits for name in cases(spec) if (bits := differing_bits(spec, name))} == {}


@pytest.mark.parametrize("spec", REAL_SPECS)
def test_real_values_equal_the_reference(spec: str) -> None:
    for name in cases(spec):
        vector, quality = parse(spec).hash_planes(Planes(image(name)))
        text = named(name)["hashes"][spec][0]
        assert quality == expected_quality(spec, name)
        assert (vector is None) == (text is None)
        if text is not None:
            wanted = golden_floats(text)
            tolerance = 0.01 if spec == "colormoment" else 1e-2 + 1e-6 * np.abs(wanted).max()
            np.testing.assert_allclose(vector, wanted, rtol=1e-5, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("spec", BIT_SPECS)
def test_isometric_variants_equal_the_reference(spec: str) -> None:
    if cases(spec) is PHOTOS:
        pytest.skip("golden variants of the bicubic hashes are those of x86")
    hasher = parse(spec)
    compared = 0
    for name in IMAGES:
        wanted = named(name)["hashes"][spec][2]
        if wanted is None:
            continue
        variants, _ = hasher.hash_planes_isometric(Planes(image(name)))
        assert tuple(variants) == VARIANTS
        for variant, text in zip(VARIANTS, wanted, strict=True):
            bits = np.unpackbits(np.frombuffer(hasher.pack(variants[variant]), np.uint8))
            assert np.count_nonzero(bits != golden_bits(text)) == 0, (name, variant)
            compared += 1
    assert compared >= 80


@pytest.mark.parametrize("spec", SPECS)
def test_base64_length_and_distances_equal_the_reference(spec: str) -> None:
    hasher = parse(spec)
    length, dtype, metric, base64_length, hex_length = golden()["hashers"][spec]
    assert (hasher.hash_length, hasher.dtype, hasher.distance_metric) == (length, dtype, metric)
    assert tools.get_string_length(length, dtype, "base64") == base64_length
    assert tools.get_string_length(length, dtype, "hex") == hex_length
    texts = [hasher.compute(image(name)) for name in PHOTOS]
    assert {len(text) for text in texts} == {base64_length}
    if dtype != "float32" and spec not in CUBIC:
        assert texts == [named(name)["hashes"][spec][0] for name in PHOTOS]
    distances = [hasher.compute_distance(texts[0], text) for text in texts[1:]]
    tolerance = {"marrhildreth": 4 / 576, "colormoment": 0.02}.get(spec, 1e-12 if dtype != "float32" else 0.05)
    np.testing.assert_allclose(distances, golden()["distances_from_image1"][spec], rtol=1e-5, atol=tolerance)


def test_all_pairs_of_photos_have_the_distance_of_the_reference() -> None:
    hasher = parse("phash:hash_size=16")
    for pair, distance in golden()["phash16_distances"].items():
        a, b = (hasher.compute(image(name), hash_format="vector") for name in pair.split("|"))
        assert hasher.compute_distance(a, b) == distance


def test_every_exclusion_is_a_golden_configuration() -> None:
    assert set(NOT_BINDING) <= set(golden()["hashers"])
    assert len(IMAGES) == 41
    assert len(SPECS) == 31
