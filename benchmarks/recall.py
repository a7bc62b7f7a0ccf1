"""Speed and recall of every way to join, on real hashes and on uniform bits, one core each, in one run.

    python benchmarks/recall.py CORPUS --peers PYTHON [--rows 100000] [--cache FILE.npz] [--queries 2000]

CORPUS: a folder of photos, of which windows and edits are hashed (grown once, then kept in the cache file). PYTHON: an
interpreter with faiss-cpu and annoy. Equal hashes are joined once, as `neardup join` does. Peers that would take too
long answer for some rows only; their seconds, marked ~, are multiplied, and their recall is that of those rows. The
goals printed last: real hashes within twice (dhash, whose bits go together: four times) the seconds of uniform bits.
"""

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from grown import grown_hashes
from join import one_core, processor, uniform_hashes
from peers import ask

from neardup import joins

RADII = {"uniform": (31, 51), "pdq": (31, 51), "phash:hash_size=16": (31, 51), "dhash:hash_size=16": (17, 31, 51)}
GOALS = {"pdq": 2.0, "phash:hash_size=16": 2.0, "dhash:hash_size=16": 4.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter with faiss-cpu and annoy")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=2000, help="rows that slow peers answer for")
    parser.add_argument("--repeats", type=int, default=3, help="of our own joins, the best is shown")
    parser.add_argument("--cache", type=Path, default=Path("grown-hashes.npz"))
    options = parser.parse_args()
    one_core()
    print(f"{processor()}, Python {platform.python_version()}, one core, neardup {version('neardup')}")
    real = grown_hashes(options.corpus, options.rows, options.cache)
    sets = {"uniform": uniform_hashes(options.rows, 256), **{name: rows[: options.rows] for name, rows in real.items()}}
    ours: dict[tuple[str, int], float] = {}
    for name, hashes in sets.items():
        unique, _ = joins.distinct(hashes)
        unique = unique[np.random.default_rng(0).permutation(len(unique))]
        print(f"\n{name}: {len(hashes):,} hashes, {len(unique):,} distinct")
        print(f"{'radius':>6} {'engine':22} {'seconds':>9} {'recall':>7} {'ours × faster':>13}")
        for radius in RADII[name]:
            ours[name, radius] = _compare(unique, radius, options)
    print("\nreal hashes, times the seconds of uniform ones (goal)")
    missed = 0
    for (name, radius), seconds in ours.items():
        if name in GOALS and ("uniform", radius) in ours:
            ratio = seconds / ours["uniform", radius]
            missed += ratio > GOALS[name]
            print(
                f"{name:20} {radius:3} bits {ratio:5.2f} ({GOALS[name]:g}{', MISSED' if ratio > GOALS[name] else ''})"
            )
    return 1 if missed else 0


def _compare(hashes: np.ndarray, radius: int, options: argparse.Namespace) -> float:
    """Print a line per engine; gives the seconds of ours."""
    matches = sum(len(found.i) for found in joins.self_join_chunks(hashes, radius))  # compiles, too
    planned = _best(lambda: _exhaust(hashes, radius, None), options.repeats)
    every = _best(lambda: _exhaust(hashes, radius, joins.EVERY_PAIR), options.repeats)
    print(f"{radius:6} {'ours':22} {planned:9.2f} {1:7.3f}   {matches:,} matches, {joins.plan(hashes, radius).how()}")
    print(f"{radius:6} {'ours, every pair':22} {every:9.2f} {1:7.3f} {every / planned:13.1f}", flush=True)
    if options.peers is None:
        return planned
    few = options.queries
    for peer, queries in (("flat", few), ("multihash", few // 10), ("hnsw", None), ("annoy", None)):
        answer = ask(options.peers, peer, hashes, radius, queries)
        mark = "~" if answer["estimated"] else ""
        seconds = f"{mark}{answer['seconds']:.2f}"
        found = _recall(hashes, radius, answer)
        print(
            f"{radius:6} {_NAMES[peer]:22} {seconds:>9} {found:7.3f} {answer['seconds'] / planned:13.1f}"
            f"   {answer['version']}",
            flush=True,
        )
    return planned


_NAMES = {
    "flat": "faiss Flat range",
    "multihash": "faiss MultiHash 16×16",
    "hnsw": "faiss HNSW 16, k 32",
    "annoy": "annoy 10 trees, k 32",
}


def _recall(hashes: np.ndarray, radius: int, answer: dict) -> float:
    """The share of the pairs of the queried rows that were found; a wrong pair ends the run."""
    queries = np.linspace(0, len(hashes) - 1, answer["queries"]).astype(np.int64)
    pairs = answer["pairs"]
    if len(pairs) and int(np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).sum(axis=1).max()) > radius:
        sys.exit("a peer reports pairs beyond the radius")
    i, j = np.sort(pairs, axis=1).T if len(pairs) else (np.empty(0, np.int64),) * 2
    if answer["estimated"]:
        found, true = joins.recall(hashes, radius, joins.Matches(i, j, np.zeros(len(i), np.int32)), queries)
        return found / true if true else 1.0
    return len(np.unique(i * len(hashes) + j)) / max(1, sum(len(c.i) for c in joins.self_join_chunks(hashes, radius)))


def _exhaust(hashes: np.ndarray, radius: int, bands: tuple[joins.Band, ...] | None) -> None:
    for _found in joins.self_join_chunks(hashes, radius, bands=bands):
        pass


def _best(job, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        job()
        seconds.append(time.process_time() - begun)
    return min(seconds)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
