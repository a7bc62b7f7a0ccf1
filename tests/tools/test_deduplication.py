"""Duplicates among hashes equal those of the slow obvious way; among files, they are those that the samples list."""

import base64
import csv
import itertools
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from conftest import SAMPLES
from neardup import hashers
from neardup.errors import UsageError
from neardup.tools import deduplicate, deduplicate_hashes, deduplication, flatten

BITS = {"hash_length": 13, "hash_dtype": "bool", "distance_metric": "hamming"}


class Bar:
    """Called as tqdm is; remembers how far it came."""

    def __init__(self) -> None:
        self.bars: list[dict[str, object]] = []

    def __call__(self, iterable, total=None, desc=None):
        bar = {"total": total, "desc": desc, "seen": 0}
        self.bars.append(bar)
        for item in iterable:
            bar["seen"] += 1
            yield item


class Least(hashers.ImageHasher):
    """A hasher whose distance is its own: the least difference of two elements."""

    hash_length = 3
    dtype = "float32"
    distance_metric = "custom"

    def _compute(self, image):
        return image.reshape(-1, 3).mean(axis=0)

    def _compute_distance(self, vector1, vector2):
        return np.abs(vector1 - vector2).min()


class Corners(hashers.ImageHasher):
    """Several hashes per image, none for a black one."""

    hash_length = 3
    dtype = "uint8"
    distance_metric = "euclidean"
    returns_multiple = True

    def _compute(self, image):
        return [image[0, 0], image[-1, -1]] if image.any() else []


def slow_pairs(hashes: list, threshold: float, metric: str) -> list:
    """Every two ids of which two vectors are near, in the order of the ids' first appearance."""
    order = list(dict.fromkeys(identity for identity, _ in hashes))
    given = [(identity, vector) for identity, vector in hashes if vector is not None]
    if len(given) < 2:
        return []
    distance = squareform(pdist(np.array([vector for _, vector in given], np.float32), metric), checks=False)
    near = {
        tuple(sorted((order.index(a), order.index(b))))
        for (i, (a, _)), (j, (b, _)) in itertools.combinations(enumerate(given), 2)
        if a != b and distance[i, j] < threshold
    }
    return [(order[a], order[b]) for a, b in sorted(near)]


def random_hashes(dtype: str, n: int, width: int, seed: int = 0) -> list:
    """(id, vector) with repeated ids of several types, equal and near vectors, and some that are None."""
    rng = np.random.default_rng(seed)
    ids = [f"file {n}" for n in range(n // 3)] + [Path("a/b.jpg"), ("video", 3), 7, frozenset({1}), b"x"]
    centres = rng.integers(0, 256, (n // 6 + 1, width))
    vectors = centres[rng.integers(0, len(centres), n)] + rng.integers(0, 9, (n, width)) * rng.integers(0, 2, (n, 1))
    if dtype == "bool":
        vectors = vectors >> 7 & 1
    vectors = np.clip(vectors, 0, 255).astype(dtype)
    return [(ids[rng.integers(0, len(ids))], None if k % 17 == 5 else vector) for k, vector in enumerate(vectors)]


SPACES = [
    ("bool", "hamming", [0.0, 0.01, 1 / 13, 2 / 13, 0.3, 1.0]),
    ("uint8", "euclidean", [0.0, 1e-9, 5.0, 11.0, 150.0]),
    ("uint8", "sqeuclidean", [0.0, 1.0, 25.0, 121.0]),
    ("float32", "cosine", [0.0, 1e-17, 1e-4, 1e-2]),
    ("float32", "euclidean", [5.0, 11.0, float("inf")]),
    ("uint8", "hamming", [0.01, 0.4, 1.0]),
    ("bool", "euclidean", [0.5, 1.0, 1.5, 2.0]),
]


@pytest.mark.parametrize(("dtype", "metric", "thresholds"), SPACES, ids=lambda value: str(value))
@pytest.mark.parametrize("tile", [1 << 17, 16])
def test_pairs_are_those_of_the_slow_obvious_way(
    dtype: str, metric: str, thresholds: list[float], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deduplication, "TILE_ROWS", tile)
    monkeypatch.setattr(deduplication, "CHUNK_PAIRS", tile)
    for width in (1, 13):
        hashes = random_hashes(dtype, 150, width)
        sizes = []
        for threshold in thresholds:
            found = deduplicate_hashes(hashes, threshold, hash_length=width, hash_dtype=dtype, distance_metric=metric)
            assert found == slow_pairs(hashes, threshold, metric)
            sizes.append(len(found))
        assert sizes == sorted(sizes)
        assert sizes[-1] > 20


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_list_of_hashes(data: st.DataObject) -> None:
    ids = st.one_of(st.integers(0, 4), st.sampled_from(["a", "b", ("a", 1), None]))
    hashes = data.draw(st.lists(st.tuples(ids, st.one_of(st.none(), st.tuples(*[st.booleans()] * 3))), max_size=12))
    threshold = data.draw(st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 2 / 3, 1.0]))
    found = deduplicate_hashes(hashes, threshold, hash_length=3, hash_dtype="bool", distance_metric="hamming")
    assert found == slow_pairs(hashes, threshold, "hamming")
    survivors = {identity for identity, _ in hashes} - {first for first, _ in found}
    assert all(first != second for first, second in found)
    assert bool(survivors) == bool(hashes)
    turned = deduplicate_hashes(hashes[::-1], threshold, hash_length=3, hash_dtype="bool", distance_metric="hamming")
    assert set(map(frozenset, turned)) == set(map(frozenset, found))


def test_ids_come_back_as_they_were_given() -> None:
    ids = [np.str_("numpy"), "text", Path("p.jpg"), ("clip.mp4", 12), 3, None]
    found = deduplicate_hashes([(identity, np.ones(13)) for identity in ids], 0.1, **BITS)
    assert found == list(itertools.combinations(ids, 2))
    assert all(any(value is identity for identity in ids) for pair in found for value in pair)
    assert type(found) is list
    with pytest.raises(UsageError, match=r"\['a'\] cannot be an id"):
        deduplicate_hashes([(["a"], np.ones(13))], 0.1, **BITS)


def test_few_hashes() -> None:
    one = ("a", np.zeros(13))
    for hashes in ([], [one], [("a", None)], [("a", None), ("b", None)], [one, one], [one, ("b", None)], iter([one])):
        assert deduplicate_hashes(hashes, 1.0, **BITS) == []
        assert deduplicate_hashes(hashes, 9.0, hash_length=13, hash_dtype="float32", distance_metric="euclidean") == []
    for dtype in ("bool", "uint8", "float32"):  # null hashes before and between others do not shift the numbers
        hashes = [("n", None), ("a", np.ones(13)), ("m", None), ("b", np.ones(13)), ("z", None)]
        metric = "hamming" if dtype == "bool" else "euclidean"
        assert deduplicate_hashes(hashes, 0.5, hash_length=13, hash_dtype=dtype, distance_metric=metric) == [("a", "b")]


def test_hashes_that_have_no_distance_are_near_to_none() -> None:
    null, gap = np.zeros(3), np.array([np.nan, 1, 2])
    space = {"hash_length": 3, "hash_dtype": "float32"}
    hashes = [("a", null), ("b", null), ("c", gap), ("d", gap), ("e", np.ones(3)), ("f", np.ones(3))]
    assert deduplicate_hashes(hashes, 2.0, distance_metric="cosine", **space) == [("e", "f")]
    assert deduplicate_hashes(hashes, 0.1, distance_metric="euclidean", **space) == [("a", "b"), ("e", "f")]


def test_strings_in_both_formats_and_vectors_may_be_mixed() -> None:
    hasher = hashers.PHash(hash_size=16, exclude_first_term=True)
    vector = hasher.compute(SAMPLES / "perception/image1.jpg", "vector")
    hashes = [("vector", vector), ("text", hasher.vector_to_string(vector)), ("list", vector.tolist())]
    assert deduplicate_hashes(hashes, 0.001, hasher=hasher) == list(
        itertools.combinations(["vector", "text", "list"], 2)
    )
    hashes = [("hex", hasher.vector_to_string(vector, "hex")), ("vector", vector.astype(np.uint8))]
    assert deduplicate_hashes(hashes, 0.001, "hex", hasher) == [("hex", "vector")]
    # Only 255 bits count: the padding bit of the last byte, set here, does not.
    padded = base64.b64encode(bytes(31) + b"\x01").decode()
    assert deduplicate_hashes([("a", padded), ("b", np.zeros(255))], 0.001, hasher=hasher) == [("a", "b")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("AAAAAAAA", "the hash of 'a' cannot be used: Incorrect string length"),
        ("!!!!", "is not a base64 string"),
        (np.zeros(12), "12 elements, not 13"),
        (["x", "y"], "the hash of 'a' cannot be used"),
        ([[1, 2], [3]], "the hash of 'a' cannot be used"),
    ],
)
def test_hashes_that_cannot_be_used_are_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        deduplicate_hashes([("a", value)], 0.1, **BITS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hash_length": None}, "give hasher, or hash_length"),
        ({"hash_dtype": "int8"}, "unknown hash dtype 'int8'"),
        ({"distance_metric": "manhattan"}, "unknown distance metric 'manhattan'"),
        ({"distance_metric": "custom"}, "give the hasher"),
        ({"hash_length": 0}, "0 elements"),
        ({"threshold": 20}, "threshold 20 is outside 0..1"),
        ({"threshold": -0.1}, "outside 0..1"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"threshold": -1.0, "distance_metric": "euclidean"}, "no distance is below it"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        deduplicate_hashes(**{"hashes": [], "threshold": 0.1, **BITS, **changes})


def test_the_hasher_decides_and_says_so() -> None:
    hasher = hashers.PHash(hash_size=16)
    hashes = [("a", np.ones(256)), ("b", np.ones(256))]
    with pytest.warns(
        UserWarning, match=r"the hasher decides; ignored: hash_length=64 \(the hasher has 256\)$"
    ) as caught:
        assert deduplicate_hashes(hashes, 0.2, hasher=hasher, hash_length=64, hash_dtype="bool") == [("a", "b")]
    assert caught[0].filename == __file__
    same = {"hash_length": 256, "hash_dtype": "bool", "distance_metric": "hamming"}
    assert deduplicate_hashes(hashes, 0.2, hasher=hasher, **same) == [("a", "b")]


def test_a_custom_metric_is_compared_pair_by_pair() -> None:
    hashes = [("a", [0, 50, 90]), ("b", [7, 7, 7]), ("a", [7, 0, 0]), ("c", None), ("d", [0.5, 99, 99])]
    hashes += [("b", [7.2, 9, 9])]
    bar = Bar()
    assert deduplicate_hashes(hashes, 0.51, hasher=Least(), progress=bar) == [("a", "b"), ("a", "d")]
    assert deduplicate_hashes(hashes, 0.5, hasher=Least()) == [("a", "b")]
    assert deduplicate_hashes(hashes, -1.0, hasher=Least()) == []
    assert bar.bars == [{"total": 5, "desc": "Comparing", "seen": 5}]


@pytest.mark.parametrize("metric", ["hamming", "euclidean"])
def test_progress_sees_every_tile(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "TILE_ROWS", 2048)
    rng = np.random.default_rng(0)
    dtype = "bool" if metric == "hamming" else "uint8"
    hashes = list(enumerate(rng.integers(0, 2, (5000, 40))))
    bar = Bar()
    deduplicate_hashes(hashes, 0.01, hash_length=40, hash_dtype=dtype, distance_metric=metric, progress=bar)
    assert bar.bars == [{"total": 6, "desc": "Comparing", "seen": 6}]


def test_many_ids_with_one_hash_and_many_hashes_of_one_id() -> None:
    rng = np.random.default_rng(0)
    flood = [(n, np.zeros(13)) for n in range(300)] + [("video", vector) for vector in rng.integers(0, 2, (400, 13))]
    found = deduplicate_hashes(flood, 0.01, **BITS)
    blank_in_video = not all(vector.any() for name, vector in flood if name == "video")
    assert found[: 299 + blank_in_video] == [(0, n) for n in range(1, 300)] + [(0, "video")] * blank_in_video
    assert len(found) == 300 * 299 // 2 + 300 * blank_in_video


# --- files ------------------------------------------------------------------------------------------------------------


def listed_pairs() -> set[frozenset[str]]:
    with open(SAMPLES / "expected.csv") as file:
        pairs = {frozenset((row["file_a"], row["file_b"])) for row in csv.DictReader(file)}
    return {pair for pair in pairs if not any(name.startswith("clips/") for name in pair)}


def sample_files() -> list[str]:
    folders = ("perception", "endless-sky", "scratch", "copies")
    return [str(file) for folder in folders for file in sorted((SAMPLES / folder).iterdir())]


def test_the_listed_duplicates_are_found_and_no_others() -> None:
    files, bar = sample_files(), Bar()
    found = deduplicate(files, [(hashers.PHash(hash_size=16), 0.2)], progress=bar)
    assert {frozenset(str(Path(file).relative_to(SAMPLES)) for file in pair) for pair in found} == listed_pairs()
    assert len(found) == len(listed_pairs())
    positions = [(files.index(a), files.index(b)) for a, b in found]
    assert positions == sorted(positions)
    assert all(a < b for a, b in positions)
    assert [(made["total"], made["seen"]) for made in bar.bars] == [(len(files), len(files)), (1, 1)]
    assert deduplicate([Path(file) for file in files], [(hashers.PHash(hash_size=16), 0.2)]) == [
        (Path(a), Path(b)) for a, b in found
    ]


def test_several_hashers_find_what_any_of_them_finds() -> None:
    files = sample_files()
    pairs = [(hashers.PHash(hash_size=16), 0.1), (hashers.PHashU8(), 4.0), (hashers.BlockMean(), 0.008)]
    alone = [deduplicate(files, [pair]) for pair in pairs]
    assert len({frozenset(found) for found in alone}) == 3
    together = deduplicate(files, pairs)
    assert set(together) == set().union(*alone)
    assert together == sorted(together, key=lambda pair: (files.index(pair[0]), files.index(pair[1])))
    assert deduplicate(files, []) == []


@pytest.fixture
def turned(tmp_path: Path) -> list[str]:
    """Three photos and a turned, mirrored copy of each."""
    files = []
    for number, turn in ((1, cv2.ROTATE_90_CLOCKWISE), (4, cv2.ROTATE_180), (9, cv2.ROTATE_90_COUNTERCLOCKWISE)):
        original = SAMPLES / f"perception/image{number}.jpg"
        copy = tmp_path / f"turned{number}.png"
        cv2.imwrite(str(copy), cv2.flip(cv2.rotate(cv2.imread(str(original)), turn), 1))
        files += [str(original), str(copy)]
    return files


@pytest.mark.parametrize("hasher", [hashers.PHash(hash_size=16), hashers.DHash(hash_size=16)], ids=["phash", "dhash"])
def test_isometric_copies_are_duplicates(turned: list[str], hasher: hashers.Hasher) -> None:
    assert deduplicate(turned, [(hasher, 0.1)]) == []
    assert deduplicate(turned, [(hasher, 0.1)], isometric=True) == [tuple(turned[k : k + 2]) for k in (0, 2, 4)]


def test_several_hashes_per_file(tmp_path: Path) -> None:
    files = []
    for name, first, last in (("a", 10, 200), ("b", 90, 12), ("c", 203, 91), ("black", 0, 0), ("d", 255, 150)):
        pixels = np.full((8, 8, 3), (first + last) // 2, np.uint8)
        pixels[0, 0], pixels[-1, -1] = first, last
        files.append(str(tmp_path / f"{name}.png"))
        cv2.imwrite(files[-1], pixels)
    a, b, c, black, _ = files
    with pytest.warns(UserWarning) as caught:
        found = deduplicate(files, [(Corners(), 6.0)])
    assert found == [(a, b), (a, c), (b, c)]
    assert [str(warning.message) for warning in caught] == [f"{black} was not compared: Corners has no hash for it"]


@pytest.mark.parametrize("isometric", [False, True])
def test_files_that_fail_are_named_with_the_reason(tmp_path: Path, isometric: bool) -> None:
    photo, copy = SAMPLES / "perception/image1.jpg", tmp_path / "copy.jpg"
    shutil.copy(photo, copy)
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((80, 80, 3), np.uint8))
    files = [
        str(tmp_path / "black.png"),
        str(SAMPLES / "broken/page.jpg"),
        str(photo),
        str(tmp_path / "absent"),
        str(copy),
    ]
    pairs = [(hashers.PHashF(), 1.0), (hashers.PHashF(hash_size=16), 1.0)]
    with pytest.warns(UserWarning) as caught:
        assert deduplicate(files, pairs, isometric=isometric) == [(str(photo), str(copy))]
    texts = [str(warning.message) for warning in caught]
    assert [text.partition(" was not compared: ")[0] for text in texts] == [files[0], files[1], files[3]]
    assert texts[0].endswith("PHashF has no hash for it")
    assert "Could not find image" in texts[2]
    assert {warning.filename for warning in caught} == {__file__}


def test_names_of_one_file_are_no_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLES / "perception/image1.jpg", "a.jpg")
    shutil.copy("a.jpg", "b.jpg")
    Path("link.jpg").symlink_to("a.jpg")
    files = ["a.jpg", "a.jpg", Path("a.jpg"), "./a.jpg", str(tmp_path / "a.jpg"), "link.jpg", "b.jpg"]
    with pytest.warns(UserWarning, match=r"5 files were given .* \(a.jpg, a.jpg, ./a.jpg, \.\.\.\)") as caught:
        assert deduplicate(files, [(hashers.PHash(), 0.1)]) == [("a.jpg", "b.jpg")]
    assert caught[0].filename == __file__


def test_nothing_is_hashed_before_the_settings_are_checked() -> None:
    bar = Bar()
    with pytest.raises(UsageError, match="threshold 12 is outside"):
        deduplicate(sample_files(), [(hashers.PHash(), 0.1), (hashers.DHash(), 12)], progress=bar)
    with pytest.raises(UsageError, match="5 is not a path"):
        deduplicate([5], [(hashers.PHash(), 0.1)], progress=bar)
    assert bar.bars == []


def test_no_files_and_one_file() -> None:
    for files in ([], sample_files()[:1]):
        assert deduplicate(files, [(hashers.PHash(), 1.0), (hashers.PHashU8(), 1e9)], isometric=True) == []


def test_flatten() -> None:
    assert flatten([[1, 2], [], (3,), "ab"]) == [1, 2, 3, "a", "b"]
