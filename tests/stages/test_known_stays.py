"""Nights in which something fails: what is known stays, and one good night equals a fresh run."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import PHOTOS, all_rows, rows
from neardup.config import HashJob
from neardup.errors import RunError
from neardup.storage import retrying
from neardup_jobs.dedup import run_hash

BODIES = [path.read_bytes() for path in PHOTOS]


class Web:
    """A server of photos: `content` of each path; `failing` paths answer 503, `unreadable` ones to GET only."""

    def __init__(self) -> None:
        self.content: dict[str, int] = {}
        self.failing: set[str] = set()
        self.unreadable: set[str] = set()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                number = web.content.get(self.path)
                unread = self.command == "GET" and self.path in web.unreadable
                status = 503 if self.path in web.failing or unread else 404 if number is None else 200
                body = BODIES[number] if status == 200 and number is not None else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{number}"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(retrying, "ATTEMPTS", 1)
    served = Web()
    yield served
    served.server.shutdown()
    served.server.server_close()


def night(given: Path, output: Path, **settings: Any) -> dict[str, Any]:
    job = {"inputs": [str(given)], "output": str(output), "cluster": "none", "child": {"enabled": False}, **settings}
    return run_hash(HashJob.model_validate(job), "none")


def listed(web: Web, folder: Path) -> Path:
    path = folder / "list.txt"
    path.write_text("\n".join(web.url + name for name in sorted(web.content)))
    return path


def test_random_nights_lose_nothing_and_a_good_one_equals_a_fresh_run(web: Web, tmp_path: Path) -> None:
    draw, out = random.Random(7), tmp_path / "out"
    web.content = {f"/{n}.jpg": n % 10 for n in range(12)}
    night(listed(web, tmp_path), out, hashers=["phash"])
    for number in range(6):
        before = {str(row["uri"]): row for row in rows(out, "media") if row["error_class"] is None}
        web.content.pop(draw.choice(sorted(web.content)))
        web.content[f"/new{number}.jpg"] = draw.randrange(10)
        web.failing = set(draw.sample(sorted(web.content), draw.randrange(1, 7)))
        hashers = ["phash", "dhash"] if number % 2 else ["phash"]
        summary = night(listed(web, tmp_path), out, hashers=hashers, max_unreachable=1)
        after = {str(row["uri"]): row for row in rows(out, "media")}
        known = {web.url + path for path in web.failing} & set(before)
        assert known <= {str(row["uri"]) for row in rows(out, "hashes/hasher=phash") if row["hash"]}, number
        for uri in known:
            assert str(after[uri]["stale"]).startswith("transient: "), number
            assert {**after[uri], "stale": None} == {**before[uri], "stale": None}
        assert summary["stale"] == len(known)
        assert summary["listed"] == summary["decoded"] + sum(summary["failed"].values()) == len(web.content)
    web.failing = set()
    assert night(listed(web, tmp_path), out, hashers=["phash", "dhash"])["stale"] == 0
    night(listed(web, tmp_path), tmp_path / "fresh", hashers=["phash", "dhash"])
    assert all_rows(out) == all_rows(tmp_path / "fresh")


def test_a_store_that_is_down_changes_nothing(web: Web, tmp_path: Path) -> None:
    web.content = {f"/{n}.jpg": n % 10 for n in range(10)}
    night(listed(web, tmp_path), tmp_path / "out")
    before, files = all_rows(tmp_path / "out"), sorted((tmp_path / "out").rglob("part-*"))
    web.failing = set(web.content)
    with pytest.raises(RunError, match=f"seems to be down: 10 of 10 items .* most at {web.url} .*--max-unreachable 1"):
        night(listed(web, tmp_path), tmp_path / "out")
    assert all_rows(tmp_path / "out") == before and files == sorted((tmp_path / "out").rglob("part-*"))
    web.failing = set()
    assert night(listed(web, tmp_path), tmp_path / "out")["stages"]["hash"].get("items", 0) == 0


def test_content_that_has_changed_and_cannot_be_read_is_not_known(web: Web, tmp_path: Path) -> None:
    """The old hash is not one of the new content: by it, the new content could be dropped as a copy of another."""
    web.content = {f"/{n}.jpg": n for n in range(3)}
    night(listed(web, tmp_path), tmp_path / "out", hashers=["phash"])
    web.content["/0.jpg"], web.unreadable = 5, {"/0.jpg"}  # it is looked up well
    summary = night(listed(web, tmp_path), tmp_path / "out", hashers=["phash"])
    assert summary["failed"] == {"transient": 1} and summary["decoded"] == 2 and summary["stale"] == 0
    assert len(rows(tmp_path / "out", "hashes/hasher=phash")) == 2
    web.content["/0.jpg"] = 0  # a known content that is read for a hasher that was added: the rest of it stays
    web.unreadable = set()
    night(listed(web, tmp_path), tmp_path / "out", hashers=["phash"])
    web.unreadable = {"/0.jpg"}
    summary = night(listed(web, tmp_path), tmp_path / "out", hashers=["phash", "dhash"])
    assert summary["failed"] == {} and summary["stale"] == 1
    (without,) = (row for row in rows(tmp_path / "out", "hashes/hasher=dhash") if row["hash"] is None)
    assert str(without["error"]).startswith("transient: ") and len(rows(tmp_path / "out", "hashes/hasher=phash")) == 3
    web.unreadable = set()
    night(listed(web, tmp_path), tmp_path / "out", hashers=["phash", "dhash"])
    night(listed(web, tmp_path), tmp_path / "fresh", hashers=["phash", "dhash"])
    assert all_rows(tmp_path / "out") == all_rows(tmp_path / "fresh")


def test_an_output_without_the_column_is_read_and_gets_it(photos: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from neardup import storage
    from neardup.stages.reviewing import review

    night(photos, tmp_path / "out")
    for path in (tmp_path / "out" / "media").glob("*.parquet"):
        table = pq.ParquetFile(path).read()
        pq.write_table(table.drop_columns(["stale"]), path)
    assert review(storage.absolute(str(tmp_path / "out"))).stale == 0
    assert night(photos, tmp_path / "out")["stages"]["hash"].get("items", 0) == 0
    night(photos, tmp_path / "fresh")
    assert all_rows(tmp_path / "out") == all_rows(tmp_path / "fresh")


def test_removals_beyond_the_limit_stop_before_the_commit(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    night(photos, out)
    before = all_rows(out)
    for path in sorted(photos.iterdir())[:3]:
        path.unlink()
    with pytest.raises(RunError, match=rf"3 of 10 items .* all below file://{photos}/; .*--max-removed 1"):
        night(photos, out)
    assert all_rows(out) == before
    assert night(photos, out, max_removed=0.3)["removed"] == 3
    for path in photos.iterdir():
        path.unlink()
    with pytest.raises(RunError, match="7 of 7 items"):
        night(photos, out)


def test_what_cannot_be_listed_is_kept(photos: Path, tmp_path: Path) -> None:
    import tarfile

    (photos / "b").mkdir()
    with tarfile.open(photos / "b" / "x.tar", "w") as archive:
        for path in PHOTOS[:4]:
            archive.add(path, path.name)
    out = tmp_path / "out"
    night(photos, out)
    before = {str(row["uri"]) for row in rows(out, "media")}
    whole = (photos / "b" / "x.tar").read_bytes()
    (photos / "b" / "x.tar").write_bytes(b"\xff" * 1024 + whole[1024:2000])
    summary = night(photos, out)
    after = {str(row["uri"]): row for row in rows(out, "media")}
    assert before < set(after) and summary["stale"] == 4 and summary["removed"] == 0
    assert summary["unread"][0]["place"].endswith("/b/x.tar")
    (photos / "b" / "x.tar").write_bytes(whole)
    assert night(photos, out)["stale"] == 0
    night(photos, tmp_path / "fresh")
    assert all_rows(out) == all_rows(tmp_path / "fresh")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may look into, as they may not into those of pytest."""
    with tempfile.TemporaryDirectory(prefix="neardup-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, who may not read all")
def test_a_folder_that_cannot_be_read_keeps_what_is_known_of_it(open_folder: Path, tmp_path: Path) -> None:
    from neardup.storage import list_media

    photos = open_folder
    for photo in PHOTOS:
        shutil.copy(photo, photos)
    (photos / "closed").mkdir()
    shutil.move(photos / "image1.jpg", photos / "closed")
    night(photos, tmp_path / "out")
    (photos / "closed").chmod(0)
    code = (
        "import os, sys; sys.path.insert(0, os.getcwd()); from neardup.storage import list_media; os.setuid(65534);"
        "print([(one.uri.rsplit('/', 1)[1], one.fault) for one in list_media([sys.argv[1]]) if one.kind == 'unread'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(photos)], capture_output=True, text=True, check=False)
    (photos / "closed").chmod(0o755)
    assert done.stdout.strip() == "[('closed', 'permission denied')]", done.stderr
    assert all(one.kind != "unread" for one in list_media([str(photos)]))
