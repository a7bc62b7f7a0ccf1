"""The command line as a person or a script uses it: exit codes, one-line errors, summaries."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import ROOT
from neardup import __version__
from neardup_jobs.cli import app


def neardup(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neardup", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_a_run_in_plain_lines(photos: Path, tmp_path: Path) -> None:
    done = neardup("dedup", photos, "-o", tmp_path / "out", "--cluster", "none")
    assert done.returncode == 0, done.stderr
    assert "listed" in done.stdout and "pairs" in done.stdout and "\x1b" not in done.stdout + done.stderr
    assert done.stderr.startswith("hash: 10 of 10")


def test_a_run_on_a_terminal_shows_a_bar(photos: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "neardup", "dedup", str(photos), "-o", str(tmp_path / "out"), "--cluster", "none"]
    subprocess.run(command, stderr=theirs, stdout=theirs, cwd=ROOT, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert "10/10" in shown.decode() and "items/s" in shown.decode() and "━" in shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says at the end of a terminal
        return b""


def test_the_summary_as_json(photos: Path, tmp_path: Path) -> None:
    (photos / "text.jpg").write_text("no photo")
    done = neardup(
        "hash", photos, "-o", tmp_path / "out", "--cluster", "none", "--json", "--hasher", "pdq", "--hasher", "ahash"
    )
    summary = json.loads(done.stdout)
    assert done.stderr == ""
    assert (summary["listed"], summary["decoded"], summary["failed"]) == (11, 10, {"permanent": 1})
    assert set(summary["hashers"]) == {"pdq", "ahash"}
    assert summary == json.loads((tmp_path / "out" / "run.json").read_text())


def test_too_many_item_errors_exit_with_3(photos: Path, tmp_path: Path) -> None:
    (photos / "text.jpg").write_text("no photo")
    out = tmp_path / "out"
    assert neardup("hash", photos, "-o", out, "--cluster", "none", "--max-error-rate", "0.1").returncode == 0
    done = neardup("hash", photos, "-o", out, "--cluster", "none", "--max-error-rate", "0.05")
    assert done.returncode == 3 and "1 of 11 items failed" in done.stderr


def test_an_empty_folder_is_no_error_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = neardup("dedup", tmp_path / "photos", "-o", tmp_path / "out", "--json")
    summary = json.loads(done.stdout)
    assert done.returncode == 0 and summary["listed"] == 0 and summary["decoded"] == 0
    assert not (tmp_path / "out").exists()


def test_an_input_that_became_empty_empties_the_tables(photos: Path, tmp_path: Path) -> None:
    neardup("dedup", photos, "-o", tmp_path / "out", "--cluster", "none")
    before = sorted((tmp_path / "out").rglob("*.parquet"))
    for photo in photos.iterdir():
        photo.unlink()
    command = ("dedup", photos, "-o", tmp_path / "out", "--cluster", "none", "--json")
    done = neardup(*command)
    assert done.returncode == 1 and "10 of 10 items of the last commit are not listed any more" in done.stderr
    assert sorted((tmp_path / "out").rglob("*.parquet")) == before
    done = neardup(*command, "--max-removed", "1")
    assert json.loads(done.stdout)["removed"] == 10
    assert not list((tmp_path / "out").rglob("*.parquet"))


BAD: dict[str, tuple[list[str], str]] = {
    "missing path": (["dedup", "nowhere", "-o", "out"], "no such file or folder: 'nowhere'"),
    "unknown hasher": (["dedup", "photos", "-o", "out", "--hasher", "fash"], "'fash'; did you mean 'phash'?"),
    "unknown parameter": (["dedup", "photos", "-o", "out", "--hasher", "phash:hashsize=8"], "hash_size"),
    "threshold 7": (["dedup", "photos", "-o", "out", "--threshold", "7"], "threshold 7 is outside 0..1"),
    "threshold in words": (["dedup", "photos", "-o", "out", "--hasher", "phash@near"], "'near' is not a number"),
    "no threshold": (["dedup", "photos", "-o", "out", "--hasher", "phash"], "give one: --hasher phash@"),
    "real-valued": (["join", "photos", "--hasher", "colormoment", "--radius-bits", "9"], "real-valued"),
    "nothing below": (["join", "photos", "--hasher", "colormoment@0"], "give a distance above 0"),
    "threshold of two": (["join", "x", "--hasher", "pdq", "--hasher", "ahash", "--threshold", "1"], "single hasher"),
    "same hasher twice": (["hash", "photos", "-o", "out", "--hasher", "pdq", "--hasher", "pdq"], "twice"),
    "output is a file": (["dedup", "photos", "-o", "photos.txt"], "cannot be used"),
    "output below a file": (["dedup", "photos", "-o", "photos.txt/out"], "cannot be used"),
    "output inside input": (["dedup", "photos", "-o", "photos/out"], "inside each other"),
    "no output": (["dedup", "photos"], "'output' is missing"),
    "no input": (["dedup", "-o", "out"], "'inputs' is missing"),
    "misspelt key": (["dedup", "--config", "bad.yaml"], "unknown key 'hasherr' in bad.yaml; did you mean 'hashers'?"),
    "misspelt setting": (["hash", "photos", "-o", "out", "--set", "slices.item=3"], "did you mean 'items'?"),
    "wrong value": (["hash", "photos", "-o", "out", "--set", "slices.items=many"], "not 'many'"),
    "setting without value": (["hash", "photos", "-o", "out", "--set", "slices"], "expected key=value"),
    "not YAML": (["hash", "--config", "broken.yaml"], "broken.yaml is not YAML"),
    "no such config": (["hash", "--config", "none.yaml"], "cannot read the configuration 'none.yaml'"),
    "unknown cluster": (["hash", "photos", "-o", "out", "--cluster", "huge"], "unknown cluster 'huge'"),
    "unknown protocol": (["hash", "photos", "-o", "s4://out"], "unknown protocol 's4'"),
    "block by nothing": (["dedup", "photos", "-o", "out", "--block-by", "colour"], "unknown --block-by 'colour'"),
    "block by no column": (["dedup", "photos", "-o", "out", "--block-by", "column:shape"], "MEDIA has no such column"),
    "block by no pattern": (["dedup", "photos", "-o", "out", "--block-by", "pattern:("], "is not a regular expression"),
    "join of nothing": (["join", "photos"], "is not an output of neardup"),
    "unknown job": (["config", "dedupe"], "unknown job 'dedupe'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_usage_is_one_line_and_exit_2(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "photos.txt").write_text("a file")
    (tmp_path / "bad.yaml").write_text("inputs: [photos]\noutput: out\nhasherr: [pdq]\n")
    (tmp_path / "broken.yaml").write_text("inputs: [photos\n")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and done.stderr.startswith("neardup: ") and done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_in_progress_is_named(photos: Path, tmp_path: Path) -> None:
    from neardup import storage
    from neardup.run import claimed

    with claimed(storage.absolute(str(tmp_path / "out"))):
        done = neardup("hash", photos, "-o", tmp_path / "out", "--cluster", "none")
    assert done.returncode == 1 and f"pid {os.getpid()}" in done.stderr and done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in neardup("dedup", tmp_path / "nowhere", "-o", tmp_path / "out", "--debug").stderr


def test_help_and_version() -> None:
    assert neardup("--version").stdout == f"neardup {__version__}\n"
    for command in ("dedup", "hash", "join", "config"):
        done = neardup(command, "--help")
        assert done.returncode == 0 and (command == "config" or "neardup " + command in done.stdout)


def test_a_printed_configuration_can_be_used(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "dedup.yaml").write_text(neardup("config", "dedup").stdout)
    done = neardup("dedup", "--config", "dedup.yaml", "--cluster", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "manifest.json").exists()
