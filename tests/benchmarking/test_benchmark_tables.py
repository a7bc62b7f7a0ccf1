"""What the tables refuse, warn of, keep and share; saving and loading, also of archives that mean harm."""

import os
import shutil
import stat
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmark_samples import TRANSFORMS, golden, ten_photos

from conftest import PHOTOS, SAMPLES
from neardup import transforms
from neardup.benchmarking import (
    BenchmarkError,
    BenchmarkHashes,
    BenchmarkImageDataset,
    BenchmarkImageTransforms,
    ChangedFileError,
    TransformError,
)
from neardup.benchmarking.image_transforms import apply_watermark
from neardup.errors import MissingError, UndecodableError, UsageError
from neardup.hashers import Hasher, PHash, PHashU8, tools


def dataset(*names: str, category: object = "x") -> BenchmarkImageDataset:
    return BenchmarkImageDataset.from_tuples([(SAMPLES / name, category) for name in names])


# --- tables -----------------------------------------------------------------------------------------------------------


def test_other_columns_are_refused() -> None:
    with pytest.raises(BenchmarkError) as caught:
        BenchmarkImageDataset(pd.DataFrame({"a": [1]}))
    assert str(caught.value) == golden()["texts"]["columns"]
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, UsageError)


def test_filtering_keeps_rows_and_warns_of_values_that_are_absent() -> None:
    photos = ten_photos()
    with pytest.warns(UserWarning) as caught:
        few = photos.filter(category=["odd", "zz"])
    assert str(caught[0].message) == golden()["texts"]["filter"]
    assert len(few.df) == 5
    assert list(few.categories) == ["odd"]
    assert len(photos.filter(category="even").df) == 5
    with pytest.raises(UsageError, match="did you mean 'category'"):
        photos.filter(catgory=["odd"])


def test_an_empty_dataset_is_a_dataset() -> None:
    assert list(BenchmarkImageDataset.from_tuples([]).df.columns) == ["filepath", "category"]


def test_duplicates_are_found_within_categories_only() -> None:
    names = ("perception/image5.jpg", "copies/fort-exact.jpg", "perception/image1.jpg")
    without, pairs = dataset(*names).deduplicate(PHash(hash_size=16), threshold=0.001)
    assert pairs == {(str(SAMPLES / names[0]), str(SAMPLES / names[1]))}
    assert without.df.filepath.tolist() == [str(SAMPLES / name) for name in names[1:]]
    apart = BenchmarkImageDataset.from_tuples([(SAMPLES / name, str(n)) for n, name in enumerate(names)])
    assert apart.deduplicate(PHash(hash_size=16))[1] == set()
    assert len(ten_photos().deduplicate(PHash())[0].df) == 10


# --- transforming -----------------------------------------------------------------------------------------------------


def test_a_noop_is_required(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="You must provide a no-op transform"):
        ten_photos().transform({"flip": TRANSFORMS["flip"]}, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_others_are_made_of_the_stored_noop(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def spy(image: np.ndarray) -> np.ndarray:
        seen.append(image.copy())
        image[:] = 0  # it may write into what it gets
        return image

    made = dataset("perception/image3.jpg").transform({"spy": spy, "noop": "noop:64", "again": spy}, tmp_path)
    stored = made.df.set_index("transform_name")
    assert len(set(made.df.guid)) == 1
    assert stored.input_filepath["noop"] == str(SAMPLES / "perception/image3.jpg")
    assert stored.input_filepath["spy"] == stored.filepath["noop"]
    for image in seen:
        np.testing.assert_array_equal(image, tools.read(stored.filepath["noop"]))
    assert max(seen[0].shape) == 64
    assert tools.read(stored.filepath["spy"]).max() == 0
    assert Path(stored.filepath["spy"]).name == f"{made.df.guid[0]}_spy.jpg"


def test_transforms_of_the_catalogue_depend_on_the_path_alone(tmp_path: Path) -> None:
    steps = {"noop": "noop", "noise": "noise:0.2", "text": transforms.parse("text")}
    first, second = (dataset("perception/image3.jpg").transform(steps, tmp_path / name) for name in "ab")
    for a, b in zip(first.df.filepath, second.df.filepath, strict=True):
        assert Path(a).read_bytes() == Path(b).read_bytes()
    assert set(first.df.guid).isdisjoint(second.df.guid)


def test_files_that_cannot_be_read_are_raised_or_left_out_with_a_warning(tmp_path: Path) -> None:
    files = dataset("broken/truncated.jpg", "perception/image1.jpg", "nowhere.jpg")
    with pytest.raises(UndecodableError):
        files.transform({"noop": "noop"}, tmp_path)
    with pytest.warns(UserWarning, match="An error occurred reading") as caught:
        made = files.transform({"noop": "noop"}, tmp_path, errors="warn")
    assert len(caught) == 2
    assert made.df.input_filepath.tolist() == [str(SAMPLES / "perception/image1.jpg")]
    assert len(files.transform({"noop": "noop"}, tmp_path, errors="ignore").df) == 1
    with pytest.raises(UsageError, match="unknown errors='wran'"):
        files.transform({"noop": "noop"}, tmp_path, errors="wran")


@pytest.mark.parametrize("wrong", [lambda image: 1 // 0, lambda image: None, lambda image: image[..., 0]])
def test_a_transform_that_fails_is_named(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(TransformError, match="with transform wrong") as caught:
        dataset("perception/image1.jpg").transform({"noop": "noop", "wrong": wrong}, tmp_path)
    assert isinstance(caught.value, RuntimeError)


def test_a_watermark_is_added_in_the_lower_right_corner() -> None:
    mark = np.full((10, 20, 4), 100, np.uint8)
    mark[:, :10, 3] = 0
    image = np.full((100, 100, 3), 50, np.uint8)
    made = apply_watermark(mark, alpha=0.5, size=0.4)(image)
    assert (made[:80] == 50).all()
    assert (made[85:, 85:] == 100).all()
    assert (made[:, :75] == 50).all()
    assert (image == 50).all()
    with pytest.raises(UsageError, match="alpha channel"):
        apply_watermark(mark[..., :3])


# --- hashing ----------------------------------------------------------------------------------------------------------


class Several(Hasher):
    """As many hashes as the picture has hundreds of columns."""

    hash_length, dtype, distance_metric, returns_multiple = 3, "uint8", "euclidean", True

    def _compute(self, image: np.ndarray) -> list[np.ndarray]:
        return [image[0, 100 * n] for n in range(image.shape[1] // 100)]


class Picky(PHash):
    """Fails on wide pictures."""

    def hash_planes(self, planes: object) -> tuple:
        if planes.rgb.shape[1] > planes.rgb.shape[0]:
            raise ArithmeticError("too wide")
        return super().hash_planes(planes)


class OneByOne(PHash):
    """Not to be used in threads."""

    allow_parallel = False


class OwnWay(PHash):
    """Brings its own compute, which must be used."""

    def compute(self, image: object, hash_format: str = "base64") -> object:
        return super().compute(image, hash_format)[::-1]


def test_hashes_are_those_that_each_hasher_computes_alone(tmp_path: Path) -> None:
    made = ten_photos().filter(category=["odd"]).transform({"noop": "noop"}, tmp_path)
    paths = made.df.filepath.tolist()
    with pytest.warns(UserWarning, match="cannot be used in parallel"):
        hashes = made.compute_hashes(
            {
                "u8": PHashU8(),
                "several": Several(),
                "own": OwnWay(),
                "picky": Picky(),
                "phash": PHash(),
                "one": OneByOne(),
            }
        ).df
    of = dict(iter(hashes.groupby("hasher_name", sort=False)))
    assert of["phash"].hash.tolist() == [PHash().compute(path) for path in paths]
    assert of["one"].hash.tolist() == of["phash"].hash.tolist()
    assert of["own"].hash.tolist() == [PHash().compute(path)[::-1] for path in paths]
    assert of["u8"].hasher_dtype.unique().tolist() == ["uint8"]
    several = [(path, each) for path in paths for each in Several().compute(path)]
    assert list(zip(of["several"].filepath, of["several"].hash, strict=True)) == several
    wide = [tools.read(path).shape[1] > tools.read(path).shape[0] for path in paths]
    assert 0 < sum(wide) < 5
    assert of["picky"].hash.isnull().tolist() == wide
    assert set(of["picky"].error[of["picky"].hash.isnull()]) == {"too wide"}
    assert hashes.guid.isin(made.df.guid).all()


def test_a_file_that_fails_is_a_row_without_a_hash(tmp_path: Path) -> None:
    made = ten_photos().transform({"noop": "noop", "flip": "flip"}, tmp_path)
    Path(made.df.filepath[0]).write_bytes(b"no picture")
    Path(made.df.filepath[11]).unlink()
    hashes = made.compute_hashes({"phash": PHash()})
    assert len(hashes.df) == 20
    assert hashes.df.hash.isnull().tolist() == [n in (0, 11) for n in range(20)]
    assert "not an image" in hashes.df.error[0]
    with pytest.warns(UserWarning, match="Dropping 2 invalid / empty hashes"):
        metrics = hashes.compute_metrics()
    gone = made.df.guid[0]  # without its original, its flip has nothing to be compared with
    assert gone not in set(metrics.guid)
    assert len(metrics) == 17
    assert hashes.compute_metrics() is metrics


def test_no_hashers_and_no_files_give_empty_tables(tmp_path: Path) -> None:
    made = dataset().transform({"noop": "noop"}, tmp_path)
    for hashes in (made.compute_hashes({}), made.compute_hashes({"phash": PHash()})):
        assert len(hashes.df) == 0
        assert len(hashes.compute_threshold_recall()) == 0
        assert hashes.show_histograms().axes == []


# --- metrics ----------------------------------------------------------------------------------------------------------


def hashed(rows: list[tuple[str, str, str, str]], metric: str = "hamming", dtype: str = "bool") -> BenchmarkHashes:
    """From (guid, transform, category, hash in hex)."""
    df = pd.DataFrame(rows, columns=["guid", "transform_name", "category", "hash"])
    df["hash"] = [tools.hex_to_b64(each, dtype, 8 if dtype == "bool" else 1) for each in df["hash"]]
    return BenchmarkHashes(
        df.assign(
            error=None,
            filepath="a.jpg",
            input_filepath="b.jpg",
            hasher_name="h",
            hasher_dtype=dtype,
            hasher_distance_metric=metric,
            hasher_hash_length=8 if dtype == "bool" else 1,
        )
    )


ROWS = [
    ("b", "noop", "x", "ff"),
    ("a", "noop", "x", "00"),
    ("a", "blur", "x", "0f"),
    ("b", "blur", "x", "01"),
    ("c", "noop", "y", "fe"),
    ("c", "blur", "y", "fe"),
]


def test_negatives_come_from_the_same_category() -> None:
    metrics = hashed(ROWS).compute_metrics().set_index(["transform_name", "guid"])
    correct, incorrect = (metrics[f"distance_to_closest_{kind}_image"] for kind in ("correct", "incorrect"))
    assert (correct["blur", "a"], incorrect["blur", "a"]) == (0.5, 0.5)
    assert (correct["blur", "b"], incorrect["blur", "b"]) == (7 / 8, 1 / 8)
    assert metrics.closest_incorrect_guid["blur", "b"] == "a"
    assert metrics.distance_to_closest_image["blur", "b"] == 1 / 8
    assert correct["blur", "c"] == 0
    assert np.isnan(incorrect["blur", "c"])
    assert metrics.closest_incorrect_guid["blur", "c"] is None or pd.isnull(metrics.closest_incorrect_guid["blur", "c"])


@pytest.mark.parametrize(("metric", "dtype"), [("hamming", "bool"), ("euclidean", "uint8")])
def test_a_category_of_one_picture_is_all_found(metric: str, dtype: str) -> None:
    table = hashed(ROWS, metric, dtype).compute_threshold_recall(grouping=["category"])
    assert table.recall["y", "h"] == 100
    assert table.precision["y", "h"] == 100
    assert table.n_exemplars["y", "h"] == 2
    figure = hashed(ROWS, metric, dtype).show_histograms()
    assert len(figure.axes) == 4


def test_several_hashes_of_one_picture_count_by_their_best() -> None:
    rows = [*ROWS, ("b", "blur", "x", "ff")]
    table = hashed(rows).compute_threshold_recall(grouping=["transform_name"])
    assert table.n_exemplars["blur", "h"] == 4
    assert hashed(rows).compute_threshold_recall(50, ["category", "transform_name"]).recall["x", "blur", "h"] == 100


def test_a_custom_metric_needs_its_function() -> None:
    hashes = hashed(ROWS, metric="custom")
    with pytest.raises(BenchmarkError, match="custom_distance_metrics"):
        hashes.compute_metrics()
    table = hashes.compute_threshold_recall(custom_distance_metrics={"h": lambda a, b: float(a != b)}, grouping=[])
    assert table.n_exemplars["h"] == 6
    assert set(hashes.compute_metrics().distance_to_closest_correct_image) == {0.0, 1.0}


def test_what_cannot_be_grouped_or_compared() -> None:
    with pytest.raises(UsageError, match="did you mean 'transform_name'"):
        hashed(ROWS).compute_threshold_recall(grouping=["transform"])
    mixed = hashed(ROWS).df.assign(hasher_hash_length=[8, 8, 8, 8, 8, 16])
    with pytest.raises(UsageError, match="2 kinds"):
        BenchmarkHashes(mixed).compute_metrics()
    with pytest.raises(UsageError, match="no hash of 16 bool elements"):
        BenchmarkHashes(mixed.assign(hasher_hash_length=16)).compute_metrics()
    with pytest.raises(UsageError, match="no base64"):
        BenchmarkHashes(hashed(ROWS).df.assign(hash="?")).compute_metrics()


# --- saving and loading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["saved", "saved.zip"])
@pytest.mark.parametrize("category", ["even", "001", "NA", 7])
def test_what_is_saved_is_loaded(target: str, category: object, tmp_path: Path) -> None:
    photos = dataset("perception/image1.jpg", "perception/image2.jpg", category=category)
    photos.save(tmp_path / target)
    loaded = BenchmarkImageDataset.load(str(tmp_path / target))
    assert loaded.df.category.tolist() == [category] * 2
    assert [Path(path).parent for path in loaded.df.filepath] == [tmp_path / "saved"] * 2
    for a, b in zip(photos.df.filepath, loaded.df.filepath, strict=True):
        assert Path(a).read_bytes() == Path(b).read_bytes()


def test_files_of_the_same_name_are_renamed_with_a_warning(tmp_path: Path) -> None:
    shutil.copy(PHOTOS[0], tmp_path / PHOTOS[1].name)
    photos = BenchmarkImageDataset.from_tuples([(tmp_path / PHOTOS[1].name, "x"), (PHOTOS[1], "x")])
    with pytest.warns(UserWarning, match="Changing filenames to UUID due to duplicates"):
        photos.save(tmp_path / "saved")
    loaded = BenchmarkImageDataset.load(tmp_path / "saved")
    assert [tools.compute_md5(path) for path in loaded.df.filepath] == [
        tools.compute_md5(path) for path in photos.df.filepath
    ]


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path) -> None:
    ten_photos().save(tmp_path / "saved")
    (tmp_path / "saved" / PHOTOS[3].name).write_bytes(b"other")
    with pytest.raises(ChangedFileError, match=r"An md5 mismatch has occurred\. .*jpg"):
        BenchmarkImageDataset.load(tmp_path / "saved")
    assert len(BenchmarkImageDataset.load(tmp_path / "saved", verify_md5=False).df) == 10
    (tmp_path / "saved" / PHOTOS[3].name).unlink()
    with pytest.raises(MissingError):
        BenchmarkImageDataset.load(tmp_path / "saved")


def test_an_archive_is_extracted_once_and_repaired(tmp_path: Path) -> None:
    ten_photos().save(tmp_path / "photos.zip")
    folder = tmp_path / "elsewhere"
    BenchmarkImageDataset.load(tmp_path / "photos.zip", storage_dir=folder)
    file = folder / PHOTOS[0].name
    os.utime(file, (1, 1))
    BenchmarkImageDataset.load(tmp_path / "photos.zip", storage_dir=folder)
    assert file.stat().st_mtime == 1
    file.write_bytes(b"other")
    BenchmarkImageDataset.load(tmp_path / "photos.zip", storage_dir=folder, verify_md5=False)
    assert file.read_bytes() == b"other"
    BenchmarkImageDataset.load(tmp_path / "photos.zip", storage_dir=folder)
    assert file.read_bytes() == PHOTOS[0].read_bytes()
    with pytest.raises(BenchmarkError, match="only valid if path is to ZIP file"):
        BenchmarkImageDataset.load(folder, storage_dir=tmp_path)


def test_a_file_in_its_place_is_not_copied_onto_itself(tmp_path: Path) -> None:
    made = dataset("perception/image1.jpg").transform({"noop": "noop"}, tmp_path)
    made.save(tmp_path)
    assert len(BenchmarkImageTransforms.load(tmp_path).df) == 1


def bad_archive(path: Path, name: str, link: bool = False) -> Path:
    ten_photos().save(path)
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16 if link else 0o644 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc")
    return path


@pytest.mark.parametrize("name", ["../evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg", "C:/evil.jpg", "..\\evil.jpg"])
def test_nothing_is_written_outside_the_folder(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(), pytest.raises(UsageError, match="leads out of"):
        BenchmarkImageDataset.load(bad_archive(tmp_path / "bad.zip", name))
    assert not list((tmp_path / "bad").glob("*.jpg"))
    assert not (tmp_path / "evil.jpg").exists()


def test_links_in_archives_are_refused_and_links_on_disk_not_followed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="link or a device"):
        BenchmarkImageDataset.load(bad_archive(tmp_path / "bad.zip", "link", link=True))
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "sub").symlink_to(outside)
    with pytest.raises(UsageError, match="through a link"):
        BenchmarkImageDataset.load(bad_archive(tmp_path / "bad2.zip", "sub/x"), storage_dir=tmp_path / "trap")
    assert list(outside.iterdir()) == []


def test_an_index_does_not_reach_out_of_its_folder(tmp_path: Path) -> None:
    for name in ("../secret.jpg", "/etc/hostname"):
        (tmp_path / "index.csv").write_text(f"category,filename,md5\nx,{name},0\n")
        with pytest.raises(UsageError, match="leads out of"):
            BenchmarkImageDataset.load(tmp_path)
    (tmp_path / "index.csv").write_text("category,filepath\nx,a.jpg\n")
    with pytest.raises(BenchmarkError, match="no column 'filename'"):
        BenchmarkImageDataset.load(tmp_path)
