"""Edges to groups: edges per second of CPU and peak memory of each kind of group, scipy's components beside them.

    python benchmarks/groups.py [--edges N] [--items N] [--kinds component,diameter,clique-like] [--scipy]

Edges join random items and come in chunks, as they are read from the parts of PAIRS. For `component` each chunk is made
when it is asked for, so that never all edges are in memory (the time to make them is left out); the other kinds need
all edges and get them as 32-bit numbers, as the stage gives them. Each kind runs in a process of its own.
"""

import argparse
import multiprocessing
import platform
import resource
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from neardup import groups

CHUNK_EDGES = 1_000_000


class Chunks:
    """Chunks of random edges, made one at a time, and the seconds that took."""

    def __init__(self, edges: int, items: int, seed: int = 0) -> None:
        self.edges, self.items, self.seed = edges, items, seed
        self.seconds = 0.0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.edges, CHUNK_EDGES):
            begun = time.process_time()
            i, j = rng.integers(0, self.items, (2, min(CHUNK_EDGES, self.edges - start)), np.int32)
            self.seconds += time.process_time() - begun
            yield i, j


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, help="default: half as many as edges")
    parser.add_argument("--kinds", default=",".join(groups.GROUPINGS))
    parser.add_argument("--scipy", action="store_true", help="its components too; it needs all edges in memory")
    options = parser.parse_args()
    items = options.items or max(1, options.edges // 2)
    print(f"{_processor()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in ("neardup", "numpy", "numba", "scipy")))
    print(f"\n{options.edges:,} random edges between {items:,} items, one core\n")
    print(f"{'':20}  CPU s    million edges/s     groups  peak memory MB")
    kinds = [*options.kinds.split(","), *(["scipy components"] if options.scipy else [])]
    for kind in kinds:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, found, memory = pool.apply(measured, (kind, options.edges, items))
        print(f"{kind:20} {seconds:8.2f} {options.edges / seconds / 1e6:16.1f} {found:10,} {memory:15,.0f}", flush=True)


def measured(kind: str, edges: int, items: int) -> tuple[float, int, float]:
    """Seconds of CPU, groups and peak memory in MB of one kind."""
    _grouped(kind, Chunks(10, 10))  # compile
    seconds, labels = _grouped(kind, Chunks(edges, items))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seconds, len(np.unique(labels)), memory


def _grouped(kind: str, chunks: Chunks) -> tuple[float, np.ndarray]:
    if kind == "component":
        begun = time.process_time()
        labels = groups.components(chunks.items, chunks)
        return time.process_time() - begun - chunks.seconds, labels
    edges = list(chunks)
    if kind == "scipy components":
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        begun = time.process_time()
        i, j = (np.concatenate(side) for side in zip(*edges, strict=True))
        graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(chunks.items, chunks.items))
        labels = connected_components(graph, directed=False)[1]
        return time.process_time() - begun, labels
    order = np.random.default_rng(1).permutation(chunks.items)
    twins = np.arange(chunks.items)
    begun = time.process_time()
    labels = groups.GROUPINGS[kind](edges, order, twins)
    return time.process_time() - begun, labels


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
