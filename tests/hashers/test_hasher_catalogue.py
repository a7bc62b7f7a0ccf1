"""What holds for every entry of the catalogue, and the text form of hashers."""

import inspect

import numpy as np
import pytest
from hasher_samples import golden_specs, image, listed

from neardup import hashers
from neardup.errors import UsageError
from neardup.hashers import HASHERS, VARIANTS, Hasher, Planes, canonical, parse

NAMES = tuple(HASHERS)


class MyHash(Hasher):
    """A hasher of a user's own, found by its dotted path."""

    hash_length = 4
    dtype = "uint8"
    distance_metric = "euclidean"

    def __init__(self, scale: int = 1, label: str | None = None) -> None:
        self.scale = scale
        self.label = label

    def _compute(self, image: np.ndarray) -> np.ndarray:
        return (image[0, 0].repeat(2)[:4] // self.scale).astype(np.uint8)


class Unfinished(Hasher):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_has_golden_vectors(name: str) -> None:
    specs = {spec.partition(":")[0] for spec in golden_specs()}
    assert name in specs, f"hasher {name!r} has no golden vectors in tests/golden"


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_keeps_the_contract(name: str) -> None:
    hasher = parse(name)
    assert isinstance(hasher, Hasher)
    assert hasher.revision >= 1
    assert hasher.dtype in ("bool", "uint8", "float32")
    assert hasher.distance_metric in ("hamming", "euclidean", "sqeuclidean", "cosine", "custom")
    assert type(hasher).__doc__
    pixels = image("S(97,203)")
    assert not pixels.flags.writeable
    vectors, quality = hasher.hash_planes(Planes(pixels))
    texts, hexes = (listed(hasher, hasher.compute(pixels, hash_format)) for hash_format in ("base64", "hex"))
    assert 0 <= quality <= 100
    assert hasher.compute_with_quality(pixels) == (hasher.compute(pixels), quality)
    for vector, text, hex_text in zip(listed(hasher, vectors), texts, hexes, strict=True):
        assert vector.shape == (hasher.hash_length,)
        packed = hasher.pack(vector)
        assert len(packed) == len(hasher.pack(np.zeros(hasher.hash_length)))
        assert hex_text == packed.hex()
        np.testing.assert_array_equal(hasher.unpack(packed), vector.astype(hasher.dtype))
        np.testing.assert_array_equal(hasher.string_to_vector(text), vector.astype(hasher.dtype))
        assert hasher.compute_distance(vector, text) == pytest.approx(0, abs=0.01)
    assert tuple(hasher.compute_isometric(pixels)) == VARIANTS
    assert hasher.compute_isometric(pixels)["r0"] == hasher.compute(pixels)


@pytest.mark.parametrize("name", NAMES)
def test_hashing_after_others_gives_what_hashing_alone_gives(name: str) -> None:
    alone = listed(parse(name), parse(name).compute(image("image3.jpg")))
    planes = Planes(image("image3.jpg"))
    for other in NAMES:
        parse(other).hash_planes(planes)
        parse(other).hash_planes_isometric(planes)
    vectors, _ = parse(name).hash_planes(planes)
    assert [parse(name).vector_to_string(vector) for vector in listed(parse(name), vectors)] == alone


@pytest.mark.parametrize(
    "spec",
    [*NAMES, *golden_specs(), "phash: freq_shift = 1 ,hash_size=16", "wavelet:image_scale=none,mode=haar"],
)
def test_the_canonical_text_stands_for_the_hasher(spec: str) -> None:
    hasher = parse(spec)
    text = canonical(hasher)
    again = parse(text)
    assert canonical(again) == text
    assert type(again) is type(hasher)
    assert vars(again) == vars(hasher)


def test_the_canonical_text_has_sorted_keys_and_no_defaults() -> None:
    assert canonical(parse("phash:hash_size=16,freq_shift=1,box_filter=false")) == "phash:freq_shift=1,hash_size=16"
    assert canonical(parse("phash:box_filter=TRUE")) == "phash:box_filter=true"
    assert canonical(parse("phash:hash_size=8")) == "phash"
    assert canonical(hashers.WaveletHash(hash_size=16, image_scale=64)) == "wavelet:hash_size=16,image_scale=64"


def test_a_hasher_of_ones_own_is_named_by_its_dotted_path() -> None:
    spec = f"{MyHash.__module__}.MyHash:scale=2,label=x"
    hasher = parse(spec)
    assert (hasher.scale, hasher.label) == (2, "x")
    assert canonical(hasher) == f"{MyHash.__module__}.MyHash:label=x,scale=2"
    assert canonical(MyHash()) == f"{MyHash.__module__}.MyHash"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("phahs", "unknown hasher 'phahs'; did you mean 'phash'?"),
        ("", "unknown hasher ''"),
        ("phash:hash_sice=16", "unknown parameter 'hash_sice' of PHash; did you mean 'hash_size'?"),
        ("phash:hash_size", "write hash_size=VALUE"),
        ("phash:", "has no value"),
        ("phash:hash_size=big", "'big' is no int"),
        ("phash:box_filter=perhaps", "'perhaps' is no bool"),
        ("phash:hash_size=8,hash_size=8", "given twice"),
        ("phash:hash_size=1", "too small"),
        ("phash:freq_shift=25", "may be 0 to 24"),
        ("phash:freq_shift=-1", "may be 0 to 24"),
        ("wavelet:hash_size=12", "power of two"),
        ("wavelet:image_scale=4", "power of two of at least hash_size"),
        ("wavelet:mode=harr", "unknown wavelet"),
        ("ahash:hash_size=1", "too small"),
        ("dhash:hash_size=1", "too small"),
        ("pdq:x=1", "has no parameters"),
        ("no_such_package.MyHash", "cannot import hasher"),
        (f"{MyHash.__module__}.NoHash", "cannot import hasher"),
        ("pathlib.Path", "is not a subclass of"),
        (f"{MyHash.__module__}.Unfinished", "does not define hash_length, dtype, distance_metric"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_labels_hold_only_safe_characters() -> None:
    assert hashers.folder_label("phash:hash_size=16") == "phash-hash_size-16"
    assert hashers.folder_label("a.b_c:é=1,d/e") == "a.b_c---1-d-e"


def test_thresholds_are_recommended_for_the_documented_configurations_only() -> None:
    documented = {
        "ahash:hash_size=16": 0.008,
        "blockmean": 0.008,
        "dhash:hash_size=16": 0.07,
        "marrhildreth": 0.1,
        "pdq": 0.2,
        "phash:hash_size=16": 0.2,
        "wavelet:hash_size=16": 0.02,
    }
    assert {spec: hashers.recommended_threshold(parse(spec)) for spec in documented} == documented
    for spec in ("phash", "ahash", "phash:hash_size=16,freq_shift=1", "colormoment"):
        assert hashers.recommended_threshold(parse(spec)) is None


def test_every_built_in_parameter_is_typed_and_kept() -> None:
    for cls in HASHERS.values():
        hasher = cls()
        for name, parameter in list(inspect.signature(cls).parameters.items()):
            assert getattr(hasher, name) == parameter.default
            assert parameter.annotation is not parameter.empty
