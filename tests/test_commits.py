"""Commits: two drivers on one output, stopped and killed at any moment, never lose a row or mix their manifests."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import stores, two_drivers

from neardup import storage
from neardup.errors import ClaimError, UsageError
from neardup.stages import live
from neardup.storage import swaps

OLD = "media/part-" + "a" * 24 + ".parquet"
NEW = "media/part-" + "b" * 24 + ".parquet"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if stores.seaweed_binary() is None:
        pytest.skip("no SeaweedFS for this platform")
    with stores.seaweed(tmp_path_factory.mktemp("seaweed")) as url, stores.environment(url):
        stores.make_bucket("outputs")
        yield


@pytest.fixture(params=["file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("server")
        return f"s3://outputs/{tmp_path.name}"
    return f"file://{tmp_path}/out" if request.param == "file" else f"memory://{tmp_path.name}"


def test_two_drivers_on_disk_lose_nothing(tmp_path: Path) -> None:
    shown = two_drivers.fight(f"file://{tmp_path}/out", 40, seed=1)
    assert shown.faults == [] and shown.counts["commits"] > 40 and shown.counts["pauses"]


def test_two_drivers_on_a_store_lose_nothing(server: None) -> None:
    shown = two_drivers.fight("s3://outputs/fight", 5, seed=2)
    assert shown.faults == [] and shown.counts["commits"] > 5 and shown.counts["pauses"]


def test_a_file_is_swapped_only_if_it_is_as_seen(root: str) -> None:
    first = storage.swap(root, "a.json", None, b"first")
    assert first and storage.read_stored(root, "a.json") == first
    assert storage.swap(root, "a.json", None, b"another first") is None
    second = storage.swap(root, "a.json", first, b"second")
    assert second and storage.swap(root, "a.json", first, b"late") is None
    assert storage.swap(root, "a.json", first, b"second") == second  # its answer was lost, and it is sent again
    storage.remove(root, "a.json", first)
    assert storage.read(root, "a.json") == b"second"
    storage.remove(root, "a.json", second)
    assert storage.list_names(root) == []


def test_a_store_that_takes_no_notice_of_conditions_is_known(server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = swaps._put_s3
    monkeypatch.setattr(swaps, "_put_s3", lambda filesystem, path, data, _: real(filesystem, path, data, {}))
    monkeypatch.setattr(swaps, "_heeds", {})
    first = storage.swap("s3://outputs/heedless", "a.json", None, b"first")
    assert swaps._heeds == {"outputs": False}
    assert first and storage.swap("s3://outputs/heedless", "a.json", None, b"another") is None
    assert storage.read("s3://outputs/heedless", "a.json") == b"first"


def test_a_run_that_is_fenced_off_neither_commits_nor_deletes(root: str) -> None:
    for name in (OLD, NEW):
        storage.write(root, name, b"rows")
    live.commit(root, {"media": [OLD, NEW]}, "")
    earlier = storage.fence(root)
    later = storage.fence(root)
    with pytest.raises(ClaimError, match="taken over"):
        live.commit(root, {"media": [NEW]}, "", earlier)
    with pytest.raises(ClaimError, match="taken over"):
        earlier._looked = float("-inf")  # it was away
        earlier.delete([OLD])
    assert storage.read_manifest(root) == {"media": [OLD, NEW]} and storage.read(root, OLD) == b"rows"
    live.commit(root, {"media": [NEW]}, "", later)
    assert storage.list_names(root) == ["manifest.json", NEW]


def test_what_an_earlier_run_may_yet_delete_is_not_named_again(root: str) -> None:
    for name in (OLD, NEW):
        storage.write(root, name, b"rows")
    live.commit(root, {"media": [OLD]}, "")
    storage.write(root, NEW, b"rows")
    away = storage.fence(root, alone=True)
    away._write(two_drivers.replace(away.manifest, tables={"media": [NEW]}, dead=[OLD]))  # stopped before it deletes
    later = storage.fence(root)
    assert storage.read(root, OLD) is None and later.salt
    storage.write(root, OLD, b"the same again")
    committed = live.commit(root, {"media": [OLD]}, "", later)
    storage.delete(root, [OLD])  # what it was about to do
    assert committed["media"] != [OLD] and storage.read(root, committed["media"][0]) == b"the same again"
    assert storage.list_names(root) == ["manifest.json", *committed["media"]]


def test_manifests_form_a_chain_and_older_ones_are_read(root: str) -> None:
    storage.write(root, storage.MANIFEST, json.dumps({"format": 1, "tables": {"media": [OLD]}}).encode())
    storage.write(root, OLD, b"rows")
    commits = storage.fence(root)
    before = commits.digest
    assert storage.read_manifest(root) == {"media": [OLD]} and commits.manifest.number == 1
    live.commit(root, {"media": [OLD]}, "", commits)
    assert (commits.manifest.number, commits.manifest.parent, commits.manifest.open) == (2, before, True)
    commits.close(finished=True)
    assert not json.loads(storage.read(root, storage.MANIFEST) or b"")["open"]
    storage.write(root, storage.MANIFEST, b'{"format": 3, "tables": {}}')
    with pytest.raises(UsageError, match="newer version of neardup"):
        storage.read_manifest(root)


def test_a_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with swaps._locked(str(tmp_path / "a.json")):
            os._exit(0)
    os.waitpid(pid, 0)
    assert [path.name for path in tmp_path.iterdir()] == [".a.json.lock"]
    assert storage.swap(f"file://{tmp_path}", "a.json", None, b"1")
    assert storage.list_names(f"file://{tmp_path}") == ["a.json"]
