"""A run does its work whatever became of its streams and its scratch disk."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from conftest import PHOTOS, rows
from neardup.errors import RunError
from neardup.stages.spool import Spool

HASH = "import sys; from neardup_jobs.cli import main; sys.argv[0] = 'neardup'; main()"


def run(*arguments: object, redirected: str = "", cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "-c", f'exec "$0" "$@" {redirected}', sys.executable, "-P", "-c", HASH, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=cwd, env=environment)


@pytest.mark.parametrize(
    ("redirected", "cluster"),
    [
        ("<&-", "none"),
        (">&- 2>&-", "none"),
        ("<&- >&- 2>&-", "none"),
        (">/dev/full 2>/dev/full", "none"),
        pytest.param("<&- >&- 2>&-", "local", marks=pytest.mark.cluster),
    ],
)
def test_closed_streams_end_no_run(redirected: str, cluster: str, tmp_path: Path, photos: Path) -> None:
    run("hash", photos, "-o", tmp_path / "out", "--cluster", cluster, redirected=redirected)
    assert sum(bool(row["hash"]) for row in rows(tmp_path / "out", "hashes/hasher=phash-hash_size-16")) == len(PHOTOS)


def test_a_log_whose_reader_has_gone_ends_no_run(tmp_path: Path, photos: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-P", "-c", HASH, "hash", photos, "-o", tmp_path / "out", "--cluster", "none"]
    done = subprocess.run(list(map(str, command)), stdout=writing, stderr=writing, timeout=200)
    os.close(writing)
    assert done.returncode == 0
    assert len(rows(tmp_path / "out", "media")) == len(PHOTOS)


def test_a_full_scratch_disk_is_a_line_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = Spool(rows_in_memory=10)
    spool.add(pa.table({"uri": [f"file:///{number}" for number in range(20)]}))
    assert spool.spilled
    (folder,) = tmp_path.iterdir()
    for number in range(64):
        (folder / f"{number}.arrows").unlink(missing_ok=True)
        (folder / f"{number}.arrows").symlink_to("/dev/full")
    with pytest.raises(RunError, match=f"temporary files in {folder}: No space left on device; .*TMPDIR"):
        spool.add(pa.table({"uri": ["file:///1"]}))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(RunError, match=r"temporary files in .*gone: No such file or directory; .*TMPDIR"):
        Spool(rows_in_memory=0).add(pa.table({"uri": ["file:///1"]}))
