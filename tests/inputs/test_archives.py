"""Archives: hostile, damaged and odd ones give rows that say so or a correct read, and write nothing."""

import bz2
import gzip
import io
import json
import lzma
import random
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from conftest import PHOTOS, SAMPLES, rows
from neardup import storage
from neardup.config import DedupJob, ExportJob, HashJob
from neardup.errors import RunError
from neardup.storage import packed as packed_tars
from neardup_jobs.dedup import run_dedup, run_hash
from neardup_jobs.export import run_export

PHOTO = PHOTOS[0].read_bytes()
JOB: dict[str, Any] = {"cluster": "none", "child": {"enabled": False}}


def hash_only(given: Path | str, output: Path, **settings: Any) -> dict[str, Any]:
    job = {"inputs": [str(given)], "output": str(output), **JOB, **settings}
    return run_hash(HashJob.model_validate(job), "none")


def tar(where: Path, members: list[tuple[str, bytes]], **more: Any) -> Path:
    with tarfile.open(where, "w", **more) as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return where


def found(given: Path, output: Path, **settings: Any) -> dict[str, tuple[Any, Any]]:
    """What became of each item: by what is before its container, its error class and error, or its bytes' digest."""
    summary = hash_only(given, output, **settings)
    media = rows(output, "media")
    assert summary["listed"] == len(media) == summary["decoded"] + sum(summary["failed"].values())
    short = {str(r["uri"]).replace(f"file://{given}", "@"): (r["error_class"], r["error"] or r["width"]) for r in media}
    assert len(short) == len(media)
    return short


def test_names_that_would_escape_are_read_and_called_by_number(tmp_path: Path) -> None:
    names = ["/etc/a.jpg", "../../b.jpg", "deep/../../c.jpg", "x\\..\\d.jpg", "line\nbreak.jpg", "a::b.jpg", "good.jpg"]
    before = set(tmp_path.rglob("*"))
    given = tar(tmp_path / "a.tar", [(name, PHOTO) for name in names])
    media = found(given, tmp_path / "out")
    assert set(media) == {*(f"@#member={number}" for number in range(6)), "tar://good.jpg::@"}
    assert {one[0] for one in media.values()} == {None} and all(isinstance(one[1], int) for one in media.values())
    written = {path for path in set(tmp_path.rglob("*")) - before if tmp_path / "out" not in [path, *path.parents]}
    assert written == {given}
    for number in range(6):
        assert storage.read_object(f"file://{given}#member={number}") == PHOTO


def test_a_name_given_twice_is_two_items(tmp_path: Path) -> None:
    other = PHOTOS[1].read_bytes()
    given = tar(tmp_path / "a.tar", [("a.jpg", PHOTO), ("b.jpg", PHOTO), ("a.jpg", other)])
    hash_only(given, tmp_path / "out")
    uris = [f"tar://b.jpg::file://{given}", f"file://{given}#member=0", f"file://{given}#member=2"]
    assert sorted(str(r["uri"]) for r in rows(tmp_path / "out", "media")) == sorted(uris)
    assert [storage.read_object(uri) for uri in uris] == [PHOTO, PHOTO, other]


def test_links_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(PHOTOS[0], "real.jpg")
        for name, kind, target in [
            ("hard.jpg", tarfile.LNKTYPE, "real.jpg"),
            ("broken.jpg", tarfile.LNKTYPE, "nowhere.jpg"),
            ("soft.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("device.jpg", tarfile.CHRTYPE, ""),
        ]:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            archive.addfile(header)
    media = found(tmp_path / "a.tar", tmp_path / "out")
    assert media["tar://hard.jpg::@"] == media["tar://real.jpg::@"] and media["tar://real.jpg::@"][0] is None
    for name in ("broken", "soft", "device"):
        kind, error = media[f"tar://{name}.jpg::@"]
        assert kind == "permanent" and "link" in error


@pytest.mark.parametrize("where", ["first header", "first member", "second header", "second member"])
def test_a_tar_that_is_cut_off(tmp_path: Path, where: str) -> None:
    second = 512 + -(-len(PHOTO) // 512) * 512
    at = {"first header": 300, "first member": 700, "second header": second + 300, "second member": second + 700}[where]
    whole = tar(tmp_path / "whole.tar", [("a.jpg", PHOTO), ("b.jpg", PHOTO), ("c.jpg", PHOTO)]).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:at])
    media = found(tmp_path / "a.tar", tmp_path / "out")
    failed = {name for name, (kind, _) in media.items() if kind == "permanent"}
    cut = {"first member": {"tar://a.jpg::@"}, "second member": {"tar://b.jpg::@"}}
    assert failed == {"@"} | cut.get(where, set()) and "cut off" in str(media["@"])
    assert media.keys() - failed == ({"tar://a.jpg::@"} if where.startswith("second") else set())


def test_tars_that_lie(tmp_path: Path) -> None:
    good = tar(tmp_path / "good.tar", [("a.jpg", PHOTO)]).read_bytes()

    def header(size: bytes, kind: bytes = b"0") -> bytes:
        block = bytearray(tarfile.TarInfo("x.jpg").tobuf(tarfile.USTAR_FORMAT))
        block[124:136], block[156:157] = size.ljust(12, b"\0"), kind
        block[148:156] = b" " * 8
        block[148:156] = f"{sum(block):06o}\0 ".encode()
        return bytes(block)

    negative = b"\xff" * 12
    for number, bad in enumerate(
        [header(negative), header(b"77777777777"), header(b"77777777777", b"x"), header(b"40", b"L"), b"\1" * 512]
    ):
        given = tmp_path / f"{number}.tar"
        given.write_bytes(good[: -2 * 512][: 512 + -(-len(PHOTO) // 512) * 512] + bad + bytes(600))
        media = found(given, tmp_path / f"out{number}")
        assert media.pop("tar://a.jpg::@")[0] is None
        assert media and {kind for kind, _ in media.values()} == {"permanent"}, number
    (tmp_path / "none.tar").write_bytes(b"")
    assert found(tmp_path / "none.tar", tmp_path / "out")["@"][0] == "permanent"


def test_ten_gigabytes_of_zeros_are_refused_unread(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", PHOTO)
        archive.writestr("bomb.jpg", bytes(64 << 20))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    place = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, place + 24, 0xFFFFFFF0)  # says 4 GB
    (tmp_path / "large.zip").write_bytes(data)
    struct.pack_into("<I", data, place + 24, 1000)  # says 1 kB, and inflates to 64 MB
    (tmp_path / "lie.zip").write_bytes(data)
    large = found(tmp_path / "large.zip", tmp_path / "out1")
    assert large["zip://bomb.jpg::@"][0] == "policy" and large["zip://a.jpg::@"][0] is None
    small = found(tmp_path / "lie.zip", tmp_path / "out2")
    assert small["zip://bomb.jpg::@"][0] == "permanent" and "directory" in small["zip://bomb.jpg::@"][1]
    with open(tmp_path / "sparse.tar", "wb") as file:  # ten gigabytes on no disk at all
        header = tarfile.TarInfo("zeros.jpg")
        header.size = 10 << 30
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + (10 << 30))
        small_header = tarfile.TarInfo("after.jpg")
        small_header.size = len(PHOTO)
        file.write(small_header.tobuf() + PHOTO + bytes(2048))
    media = found(tmp_path / "sparse.tar", tmp_path / "out3")
    assert media["tar://zeros.jpg::@"][0] == "policy" and media["tar://after.jpg::@"][0] is None


def damaged_zips() -> dict[str, Callable[[bytearray, int], object]]:
    """Ways to make a central directory lie about its second member."""
    return {
        "encrypted": lambda data, at: struct.pack_into("<H", data, at + 8, 1),
        "method": lambda data, at: struct.pack_into("<H", data, at + 10, 14),
        "crc": lambda data, at: struct.pack_into("<I", data, at + 16, 1),
        "packed size": lambda data, at: struct.pack_into("<I", data, at + 20, 1 << 30),
        "offset beyond": lambda data, at: struct.pack_into("<I", data, at + 42, 1 << 30),
        "offset of another": lambda data, at: struct.pack_into("<I", data, at + 42, 7),
    }


@pytest.mark.parametrize("how", damaged_zips())
def test_zips_whose_directory_lies(tmp_path: Path, how: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", PHOTO)
        archive.writestr("b.jpg", PHOTO)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    damaged_zips()[how](data, data.rindex(b"PK\1\2"))
    (tmp_path / "a.zip").write_bytes(data)
    media = found(tmp_path / "a.zip", tmp_path / "out")
    assert media["zip://a.jpg::@"][0] is None and media["zip://b.jpg::@"][0] == "permanent"


def test_a_zip_that_is_none_and_one_that_is_cut_off(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", PHOTO)
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    (tmp_path / "b.zip").write_bytes(b"no zip at all")
    for name in ("a", "b"):
        kind, error = found(tmp_path / f"{name}.zip", tmp_path / name)["@"]
        assert kind == "permanent" and "damaged" in str(error)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(tmp_path: Path, form: int) -> None:
    names = ["ü/" * 40 + "a.jpg", "x" * 90 + ".jpg"] if form != tarfile.USTAR_FORMAT else ["d" * 90 + "/a.jpg"]
    given = tar(tmp_path / "a.tar", [(name, PHOTO) for name in names], format=form)
    assert set(found(given, tmp_path / "out")) == {f"tar://{name}::@" for name in names}


def test_what_sidecars_say_is_carried_and_typed(tmp_path: Path) -> None:
    def say(**fields: Any) -> bytes:
        return json.dumps(fields).encode()

    given = tar(
        tmp_path / "shard.tar",
        [
            ("001.jpg", PHOTO),
            ("001.json", say(caption="a cat", score=1, width=640, tags=["x"], mixed=1, none=None)),
            ("001.txt", b"ein Bild"),
            ("002.json", say(score=0.5, mixed="two")),
            ("002.jpg", PHOTO),
            ("003.jpg", PHOTO),
            ("004.json", say(score=9)),
            ("006.jpg", PHOTO),
            ("006.json", say(caption="https://a/b?token=abc123&w=1", tags=["https://me:pass@a/b"])),
            ("005.json", b"no json"),
            ("005.jpg", PHOTO),
        ],
    )
    hash_only(given, tmp_path / "out")
    said = {str(r["uri"])[6:9]: r for r in rows(tmp_path / "out", "media")}
    names = ("caption", "score", "json_width", "tags", "mixed", "txt", "json")
    assert {key: tuple(row[name] for name in names) for key, row in said.items()} == {
        "001": ("a cat", 1.0, 640, '["x"]', "1", "ein Bild", None),
        "002": (None, 0.5, None, None, "two", None, None),
        "003": (None,) * 7,
        "005": (None,) * 6 + ("no json",),
        "006": ("https://a/b?…", None, None, '["https://…@a/b"]', None, None, None),
    }
    hash_only(given, tmp_path / "few", columns=["score"])
    assert set(rows(tmp_path / "few", "media")[0]) == set(said["001"]) - set(names) | {"score"}


def packed(where: Path, data: bytes) -> Path:
    """Bytes compressed as the name says."""
    how = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    where.write_bytes(how.get(where.suffix[1:], lambda raw: pa.Codec("zstd").compress(raw, asbytes=True))(data))
    return where


PACKINGS = ("gz", "bz2", "xz", "zst")


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_compressed_tar_that_is_cut_off_or_damaged(tmp_path: Path, packing: str) -> None:
    noise = [bytes(random.Random(n).randbytes(200_000)) for n in range(2)]  # which nothing makes smaller
    whole = tar(tmp_path / "a.tar", [("a.jpg", PHOTO), ("n0.jpg", noise[0]), ("b.jpg", PHOTO), ("n1.jpg", noise[1])])
    data = packed(tmp_path / f"a.tar.{packing}", whole.read_bytes()).read_bytes()
    for number, bad in enumerate([data[: len(data) * 2 // 3], data[:30], b"", b"no such thing" * 9, data[:-4]]):
        given = tmp_path / str(number) / f"x.tar.{packing}"
        given.parent.mkdir()
        given.write_bytes(bad)
        media = found(given, tmp_path / f"out{number}")
        good = {name for name, (kind, _) in media.items() if kind is None}
        most = {0: {"tar://a.jpg::@", "tar://b.jpg::@"}, 4: {"tar://a.jpg::@", "tar://b.jpg::@"}}.get(number, set())
        assert good <= most and {kind for kind, _ in media.values()} <= {None, "permanent"}
        if number < 4:
            assert media["@"][0] == "permanent"


def test_a_compressed_bomb_is_left_after_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_tars, "_BOMB_RATIO", 20)  # the test need not wait for 100
    header = tarfile.TarInfo("zeros.jpg")
    header.size = 10 << 30
    begin = tar(tmp_path / "a.tar", [("a.jpg", PHOTO)]).read_bytes()[: 512 + -(-len(PHOTO) // 512) * 512]
    zeros = gzip.compress(bytes(64 << 20), 1)
    (tmp_path / "in").mkdir()
    given = tmp_path / "in" / "a.tar.gz"
    given.write_bytes(gzip.compress(begin + header.tobuf(tarfile.GNU_FORMAT)) + zeros * 160)
    media = found(given, tmp_path / "out")
    assert media["tar://a.jpg::@"][0] is None and media["tar://zeros.jpg::@"][0] == "policy"
    assert media["@"][0] == "permanent" and "unpacks to over 20 times its size" in media["@"][1]
    run_dedup(
        DedupJob.model_validate({**JOB, "inputs": [str(given)], "output": str(tmp_path / "out")}),
        "none",
    )
    job = ExportJob(output=str(tmp_path / "out"), survivors=str(tmp_path / "clean"))
    with pytest.raises(RunError, match=r"1 of 3 items could not be exported, first: .*zeros.jpg.* are over the limit"):
        run_export(job, "none")
    run_export(job.model_copy(update={"without_errors": True}), "none")
    assert (tmp_path / "clean" / "a.jpg").read_bytes() == PHOTO


def test_names_and_links_in_a_compressed_tar(tmp_path: Path) -> None:
    other = PHOTOS[1].read_bytes()
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name, data in [("../up.jpg", PHOTO), ("/abs.jpg", other), ("a.jpg", PHOTO), ("a.jpg", other)]:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        for name, kind, target in [
            ("hard.jpg", tarfile.LNKTYPE, "a.jpg"),
            ("soft.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ]:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            archive.addfile(header)
        header = tarfile.TarInfo("a.json")
        header.size = 12
        archive.addfile(header, io.BytesIO(b'{"said": 42}'))
    media = found(tmp_path / "a.tgz", tmp_path / "out")
    assert {name for name, (kind, _) in media.items() if kind} == {"tar://soft.jpg::@"}
    given = f"file://{tmp_path}/a.tgz"
    uris = [*(f"{given}#member={n}" for n in (3, 2, 1, 0)), f"tar://hard.jpg::{given}"]
    assert [storage.read_object(uri) for uri in uris] == [other, PHOTO, other, PHOTO, other]
    assert {row["said"] for row in rows(tmp_path / "out", "media")} >= {42, None}


def test_a_compressed_tar_is_unpacked_once_for_all_its_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Counted(packed_tars._Stream):
        def __init__(self, uri: str):
            opened.append(uri)
            super().__init__(uri)

    monkeypatch.setattr(packed_tars, "_Stream", Counted)
    given = tmp_path / "a.tar.gz"
    packed(
        given,
        tar(tmp_path / "a.tar", [(f"{9 - n}.jpg", photo.read_bytes()) for n, photo in enumerate(PHOTOS)]).read_bytes(),
    )
    assert hash_only(given, tmp_path / "out", slices={"items": 2})["stages"]["hash"]["slices"] == 5
    assert len(opened) == 2  # to list it, and to read it
    digests = {str(r["uri"]): r["sha256"] for r in rows(tmp_path / "out", "media")}
    assert storage.read_object(f"tar://9.jpg::file://{given}") == PHOTO
    tar(tmp_path / "a.tar", [(f"{9 - n}.jpg", photo.read_bytes()) for n, photo in enumerate(PHOTOS[::-1])])
    packed(given, (tmp_path / "a.tar").read_bytes())  # another archive of that name, while the old one is still open
    assert storage.read_object(f"tar://0.jpg::file://{given}") == PHOTO
    hash_only(given, tmp_path / "out")
    changed = {str(r["uri"]): r["sha256"] for r in rows(tmp_path / "out", "media")}
    assert [digests[uri] for uri in sorted(digests)] == [changed[uri] for uri in sorted(changed)][::-1]
    assert len(set(changed.values())) == 10


def test_videos_in_archives_are_read_in_place(tmp_path: Path) -> None:
    clip = min((SAMPLES / "clips").glob("*.m*v"), key=lambda path: path.stat().st_size)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(PHOTOS[0], "a.jpg")
        archive.add(clip, f"v{clip.suffix}")
    packed(tmp_path / "b.tar.gz", (tmp_path / "a.tar").read_bytes())
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", method) as archived:
            archived.write(clip, f"v{clip.suffix}")
    shutil.copy(clip, tmp_path)
    hashes = set()
    for given in (clip, *(tmp_path / name for name in ("a.tar", "b.tar.gz", "stored.zip", "deflated.zip"))):
        out = tmp_path / f"out-{given.name}"
        hash_only(given, out)
        of_video = [r for r in rows(out, "media") if r["kind"] == "video"]
        assert [(r["error"], r["size"]) for r in of_video] == [(None, clip.stat().st_size)], given
        (folder,) = (path.name for path in (out / "hashes").iterdir())
        kept = [r for r in rows(out, f"hashes/{folder}") if r["uri"] == of_video[0]["uri"]]
        hashes.add(tuple(sorted((r["frame_index"], r["hash"]) for r in kept)))  # type: ignore[type-var]
    assert len(hashes) == 1
    limit = {"decode": {"max_bytes": clip.stat().st_size - 1}}
    for name, refused in [("a.tar", False), ("stored.zip", False), ("deflated.zip", True), ("b.tar.gz", True)]:
        for child in (False, True):  # what is read in place is never in memory as a whole
            out = tmp_path / f"limited-{name}-{child}"
            hash_only(tmp_path / name, out, **limit, child={"enabled": child})
            (video,) = [r for r in rows(out, "media") if r["kind"] == "video"]
            assert (video["error_class"] == "policy" and "--max-bytes" in str(video["error"])) is refused, name
    hash_only(tmp_path / "deflated.zip", tmp_path / "limited-deflated.zip-True")  # the limit is no longer in the way
    assert [r["error"] for r in rows(tmp_path / "limited-deflated.zip-True", "media")] == [None]
