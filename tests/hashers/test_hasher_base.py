"""The base classes: hashers of a user's own, encodings, distances, parallel hashing."""

import cv2
import numpy as np
import pytest
from hasher_samples import PHOTOS, golden, image, listed, photo_path

from neardup import hashers
from neardup.errors import UsageError
from neardup.hashers import VARIANTS, Planes, tools


class ShrinkHash(hashers.Hasher):
    """The example of the reference documents: a plain Hasher with nothing but `_compute`."""

    hash_length = 64
    dtype = "uint8"
    distance_metric = "euclidean"

    def _compute(self, image):
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        resized = cv2.resize(gray, dsize=(8, 8))
        return resized.flatten()


class CornerHashes(hashers.ImageHasher):
    """Several hashes per image, a distance and a quality of its own, and none for a black image."""

    hash_length = 3
    dtype = "uint8"
    distance_metric = "custom"
    returns_multiple = True

    def _compute(self, image):
        return [image[0, 0], image[-1, -1]] if image.any() else None

    def _compute_with_quality(self, image):
        return self._compute(image), 7

    def _compute_distance(self, vector1, vector2):
        return np.abs(vector1.astype(int) - vector2.astype(int)).max()


def test_a_plain_hasher_subclass_computes() -> None:
    hasher = ShrinkHash()
    pixels = image("image1.jpg")
    text = hasher.compute(photo_path("image1.jpg"))
    assert text == hasher.compute(pixels)
    vector = hasher.compute(pixels, hash_format="vector")
    assert vector.dtype == np.uint8
    assert hasher.compute_distance(text, vector) == 0
    assert hasher.compute_with_quality(pixels) == (text, 100)
    np.testing.assert_array_equal(hasher.hash_planes(Planes(pixels))[0], vector)
    turned = tools.get_isometric_transforms(pixels)
    assert hasher.compute_isometric(pixels) == {variant: hasher.compute(turned[variant]) for variant in VARIANTS}


def test_several_hashes_per_image() -> None:
    hasher = CornerHashes()
    pixels = image("F(7,9)")
    texts = hasher.compute(pixels, "hex")
    assert texts == [pixels[0, 0].tobytes().hex(), pixels[-1, -1].tobytes().hex()]
    assert hasher.compute(image("const(0,100,100)")) is None
    assert hasher.compute_with_quality(pixels, "hex") == (texts, 7)
    assert hasher.hash_planes(Planes(pixels))[1] == 7
    assert hasher.compute_distance("010203", "010903", "hex") == 7


def test_a_class_without_compute_says_so() -> None:
    with pytest.raises(NotImplementedError, match="_compute"):
        hashers.ImageHasher().compute(image("F(7,9)"))
    with pytest.raises(NotImplementedError, match="does not support hash rotation"):
        hashers.PHash().compute_isometric_from_hash("+Pgnh2zLGgU=")


def test_isometric_variants_from_the_hash_alone() -> None:
    for hasher in (hashers.AverageHash(), hashers.BlockMean()):
        variants = hasher.compute_isometric(image("image4.jpg"))
        assert hasher.compute_isometric_from_hash(variants["r0"]) == variants
        vector = hasher.string_to_vector(variants["r0"])
        assert hasher.compute_isometric_from_hash(vector, "hex") == hasher.compute_isometric(image("image4.jpg"), "hex")


def test_vectors_have_the_dtype_of_the_hasher_in_every_format() -> None:
    for name in hashers.HASHERS:
        hasher = hashers.parse(name)
        for vector in listed(hasher, hasher.compute(image("image2.jpg"), hash_format="vector")):
            assert vector.dtype == np.dtype(hasher.dtype)


def test_encodings_of_the_reference() -> None:
    for example in golden()["encoding"]:
        dtype, vector = example["dtype"], np.array(example["vector"], dtype=example["dtype"])
        for hash_format in ("hex", "base64"):
            text = tools.vector_to_string(vector, dtype, hash_format)
            assert text == example[hash_format]
            np.testing.assert_array_equal(tools.string_to_vector(text, dtype, len(vector), hash_format), vector)
        assert tools.hex_to_b64(example["hex"], dtype, len(vector)) == example["base64"]
        assert tools.b64_to_hex(example["base64"], dtype, len(vector)) == example["hex"]
        np.testing.assert_array_equal(tools.vector_to_string(vector, dtype, "vector"), vector)
    assert tools.vector_to_string(None, "bool", "hex") is None


def test_string_lengths_of_the_reference() -> None:
    for key, characters in golden()["get_string_length"].items():
        length, dtype, hash_format = key.split(",")
        assert tools.get_string_length(int(length), dtype, hash_format) == characters


@pytest.mark.parametrize(
    ("text", "hash_format", "message"),
    [
        ("ab", "hex", "Incorrect string length for this hash format"),
        ("zz" * 8, "hex", "is not a hex string"),
        ("!" * 12, "base64", "is not a base64 string"),
        ("ab", "base32", "unknown hash format 'base32'"),
    ],
)
def test_strings_that_are_no_hash_are_refused(text: str, hash_format: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hashers.PHash().string_to_vector(text, hash_format)


def test_distances() -> None:
    class Metric(ShrinkHash):
        dtype = "float32"
        hash_length = 2

        def __init__(self, distance_metric: str) -> None:
            self.distance_metric = distance_metric

    a, b = np.array([3.0, 4.0]), np.array([0.0, 5.0])
    assert Metric("euclidean").compute_distance(a, b) == pytest.approx(10**0.5)
    assert Metric("sqeuclidean").compute_distance(a, b) == pytest.approx(10)
    assert Metric("cosine").compute_distance(a, b) == pytest.approx(0.2)
    assert Metric("hamming").compute_distance(a, b) == 1
    with pytest.raises(NotImplementedError, match="manhattan not supported"):
        Metric("manhattan").compute_distance(a, b)
    # Differences of bytes do not wrap.
    assert ShrinkHash().compute_distance(np.array([0], np.uint8), np.array([255], np.uint8)) == 255


def test_a_missing_hash_has_no_distance() -> None:
    hasher = hashers.PHashF()
    assert hasher.compute(image("const(0,100,100)")) is None
    with pytest.raises(UsageError, match="a hash is None"):
        hasher.compute_distance(None, np.zeros(64))
    with pytest.raises(UsageError, match="lengths 63 and 64"):
        hasher.compute_distance(np.zeros(63), np.zeros(64))


def test_parallel_records_come_in_input_order_with_errors_in_place() -> None:
    hasher = hashers.PHash()
    paths = [str(photo_path(name)) for name in PHOTOS] * 3
    paths.insert(4, "/no/such/image.jpg")
    seen: list[tuple[int, str | None]] = []

    def progress(iterable, total, desc):
        seen.append((total, desc))
        return iterable

    records = hasher.compute_parallel(paths, progress=progress, progress_desc="hashing")
    assert seen == [(31, "hashing")]
    assert [record["filepath"] for record in records] == paths
    assert records[4]["hash"] is None
    assert records[4]["error"] == "Could not find image at path: /no/such/image.jpg"
    assert [record["hash"] for record in records[:4]] == [hasher.compute(image(name)) for name in PHOTOS[:4]]
    (record,) = hasher.compute_parallel([photo_path("image1.jpg")], isometric=True)
    assert record["hash"] == hasher.compute_isometric(image("image1.jpg"))


def test_parallel_takes_paths_only_and_warns_where_it_cannot() -> None:
    with pytest.raises(UsageError, match="should be provided as paths"):
        hashers.PHash().compute_parallel([image("image1.jpg")])

    class Alone(ShrinkHash):
        allow_parallel = False

    with pytest.warns(UserWarning, match="cannot be used in parallel"):
        records = Alone().compute_parallel([str(photo_path("image1.jpg"))])
    assert records[0]["error"] is None


def test_images_that_are_not_eight_bit_rgb_are_refused() -> None:
    with pytest.raises(UsageError, match="must be RGB images"):
        hashers.PHash().compute(np.zeros((8, 8), np.uint8))
    with pytest.raises(UsageError, match="must be RGB images"):
        hashers.PHash().compute(np.zeros((8, 0, 3), np.uint8))
    with pytest.raises(UsageError, match="8 bits per channel"):
        hashers.PHash().compute(np.zeros((8, 8, 3), np.uint16))
    turned = image("F(64,48)")[::-1, ::-1]
    assert hashers.PHash().compute(turned) == hashers.PHash().compute(np.ascontiguousarray(turned))
