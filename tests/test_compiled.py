"""Compiled code is kept where only we could have written it, and costs no run where it cannot be kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neardup import compiled
from neardup.joins import bands

_COMPONENTS = "from neardup.groups import components; print(components(3, [([0], [2])]).tolist())"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled.cache_folder.cache_clear()
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(compiled.tempfile, "tempdir", str(tmp_path / "temporary"))
    tmp_path.chmod(0o700)
    (tmp_path / "temporary").mkdir(mode=0o700)


def test_compiled_code_lies_beside_its_module_where_that_can_be_written() -> None:
    beside = Path(str(bands.__file__)).parent / "__pycache__"
    assert compiled.cache_folder(beside) == str(beside)


def test_else_it_lies_where_only_we_could_have_written(tmp_path: Path) -> None:
    nowhere = Path("/proc/nowhere/__pycache__")
    first = Path(compiled.cache_folder(nowhere) or "")
    assert first.parent == tmp_path / "caches" and first.stat().st_mode & 0o077 == 0
    compiled.cache_folder.cache_clear()
    first.chmod(0o777)  # anybody could have left code there
    second = Path(compiled.cache_folder(nowhere) or "")
    assert second.parent == tmp_path / "temporary" and second.stat().st_mode & 0o077 == 0
    compiled.cache_folder.cache_clear()
    second.rmdir()
    second.symlink_to(first)
    assert compiled.cache_folder(nowhere) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user, which needs root")
def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "caches"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(theirs))
    assert Path(compiled.cache_folder(Path("/proc/nowhere")) or "").parent == tmp_path / "temporary"


def test_damaged_and_unwritable_caches_cost_no_run(tmp_path: Path) -> None:
    """Each process compiles anew; the limit on the size of files stands for a full disk."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "given")}

    def components(before: str = "") -> str:
        command = [sys.executable, "-c", before + _COMPONENTS]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout

    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1));"
    assert components(full) == "[0, 1, 0]\n"
    assert components() == "[0, 1, 0]\n"
    files = [*(tmp_path / "given").rglob("*.nbi"), *(tmp_path / "given").rglob("*.nbc")]
    assert files
    for file in files:
        file.write_bytes(b"\x80damaged")
    assert components() == "[0, 1, 0]\n"
