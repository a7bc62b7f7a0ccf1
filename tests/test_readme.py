"""What README and the demo tell people to type is typed here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

README = (ROOT / "README.md").read_text()
BIN = str(Path(sys.executable).parent)


def run(command: str, folder: Path) -> str:
    """Run a line as a person would in a shell with the environment active; gives what it printed."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@pytest.mark.cluster
def test_commands_and_code_of_the_readme_work(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    commands = [line.split("   #")[0] for line in README.splitlines() if line.startswith("neardup ")]
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(commands) >= 5 and len(blocks) >= 3
    printed = [run(command, tmp_path) for command in commands]
    assert any('"blockmean"' in text for text in printed) and any("hashers:" in text for text in printed)
    for number, block in enumerate(blocks):
        (tmp_path / f"block{number}.py").write_text(block)
        assert run(f"python block{number}.py", tmp_path).strip()


@pytest.mark.cluster
def test_the_demo_prints_what_the_readme_shows_and_lines_that_work(tmp_path: Path) -> None:
    printed = run(f"neardup dedup {ROOT / 'samples'} -o {tmp_path / 'demo-out'}", tmp_path)
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)
    assert shown and [line.rstrip() for line in printed.splitlines()][:7] == shown[1].splitlines()
    look = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    report, duckdb, pandas = look
    assert Path(run(report, tmp_path).strip()) == tmp_path / "demo-out" / "report" / "duplicates.html"
    assert "duckdb" in duckdb and "uri" in run(duckdb, tmp_path)
    assert "pandas" in pandas and "uri" in run(pandas, tmp_path)
    assert "copies/fort-exact.jpg" in run(f"python {ROOT / 'samples' / 'show.py'} demo-out", tmp_path)


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
