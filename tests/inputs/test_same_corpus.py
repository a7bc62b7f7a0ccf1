"""The same corpus, however it is given, has the same hashes, pairs and groups."""

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stores
from conftest import SAMPLES, rows
from neardup import storage
from neardup.config import DedupJob, EnrichJob
from neardup_jobs.dedup import run_dedup
from neardup_jobs.enrich import run_enrich

HASHES = "hashes/hasher=phash-hash_size-16"
PAIRS = "pairs/hasher=phash-hash_size-16"
ODD = ("a b.jpg", "a%20b.jpg", "c#1.jpg", "é.jpg", "%C3%A9.jpg", "d::e.jpg", "q?x=1.jpg")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with near duplicates, a broken one, and the same photo under names that stores find hard."""
    folder = tmp_path_factory.mktemp("corpus")
    for photo in sorted((SAMPLES / "copies").glob("*"))[:9] + sorted((SAMPLES / "perception").glob("*"))[:6]:
        shutil.copy(photo, folder)
    for name in ODD:
        shutil.copy(SAMPLES / "perception" / "image9.jpg", folder / name)
    (folder / "broken.jpg").write_bytes(b"no photo")
    (folder / "deep").mkdir()
    shutil.copy(SAMPLES / "perception" / "image8.jpg", folder / "deep")
    return folder


@pytest.fixture(scope="module")
def s3(corpus: Path) -> Iterator[None]:
    with stores.moto() as url, stores.environment(url):
        stores.make_bucket("corpus")
        stores.put("corpus", corpus)
        yield


Names = dict[str, str]  # uri → the name in the corpus
Given = tuple[str, Callable[[str], str], dict[str, Any]]  # input, name of a uri, settings


def names(corpus: Path) -> list[str]:
    return sorted(str(path.relative_to(corpus)) for path in corpus.rglob("*") if path.is_file())


def as_folder(corpus: Path, work: Path) -> Given:
    return str(corpus), lambda uri: uri.removeprefix(f"file://{corpus}/"), {}


def as_glob(corpus: Path, work: Path) -> Given:
    return f"{corpus}/**", lambda uri: uri.removeprefix(f"file://{corpus}/"), {}


def as_list(corpus: Path, work: Path) -> Given:
    lines = [json.dumps({"where": f"{corpus}/{name}", "number": n}) for n, name in enumerate(names(corpus))]
    (work / "list.jsonl").write_text("\n".join(lines))
    return str(work / "list.jsonl"), lambda uri: uri.removeprefix(f"file://{corpus}/"), {"uri_column": "where"}


def as_csv_beside(corpus: Path, work: Path) -> Given:
    copy = shutil.copytree(corpus, work / "copy")
    (copy / "list.txt").write_text("\n".join(names(corpus)))
    return str(copy / "list.txt"), lambda uri: uri.removeprefix(f"file://{copy}/"), {}


def as_parquet(corpus: Path, work: Path) -> Given:
    table = pa.table({"id": names(corpus), "image": [(corpus / name).read_bytes() for name in names(corpus)]})
    pq.write_table(table, work / "rows.parquet", row_group_size=7)
    return str(work / "rows.parquet"), lambda uri: names(corpus)[int(uri.rpartition("=")[2])], {}


def as_hugging_face(corpus: Path, work: Path) -> Given:
    images = [{"bytes": (corpus / name).read_bytes(), "path": name} for name in names(corpus)]
    pq.write_table(pa.table({"label": range(len(images)), "image": images}), work / "hf.parquet", row_group_size=5)
    return str(work / "hf.parquet"), lambda uri: names(corpus)[int(uri.rpartition("=")[2])], {}


def tar_of(corpus: Path, where: Path, packing: Any = "") -> Path:
    with tarfile.open(where, f"w:{packing}") as archive:
        for name in names(corpus):
            archive.add(corpus / name, name)
    return where


def zip_of(corpus: Path, where: Path, method: int) -> Path:
    with zipfile.ZipFile(where, "w", method) as archive:
        for name in names(corpus):
            archive.write(corpus / name, name)
    return where


def in_archive(corpus: Path, container: str) -> Callable[[str], str]:
    def name(uri: str) -> str:
        chain, _, rest = uri.partition(f"::{container}")
        if uri == f"{chain}::{container}" and not rest:
            return chain.partition("://")[2]
        return names(corpus)[int(uri.removeprefix(f"{container}#member="))]

    return name


def as_tar(corpus: Path, work: Path) -> Given:
    where = tar_of(corpus, work / "a.tar")
    return str(where), in_archive(corpus, f"file://{where}"), {"slices": {"items": 4}}


def as_tar_gz(corpus: Path, work: Path) -> Given:
    where = tar_of(corpus, work / "a.tar.gz", "gz")
    return str(where), in_archive(corpus, f"file://{where}"), {"slices": {"items": 4}}


def as_tgz_in_a_list(corpus: Path, work: Path) -> Given:
    where = tar_of(corpus, work / "a.tgz", "gz")
    (work / "list.txt").write_text("a.tgz")
    return str(work / "list.txt"), in_archive(corpus, f"file://{where}"), {}


def as_folder_of_tar_bz2(corpus: Path, work: Path) -> Given:
    (work / "in").mkdir()
    where = tar_of(corpus, work / "in" / "a.tar.bz2", "bz2")
    return str(work / "in"), in_archive(corpus, f"file://{where}"), {}


def as_tar_xz(corpus: Path, work: Path) -> Given:
    where = tar_of(corpus, work / "a.tar.xz", "xz")
    return str(where), in_archive(corpus, f"file://{where}"), {}


def as_s3_tar_zst(corpus: Path, work: Path) -> Given:
    data = pa.Codec("zstd").compress(tar_of(corpus, work / "a.tar").read_bytes(), asbytes=True)
    stores.make_bucket("packed")
    storage.write("s3://packed", "a.tar.zst", data)
    return "s3://packed/a.tar.zst", in_archive(corpus, "s3://packed/a.tar.zst"), {"slices": {"items": 9}}


def as_zip(corpus: Path, work: Path) -> Given:
    where = zip_of(corpus, work / "a.zip", zipfile.ZIP_STORED)
    return str(where), in_archive(corpus, f"file://{where}"), {}


def as_deflated_zip(corpus: Path, work: Path) -> Given:
    where = zip_of(corpus, work / "b.zip", zipfile.ZIP_DEFLATED)
    return str(where), in_archive(corpus, f"file://{where}"), {"slices": {"read_budget": 60_000}}


def as_s3(corpus: Path, work: Path) -> Given:
    return "s3://corpus", lambda uri: uri.removeprefix("s3://corpus/"), {}


def as_s3_tar(corpus: Path, work: Path) -> Given:
    stores.make_bucket("shards")
    storage.write("s3://shards", "x/a.tar", tar_of(corpus, work / "a.tar").read_bytes())
    return "s3://shards/x/*.tar", in_archive(corpus, "s3://shards/x/a.tar"), {"slices": {"items": 5}}


def as_s3_parquet(corpus: Path, work: Path) -> Given:
    as_parquet(corpus, work)
    stores.make_bucket("shards")
    storage.write("s3://shards", "rows.parquet", (work / "rows.parquet").read_bytes())
    return "s3://shards/rows.parquet", lambda uri: names(corpus)[int(uri.rpartition("=")[2])], {}


def as_memory(corpus: Path, work: Path) -> Given:
    for name in names(corpus):
        storage.write("memory://corpus", name, (corpus / name).read_bytes())
    return "memory://corpus", lambda uri: uri.removeprefix("memory://").lstrip("/").removeprefix("corpus/"), {}


def shards(corpus: Path, where: Path, count: int) -> dict[str, str]:
    """The corpus in tars, a zip and a Hugging Face file: the name of each member's uri."""
    where.mkdir(parents=True)
    called: dict[str, str] = {}
    for number in range(count):
        mine = names(corpus)[number::count]
        path = where / (
            f"shard-{number:02d}.tar" if number < count - 2 else "z.zip" if number == count - 2 else "z.parquet"
        )
        if path.suffix == ".parquet":
            images = [{"bytes": (corpus / name).read_bytes(), "path": name} for name in mine]
            pq.write_table(pa.table({"image": images}), path)
            called |= {f"file://{path}#member={n}": name for n, name in enumerate(mine)}
            continue
        if path.suffix == ".tar":
            with tarfile.open(path, "w") as archive:
                for name in mine:
                    archive.add(corpus / name, name)
        else:
            with zipfile.ZipFile(path, "w") as packed:
                for name in mine:
                    packed.write(corpus / name, name)
        called |= {f"{path.suffix[1:]}://{name}::file://{path}": name for name in mine}
        called |= {f"file://{path}#member={n}": name for n, name in enumerate(mine) if "::" in name}
    return called


def as_folder_of_shards(corpus: Path, work: Path) -> Given:
    """Beside what is no input: tables without images, text, and an output of neardup with a table of images in it."""
    called = shards(corpus, work / "lake" / "deep", 5)
    pq.write_table(pa.table({"id": [1], "url": ["nowhere.jpg"], "vector": [b"123"]}), work / "lake" / "facts.parquet")
    (work / "lake" / "notes.txt").write_text("nowhere.jpg")
    images = {"image": [{"bytes": (corpus / "broken.jpg").read_bytes(), "path": "x"}], "url": [str(corpus / ODD[0])]}
    pq.write_table(pa.table(images), work / "mine.parquet")
    job = {"inputs": [str(work / "mine.parquet")], "output": str(work / "lake" / "run"), "uri_column": "url"}
    run_enrich(EnrichJob.model_validate({**job, "cluster": "none", "child": {"enabled": False}}), "none")
    assert (work / "lake" / "run" / "enriched" / "mine.parquet").exists()
    return str(work / "lake"), called.__getitem__, {}


def as_list_of_shards(corpus: Path, work: Path) -> Given:
    called = shards(corpus, work / "shards", 4)
    lines = [f"shards/{path.name}" for path in sorted((work / "shards").iterdir())]
    (work / "list.txt").write_text("\n".join(lines))
    return str(work / "list.txt"), called.__getitem__, {}


def as_s3_folder_of_shards(corpus: Path, work: Path) -> Given:
    called = shards(corpus, work / "shards", 4)
    stores.make_bucket("lake")
    stores.put("lake", work / "shards")
    moved = {uri.replace(f"file://{work}/shards", "s3://lake"): name for uri, name in called.items()}
    return "s3://lake", moved.__getitem__, {}


WAYS = [as_glob, as_list, as_csv_beside, as_parquet, as_hugging_face, as_tar, as_zip, as_deflated_zip, as_s3]
WAYS += [as_s3_tar, as_s3_parquet, as_memory, as_folder_of_shards, as_list_of_shards, as_s3_folder_of_shards]
WAYS += [as_tar_gz, as_tgz_in_a_list, as_folder_of_tar_bz2, as_tar_xz, as_s3_tar_zst]


def outcome(corpus: Path, work: Path, way: Callable[[Path, Path], Given]) -> dict[str, Any]:
    """Hashes, pairs and groups, by the names that files have in the corpus."""
    given, name, settings = way(corpus, work)
    job = {"inputs": [given], "output": str(work / "out"), "cluster": "none", "child": {"enabled": False}, **settings}
    summary = run_dedup(DedupJob.model_validate(job), "none")
    assert summary["listed"] == len(names(corpus)) and summary["failed"] == {"permanent": 1}
    media, out = rows(work / "out", "media"), work / "out"
    groups: dict[Any, set[str]] = {}
    for row in rows(out, "groups"):
        groups.setdefault(row["group"], set()).add(name(str(row["uri"])))
    return {
        "media": {name(str(r["uri"])): (r["sha256"], r["md5"], r["size"], r["width"], r["error"]) for r in media},
        "hashes": {name(str(r["uri"])): (r["hash"], r["quality"]) for r in rows(out, HASHES)},
        "pairs": {
            tuple(sorted([name(str(r["uri_a"])), name(str(r["uri_b"]))])): r["distance"] for r in rows(out, PAIRS)
        },
        "groups": sorted(map(sorted, groups.values())),
    }


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = outcome(corpus, tmp_path_factory.mktemp("folder"), as_folder)
    assert len(found["pairs"]) > 20 and len(found["groups"]) > 2 and len(found["media"]) == len(names(corpus))
    return found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_however_it_is_given(way: Any, corpus: Path, expected: Any, s3: None, tmp_path: Path) -> None:
    assert outcome(corpus, tmp_path, way) == expected


def test_every_uri_opens_what_it_names(corpus: Path, s3: None, tmp_path: Path) -> None:
    for way in [as_folder, *WAYS]:
        work = tmp_path / way.__name__
        work.mkdir()
        given, name, settings = way(corpus, work)
        from neardup.stages.listing import InputOptions, list_inputs
        from neardup.stages.lists import ListOptions

        listing = list_inputs([given], InputOptions(lists=ListOptions(settings.get("uri_column"))))
        for bucket in listing.buckets():
            for uri in bucket["uri"].to_pylist()[::5]:
                content = (corpus / name(uri)).read_bytes()
                assert storage.read_object(uri) == content, uri
                with storage.open_object(uri) as file:
                    file.seek(-3, io.SEEK_END)
                    tail = file.read()
                    file.seek(2)
                    assert (tail, file.read(4), file.tell()) == (content[-3:], content[2:6], 6), uri
