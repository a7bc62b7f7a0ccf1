"""What does a nightly run cost, and how much memory does a long listing take?

    python benchmarks/incremental.py [--items 10000] [--new 100] [--listing 1000000] [--sequences 0] [--interruptions 0]

Hashes a folder of photos, adds some, and hashes again: the second run's share of the first one's hashing time, with the
rows held against those of a fresh run. Then lists and settles so many rows of a synthetic list with their MEDIA rows in
place, in memory and in buckets on disk: the peak memory per million rows. With --sequences N, the property test of
random changes runs over N sequences. With --interruptions N, N times a folder changes, a run of `dedup` on a local
cluster is killed as a whole after a random time, and another one goes on: its rows are held against a fresh run's.
"""

import argparse
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]
from store import hashed, make_photos  # noqa: E402

from conftest import all_rows  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--listing", type=int, default=1_000_000, help="rows of the listing; 0: leave it out")
    parser.add_argument("--sequences", type=int, default=0, help="of random changes; 0: leave them out")
    parser.add_argument("--interruptions", type=int, default=0, help="of runs, at random moments; 0: leave them out")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, neardup {version('neardup')}, pyarrow {version('pyarrow')}")
    if arguments.items:
        with tempfile.TemporaryDirectory() as scratch:
            nightly(Path(scratch), arguments.items, arguments.new)
    if arguments.interruptions:
        with tempfile.TemporaryDirectory() as scratch:
            interrupted(Path(scratch), arguments.interruptions)
    if arguments.listing:
        for limit in (10 * arguments.listing, 100_000):
            listing(arguments.listing, limit)
    if arguments.sequences:
        test = "tests/jobs/test_dedup.py::test_an_incremental_run_equals_a_fresh_one"
        environment = {**os.environ, "NEARDUP_SEQUENCES": str(arguments.sequences)}
        command = [sys.executable, "-m", "pytest", "-q", "--timeout=7200", test]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        print(f"{arguments.sequences} random sequences: {done.stdout.splitlines()[-1]}")


def nightly(folder: Path, items: int, new: int) -> None:
    make_photos(folder / "all", items + new)
    (folder / "photos").mkdir()
    paths = sorted((folder / "all").iterdir())
    for path in paths[:items]:
        path.rename(folder / "photos" / path.name)
    first = hashed(str(folder / "photos"), str(folder / "out"))
    for path in paths[items:]:
        path.rename(folder / "photos" / path.name)
    second = hashed(str(folder / "photos"), str(folder / "out"))
    hashed(str(folder / "photos"), str(folder / "fresh"))
    seconds = [one["stages"]["hash"]["seconds"] for one in (first, second)]
    same = all_rows(folder / "out") == all_rows(folder / "fresh")
    print(
        f"{items:,} items, then {new} new: {second['stages']['hash']['items']} hashed, {seconds[1] / seconds[0]:.1%} of"
    )
    print(f"the first run's hashing time; rows equal those of a fresh run: {same}")


def interrupted(folder: Path, times: int) -> None:
    """Kill runs at random moments, `times` times."""
    make_photos(folder / "all", 600)
    (folder / "photos").mkdir()
    spare = sorted((folder / "all").iterdir())
    chance = random.Random(7)
    for path in spare[:300]:
        shutil.copy(path, folder / "photos" / path.name)
    usual_s = timed_dedup(folder / "photos", folder / "warm", None)
    equal = in_time = 0
    for _ in range(times):
        present = sorted((folder / "photos").iterdir())
        for path in chance.sample(present, 20):
            path.unlink()
        for path in chance.sample(spare, 60):
            shutil.copy(path, folder / "photos" / path.name)
        (folder / "photos" / "changed.jpg").write_bytes(chance.choice(spare).read_bytes())
        after_s = chance.uniform(0.3, usual_s)
        in_time += timed_dedup(folder / "photos", folder / "out", after_s) >= after_s
        timed_dedup(folder / "photos", folder / "out", None)
        shutil.rmtree(folder / "fresh", ignore_errors=True)
        timed_dedup(folder / "photos", folder / "fresh", None)
        equal += all_rows(folder / "out") == all_rows(folder / "fresh")
    print(f"{times} runs killed after 0.3 to {usual_s:.1f} s, {in_time} of them before they were done:", end=" ")
    print(f"{equal} times the next run gave the rows of a fresh one")


def timed_dedup(photos: Path, output: Path, kill_after_s: float | None) -> float:
    """Seconds of a run on a local cluster; killed with all its processes if it takes longer than allowed."""
    command = [sys.executable, "-m", "neardup", "dedup", str(photos), "-o", str(output), "--set", "slices.items=20"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        if code := process.wait(kill_after_s):
            raise RuntimeError(f"{' '.join(command)} ended with {code}")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return time.perf_counter() - begun


def listing(rows: int, limit: int) -> None:
    """The peak memory of listing and settling, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--one-listing", str(rows), str(limit)], stdout=subprocess.PIPE
    )
    watched, peak = psutil.Process(process.pid), 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.Error:
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = process.communicate()[0].decode().split()
    watcher.join()
    over = peak - int(said[0])
    where = "in memory" if limit > rows else "in buckets on disk"
    print(f"{rows:,} rows {where}: {over / rows * 1e6 / (1 << 20):,.0f} MiB per million over an idle process,", end=" ")
    print(f"{float(said[1]):.0f} s to list, {float(said[2]):.0f} s to find what is done and to settle")


def one_listing(rows: int, limit: int) -> None:
    """List synthetic objects, write their MEDIA and hash rows, and settle; prints bytes before and seconds."""
    import datetime

    import pyarrow as pa

    from neardup import storage, tables
    from neardup.hashers import parse
    from neardup.stages import hashing, live
    from neardup.stages import listing as stage

    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    storage.list_media = lambda *_: (  # type: ignore[assignment]
        storage.Listed(f"s3://bucket/folder-{n % 1000:04d}/{n:09d}.jpg", "image", n, moment, f"{n:032x}")
        for n in range(rows)
    )
    maker = live.maker(parse("phash"))
    options = hashing.HashingOptions()
    before = psutil.Process().memory_info().rss
    begun = time.perf_counter()
    found = stage.list_inputs(["x"], stage.InputOptions(rows_in_memory=limit))
    listed = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as scratch:
        root = f"file://{scratch}/out"
        ways = options.ways
        made_by = {"decode": ways.decode, "sampling": None, "limits": ways.limits, "versions": {}}
        number = 0
        names: dict[str, list[str]] = {"media": [], maker.folder: []}
        for bucket in found.buckets():
            for start in range(0, len(bucket), 50_000):
                part = bucket.slice(start, 50_000).select(tables.LISTING.names)
                media = [part[name] if name in part.column_names else pa.nulls(len(part), tables.MEDIA.field(name).type)
                         for name in tables.MEDIA.names]  # fmt: skip
                schema = tables.hashes_schema(hashing.hash_type(maker.hasher))
                fixed = {"uri": part["uri"], "version": part["version"], "variant": ["r0"] * len(part)}
                fixed["frame_index"] = [0] * len(part)
                hashes = [fixed.get(field.name, pa.nulls(len(part), field.type)) for field in schema]
                name = f"part-{number:024x}.parquet"
                tables.write_part(
                    root, f"media/{name}", pa.table(media, schema=tables.MEDIA), {**made_by, "folders": []}
                )
                made = {**made_by, "hasher": maker.stamp}
                tables.write_part(root, f"{maker.folder}/{name}", pa.table(hashes, schema=schema), made)
                names["media"].append(f"media/{name}")
                names[maker.folder].append(f"{maker.folder}/{name}")
                number += 1
        storage.commit_manifest(root, names)
        del bucket, part, media, hashes, fixed
        begun = time.perf_counter()
        usable = live.usable_parts(root, [maker], ways)
        cutting = live.Cutting(500, 1 << 29, 1 << 26)
        assert not any(todo.slices for todo in live.todo(root, found, usable, [maker], cutting))
        live.settle(root, found, usable, [maker], {})
        print(before, listed, time.perf_counter() - begun)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-listing"]:
        one_listing(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
