"""`neardup benchmark`: real photos; its tables equal the library's, whatever the slices, tiles, kills and reruns."""

import contextlib
import html.parser
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from conftest import PHOTOS, ROOT, SAMPLES, all_rows, rows
from neardup import benchmarking, config, storage
from neardup.config import BenchmarkJob
from neardup.errors import ConfigError, RunError, UsageError
from neardup.hashers import parse
from neardup.media import decode_image
from neardup.report import read_results
from neardup.report.results import confusions
from neardup.stages import nearing, originals
from neardup.stages.hashing import image_name
from neardup_jobs.benchmark import run_benchmark
from neardup_jobs.cli import app

FAST = {
    "child": {"enabled": False},
    "cluster": "none",
    "duplicates": "none",
    "category": r"pattern:imag(e)(?=\d*[13579]\.jpg)",
}
TRANSFORMS = ["noop:64", "dark=gamma:2", "blur:2", "crop:0.1+blur:1", "flip"]
HASHERS = ["ahash", "dhash", "colormoment"]


def benchmark(*inputs: Path, output: Path, **settings: Any) -> dict[str, Any]:
    given = {"inputs": [str(one) for one in inputs], "output": str(output), "hashers": HASHERS}
    return run_benchmark(BenchmarkJob(**{**given, "transforms": TRANSFORMS, **FAST, **settings}), "none")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark") / "out"
    benchmark(SAMPLES / "perception", output=out, encode="jpeg:95")
    return out


def test_the_metrics_are_those_of_the_library(done: Path, tmp_path: Path) -> None:
    """Which are those of the reference: see the golden cases, and benchmarks/conformance_benchmark.py."""
    category = {path: odd[1] if (odd := re.search(FAST["category"][8:], str(path))) else "(none)" for path in PHOTOS}
    dataset = benchmarking.BenchmarkImageDataset.from_tuples(category.items())
    named = {"noop": "noop:64", "dark": "gamma:2", **{text: text for text in TRANSFORMS[2:]}}
    hashes = dataset.transform(named, tmp_path).compute_hashes({spec: parse(spec) for spec in HASHERS})
    metrics = read_results(str(done)).metrics
    for by in (["category", "transform_name"], ["transform_name"], []):
        expected = hashes.compute_threshold_recall(grouping=by, fpr_threshold=1e-4).reset_index()
        today = hashes.compute_threshold_recall(grouping=by).reset_index()
        tied = hashes.compute_threshold_recall(grouping=by, ties="grouped").reset_index()
        keys = [*(name.removesuffix("_name") for name in by), "hasher"]
        mine = metrics[metrics.category.notna() == ("category" in by)]
        mine = mine[mine["transform"].notna() == ("transform_name" in by)].sort_values(keys)
        assert len(mine) == len(expected) == {2: 2 * 5 * 3, 1: 5 * 3, 0: 3}[len(by)]
        for key, name in zip(keys, [*by, "hasher_name"], strict=True):
            assert mine[key].tolist() == expected[name].tolist()
        for column in ("threshold", "recall", "fpr", "n_exemplars"):
            np.testing.assert_array_equal(mine[column], expected[column], err_msg=column)
        for column in ("threshold", "recall"):
            np.testing.assert_array_equal(mine[f"precision_{column}"], today[column])
            np.testing.assert_array_equal(mine[f"precision_{column}_grouped"], tied[column])
        np.testing.assert_array_equal(mine["precision"], today["precision"])
    assert metrics.recall.nunique() > 5


def test_distances_are_to_the_nearest_originals(done: Path) -> None:
    found = {(r["uri"], r["transform"]): r for r in rows(done, "distances/hasher=dhash")}
    hashes = {(r["uri"], r["variant"]): np.frombuffer(r["hash"], np.uint8) for r in rows(done, "altered/hasher=dhash")}
    specs = dict(
        zip(["noop", "dark", *TRANSFORMS[2:]], ["noop:longer_side=64", "gamma", "blur", "", "flip"], strict=True)
    )
    specs["crop:0.1+blur:1"] = "crop:fraction=0.1+blur:sigma=1"
    category = {r["uri"]: r["category"] for r in rows(done, "originals")}
    assert len(found) == 10 * 5 and len(category) == 10
    for (uri, transform), row in found.items():
        distances = {
            other: np.bitwise_count(hashes[uri, specs[transform]] ^ hashes[other, specs["noop"]]).sum() / 64
            for other in category
            if category[other] == category[uri]
        }
        assert row["correct"] == distances.pop(uri)
        assert row["incorrect"] == min(distances.values()) == distances[row["incorrect_uri"]]
        assert row["hashes"] == 1 and row["category"] == category[uri]


def test_pairs_are_counted_within_categories(done: Path) -> None:
    for metric in rows(done, "metrics"):
        if metric["category"] is None:
            assert metric["pairs"] == (5 if metric["transform"] is None else 1) * 2 * 5 * 4
    pooled = [r for r in rows(done, "rates") if r["category"] is None and r["transform"] is None and r["of"] == "pairs"]
    assert len(pooled) == 3 * 3 and all(r["fpr"] <= r["wanted"] for r in pooled)


def test_the_same_rows_whatever_the_slices_tiles_and_workers(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = {"slices": {"items": 3}, "block_rows": 2, "encode": "jpeg:95"}
    benchmark(SAMPLES / "perception", output=out, **small)
    assert all_rows(out) == all_rows(done)
    assert len(rows(out, "curves")) > 100 and not (out / "work").exists() and not (out / "images").exists()
    before = {name: (out / name).read_bytes() for name in files(out) if (out / name).is_file()}
    again = benchmark(SAMPLES / "perception", output=out, **small)
    assert again["stages"]["hash"]["slices"] == 0
    after = {name: (out / name).read_bytes() for name in files(out) if (out / name).is_file()}
    before.pop("run.json"), after.pop("run.json")
    manifests = [json.loads(each.pop("manifest.json")) for each in (before, after)]
    assert before == after and manifests[0]["tables"] == manifests[1]["tables"]


@pytest.mark.cluster
def test_a_cluster_with_children_gives_the_same_rows(done: Path, tmp_path: Path) -> None:
    settings = {"child": {}, "cluster": {"workers": 2}, "slices": {"items": 4}, "encode": "jpeg:95"}
    benchmark(SAMPLES / "perception", output=tmp_path / "out", **settings)
    assert all_rows(tmp_path / "out") == all_rows(done)


@pytest.mark.parametrize("where", ["hash", "tiles"])
def test_a_killed_run_goes_on(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    from neardup.stages import cutting

    monkeypatch.setattr(nearing, "_WORTH_A_TASK", 1)
    owner, name = (cutting, "hash_part") if where == "hash" else (nearing, "near_tiles")
    work, calls = getattr(owner, name), []

    def dying(task: Any) -> Any:
        calls.append(task)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return work(task)

    monkeypatch.setattr(owner, name, dying)
    settings = {"slices": {"items": 2}, "encode": "jpeg:95", "output": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        benchmark(SAMPLES / "perception", **settings)
    assert not (tmp_path / "out" / "report").exists()
    monkeypatch.setattr(owner, name, work)
    summary = benchmark(SAMPLES / "perception", **settings)
    assert all_rows(tmp_path / "out") == all_rows(done)
    left = {"hash": summary["stages"]["hash"]["slices"], "tiles": summary["stages"]["compare ahash"]["tasks"]}
    assert left[where] == {"hash": 7, "tiles": 7}[where]  # a slice of two pictures is one of one item


def test_more_hashers_and_files_redo_only_what_is_new(photos: Path, tmp_path: Path) -> None:
    last = photos / PHOTOS[-1].name
    last.rename(tmp_path / "away.jpg")
    benchmark(photos, output=tmp_path / "out", hashers=["ahash"])
    (tmp_path / "away.jpg").rename(last)
    summary = benchmark(photos, output=tmp_path / "out", hashers=["ahash", "dhash"])
    assert summary["hashers"]["dhash"]["with_hash"] == 10
    benchmark(photos, output=tmp_path / "fresh", hashers=["ahash", "dhash"])
    assert all_rows(tmp_path / "out") == all_rows(tmp_path / "fresh")


def test_hashes_of_items_and_of_altered_pictures_live_side_by_side(photos: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    arguments = ["dedup", str(photos), "-o", out, "--hasher", "dhash@0.1", "--cluster", "none", "--no-child"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    benchmark(photos, output=tmp_path / "out", hashers=["dhash"])
    tables = set(storage.read_manifest(storage.absolute(out)))
    assert {"hashes/hasher=dhash", "altered/hasher=dhash", "metrics", "joined/hasher=dhash"} <= tables
    done = CliRunner().invoke(app, ["join", out, "--hasher", "dhash@0.1", "--cluster", "none"])
    assert done.exit_code == 0, done.stderr
    (photos / PHOTOS[0].name).unlink()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert len(rows(tmp_path / "out", "altered/hasher=dhash")) == 9 * 5  # and what was derived from them is gone
    assert not rows(tmp_path / "out", "metrics") and not rows(tmp_path / "out", "distances/hasher=dhash")


# --- originals --------------------------------------------------------------------------------------------------------


def test_near_duplicates_are_left_out_within_their_category(photos: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (photos / folder).mkdir()
        for photo in PHOTOS[:3]:
            shutil.copy(photo, photos / folder)
    shutil.copy(PHOTOS[0], photos / "a" / "zz-exact.jpg")
    Image.open(PHOTOS[1]).resize((300, 300)).save(photos / "a" / "zz-near.jpg", quality=70)
    (photos / "a" / "broken.jpg").write_bytes(b"no picture")
    settings = {"output": tmp_path / "out", "category": "folder", "hashers": ["dhash"]}
    for rule, dropped in {"phash@0.2": {"image1.jpg", "image10.jpg"}, "exact": {"image1.jpg"}, "none": set()}.items():
        summary = benchmark(photos, duplicates=rule, **settings)
        left_out = [r for r in rows(tmp_path / "out", "originals") if r["duplicate_of"]]
        assert {Path(str(r["uri"])).name for r in left_out} == dropped
        assert all("/a/" in str(r["uri"]) and "/a/zz-" in str(r["duplicate_of"]) for r in left_out)
        assert summary["originals"] == {"scored": 18 - len(dropped), "duplicates": len(dropped), "categories": 3}
        assert summary["failed"] == {"permanent": 1}
        overall = [r for r in rows(tmp_path / "out", "metrics") if r["category"] is None and r["transform"] is None]
        assert [r["n_originals"] for r in overall] == [18 - len(dropped)]


def test_of_a_chain_the_last_stays() -> None:
    """0-1-2 within the radius of their neighbours, 3 equal to 0, 4 far: the first of each pair goes."""
    hashes = np.array([[0, 0], [0, 1], [0, 3], [0, 0], [255, 255]], np.uint8)
    rule = originals.read_rule("dhash@0.02", "x")
    assert rule.maker and rule.radius and rule.radius.limit == 1
    reach = originals._last_within(hashes, np.arange(5), rule.maker, rule.radius)
    assert reach.tolist() == [3, 3, 2, 3, 4]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("folder", {"photos"}),
        ("column:format", {"JPEG"}),
        (r"pattern:image(1?)\d*\.jpg", {"1", ""}),
        ("pattern:x{9}", {"(none)"}),
    ],
)
def test_categories(photos: Path, tmp_path: Path, rule: str, expected: set[str]) -> None:
    benchmark(photos, output=tmp_path / "out", category=rule, hashers=["ahash"], transforms=["noop:32", "flip"])
    assert {r["category"] for r in rows(tmp_path / "out", "originals")} == expected


def test_lost_hashes_are_counted_and_their_originals_left_out(photos: Path, tmp_path: Path) -> None:
    mark = Image.new("RGB", (64, 48), (4, 0, 0))
    mark.paste(Image.open(PHOTOS[0]).resize((64, 40)), (0, 8))
    mark.save(photos / "image0.png")
    settings = {"transforms": ["odd_transforms.hostile", "flip"], "hashers": ["dhash", "cropresistant"]}
    summary = benchmark(photos, output=tmp_path / "out", category="folder", **settings)
    assert summary["decoded"] == 11 and summary["hashers"]["dhash"] == {"with_hash": 11, "without_hash": 0}
    lost = [r for r in rows(tmp_path / "out", "altered/hasher=dhash") if r["hash"] is None]
    assert [(r["variant"], r["error"]) for r in lost] == [("odd_transforms.hostile", "ValueError: no such picture,")]
    metrics = {(r["hasher"], r["transform"]): r for r in rows(tmp_path / "out", "metrics") if r["category"] is None}
    assert metrics["dhash", "odd_transforms.hostile"]["n_exemplars"] == 10
    assert metrics["dhash", "flip"]["pairs"] == 11 * 10
    several = metrics["cropresistant", "flip"]
    assert several["n_exemplars"] > several["n_originals"] == 11  # a picture has several hashes


def test_nothing_to_score_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture")
    summary = benchmark(tmp_path / "photos", output=tmp_path / "out")
    assert summary["best"] == [] and "nothing to compare" in (tmp_path / "out/report/index.html").read_text()
    assert yaml.safe_load((tmp_path / "out/thresholds.yaml").read_text())["thresholds"] == {}
    shutil.copy(PHOTOS[0], tmp_path / "photos")
    summary = benchmark(tmp_path / "photos", output=tmp_path / "out")  # a single original has no others
    assert {one["threshold"] for one in summary["best"]} == {None} and summary["best"][0]["recall"] == 100


def test_videos_are_not_looked_at(photos: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "clips" / "v1.m4v", photos)
    summary = benchmark(photos, output=tmp_path / "out", hashers=["ahash"], transforms=["noop:32", "flip"])
    assert (summary["listed"], summary["decoded"]) == (10, 10)


def test_images_are_kept_where_asked(photos: Path, tmp_path: Path) -> None:
    benchmark(photos, output=tmp_path / "out", hashers=["dhash"], encode="jpeg:50", keep_images=True)
    kept = [name for name in files(tmp_path / "out") if name.endswith(".png") and name.startswith("images/")]
    assert len(kept) == 10 * 5
    dhash = parse("dhash")
    for row in rows(tmp_path / "out", "altered/hasher=dhash"):
        data = (tmp_path / "out" / image_name(str(row["uri"]), str(row["variant"]))).read_bytes()
        assert dhash.pack(dhash._compute(decode_image(data).pixels)) == row["hash"]


# --- what people look at ----------------------------------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    """Everything that a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset", "action")]


def test_the_page_stands_alone_and_shows_names_as_they_are(photos: Path, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>&|x"
    benchmark(photos, output=tmp_path / "out", hashers=["dhash"], transforms=["noop:32", f"{bad}=flip", "blur"])
    page = (tmp_path / "out/report/index.html").read_text()
    parsed = Links()
    parsed.feed(page)
    assert len(parsed.links) == 2 and all(link.startswith("data:image/") for link in parsed.links)
    assert not {"script", "link", "iframe"} & set(parsed.tags) and "url(" not in page and "@import" not in page
    assert page.count("&lt;script&gt;alert(1)") > 5
    markdown = (tmp_path / "out/report/metrics.md").read_text()
    assert "</script>&\\|x | dhash |" in markdown
    for name in ("recall.svg", "curves.svg", "distances.png"):
        assert (tmp_path / "out/report" / name).stat().st_size > 5_000


def test_the_page_says_first_which_hasher_to_use(done: Path) -> None:
    results = read_results(str(done))
    assert results.transforms == {"noop": "noop:longer_side=64", "dark": "gamma", "blur:2": "blur",
                                  "crop:0.1+blur:1": "crop:fraction=0.1+blur:sigma=1", "flip": "flip"}  # fmt: skip
    found = {one: pd.DataFrame(rows(done, f"distances/hasher={one}")) for one in HASHERS}
    at_best = results.recall_at_best()
    for one in results.best():
        distances = found[one["hasher"]]
        assert one["recall"] == pytest.approx(100 * (distances["correct"] < one["threshold"]).mean(), abs=1e-3)
        for transform, of_transform in distances.groupby("transform"):
            share = (of_transform["correct"] < one["threshold"]).mean()
            assert at_best.loc[one["hasher"], transform] == pytest.approx(100 * share)
    assert at_best.nunique().max() == 3
    best = results.best()[0]
    page = (done / "report/index.html").read_text()
    advice = re.sub(r"\s+", " ", page[page.index('<div class="advice">') : page.index("</div>")])
    assert f"Use <code>{best['hasher']}</code>, distances below {best['threshold']:.4g}" in advice
    assert f"<b>{best['recall']:.1f} %</b>" in advice and "here 0 of 50." in advice and "no false match" in advice
    for name, value in at_best.loc[best["hasher"]].items():
        listed = f"{name} ({'100' if value == 100 else f'{value:.0f}'} %)" in advice
        assert listed == (value >= 95 or value < 50)
    nearest = found[best["hasher"]]["incorrect"].min()
    assert f"<td>{nearest:.4g}</td>" in page[page.index("nearest wrong matches") :]


def test_the_nearest_wrong_matches_are_each_two_originals_once(done: Path) -> None:
    wrong = confusions(storage.absolute(str(done)), "dhash", count=6)
    distances = pd.DataFrame(rows(done, "distances/hasher=dhash"))
    least: dict[frozenset[str], float] = {}
    for row in distances.itertuples():
        both = frozenset((row.uri, row.incorrect_uri))
        least[both] = min(least.get(both, 9), row.incorrect)
    assert wrong["incorrect"].tolist() == sorted(least.values())[:6]
    assert {frozenset(pair) for pair in wrong[["uri", "incorrect_uri"]].to_numpy()} <= set(least)


def test_the_tables_are_those_of_the_seed(done: Path) -> None:
    markdown = (done / "report/metrics.md").read_text()
    assert "| category | transform_name | hasher_name | threshold | recall | fpr | n_exemplars |" in markdown
    assert "| transform_name | hasher_name | threshold | recall | fpr | n_exemplars |" in markdown
    assert "| (none) | blur:2 | ahash |" in markdown and markdown.count("\n| ") > 48
    written = pd.read_csv(done / "report/metrics.csv")
    assert len(written) == len(rows(done, "metrics")) == 48
    assert len(pd.read_csv(done / "report/curves.csv")) == len(rows(done, "curves"))


def test_the_recommended_thresholds_are_what_dedup_takes(done: Path, photos: Path, tmp_path: Path) -> None:
    file = done / "thresholds.yaml"
    known = yaml.safe_load(file.read_text())
    assert known["false_positive_rate"] == 0.001 and set(known["thresholds"]) == set(HASHERS)
    rates = {r["hasher"]: r for r in rows(done, "rates") if r["wanted"] == 0.001 and r["of"] == "queries"
             and r["category"] is None and r["transform"] is None}  # fmt: skip
    for hasher, threshold in known["thresholds"].items():
        assert threshold == rates[hasher]["threshold"]  # to the last digit: rounded up it would let one more through
        near = [r["incorrect"] for r in rows(done, f"distances/hasher={hasher}")]
        assert sum(each < threshold for each in near) == 0 and min(near) == pytest.approx(threshold)
    arguments = ["dedup", str(photos), "-o", str(tmp_path / "out"), "--cluster", "none", "--no-child", "--json"]
    more = ["--hasher", "dhash", "--hasher", "ahash:hash_size=8", "--hasher", "pdq@0.1", "--threshold", f"@{file}"]
    summary = json.loads(CliRunner().invoke(app, [*arguments, *more]).stdout)
    assert summary["config"]["hashers"][2] == "pdq@0.1"
    assert summary["stages"]["join dhash"]["radius"][1] == np.ceil(known["thresholds"]["dhash"] * 64) - 1
    assert "join ahash" in summary["stages"]


BAD_FILES = {
    "missing hasher": ("thresholds: {pdq: 0.1}", "t.yaml has no threshold for dhash, it has pdq; give one: --hasher"),
    "not a number": ("thresholds: {dhash: near}", "expected 'thresholds:' with a number for each hasher"),
    "no thresholds": ("inputs: [a]", "expected 'thresholds:'"),
    "a list": ("[1]", "t.yaml: expected"),
    "not yaml": ("a: [", "t.yaml is not YAML"),
    "no file": (None, "cannot read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_threshold_files_are_one_line(photos: Path, tmp_path: Path, name: str) -> None:
    text, message = BAD_FILES[name]
    if text is not None:
        (tmp_path / "t.yaml").write_text(text)
    arguments = ["dedup", str(photos), "-o", str(tmp_path / "out"), "--hasher", "dhash"]
    done = CliRunner().invoke(app, [*arguments, "--threshold", f"@{tmp_path / 't.yaml'}"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1) and message in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


BAD: dict[str, tuple[list[str], str]] = {
    "unknown transform": (["--transform", "blurr:2"], "unknown transform 'blurr'; did you mean 'blur'?"),
    "bad parameter": (["--transform", "x=blur:-1"], "outside 0.01 to 1000"),
    "two of a name": (["--transform", "a=blur:1", "--transform", "a=blur:2"], "two transforms are named 'a'"),
    "one twice": (["--transform", "a=blur:3", "--transform", "blur:sigma=3"], "is given twice"),
    "noop twice": (["--transform", "noop:64", "--transform", "x=noop:64"], "'x' is the no-op itself"),
    "bad encode": (["--encode", "jpeg:101"], "outside 1 to 100"),
    "bad hasher": (["--hasher", "phsh"], "unknown hasher 'phsh'; did you mean 'phash'?"),
    "a threshold": (["--hasher", "pdq@0.1"], "a benchmark finds thresholds itself"),
    "hasher twice": (["--hasher", "pdq", "--hasher", "pdq"], "given twice"),
    "bad category": (["--category", "foldr"], "unknown --category 'foldr'; give folder, column:NAME or pattern:REGEX"),
    "bad pattern": (["--category", "pattern:("], "is not a regular expression"),
    "bad column": (["--category", "column:formt"], "no column 'formt'; did you mean 'format'?"),
    "bad duplicates": (["--duplicates", "pdq"], "give exact, none, or SPEC@THRESHOLD"),
    "bad rate": (["--fpr", "1.5"], "input should be less than 1"),
    "no input": (["--set", "inputs=[]"], "inputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_usage_is_one_line_and_exit_2(photos: Path, tmp_path: Path, name: str) -> None:
    arguments, message = BAD[name]
    inputs = [] if name == "no input" else [str(photos)]
    done = CliRunner().invoke(app, ["benchmark", *inputs, "-o", str(tmp_path / "out"), *arguments])
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and done.stderr.startswith("neardup: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_line(photos: Path, tmp_path: Path) -> None:
    arguments = ["benchmark", str(photos), "-o", str(tmp_path / "out"), "--cluster", "none", "--hasher", "dhash"]
    done = CliRunner().invoke(app, [*arguments, "--transform", "noop:64", "--transform", "blur", "--fpr", "0.01"])
    assert done.exit_code == 0, done.stderr
    assert "originals  10 in 1 categories, 0 left out" in done.stdout
    assert "100.00 % by dhash below" in done.stdout and "report/index.html" in done.stdout
    assert "neardup benchmark photos" in CliRunner().invoke(app, ["benchmark", "--help"]).stdout
    assert "neardup benchmark" in config.dump(BenchmarkJob) or "transforms: " in config.dump(BenchmarkJob)
    with pytest.raises(UsageError, match="holds no benchmark"):
        read_results(str(photos))
    with pytest.raises(ConfigError):
        config.with_thresholds(("dhash",), str(photos))


def test_damaged_work_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = nearing.near_tiles

    def cutting(task: Any) -> Any:
        file = tmp_path / "out" / task.folder / "values.bin"
        file.write_bytes(file.read_bytes()[:-1])
        return near(task)

    monkeypatch.setattr(nearing, "near_tiles", cutting)
    with pytest.raises(RunError, match=r"values\.bin is cut short"):
        benchmark(photos, output=tmp_path / "out")


def test_the_commands_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On ten photos instead of all samples."""
    (tmp_path / "samples").symlink_to(SAMPLES / "perception")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/benchmarking.md").read_text()
    commands = [line.split("   #")[0].split() for line in page.splitlines() if line.startswith("neardup ")]
    assert [words[1] for words in commands].count("benchmark") >= 2
    for words in commands:
        quicker = ["--cluster", "none"] if words[1] in ("benchmark", "dedup") else []
        done = CliRunner().invoke(app, [*words[1:], *quicker])
        assert done.exit_code == 0, f"{' '.join(words)}\n{done.stderr}"
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), {})
    assert all(hasher in printed.getvalue() for hasher in ("pdq", "phash:hash_size=16", "blockmean"))
    assert read_results("scores2").transforms["story"] == "crop+text+jpeg:quality=60"
    told = (tmp_path / "scores2/report/index.html").read_text()
    assert "crop:fraction=0.05: " in told and "then text:" in told and "then jpeg:quality=60: " in told
    used = json.loads((tmp_path / "out/run.json").read_text())["config"]["hashers"]
    assert used == [f"pdq@{yaml.safe_load((tmp_path / 'scores2/thresholds.yaml').read_text())['thresholds']['pdq']}"]


def test_the_documentation_lists_what_there_is() -> None:
    page = (ROOT / "docs" / "benchmarking.md").read_text()
    for name in ("originals", "altered", "distances", "metrics", "rates", "curves", "thresholds.yaml"):
        assert f"`{name}" in page, name
