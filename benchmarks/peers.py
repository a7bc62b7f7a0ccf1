"""The joins of faiss and annoy, run by an interpreter that has them: `ask` from ours, itself in theirs.

One core each. Where a peer would take too long, it answers for every k-th row only and its seconds are multiplied,
which `estimated` says; the matches found then count for those rows only.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NEAREST = 32  # rows asked of the indexes that find nearest neighbours


def ask(python: str, peer: str, hashes: np.ndarray, radius: int, queries: int | None = None) -> dict:
    """What a peer does: seconds, whether they are estimated, and pairs (n, 2) of a queried row and a row near it."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/hashes.npy", hashes)
        command = [python, __file__, peer, folder, str(radius), str(min(queries or len(hashes), len(hashes)))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return {**json.loads(done.stdout), "pairs": np.load(f"{folder}/pairs.npy")}


def main() -> None:
    peer, folder, radius, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    hashes = np.load(folder / "hashes.npy")
    queries = np.linspace(0, len(hashes) - 1, count).astype(np.int64)
    begun = time.process_time()
    search, version = PEERS[peer](hashes, radius)
    built = time.process_time() - begun
    begun = time.process_time()
    pairs = search(queries)
    searched = time.process_time() - begun
    np.save(folder / "pairs.npy", pairs[pairs[:, 0] != pairs[:, 1]])
    scale = len(hashes) / count
    answer = {"seconds": built + searched * scale, "estimated": count < len(hashes), "queries": count}
    print(json.dumps({**answer, "version": version}))


def _faiss():
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss, f"faiss {faiss.__version__}"


def flat(hashes: np.ndarray, radius: int):
    faiss, version = _faiss()
    index = faiss.IndexBinaryFlat(hashes.shape[1] * 8)
    index.add(hashes)

    def search(queries: np.ndarray) -> np.ndarray:
        limits, _, ids = index.range_search(hashes[queries], radius + 1)  # strict
        return np.stack([np.repeat(queries, np.diff(limits).astype(np.int64)), ids], axis=1)

    return search, version


def multihash(hashes: np.ndarray, radius: int):
    """16 maps of 16 bits, as ThreatExchange has them: exact, as one of them differs in radius // 16 bits at most."""
    faiss, version = _faiss()
    index = faiss.IndexBinaryMultiHash(hashes.shape[1] * 8, 16, 16)
    index.nflip = radius // 16
    index.add(hashes)

    def search(queries: np.ndarray) -> np.ndarray:
        limits, _, ids = index.range_search(hashes[queries], radius + 1)
        return np.stack([np.repeat(queries, np.diff(limits).astype(np.int64)), ids], axis=1)

    return search, version


def hnsw(hashes: np.ndarray, radius: int):
    faiss, version = _faiss()
    index = faiss.IndexBinaryHNSW(hashes.shape[1] * 8, 16)
    index.hnsw.efSearch = 64
    index.add(hashes)

    def search(queries: np.ndarray) -> np.ndarray:
        distances, ids = index.search(hashes[queries], NEAREST)
        near = (distances <= radius) & (ids >= 0)
        return np.stack([np.repeat(queries, near.sum(axis=1)), ids[near]], axis=1)

    return search, version


def annoy(hashes: np.ndarray, radius: int):
    from importlib.metadata import version

    from annoy import AnnoyIndex

    index = AnnoyIndex(hashes.shape[1] * 8, "hamming")
    index.set_seed(1)
    for row, vector in enumerate(np.unpackbits(hashes, axis=1).tolist()):
        index.add_item(row, vector)
    index.build(10, 1)

    def search(queries: np.ndarray) -> np.ndarray:
        pairs = []
        for query in queries.tolist():
            near, distances = index.get_nns_by_item(query, NEAREST, include_distances=True)
            pairs += [(query, row) for row, distance in zip(near, distances, strict=True) if distance <= radius]
        return np.array(pairs, np.int64).reshape(-1, 2)

    return search, f"annoy {version('annoy')}"


PEERS = {"flat": flat, "multihash": multihash, "hnsw": hnsw, "annoy": annoy}

if __name__ == "__main__":
    main()
