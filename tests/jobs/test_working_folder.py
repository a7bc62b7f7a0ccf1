"""No file of the working folder is run: it may be a corpus that others have filled."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import PHOTOS, rows
from dask_processes import scheduler, worker
from stores import free_port

NAMES = {"neardup", "neardup_jobs", "pipeline", "jobs", "numpy", "cv2", "msgpack", "pyarrow", "dask", "distributed"}
NAMES |= {"random", "types", "signal", "multiprocessing", "pickle", "re", "typing", "email", "csv", "ctypes", "mmap"}
BEFORE_US = {"neardup", "types"}  # `python -m` itself takes them from the working folder, before a line of ours
SCRIPT = (str(Path(sys.executable).with_name("neardup")),)


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Iterator[Path]:
    for name in NAMES:
        (photos / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit(3)\n"
        )
    shutil.copy(PHOTOS[0], photos / "copy.jpg")  # a group, so that the run says how to look at it
    yield photos
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def check_run(command: tuple[str, ...], folder: Path, output: Path, cluster: str) -> None:
    line = [*command, "dedup", ".", "-o", str(output), "--cluster", cluster]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, cwd=folder, env=plain)
    assert done.returncode == 0, done.stderr
    assert len(rows(output, "media")) == len(PHOTOS) + 1
    shown = [line for line in done.stdout.splitlines() if Path(sys.executable).name in line]
    assert len(shown) == 3
    for line in shown:
        subprocess.run(line, shell=True, check=True, stdout=subprocess.DEVNULL, timeout=200, cwd=folder, env=plain)


@pytest.mark.parametrize("command", [SCRIPT, (sys.executable, "-P", "-m", "neardup")], ids=["script", "module"])
@pytest.mark.parametrize("cluster", ["none", pytest.param("local", marks=pytest.mark.cluster)])
def test_the_command_runs_nothing(command: tuple[str, ...], cluster: str, tmp_path: Path, folder: Path) -> None:
    check_run(command, folder, tmp_path / "out", cluster)


def test_the_plain_module_runs_nothing_that_we_could_prevent(tmp_path: Path, folder: Path) -> None:
    for name in BEFORE_US:
        (folder / f"{name}.py").unlink()
    check_run((sys.executable, "-m", "neardup"), folder, tmp_path / "out", "none")


@pytest.mark.cluster
def test_workers_run_nothing(tmp_path: Path, folder: Path) -> None:
    """Started there by somebody else, as docs/clusters.md says: with PYTHONSAFEPATH, which their processes inherit."""
    port = free_port()
    there = {"cwd": folder, "PYTHONSAFEPATH": "1"}
    with scheduler(port, **there), worker(port, tmp_path / "scratch", threads=2, **there):
        check_run(SCRIPT, folder, tmp_path / "out", f"tcp://127.0.0.1:{port}")
