"""The guarantees: same rows whatever the slices, workers, crashes and increments; nothing vanishes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import PHOTOS, ROOT, SAMPLES, all_rows, rows
from hostile import CRASH, EXHAUST, HANG
from neardup import storage
from neardup.config import DedupJob, HashJob, JoinJob
from neardup.errors import ClaimError, RunError, UsageError
from neardup.run import claimed
from neardup_jobs.dedup import run_dedup, run_hash, run_join

PHASH = "phash:hash_size=16@0.2"


def dedup(photos: Path, output: Path, **settings: Any) -> dict[str, Any]:
    job = DedupJob.model_validate({"inputs": [str(photos)], "output": str(output), "cluster": "none", **settings})
    return run_dedup(job, "none")


def hash_only(photos: Path, output: Path, **settings: Any) -> dict[str, Any]:
    job = HashJob.model_validate({"inputs": [str(photos)], "output": str(output), "cluster": "none", **settings})
    return run_hash(job, "none")


def hash_parts(output: Path) -> dict[str, int]:
    """Every hash part with its inode: a part that was written again has another."""
    return {str(part.relative_to(output)): part.stat().st_ino for part in output.glob("hashes/*/*.parquet")}


@pytest.fixture
def corpus(photos: Path) -> Path:
    """Ten photos, near duplicates of two, one exact copy and three broken files."""
    with Image.open(photos / "image1.jpg") as photo:
        photo.resize((photo.width // 2, photo.height // 2)).save(photos / "small.png")
        photo.save(photos / "again.webp", quality=60)
    shutil.copy(photos / "image2.jpg", photos / "copy.jpg")
    (photos / "text.jpg").write_text("not a photo")
    (photos / "empty.png").touch()
    (photos / "half.jpg").write_bytes((photos / "image3.jpg").read_bytes()[:9000])
    return photos


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_samples_give_the_expected_pairs_and_errors(tmp_path: Path) -> None:
    import csv

    summary = dedup(SAMPLES, tmp_path / "out")
    base = storage.absolute(str(SAMPLES))
    with open(SAMPLES / "expected.csv") as file:
        expected = {tuple(sorted((row["file_a"], row["file_b"]))) for row in csv.DictReader(file)}
    with open(SAMPLES / "broken.csv") as file:
        broken = {row["file"]: row["error_class"] for row in csv.DictReader(file)}
    found = {
        (r["uri_a"].removeprefix(f"{base}/"), r["uri_b"].removeprefix(f"{base}/"))
        for r in rows(tmp_path / "out", "pairs/hasher=phash-hash_size-16")
    }
    assert found == expected
    media = rows(tmp_path / "out", "media")
    assert {r["uri"].removeprefix(f"{base}/"): r["error_class"] for r in media if r["error_class"]} == broken
    assert all(r["error"] and r["error_stage"] == "decode" for r in media if r["error_class"])
    assert summary["listed"] == len(media) == summary["decoded"] + sum(summary["failed"].values())
    assert summary["hashers"]["phash:hash_size=16"] == {"with_hash": summary["decoded"] - 1, "without_hash": 1}
    (flat,) = (r for r in rows(tmp_path / "out", "hashes/hasher=phash-hash_size-16") if r["error"])
    assert flat["uri"].endswith("clips/rgb.m4v") and "quality 90" in flat["error"]


def test_tables_at_rest_hold_exactly_the_live_rows(corpus: Path, tmp_path: Path) -> None:
    import duckdb

    out = tmp_path / "out"
    dedup(corpus, out)
    (corpus / "copy.jpg").unlink()
    dedup(corpus, out, hashers=[PHASH, "pdq@0.2"])
    for table, count in [("media", 15), ("hashes/*", 2 * 12), ("groups", 3)]:
        assert duckdb.sql(f"SELECT count(*) FROM '{out}/{table}/*.parquet'").fetchall() == [(count,)]
    spec = duckdb.sql(f"SELECT DISTINCT hasher FROM read_parquet('{out}/hashes/*/*.parquet', hive_partitioning=true)")
    assert sorted(spec.fetchall()) == [("pdq",), ("phash-hash_size-16",)]
    assert sorted(path.name for path in out.iterdir()) == [
        "groups",
        "hashes",
        "joined",
        "manifest.json",
        "media",
        "near",
        "pairs",
        "run.json",
    ]


def test_what_is_kept_and_why(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    os.utime(corpus / "image2.jpg", (1000, 1000))
    summary = dedup(corpus, out)
    base = storage.absolute(str(corpus))
    said = {
        r["uri"].removeprefix(f"{base}/"): (r["keep"], r["kept_uri"].removeprefix(f"{base}/"), r["reason"])
        for r in rows(out, "groups")
    }
    assert said["image2.jpg"] == (True, "image2.jpg", "keep: as large as others, oldest")
    assert said["copy.jpg"][:2] == (False, "image2.jpg") and "modified" in said["copy.jpg"][2]
    assert said["image1.jpg"] == (True, "image1.jpg", "keep: as many pixels as others, most bytes")
    assert (
        said["small.png"][1] == "image1.jpg"
        and said["small.png"][2].startswith("drop: ")
        and "pixels" in said["small.png"][2]
    )
    assert summary["groups"] == 2 and summary["grouped_items"] == 5
    dropped = sum((corpus / name).stat().st_size for name in ("copy.jpg", "small.png", "again.webp"))
    assert summary["duplicate_bytes"] == dropped


def test_hash_then_join_equals_dedup(corpus: Path, tmp_path: Path) -> None:
    dedup(corpus, tmp_path / "one", hashers=[PHASH, "dhash:hash_size=16"])
    hash_only(corpus, tmp_path / "two", hashers=["dhash:hash_size=16", "phash:hash_size=16"])
    for hasher in ("dhash:hash_size=16", PHASH):
        run_join(JoinJob(output=str(tmp_path / "two"), hashers=(hasher,), cluster="none"), "none")
    assert all_rows(tmp_path / "one") == all_rows(tmp_path / "two")


def test_a_join_replaces_that_of_the_same_hasher(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dedup(corpus, out)
    run_join(JoinJob(output=str(out), hashers=("phash:hash_size=16",), radius_bits=0, cluster="none"), "none")
    assert {r["distance"] for r in rows(out, "pairs/hasher=phash-hash_size-16")} == {0.0}
    dedup(corpus, tmp_path / "fresh", hashers=["phash:hash_size=16"], radius_bits=0)
    assert all_rows(out) == all_rows(tmp_path / "fresh")


def test_thousands_of_copies_become_a_star(photos: Path, tmp_path: Path) -> None:
    for number in range(50):  # 50 * 49 / 2 pairs are more than 1,024
        shutil.copy(photos / "image1.jpg", photos / f"copy{number:02d}.jpg")
    out = tmp_path / "out"
    dedup(photos, out)
    base = storage.absolute(str(photos))
    pairs = rows(out, "pairs/hasher=phash-hash_size-16")
    assert {r["uri_a"] for r in pairs} == {f"{base}/copy00.jpg"} and len(pairs) == 50
    assert [(r["uri"], r["items"]) for r in rows(out, "hubs")] == [(f"{base}/copy00.jpg", 51)]
    assert len(rows(out, "groups")) == 51


def test_within_folders_only_and_without_low_quality(corpus: Path, tmp_path: Path) -> None:
    for name in ("small.png", "image1.jpg", "flat1.png", "flat2.png"):
        (corpus / "sub").mkdir(exist_ok=True)
        if name.startswith("flat"):
            Image.new("RGB", (50, 50), (len(name), 90, 80)).save(corpus / "sub" / name)
        else:
            (corpus / name).rename(corpus / "sub" / name)
    out = tmp_path / "out"

    def found(**changes: Any) -> set[tuple[str, str]]:
        dedup(corpus, out, **changes)
        pairs = rows(out, "pairs/hasher=phash-hash_size-16")
        return {(str(r["uri_a"]).rsplit("/", 1)[1], str(r["uri_b"]).rsplit("/", 1)[1]) for r in pairs}

    everything = found()
    assert {("again.webp", "image1.jpg"), ("flat1.png", "flat2.png"), ("copy.jpg", "image2.jpg")} <= everything
    assert found(block_by=["folder"]) == {pair for pair in everything if "again.webp" not in pair}
    assert found(min_quality=50) == everything - {("flat1.png", "flat2.png")}
    assert found(block_by=["pattern:(again|image1)", "folder"]) >= {("copy.jpg", "image2.jpg")}


@pytest.mark.parametrize("spec", ["colormoment@5", "phashu8:hash_size=16@120", "pdqf@600"])
def test_real_valued_hashes_are_joined_too(corpus: Path, tmp_path: Path, spec: str) -> None:
    from scipy.spatial.distance import pdist

    from neardup.hashers import parse

    out = tmp_path / "out"
    dedup(corpus, out, hashers=[spec], block_rows=4)
    (folder,) = (path.name for path in (out / "hashes").iterdir())
    hashed = sorted(rows(out, f"hashes/{folder}"), key=lambda row: str(row["uri"]))
    hasher = parse(spec.partition("@")[0])
    vectors = [np.frombuffer(h, np.uint8) if isinstance(h := row["hash"], bytes) else h for row in hashed]
    distances = pdist(np.array(vectors, np.float32).astype(np.float64))
    names = [(str(a["uri"]), str(b["uri"])) for n, a in enumerate(hashed) for b in hashed[n + 1 :]]
    near = {pair: d for pair, d in zip(names, distances, strict=True) if d < float(spec.partition("@")[2])}
    assert 3 <= len(near) < 40 and hasher.distance_metric == "euclidean"
    found = {(r["uri_a"], r["uri_b"]): r["distance"] for r in rows(out, f"pairs/{folder}")}
    assert found == pytest.approx(near)
    (corpus / "image4.jpg").unlink()
    shutil.copy(corpus / "image5.jpg", corpus / "z.jpg")
    assert dedup(corpus, out, hashers=[spec])["stages"][f"join {spec.partition('@')[0]}"].get("compared", 0) == 0
    dedup(corpus, tmp_path / "fresh", hashers=[spec])
    assert all_rows(out) == all_rows(tmp_path / "fresh")


def test_flips_and_turns_are_found_and_named(photos: Path, tmp_path: Path) -> None:
    turns = {
        "fv": Image.Transpose.FLIP_TOP_BOTTOM,
        "fh": Image.Transpose.FLIP_LEFT_RIGHT,
        "r180": Image.Transpose.ROTATE_180,
        "r90": Image.Transpose.ROTATE_90,
        "r90fv": Image.Transpose.TRANSPOSE,
        "r90fh": Image.Transpose.TRANSVERSE,
        "r270": Image.Transpose.ROTATE_270,
    }
    for name, turn in turns.items():
        with Image.open(photos / "image1.jpg") as photo:
            photo.transpose(turn).save(photos / f"z-{name}.png")
    dedup(photos, tmp_path / "upright")
    assert not rows(tmp_path / "upright", "pairs/hasher=phash-hash_size-16")
    out = tmp_path / "out"
    summary = dedup(photos, out, isometric=True, block_rows=30)
    assert len(rows(out, "hashes/hasher=phash-hash_size-16")) == 17 * 8
    found = rows(out, "pairs/hasher=phash-hash_size-16")
    assert len(found) == 8 * 7 / 2 and summary["groups"] == 1
    inverse = {"r90": "r270", "r270": "r90"}
    for row in found:
        if str(row["uri_a"]).endswith("image1.jpg"):  # turning b back gives a
            name = str(row["uri_b"]).rsplit("z-", 1)[1].removesuffix(".png")
            assert (
                row["variant"] == inverse.get(name, name)
                and row["matches"] == row["overlap_a"] == row["overlap_b"] == 1
            )
    dedup(photos, tmp_path / "upright", isometric=True)
    assert all_rows(tmp_path / "upright") == all_rows(out)


# --- same rows, whatever ----------------------------------------------------------------------------------------------


@pytest.mark.cluster
def test_slices_workers_and_order_do_not_change_a_row(corpus: Path, tmp_path: Path) -> None:
    names = [str(path) for path in corpus.iterdir()]
    random.Random(0).shuffle(names)
    variants: dict[str, dict[str, Any]] = {
        "one slice": {"slices": {"items": 1000}},
        "a slice per item": {"slices": {"items": 1}},
        "by bytes, shuffled": {"slices": {"bytes": 40_000, "read_budget": 1}, "inputs": names},
        "small blocks": {"block_rows": 3},
        "without a child": {"child": {"enabled": False}},
        "on a cluster": {"cluster": {"workers": 2}, "slices": {"items": 2}, "block_rows": 4},
    }
    outputs = {}
    for name, changes in variants.items():
        dedup(corpus, tmp_path / name, hashers=[PHASH, "pdq"], **changes)
        outputs[name] = all_rows(tmp_path / name)
    for name, output in outputs.items():
        assert output == outputs["one slice"], name
    assert len(outputs["one slice"]["media"]) == 16


def test_a_tile_shared_by_many_tasks_gives_the_same(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neardup import joins
    from neardup.stages import tiles

    for number in range(10):
        with Image.open(photos / f"image{number + 1}.jpg") as photo:
            photo.save(photos / f"again{number}.webp")
    dedup(photos, tmp_path / "whole")
    bands = tuple([joins.Band(8, 1)] * 26)
    planned = joins.Plan((20, 20), 256, 51, bands, 1000.0, 2000.0)
    monkeypatch.setattr(tiles, "_WORTH_A_PLAN", 0)
    monkeypatch.setattr(joins, "plan", lambda *_: planned)
    summary = dedup(photos, tmp_path / "shared", block_rows=12)
    stage = summary["stages"]["join phash:hash_size=16"]
    hashes = stage["distinct_hashes"]
    assert hashes > 12 and stage["tiles"] == 3 * 16 and stage["compared"] == hashes * (hashes - 1) / 2
    assert all_rows(tmp_path / "shared") == all_rows(tmp_path / "whole")


class Interrupted:
    """A run of the command line in processes of its own, killed as a whole with SIGKILL."""

    def __init__(self, photos: Path, output: Path, *more: str):
        command = [
            sys.executable,
            "-m",
            "neardup",
            "dedup",
            str(photos),
            "-o",
            str(output),
            "--cluster",
            "cluster.yaml",
            "--set",
            "slices.items=1",
            *more,
        ]
        self.cluster = output.parent / "cluster.yaml"
        self.cluster.write_text("workers: 2\n")
        command[command.index("cluster.yaml")] = str(self.cluster)
        self.process = subprocess.Popen(
            command, start_new_session=True, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def kill_when(self, output: Path, table: str, more_than: int, suffix: str = "/*.parquet") -> None:
        """Kill everything as soon as so many parts are written."""
        while len(list(output.glob(f"{table}{suffix}"))) <= more_than and self.process.poll() is None:
            time.sleep(0.005)
        self.kill()

    def kill(self) -> None:
        """Kill every process of the run."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.cluster
def test_a_run_killed_five_times_equals_one_that_was_not(photos: Path, tmp_path: Path) -> None:
    for number in range(60):
        with Image.open(PHOTOS[number % 10]) as photo:
            photo.rotate(number // 10, expand=True).save(photos / f"turned{number:02d}.jpg")
    out = tmp_path / "out"
    chance = random.Random(5)
    parts = 0
    for _ in range(5):
        run = Interrupted(photos, out)
        run.kill_when(out, "media", parts + chance.randrange(0, 10))
        before = hash_parts(out)
        parts = len(list(out.glob("media/*.parquet")))
    receipts = {path.name for path in out.glob("media/*.parquet")}
    finished = {name: inode for name, inode in before.items() if name.rsplit("/", 1)[1] in receipts}
    assert len(finished) >= 5
    summary = dedup(photos, out, slices={"items": 1})
    assert summary["stages"]["hash"]["items"] == 70 - len(receipts)
    assert finished.items() <= hash_parts(out).items()
    dedup(photos, tmp_path / "fresh")
    assert all_rows(out) == all_rows(tmp_path / "fresh")
    leftovers = [path for path in out.rglob("*") if path.suffix == ".tmp" or path.name == "claim.json"]
    assert not leftovers and not (out / "work").exists()


def test_a_second_run_redoes_nothing_and_clears_what_was_never_finished(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dedup(corpus, out)
    (out / "media" / "part-0.parquet.1f.tmp").write_bytes(b"half")
    (out / "work").mkdir()
    (out / "work" / "slices-0.parquet").write_bytes(b"old")
    before, parts = all_rows(out), hash_parts(out)
    summary = dedup(corpus, out)
    assert summary["stages"]["hash"]["slices"] == 0
    assert all_rows(out) == before and hash_parts(out) == parts
    assert not list(out.rglob("*.tmp")) and not (out / "work").exists()


def test_one_more_hasher_ten_more_files_and_a_changed_one_do_only_that_work(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dedup(corpus, out, hashers=[PHASH])
    for number in range(10):
        with Image.open(PHOTOS[number]) as photo:
            photo.rotate(90, expand=True).save(corpus / f"new{number}.png")
    shutil.copy(PHOTOS[9], corpus / "image1.jpg")
    parts = hash_parts(out)
    summary = dedup(corpus, out, hashers=[PHASH, "dhash:hash_size=16"], slices={"items": 1})
    assert (
        summary["stages"]["hash"]["items"] == 13 + 10
    )  # the decoded ones for dhash, the new ones for both; no broken one
    phash = [name for name in hash_parts(out).keys() - parts.keys() if "phash" in name]
    assert len(phash) == 11 + 1  # ten new and one changed; and the part that held the changed one, without it
    dedup(corpus, tmp_path / "fresh", hashers=[PHASH, "dhash:hash_size=16"])
    assert all_rows(out) == all_rows(tmp_path / "fresh")


SEQUENCES = int(os.environ.get("NEARDUP_SEQUENCES", "25"))  # of steps in the next test; 200 take a few minutes
STEPS = [
    "add",
    "add",
    "change",
    "remove",
    "rename",
    "touch",
    "break",
    "flip",
    "hasher",
    "looser",
    "tighter",
    "isometric",
]


@settings(
    max_examples=SEQUENCES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), min_size=2, max_size=8))
def test_an_incremental_run_equals_a_fresh_one(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    base = tmp_path_factory.mktemp("run")
    photos = base / "photos"
    photos.mkdir()
    how: dict[str, Any] = {"hashers": [PHASH], "isometric": False}
    for clock, (what, number) in enumerate([("add", 0), ("add", 1), *steps]):
        file = photos / f"{number}.jpg"
        if what == "add" or (what == "rename" and not file.exists()):
            shutil.copy(PHOTOS[number], file)
        elif what == "rename":
            file.rename(photos / f"{number + clock}-renamed.jpg")
        elif what == "remove":
            file.unlink(missing_ok=True)
        elif what == "flip":
            with Image.open(PHOTOS[number]) as photo:
                photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / f"{number}-flipped.png")
        elif what == "isometric":
            how["isometric"] = not how["isometric"]
        elif what in ("hasher", "looser", "tighter"):
            hashers = {"hasher": [PHASH, "ahash@0.05"], "looser": [PHASH.replace("0.2", "0.45")], "tighter": [PHASH]}
            how["hashers"] = hashers[what]
        else:
            content = {"change": PHOTOS[(number + 1) % 10].read_bytes(), "break": b"broken"}
            file.write_bytes(content.get(what, PHOTOS[number].read_bytes()))
        if file.exists():
            os.utime(file, (10_000 + clock, 10_000 + clock))
        if clock:
            settings = {
                "child": {"enabled": False},
                "slices": {"items": 1 + number % 3},
                "block_rows": 1 + number,
                "max_removed": 1,
            }
            dedup(photos, base / "out", **how, **settings)
    dedup(photos, base / "fresh", **how, child={"enabled": False})
    ours, fresh = all_rows(base / "out"), all_rows(base / "fresh")
    assert {table: rows for table, rows in ours.items() if table in fresh} == fresh
    assert {table.split("/")[0] for table in ours.keys() - fresh.keys()} <= {
        "hashes",
        "pairs",
        "joined",
        "near",
    }  # ahash's


def test_a_join_compares_new_hashes_with_all_and_old_ones_no_more(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def compared(**changes: Any) -> int:
        return sum(stage.get("compared", 0) for stage in dedup(photos, out, **changes)["stages"].values())

    assert compared() == 10 * 9 / 2
    assert compared() == 0
    for number in (1, 2):
        with Image.open(photos / f"image{number}.jpg") as photo:
            photo.rotate(90).save(photos / f"new{number}.png")
    assert compared() == 1 + 2 * 10
    (photos / "image1.jpg").unlink()
    assert compared() == 0
    assert compared(hashers=["phash:hash_size=16@0.1"]) == 0
    assert compared() == 11 * 10 / 2  # a wider radius than the last one asks for a new look at all


def test_transient_errors_are_tried_again_others_are_not(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neardup.errors import TransientError
    from neardup.storage import reading

    read = storage.read_object

    def flaky(uri: str) -> bytes:
        if uri.endswith("image3.jpg"):
            raise TransientError("reading failed: reset")
        return read(uri)

    (photos / "text.jpg").write_text("no photo")
    monkeypatch.setattr(reading, "read_object", flaky)
    first = hash_only(photos, tmp_path / "out")
    assert first["failed"] == {"permanent": 1, "transient": 1}
    monkeypatch.undo()
    second = hash_only(photos, tmp_path / "out")
    assert second["failed"] == {"permanent": 1} and second["stages"]["hash"]["items"] == 1


def test_another_decode_policy_hashes_anew(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hash_only(photos, out, decode={"max_pixels": 10_000})
    assert hash_only(photos, out, decode={"max_pixels": 10_000})["stages"]["hash"]["slices"] == 0
    assert hash_only(photos, out)["failed"] == {}
    assert hash_only(photos, out)["stages"]["hash"]["slices"] == 0
    assert hash_only(photos, out, decode={"alpha": "drop"})["stages"]["hash"]["items"] == 10
    assert len(rows(out, "media")) == len(rows(out, "hashes/hasher=phash-hash_size-16")) == 10


def test_another_revision_hashes_anew_and_never_meets_the_old_in_a_join(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neardup.hashers import PHash

    out = tmp_path / "out"
    dedup(photos, out)
    monkeypatch.setattr(PHash, "revision", PHash.revision + 1)
    with pytest.raises(RunError, match="must not meet"):
        run_join(JoinJob(output=str(out), cluster="none"), "none")
    assert hash_only(photos, out, child={"enabled": False})["stages"]["hash"]["items"] == 10
    run_join(JoinJob(output=str(out), cluster="none"), "none")


# --- hostile input ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile_photos(photos: Path) -> Iterator[Path]:
    for mark in (CRASH, HANG, EXHAUST):
        with Image.open(PHOTOS[0]) as photo:
            photo.putpixel((0, 0), mark)
            photo.save(photos / f"mark{mark[0]}.png")
    yield photos


@pytest.mark.cluster
@pytest.mark.parametrize("cluster", ["none", {"workers": 2}])
def test_three_hostile_items_cost_three_hashes_and_no_worker(
    hostile_photos: Path, tmp_path: Path, cluster: Any
) -> None:
    out = tmp_path / "out"
    summary = hash_only(
        hostile_photos, out, hashers=["hostile.Hostile", "phash"], cluster=cluster,
        child={"deadline_s": 2, "memory_limit": "400MB"}, slices={"items": 4},
    )  # fmt: skip
    poisoned = [r for r in rows(out, "hashes/hasher=hostile.Hostile") if r["hash"] is None]
    assert sorted(str(r["uri"])[-9:] for r in poisoned) == ["mark1.png", "mark2.png", "mark3.png"]
    assert all(str(r["error"]).startswith("poison: ") for r in poisoned)
    assert summary["hashers"]["hostile.Hostile"] == {"with_hash": 10, "without_hash": 3}
    assert [row for row in rows(out, "hashes/hasher=phash") if row["hash"] is None] == []
    assert summary["hashers"]["phash"] == {"with_hash": 13, "without_hash": 0}
    assert summary["workers_lost"] == 0 and summary["stages"]["hash"]["children_replaced"] == 2


# --- one run at a time ------------------------------------------------------------------------------------------------


def test_a_second_simultaneous_run_is_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with claimed(storage.absolute(str(out))), pytest.raises(ClaimError, match=f"pid {os.getpid()}"):
        dedup(photos, out)
    assert not rows(out, "media")


def test_a_run_that_lost_its_claim_does_not_commit(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neardup.stages import live

    out = tmp_path / "out"
    settle = live.settle

    def robbed(*arguments: Any) -> Any:
        (out / "claim.json").write_text(json.dumps({"host": "other", "pid": 1, "token": "x", "heartbeat": time.time()}))
        return settle(*arguments)

    monkeypatch.setattr(live, "settle", robbed)
    with pytest.raises(ClaimError, match="taken over"):
        dedup(photos, out)
    assert storage.read_manifest(storage.absolute(str(out))) == {}


def test_overlapping_input_and_output_are_refused(photos: Path, tmp_path: Path) -> None:
    for inputs, output in [(photos, photos / "out"), (photos, photos), (photos, tmp_path)]:
        with pytest.raises(UsageError, match="inside each other"):
            dedup(inputs, output)
    assert not (photos / "out").exists()


def test_files_that_are_not_ours_are_never_deleted(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "media").mkdir(parents=True)
    (out / "media" / "holiday.parquet").write_text("mine")
    (out / "note.txt").write_text("mine too")
    with pytest.raises(RunError, match=r"holiday\.parquet"):
        hash_only(photos, out)
    (out / "media" / "holiday.parquet").rename(out / "holiday.parquet")
    hash_only(photos, out)
    assert (out / "note.txt").exists() and (out / "holiday.parquet").exists()


def test_hubs_left_out_and_blocks_are_said_on_the_last_lines(corpus: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from neardup_jobs.cli import app

    output = tmp_path / "out"
    faint = np.tile(np.linspace(0, 12, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    Image.fromarray(faint).save(corpus / "faint.png")
    hash_only(corpus, output, hashers=(PHASH,))
    command = ["join", str(output), "--hasher", PHASH, "--cluster", "none"]
    plain = CliRunner().invoke(app, command).stdout
    assert " hub" not in plain and "left out" not in plain
    all_pairs = all_rows(output)["pairs/hasher=phash-hash_size-16"]
    said = CliRunner().invoke(app, [*command, "--min-quality", "100"]).stdout
    hubs = rows(output, "hubs")
    qualities = [row["quality"] for row in rows(output, "hashes/hasher=phash-hash_size-16") if row["hash"]]
    low = sum(quality < 100 for quality in qualities)
    assert low and f", {low} hashes of low quality left out" in said
    said = CliRunner().invoke(app, [*command, "--max-neighbours", "1"]).stdout
    hubs = rows(output, "hubs")
    assert hubs and f", {len(hubs)} hubs" in said
    assert {row["reason"] for row in hubs} == {"more than 1 other hashes are within the radius"}
    CliRunner().invoke(app, [*command, "--max-neighbours", "1", "--all-pairs"])
    assert all_rows(output)["pairs/hasher=phash-hash_size-16"] == all_pairs and not rows(output, "hubs")
    CliRunner().invoke(app, [*command, "--block-by", "column:format"])
    formats = {row["uri"]: row["format"] for row in rows(output, "media")}
    blocked = rows(output, "pairs/hasher=phash-hash_size-16")
    assert 0 < len(blocked) < len(all_pairs) and all(formats[p["uri_a"]] == formats[p["uri_b"]] for p in blocked)
    CliRunner().invoke(app, [*command, "--block-by", "column:format", "--block-by", "folder"])
    assert all_rows(output)["pairs/hasher=phash-hash_size-16"] == all_pairs
    wrong = CliRunner().invoke(app, [*command, "--block-by", "column:shape"])
    assert wrong.exit_code == 2 and "MEDIA has no such column; it has " in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
