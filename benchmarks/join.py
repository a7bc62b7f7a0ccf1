"""The Hamming join against faiss, one core each, in one run: pairs compared per second and whole self-joins.

    python benchmarks/join.py [--rows N] [--oracle PYTHON]
    python benchmarks/join.py --planned 1000000

PYTHON is an interpreter that can import faiss (`pip install faiss-cpu`; it may be this one); without it only our side
is timed. faiss's `IndexBinaryFlat.range_search` is strict, so it is given radius + 1; both must find as many matches.
The second form joins many rows, by the plan that it prints, and shows the peak memory.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from llvmlite import binding

from pipeline import joins

CASES = [(256, 31), (256, 51), (64, 6), (64, 10)]

FAISS = """
import json, sys, time
import faiss, numpy as np
path, radius, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
faiss.omp_set_num_threads(1)
hashes = np.load(path)
best = float("inf")
for _ in range(repeats):
    start = time.perf_counter()
    index = faiss.IndexBinaryFlat(hashes.shape[1] * 8)
    index.add(hashes)
    limits, distances, ids = index.range_search(hashes, radius + 1)
    best = min(best, time.perf_counter() - start)
rows = np.repeat(np.arange(len(hashes)), np.diff(limits).astype(np.int64))
matches = int((rows < ids).sum())
print(json.dumps({"seconds": best, "matches": matches, "version": faiss.__version__,
                  "instructions": faiss.get_compile_options()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is shown")
    parser.add_argument("--oracle", help="a Python that can import faiss")
    parser.add_argument("--planned", type=int, metavar="ROWS", help="only join so many rows, by plan")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{_processor()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}, one core")
    print(", ".join(f"{name} {version(name)}" for name in ("neardup", "numpy", "numba", "llvmlite")))
    print(f"AVX-512: {'used' if binding.get_host_cpu_features().get('avx512f') else 'none'}; best of {options.repeats}")
    rows = options.planned or options.rows
    print(f"\n{rows:,} hashes, uniform bits, 10 % with a near duplicate planted\n")
    if options.planned:
        for bits, radius in CASES:
            print(_planned(_hashes(rows, bits), radius, options.repeats))
        return
    print("bits radius   matches  every pair s  pairs/s (1e9)  portable s  planned s  faiss s  faiss / planned")
    for bits, radius in CASES:
        print(_compared(_hashes(rows, bits), radius, options.repeats, options.oracle))


def _compared(hashes: np.ndarray, radius: int, repeats: int, oracle: str | None) -> str:
    def every_pair() -> None:
        for _chunk in joins.self_join_chunks(hashes, radius, bands=joins.EVERY_PAIR):
            pass

    matches = joins.self_join(hashes, radius)
    planned = _best(lambda: joins.self_join(hashes, radius), repeats)
    every = _best(every_pair, repeats)
    os.environ["NEARDUP_PORTABLE"] = "1"
    portable = _best(every_pair, repeats)
    del os.environ["NEARDUP_PORTABLE"]
    rate = len(hashes) * (len(hashes) - 1) / 2 / every / 1e9
    line = f"{hashes.shape[1] * 8:4} {radius:6} {len(matches.i):9,} {every:13.3f} {rate:14.1f} {portable:11.3f}"
    line = f"{line} {planned:10.3f}"
    if oracle is None:
        return line
    peer = _faiss(hashes, radius, repeats, oracle)
    if peer["matches"] != len(matches.i):
        sys.exit(f"faiss finds {peer['matches']:,} matches, we find {len(matches.i):,}")
    return f"{line} {peer['seconds']:8.2f} {peer['seconds'] / planned:16.1f}   faiss {peer['version']}"


def _planned(hashes: np.ndarray, radius: int, repeats: int) -> str:
    joins.self_join(hashes[:100_000], radius)  # compile
    plan = joins.plan(hashes, radius)
    seconds = _best(lambda: joins.self_join(hashes, radius), repeats)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{plan}\n    took {seconds:.2f} s with its planning; peak memory of this process so far {memory:,.0f} MB"


def _faiss(hashes: np.ndarray, radius: int, repeats: int, oracle: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hashes.npy"
        np.save(path, hashes)
        command = [oracle, "-c", FAISS, str(path), str(radius), str(repeats)]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


def _hashes(rows: int, bits: int) -> np.ndarray:
    """Uniform bits; one row in ten copies another, with up to bits // 6 bits changed."""
    rng = np.random.default_rng(bits)
    hashes = rng.integers(0, 256, (rows, bits // 8), dtype=np.uint8)
    copies = rows // 10
    for start in range(0, copies, 10_000):
        here = np.arange(start, min(start + 10_000, copies))
        places = rng.random((len(here), bits)).argsort(axis=1).argsort(axis=1)
        changed = places < rng.integers(0, bits // 6, (len(here), 1))
        hashes[here] = hashes[copies + here] ^ np.packbits(changed, axis=1)
    return hashes[rng.permutation(rows)]


def _best(job: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'unknown processor'} ({binding.get_host_cpu_name()})"


if __name__ == "__main__":
    main()
