"""The Hamming join beside its peers, one core each, and the join stage on one worker and on two.

    python benchmarks/join.py [--rows 100000] [--oracle PYTHON]
    python benchmarks/join.py --planned 1000000 [--oracle PYTHON]
    python benchmarks/join.py --stage 1000000 --workers 1 2
    python benchmarks/join.py --stage 10000000 --workers 2

PYTHON is an interpreter that can import faiss and annoy (`pip install faiss-cpu annoy`); without it only our side is
timed. The second form joins many rows, by the plan that it prints, and faiss answers for some of them (its seconds are
multiplied, marked ~). The third runs `neardup join` over an output that has nothing but such hashes, with its memory.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from llvmlite import binding
from outputs import write_output
from peers import ask

from neardup import joins

CASES = [(256, 31), (256, 51), (64, 6), (64, 10)]

GOALS = {(256, 31): (8.0, 200.0), (256, 51): (45.0, 80.0)}  # at a million: seconds, times faiss
GOAL_BYTES = 1 << 30  # at a million
GOAL_SPEEDUP = 1.8  # of two workers
QUERIES = 2000  # rows that faiss answers for among many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is shown")
    parser.add_argument("--oracle", help="a Python that can import faiss and annoy")
    parser.add_argument("--planned", type=int, metavar="ROWS", help="only join so many rows, by plan")
    parser.add_argument("--stage", type=int, metavar="ROWS", help="only run `neardup join` over so many rows")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="for --stage")
    parser.add_argument("--radius", type=int, default=31, help="for --stage")
    options = parser.parse_args()
    print(f"{processor()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in ("neardup", "numpy", "numba", "llvmlite")))
    print(f"AVX-512: {'used' if binding.get_host_cpu_features().get('avx512f') else 'none'}; best of {options.repeats}")
    rows = options.stage or options.planned or options.rows
    print(f"\n{rows:,} hashes, uniform bits, 10 % with a near duplicate planted\n")
    if options.stage:
        _stage(uniform_hashes(rows, 256), options.radius, options.workers)
        return
    one_core()
    if options.planned:
        for bits, radius in CASES:
            print(_planned(uniform_hashes(rows, bits), radius, options.repeats, options.oracle), flush=True)
        return
    print(
        "bits radius   matches  every pair s  pairs/s (1e9)  portable s  planned s  faiss s  faiss / planned  annoy s"
    )
    for bits, radius in CASES:
        print(_compared(uniform_hashes(rows, bits), radius, options.repeats, options.oracle), flush=True)


def one_core() -> None:
    """Keep to one core, and what is started from here."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


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
    flat = ask(oracle, "flat", hashes, radius)
    found = len(flat["pairs"]) // 2  # from both sides
    if found != len(matches.i):
        sys.exit(f"faiss finds {found:,} matches, we find {len(matches.i):,}")
    line = f"{line} {flat['seconds']:8.2f} {flat['seconds'] / planned:16.1f}"
    near = ask(oracle, "annoy", hashes, radius)
    recall = len(np.unique(np.sort(near["pairs"], axis=1), axis=0)) / max(1, len(matches.i))
    return f"{line} {near['seconds']:8.2f} (recall {recall:.3f})   {flat['version']}, {near['version']}"


def _planned(hashes: np.ndarray, radius: int, repeats: int, oracle: str | None) -> str:
    joins.self_join(hashes[:100_000], radius)  # compile
    plan = joins.plan(hashes, radius)
    seconds = _best(lambda: joins.self_join(hashes, radius), repeats)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    most, times = GOALS.get((plan.bits, radius), (None, None))
    goal = f" (goal {most:g}: {_met(seconds <= most)})" if most and len(hashes) == 1_000_000 else ""
    lines = [str(plan), f"    took {seconds:.2f} s with its planning{goal}"]
    met = f" (goal {GOAL_BYTES >> 20:,}: {_met(memory < GOAL_BYTES)})" if len(hashes) == 1_000_000 else ""
    lines.append(f"    peak memory of this process so far {memory >> 20:,} MB{met}")
    if oracle:
        flat = ask(oracle, "flat", hashes, radius, QUERIES)
        ratio = flat["seconds"] / seconds
        goal = f" (goal {times:g}: {_met(ratio >= times)})" if times and len(hashes) == 1_000_000 else ""
        said = f"{flat['version']} IndexBinaryFlat.range_search ~{flat['seconds']:,.0f} s from {flat['queries']:,} rows"
        lines.append(f"    {said}: {ratio:,.0f} times ours{goal}")
    return "\n".join(lines)


def _stage(hashes: np.ndarray, radius: int, workers: list[int]) -> None:
    """`neardup join` over the same output with each number of workers, one thread each."""
    print("workers  join stage s  preparing s  tiles s  tasks     pairs  peak memory MB, all processes")
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        write_output(Path(folder) / "hashed", hashes)
        for count in workers:
            stage, peak = _join_output(Path(folder), radius, count)
            seconds.append(stage["seconds_of_tiles"])
            print(
                f"{count:7} {stage['seconds']:13.1f} {stage['seconds_preparing']:12.1f} {seconds[-1]:8.1f}"
                f" {stage['tiles']:6} {stage['pairs']:9,} {peak >> 20:15,}",
                flush=True,
            )
    if len(workers) > 1:
        speedup = seconds[0] / seconds[-1]
        goal = f" (goal {GOAL_SPEEDUP:g}: {_met(speedup >= GOAL_SPEEDUP)})" if workers == [1, 2] else ""
        print(f"tiles, {workers[0]} workers to {workers[-1]}: {speedup:.2f} times as fast{goal}")


def _join_output(folder: Path, radius: int, workers: int) -> tuple[dict, int]:
    """The facts of the join stage, and the most memory that all its processes took together, shared pages once."""
    output, cluster = folder / f"joined-{workers}", folder / "cluster.yaml"
    shutil.copytree(folder / "hashed", output, copy_function=os.link)
    cluster.write_text(f"workers: {workers}\n")
    command = [sys.executable, "-m", "neardup", "join", str(output), "--hasher", "pdq", "--radius-bits", str(radius)]
    run = subprocess.Popen([*command, "--cluster", str(cluster), "--json"], stdout=subprocess.PIPE, text=True)
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            peak[0] = max(peak[0], _memory(run.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    told, _ = run.communicate()
    ended.set()
    watcher.join()
    shutil.rmtree(output)
    if run.returncode:
        sys.exit("neardup join failed; its message is above")
    return json.loads(told)["stages"]["join pdq"], peak[0]


def _memory(pid: int) -> int:
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def _met(goal: bool) -> str:
    return "met" if goal else "MISSED"


def uniform_hashes(rows: int, bits: int) -> np.ndarray:
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
        start = time.process_time()
        job()
        seconds.append(time.process_time() - start)
    return min(seconds)


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'unknown processor'} ({binding.get_host_cpu_name()})"


if __name__ == "__main__":
    main()
