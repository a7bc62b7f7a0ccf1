"""Joins by cosine, by the score of TMKL2, and by a distance that only the hasher knows: each pair by its own code."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hash_tables import Joined, components, join, write_hashes

from neardup.config import JoinJob
from neardup.errors import UsageError
from neardup.hashers import Hasher, parse
from neardup.joins import real
from neardup.joins.real import cross_join_real_chunks, self_join_real
from neardup.stages import tiles
from neardup.stages.joining import radius_of
from neardup.stages.live import maker
from neardup.stages.tiles import Radius
from neardup_jobs.dedup import wanted_to_join


def expected(hasher: Hasher, vectors: np.ndarray, threshold: float) -> dict[tuple[str, str], float]:
    apart = {(f"v{a:02d}", f"v{b:02d}"): hasher.compute_distance(vectors[a], vectors[b], "vector")
             for a, b in combinations(range(len(vectors)), 2)}  # fmt: skip
    return {pair: distance for pair, distance in apart.items() if distance < threshold}


def joined(folder: Path, spec: str, vectors: np.ndarray, threshold: float, **more: int) -> Joined:
    hasher = parse(spec)
    one = maker(hasher)
    root = f"file://{folder}"
    rows = [
        (f"v{n:02d}", 0, None, v.tolist() if hasher.dtype == "float32" else v.tobytes()) for n, v in enumerate(vectors)
    ]
    write_hashes(root, one, rows)
    return join(root, one, radius_of(one, threshold), **more)


@pytest.mark.parametrize(
    ("spec", "threshold"),
    [
        ("tmkl1", 0.2),
        ("tmkl2", 0.3),
        ("tmkl2:normalization=feat", 0.99715),
        ("tmkl2:normalization=freq", -180.0),
    ],
)
def test_tmk_hashes_pair_by_their_own_distance(tmp_path: Path, spec: str, threshold: float) -> None:
    hasher = parse(spec)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(14, hasher.hash_length)).astype(np.float32)
    for n in range(7, 14):
        vectors[n] = vectors[n - 7] + 0.2 * n / 7 * vectors[n]
    vectors[13] = vectors[6]
    found = {
        (p["uri_a"], p["uri_b"]): p["distance"] for p in joined(tmp_path, spec, vectors, threshold, block_rows=4).pairs
    }
    wanted = expected(hasher, vectors, threshold)
    assert 3 < len(wanted) < 90 and set(found) == set(wanted)
    assert all(found[pair] == pytest.approx(wanted[pair], abs=1e-5 * max(1, abs(threshold))) for pair in wanted)


@pytest.mark.parametrize("most", [0, 2])
def test_any_distance_is_joined_by_the_hashers_own_code(tmp_path: Path, most: int) -> None:
    hasher = parse("own_hasher.Ring")
    vectors = np.random.default_rng(1).integers(0, 256, (40, 4)).astype(np.uint8)
    vectors[20:] = (vectors[:20].astype(int) + np.random.default_rng(2).integers(-30, 30, (20, 4))) % 256
    vectors[39] = vectors[38]
    found = joined(tmp_path, "own_hasher.Ring", vectors, 0.3, block_rows=12, max_neighbours=most)
    wanted = expected(hasher, vectors, 0.3)
    got = {(pair["uri_a"], pair["uri_b"]): pair["distance"] for pair in found.pairs}
    assert len(wanted) > 20 and all(wanted[pair] == distance for pair, distance in got.items())
    assert components([{"uri_a": a, "uri_b": b} for a, b in wanted]) == components(found.pairs)
    assert len(found.hubs) > 0 if most else set(got) == set(wanted)


def test_a_distance_of_its_own_needs_a_threshold() -> None:
    with pytest.raises(UsageError, match="no recommended threshold"):
        wanted_to_join(JoinJob(output="out", hashers=("own_hasher.Ring",)))
    (one,) = wanted_to_join(JoinJob(output="out", hashers=("own_hasher.Ring@0.3",)))
    assert one.radius == Radius("custom", 0.3) and tiles.one_by_one(one.maker.hasher)
    assert not tiles.one_by_one(parse("tmkl2"))


def test_inner_products_find_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "BLOCK_ROWS", 16)
    vectors = np.random.default_rng(3).normal(size=(60, 8)).astype(np.float32)
    apart = 1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    for threshold in (-3.0, 0.5, float(np.sort(apart[np.triu_indices(60, 1)])[100])):
        i, j = np.nonzero(np.triu(apart < threshold, 1))
        found = self_join_real(vectors, threshold, "inner")
        assert sorted(zip(found.i.tolist(), found.j.tolist(), strict=True)) == list(
            zip(i.tolist(), j.tolist(), strict=True)
        )
        crossed = list(cross_join_real_chunks(vectors[:25], vectors[25:], threshold, "inner"))
        assert sum(len(one.i) for one in crossed) == np.count_nonzero(apart[:25, 25:] < threshold)
