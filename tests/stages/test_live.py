"""What is tried again, what a listing on disk gives, what many small parts become."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import PHOTOS, all_rows, rows
from hostile import CRASH
from neardup import storage
from neardup.config import DedupJob, HashJob
from neardup.stages import live
from neardup.stages.spool import BUCKETS, Spool, bucket_numbers
from neardup_jobs.dedup import run_dedup, run_hash


def hash_only(given: Path, output: Path, **settings: Any) -> dict[str, Any]:
    job = {"inputs": [str(given)], "output": str(output), "cluster": "none", "child": {"enabled": False}, **settings}
    return run_hash(HashJob.model_validate(job), "none")


def items(summary: dict[str, Any]) -> int:
    return int(summary["stages"]["hash"].get("items", 0))


def test_which_failures_are_tried_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (photos / "broken.jpg").write_text("no photo")
    settings = {"decode": {"max_bytes": 20_000}, "slices": {"items": 3}}
    large = sum(path.stat().st_size > 20_000 for path in photos.iterdir())
    assert hash_only(photos, out, **settings)["failed"] == {"permanent": 1, "policy": large} and large > 2
    before = all_rows(out)
    for classes, again in [
        (["transient"], 0), (["permanent"], 1), (["policy"], large), (["all"], large + 1), (["permanent", "poison"], 1),
    ]:  # fmt: skip
        assert items(hash_only(photos, out, retry_errors=classes, **settings)) == again, classes
        assert all_rows(out) == before


def test_hashers_that_were_killed_are_tried_again_when_poison_is(tmp_path: Path, photos: Path) -> None:
    with Image.open(PHOTOS[0]) as photo:
        photo.putpixel((0, 0), CRASH)
        photo.save(photos / "mark.png")
    settings = {"hashers": ["hostile.Hostile"], "child": {"deadline_s": 5}, "slices": {"items": 4}}
    hash_only(photos, tmp_path / "out", **settings)
    assert items(hash_only(photos, tmp_path / "out", **settings)) == 0
    assert items(hash_only(photos, tmp_path / "out", retry_errors=["poison"], **settings)) == 1
    assert len(rows(tmp_path / "out", "hashes/hasher=hostile.Hostile")) == 11


def test_a_listing_on_disk_gives_the_same_rows(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_text("no photo")
    for number in range(10):
        shutil.copy(photos / f"image{number + 1}.jpg", photos / f"copy{number}.jpg")

    def both() -> None:
        for name, limit in (("memory", 1_000_000), ("disk", 5)):
            job = {
                "inputs": [str(photos)],
                "output": str(tmp_path / name),
                "cluster": "none",
                "child": {"enabled": False},
            }
            settings = {"slices": {"rows_in_memory": limit, "items": 4}}
            run_dedup(DedupJob.model_validate({**job, **settings}), "none")
        assert all_rows(tmp_path / "memory") == all_rows(tmp_path / "disk")

    both()
    (photos / "copy1.jpg").unlink()
    (photos / "copy2.jpg").rename(photos / "renamed.jpg")
    shutil.copy(PHOTOS[0], photos / "copy3.jpg")
    both()
    assert len(rows(tmp_path / "disk", "media")) == 20


def test_members_share_the_bucket_of_their_container() -> None:
    import pyarrow as pa

    uris = [f"s3://b/{n}.tar" for n in range(200)]
    members = [f"tar://a::s3://b/{n}.tar" for n in range(200)]
    rows = [f"s3://b/{n}.tar#member={n}" for n in range(200)]
    numbers = [bucket_numbers(pa.chunked_array([one])).tolist() for one in (uris, members, rows)]
    assert numbers[0] == numbers[1] == numbers[2] and len(set(numbers[0])) > BUCKETS / 2


def test_a_spool_gives_back_what_was_put_in() -> None:
    import pyarrow as pa

    spool = Spool(10)
    for start in range(0, 100, 7):
        spool.add(pa.table({"uri": [f"file:///{n}" for n in range(start, start + 7)]}))
    found = [uri for parts in spool.buckets() for part in parts for uri in part["uri"].to_pylist()]
    assert spool.spilled and sorted(found) == sorted(f"file:///{n}" for n in range(105))


def test_the_time_of_a_file_with_the_same_etag_is_the_new_one(tmp_path: Path) -> None:
    """A store whose version does not change with the time: the row says the new time, nothing is read again."""
    import fsspec

    storage.write("memory://times", "a.jpg", PHOTOS[0].read_bytes())
    memory = fsspec.filesystem("memory")
    info, given = type(memory).info, {"inputs": ["memory://times"], "cluster": "none", "child": {"enabled": False}}

    def run(output: Path, mtime: int) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            walk = type(memory).walk

            def walked(self: Any, path: str, **more: Any) -> Any:
                for here, folders, files in walk(self, path, **more):
                    yield here, folders, {n: {**one, "ETag": "same", "created": mtime} for n, one in files.items()}

            patch.setattr(type(memory), "walk", walked)
            return run_hash(HashJob.model_validate({**given, "output": str(output)}), "none")

    assert info
    run(tmp_path / "out", 1000)
    assert items(run(tmp_path / "out", 2000)) == 0
    run(tmp_path / "fresh", 2000)
    assert all_rows(tmp_path / "out") == all_rows(tmp_path / "fresh")


def test_many_small_parts_become_few(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MANY_SMALL", 8)
    monkeypatch.setattr(live, "_COMPACT_ROWS", 6)
    out = tmp_path / "out"
    hash_only(photos, out, slices={"items": 1})
    parts = sorted(str(path.relative_to(out)) for path in out.rglob("part-*"))
    assert len(parts) == 4  # ten parts of one row each became one of six rows and one of four, in two tables
    again = hash_only(photos, out, slices={"items": 1})
    assert items(again) == 0 and parts == sorted(str(path.relative_to(out)) for path in out.rglob("part-*"))
    hash_only(photos, tmp_path / "other", slices={"items": 1})
    assert parts == sorted(str(path.relative_to(tmp_path / "other")) for path in (tmp_path / "other").rglob("part-*"))
    (photos / "image1.jpg").unlink()
    shutil.copy(PHOTOS[1], photos / "new.jpg")
    hash_only(photos, out)
    hash_only(photos, tmp_path / "fresh")
    assert all_rows(out) == all_rows(tmp_path / "fresh")


def test_a_run_that_ends_between_compaction_and_commit_costs_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MANY_SMALL", 8)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(live, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            hash_only(photos, out, slices={"items": 1})
    assert len(list(out.glob("media/*.parquet"))) == 11
    sorted(out.glob("hashes/*/*.parquet"))[0].unlink()  # perhaps a compacted one: no receipt speaks for it
    summary = hash_only(photos, out, slices={"items": 1})
    assert items(summary) <= 1
    hash_only(photos, tmp_path / "fresh")
    assert all_rows(out) == all_rows(tmp_path / "fresh")
