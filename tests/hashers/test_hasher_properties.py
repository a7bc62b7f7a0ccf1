"""What holds for every image: distances, isometric variants, odd sizes, inputs left alone."""

import numpy as np
import pytest
from hasher_samples import listed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from neardup.hashers import HASHERS, VARIANTS, Planes, parse, tools
from neardup.hashers.isometric import isometric_dct

SHAPES = [(1, 1), (1, 7), (2, 3), (3, 3), (4, 9), (5, 5), (64, 64), (63, 65), (100, 37), (4000, 10), (10, 4000)]
# How far the variants may lie from the hashes of the turned images, as a fraction of the bits or of the norm: turning
# an image moves the rounding of its resize, and so bits next to a threshold; PDQ's samples lie a little off the middle.
VARIANT_TOLERANCE = {"blockmean": 0.0, "pdq": 0.15, "pdqf": 0.2, "phashf": 0.005, "phashu8": 0.02, "colormoment": 0.005}
SETTINGS = settings(max_examples=25, deadline=None, derandomize=True, database=None)

images = npst.arrays(np.uint8, st.tuples(st.integers(5, 40), st.integers(5, 40), st.just(3)))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    r, c = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    waves = np.sin(r / height * 9 + c / width * 5) + np.cos(c / width * 7 - r / height * 2 + np.arange(3))
    return ((waves + 2) * 60).astype(np.uint8)


@pytest.mark.parametrize("name", HASHERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_size_has_a_hash_and_is_left_alone(name: str, shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    before = pixels.copy()
    pixels.setflags(write=False)
    hasher = parse(name)
    vectors, quality = hasher.hash_planes(Planes(pixels))
    assert 0 <= quality <= 100
    texts = listed(hasher, hasher.compute(pixels))
    for vector, text in zip(listed(hasher, vectors), texts, strict=True):
        assert vector.shape == (hasher.hash_length,)
        assert np.isfinite(vector.astype(float)).all()
        assert text == hasher.vector_to_string(vector)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("name", HASHERS)
@given(a=images, b=images)
@SETTINGS
def test_distances_are_distances(name: str, a: np.ndarray, b: np.ndarray) -> None:
    hasher = parse(name)
    first, second = (listed(hasher, hasher.compute(pixels))[0] for pixels in (a, b))
    if first is None or second is None:
        return
    distance = hasher.compute_distance(first, second)
    assert hasher.compute_distance(first, first) == 0
    assert distance == hasher.compute_distance(second, first)
    assert distance >= 0
    if hasher.distance_metric == "hamming":
        assert distance <= 1
        packed = [np.frombuffer(hasher.pack(hasher.string_to_vector(text)), np.uint8) for text in (first, second)]
        differing = int(np.unpackbits(packed[0] ^ packed[1]).sum())
        assert distance == differing / hasher.hash_length


@given(dtype=st.sampled_from(["bool", "uint8", "float32"]), data=st.data())
@SETTINGS
def test_encodings_round_trip(dtype: str, data: st.DataObject) -> None:
    vector = data.draw(npst.arrays(dtype, st.integers(1, 70)))
    for hash_format in ("hex", "base64"):
        text = tools.vector_to_string(vector, dtype, hash_format)
        assert len(text) == tools.get_string_length(len(vector), dtype, hash_format)
        again = tools.string_to_vector(text, dtype, len(vector), hash_format)
        np.testing.assert_array_equal(again, vector)
        assert again.dtype == np.dtype(dtype)
        assert again.flags.writeable


@pytest.mark.parametrize("name", HASHERS)
@pytest.mark.parametrize("shape", [(96, 64), (128, 128), (211, 157)])
def test_variants_equal_the_hashes_of_the_turned_image(name: str, shape: tuple[int, int]) -> None:
    hasher = parse(name)
    pixels = smooth(*shape)
    variants = hasher.compute_isometric(pixels, "vector")
    for variant, turned in tools.get_isometric_transforms(pixels).items():
        wanted = listed(hasher, hasher.compute(turned, "vector"))
        for one, other in zip(listed(hasher, variants[variant]), wanted, strict=True):
            scale = 1 if hasher.distance_metric == "hamming" else np.linalg.norm(other.astype(float))
            distance = hasher.compute_distance(one, other)
            assert distance <= VARIANT_TOLERANCE.get(name, 0.05) * scale, variant


def test_variants_of_an_array_are_eight_different_views() -> None:
    pixels = noise(5, 3)
    turned = tools.get_isometric_transforms(pixels)
    assert tuple(turned) == VARIANTS
    assert all(array.flags.c_contiguous for array in turned.values())
    np.testing.assert_array_equal(turned["r90"], np.rot90(pixels))
    np.testing.assert_array_equal(turned["r180"], np.rot90(pixels, 2))
    np.testing.assert_array_equal(turned["r270"], np.rot90(pixels, 3))
    np.testing.assert_array_equal(turned["fv"], np.flipud(pixels))
    np.testing.assert_array_equal(turned["fh"], np.fliplr(pixels))
    np.testing.assert_array_equal(turned["r90fv"], np.flipud(turned["r90"]))
    np.testing.assert_array_equal(turned["r90fh"], np.fliplr(turned["r90"]))
    gray = tools.get_isometric_transforms(pixels[..., 0], require_color=False)
    np.testing.assert_array_equal(gray["r90"], np.rot90(pixels[..., 0]))


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_dct_blocks_of_the_variants(offset: int) -> None:
    import scipy.fft

    plane = noise(16, 16)[..., 0].astype(float)
    block = scipy.fft.dctn(plane)[offset : offset + 5, offset : offset + 7]
    blocks = tools.get_isometric_dct_transforms(block, offset)
    for variant, turned in tools.get_isometric_transforms(plane, require_color=False).items():
        shape = blocks[variant].shape
        wanted = scipy.fft.dctn(turned)[offset : offset + shape[0], offset : offset + shape[1]]
        np.testing.assert_allclose(blocks[variant], wanted, atol=1e-9)
    with pytest.raises(ValueError, match="negative"):
        isometric_dct(block, -1)
