"""annoy finds only true matches, misses some, and what it misses is measured."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from brute_force import brute_force, flipped, planted, random_hashes
from typer.testing import CliRunner

from conftest import all_rows
from neardup import joins
from neardup.config import DedupJob, JoinJob
from neardup.errors import UsageError
from neardup.joins import Annoy, Matches
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup, run_join

with_annoy = pytest.mark.skipif(find_spec("annoy") is None, reason="annoy is not installed (it needs a compiler)")


def as_dict(found: Matches) -> dict[tuple[int, int], int]:
    pairs = list(zip(found.i.tolist(), found.j.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs), "a pair comes twice"
    return dict(zip(pairs, found.distance.tolist(), strict=True))


@with_annoy
@pytest.mark.parametrize("bits", [64, 256])
def test_annoy_finds_true_matches_only_and_the_same_each_time(bits: int) -> None:
    engine = joins.JOINS["annoy"]
    hashes = planted(np.random.default_rng(bits), 3000, bits, bits // 8)
    hashes[:100] = flipped(np.random.default_rng(1), hashes[:1].repeat(100, axis=0), np.arange(100) % 3, bits)
    radius = bits // 8
    expected = as_dict(brute_force(hashes, hashes, radius, upper=True))
    found = as_dict(joins.concatenated(engine.self_join_chunks(hashes, radius, 1000)))
    assert found.items() <= expected.items() and 0.5 * len(expected) < len(found)
    assert found == as_dict(joins.concatenated(engine.self_join_chunks(hashes, radius, 1 << 22)))
    across = as_dict(brute_force(hashes[:1000], hashes[900:], radius))
    found = as_dict(joins.concatenated(engine.cross_join_chunks(hashes[:1000], hashes[900:], radius, 1000)))
    assert found.items() <= across.items() and 0.5 * len(across) < len(found)


@with_annoy
def test_more_trees_find_more_and_empty_sides_nothing() -> None:
    hashes = planted(np.random.default_rng(3), 4000, 256, 40)
    few, many = (
        len(joins.concatenated(joins.annoy_self_join_chunks(hashes, 40, 1 << 22, Annoy(trees, search_k))).i)
        for trees, search_k in ((1, 50), (20, -1))
    )
    assert few < many
    for left, right in ((hashes[:0], hashes), (hashes, hashes[:0])):
        assert list(joins.annoy_cross_join_chunks(left, right, 40, 100)) == []
    assert list(joins.annoy_self_join_chunks(hashes[:1], 40, 100)) == []
    with pytest.raises(UsageError, match="32 and 31 bytes"):
        next(joins.annoy_cross_join_chunks(hashes, hashes[:, :31], 40, 100))


def test_recall_is_what_brute_force_says() -> None:
    rng = np.random.default_rng(5)
    hashes = planted(rng, 2000, 128, 20)
    hashes[::40] = hashes[0]
    expected = brute_force(hashes, hashes, 16, upper=True)
    kept = rng.random(len(expected.i)) < 0.7
    found = Matches(*(column[kept] for column in expected))
    sample = np.arange(0, 2000, 3)
    touched = np.isin(expected.i, sample) | np.isin(expected.j, sample)
    assert joins.recall(hashes, 16, found, sample) == (int((touched & kept).sum()), int(touched.sum()))
    assert joins.recall(random_hashes(rng, 50, 128), 1, found, np.arange(5)) == (0, 0)


@with_annoy
def test_an_approximate_run_says_its_recall_and_no_exact_join_builds_on_it(photos: Path, tmp_path: Path) -> None:
    settings = {"inputs": [str(photos)], "cluster": "none", "hashers": ["phash@0.4"]}
    summary = run_dedup(
        DedupJob.model_validate({**settings, "output": str(tmp_path / "out"), "engine": "annoy"}), "none"
    )
    measured = summary["stages"]["join phash"]["measured"]
    assert measured["hashes"] == 10 and measured["recall"] == measured["found"] / measured["matches"]
    assert not [table for table in all_rows(tmp_path / "out") if table.startswith(("joined/", "near/"))]
    run_dedup(DedupJob.model_validate({**settings, "output": str(tmp_path / "exact")}), "none")
    run_join(JoinJob(output=str(tmp_path / "out"), hashers=("phash@0.4",), cluster="none"), "none")
    assert all_rows(tmp_path / "out") == all_rows(tmp_path / "exact")
    before = {name: rows for name, rows in all_rows(tmp_path / "out").items() if name.startswith(("joined/", "near/"))}
    run_join(JoinJob(output=str(tmp_path / "out"), hashers=("phash@0.5",), cluster="none", engine="annoy"), "none")
    assert before and before.items() <= all_rows(tmp_path / "out").items()


def test_without_annoy_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "annoy", None)
    (tmp_path / "photos").mkdir()
    output = tmp_path / "out"
    command = ["dedup", str(tmp_path / "photos"), "-o", str(output), "--engine", "annoy", "--cluster", "none"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and "neardup[annoy]" in done.output and len(done.output.splitlines()) == 1
    assert not output.exists()


@with_annoy
def test_real_valued_hashes_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="colormoment are real-valued"):
        run_dedup(
            DedupJob(inputs=(str(photos),), output=str(tmp_path / "o"), hashers=("colormoment@2",), engine="annoy"),
            "none",
        )
