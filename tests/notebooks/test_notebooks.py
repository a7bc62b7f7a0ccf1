"""Every notebook runs from its first cell to its last, defines nothing and is kept without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, SAMPLES
from nbclient import NotebookClient
from typer.testing import CliRunner

from neardup_jobs.cli import app

# the kernel is another process, whose libraries warn as they like
pytestmark = pytest.mark.filterwarnings("default")


def cells(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_notebooks_define_nothing_and_hold_no_outputs(name: str) -> None:
    for cell in cells(name).cells:
        assert not cell.get("outputs") and not cell.get("execution_count")
        assert not any(line.startswith(("def ", "class ")) for line in cell.source.splitlines())


def test_the_benchmark_notebook_tells_its_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(tmp_path / "scores")
    arguments = ["benchmark", str(SAMPLES / "perception"), str(SAMPLES / "scratch"), "-o", out, "--cluster", "none"]
    more = ["--hasher", "phash:hash_size=16", "--hasher", "ahash", "--set", "child.enabled=false", "--transform", "noop:128"]
    texts = ["--transform", "blur2=blur:2", "--transform", "crop0.05=crop:0.05"]
    assert CliRunner().invoke(app, [*arguments, *more, *texts]).exit_code == 0
    monkeypatch.setenv("NEARDUP_BENCHMARK", out)
    notebook = cells("benchmark.ipynb")
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = str([cell.get("outputs") for cell in notebook.cells])
    assert "false-positive rate: at most 0.001" in shown and "crop0.05" in shown and "image/svg+xml" in shown
    assert "image/png" in shown and "incorrect_uri" in shown and "thresholds:" in shown
