"""What a join would do, without doing it: the same hashes, blocks, tiles and plans that `joining` would use."""

import time
from typing import Any, NamedTuple, cast

import numpy as np

from neardup import joins, storage
from neardup.joins.real import BLOCK_ROWS, Metric, self_join_real_chunks, tile_count
from neardup.stages import joining, tiles
from neardup.stages.live import WORK, Maker

_PROCESS_BYTES = 200 << 20  # of a worker or the driver with its libraries


class TilePlan(NamedTuple):
    """One tile: how its blocks are compared, among how many tasks it is shared, and what it should cost."""

    left_rows: int
    right_rows: int
    plan: joins.Plan | None  # None for real-valued hashes, which are all compared with all
    tasks: int
    seconds: float  # on one core
    bytes_read: int
    memory_bytes: int  # of each worker


class Outline(NamedTuple):
    """A join before it is done."""

    rows: int
    left_out: int  # rows without a hash, or of too low quality
    distinct: int
    compared_before: int  # distinct hashes that an earlier join has compared with each other
    width_bits: int
    blocks: int
    hash_bytes: int  # of the parts of HASHES, read by the driver
    driver_bytes: int  # memory of the driver, about, without the matches
    tiles: list[TilePlan]


def outline(
    root: str, maker: Maker, radius: tiles.Radius, block_rows: int, min_quality: int = 0, max_neighbours: int = 0
) -> Outline:
    """What `joining.prepare` would make of the live hashes of one hasher. Reads them, writes nothing."""
    gathered = joining.gather(root, maker, radius, min_quality, max_neighbours)
    hashes = gathered.distinct.hashes[np.concatenate([np.flatnonzero(kind) for kind in gathered.kinds])]
    blocks = tiles.cut_blocks(f"{WORK}/plan", hashes.shape[1], gathered.kinds, block_rows)
    parts = [_tile(left, right, hashes, maker, radius) for left, right in joining.compared_blocks(blocks)]
    uris = gathered.hashed["uri"].nbytes
    return Outline(
        rows=len(gathered.hashed),
        left_out=gathered.left_out,
        distinct=len(hashes),
        compared_before=int(gathered.kinds[1].sum() + gathered.kinds[3].sum()),
        width_bits=maker.hasher.hash_length,
        blocks=sum(map(len, blocks)),
        hash_bytes=storage.total_size(root, storage.read_manifest(root).get(maker.folder, [])),
        driver_bytes=_PROCESS_BYTES + 2 * uris + len(gathered.hashed) * (80 + 2 * hashes.shape[1]) + 3 * hashes.nbytes,
        tiles=parts,
    )


def _tile(left: tiles.Block, right: tiles.Block, hashes: np.ndarray, maker: Maker, radius: tiles.Radius) -> TilePlan:
    plan = tiles.plan_tile(left, right, hashes, radius)
    rows = left.rows + (0 if left == right else right.rows)
    if plan is None:
        seconds = _real_seconds(hashes[left.start : left.start + left.rows], maker, radius) * right.rows / left.rows
        tasks, memory = 1, rows * 4 * maker.hasher.hash_length * 4
    else:
        tasks = tiles.shares_of(plan) if tiles.worth_a_plan(left, right) else 1
        seconds, memory = plan.seconds, joins.memory_bytes(rows, left.width)
    return TilePlan(left.rows, right.rows, plan, tasks, seconds, tasks * rows * left.width, _PROCESS_BYTES + memory)


def _real_seconds(hashes: np.ndarray, maker: Maker, radius: tiles.Radius) -> float:
    """Seconds to join real-valued hashes with each other, from those of some of them."""
    if radius.metric in ("hamming", "custom") or len(hashes) == 0:
        return 0.0  # of a custom distance nobody knows
    some = hashes[:: max(1, len(hashes) // BLOCK_ROWS)][:BLOCK_ROWS]
    vectors = np.ascontiguousarray(some).view(maker.hasher.dtype).astype(np.float32)
    begun = time.perf_counter()
    for _found in self_join_real_chunks(vectors, radius.limit, cast("Metric", radius.metric)):
        pass
    return (time.perf_counter() - begun) * tile_count(len(hashes))


def as_json(one: Outline, workers: int) -> dict[str, Any]:
    """The outline as plain values, with sums over its tiles; `seconds` as so many workers would take, at the least."""
    core = sum(tile.seconds for tile in one.tiles)
    longest = max((tile.seconds / tile.tasks for tile in one.tiles), default=0.0)
    return {
        **{name: value for name, value in one._asdict().items() if name != "tiles"},
        "tiles": len(one.tiles),
        "tasks": sum(tile.tasks for tile in one.tiles),
        "bytes_read": one.hash_bytes + sum(tile.bytes_read for tile in one.tiles),
        "core_seconds": core,
        "workers": workers,
        "seconds": max(core / workers, longest),
        "worker_bytes": max((tile.memory_bytes for tile in one.tiles), default=0),
        "plans": [
            {
                "left_rows": tile.left_rows,
                "right_rows": tile.right_rows,
                "bands": [list(band) for band in tile.plan.bands] if tile.plan else None,
                "tasks": tile.tasks,
                "seconds": tile.seconds,
                "every_pair_seconds": tile.plan.every_pair_seconds if tile.plan else tile.seconds,
                "skew": tile.plan.skew if tile.plan else None,
                "why": why(tile),
            }
            for tile in one.tiles
        ],
    }


def why(tile: TilePlan) -> str:
    """Why a tile is compared as it is, in words."""
    if tile.plan is None:
        return "not bits: every pair, by matrix products or the hasher's own distance"
    if tile.plan.bands != joins.EVERY_PAIR:
        return f"{tile.plan.how()}: faster than every pair"
    few = tile.plan.skew == 1.0  # not looked at
    return f"every pair: {'so few that planning would take as long' if few else 'no bands would be faster'}"
