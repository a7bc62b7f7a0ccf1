"""What the pages on the data lake and on scheduled runs show is executed: commands, DuckDB, Polars; not Spark."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from typer.testing import CliRunner

from conftest import ROOT
from neardup_jobs import cli


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the samples and the configurations."""
    for name in ("samples", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page: str) -> list[tuple[str, str]]:
    """The code of a page in order, with its language."""
    return re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def neardup(line: str) -> str:
    done = CliRunner().invoke(cli.app, line.replace("$(date +%F)", "today").split()[1:])
    assert done.exit_code == 0, f"{line}\n{done.stderr}"
    return done.stdout


def python(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), {})
    return printed.getvalue()


def test_the_page_on_the_data_lake(here: Path) -> None:
    found: dict[str, list[Any]] = {"sh": [], "sql": [], "python": []}
    for language, code in blocks("data-lake.md"):
        if language == "sql":
            result = duckdb.sql(code)
            found["sql"].append(result.fetchall() if result else [])
        elif language == "sh":
            found["sh"] += [neardup(line) for line in code.splitlines()]
        elif "spark" in code:
            compile(code, "page", "exec")
        else:
            found["python"].append(python(code))
    dropped, errors, stale, hashes, copies, _, enriched, unique = found["sql"]
    assert (
        len(dropped) == 23
        and len({row[0] for row in hashes}) == 55
        and {row[0] for row in errors} == {"permanent", "policy"}
    )
    assert not stale and len(copies) == 1 and copies[0][1] == 2
    assert len(enriched) == 60 and sum(row[4] is True for row in enriched) == len(unique) == 56 - len(dropped)
    assert "jpeg" in found["python"][0].lower() and "uri_a" in found["python"][1]
    assert "group" in found["sh"][-1] and len(found["python"]) == 2
    assert {path.name for path in here.iterdir()} > {"clean", "clean-tars", "clean-parquet", "drop.csv"}


def test_the_page_on_scheduled_runs(here: Path) -> None:
    page = (ROOT / "docs" / "scheduled.md").read_text()
    pages = blocks("scheduled.md")
    commands = [line for language, code in pages if language == "sh" for line in code.splitlines()]
    settings = (ROOT / "configs" / "dedup-nightly.yaml").read_text()
    Path("configs").unlink()
    Path("configs").mkdir()
    Path("configs/dedup-nightly.yaml").write_text(settings.replace("cluster: local", "cluster: none"))
    assert '"listed": 60' in neardup(commands[0])
    (facts,) = (code for language, code in pages if language == "python" and "run.json" in code)
    assert "bytes could be saved" in python(facts)
    (here / "demo-nightly" / "run.json").write_text(neardup(commands[0]).replace('"removed": 0', '"removed": 40'))
    assert "is a mount or prefix missing" in python(facts)
    assert "nothing was deleted" in neardup(commands[1]) and (here / "drop-today.csv").exists()
    for language, code in pages:
        if language == "python":
            compile(code, "page", "exec")
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    ours = {getattr(cli, name) for name in dir(cli) if name.startswith("EXIT_")}
    assert codes == ours | {0} and yaml.safe_load(settings)["groups"] == "diameter"
