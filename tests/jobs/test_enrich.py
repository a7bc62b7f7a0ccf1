"""`neardup enrich`: real tables of real photos; old columns and row order unchanged, as three engines see them."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import PHOTOS, SAMPLES, all_rows, rows
from neardup import storage
from neardup.config import DedupJob, EnrichJob
from neardup.errors import RunError
from neardup.hashers import PDQHash
from neardup.stages import enriching
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup
from neardup_jobs.enrich import run_enrich

NOT_IN_CHILD = {"child": {"enabled": False}, "cluster": "none"}
NEW = ["media_uri", "pdq", "pdq_quality", "width", "height", "group", "keep", "kept_uri", "error"]


def enrich(table: Path | str, output: Path | str, **settings: Any) -> dict[str, Any]:
    given = {"inputs": [str(table)], "uri_column": "url", "output": str(output), "hashers": ["pdq@0.2"], **NOT_IN_CHILD}
    return run_enrich(EnrichJob.model_validate({**given, **settings}), "none")


@pytest.fixture
def urls(photos: Path) -> list[str | None]:
    """What a column of uris looks like: relative and absolute paths, urls, repeated, empty, missing, no photo."""
    with Image.open(photos / "image1.jpg") as photo:
        photo.resize((photo.width // 2, photo.height // 2)).save(photos / "small.png")
    (photos / "text.jpg").write_text("no photo")
    shutil.copy(photos / "image2.jpg", photos / "a%20b ç.jpg")
    return [
        "photos/image1.jpg",
        str(photos / "small.png"),
        None,
        f"file://{photos}/image2.jpg",
        "photos/image1.jpg",
        "",
        "photos/gone.jpg",
        "./photos/../photos/image1.jpg",
        "photos/text.jpg",
        "nothing://a.jpg",
        "photos/a%20b ç.jpg",
        "photos/image3.jpg",
    ]


def write_table(path: Path, urls: list[str | None], **columns: Any) -> Path:
    """A table with a row per url, in row groups of five."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": pa.array(range(len(urls))), "url": pa.array(urls, pa.string()), **columns})
    pq.write_table(table, path, row_group_size=5)
    return path


def unchanged(old: Path, new: Path) -> bool:
    """Has the other file the same rows in the same order, but for new columns? As DuckDB sees it."""
    names = ", ".join(f'"{name}"' for name in pq.read_schema(old).names)
    select = f"SELECT file_row_number AS n, {names} FROM read_parquet('{{}}', file_row_number=true)"
    numbered = [select.format(one) for one in (old, new)]
    described = [duckdb.sql(f"DESCRIBE SELECT {names} FROM '{one}'").fetchall() for one in (old, new)]
    both = [duckdb.sql(f"({a}) EXCEPT ALL ({b})").fetchall() for a, b in (numbered, numbered[::-1])]
    return both == [[], []] and described[0] == described[1]


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_each_row_gets_what_is_known_of_its_media(photos: Path, urls: list[str | None], tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.parquet", urls)
    before = table.read_bytes()
    summary = enrich(table, tmp_path / "out")
    new = tmp_path / "out" / "enriched" / "table.parquet"
    assert table.read_bytes() == before and unchanged(table, new)
    assert pq.read_schema(new).names == ["id", "url", *NEW]
    old, found = pq.ParquetFile(table).metadata, pq.ParquetFile(new).metadata
    assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == [5, 5, 2]
    assert old.num_row_groups == found.num_row_groups
    said = pq.read_table(new).to_pylist()
    base = storage.absolute(str(photos))
    for row in said:
        uri = row["media_uri"]
        name = uri and uri.removeprefix(f"{base}/")
        if name in ("image1.jpg", "small.png", "image2.jpg", "a%20b ç.jpg", "image3.jpg"):
            assert row["pdq"].hex() == PDQHash().compute(photos / name, hash_format="hex")
            with Image.open(photos / name) as photo:
                assert (row["width"], row["height"]) == photo.size
            assert row["pdq_quality"] == 100 and row["error"] is None
        else:
            assert {row[name] for name in NEW if name not in ("media_uri", "error")} == {None} and row["error"]
    errors = {row["url"]: row["error"] for row in said if row["error"]}
    assert errors.pop(None) == errors.pop("") == "no uri"
    assert {url: error.split(":")[0] for url, error in errors.items()} == {
        "photos/gone.jpg": "permanent",
        "photos/text.jpg": "permanent",
        "nothing://a.jpg": "permanent",
    }
    verdict = {row["id"]: (row["group"], row["keep"], row["kept_uri"]) for row in said}
    first = (f"{base}/image1.jpg", True, f"{base}/image1.jpg")
    assert verdict[0] == verdict[4] == verdict[7] == first
    assert verdict[1] == (f"{base}/image1.jpg", False, f"{base}/image1.jpg")
    assert verdict[11] == (None, True, None)
    assert summary["listed"] == 8 and summary["enriched"]["rows"] == 12
    assert len(rows(tmp_path / "out", "media")) == 8  # repeated uris are hashed once
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "enriched", "groups", "hashes", "joined", "manifest.json", "media", "near", "pairs", "run.json",
    ]  # fmt: skip


def test_the_tables_are_those_of_a_dedup_of_the_same_files(photos: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.parquet", [str(photo) for photo in photos.iterdir()])
    enrich(table, tmp_path / "out")
    given = {"inputs": [str(photos)], "output": str(tmp_path / "dedup"), "hashers": ["pdq"], **NOT_IN_CHILD}
    run_dedup(DedupJob.model_validate(given), "none")
    assert all_rows(tmp_path / "out") == all_rows(tmp_path / "dedup")


def test_a_partitioned_table_keeps_its_layout_and_three_engines_read_it(
    photos: Path, urls: list[str | None], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    write_table(lake / "day=2024-01-01" / "part-0.snappy.parquet", urls)
    write_table(lake / "day=2024-01-01" / "part-1.snappy.parquet", ["photos/image1.jpg"])
    write_table(lake / "day=2024-01-02" / "part-0.snappy.parquet", [])
    for hidden in ("_SUCCESS", "_temporary/0/part-9.parquet", "day=2024-01-02/.part-0.snappy.parquet.crc", "notes.txt"):
        (lake / hidden).parent.mkdir(parents=True, exist_ok=True)
        (lake / hidden).write_text("no table")
    enrich(lake, tmp_path / "out", base=str(tmp_path))
    new = tmp_path / "out" / "enriched"
    files = sorted(str(path.relative_to(lake)) for path in lake.rglob("day=*/part*.parquet"))
    assert sorted(str(path.relative_to(new)) for path in new.rglob("*") if path.is_file()) == files
    assert all(unchanged(lake / name, new / name) for name in files)
    expected = [("2024-01-01", 13, 6)]
    query = f"""SELECT day::VARCHAR, count(*), count(pdq) FILTER (keep)
        FROM read_parquet('{new}/**/*.parquet', hive_partitioning=true) GROUP BY day"""
    assert duckdb.sql(query).fetchall() == expected
    frame = pl.scan_parquet(f"{new}/**/*.parquet", hive_partitioning=True, hive_schema={"day": pl.String})
    counted = frame.group_by("day").agg(pl.len(), pl.col("pdq").filter(pl.col("keep")).count())
    assert counted.collect().rows() == expected
    table = pd.read_parquet(new, partitioning="hive")
    kept = table[table["keep"] == True]  # noqa: E712 - nulls
    assert (len(table), kept["pdq"].notna().sum()) == expected[0][1:]
    assert table["keep"].isna().sum() == 5 == table["error"].notna().sum()


def test_types_metadata_and_layout_are_kept(photos: Path, tmp_path: Path) -> None:
    count = 12
    uris = [str(PHOTOS[n % 4]) for n in range(count)]
    frame = pd.DataFrame(
        {
            "url": pd.Categorical(uris),
            "when": pd.date_range("2024-01-01", periods=count, freq="h", tz="Europe/Zurich"),
            "ns": pd.date_range("2024-01-01", periods=count, freq="ns"),
            "float": np.where(np.arange(count) % 3, np.nan, -0.0),
            "list": [[n, None] for n in range(count)],
            "struct": [{"bytes": b"\x00\xff", "path": None}] * count,
            "text": ["é\u0000ü", None, ""] * 4,
        },
        index=pd.Index(range(5, 5 + count), name="key"),
    )
    path = tmp_path / "pandas.parquet"
    frame.to_parquet(path, compression="gzip", row_group_size=7)
    duckdb.sql(
        f"""COPY (SELECT url, n, md5(n::VARCHAR)::BLOB AS blob, n::DECIMAL(18,3) / 7 AS price, TIME '10:00:00' AS t,
        gen_random_uuid() AS u, '{{"a":1}}'::JSON AS j, MAP {{'k': n}} AS m, 3::UTINYINT AS tiny, DATE '0001-01-01' AS d
        FROM (SELECT unnest({uris}) AS url, unnest(range({count})) AS n))
        TO '{tmp_path}/duckdb.parquet' (COMPRESSION zstd, ROW_GROUP_SIZE 2048)"""
    )
    times = pa.array([dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1, 1), None] * 4, pa.timestamp("us"))
    near = pa.array([dt.datetime(2024, 1, 1)] * count, pa.timestamp("us")).cast(pa.timestamp("ns"))
    near = pa.compute.add(near, pa.scalar(1, pa.duration("ns")))
    for name, column in {"far": times, "near": near}.items():
        spark = {"type": "struct", "fields": [{"name": "url", "type": "string", "nullable": True, "metadata": {}}]}
        metadata = {"org.apache.spark.sql.parquet.row.metadata": json.dumps(spark), "org.apache.spark.version": "3.5.1"}
        table, path = pa.table({"url": uris, "time": column}), tmp_path / f"{name}.parquet"
        with pq.ParquetWriter(path, table.schema, use_deprecated_int96_timestamps=True, store_schema=False) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(metadata)
    for name in ("pandas", "duckdb", "far", "near"):
        old, new = tmp_path / f"{name}.parquet", tmp_path / name / "enriched" / f"{name}.parquet"
        enrich(old, tmp_path / name)
        assert unchanged(old, new), name
        before, after = pq.ParquetFile(old), pq.ParquetFile(new)
        if name != "far":  # years that Arrow's nanoseconds do not hold
            assert pq.read_table(new).select(before.schema_arrow.names).equals(pq.read_table(old))  # DuckDB knows no ns
        for number in range(len(before.schema)):
            for fact in ("path", "physical_type"):
                assert getattr(before.schema.column(number), fact) == getattr(after.schema.column(number), fact)
        assert before.metadata.row_group(0).column(0).compression == after.metadata.row_group(0).column(0).compression
        had, has = before.metadata.metadata or {}, after.metadata.metadata
        assert has.keys() - had.keys() <= {b"neardup", b"ARROW:schema"}
        changed = {key for key in had if has[key] != had[key]}
        assert changed <= {b"ARROW:schema", b"org.apache.spark.sql.parquet.row.metadata"}
    again = pd.read_parquet(tmp_path / "pandas" / "enriched" / "pandas.parquet")
    pd.testing.assert_frame_equal(again[frame.columns], pd.read_parquet(tmp_path / "pandas.parquet"))
    assert again.index.name == "key" and again["url"].dtype == "category"
    fields = json.loads(after.metadata.metadata[b"org.apache.spark.sql.parquet.row.metadata"])["fields"]
    types = {field["name"]: field["type"] for field in fields}
    assert types == {
        "url": "string", "media_uri": "string", "pdq": "binary", "pdq_quality": "short", "width": "integer",
        "height": "integer", "group": "string", "keep": "boolean", "kept_uri": "string", "error": "string",
    }  # fmt: skip


def test_several_hashers_a_known_list_and_a_prefix(photos: Path, tmp_path: Path) -> None:
    for name, listed in {"known": PHOTOS[:2], "other": PHOTOS[1:3]}.items():
        lines = [f"{PDQHash().compute(photo, hash_format='hex')},{photo.name},{name}" for photo in listed]
        (tmp_path / f"{name}.csv").write_text("\n".join(["hash,id,label", *lines]))
    table = write_table(tmp_path / "t.parquet", [str(photo) for photo in PHOTOS])
    known = [str(tmp_path / "other.csv"), str(tmp_path / "known.csv")]
    enrich(table, tmp_path / "out", known=known, prefix="nd_", isometric=True)
    said = pq.read_table(tmp_path / "out" / "enriched" / "t.parquet").to_pylist()
    expected = [("known.csv", PHOTOS[0].name, "known", 0.0), ("known.csv", PHOTOS[1].name, "known", 0.0)]
    expected += [("other.csv", PHOTOS[2].name, "other", 0.0), (None, None, None, None)]
    found = [tuple(row[f"nd_known_{name}"] for name in ("list", "entry", "label", "distance")) for row in said]
    assert found[:4] == expected and set(found[3:]) == {expected[3]}
    assert said[0]["nd_pdq"].hex() == PDQHash().compute(PHOTOS[0], hash_format="hex")
    specs = ["phash:hash_size=16@0.2", "colormoment@5", "cropresistant@0.1"]
    enrich(table, tmp_path / "more", hashers=specs)
    (row, *_) = pq.read_table(tmp_path / "more" / "enriched" / "t.parquet").to_pylist()
    assert len(row["phash_hash_size_16"]) == 32 and len(row["colormoment"]) == 42
    assert isinstance(row["cropresistant"], list) and {len(one) for one in row["cropresistant"]} == {8}


def test_no_frame_stands_for_a_video(tmp_path: Path) -> None:
    clip = SAMPLES / "clips" / "v1.m4v"
    table = write_table(tmp_path / "t.parquet", [str(clip), str(PHOTOS[0])])
    enrich(table, tmp_path / "out", hashers=["pdq@0.2", "tmkl1@0.1"])
    video, photo = pq.read_table(tmp_path / "out" / "enriched" / "t.parquet").to_pylist()
    assert len(rows(tmp_path / "out", "hashes/hasher=pdq")) > 2
    assert (video["pdq"], video["pdq_quality"], video["width"], video["keep"], video["error"]) == (
        None, None, 320, True, None,
    )  # fmt: skip
    assert len(video["tmkl1"]) == 255 and photo["tmkl1"] is None and photo["pdq"]
    assert photo["error"].startswith("tmkl1: ") and photo["keep"] is True


# --- again ------------------------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*.parquet")}


def test_only_what_changes_is_written_again(photos: Path, tmp_path: Path) -> None:
    lake, new = tmp_path / "lake", tmp_path / "out" / "enriched"
    for number, photo in enumerate(PHOTOS[:4]):
        write_table(lake / f"part-{number}.parquet", [str(photos / photo.name)])
    enrich(lake, tmp_path / "out")
    first = files(new)
    (new / "mine.parquet").write_bytes((lake / "part-0.parquet").read_bytes())
    assert enrich(lake, tmp_path / "out")["stages"]["enrich"]["files_written"] == 0
    shutil.copy(photos / PHOTOS[1].name, photos / PHOTOS[0].name)  # its content changes, and with it a group of two
    write_table(lake / "part-4.parquet", [str(photos / PHOTOS[5].name)])
    (lake / "part-3.parquet").unlink()
    summary = enrich(lake, tmp_path / "out", max_removed=1)
    assert summary["stages"]["enrich"]["files_removed"] == 1
    second = files(new)
    assert set(second) == {"mine.parquet", *(f"part-{number}.parquet" for number in (0, 1, 2, 4))}
    assert {name for name in first if second.get(name) == first[name]} == {"part-2.parquet"}
    enrich(lake, tmp_path / "fresh")
    for name in set(second) - {"mine.parquet"}:
        assert (new / name).read_bytes() == (tmp_path / "fresh" / "enriched" / name).read_bytes()


def test_a_killed_run_goes_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, new = tmp_path / "lake", tmp_path / "out" / "enriched"
    for number, photo in enumerate(PHOTOS[:4]):
        write_table(lake / f"part-{number}.parquet", [str(photo)] * 3)
    write = pq.ParquetWriter.write_table

    def dying(writer: Any, *arguments: Any, **options: Any) -> None:
        if "pdq" in writer.schema.names and len(files(new)) == 2:
            raise KeyboardInterrupt
        write(writer, *arguments, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", dying)
    with pytest.raises(KeyboardInterrupt):
        enrich(lake, tmp_path / "out")
    monkeypatch.setattr(pq.ParquetWriter, "write_table", write)
    assert sorted(path.name for path in new.iterdir()) == ["part-0.parquet", "part-1.parquet"]
    assert enrich(lake, tmp_path / "out")["stages"]["enrich"]["files_written"] == 2
    enrich(lake, tmp_path / "fresh")
    for name in files(new):
        assert (new / name).read_bytes() == (tmp_path / "fresh" / "enriched" / name).read_bytes()
    assert len(files(new)) == 4 and not (tmp_path / "out" / "work").exists()


def test_large_row_groups_are_cut_and_give_the_same_rows(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enriching, "_ROW_GROUP_BYTES", 10_000)
    blobs = [bytes([n]) * 3000 for n in range(12)]
    path = tmp_path / "t.parquet"
    table = pa.table({"url": [str(photo) for photo in PHOTOS[:3]] * 4, "n": range(12), "blob": blobs})
    pq.write_table(table, path, use_dictionary=False, compression="none")
    enrich(path, tmp_path / "out")
    new = tmp_path / "out" / "enriched" / "t.parquet"
    assert unchanged(path, new) and pq.ParquetFile(new).num_row_groups > 3
    assert pq.read_table(new)["media_uri"].to_pylist() == [f"file://{photo}" for photo in PHOTOS[:3]] * 4


def test_a_table_without_media_and_one_on_another_store(photos: Path, tmp_path: Path) -> None:
    import fsspec

    table = write_table(tmp_path / "none.parquet", [None, ""])
    summary = enrich(table, tmp_path / "out")
    assert summary["listed"] == 0 and unchanged(table, tmp_path / "out" / "enriched" / "none.parquet")
    store = fsspec.filesystem("memory")
    store.pipe("/lake/photos/a.jpg", PHOTOS[0].read_bytes())
    store.pipe("/lake/t/day=1/x.parquet", write_table(tmp_path / "x.parquet", ["photos/a.jpg"]).read_bytes())
    try:
        enrich("memory://lake/t", "memory://out", base="memory://lake")
        with store.open("/out/enriched/day=1/x.parquet") as file:
            (row,) = pq.ParquetFile(file).read().to_pylist()
    finally:
        for folder in ("/lake", "/out"):
            store.rm(folder, recursive=True)
    assert (row["media_uri"], row["keep"], row["width"] > 9) == ("memory://lake/photos/a.jpg", True, True)


# --- what is refused --------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[list[str], str]] = {
    "no table": (["nowhere.parquet", "--uri-column", "url"], "cannot read the table"),
    "no Parquet": (["notes.parquet", "--uri-column", "url"], "cannot read the table"),
    "an empty folder": (["empty", "--uri-column", "url"], "cannot read the table"),
    "a folder of others": (["photos", "--uri-column", "url"], "holds no files that end in .parquet"),
    "no column given": (["t.parquet"], "'uri_column' is missing"),
    "no such column": (["t.parquet", "--uri-column", "uri"], "no single column 'uri' of uris; it has id, url"),
    "block by no column": (["t.parquet", "--uri-column", "url", "--block-by", "column:id"], "MEDIA has no such column"),
    "no text": (["t.parquet", "--uri-column", "id"], "is int64, not text"),
    "a column in the way": (["clash.parquet", "--uri-column", "url"], "'Width' already; rename the new ones: --prefix"),
    "a partition in the way": (["hive", "--uri-column", "url"], "has a column 'group' already"),
    "a Delta table": (["delta", "--uri-column", "url"], "is a Delta or Iceberg table"),
    "an interval": (["interval.parquet", "--uri-column", "url"], "'i' of"),
    "inside": (["t.parquet", "--uri-column", "url", "-o", "t.parquet/out"], "inside each other"),
    "two tables": (["--uri-column", "url", "--set", "inputs=[a, b]"], "at most 1 item"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_usage_is_one_line_and_exit_2(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.parquet").write_text("text")
    (tmp_path / "empty").mkdir()
    for path in ("t.parquet", "hive/group=1/t.parquet", "delta/t.parquet"):
        write_table(tmp_path / path, ["a.jpg"])
    (tmp_path / "delta" / "_delta_log").mkdir()
    (tmp_path / "delta" / "_delta_log" / "0.json").write_text("{}")
    write_table(tmp_path / "clash.parquet", ["a.jpg"], Width=[1])
    duckdb.sql(f"COPY (SELECT 'a' AS url, INTERVAL 1 DAY AS i) TO '{tmp_path}/interval.parquet'")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[name]
    output = [] if "-o" in arguments else ["-o", "out"]
    done = CliRunner().invoke(app, ["enrich", *arguments, *output, "--hasher", "pdq", "--cluster", "none"])
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and done.stderr.startswith("neardup: ") and done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_that_name_that_is_not_ours_stays(photos: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", [str(PHOTOS[0])])
    (tmp_path / "out" / "enriched").mkdir(parents=True)
    shutil.copy(table, tmp_path / "out" / "enriched" / "t.parquet")
    with pytest.raises(RunError, match="was not written by neardup"):
        enrich(table, tmp_path / "out")
    assert (tmp_path / "out" / "enriched" / "t.parquet").read_bytes() == table.read_bytes()


def test_the_command_line(photos: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", [str(PHOTOS[0]), "gone.jpg", None])
    arguments = ["enrich", str(table), "--uri-column", "url", "-o", str(tmp_path / "out"), "--cluster", "none"]
    done = CliRunner().invoke(app, [*arguments, "--hasher", "pdq"])
    assert done.exit_code == 0 and "3 rows in 1 files" in done.stdout, done.stderr
    assert f"the table with its new columns in {tmp_path}/out/enriched" in done.stdout
    done = CliRunner().invoke(app, [*arguments, "--hasher", "pdq", "--max-error-rate", "0.1"])
    assert done.exit_code == 3 and "1 of 2 items failed" in done.stderr
