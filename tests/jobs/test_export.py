"""`neardup export`: survivors copied byte for byte in three forms, lists of the others, nothing overwritten."""

import csv
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import SAMPLES, rows
from neardup import storage
from neardup.config import DedupJob, ExportJob, HashJob
from neardup.errors import RunError, UsageError
from neardup.stages import exporting
from neardup.storage import packed as packed_tars
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup, run_hash
from neardup_jobs.export import run_export

NOT_IN_CHILD: dict[str, Any] = {"child": {"enabled": False}, "cluster": "none", "hashers": ["pdq@0.2"]}


def export(output: Path | str, survivors: object = None, **changes: Any) -> dict[str, Any]:
    given = {"output": str(output), "survivors": survivors and str(survivors), **changes}
    return run_export(ExportJob.model_validate(given), "none")


def dedup(photos: Path, output: Path, **settings: Any) -> dict[str, Any]:
    job = {"inputs": [str(photos)], "output": str(output), **NOT_IN_CHILD, **settings}
    return run_dedup(DedupJob.model_validate(job), "none")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def corpus(photos: Path) -> Path:
    """Photos in two folders with sidecars, copies of two of them, and one that is none."""
    (photos / "sub").mkdir()
    for name in ("image5.jpg", "image6.jpg"):
        (photos / name).rename(photos / "sub" / name)
    with Image.open(photos / "image1.jpg") as photo:
        photo.resize((photo.width // 2, photo.height // 2)).save(photos / "sub" / "a%20b ç.png")
    shutil.copy(photos / "image2.jpg", photos / "z.copy.jpg")
    (photos / "text.jpg").write_text("not a photo")
    for name in ("image1.json", "sub/image5.txt", "sub/image5.json", "sub/a%20b ç.txt", "z.copy.txt", "sub/other.txt"):
        (photos / name).write_text(f'{{"of": "{name}"}}')
    return photos


DROPPED = {"sub/a%20b ç.png", "z.copy.jpg"}
LEFT = DROPPED | {"sub/a%20b ç.txt", "z.copy.txt", "sub/other.txt"}


@pytest.fixture
def out(corpus: Path, tmp_path: Path) -> Path:
    os.utime(corpus / "image2.jpg", (1000, 1000))
    dedup(corpus, tmp_path / "out")
    return tmp_path / "out"


def test_survivors_and_their_sidecars_are_copied_as_they_are(corpus: Path, out: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    done = export(out, tmp_path / "clean")
    expected = {name: data for name, data in content(corpus).items() if name not in LEFT}
    assert content(tmp_path / "clean") == expected and {"text.jpg", "image1.json", "sub/image5.txt"} < expected.keys()
    assert {name: data for name, data in content(tmp_path).items() if not name.startswith("clean")} == before
    assert done["survivors"]["written"] == len(expected) and done["dropped"] == 2
    assert done["bytes_saved"] == sum((corpus / name).stat().st_size for name in DROPPED)
    inodes = {path: path.stat().st_ino for path in (tmp_path / "clean").rglob("*")}
    (tmp_path / "clean" / "image3.jpg").unlink()
    again = export(out, tmp_path / "clean")["survivors"]
    assert (again["written"], again["there"]) == (1, len(expected) - 1) and content(tmp_path / "clean") == expected
    assert {path for path in inodes if path.stat().st_ino != inodes[path]} <= {tmp_path / "clean" / "image3.jpg"}


def test_failed_items_stay_out_if_asked_and_may_be_missing(corpus: Path, out: Path, tmp_path: Path) -> None:
    export(out, tmp_path / "good", without_errors=True)
    assert "text.jpg" not in content(tmp_path / "good") and len(content(tmp_path / "good")) == 14 - 1
    (corpus / "text.jpg").unlink()
    assert export(out, tmp_path / "clean")["survivors"]["missing"] == 1


def test_nothing_is_overwritten_and_what_has_changed_is_not_copied(corpus: Path, out: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    (clean / "image3.jpg").write_text("mine")
    (clean / "image1.json").write_text("mine too")
    shutil.copy(corpus / "image1.jpg", corpus / "image4.jpg")
    (corpus / "image7.jpg").unlink()
    with pytest.raises(
        RunError, match=r"4 of 11 items could not be exported, first: .*image1.json exists and is anoth"
    ):
        export(out, clean)
    found = content(clean)
    assert found["image3.jpg"] == b"mine" and found["image1.json"] == b"mine too"
    assert "image4.jpg" not in found and "image7.jpg" not in found and "image8.jpg" in found


def test_tar_shards_hold_the_same_bytes(
    corpus: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_SHARD_ITEMS", 4)
    export(out, tmp_path / "tars", form="tar")
    found = {}
    for path in sorted((tmp_path / "tars").iterdir()):
        with tarfile.open(path) as tar:
            found.update({one.name: tar.extractfile(one).read() for one in tar.getmembers()})  # type: ignore[union-attr]
    assert found == {name: data for name, data in content(corpus).items() if name not in LEFT}
    shards = content(tmp_path / "tars")
    assert len(shards) == 3 and all(name.startswith("shard-00000") for name in shards)
    min((tmp_path / "tars").iterdir()).unlink()
    done = export(out, tmp_path / "tars", form="tar")["survivors"]
    assert (done["written"], done["there"]) == (1, 2) and content(tmp_path / "tars") == shards
    shutil.copy(corpus / "image1.jpg", corpus / "image4.jpg")  # one that has changed: its shard is not written
    with pytest.raises(RunError, match=r"1 of 11 items .*image4.jpg has changed"):
        export(out, tmp_path / "again", form="tar")
    assert len(content(tmp_path / "again")) == 2
    with pytest.raises(UsageError, match="holds files of something else, such as 'shard"):
        export(out, tmp_path / "tars", form="parquet")


def test_parquet_parts_hold_the_same_bytes(
    corpus: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_ROW_GROUP_BYTES", 50_000)
    export(out, tmp_path / "parts", form="parquet")
    (part,) = (tmp_path / "parts").iterdir()
    found = pq.read_table(part).to_pylist()
    left = {name: data for name, data in content(corpus).items() if name not in LEFT}
    assert {row["media"]["path"]: row["media"]["bytes"] for row in found} == {
        name: data for name, data in left.items() if name.endswith("jpg")
    }
    assert {row["uri"].rsplit("/", 1)[1] for row in found if row["json"]} == {"image1.jpg", "image5.jpg"}
    assert [row["txt"] for row in found if row["txt"]] == ['{"of": "sub/image5.txt"}']
    assert pq.ParquetFile(part).num_row_groups > 1


@pytest.fixture
def lake(photos: Path, tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """Photos in archives with sidecars, one cut off, and in a Parquet file; what is to be exported, by path."""
    data = [photo.read_bytes() for photo in sorted(photos.iterdir())]
    more = [(SAMPLES / "scratch" / f"{name}.jpg").read_bytes() for name in ("flower-bed", "pathway", "wooden-house")]
    folder = tmp_path / "lake"
    (folder / "in").mkdir(parents=True)
    tars = {
        "a.tar": [
            ("x/1.jpg", data[0]),
            ("x/1.json", b'{"n": 1}'),
            ("2.v1.jpg", data[1]),
            ("2.txt", b"two\xff"),
            ("2.v2.jpg", more[0]),
        ],
        "b.tar.gz": [
            ("late.jpg", data[2]),
            ("k.jpg", more[1]),
            ("j.jpg", more[2]),
            ("early.jpg", data[3]),
            ("late.json", b"[]"),
            ("early.txt", b""),
        ],
        "c.tar": [("dup.jpg", data[4]), ("dup.jpg", data[5]), ("dup.json", b"{}"), ("../up.jpg", data[6])],
        "cut.tar": [("whole.jpg", data[7]), ("gone.jpg", bytes(9_000))],
    }
    for name, members in tars.items():
        with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
            for member, content in members:
                header = tarfile.TarInfo(member)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    (folder / "cut.tar").write_bytes((folder / "cut.tar").read_bytes()[: 512 * 3 + len(data[7])])
    with zipfile.ZipFile(folder / "in" / "d.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("deep/8.jpg", data[8])
        packed.writestr("deep/8.json", b'{"n": 8}')
        packed.writestr("deep/0.jpg", data[0])  # a copy
        packed.writestr("deep/0.txt", b"dropped")
    table = pa.table({"image": [{"bytes": one, "path": "p.jpg"} for one in (data[9], data[1])], "label": [1, 2]})
    pq.write_table(table, folder / "e.parquet", row_group_size=1)
    shutil.copy(SAMPLES / "scratch" / "castle.jpg", folder / "f.jpg")
    (folder / "f.json").write_text("beside")
    os.utime(folder / "a.tar", (1000, 1000))  # the older of two copies is kept
    return folder, {
        "a.tar/x/1.jpg": data[0],
        "a.tar/x/1.json": b'{"n": 1}',
        "a.tar/2.v1.jpg": data[1],
        "a.tar/2.v2.jpg": more[0],
        "a.tar/2.txt": b"two\xff",
        "c.tar/0.jpeg": data[4],
        "c.tar/0.json": b"{}",
        "c.tar/1.jpeg": data[5],
        "c.tar/1.json": b"{}",
        "c.tar/3.jpeg": data[6],
        "b.tar.gz/late.jpg": data[2],
        "b.tar.gz/k.jpg": more[1],
        "b.tar.gz/j.jpg": more[2],
        "b.tar.gz/late.json": b"[]",
        "b.tar.gz/early.jpg": data[3],
        "b.tar.gz/early.txt": b"",
        "cut.tar/whole.jpg": data[7],
        "cut.tar/cut.tar": (folder / "cut.tar").read_bytes(),
        "in/d.zip/deep/8.jpg": data[8],
        "in/d.zip/deep/8.json": b'{"n": 8}',
        "e.parquet/0.jpeg": data[9],
        "f.jpg": (SAMPLES / "scratch" / "castle.jpg").read_bytes(),
        "f.json": b"beside",
    }


def test_members_of_containers_are_exported_byte_for_byte_in_every_form(
    lake: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = lake
    streams = []
    begin = packed_tars._Stream.__init__
    monkeypatch.setattr(packed_tars._Stream, "__init__", lambda self, uri: (streams.append(uri), begin(self, uri))[1])
    monkeypatch.setattr(exporting, "_LARGE_BYTES", 20_000)  # some are read bit by bit
    summary = dedup(folder, tmp_path / "out")
    assert summary["listed"] == 18 and summary["failed"] == {"permanent": 2} and summary["groups"] == 2
    before = content(folder)
    listed = len(streams)
    done = export(tmp_path / "out", tmp_path / "files")
    assert content(tmp_path / "files") == expected
    assert done["survivors"]["missing"] == 1 and len(streams) - listed <= 3  # one for each pass, however many members
    again = export(tmp_path / "out", tmp_path / "files")["survivors"]
    assert (again["written"], again["there"]) == (0, len(expected) + 1)  # a sidecar belongs to two
    export(tmp_path / "out", tmp_path / "tars", form="tar")
    (shard,) = (tmp_path / "tars").iterdir()
    with tarfile.open(shard) as tar:
        found = [(one.name, tar.extractfile(one).read()) for one in tar.getmembers()]  # type: ignore[union-attr]
    assert dict(found) == expected and len(found) == len(expected)
    export(tmp_path / "out", tmp_path / "parts", form="parquet")
    (part,) = (tmp_path / "parts").iterdir()
    rows_ = {row["media"]["path"]: row for row in pq.read_table(part).to_pylist()}
    assert {path: row["media"]["bytes"] for path, row in rows_.items()} == {
        path: data for path, data in expected.items() if not path.endswith((".json", ".txt"))
    }
    assert rows_["a.tar/x/1.jpg"]["json"] == '{"n": 1}' and rows_["b.tar.gz/early.jpg"]["txt"] == ""
    assert content(folder) == before
    for form in ("tars", "parts"):  # what was exported is an input again
        out = tmp_path / f"again-{form}"
        assert dedup(tmp_path / form, out, columns=["json"])["groups"] == 0
        digests = {row["sha256"] for row in rows(out, "media") if not row["error"]}
        assert digests == {row["sha256"] for row in rows(tmp_path / "out", "media") if not row["error"]}


def test_the_column_of_bytes_that_was_named_is_the_one_that_is_exported(photos: Path, tmp_path: Path) -> None:
    data = [photo.read_bytes() for photo in sorted(photos.iterdir())]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"image": data[:2], "second": data[2:4]}), tmp_path / "in" / "a.parquet")
    dedup(tmp_path / "in", tmp_path / "out", uri_column="second", columns=[])
    export(tmp_path / "out", tmp_path / "files")
    assert content(tmp_path / "files") == {"0.jpeg": data[2], "1.jpeg": data[3]}


def test_a_container_that_is_gone_or_has_changed(lake: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    folder, _ = lake
    dedup(folder, tmp_path / "out")
    (folder / "c.tar").unlink()
    shutil.copy(folder / "a.tar", folder / "b.tar.gz")
    (folder / "in" / "d.zip").write_bytes(b"no zip")
    with pytest.raises(RunError, match=r"8 of 16 items could not be exported, first: "):
        export(tmp_path / "out", tmp_path / "files")
    assert {name.split("/")[0] for name in content(tmp_path / "files")} == {
        "a.tar",
        "cut.tar",
        "e.parquet",
        "f.jpg",
        "f.json",
    }


def test_delete_lists(corpus: Path, out: Path, tmp_path: Path) -> None:
    export(out, delete_list=str(tmp_path / "drop.txt"))
    base = storage.absolute(str(corpus))
    uris = sorted(f"{base}/{name}" for name in DROPPED)
    assert (tmp_path / "drop.txt").read_text().splitlines() == uris
    export(out, delete_list=str(out / "drop.csv"))
    listed = list(csv.DictReader(io.StringIO((out / "drop.csv").read_text())))
    groups = {row["uri"]: row for row in rows(out, "groups")}
    assert listed == [{key: groups[uri][key] for key in ("uri", "group", "kept_uri")} for uri in uris]
    export(out, delete_list=str(out / "drop.csv"))  # the same again
    (tmp_path / "drop.txt").write_text("mine")
    with pytest.raises(UsageError, match="says something else"):
        export(out, tmp_path / "clean", delete_list=str(tmp_path / "drop.txt"))
    assert (tmp_path / "drop.txt").read_text() == "mine" and not (tmp_path / "clean").exists()
    (corpus / "sub" / "a%20b ç.png").rename(corpus / "sub" / "line\nbreak.png")
    dedup(corpus, out)
    with pytest.raises(UsageError, match=r"line break, which a \.txt list cannot tell"):
        export(out, delete_list=str(tmp_path / "new.txt"))
    assert export(out, delete_list=str(tmp_path / "new.csv"))["dropped"] == 2


def test_the_list_of_what_may_go_comes_after_what_stays_is_safe(corpus: Path, out: Path, tmp_path: Path) -> None:
    (corpus / "image7.jpg").unlink()
    with pytest.raises(RunError, match="could not be exported"):
        export(out, tmp_path / "clean", delete_list=str(tmp_path / "drop.txt"))
    assert not (tmp_path / "drop.txt").exists()


def test_paths_never_leave_the_destination_and_never_meet() -> None:
    flat = [
        exporting._flat(uri, "JPEG")
        for uri in (
            "s3://b/x/a.jpg",
            "s3://b/../../etc/passwd",
            "s3://b/x//a.jpg",
            "tar://m/a.jpg::s3://b/x/shard.tar",
            "s3://b/x/part.parquet#member=7",
            "s3://b/x/./a.jpg",
        )
    ]
    paths = exporting._paths(flat)
    assert paths == [
        "x/a.jpg",
        "%2E%2E/%2E%2E/etc/passwd",
        "x/%2F/a.jpg",
        "x/shard.tar/m/a.jpg",
        "x/part.parquet/7.jpeg",
        "x/%2E/a.jpg",
    ]
    assert exporting._paths([["file", "", "a", "x.jpg"], ["s3", "a", "x.jpg"]]) == ["file/%2F/a/x.jpg", "s3/a/x.jpg"]
    assert exporting._paths([["file", "", "a", "x.jpg"]]) == ["x.jpg"] and exporting._paths([]) == []


def test_an_output_on_another_store(photos: Path, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.put(str(photos) + "/", "/lake/photos/", recursive=True)
    store.cp("/lake/photos/image1.jpg", "/lake/photos/sub/zz.jpg")
    store.pipe("/lake/photos/image1.txt", b"text")
    try:
        job = {"inputs": ["memory://lake"], "output": "memory://out", **NOT_IN_CHILD}
        run_dedup(DedupJob.model_validate(job), "none")
        done = export("memory://out", "memory://clean")
        names = sorted(name.removeprefix("/clean/") for name in store.find("/clean"))
        assert names == sorted([*(photo.name for photo in photos.iterdir()), "image1.txt"])
        assert done["bytes_saved"] == (photos / "image1.jpg").stat().st_size
        assert store.cat("/clean/image1.jpg") == (photos / "image1.jpg").read_bytes()
    finally:
        for folder in store.ls("/", detail=False):
            store.rm(folder, recursive=True)


BAD: dict[str, tuple[list[str], str]] = {
    "nothing asked": (["out"], "give --survivors DEST, --delete-list FILE or both"),
    "no output": (["photos", "--survivors", "clean"], "is not an output of neardup"),
    "never grouped": (["hashed", "--survivors", "clean"], "'hashed' has no groups of what it holds now"),
    "unknown form": (["out", "--survivors", "clean", "--as", "zip"], "unknown --as 'zip'; known are folder, tar"),
    "inside the input": (["out", "--survivors", "photos/clean"], "'photos/clean' lies inside the input"),
    "inside a folder of it": (["out", "--survivors", "photos/sub/clean"], "lies inside the input"),
    "beside it": (["deep", "--survivors", "photos/clean"], "lies inside the input"),
    "around it": (["out", "--survivors", "."], "'.' and the output"),
    "around the input": (["out", "--survivors", "link"], "lie"),
    "inside the output": (["out", "--survivors", "out/clean"], "lie inside each other"),
    "a list inside the input": (["out", "--delete-list", "photos/drop.txt"], "lies inside the input"),
    "a list of no kind": (["out", "--delete-list", "drop.json"], "name a .txt or .csv file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_usage_is_one_line_and_exit_2(
    corpus: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    hashing = {"inputs": ["photos"], "output": "hashed", **NOT_IN_CHILD, "hashers": ["pdq"]}
    run_hash(HashJob.model_validate(hashing), "none")
    for photo in corpus.glob("*.jpg"):
        photo.unlink()  # what is left lies in photos/sub
    dedup(Path("photos/sub/../../photos"), tmp_path / "deep")
    (tmp_path / "link").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[name]
    done = CliRunner().invoke(app, ["export", *arguments])
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and done.stderr.startswith("neardup: ") and done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_input_given_from_another_folder_is_one_too() -> None:
    for given in ("photos", "../photos", "./x/../photos", "file:///elsewhere/photos", "/elsewhere/photos/"):
        assert exporting._is_input("file:///elsewhere/photos", given)
        assert not exporting._is_input("file:///elsewhere/myphotos", given)
    assert not exporting._is_input("file:///elsewhere/hidden", ".hidden")


def test_an_output_without_duplicates_can_be_exported(photos: Path, tmp_path: Path) -> None:
    assert dedup(photos, tmp_path / "out")["groups"] == 0
    done = export(tmp_path / "out", tmp_path / "clean", delete_list=str(tmp_path / "drop.txt"))
    assert content(tmp_path / "clean") == content(photos) and (tmp_path / "drop.txt").read_text() == ""
    assert (done["dropped"], done["bytes_saved"]) == (0, 0)


def test_settings_come_from_a_file_and_flags_beat_it(out: Path, tmp_path: Path) -> None:
    (tmp_path / "export.yaml").write_text(f"output: {out}\nsurvivors: {tmp_path}/a\nform: tar\nwithout_errors: true\n")
    arguments = ["export", "--config", str(tmp_path / "export.yaml")]
    assert CliRunner().invoke(app, [*arguments, "--as", "folder"]).exit_code == 0
    assert len(content(tmp_path / "a")) == 13 and "text.jpg" not in content(tmp_path / "a")
    done = CliRunner().invoke(app, [*arguments, "--set", f"survivors={tmp_path}/b", "--set", "without_errors=false"])
    assert done.exit_code == 0 and [name[-4:] for name in content(tmp_path / "b")] == [".tar"]
    (tmp_path / "explain.yaml").write_text(f"output: {out}\nuri: image1.jpg\n")
    done = CliRunner().invoke(app, ["explain", "--config", str(tmp_path / "explain.yaml")])
    assert done.exit_code == 0 and "image1.jpg" in done.stdout.splitlines()[0]
    for job, key in [("export", "delete_list: null"), ("explain", "uri: ")]:
        assert key in CliRunner().invoke(app, ["config", job]).stdout
    done = CliRunner().invoke(app, ["export", str(out), "--set", "survivers=x"])
    assert done.exit_code == 2 and "did you mean 'survivors'?" in done.stderr


def test_the_command_line(out: Path, tmp_path: Path) -> None:
    arguments = ["export", str(out), "--survivors", str(tmp_path / "clean"), "--delete-list", str(tmp_path / "d.txt")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "survivors: 11 items in" in done.stdout, done.stderr
    assert "(14 files written, 0 there already, 0 missing)" in done.stdout and "nothing was deleted" in done.stdout
    assert "not kept: 2 items" in done.stdout and done.stderr.startswith("export: 11 of 11")
    summary = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert summary["survivors"]["there"] == 14 and summary["dropped"] == 2
    with open(tmp_path / "clean" / "image3.jpg", "ab") as file:
        file.write(b"x")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and "1 of 11 items could not be exported" in done.stderr
