"""The examples of perception's documentation run with only the import line changed, on the sample photos.

Their downloads are replaced by folders of the same shape, and `tqdm` and `tabulate`, which are no dependencies, by
stand-ins with their signatures.
"""

# ruff: noqa: PTH206, PTH207, C403, T201 (the examples are written as they are)

import csv
import glob
import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pandas as pd
import pytest

from conftest import SAMPLES
from tools.https_service import Service, service, write_certificate

PHOTO = SAMPLES / "perception/image1.jpg"


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int, int]]:
    """Modules for the examples to import; gives what their progress bars saw: (desc, total, items)."""
    bars: list[tuple[str, int, int]] = []

    def tqdm(iterable: Iterable, desc: str | None = None, total: int | None = None, **_: object) -> Iterator:
        items = 0
        for item in iterable:
            items += 1
            yield item
        bars.append((desc, total, items))

    def tabulate(frame: pd.DataFrame, headers: list[str], showindex: bool, tablefmt: str) -> str:
        assert tablefmt == "rst"
        return frame.to_string(index=showindex, header=headers)

    for function in (tqdm, tabulate):
        module = ModuleType(function.__name__)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, function.__name__, module)
    monkeypatch.chdir(tmp_path)
    return bars


@pytest.fixture
def matching_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    certificate = write_certificate(tmp_path / "service.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "*")
    with service(certificate) as running:
        yield running


def listed_pairs(names: Iterable[str]) -> set[frozenset[str]]:
    """The duplicates that the list of the samples names, by file name, among these names."""
    with open(SAMPLES / "expected.csv") as file:
        pairs = [frozenset((Path(row["file_a"]).name, Path(row["file_b"]).name)) for row in csv.DictReader(file)]
    known = set(names)
    return {pair for pair in pairs if pair <= known}


def test_simple_deduplication(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("thorn-perceptual-deduplication-example")
    folder.mkdir()
    for file in itertools.chain(*((SAMPLES / name).glob("*.jpg") for name in ("perception", "scratch", "copies"))):
        shutil.copy(file, folder)

    import tabulate

    from neardup import hashers, tools

    filepaths = glob.glob("thorn-perceptual-deduplication-example/*.jpg")
    duplicate_pairs = tools.deduplicate(files=filepaths, hashers=[(hashers.PHash(hash_size=16), 0.2)])
    print(tabulate.tabulate(pd.DataFrame(duplicate_pairs), showindex=False, headers=["file1", "file2"], tablefmt="rst"))

    expected = listed_pairs(path.name for path in folder.iterdir())
    assert {frozenset(map(os.path.basename, pair)) for pair in duplicate_pairs} == expected
    assert len(duplicate_pairs) == len(expected) > 6
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file1", "file2"]
    assert [tuple(line.split()) for line in lines[1:]] == duplicate_pairs
    for first, _ in duplicate_pairs:  # what the example says can be done with them
        Path(first).unlink(missing_ok=True)
    left = glob.glob("thorn-perceptual-deduplication-example/*.jpg")
    assert tools.deduplicate(files=left, hashers=[(hashers.PHash(hash_size=16), 0.2)]) == []
    assert len(left) == len(filepaths) - len({first for first, _ in duplicate_pairs})


def test_deduplication_within_groups_with_isometric_copies(stand_ins: list[tuple[str, int, int]]) -> None:
    turns = {"001.buildings": cv2.ROTATE_90_CLOCKWISE, "002.nature": cv2.ROTATE_180}
    members = {"001.buildings": (1, 4, 5), "002.nature": (2, 8)}
    for group, turn in turns.items():
        folder = Path("256_ObjectCategories") / group
        folder.mkdir(parents=True)
        for number in members[group]:
            shutil.copy(SAMPLES / f"perception/image{number}.jpg", folder)
        original = cv2.imread(str(folder / f"image{members[group][0]}.jpg"))
        cv2.imwrite(str(folder / "turned.jpg"), cv2.flip(cv2.rotate(original, turn), 1))
    shutil.copy(SAMPLES / "perception/image1.jpg", "256_ObjectCategories/002.nature/elsewhere.jpg")

    import tqdm

    from neardup import hashers, tools

    files = glob.glob("256_ObjectCategories/**/*.jpg")
    filepath_group = [(filepath, os.path.normpath(filepath).split(os.sep)[-2]) for filepath in files]
    groups = list(set([group for _, group in filepath_group]))
    comparison_hashers = [(hashers.PHash(hash_size=16), 0.2)]
    duplicate_pairs = []
    for current_group in groups:
        current_filepaths = [filepath for filepath, group in filepath_group if group == current_group]
        current_duplicate_pairs = tools.deduplicate(
            files=current_filepaths, hashers=comparison_hashers, isometric=True, progress=tqdm.tqdm
        )
        duplicate_pairs.extend(current_duplicate_pairs)

    assert {frozenset(pair) for pair in duplicate_pairs} == {
        frozenset(f"256_ObjectCategories/{group}/{name}" for name in (f"image{members[group][0]}.jpg", "turned.jpg"))
        for group in members
    }
    assert len(duplicate_pairs) == 2
    counts = [len([file for file, group in filepath_group if group == current]) for current in groups]
    assert [(total, items) for _, total, items in stand_ins] == [n for k in counts for n in ((k, k), (1, 1))]


def test_matching(matching_service: Service) -> None:
    shutil.copy(PHOTO, "myfile.jpg")

    from neardup import tools

    matcher = tools.SaferMatcher(
        api_key="YOUR_API_KEY",
        url=matching_service.url,
    )
    matches = matcher.match(["myfile.jpg"])

    assert matches == {"matches": []}
    assert matching_service.requests[0].headers["Authorization"] == "Basic YOUR_API_KEY"


def test_matching_by_the_minimal_example(matching_service: Service) -> None:
    from neardup import hashers, tools

    hasher = hashers.PHash(hash_size=16)
    matches = hashers.tools.SaferMatcher(
        api_key="YOUR_API_KEY",
        username="YOUR_USERNAME",
        password="YOUR_PASSWORD",
        url=matching_service.url,
    )

    assert isinstance(matches, tools.SaferMatcher)
    matches.match([str(PHOTO)])
    assert hasher.compute(str(PHOTO)) in matching_service.requests[0].body.decode()


def test_a_custom_hasher_beside_all_others() -> None:
    from neardup import hashers, tools

    class ShrinkHash(hashers.Hasher):
        hash_length = 64
        dtype = "uint8"
        distance_metric = "euclidean"

        def _compute(self, image):
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            resized = cv2.resize(gray, dsize=(8, 8))
            return resized.flatten()

    hashers_dict = {
        "ahash": hashers.AverageHash(hash_size=16),
        "dhash": hashers.DHash(hash_size=16),
        "pdq": hashers.PDQHash(),
        "phash": hashers.PHash(hash_size=16),
        "marrhildreth": hashers.MarrHildreth(),
        "wavelet": hashers.WaveletHash(hash_size=16),
        "blockmean": hashers.BlockMean(),
        "shrinkhash": ShrinkHash(),
    }

    copies = [SAMPLES / "copies/butterfly.png", SAMPLES / "copies/headquarters.webp", SAMPLES / "copies/fort-exact.jpg"]
    files = [str(file) for file in sorted((SAMPLES / "perception").iterdir()) + copies]
    expected = listed_pairs(Path(file).name for file in files)
    thresholds = {"ahash": 0.008, "dhash": 0.07, "pdq": 0.2, "phash": 0.2, "marrhildreth": 0.1, "wavelet": 0.02}
    thresholds |= {"blockmean": 0.008, "shrinkhash": 60.0}
    assert len(expected) == 3
    for name, hasher in hashers_dict.items():
        found = tools.deduplicate(files, [(hasher, thresholds[name])])
        assert {frozenset(Path(file).name for file in pair) for pair in found} == expected, name
        hashes = [(file, hasher.compute(file)) for file in files]
        vectors = [(file, hasher.compute(file, hash_format="vector")) for file in files]
        for given in (hashes, vectors):
            assert tools.deduplicate_hashes(given, thresholds[name], hasher=hasher) == found
        records = hasher.compute_parallel(files)
        assert [(record["filepath"], record["hash"]) for record in records] == hashes
        assert isinstance(hasher.compute_distance(hashes[0][1], hashes[1][1]), float)
        np.testing.assert_array_equal(hasher.string_to_vector(hashes[0][1]), vectors[0][1])


def test_video_deduplication() -> None:
    """The page's video example: frames that differ enough within a video, compared across videos."""
    from neardup import hashers, tools
    from neardup.transforms.video import parse_video

    parse_video("resize:0.75+fps:5+reencode:codec=gif")(SAMPLES / "clips/v1.m4v", "v1")
    hasher = hashers.PHash(hash_size=16)
    intravideo_threshold, intervideo_threshold = 0.1, 0.2
    hashes = []
    for file in [*sorted((SAMPLES / "clips").iterdir()), Path("v1.gif")]:
        previous = None
        for frame, _, _ in hashers.tools.read_video(str(file), frames_per_second=1):
            current, quality = hasher.compute_with_quality(frame, hash_format="vector")
            if quality < 90 or (
                previous is not None and hasher.compute_distance(current, previous) < intravideo_threshold
            ):
                continue
            previous = current
            hashes.append((file.name, current))
    assert len(hashes) > 10
    duplicates = tools.deduplicate_hashes(hashes=hashes, threshold=intervideo_threshold, hasher=hasher)
    assert duplicates == [("v1.m4v", "v1.gif"), ("v2.m4v", "v2s.mov")]
