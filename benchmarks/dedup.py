"""How fast is a whole run, what does the killable child cost, and how much memory do its processes take?

    python benchmarks/dedup.py CORPUS [--rounds 5] [--copies 5]

Runs `neardup hash` over several copies of the corpus with and without the child in turn, on one worker, and prints the
ratio pair by pair, so that a machine whose speed drifts does not matter; then `neardup dedup` over the corpus on a
local cluster with the memory of each of its processes.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version

import psutil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", help="folders of images")
    parser.add_argument("--copies", type=int, default=5, help="copies of the corpus in a paired run")
    parser.add_argument("--rounds", type=int, default=5, help="paired runs")
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},",
        end=" ",
    )
    print(
        ", ".join(f"{name} {version(name)}" for name in ("neardup", "numpy", "opencv-python-headless", "distributed"))
    )
    with tempfile.TemporaryDirectory() as folder:
        for copy in range(arguments.copies):
            for number, one in enumerate(arguments.corpus):
                shutil.copytree(one, f"{folder}/{copy}-{number}")
        child_cost([folder], arguments.rounds)
    whole_run(arguments.corpus)


def child_cost(corpus: list[str], rounds: int) -> None:
    """Seconds of runs on one worker, with and without the child: of the hash stage, and of processor time in all."""
    pairs = [(run_hash(corpus), run_hash(corpus, "--no-child")) for _ in range(rounds + 1)]
    pairs = pairs[1:]  # the first round warms the page cache
    print("| one worker, phash 16 | in the child | in the worker (`--no-child`) | ratio, pair by pair: median (all) |")
    print("|---|---|---|---|")
    for kind, name in enumerate(("seconds of the hash stage", "processor seconds of the whole run")):
        ratios = [child[kind] / inline[kind] for child, inline in pairs]
        child, inline = (statistics.median(pair[side][kind] for pair in pairs) for side in (0, 1))
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"| {name} | {child:.2f} | {inline:.2f} | {statistics.median(ratios):.3f} ({each}) |")


def run_hash(corpus: list[str], *more: str) -> tuple[float, float]:
    """Seconds of one run's hash stage, and the processor time of all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = neardup("hash", *corpus, "-o", f"{folder}/out", "--cluster", "none", "--json", *more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(json.loads(done.stdout)["stages"]["hash"]["seconds"]), processor


def whole_run(corpus: list[str]) -> None:
    """One `neardup dedup` on a local cluster: items per second, errors, and the peak memory of each kind of process."""
    peaks: dict[str, int] = {}
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(peaks, over))
    with tempfile.TemporaryDirectory() as folder:
        watcher.start()
        done = neardup("dedup", *corpus, "-o", f"{folder}/out", "--json")
        over.set()
        watcher.join()
    summary = json.loads(done.stdout)
    stages = summary["stages"]
    print(
        f"\n`neardup dedup`: {summary['listed']} items, {summary['decoded']} decoded, failed {summary['failed']},",
        end=" ",
    )
    print(f"{summary['pairs']} pairs, {summary['groups']} groups, {summary['seconds']} s in all")
    print(f"hash stage: {stages['hash']['items'] / stages['hash']['seconds']:.0f} items/s,", end=" ")
    print(f"{stages['hash']['bytes_read'] / stages['hash']['seconds'] / 1e6:.1f} MB/s on {os.cpu_count()} cores")
    print("peak resident memory:", ", ".join(f"{kind} {peak / 1e6:.0f} MB" for kind, peak in sorted(peaks.items())))


def watch(peaks: dict[str, int], over: threading.Event) -> None:
    """Keep the largest resident set seen of each kind of process below this one."""
    while not over.is_set():
        for process in psutil.Process().children(recursive=True):
            try:
                command = " ".join(process.cmdline())
                size = process.memory_info().rss
            except psutil.Error:
                continue
            kind = (
                "child"
                if "neardup.child" in command
                else "worker"
                if "spawn_main" in command
                else "driver"
                if " -m neardup" in command
                else "other"
            )
            peaks[kind] = max(peaks.get(kind, 0), size)
        time.sleep(0.02)


def neardup(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "neardup", *arguments], check=True, capture_output=True, text=True)


if __name__ == "__main__":
    main()
