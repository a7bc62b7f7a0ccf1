"""What a join of 10 million to a billion hashes takes, by the planner's own cost model; writes docs/scale.md.

    python benchmarks/scale.py [--check 1000000 10000000] [--tiles 50000] [--memory-gb 4 16] [--write]

The costs of the kernels and of a scheduled task are measured here, in this run; the model is checked against joins of
the sizes after --check, and its figures are multiplied by what the largest of them took longer than modelled.
"""

import argparse
import math
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from join import processor, uniform_hashes

from neardup import joins, storage
from neardup.joins import plans
from neardup.joins.sample import take_sample
from neardup.joins.words import as_words
from neardup.run import workers
from neardup.stages import tiles as tiling

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
ROWS = (10_000_000, 100_000_000, 1_000_000_000)
RADII = (31, 51)
BITS, WIDTH = 256, 32
GOAL_HOURS = 50  # a billion at 31 bits, in the better layout
PROCESS_BYTES = 200 << 20
SHUFFLED_BYTES = WIDTH + 8  # of a row that is moved into the bucket of a band: its hash and its number
HEAD = """# How far the join goes

Written by `python benchmarks/scale.py --write`. Nothing here was run at these sizes: it is the planner's cost model,
with the costs of the kernels and of a scheduled task measured on one machine, checked against what that machine can
hold.

"""


class Layout(NamedTuple):
    """How a join of so many rows is cut, and what that takes."""

    name: str
    core_s: float
    tiles: int
    tasks: int
    bytes_read: float
    worker_bytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=int, nargs="*", default=[1_000_000, 10_000_000], help="sizes that are joined")
    parser.add_argument("--tiles", type=int, default=50_000, help="empty tiles that the scheduler is given")
    parser.add_argument("--memory-gb", type=float, nargs="+", default=[4, 16, 64], help="memory of a worker")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    lines = [
        f"{processor()}, {platform.system()}, Python {platform.python_version()}, neardup {version('neardup')}",
        "",
    ]
    task_s = scheduled_seconds(options.tiles)
    lines += [
        f"{options.tiles:,} empty tiles on a scheduler with two worker processes: {task_s * options.tiles:.1f} s, "
        f"{task_s * 1e3:.2f} ms each.",
        "",
    ]
    hashes = uniform_hashes(max(options.check, default=1_000_000), BITS)
    byte_s = moved_seconds()
    lines += [f"Work files are written and read again at {1e-6 / byte_s:,.0f} MB per processor second.", ""]
    for radius in RADII:
        told, costs, factor = checked(hashes, radius, options.check if radius == RADII[0] else options.check[:1])
        sample = take_sample(as_words(hashes), as_words(hashes), BITS)
        lines += [f"## {BITS} bits at radius {radius}", "", *told, ""]
        lines += ["| hashes | layout | core-hours | tiles | tasks | read | memory a worker | scheduler |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for rows in ROWS:
            models = [blocks(rows, radius, sample, costs, gb * 1e9) for gb in options.memory_gb]
            models.append(
                buckets(rows, radius, sample, costs, options.memory_gb[len(options.memory_gb) // 2] * 1e9, byte_s)
            )
            lines += [row(rows, model, factor, task_s) for model in models]
            if (rows, radius) == (ROWS[-1], RADII[0]):
                built = min(one.core_s for one in models[:-1]) * factor / 3600
                not_built = models[-1].core_s * factor / 3600
                met = "met" if built <= GOAL_HOURS else "MISSED"
                goal = (
                    f"A billion at {radius} bits, goal {GOAL_HOURS} core-hours: {built:.0f} by blocks on the largest "
                    f"of these workers ({met}), {not_built:.0f} by buckets."
                )
        lines.append("")
    text = "\n".join([*lines, goal, "", *LEGEND])
    print(text)
    if options.write:
        PAGE.write_text(HEAD + text + "\n")


LEGEND = [
    """*Blocks*: what `neardup join` does: blocks of as many hashes as let two of them fit a worker of that memory
(`block_rows`), every block with every other, a tile shared among tasks by the bands of its plan. *Buckets*: not built:
the rows are moved once per band into files by the first bits of their key there, and a task joins one file with itself
or with one whose bits differ within the band's radius. The bands are planned for all rows at once, so the work grows
more slowly than the number of pairs; the core-hours include moving and reading the files.

What holds a run back before that is the process that starts it: it gathers all hashes and their uris, about 230 bytes a
hash, 2.5 GB for 10 million (ARCHITECTURE.md, "Where it stops holding").

*Scheduler*: the tasks times the measured time of an empty one, on one scheduler; it runs beside the work."""
]


def scheduled_seconds(tiles: int) -> float:
    """Seconds per task of so many that do nothing, through the mapper that runs real tiles."""
    block = tiling.Block("work/join-0/block-000000000000.bin", 0, 0, WIDTH)
    radius = tiling.Radius("hamming", RADII[0])
    task = tiling.JoinTask("file:///nowhere", "work/join-0/tile.parquet", "pdq", block, block, radius)
    with workers({"workers": 2}) as pool:
        for _done in pool.mapper(nothing, [task] * 100):
            pass
        begun = time.perf_counter()
        for _done in pool.mapper(nothing, [task] * tiles):
            pass
        return (time.perf_counter() - begun) / tiles


def nothing(_task: tiling.JoinTask) -> tiling.Tile:
    """An empty tile."""
    return tiling.Tile(0, 0)


def moved_seconds() -> float:
    """Seconds of the processor to write one byte of a work file and to read it again."""
    data = np.random.default_rng(0).bytes(256 << 20)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        storage.write(storage.absolute(folder), "work.bin", data)
        storage.read(storage.absolute(folder), "work.bin")
        return (time.process_time() - begun) / len(data)


def checked(hashes: np.ndarray, radius: int, sizes: list[int]) -> tuple[list[str], plans.Costs, float]:
    """What joins of these sizes take beside the model, the costs, and by how much to correct it."""
    words = as_words(hashes)
    costs = plans.measure(words[:1_000_000], take_sample(words, words, BITS), radius)
    lines, factor = [], 1.0
    for size in sizes:
        some = hashes[:size]
        sample = take_sample(words[:size], words[:size], BITS)
        plan = plans.fastest((size, size), True, sample, radius, costs)
        joins.concatenated(joins.self_join_chunks(some[:2000], radius, bands=plan.bands))  # compile
        begun = time.process_time()
        count = sum(len(found.i) for found in joins.self_join_chunks(some, radius, bands=plan.bands))
        seconds = time.process_time() - begun
        factor = seconds / plan.seconds
        lines.append(
            f"* {size:,} joined: {seconds:.1f} processor seconds ({count:,} matches), model {plan.seconds:.1f} s: "
            f"{plan.how()}"
        )
    if lines:
        lines.append(f"* figures below are the model's, times {factor:.2f}")
    return lines, costs, factor


def blocks(rows: int, radius: int, sample: plans.Sample, costs: plans.Costs, memory: float) -> Layout:
    """Blocks as large as two of them fit the memory."""
    per_row = (joins.memory_bytes(2_000_000, WIDTH) - joins.memory_bytes(1_000_000, WIDTH)) / 1e6
    fixed = PROCESS_BYTES + joins.memory_bytes(0, WIDTH)
    most = int((memory - fixed) / per_row / (1 if rows * per_row + fixed <= memory else 2))
    count = -(-rows // most)
    size = -(-rows // count)
    own = plans.fastest((size, size), True, sample, radius, costs)
    across = plans.fastest((size, size), False, sample, radius, costs)
    others = count * (count - 1) // 2
    shares, cross_shares = tiling.shares_of(own), tiling.shares_of(across)
    tasks = count * shares + others * cross_shares
    read = (count * shares + 2 * others * cross_shares) * size * WIDTH
    return Layout(
        f"{count:,} blocks of {size / 1e6:.0f}M, workers of {memory / 1e9:g} GB",
        count * own.seconds + others * across.seconds,
        count + others,
        tasks,
        read,
        fixed + size * per_row * (2 if count > 1 else 1),
    )


def buckets(rows: int, radius: int, sample: plans.Sample, costs: plans.Costs, memory: float, byte_s: float) -> Layout:
    """One plan for all rows; each band's rows in files by the first bits of their key."""
    plan = plans.fastest((rows, rows), True, sample, radius, costs)
    per_row = (joins.memory_bytes(2_000_000, WIDTH) - joins.memory_bytes(1_000_000, WIDTH)) / 1e6 + 8
    fixed = PROCESS_BYTES + joins.memory_bytes(0, WIDTH)
    cut = max(0, math.ceil(math.log2(2 * rows * per_row / (memory - fixed))))  # bits of the key that name a file
    tasks = read = 0
    for band in plan.bands:
        meeting = sum(math.comb(cut, flips) for flips in range(1, band.radius_bits + 1))
        joined = 2**cut + 2**cut * meeting // 2
        tasks += joined
        read += (2**cut + 2 * (2**cut * meeting // 2)) * rows / 2**cut * SHUFFLED_BYTES
    moved = 2 * rows * SHUFFLED_BYTES * len(plan.bands)
    return Layout(
        f"buckets of {rows / 2**cut / 1e6:.0f}M, {len(plan.bands)} bands",
        plan.seconds + (moved + read) / 2 * byte_s,
        tasks,
        tasks,
        moved / 2 + read,
        fixed + 2 * rows / 2**cut * per_row,
    )


def row(rows: int, one: Layout, factor: float, task_s: float) -> str:
    """A line of the table."""
    return (
        f"| {rows:,} | {one.name} | {one.core_s * factor / 3600:,.2f} | {one.tiles:,} | {one.tasks:,} | "
        f"{one.bytes_read / 1e9:,.0f} GB | {one.worker_bytes / 1e9:.1f} GB | {one.tasks * task_s:,.1f} s |"
    )


if __name__ == "__main__":
    main()
