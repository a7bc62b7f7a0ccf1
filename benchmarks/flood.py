"""The join of a corpus with floods beside the join of a clean one: seconds, rows written, hubs.

`python benchmarks/flood.py --items 1000000 --same 100000 --blanks 100000` writes two HASHES tables of 256-bit hashes,
uniform ones with planted neighbours; in the second, some share one hash and some are one blank picture with noise, all
near each other. Then it runs the stages of `neardup join` on each, in this process (its processor seconds are shown) or
in several (seconds).
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from neardup import tables
from neardup.hashers import parse
from neardup.stages import grouping, joining, live, pairing, tiles
from neardup.stages.tiles import Radius

PHASH = live.maker(parse("phash:hash_size=16"))
PLANTED = 0.1  # of the clean hashes have a neighbour


class Run(NamedTuple):
    """Seconds per stage, and what was written."""

    seconds: dict[str, float]
    rows: dict[str, int]


def main() -> None:
    """Run both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--same", type=int, default=100_000, help="items that share one hash")
    parser.add_argument("--blanks", type=int, default=100_000, help="items that are noisy blanks")
    parser.add_argument("--noise", type=float, default=0.03, help="share of the bits of a blank that differ")
    parser.add_argument("--radius", type=int, default=31, help="bits")
    parser.add_argument("--max-neighbours", type=int, default=1024)
    parser.add_argument("--block-rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the tables go, instead of a temporary folder")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="flood-"))
    try:
        runs = {}
        for name, same, blanks in (("warm up", 0, 0), ("clean", 0, 0), ("flooded", args.same, args.blanks)):
            root = f"file://{folder.absolute()}/{name.replace(' ', '-')}"
            count = min(args.items, 20_000) if name == "warm up" else args.items
            write_tables(root, hashes(count, same, blanks, args.noise))
            with mapper(args.workers) as over:
                runs[name] = run(root, args, over)
            shutil.rmtree(folder / name.replace(" ", "-"))
        clean, flooded = runs["clean"], runs["flooded"]
        print(
            f"{args.items:,} items, radius {args.radius} bits, {args.workers} worker(s); flooded: {args.same:,} share"
        )
        print(f"one hash, {args.blanks:,} are noisy blanks; a hub has more than {args.max_neighbours:,} neighbours\n")
        for name in clean.seconds:
            print(f"{name:>12} {clean.seconds[name]:9.2f} s {flooded.seconds[name]:9.2f} s")
        total = [sum(one.seconds.values()) for one in (clean, flooded)]
        print(f"{'all':>12} {total[0]:9.2f} s {total[1]:9.2f} s   {total[1] / total[0]:.2f} times\n")
        for name in clean.rows:
            print(f"{name:>12} {clean.rows[name]:11,} {flooded.rows[name]:11,}")
        print(f"{'peak memory':>12} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB (of both)")
    finally:
        if not args.folder:
            shutil.rmtree(folder)


def hashes(count: int, same: int, blanks: int, noise: float) -> np.ndarray:
    """Uniform hashes with planted neighbours, packed (count, 32), some of them copies, some noisy blanks."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 256, (count, 32), np.uint8)
    planted = int(count * PLANTED) // 2
    found[-planted:] = found[:planted] ^ np.packbits(rng.random((planted, 256)) < 0.06, axis=1)
    place = rng.permutation(count)
    found[place[:same]] = found[place[0]]
    blank = rng.integers(0, 256, 32, np.uint8)
    for start in range(same, same + blanks, 100_000):
        some = place[start : min(start + 100_000, same + blanks)]
        found[some] = blank ^ np.packbits(rng.random((len(some), 256)) < noise, axis=1)
    return found


def write_tables(root: str, found: np.ndarray) -> None:
    """An output with these HASHES, and MEDIA."""
    count = len(found)
    uris = pa.array([f"s3://bucket/{number % 1000:03d}/{number:09d}.jpg" for number in range(count)])
    packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, pa.py_buffer(found.tobytes())])
    given = {"uri": uris, "hash": packed}
    fixed: dict[str, Any] = {
        "version": "1",
        "variant": "r0",
        "frame_index": 0,
        "quality": 100,
        "kind": "image",
        "size": 1,
    }
    manifest = {}
    for name, schema in (("media", tables.MEDIA), (PHASH.folder, tables.hashes_schema(pa.binary(32)))):
        columns = [
            given[one.name] if one.name in given else pa.repeat(pa.scalar(fixed.get(one.name), one.type), count)
            for one in schema
        ]
        manifest[name] = tables.write_chunks(
            root, name, pa.table(columns, schema=schema), {"hasher": PHASH.stamp, "decode": ""}
        )
    live.commit(root, manifest, "")


Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


@contextmanager
def mapper(workers: int) -> Iterator[Mapper]:
    """What runs tasks."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        yield pool.map


def run(root: str, args: argparse.Namespace, over: Mapper) -> Run:
    """The stages of `neardup join`, one after the other."""
    seconds: dict[str, float] = {}
    clock = time.process_time if args.workers == 1 else time.perf_counter  # others may be using the machine
    begun = clock()

    def done(stage: str) -> None:
        nonlocal begun
        seconds[stage] = clock() - begun
        begun = clock()

    prepared = joining.prepare(root, PHASH, Radius("hamming", args.radius), args.block_rows, 0, args.max_neighbours)
    done("prepare")
    matches = sum(tile.matches for tile in over(tiles.join_tile, prepared.tasks))
    done("tiles")
    near = joining.all_matches(root, prepared)
    done("matches")
    written = pairing.write_pairs(root, PHASH, prepared, near, pairing.Rules())
    done("pairs")
    parts = joining.write_joined(root, PHASH, prepared, near)
    live.commit(root, pairing.with_pairs(root, {**live.storage.read_manifest(root), **parts}, PHASH, written), "join-")
    done("commit")
    grouped = grouping.write_groups(root, grouping.read_policy())
    done("groups")
    rows = {
        "hashes": len(prepared.distinct.hashes),
        "of tiles": matches,
        "NEAR": len(near.matches.i),
        "PAIRS": written.pair_rows,
        "HUBS": written.hub_rows,
        "GROUPS": grouped.items,
    }
    return Run(seconds, rows)


if __name__ == "__main__":
    main()
