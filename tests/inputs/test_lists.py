"""Lists: whose uris, which columns are carried, what is refused in one line."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PHOTOS, rows
from neardup import storage, tables
from neardup.config import DedupJob, HashJob
from neardup.errors import UsageError
from neardup_jobs.dedup import run_dedup, run_hash
from tools.https_service import Reply, service


def hash_only(given: Any, output: Path, **settings: Any) -> dict[str, Any]:
    inputs = [str(one) for one in given] if isinstance(given, list) else [str(given)]
    job = {"inputs": inputs, "output": str(output), "cluster": "none", "child": {"enabled": False}, **settings}
    return run_hash(HashJob.model_validate(job), "none")


def test_columns_are_carried_with_their_types(photos: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in photos.iterdir())[:3]
    table = pa.table(
        {
            "label": pa.array(["a", None, "c"]),
            "url": [f"photos/{name}" for name in names],
            "score": pa.array([1, 2, 3], pa.int16()),
            "box": pa.array([[1.0, 2.0], None, []], pa.list_(pa.float32())),
            "nothing": pa.nulls(3),
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    out = tmp_path / "out"
    assert hash_only(tmp_path / "list.parquet", out)["decoded"] == 3
    part = storage.read_manifest(f"file://{out}")["media"][0]
    schema = pq.read_schema(out / part)
    assert schema.names == [*tables.MEDIA.names, "label", "score", "box", "nothing"]
    assert [schema.field(name).type for name in ("score", "box", "nothing")] == [
        pa.int16(),
        pa.list_(pa.field("element", pa.float32())),
        pa.string(),
    ]
    said = {str(r["uri"]).rsplit("/", 1)[1]: (r["label"], r["score"], r["box"]) for r in rows(out, "media")}
    assert said == {names[0]: ("a", 1, [1.0, 2.0]), names[1]: (None, 2, None), names[2]: ("c", 3, [])}
    hash_only(tmp_path / "list.parquet", tmp_path / "few", columns=["score"])
    assert set(rows(tmp_path / "few", "media")[0]) == {*tables.MEDIA.names, "score"}


def test_what_a_list_says_is_what_it_says_last(photos: Path, tmp_path: Path) -> None:
    """Nothing is read again when only a list's columns change, and the rows are those of a fresh run."""
    listed = sorted(photos.iterdir())
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{path},1\n" for path in listed))
    hash_only(tmp_path / "list.csv", tmp_path / "out", slices={"items": 3})
    for number, text in enumerate(["path,label\n{},1\n", "path,label,new\n{},x,2.5\n", "path\n{}\n"]):
        header, line = text.split("\n")[:2]
        changed = [line.format(path).replace(",1", f",{n // 5}") for n, path in enumerate(listed)]
        (tmp_path / "list.csv").write_text("\n".join([header, *changed]))
        summary = hash_only(tmp_path / "list.csv", tmp_path / "out")
        assert "items" not in summary["stages"]["hash"] and summary["decoded"] == 10
        hash_only(tmp_path / "list.csv", tmp_path / f"fresh{number}")
        fresh = rows(tmp_path / f"fresh{number}", "media")
        assert sorted(map(str, rows(tmp_path / "out", "media"))) == sorted(map(str, fresh))


def test_rows_of_a_list_that_cannot_be_read_are_rows(photos: Path, tmp_path: Path) -> None:
    photo = next(photos.iterdir())
    lines = ["uri,n", f"{photo},1", f"{photos}/gone.jpg,2", ",3", "nothing://x.jpg,4", f"{photo},5", "~/x.jpg,6"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    summary = hash_only(tmp_path / "list.csv", tmp_path / "out")
    said = {str(r["uri"]): (r["n"], r["error_class"]) for r in rows(tmp_path / "out", "media")}
    assert summary["listed"] == 5 and said == {
        f"file://{photo}": (1, None),  # of two rows with one uri, the first
        f"file://{photos}/gone.jpg": (2, "permanent"),
        f"file://{tmp_path}/list.csv#member=2": (3, "permanent"),
        "nothing://x.jpg": (4, "permanent"),
        f"file://{tmp_path}/~/x.jpg": (6, "permanent"),
    }


def test_a_column_named_as_one_of_media_is_carried_beside_it(photos: Path, tmp_path: Path) -> None:
    photo = next(photos.iterdir())
    (tmp_path / "list.csv").write_text(f"url,width,uri,n\n{photo},5,x,1\n")
    hash_only(tmp_path / "list.csv", tmp_path / "out", uri_column="url")
    (row,) = rows(tmp_path / "out", "media")
    assert (row["list_width"], row["list_uri"], row["n"], row["uri"]) == (5, "x", 1, f"file://{photo}")
    assert row["width"] != 5


REFUSED = {
    "no column": ("list.csv", "a,b\n1,2\n", {}, "no column of uris .* columns are a, b: name one with --uri-column"),
    "another column": ("list.csv", "a,b\n1,2\n", {"uri_column": "c"}, "no column 'c'; its columns are a, b"),
    "numbers": ("list.csv", "url\n1\n", {}, "column 'url' .* holds int64, not uris"),
    "two columns": ("list.csv", "url,a,a\nx.jpg,5,5\n", {}, "two columns named 'a'; rename one"),
    "ragged": ("list.csv", "url,a\nx.jpg\n", {}, "no csv that can be read"),
    "empty": ("list.csv", "", {}, "is empty"),
    "no json": ("list.jsonl", "{url:", {}, "no jsonl that can be read"),
    "no parquet": ("list.parquet", "PAR1", {}, "cannot read the list"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_lists_that_cannot_be_meant(how: str, tmp_path: Path) -> None:
    name, text, settings, message = REFUSED[how]
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        hash_only(tmp_path / name, tmp_path / "out", **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_pairs_within_a_column_of_a_list(photos: Path, tmp_path: Path) -> None:
    for name in ("copy1.jpg", "copy2.jpg"):
        shutil.copy(PHOTOS[0], photos / name)
    (tmp_path / "list.csv").write_text(
        f"path,shop\n{photos}/{PHOTOS[0].name},a\n{photos}/copy1.jpg,b\n{photos}/copy2.jpg,a\n"
    )
    job = {"inputs": [str(tmp_path / "list.csv")], "output": str(tmp_path / "out"), "block_by": ["column:shop"]}
    job |= {"cluster": "none", "child": {"enabled": False}}
    run_dedup(DedupJob.model_validate(job), "none")
    (pair,) = rows(tmp_path / "out", "pairs/hasher=phash-hash_size-16")
    assert {str(pair[name])[-9:] for name in ("uri_a", "uri_b")} == {"copy2.jpg", PHOTOS[0].name[-9:]}
    job |= {"output": str(tmp_path / "new"), "block_by": ["column:shop"], "columns": ["none"]}
    with pytest.raises(UsageError, match="--block-by 'column:shop': MEDIA has no such column"):
        run_dedup(DedupJob.model_validate(job), "none")
    assert not (tmp_path / "new").exists()


def test_columns_of_two_lists_that_do_not_meet(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"url,label\n{PHOTOS[0]},1\n")
    (tmp_path / "b.csv").write_text(f"url,label\n{PHOTOS[1]},x\n")
    with pytest.raises(UsageError, match=r"column .label. is int64 in .*/a.csv. and string in .*/b.csv.; "):
        hash_only([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out")
    assert hash_only([tmp_path / "a.csv", photos], tmp_path / "out")["decoded"] == 11


def test_secrets_in_a_url_are_refused_and_shown_nowhere(tmp_path: Path) -> None:
    for url in ("s3://me:p4ss@bucket/x", "https://host/a.jpg?token=p4ss"):
        for job in ({"given": url, "output": tmp_path / "out"}, {"given": tmp_path, "output": url}):
            with pytest.raises(UsageError, match="give it through the store's own configuration") as caught:
                hash_only(**job)
            assert "p4ss" not in str(caught.value)
    assert storage.redacted("cannot GET https://u:p4ss@h/x?sig=p4ss (403)") == "cannot GET https://…@h/x?… (403)"


def test_a_list_of_pages_on_the_web(tmp_path: Path) -> None:
    photo = PHOTOS[0].read_bytes()
    with service(None) as web:
        web.replies[:] = [Reply(body=photo)]
        (tmp_path / "list.txt").write_text(f"{web.url}/a%20b.jpg\n{web.url}/a b.jpg\n{web.url}/c.jpg\n")
        hash_only(tmp_path / "list.txt", tmp_path / "out")
        sizes = {str(r["uri"]).removeprefix(web.url): (r["size"], r["error"]) for r in rows(tmp_path / "out", "media")}
        assert sizes == dict.fromkeys(["/a%20b.jpg", "/a b.jpg", "/c.jpg"], (len(photo), None))
        web.replies[:] = [Reply(403)]
        web.requests.clear()
        assert hash_only(tmp_path / "list.txt", tmp_path / "refused")["failed"] == {"permanent": 3}
        assert len(web.requests) <= 3 * 3  # looked up, then asked for once


def test_what_is_excluded(photos: Path, tmp_path: Path) -> None:
    (photos / "thumbs" / "deep").mkdir(parents=True)
    shutil.copy(PHOTOS[0], photos / "thumbs" / "deep" / "x.jpg")
    shutil.copy(PHOTOS[0], photos / "image1-small.jpg")
    for patterns, left in [
        (["thumbs"], 11),
        (["*-small.*"], 11),
        (["thumbs/*", "image?.jpg"], 2),
        (["deep/x.jpg"], 12),
    ]:
        summary = hash_only(photos, tmp_path / "out", exclude=patterns, max_removed=1)
        assert summary["listed"] == left, patterns


def test_what_a_list_says_of_an_archive_it_says_of_its_members(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(PHOTOS[0], "x/one.jpg")
        (tmp_path / "one.json").write_text('{"caption": "a cat", "seen": 3}')
        archive.add(tmp_path / "one.json", "x/one.json")
        archive.add(PHOTOS[1], "two.jpg")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    rows_of = {"image": [{"bytes": PHOTOS[2].read_bytes(), "path": "p.jpg"}] * 2, "label": [7, 8], "more": ["m", "n"]}
    pq.write_table(pa.table(rows_of), tmp_path / "p.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "none.parquet")
    lines = ["uri,label,caption", "a.tar,1,mine", "bad.zip,2,", "p.parquet,3,", "gone.tar,4,", "none.parquet,5,"]
    (tmp_path / "list.csv").write_text("\n".join([*lines, f"{PHOTOS[3]},6,", "gone.parquet,9,"]))
    summary = hash_only(tmp_path / "list.csv", tmp_path / "out")
    media = rows(tmp_path / "out", "media")
    assert summary["listed"] == len(media) == 9 and summary["failed"] == {"permanent": 4}
    said = {
        str(r["uri"]).replace(f"file://{tmp_path}/", "@"): (r["label"], r["caption"], r["seen"], r["more"])
        for r in media
        if r["error"] is None
    }
    assert said == {
        "tar://x/one.jpg::@a.tar": (1, "mine", 3, None),  # the list comes before the sidecar
        "tar://two.jpg::@a.tar": (1, "mine", None, None),
        "@p.parquet#member=0": (3, "", None, "m"),
        "@p.parquet#member=1": (3, "", None, "n"),
        f"file://{PHOTOS[3]}": (6, "", None, None),
    }
    errors = {str(r["uri"]).rsplit("/", 1)[1]: (r["label"], r["error"]) for r in media if r["error"]}
    assert errors.keys() == {"bad.zip", "gone.tar", "none.parquet", "gone.parquet"}
    assert errors["none.parquet"] == (5, "it has no column of image bytes") and "gone" in str(errors["gone.tar"])
    assert {name: label for name, (label, _) in errors.items()}["bad.zip"] == 2 and errors["gone.parquet"][0] == 9
    (tmp_path / "only.txt").write_text("a.tar\np.parquet\n")  # a list that says nothing of what it names
    assert hash_only(tmp_path / "only.txt", tmp_path / "few", columns=["more"])["decoded"] == 4


def test_a_folder_with_a_damaged_parquet_file(photos: Path, tmp_path: Path) -> None:
    images = pa.table({"image": [photo.read_bytes() for photo in PHOTOS], "note": [f"{n} note" for n in range(10)]})
    pq.write_table(images, photos / "good.parquet", row_group_size=5, use_dictionary=False)
    data = bytearray((photos / "good.parquet").read_bytes())
    place = pq.ParquetFile(photos / "good.parquet").metadata.row_group(1).column(1).data_page_offset
    data[place : place + 30] = b"\xff" * 30
    (photos / "damaged.parquet").write_bytes(data)
    (photos / "none.parquet").write_bytes(b"PAR1")
    summary = hash_only(photos, tmp_path / "out")
    failed = {str(r["uri"]).rsplit("/", 1)[1] for r in rows(tmp_path / "out", "media") if r["error"]}
    assert {"damaged.parquet", "none.parquet"} <= failed and summary["decoded"] >= 20
    assert hash_only(photos, tmp_path / "less", exclude=["*.parquet"])["listed"] == 10
    with pytest.raises(UsageError, match=r"cannot read the list .*damaged.parquet': the Parquet file is damaged"):
        hash_only(photos / "damaged.parquet", tmp_path / "never")


SIGNED = "https://host/x.jpg?w=3&X-Amz-Signature=p4ss"


def test_a_row_with_a_credential_is_an_error_row_that_does_not_show_it(photos: Path, tmp_path: Path) -> None:
    photo = next(photos.iterdir())
    urls = [str(photo), SIGNED, "https://u:p4ss@host/x.jpg"]
    table = pa.table(
        {"url": urls, "copy": urls, "deep": [[{"a": url}] for url in urls], "map": [[("k", url)] for url in urls]},
        schema=pa.schema(
            [
                ("url", pa.string()),
                ("copy", pa.string()),
                ("deep", pa.list_(pa.struct([("a", pa.string())]))),
                ("map", pa.map_(pa.string(), pa.string())),
            ]
        ),
    )
    pq.write_table(table, tmp_path / "list.parquet")
    summary = hash_only(tmp_path / "list.parquet", tmp_path / "out")
    assert summary["decoded"] == 1 and summary["failed"] == {"permanent": 2}
    failed = {str(r["uri"]): r for r in rows(tmp_path / "out", "media") if r["error"]}
    assert set(failed) == {f"file://{tmp_path}/list.parquet#member={number}" for number in (1, 2)}
    row = failed[f"file://{tmp_path}/list.parquet#member=1"]
    assert "'X-Amz-Signature'" in str(row["error"]) and row["copy"] == "https://host/x.jpg?…"
    assert row["deep"] == [{"a": "https://host/x.jpg?…"}] and row["map"] == [("k", "https://host/x.jpg?…")]
    tables_written = [pq.read_table(path) for path in (tmp_path / "out").rglob("*.parquet")]
    assert tables_written and not any("p4ss" in str(one.to_pylist()) for one in tables_written)
    assert "p4ss" not in (tmp_path / "out" / "run.json").read_text()


NAMES = ["row", "part", "fields", "left", "right", "settled", "container", "at", "place", "fault", "hash", "group"]
NAMES += [
    "uri_a",
    "error_class",
    "stale",
    "",
    "uri.x",
    ".dot",
    "[0]",
    "naïve ☂",
    "Row",
    "width",
    "list_width",
    "\x1frow",
]


def test_columns_of_any_name_are_carried_and_found_done(photos: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted(photos.iterdir())]
    table = pa.table({"url": paths, **{name: [number] * len(paths) for number, name in enumerate(NAMES)}})
    pq.write_table(table, tmp_path / "list.parquet")
    job = {"inputs": [str(tmp_path / "list.parquet")], "output": str(tmp_path / "out"), "child": {"enabled": False}}
    job |= {"cluster": "none", "block_by": ["column:"], "slices": {"rows_in_memory": 3}}
    run_dedup(DedupJob.model_validate(job), "none")
    parts = storage.read_manifest(f"file://{tmp_path}/out")["media"]
    for _ in range(2):
        carried = [name for name in rows(tmp_path / "out", "media")[0] if name not in tables.MEDIA.names]
        assert len(carried) == len(NAMES)
        for number, name in enumerate(NAMES):
            by_name = name if name in carried else f"list_{name}"
            if name == "width":
                by_name = "list_width"
            if name == "list_width":
                by_name = "list_list_width"
            assert {r[by_name] for r in rows(tmp_path / "out", "media")} == {number}, name
        assert "items" not in run_dedup(DedupJob.model_validate(job), "none")["stages"]["hash"]
        assert storage.read_manifest(f"file://{tmp_path}/out")["media"] == parts  # nothing is written again


TYPES: dict[str, tuple[pa.Array, pa.Array, list[Any]]] = {
    "null": (pa.nulls(2), pa.array([1, 2]), [None, None, 1, 2]),
    "signs": (pa.array([1, 2], pa.uint8()), pa.array([-1, 300], pa.int16()), [1, 2, -1, 300]),
    "double": (pa.array([1, 2]), pa.array([0.5, float("inf")]), [1.0, 2.0, 0.5, float("inf")]),
    "half": (pa.array([1, 2], pa.float16()), pa.nulls(2), [1.0, 2.0, None, None]),
    "dictionary": (pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "d"], pa.large_string()), list("abcd")),
    "views": (pa.array(["a", "b"], pa.string_view()), pa.array(["c", "d"]), list("abcd")),
    "decimals": (pa.array([1, 2]), pa.array([3, 4], pa.decimal128(5, 2)), [1, 2, 3, 4]),
    "moments": (pa.array([1, 2], pa.timestamp("s")), pa.array([3000, 4000], pa.timestamp("ms")), []),
    "lists": (pa.array([[1], None], pa.list_(pa.int8())), pa.array([[0.5], []]), [[1.0], None, [0.5], []]),
    "structs": (
        pa.array([{"a": 1}, None]),
        pa.array([{"b": "x"}, {"b": None}]),
        [{"a": 1, "b": None}, None, {"a": None, "b": "x"}, {"a": None, "b": None}],
    ),
}


@pytest.mark.parametrize("how", TYPES)
def test_types_of_shards_are_united_and_change_from_night_to_night(how: str, photos: Path, tmp_path: Path) -> None:
    one, other, values = TYPES[how]
    paths = [str(path) for path in sorted(photos.iterdir())[:4]]
    pq.write_table(pa.table({"url": paths[:2], "x": one}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": paths[2:], "x": other}), tmp_path / "b.parquet")
    both = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    hash_only(both[0], tmp_path / "out")  # last night, with the type of one
    hash_only(both, tmp_path / "out")
    parts = storage.read_manifest(f"file://{tmp_path}/out")["media"]
    hash_only(both, tmp_path / "out")
    assert storage.read_manifest(f"file://{tmp_path}/out")["media"] == parts
    hash_only(both[::-1], tmp_path / "fresh")
    incremental, fresh = (
        pa.concat_tables(pq.read_table(path) for path in (tmp_path / name / "media").iterdir()).sort_by("uri")
        for name in ("out", "fresh")
    )
    assert incremental.drop_columns(["sha256"]).equals(fresh.drop_columns(["sha256"])) and len(fresh) == 4
    assert not values or fresh["x"].to_pylist() == values


def test_a_value_that_a_common_type_would_change_is_refused_with_both_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x.jpg"], "n": [2**60 + 1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": ["y.jpg"], "n": [0.5]}), tmp_path / "b.parquet")
    said = r"column 'n' is double in '.*b.parquet' and int64 in '.*a.parquet'; .* --columns .*1152921504606846977"
    with pytest.raises(UsageError, match=said):
        hash_only([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out")
    few = hash_only([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out", columns=["none"])
    assert few["listed"] == 2


def test_folders_of_lists_are_read_by_their_column_and_what_is_passed_by_is_counted(tmp_path: Path) -> None:
    lake = tmp_path / "lake" / "day=1"
    lake.mkdir(parents=True)
    pq.write_table(pa.table({"url": [str(PHOTOS[0])]}), lake / "part.parquet")
    (lake / "more.csv").write_text(f"url,n\n{PHOTOS[1]},1\n")
    (lake / "more.jsonl").write_text(f'{{"url": "{PHOTOS[2]}"}}\n')
    (lake / "other.csv").write_text("a,b\n1\n")
    (lake / "note.HEIC").write_bytes(b"x")
    (lake / "README").write_bytes(b"x")
    hash_only(PHOTOS[0], lake / "ours")
    summary = hash_only(tmp_path / "lake", tmp_path / "out", uri_column="url", exclude=["*.json"])
    assert summary["decoded"] == 3
    assert summary["passed_by"] == {"lists": 1, ".heic": 1, "no suffix": 1, "own tables": 2}
    silent = hash_only(tmp_path / "lake", tmp_path / "never", exclude=["ours"])
    assert silent["passed_by"] == {"lists": 4, ".heic": 1, "no suffix": 1} and not silent["listed"]


def test_images_of_a_parquet_file_by_their_path_where_it_has_no_bytes(photos: Path, tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    photo = PHOTOS[0].read_bytes()
    held, by_name, absolute = (photo, "x.jpg"), (None, f"photos/{PHOTOS[1].name}"), (None, str(PHOTOS[2]))
    shards = {"paths": [by_name, absolute], "mixed": [held, by_name, (None, None), (None, SIGNED)], "bytes": [held]}
    for name, images in shards.items():
        values = pa.array([{"bytes": data, "path": path} for data, path in images], kind)
        pq.write_table(pa.table({"image": values, "n": list(range(len(images)))}), tmp_path / f"{name}.parquet")
    wanted = {
        "paths": {f"file://{tmp_path}/{by_name[1]}": 0, f"file://{PHOTOS[2]}": 1},
        "mixed": {"#0": 0, f"file://{tmp_path}/{by_name[1]}": 1, "#2": 2, "#3": 3},
        "bytes": {"#0": 0},
    }
    for name, uris in wanted.items():
        summary = hash_only(tmp_path / f"{name}.parquet", tmp_path / name)
        media = rows(tmp_path / name, "media")
        place = f"file://{tmp_path}/{name}.parquet#member="
        assert {str(r["uri"]).replace(place, "#"): r["n"] for r in media} == uris
        assert summary["failed"] == ({"permanent": 2} if name == "mixed" else {}) and "p4ss" not in str(media)
