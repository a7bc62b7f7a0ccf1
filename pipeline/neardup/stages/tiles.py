"""Distinct hashes in blocks, block against block as tiles: what a join and a match have in common.

A block is a work file of distinct hashes, a tile is a task that compares two of them; what it writes is its receipt.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa

from neardup import joins, storage, tables
from neardup.errors import RunError
from neardup.hashers import Hasher, parse
from neardup.joins import crowds
from neardup.joins.forests import Distances, bit_distances
from neardup.joins.real import (
    Metric,
    RealMatches,
    cross_join_real_chunks,
    pair_distances,
    self_join_real_chunks,
)

Found = joins.Matches | RealMatches
BLOCK_BYTES = 1 << 29  # of hashes per block at most
_WORTH_A_PLAN = 1 << 32  # pairs of hashes; fewer are compared within a second
_SHARES = 16  # tasks per planned tile at most
_SHARE_SECONDS = 0.3  # of a task, about: each reads and reorders its blocks anew
_ROWS = pa.schema([pa.field("row", pa.int64(), nullable=False)])


class Radius(NamedTuple):
    """How near hashes must be: differing bits, inclusive, for Hamming; else a distance that must be undercut."""

    metric: str
    limit: float

    def reaches(self, distance: np.ndarray) -> np.ndarray:
        """Which distances are within the radius."""
        return distance <= self.limit if self.metric == "hamming" else distance < self.limit


class Distinct(NamedTuple):
    """The distinct hashes of a join, in lexicographic order."""

    hashes: np.ndarray  # uint8 (sets, width)
    upright: np.ndarray  # bool (sets,): whether an upright row has it; two turned hashes need not be compared


class Block(NamedTuple):
    """Consecutive distinct hashes, written as one work file."""

    name: str
    start: int  # number of its first hash
    rows: int
    width: int  # bytes of a hash


class JoinTask(NamedTuple):
    """One tile: two blocks of distinct hashes (the same, or left before right) and the radius of a match."""

    root: str
    tile: str
    spec: str  # of the hasher
    left: Block
    right: Block
    radius: Radius
    bands: tuple[joins.Band, ...] = ()  # how the hashes are compared; left to the kernel when empty
    share: tuple[int, int] = (0, 1)  # (k, n): the k-th of n sets of these bands
    max_neighbours: int = 0  # two hashes that both have more need not be matched; 0 for no limit
    annoy: joins.Annoy | None = None  # not exact


class Tile(NamedTuple):
    """What one tile did, in numbers."""

    compared: int
    matches: int


def distinct(hashes: np.ndarray, upright: np.ndarray) -> tuple[Distinct, np.ndarray]:
    """The distinct hashes of rows, and for each row the number of its hash."""
    unique, sets = joins.distinct(hashes)
    has_upright = np.zeros(len(unique), bool)
    has_upright[sets[upright]] = True
    return Distinct(unique, has_upright), sets


def as_bytes(hashes: pa.ChunkedArray) -> np.ndarray:
    """A column of hashes as uint8 (n, width in bytes)."""
    column = hashes.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        values: np.ndarray = column.flatten().to_numpy().view(np.uint8)
        return values.reshape(len(column), 4 * column.type.list_size)
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    return data[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)


# --- planning ---------------------------------------------------------------------------------------------------------


def rows_per_block(block_rows: int, width: int) -> int:
    """How many hashes of so many bytes make a block: as many as wished, unless they are very long."""
    return min(block_rows, max(1, BLOCK_BYTES // width))


def cut_blocks(folder: str, width: int, kinds: Sequence[np.ndarray], block_rows: int) -> list[list[Block]]:
    """The blocks of at most `block_rows` hashes of each kind; they are numbered through all kinds."""
    most = rows_per_block(block_rows, width)
    blocks: list[list[Block]] = []
    begin = 0
    for kind in kinds:
        end = begin + int(kind.sum())
        names = [(start, f"{folder}/block-{start:012d}.bin") for start in range(begin, end, most)]
        blocks.append([Block(name, start, min(most, end - start), width) for start, name in names])
        begin = end
    return blocks


def write_blocks(root: str, blocks: Sequence[Sequence[Block]], hashes: np.ndarray) -> None:
    """Write the work files of all blocks; `hashes` are in their order."""
    for block in (block for kind in blocks for block in kind):
        storage.write(root, block.name, hashes[block.start : block.start + block.rows].tobytes())


def planned(pairs: Sequence[tuple[Block, Block]], alike: JoinTask, hashes: np.ndarray) -> list[JoinTask]:
    """The tasks of all tiles. A large tile is shared by several: each takes some of the bands that the planner chose.

    `alike` is a task for none of the pairs, whose `tile` is the folder of all; `hashes` are those of the blocks, in
    order. The plan is kept with the tiles, as an interrupted join must go on by the same one.
    """
    root, folder = alike.root, alike.tile
    kept = storage.read(root, f"{folder}/plan.json")
    plans: dict[str, tuple[int, list[list[int]]]] = json.loads(kept) if kept else {}
    tasks = []
    for left, right in pairs:
        tile = f"{folder}/tile-{left.start:012d}-{right.start:012d}"
        if tile not in plans and alike.annoy is None and worth_a_plan(left, right):
            plan = plan_tile(left, right, hashes, alike.radius)
            if plan:
                plans[tile] = shares_of(plan), [list(band) for band in plan.bands]
        shares, sizes = plans.get(tile, (1, []))
        bands = tuple(joins.Band(*size) for size in sizes)
        tasks += [
            alike._replace(tile=f"{tile}-{k:03d}.parquet", left=left, right=right, bands=bands, share=(k, shares))
            for k in range(shares)
        ]
    storage.write(root, f"{folder}/plan.json", json.dumps(plans).encode())
    return tasks


def plan_tile(left: Block, right: Block, hashes: np.ndarray, radius: Radius) -> joins.Plan | None:
    """How two blocks, or one with itself, of these `hashes` are joined; None where there is nothing to choose."""
    if radius.metric != "hamming" or radius.limit < 0:
        return None
    sides = [hashes[block.start : block.start + block.rows] for block in (left, right)]
    return joins.plan(sides[0], int(radius.limit), None if left == right else sides[1])


def worth_a_plan(left: Block, right: Block) -> bool:
    """Whether a tile is so large that its plan is kept and its bands may be shared among tasks."""
    return left.rows * right.rows > _WORTH_A_PLAN


def shares_of(plan: joins.Plan) -> int:
    """Among how many tasks a tile is shared, each with some bands of the plan: a power of two, for as many workers."""
    wanted = 1 << max(0, round(math.log2(max(plan.seconds, 1e-9) / _SHARE_SECONDS)))
    return min(len(plan.bands), _SHARES, wanted)


def warm_up() -> None:
    """Load, in a worker, what its first tile would wait for: this module, and the compiled kernels."""
    joins.warm_up()


# --- one tile ---------------------------------------------------------------------------------------------------------


def join_tile(task: JoinTask) -> Tile:
    """Join two blocks of distinct hashes and write the matches; the part is the tile's receipt."""
    itself = task.left == task.right
    left = _read_block(task.root, task.left)
    right = left if itself else _read_block(task.root, task.right)
    compared = len(left) * (len(left) - 1) // 2 if itself else len(left) * len(right)
    compared = compared if task.share[0] == 0 else 0  # counted once for all shares of a tile
    crowd = crowds.crowd(len(left), None if itself else len(right), task.max_neighbours or crowds.LIFTED)
    matches = spilled = 0
    last = tables.NEAR.empty_table()
    for found in chunks(task, left, right, crowd):  # all but the last chunk are spilled; the last is the receipt
        if len(last):
            tables.write_part(task.root, _spilled(task.tile, spilled), last, {})
            spilled += 1
        i, j = found.i + task.left.start, found.j + task.right.start
        last = pa.table([i, j, found.distance], schema=tables.NEAR)
        matches += len(last)
    sides = [(task.left, crowd.queries), *([] if itself else [(task.right, crowd.references)])]
    crowded = np.concatenate([np.flatnonzero(counts > crowd.most) + block.start for block, counts in sides])
    if len(crowded):
        tables.write_part(task.root, _crowded(task.tile), pa.table([crowded], schema=_ROWS), {})
    tables.write_part(task.root, task.tile, last, {"spilled": spilled, "crowded": len(crowded)})
    return Tile(compared, matches)


def _read_block(root: str, block: Block) -> np.ndarray:
    data = storage.read(root, block.name)
    if data is None:
        raise RunError(f"{root}/{block.name} is gone; run the join again")
    return np.frombuffer(data, np.uint8).reshape(-1, block.width)


def _spilled(tile: str, number: int) -> str:
    return f"{tile.removesuffix('.parquet')}-{number:06d}.parquet"


def _crowded(tile: str) -> str:
    return f"{tile.removesuffix('.parquet')}-crowded.parquet"


def read_matches(root: str, tile: str) -> Iterator[pa.Table]:
    """What a tile has found, as NEAR rows that number the hashes through the blocks; part by part."""
    for number in range(tables.made_by(root, tile)["spilled"]):
        yield tables.read_part(root, _spilled(tile, number))
    yield tables.read_part(root, tile)


def read_crowded(root: str, tile: str) -> np.ndarray:
    """The hashes with more than `max_neighbours` matches in this tile alone, int64."""
    if not tables.made_by(root, tile)["crowded"]:
        return np.empty(0, np.int64)
    rows: np.ndarray = tables.read_part(root, _crowded(tile))["row"].to_numpy()
    return rows


def chunks(task: JoinTask, left: np.ndarray, right: np.ndarray, crowd: joins.Crowd) -> Iterator[Found]:
    """The matches of the hashes of two blocks (the same array for a block with itself), chunk by chunk."""
    itself = task.left == task.right
    metric, limit = task.radius
    if task.annoy:
        if itself:
            return joins.annoy_self_join_chunks(left, int(limit), joins.CHUNK_PAIRS, task.annoy)
        return joins.annoy_cross_join_chunks(left, right, int(limit), joins.CHUNK_PAIRS, task.annoy)
    if metric == "hamming":
        bands = task.bands or None
        if itself:
            return joins.self_join_chunks(left, int(limit), bands=bands, share=task.share, crowd=crowd)
        return joins.cross_join_chunks(left, right, int(limit), bands=bands, share=task.share, crowd=crowd)
    hasher = parse(task.spec)
    if metric == "custom" and one_by_one(hasher):
        return _one_by_one(hasher, left, None if itself else right, limit, crowd)
    kind = cast("Metric", "inner" if metric == "custom" else metric)
    if itself:
        return self_join_real_chunks(vectors(hasher, left), limit, kind, crowd=crowd)
    return cross_join_real_chunks(vectors(hasher, left), vectors(hasher, right), limit, kind, crowd)


def vectors(hasher: Hasher, hashes: np.ndarray) -> np.ndarray:
    """Packed real-valued hashes as float32 (n, elements), or the points that stand for them, float64, where they do."""
    rows = hashes.view(hasher.dtype).astype(np.float32)
    if hasher.distance_metric != "custom" or not len(rows):
        return rows
    return np.stack([cast("np.ndarray", hasher._as_points(row)) for row in rows]).astype(np.float32)


def one_by_one(hasher: Hasher) -> bool:
    """Whether the hasher has a distance of its own that only its own code can compute, pair by pair."""
    return hasher.distance_metric == "custom" and type(hasher)._as_points is Hasher._as_points


def distances_between(hasher: Hasher, distinct: Distinct) -> Distances:
    """The distances of one hash to some others, by their numbers; two turned hashes are infinitely far apart."""
    hashes, upright = distinct
    if hasher.distance_metric == "hamming" and hasher.dtype != "float32":
        apart = bit_distances(hashes)
    elif one_by_one(hasher):
        apart = _own_distances(hasher, hashes)
    else:
        metric = "inner" if hasher.distance_metric == "custom" else hasher.distance_metric
        rows = vectors(hasher, hashes)

        def apart(one: int, others: np.ndarray) -> np.ndarray:
            return pair_distances(rows, np.full(len(others), one), others, cast("Metric", metric))

    def distances(one: int, others: np.ndarray) -> np.ndarray:
        return np.where(upright[one] | upright[others], apart(one, others), np.inf)

    return distances


def _own_distances(hasher: Hasher, hashes: np.ndarray) -> Distances:
    def distances(one: int, others: np.ndarray) -> np.ndarray:
        this = hasher.unpack(hashes[one].tobytes())
        those = (hasher.unpack(row.tobytes()) for row in hashes[others])
        return np.array([hasher.compute_distance(this, other, "vector") for other in those], np.float64)

    return distances


def _one_by_one(
    hasher: Hasher, left: np.ndarray, right: np.ndarray | None, limit: float, crowd: joins.Crowd
) -> Iterator[RealMatches]:
    """The matches by a distance that only the hasher's own code can compute, one chunk per left hash."""
    queries = [hasher.unpack(row.tobytes()) for row in left]
    references = queries if right is None else [hasher.unpack(row.tobytes()) for row in right]
    for i, query in enumerate(queries):
        start = i + 1 if right is None else 0
        apart = np.array([hasher.compute_distance(query, other, "vector") for other in references[start:]], np.float64)
        j = np.flatnonzero(apart < limit)
        if len(j):
            found = RealMatches(np.full(len(j), i), j + start, apart[j])
            np.add.at(crowd.queries, found.i, 1)
            np.add.at(crowd.references, found.j, 1)
            wanted = crowd.worth_having(found.i, found.j)
            yield RealMatches(found.i[wanted], found.j[wanted], found.distance[wanted])
