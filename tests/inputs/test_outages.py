"""Nights on which a server of listed urls fails by every class, has healed, and is down."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from conftest import rows
from failing_server import KINDS, Plan, failing_server, faults_in, make_photos, plan_failures, rows_of
from neardup import storage
from neardup.config import DedupJob
from neardup.errors import RunError
from neardup.storage import objects, retrying, urls
from neardup_jobs.dedup import run_dedup

URLS, SHARE, SEED = 200, 0.018, 4


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many attempts as ever, with shorter waits between them and shorter time limits."""
    monkeypatch.setattr(retrying, "_FIRST_S", 0.001)
    monkeypatch.setattr(urls, "SILENCE_S", 1.5)
    monkeypatch.setattr(objects, "LOOK_S", 1.5)
    storage.forget()


def dedup(given: Path, output: Path) -> dict[str, Any]:
    job = {"inputs": [str(given)], "output": str(output), "cluster": "none", "hashers": ["phash@0.1"]}
    return run_dedup(DedupJob.model_validate({**job, "child": {"enabled": False}, "slices": {"items": URLS}}), "none")


def tables_of(output: Path) -> dict[str, str]:
    tables = storage.read_manifest(f"file://{output}")
    parts = [(table, part) for table, names in tables.items() for part in names]
    return {f"{table}: {part}": hashlib.sha256((output / part).read_bytes()).hexdigest() for table, part in parts}


def pairs_of(output: Path) -> list[list[str]]:
    table = next(name for name in storage.read_manifest(f"file://{output}") if name.startswith("pairs"))
    # ports decide which uri is the smaller
    return sorted(sorted(str(row[uri]).rpartition("/")[2] for uri in ("uri_a", "uri_b")) for row in rows(output, table))


def test_a_server_that_fails_by_every_class_heals_and_goes_down(tmp_path: Path) -> None:
    names = make_photos(tmp_path / "photos", URLS, SEED)
    plan = plan_failures(names, list(KINDS), SHARE, SEED)
    assert {failure.kind for failure in plan.values()} == set(KINDS)
    dedup(tmp_path / "photos", tmp_path / "right")
    right, listed, out = rows_of(tmp_path / "right"), tmp_path / "list.txt", tmp_path / "out"

    def faults(failing: Plan) -> tuple[list[str], ...]:
        return tuple(faults_in(rows_of(out), right, failing))

    with failing_server(tmp_path / "photos", plan) as server:
        listed.write_text("\n".join(server.url_of(name, plan.get(name)) for name in names))
        dedup(listed, out)
        assert faults(plan) == ([], [], [])
        answers = server.tell("heal")
        assert set(KINDS) - {"refused", "unknown host"} == set(answers) - {"good"}
        # no resolver gets to know that name: it goes on failing, and nothing else does
        unknown = {name: failure for name, failure in plan.items() if failure.kind == "unknown host"}
        assert dedup(listed, out)["failed"] == {"transient": len(unknown)}
        assert faults(unknown) == ([], [], [])
        assert pairs_of(out) == [pair for pair in pairs_of(tmp_path / "right") if not unknown.keys() & {*pair}]
        before = tables_of(out)
        server.tell("down")
        with pytest.raises(RunError, match=f"the store seems to be down: {URLS} of {URLS} items"):
            dedup(listed, out)
        assert tables_of(out) == before
        server.tell("up")
        assert dedup(listed, out)["failed"] == {"transient": len(unknown)}
        assert faults(unknown) == ([], [], []) and len(before) > 3
