"""Names of files: those that are no UTF-8, those that look as if, long ones, and ones with line breaks."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from conftest import PHOTOS, rows
from neardup import storage
from neardup.config import DedupJob, ExportJob
from neardup.stages.explaining import explain, find_item
from neardup.storage.urls import escaped, file_path, file_uri
from neardup_jobs.dedup import run_dedup
from neardup_jobs.export import run_export

ODD = [
    b"caf\xe9.jpg",
    rb"caf\xE9.jpg",
    rb"caf\x5CxE9.jpg",
    rb"caf\xe9.jpg",
    "café\u2028.jpg".encode(),
    b"-a'\"\n\t.jpg",
]
ODD.append(b"n" * 251 + b".jpg")


def named(folder: Path) -> list[str]:
    """A folder with a copy of one photo under each odd name, and a folder whose own name is one."""
    inner = os.fsencode(folder) + b"/\xff\xfe"
    os.mkdir(inner)  # noqa: PTH102 - of bytes
    paths = [os.fsencode(folder) + b"/" + name for name in ODD] + [inner + b"/x.jpg"]
    for path in paths:
        shutil.copyfile(PHOTOS[0], path)
    return [os.fsdecode(path) for path in paths]


def dedup(given: Any, output: Path) -> dict[str, Any]:
    job = {"inputs": [str(given)], "output": str(output), "cluster": "none", "child": {"enabled": False}}
    return run_dedup(DedupJob.model_validate(job), "none")


def test_every_name_has_one_uri_and_every_uri_names_one_file() -> None:
    names = [os.fsdecode(name) for name in [*ODD, b"\\\xe9", b"\xe2\x82", rb"\x5C", rb"\x5Cx5C", b"\xc3(\xc3\xa9"]]
    uris = [file_uri(f"/d/{name}") for name in names]
    assert len(set(uris)) == len(names) and [file_path(uri) for uri in uris] == [f"/d/{name}" for name in names]
    assert [uri.encode().decode() for uri in uris] == uris
    assert escaped(os.fsdecode(b"caf\xe9.jpg")) == r"caf\xE9.jpg" and escaped(r"caf\xE9.jpg") == r"caf\x5CxE9.jpg"


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_odd_names_are_hashed_grouped_listed_and_exported(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    paths = named(tmp_path / "in")
    summary = dedup(tmp_path / "in", tmp_path / "out")
    assert summary["decoded"] == len(paths) == summary["grouped_items"] and not summary["failed"]
    uris = {str(r["uri"]) for r in rows(tmp_path / "out", "media")}
    assert {file_path(uri) for uri in uris} == set(paths)
    assert "items" not in dedup(tmp_path / "in", tmp_path / "out")["stages"]["hash"]  # all done
    for path in paths[:2]:
        out = storage.absolute(str(tmp_path / "out"))
        assert explain(out, find_item(out, path))["media"]["uri"] == file_uri(path)
    listed = tmp_path / "drop.csv"
    job = ExportJob(output=str(tmp_path / "out"), survivors=str(tmp_path / "kept"), delete_list=str(listed))
    run_export(job, "none")
    with listed.open(newline="", encoding="utf-8") as file:
        dropped = [row["uri"] for row in csv.DictReader(file)]
    (kept,) = uris - set(dropped)
    assert len(dropped) == len(paths) - 1
    written = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert [os.fsencode(path.name) for path in written] == [os.fsencode(Path(file_path(kept)).name)]
    (tmp_path / "again.csv").write_text(
        listed.read_text(encoding="utf-8"), encoding="utf-8"
    )  # a list of ours names them
    assert dedup(tmp_path / "again.csv", tmp_path / "of_list")["decoded"] == len(dropped)
    with storage.open_object(file_uri(paths[0])) as file_object:
        assert file_object.read() == PHOTOS[0].read_bytes()


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_each_odd_name_is_exported_alone(form: str, tmp_path: Path) -> None:
    for number, name in enumerate(ODD):
        (tmp_path / f"in{number}").mkdir()
        shutil.copyfile(PHOTOS[0], os.fsencode(tmp_path / f"in{number}") + b"/" + name)
        dedup(tmp_path / f"in{number}", tmp_path / f"out{number}")
        where = tmp_path / f"kept{number}"
        run_export(ExportJob(output=str(tmp_path / f"out{number}"), survivors=str(where), form=form), "none")
        written = [os.fsencode(path.name) for path in where.rglob("*") if path.is_file()]
        assert written == [name] if form == "folder" else len(written) == 1


def test_a_parquet_export_says_that_it_holds_images(tmp_path: Path) -> None:
    """These are the notes by which Hugging Face's `load_dataset("parquet")` gives pictures, not bytes."""
    (tmp_path / "in").mkdir()
    shutil.copyfile(PHOTOS[0], tmp_path / "in" / "a.jpg")
    dedup(tmp_path / "in", tmp_path / "out")
    run_export(ExportJob(output=str(tmp_path / "out"), survivors=str(tmp_path / "kept"), form="parquet"), "none")
    (shard,) = (tmp_path / "kept").iterdir()
    schema = pq.read_schema(shard)
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names and features["media"] == {"_type": "Image"}
