"""Listing, reading, whole parts, the manifest: on a real disk and on fsspec's memory store."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from conftest import PHOTOS
from neardup import storage
from neardup.errors import MissingError, PolicyError, TransientError, UsageError
from neardup.storage import reading


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield storage.absolute(str(tmp_path / "out"))
        return
    yield "memory://out"
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists("/out"):
        filesystem.rm("/out", recursive=True)


def test_absolute_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("a%20b #c") == f"file://{tmp_path}/a%20b #c"
    assert storage.absolute("file:///x/y/") == "file:///x/y"
    assert storage.absolute("s3://bucket/prefix/") == "s3://bucket/prefix"
    with pytest.raises(UsageError, match="unknown protocol 's4'"):
        storage.absolute("s4://bucket")


def test_what_a_cell_of_a_list_means() -> None:
    base = "file:///lake/table"
    assert storage.resolved("a b%20.jpg", base) == "file:///lake/table/a b%20.jpg"
    assert storage.resolved("./x/../~a.jpg", base) == "file:///lake/table/~a.jpg"
    assert storage.resolved("/x/a.jpg", base) == storage.resolved("file:///x/./a.jpg", base) == "file:///x/a.jpg"
    assert storage.resolved("s3://b/../a.jpg", base) == "s3://b/../a.jpg"
    assert storage.resolved("./a.jpg", "s3://lake") == storage.resolved("a.jpg", "s3://lake") == "s3://lake/a.jpg"
    assert storage.resolved("nothing://a", base) == "nothing://a"


def test_a_list_of_uris_has_a_row_for_each_also_for_those_that_are_not_there(tmp_path: Path) -> None:
    from neardup.stages.listing import list_inputs, list_uris

    here = [storage.absolute(str(photo)) for photo in PHOTOS[:3]]
    gone = [f"file://{tmp_path}/gone.jpg", "memory://gone.jpg", "nothing://x", "github://x", "file:///a\0b"]
    (listed,) = list_uris([*here, *gone, *here]).buckets()
    assert listed["uri"].to_pylist() == sorted([*here, *gone])
    (expected,) = list_inputs([str(photo) for photo in PHOTOS[:3]]).buckets()
    assert [row for row in listed.to_pylist() if row["uri"] in here] == expected.to_pylist()
    assert {(row["size"], row["mtime"], row["version"]) for row in listed.to_pylist() if row["uri"] in gone} == {
        (None, None, "unknown")
    }
    assert all(isinstance(one, MissingError) for one in storage.read_ahead(((uri, 0) for uri in gone), max_bytes=9))


def test_awkward_names_are_distinct_items(tmp_path: Path) -> None:
    names = [
        "a b.jpg",
        "a%20b.jpg",
        "é.jpg",
        "%C3%A9.jpg",
        "x#1.jpg",
        "q?.jpg",
        "c::d.jpg",
        "[e].jpg",
        "~f.jpg",
        "UPPER.JPG",
    ]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    listed = list(storage.list_media([str(tmp_path)]))
    assert {one.uri for one in listed} == {f"file://{tmp_path}/{name}" for name in names}
    for one in listed:
        assert storage.read_object(one.uri) == Path(one.uri.removeprefix("file://")).name.encode()
    single = list(storage.list_media([str(tmp_path / "[e].jpg")]))
    assert [one.uri for one in single] == [f"file://{tmp_path}/[e].jpg"]


def test_what_is_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"1")
    (tmp_path / "sub" / "b.png").write_bytes(b"22")
    (tmp_path / "notes.txt").write_bytes(b"no media")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    listed = {one.uri.rsplit("/", 1)[1]: one for one in storage.list_media([str(tmp_path), str(tmp_path / "a.jpg")])}
    assert set(listed) == {"a.jpg", "b.png", "link.jpg", "dangling.jpg"}
    assert listed["b.png"].size == 2 and listed["link.jpg"].size == 1
    with pytest.raises(MissingError):
        storage.read_object(listed["dangling.jpg"].uri)


def test_globs_and_single_files(tmp_path: Path) -> None:
    for name in ("a1.jpg", "a2.jpg", "b.jpg", "a3.dat"):
        (tmp_path / name).write_bytes(b"x")
    names = [one.uri.rsplit("/", 1)[1] for one in storage.list_media([str(tmp_path / "a*")])]
    assert names == ["a1.jpg", "a2.jpg"]
    assert [one.uri for one in storage.list_media([str(tmp_path / "a3.dat")])] == [f"file://{tmp_path}/a3.dat"]
    with pytest.raises(UsageError, match="no such file or folder"):
        list(storage.list_media([str(tmp_path / "z*")]))


def test_braces_stand_for_numbers(tmp_path: Path) -> None:
    for name in ("a-08.jpg", "a-09.jpg", "a-10.jpg", "a-11.jpg", "b{1..2}.jpg", "b1.jpg"):
        (tmp_path / name).write_bytes(b"x")

    def found(given: str) -> list[str]:
        return [one.uri.rsplit("/", 1)[1] for one in storage.list_media([str(tmp_path / given)])]

    assert found("a-{08..10}.jpg") == ["a-08.jpg", "a-09.jpg", "a-10.jpg"]
    assert found("a-{0..0}{8..9}.jp*") == ["a-08.jpg", "a-09.jpg"]
    assert found("b{1..2}.jpg") == ["b{1..2}.jpg"]  # a name that is there
    with pytest.raises(UsageError, match=r"no such file or folder: .*a-12.jpg"):
        found("a-{11..12}.jpg")


def test_the_version_changes_with_time_and_size(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"one")
    os.utime(file, (1000, 1000))
    (first,) = storage.list_media([str(tmp_path)])
    file.write_bytes(b"three")
    os.utime(file, (1000, 1000))
    (larger,) = storage.list_media([str(tmp_path)])
    os.utime(file, (2000, 2000))
    (later,) = storage.list_media([str(tmp_path)])
    assert len({first.version, larger.version, later.version}) == 3
    assert first == next(iter(storage.list_media([str(file)])))._replace(
        size=3, version=first.version, mtime=first.mtime
    )


def test_reading_ahead_keeps_the_order_and_names_every_failure(tmp_path: Path) -> None:
    items = [(f"file://{photo}", photo.stat().st_size) for photo in PHOTOS] * 5
    items[7] = (f"file://{tmp_path}/gone.jpg", 10)
    items[8] = (items[8][0], items[8][1] + 1)
    items[9] = (items[9][0], 1 << 30)
    items[10] = (f"file://{tmp_path}", 3)
    found = list(storage.read_ahead(items, max_bytes=1 << 20, budget_bytes=60_000))
    kinds = {7: MissingError, 8: TransientError, 9: PolicyError, 10: MissingError}
    assert len(found) == len(items)
    for number, (one, (uri, size)) in enumerate(zip(found, items, strict=True)):
        if number in kinds:
            assert isinstance(one, kinds[number])
        else:
            assert isinstance(one, storage.Content)
            assert one.data == Path(uri.removeprefix("file://")).read_bytes() and len(one.data) == size


def test_a_file_is_written_whole_or_not_at_all(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write(root, "media/part-1.parquet", b"whole")
    assert storage.read(root, "media/part-1.parquet") == b"whole"
    assert storage.read(root, "media/part-2.parquet") is None
    if root.startswith("file://"):
        folder = Path(root.removeprefix("file://")) / "media"
        monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # killed: nobody clears up
        with pytest.raises(KeyboardInterrupt):
            storage.write(root, "media/part-3.parquet", b"half")
        monkeypatch.undo()
        assert storage.list_names(root) == ["media/part-1.parquet"]
        assert len(list(folder.iterdir())) == 2 and not list(folder.glob("*part-3*.parquet"))
        storage.fence(root).close(finished=True)
        (folder.parent / storage.MANIFEST).unlink()
        assert len(list(folder.iterdir())) == 1


def test_a_file_written_bit_by_bit_is_there_when_the_block_ends_well(root: str) -> None:
    storage.write(root, "a.txt", b"old")
    with pytest.raises(KeyError), storage.writing(root, "b.txt") as file:
        file.write(b"half")
        raise KeyError
    if root.startswith("file://"):  # the memory store shows what is being written
        assert [path.name for path in Path(root.removeprefix("file://")).iterdir()] == ["a.txt"]
    with storage.writing(root, "a.txt") as file:
        file.write(b"new")
        file.write(b"er")
    assert storage.read(root, "a.txt") == b"newer"


def test_a_copy_is_whole_checked_and_overwrites_nothing(root: str, tmp_path: Path) -> None:
    uri, digest = storage.absolute(str(PHOTOS[0])), hashlib.sha256(PHOTOS[0].read_bytes()).hexdigest()
    assert storage.copy(uri, root, "x/a.jpg", digest) and storage.copy(uri, root, "x/b.jpg", None)
    assert storage.read(root, "x/a.jpg") == storage.read(root, "x/b.jpg") == PHOTOS[0].read_bytes()
    assert not storage.copy(uri, root, "x/a.jpg", digest) and not storage.copy(uri, root, "x/a.jpg", None)
    other = storage.absolute(str(PHOTOS[1]))
    with pytest.raises(UsageError, match="exists and is another file"):
        storage.copy(other, root, "x/a.jpg", None)
    assert storage.read(root, "x/a.jpg") == PHOTOS[0].read_bytes()
    with pytest.raises(UsageError, match="has changed since it was hashed"):
        storage.copy(other, root, "x/c.jpg", digest)
    with pytest.raises(MissingError):
        storage.copy(f"file://{tmp_path}/gone.jpg", root, "x/d.jpg", None)
    assert storage.list_folder(f"{root}/x").keys() >= {"a.jpg", "b.jpg"} and not storage.list_folder(f"{root}/y")


def test_create_never_overwrites(root: str) -> None:
    assert storage.create(root, "claim.json", b"first")
    assert not storage.create(root, "claim.json", b"second")
    assert storage.read(root, "claim.json") == b"first"


def test_deleting_leaves_no_empty_folder(root: str) -> None:
    storage.write(root, "a/b/one.bin", b"1")
    storage.write(root, "a/two.bin", b"2")
    storage.delete(root, ["a/b/one.bin", "a/b/never.bin"])
    assert storage.list_names(root) == ["a/two.bin"]
    if root.startswith("file://"):
        assert not (Path(root.removeprefix("file://")) / "a" / "b").exists()


def test_the_manifest_names_live_parts(root: str) -> None:
    assert storage.read_manifest(root) == {}
    storage.commit_manifest(root, {"media": ["media/b", "media/a"], "groups": []})
    assert storage.read_manifest(root) == {"media": ["media/a", "media/b"]}
    storage.write(root, storage.MANIFEST, b'{"tables": ')
    with pytest.raises(UsageError, match="damaged"):
        storage.read_manifest(root)


def test_inside(tmp_path: Path) -> None:
    here = storage.absolute(str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert storage.is_inside(f"{here}/real/out", here) and storage.is_inside(here, here)
    assert storage.is_inside(f"{here}/link/out", f"{here}/real")
    assert not storage.is_inside(f"{here}-2", here) and not storage.is_inside("s3://a/bc", "s3://a/b")
    assert storage.is_inside("s3://a/b/c", "s3://a/b")


def test_a_glob_may_match_folders(tmp_path: Path) -> None:
    for folder in ("shard1", "shard2", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(b"x")
    found = [one.uri for one in storage.list_media([str(tmp_path / "shard*")])]
    assert found == [f"file://{tmp_path}/shard{number}/a.jpg" for number in (1, 2)]


def test_no_more_is_read_ahead_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    size = PHOTOS[0].stat().st_size
    begun: list[str] = []
    read = storage.read_object

    def counted(uri: str) -> bytes:
        begun.append(uri)
        return read(uri)

    monkeypatch.setattr(reading, "read_object", counted)
    items = [(f"file://{PHOTOS[0]}", size)] * 20
    for taken, _ in enumerate(storage.read_ahead(items, max_bytes=1 << 20, budget_bytes=3 * size)):
        assert len(begun) <= taken + 3
    assert len(begun) == 20
