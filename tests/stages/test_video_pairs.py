"""Pairs of videos: matching frames, overlaps and offsets against a slow, obvious derivation."""

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from hash_tables import Row, join, write_hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from neardup.hashers import parse
from neardup.stages import pairing
from neardup.stages.live import maker
from neardup.stages.pairing import Rules
from neardup.stages.tiles import Radius

AHASH = maker(parse("ahash"))
NEAR = Radius("hamming", 2)
Facts = tuple[float, int, float, float, float | None]


def obvious(rows: list[Row]) -> dict[tuple[str, str], Facts]:
    frames = defaultdict(list)
    for uri, _, seconds, value in rows:
        frames[uri].append((seconds, int.from_bytes(value, "big")))
    found: dict[tuple[str, str], Facts] = {}
    for a in frames:
        for b in frames:
            met = [
                (m, n, (x ^ y).bit_count(), None if s is None or t is None else t - s)
                for m, (s, x) in enumerate(frames[a])
                for n, (t, y) in enumerate(frames[b])
                if a < b and (x ^ y).bit_count() <= 2
            ]
            if met:
                found[a, b] = (
                    min(apart for _, _, apart, _ in met) / 64,
                    len(met),
                    len({m for m, *_ in met}) / len(frames[a]),
                    len({n for _, n, *_ in met}) / len(frames[b]),
                    densest([behind for *_, behind in met if behind is not None]),
                )
    return found


def densest(differences: list[float]) -> float | None:
    windows = [[d for d in differences if start <= d <= start + 1 + 1e-7] for start in differences]
    best = max(map(len, windows), default=0)
    return min((median(one) for one in windows if len(one) == best), key=lambda m: (abs(m), m), default=None)


def facts(pair: dict[str, Any]) -> Facts:
    return (pair["distance"], pair["matches"], pair["overlap_a"], pair["overlap_b"], pair["offset_s"])


def code(value: int) -> bytes:
    return ((value & 7) | (value >> 3) * 0x3030303000).to_bytes(8, "big")


frame = st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 4.0, 5.5]), st.integers(0, 20))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(frame, min_size=2, max_size=40), st.sampled_from([0, 0, 2]), st.sampled_from([1024, 1024, 3]))
def test_frames_overlaps_and_offsets_equal_the_obvious_ones(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, float, int]], most: int, limit: int
) -> None:
    """Whatever hubs and stars leave out: of a pair that is written, every matching frame counts."""
    count: dict[int, int] = defaultdict(int)
    rows: list[Row] = []
    for item, seconds, value in found:
        count[item] += 1
        rows.append((f"v{item}", count[item] - 1, None if item == 5 else seconds + count[item] % 3, code(value)))
    root = f"file://{tmp_path_factory.mktemp('out')}"
    write_hashes(root, AHASH, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "ALL_PAIRS_LIMIT", limit)
        patch.setattr(pairing, "LINKS_AT_A_TIME", 10)
        pairs = join(root, AHASH, NEAR, most).pairs
    expected = obvious(rows)
    got = {(pair["uri_a"], pair["uri_b"]): facts(pair) for pair in pairs}
    assert all(values == pytest.approx(expected[pair]) for pair, values in got.items())
    if limit == 1024 and not most:
        assert set(got) == set(expected)


def video(uri: str, scenes: list[int], start: float = 0.0, fps: float = 1.0) -> list[Row]:
    """A frame per scene, every other scene twice as long as it would be by its number alone."""
    rng = np.random.default_rng(0)
    pictures = [rng.bytes(8) for _ in range(1000)]
    return [(uri, n, start + n / fps, pictures[scene]) for n, scene in enumerate(scenes)]


def test_the_offset_says_when_what_is_in_a_comes_in_b(tmp_path: Path) -> None:
    root = f"file://{tmp_path}"
    film = list(range(100))
    rows = video("a-film", film)
    rows += video("b-late", [900, 901, *film])  # two seconds of something else first
    rows += video("c-middle", film[30:60])
    rows += video("d-still", [7] * 50 + film[50:])  # a long still scene that is one frame of the others
    rows += [("e-image", 0, None, video("x", film)[40][3])]
    write_hashes(root, AHASH, rows)
    pairs = {(pair["uri_a"][0], pair["uri_b"][0]): pair for pair in join(root, AHASH, NEAR).pairs}
    assert [pairs["a", other]["offset_s"] for other in "bcde"] == [2.0, -30.0, 0.0, None]
    assert (pairs["a", "c"]["overlap_a"], pairs["a", "c"]["overlap_b"]) == (0.3, 1.0)
    assert (pairs["a", "d"]["matches"], pairs["a", "d"]["overlap_b"]) == (100, 1.0)
    assert (pairs["a", "e"]["overlap_a"], pairs["a", "e"]["overlap_b"]) == (0.01, 1.0)


def test_few_frames_and_small_overlaps_may_be_left_out(tmp_path: Path) -> None:
    root = f"file://{tmp_path}"
    rows = video("a", list(range(10))) + video("b", [*range(5), *range(20, 30)]) + video("c", [9, *range(40, 49)])
    rows += [("i", 0, None, rows[0][3]), ("j", 0, None, rows[0][3])]
    write_hashes(root, AHASH, rows)

    def paired(**rules: Any) -> set[str]:
        found = join(root, AHASH, NEAR, rules=Rules(**rules)).pairs
        return {pair["uri_a"] + pair["uri_b"] for pair in found}

    images = {"ai", "aj", "bi", "bj", "ij"}
    assert paired() == {"ab", "ac"} | images
    assert paired(min_overlap=0.5) == {"ab"} | images
    assert paired(min_overlap=0.51) == images
    assert paired(min_matches=2) == {"ab"} | images  # one frame is all that an image has


def test_a_still_hour_twice_is_one_pair_in_full(tmp_path: Path) -> None:
    """All frames of a still camera are hubs of each other, and yet the overlaps are those of all frames."""
    rng = np.random.default_rng(1)
    picture = rng.bytes(8)
    rows: list[Row] = []
    for uri in ("a", "b"):
        for n in range(300):
            noisy = int.from_bytes(picture, "big") ^ (1 << int(rng.integers(0, 64)))
            rows.append((uri, n, float(n), noisy.to_bytes(8, "big")))
    write_hashes(f"file://{tmp_path}", AHASH, rows)
    found = join(f"file://{tmp_path}", AHASH, NEAR, 20)
    (pair,) = found.pairs
    assert (pair["matches"], pair["overlap_a"], pair["overlap_b"]) == (300 * 300, 1.0, 1.0)
    assert abs(pair["offset_s"]) < 60 and len(found.hubs) > 60
