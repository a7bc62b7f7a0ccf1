"""The module table of ARCHITECTURE.md, held against the imports."""

import ast
from pathlib import Path

import pytest

from conftest import ROOT

LAYERS = [
    "errors",
    "memory",
    "compiled",
    "storage",
    "media",
    "transforms",
    "hashers",
    "joins",
    "groups",
    "metrics",
    "tables",
]
LAYERS += ["work", "child", "stages", "run", "config", "report", "tools", "benchmarking", "imagehash"]
OWNERS = {
    "fsspec": {"storage"},
    "s3fs": {"storage"},
    "dask": {"run"},
    "distributed": {"run"},
    "av": {"media"},
    "simplejpeg": {"media"},
    "annoy": {"joins"},
    "numba": {"compiled", "joins", "hashers"},
    "llvmlite": {"compiled", "joins", "hashers"},
    "pyarrow": {"storage", "tables", "stages"},
    "pydantic": {"config"},
    "subprocess": {"child"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
}
PACKAGE = ROOT / "pipeline" / "neardup"
ENTRIES = {"__init__", "__main__"}  # the latter is the command line, under the name that people type
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "neardup":
                found |= {f"neardup.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", [file for file in FILES if layer(file) not in ENTRIES], ids=str)
def test_imports_point_down(file: Path) -> None:
    here = layer(file)
    assert here in LAYERS, f"{file} has no row in the module table"
    for module in imports(file):
        parts = module.split(".")
        if parts[0] == "neardup_jobs":
            pytest.fail(f"{file} imports {module}")
        if parts[0] == "neardup" and len(parts) > 1 and parts[1] in LAYERS:
            assert LAYERS.index(parts[1]) <= LAYERS.index(here), f"{file} imports {module} from above"
        if parts[0] in OWNERS:
            assert here in OWNERS[parts[0]], f"{file} imports {parts[0]}, which belongs to {OWNERS[parts[0]]}"


def test_no_row_is_missing_in_the_documentation() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in {layer(file) for file in FILES} - ENTRIES:
        assert f"| `{name}" in text, f"ARCHITECTURE.md has no row for {name}"
