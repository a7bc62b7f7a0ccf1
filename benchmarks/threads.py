"""Does a cluster of workers with several threads give one table? Many runs over one folder.

    python benchmarks/threads.py FOLDER [--runs 20] [--workers 2] [--threads 3]

Starts a scheduler and workers as people start them, runs `dedup`, and prints how many different tables came out.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
from distributed import Client

from neardup import storage
from neardup.config import DedupJob
from neardup_jobs.dedup import run_dedup


def main() -> None:
    """Print a line per run, and at the end the number of different tables."""
    arguments = argparse.ArgumentParser(description="Many runs on workers with several threads: one table?")
    arguments.add_argument("folder", type=Path)
    for name, number in {"runs": 20, "workers": 2, "threads": 3}.items():
        arguments.add_argument(f"--{name}", type=int, default=number)
    given = arguments.parse_args()
    digests: Counter[str] = Counter()
    with cluster(given.workers, given.threads) as address:
        for number in range(given.runs):
            with tempfile.TemporaryDirectory(prefix="neardup-threads-") as folder:
                begun = time.perf_counter()
                summary = run_dedup(DedupJob(inputs=[str(given.folder)], output=folder, cluster=address), "none")
                digest = digest_of(Path(folder))
            digests[digest] += 1
            counts = f"{summary['decoded']:,} items, pairs {summary['pairs']}, failed {summary['failed']}"
            print(f"run {number + 1}: {time.perf_counter() - begun:.1f} s, {counts}, {digest[:12]}", flush=True)
    print(f"{given.runs} runs on {given.workers} workers x {given.threads} threads: {len(digests)} different tables")
    raise SystemExit(len(digests) > 1)


@contextmanager
def cluster(workers: int, threads: int) -> Iterator[str]:
    """The address of a scheduler with so many workers, all of them processes on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    common = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [["dask_scheduler", "--port", address.rpartition(":")[2], *common]]
    commands += [["dask_worker", address, "--nworkers", "1", "--nthreads", str(threads), *common]] * workers
    with ExitStack() as started:
        for module, *arguments in commands:
            command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments]
            process = started.enter_context(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            started.callback(process.terminate)
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address


def digest_of(output: Path) -> str:
    """A digest of all live rows of all tables, in whatever order and parts they lie."""
    digest = sha256()
    for table, parts in sorted(storage.read_manifest(storage.absolute(str(output))).items()):
        rows = [str(row) for part in parts for row in pq.ParquetFile(output / part).read().to_pylist()]
        digest.update("\n".join([table, *sorted(rows)]).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
