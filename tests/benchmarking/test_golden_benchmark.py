"""The whole way from files to tables equals the reference's, cell by cell."""

import math
from pathlib import Path

import pandas as pd
import pytest
from benchmark_samples import TRANSFORMS, golden, golden_hashers, ten_photos

from neardup.benchmarking import BenchmarkHashes, BenchmarkImageTransforms

GROUPINGS = {"default": None, "transform": ["transform_name"], "category": ["category"], "none": []}


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkImageTransforms:
    return ten_photos().transform(TRANSFORMS, tmp_path_factory.mktemp("transformed"))


@pytest.fixture(scope="module")
def hashes(transformed: BenchmarkImageTransforms) -> BenchmarkHashes:
    return transformed.compute_hashes(golden_hashers(), max_workers=2)


def close(found: object, wanted: object, hasher: str) -> bool:
    """Equal but for float32 in the reference and, for ColorMoment, the CPU."""
    if wanted is None:
        return isinstance(found, float) and math.isnan(found)
    if isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=2e-7, abs=1e-2 if hasher == "colormoment" else 2e-7)
    return found == wanted


def test_tables_have_the_columns_of_the_reference(
    transformed: BenchmarkImageTransforms, hashes: BenchmarkHashes
) -> None:
    columns = golden()["columns"]
    assert list(transformed.df.columns) == columns["transforms"]
    assert list(hashes.df.columns) == columns["hashes"]
    assert list(hashes.compute_metrics().columns) == columns["metrics"]
    index = Path(transformed.df.filepath[0]).parent / "index.csv"
    assert pd.read_csv(index).columns.tolist() == columns["index"]
    assert len(transformed.df) == 50
    assert transformed.df.transform_name.tolist()[::10] == ["noop", "flip", "dark", "half", "noise"]


def test_every_distance_equals_the_reference(transformed: BenchmarkImageTransforms, hashes: BenchmarkHashes) -> None:
    noop = transformed.df[transformed.df.transform_name == "noop"].set_index("guid")
    found = {
        (row.hasher_name, row.transform_name, Path(noop.input_filepath[row.guid]).name): row
        for row in hashes.compute_metrics().itertuples()
    }
    assert len(found) == len(golden()["metrics"]) == 450
    for hasher, transform, photo, correct, incorrect in golden()["metrics"]:
        row = found[hasher, transform, photo]
        assert close(row.distance_to_closest_correct_image, correct, hasher)
        assert close(row.distance_to_closest_incorrect_image, incorrect, hasher)
        assert row.distance_to_closest_image == min(
            row.distance_to_closest_correct_image, row.distance_to_closest_incorrect_image
        )
        assert row.closest_incorrect_guid != row.guid
        assert noop.category[row.closest_incorrect_guid] == row.category


@pytest.mark.parametrize("name", GROUPINGS)
def test_every_cell_of_the_tables_equals_the_reference(hashes: BenchmarkHashes, name: str) -> None:
    table = hashes.compute_threshold_recall(grouping=GROUPINGS[name])
    wanted = golden()["tables"][name]
    assert list(table.index.names) == wanted["columns"][:-4]
    assert list(table.columns) == wanted["columns"][-4:]
    rows = table.reset_index().to_numpy(object).tolist()
    assert len(rows) == len(wanted["rows"])
    differing = [
        (found, row)
        for found, row in zip(rows, wanted["rows"], strict=True)
        if not all(close(a, b, row[-5]) for a, b in zip(found, row, strict=True))
    ]
    assert differing == []


def test_saved_hashes_give_the_same_tables(hashes: BenchmarkHashes, tmp_path: Path) -> None:
    hashes.save(tmp_path / "hashes.csv")
    loaded = BenchmarkHashes.load(tmp_path / "hashes.csv")
    assert loaded.df.hash.tolist() == hashes.df.hash.tolist()
    for grouping in GROUPINGS.values():
        pd.testing.assert_frame_equal(
            loaded.compute_threshold_recall(grouping=grouping), hashes.compute_threshold_recall(grouping=grouping)
        )


def test_parts_of_a_benchmark_add_up(hashes: BenchmarkHashes) -> None:
    parts = [hashes.filter(category=[name]) for name in hashes.categories]
    assert [len(part.df) for part in parts] == [225, 225]
    assert list(parts[0].categories) == [hashes.categories[0]]
    whole = sum(parts + parts[:1])
    assert len(whole.df) == 450
    pd.testing.assert_frame_equal(whole.compute_threshold_recall(), hashes.compute_threshold_recall())


def test_the_rule_of_false_positives_gives_its_columns(hashes: BenchmarkHashes) -> None:
    table = hashes.compute_threshold_recall(fpr_threshold=0.001, grouping=["transform_name"])
    assert list(table.columns) == ["threshold", "recall", "fpr", "n_exemplars"]
    assert (table.loc["noop"].recall == 100).all()
    precise = hashes.compute_threshold_recall(99.9, ["transform_name"])
    assert (table.recall <= precise.recall + 1e-9).all()
    assert (table.n_exemplars == 10).all()


@pytest.mark.parametrize(("grouping", "rows"), [(None, 10), ([], 1), (["transform_name"], 5)])
def test_histograms_have_a_row_per_group_and_a_column_per_hasher(
    hashes: BenchmarkHashes, grouping: list[str] | None, rows: int, tmp_path: Path
) -> None:
    figure = hashes.filter(hasher_name=["phash", "pdq"]).show_histograms(grouping=grouping)
    assert len(figure.axes) == 2 * rows
    assert [axes.get_title() for axes in figure.axes[:2]] == ["pdq", "phash"]
    assert figure.axes[0].texts[0].get_text().startswith("Recall: ")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["neg", "pos"]
    figure.savefig(tmp_path / "histograms.png", dpi=20)
    assert (tmp_path / "histograms.png").stat().st_size > 1000
