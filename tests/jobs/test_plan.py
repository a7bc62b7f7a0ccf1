"""`neardup plan` says what the join then does, and does nothing itself."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import SAMPLES
from neardup import joins
from neardup.stages import tiles
from neardup_jobs.cli import app


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.stdout


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_plan_names_the_tiles_that_the_join_then_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    specs = ["--hasher", "phash:hash_size=16", "--hasher", "colormoment@5"]
    run("hash", SAMPLES, "-o", out, "--cluster", "none", *specs[:3], "colormoment")
    before = contents(out)
    bands = tuple([joins.Band(8, 1)] * 26)
    planned = joins.Plan((20, 20), 256, 51, bands, 2.0, 8.0, 3.5)
    with monkeypatch.context() as patched:
        patched.setattr(tiles, "_WORTH_A_PLAN", 0)
        patched.setattr(joins, "plan", lambda *_: planned)
        plan = json.loads(run("plan", out, *specs, "--set", "block_rows=15", "--json", "--cluster", "none"))
        shown = run("plan", out, *specs, "--set", "block_rows=15", "--cluster", "none")
        assert contents(out) == before
        joined = json.loads(run("join", out, *specs, "--set", "block_rows=15", "--json", "--cluster", "none"))
    for spec in ("phash:hash_size=16", "colormoment"):
        one, done = plan["joins"][spec], joined["stages"][f"join {spec}"]
        for told, counted in [("rows", "hashes"), ("distinct", "distinct_hashes"), ("left_out",) * 2, ("radius",) * 2]:
            assert one[told] == done[counted], told
        assert one["tasks"] == done["tiles"]
        assert one["tiles"] == one["blocks"] * (one["blocks"] + 1) / 2 > 1
    first, second = plan["joins"].values()
    assert first["tasks"] == 8 * first["tiles"] and first["core_seconds"] == pytest.approx(2.0 * first["tiles"])
    assert second["tasks"] == second["tiles"]
    assert first["bytes_read"] > 5 * 32 * first["distinct"] and first["worker_bytes"] > 1 << 26
    assert "26 bands of 8 bits at radius 1" in shown and "3.5 times as often" in shown and "matrix products" in shown


def test_what_was_joined_before_is_not_planned_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("dedup", SAMPLES, "-o", out, "--cluster", "none")
    plan = json.loads(run("plan", out, "--json"))["joins"]["phash:hash_size=16"]
    assert (plan["tiles"], plan["tasks"], plan["compared_before"]) == (0, 0, plan["distinct"])
    assert "compared before" in run("plan", out)


def test_a_plan_of_what_is_not_hashed_counts_it(tmp_path: Path) -> None:
    files = [path for path in (SAMPLES / "perception").iterdir() if path.suffix == ".jpg"]
    size = sum(path.stat().st_size for path in files)
    plan = json.loads(run("plan", *files, "--json"))
    assert (plan["items"], plan["bytes"], plan["joins"]) == (len(files), size, {})
    assert "nothing is hashed yet" in run("plan", *files)


@pytest.mark.parametrize(("arguments", "said"), [(["nowhere"], "no such file"), ([], "'inputs' is missing")])
def test_what_cannot_be_planned_is_said_in_one_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert done.exit_code == 2 and said in done.output and len(done.output.splitlines()) == 1


def test_a_hasher_without_hashes_is_refused(tmp_path: Path) -> None:
    run("hash", SAMPLES / "copies", "-o", tmp_path / "out", "--cluster", "none", "--hasher", "pdq")
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "out"), "--hasher", "dhash@0.1"])
    assert done.exit_code == 2 and "has no hashes of dhash" in done.output
