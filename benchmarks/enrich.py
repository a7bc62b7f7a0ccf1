"""How long and how much memory does `neardup enrich` take for a large table that names few media?

    python benchmarks/enrich.py                          # 1,000,000 rows that name 2,000 uris, made of samples/
    python benchmarks/enrich.py --rows 10000 --uris 50 FOLDER

Makes a table with a column of each usual kind, enriches it, and checks with DuckDB that rows, their order and the old
columns are the same. Prints the peak resident memory of the command and of its workers, and, as a yardstick from the
same run, how long Arrow alone takes to read the table and write it again.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
ROW_GROUP = 100_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", default=ROOT / "samples", type=Path, help="where the photos are")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--uris", type=int, default=2_000, help="different ones; photos are linked until there are")
    arguments.add_argument("--hasher", default="phash:hash_size=16@0.2")
    arguments.add_argument("--cluster", default="none", help="none: all in one process and its child")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uris = link(given.folder, folder / "photos", given.uris)
        table = make_table(folder / "table.parquet", uris, given.rows)
        begun = time.perf_counter()
        copy(table, folder / "copy.parquet")
        copied_s = time.perf_counter() - begun
        command = ["enrich", str(table), "--uri-column", "url", "-o", str(folder / "out"), "--hasher", given.hasher]
        first = enrich([*command, "--cluster", given.cluster])
        again = enrich([*command, "--cluster", given.cluster])
        shutil.rmtree(folder / "out" / "enriched")
        third = enrich([*command, "--cluster", given.cluster])
        different = difference(table, folder / "out" / "enriched" / table.name)
        size = table.stat().st_size
    versions = f"Python {platform.python_version()}, pyarrow {pa.__version__}, DuckDB {duckdb.__version__}"
    print(f"{versions}, {os.cpu_count()} cores")
    print(f"{given.rows:,} rows, {len(uris):,} uris, {size / 1e6:.0f} MB; Arrow alone copies it in {copied_s:.1f} s")
    for title, (summary, seconds, peak) in {"all": first, "nothing new": again, "enriching alone": third}.items():
        stages = ", ".join(f"{stage} {facts['seconds']:.1f}" for stage, facts in summary["stages"].items())
        print(f"{title}: {seconds:.1f} s in all ({stages}), peak memory {', '.join(peak)}")
    print(f"enriching / copying: {third[0]['stages']['enrich']['seconds'] / copied_s:.1f}")
    print(f"rows of one that the other has not, EXCEPT ALL both ways, with their number: {different}")


def link(source: Path, folder: Path, count: int) -> list[str]:
    """So many different uris of photos, by links."""
    suffixes = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tiff"}
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes)
    folder.mkdir()
    names = []
    for number, photo in zip(range(count), itertools.cycle(photos), strict=False):
        names.append(f"photos/{number:05d}{photo.suffix}")
        (folder / f"{number:05d}{photo.suffix}").symlink_to(photo.resolve())
    return names


def make_table(path: Path, uris: list[str], rows: int) -> Path:
    random = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, ROW_GROUP):
        count = min(ROW_GROUP, rows - start)
        numbers = np.arange(start, start + count)
        chosen = random.integers(0, len(uris), count)
        table = pa.table(
            {
                "id": numbers,
                "url": pa.array(uris).take(pa.array(chosen)),
                "caption": [f"photo of {place}, a caption of the usual length" for place in chosen],
                "score": random.random(count, np.float32),
                "taken": pa.array(numbers * 1_000_003, pa.timestamp("us", "UTC")),
                "tags": pa.array([["a", f"t{place % 9}"] for place in chosen]),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer
    writer.close()
    return path


def copy(old: Path, new: Path) -> None:
    with pq.ParquetFile(old) as file, pq.ParquetWriter(new, file.schema_arrow) as writer:
        for number in range(file.num_row_groups):
            writer.write_table(file.read_row_group(number))


def enrich(command: list[str]) -> tuple[dict, float, list[str]]:
    """The summary of a run, its seconds, and the peak resident memory of each kind of process."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "neardup", *command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    peaks: dict[str, int] = {}
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, peaks, over))
    watcher.start()
    printed, _ = process.communicate()
    over.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    seconds = time.perf_counter() - begun
    return json.loads(printed), seconds, [f"{kind} {peak / 1e6:.0f} MB" for kind, peak in sorted(peaks.items())]


def watch(pid: int, peaks: dict[str, int], over: threading.Event) -> None:
    while not over.wait(0.02):
        try:
            driver = psutil.Process(pid)
            found = [(driver, "command"), *((one, "processes below it") for one in driver.children(recursive=True))]
            for one, kind in found:
                peaks[kind] = max(peaks.get(kind, 0), one.memory_info().rss)
        except psutil.Error:
            continue


def difference(old: Path, new: Path) -> list[int]:
    """How many numbered rows of each file the other has not, looking at the old columns."""
    names = ", ".join(pq.read_schema(old).names)
    select = f"SELECT file_row_number, {names} FROM read_parquet('{{}}', file_row_number=true)"
    a, b = select.format(old), select.format(new)
    counts = [duckdb.sql(f"SELECT count(*) FROM ({x} EXCEPT ALL {y})").fetchall()[0][0] for x, y in ((a, b), (b, a))]
    return [int(count) for count in counts]


if __name__ == "__main__":
    main()
