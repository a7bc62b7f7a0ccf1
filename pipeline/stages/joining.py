"""The join of one hasher: its distinct hashes in blocks, block against block as tiles.

Tiles join *distinct* hashes; `pairing` derives the pairs of items from them afterwards, so that a thousand
copies of one picture cost one row in the join. Where items have isometric variants, one side of a match is
always upright: what a turned and a turned hash say of each other, an upright and a turned one say too.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import joins, storage, tables
from pipeline.errors import RunError, UsageError
from pipeline.hashers import VARIANTS
from pipeline.joins.real import METRICS, Metric, RealMatches, cross_join_real_chunks, self_join_real_chunks
from pipeline.stages.hashing import hash_type
from pipeline.stages.live import WORK, Maker

UPRIGHT = VARIANTS.index("r0")
_WORTH_A_PLAN = 1 << 32  # pairs of hashes; fewer are compared within a second
_SHARES = 16  # tasks per planned tile at most
_SHARE_SECONDS = 0.5  # of a task, about: each reads and reorders its blocks anew
_RECALL_HASHES = 2000  # joined exactly to see what an approximate join has missed


class Radius(NamedTuple):
    """How near hashes must be: differing bits, inclusive, for Hamming; else a distance that must be undercut."""

    metric: str
    limit: float

    def reaches(self, distance: np.ndarray) -> np.ndarray:
        """Which distances are within the radius."""
        return distance <= self.limit if self.metric == "hamming" else distance < self.limit


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
    dtype: str  # of the elements of a hash: bool, uint8, float32
    left: Block
    right: Block
    radius: Radius
    bands: tuple[joins.Band, ...] = ()  # how the hashes are compared; left to the kernel when empty
    share: tuple[int, int] = (0, 1)  # (k, n): every n-th of these bands from band k on
    annoy: joins.Annoy | None = None  # not exact


class Tile(NamedTuple):
    """What one tile did, in numbers."""

    compared: int
    matches: int


class Rows(NamedTuple):
    """The joined rows, ordered by set (of equal hashes), item and variant: what distinct hashes stand for."""

    uris: pa.Array  # sorted distinct uris; items are indexes into it
    items: np.ndarray  # int64 (rows,)
    frames: np.ndarray  # int64 (rows,): numbers each (item, frame index)
    variants: np.ndarray  # int64 (rows,): index into VARIANTS
    starts: np.ndarray  # int64 (sets + 1,): where the rows of each set begin


class Distinct(NamedTuple):
    """The distinct hashes of a join, in lexicographic order."""

    hashes: np.ndarray  # uint8 (sets, width)
    upright: np.ndarray  # bool (sets,): whether an upright row has it; two turned hashes need not be compared


class Gathered(NamedTuple):
    """The rows of one hasher that are to be joined, and their distinct hashes."""

    hashed: pa.Table  # uri and frame_index of the rows
    variants: np.ndarray  # int64 (rows,): index into VARIANTS
    distinct: Distinct
    sets: np.ndarray  # int64 (rows,): the distinct hash of each row
    kinds: list[np.ndarray]  # bool (sets,) each: upright and new, upright and known, turned and new, turned and known
    known: joins.Matches  # between sets, from an earlier join
    left_out: int
    made_by: dict[str, Any]


class Prepared(NamedTuple):
    """A join ready to run. Sets are numbered as the distinct hashes are."""

    tasks: list[JoinTask]  # the tiles still to be joined
    tiles: list[str]  # the parts of all tiles
    distinct: Distinct
    order: np.ndarray  # int64 (sets,): the set that each row of the blocks stands for
    known: joins.Matches  # between sets, from an earlier join
    rows: Rows
    left_out: int  # rows without a hash, or of too low quality
    made_by: dict[str, Any]  # what PAIRS, JOINED and NEAR of this join carry


def radius_of(maker: Maker, threshold: float) -> Radius:
    """The radius of a threshold in the hasher's own distance. Raises UsageError where it cannot be meant."""
    hasher = maker.hasher
    if hasher.distance_metric == "hamming":
        return Radius("hamming", joins.radius_from_threshold(threshold, hasher.hash_length))
    if hasher.distance_metric not in METRICS:
        raise UsageError(f"{maker.spec} has a distance of its own; only {', '.join(METRICS)} distances can be joined")
    if not threshold > 0:
        raise UsageError(f"threshold {threshold:g} for {maker.spec} matches nothing; give a distance above 0")
    return Radius(hasher.distance_metric, threshold)


def prepare(
    root: str,
    maker: Maker,
    radius: Radius,
    block_rows: int,
    min_quality: int = 0,
    annoy: joins.Annoy | None = None,
) -> Prepared:
    """Collect the live hashes of one hasher, write the distinct ones as blocks, and plan the tiles.

    Hashes that an earlier join has compared are not compared again: tiles have a new hash on one side. With annoy, all
    are compared, approximately: what such a join has not found is no fact to build on.
    """
    gathered = gather(root, maker, radius, min_quality, annoy)
    distinct, kinds, made_by = gathered.distinct, gathered.kinds, gathered.made_by
    order = np.concatenate([np.flatnonzero(kind) for kind in kinds])
    key = blake2b(f"{made_by}|{block_rows}|{[int(kind.sum()) for kind in kinds]}".encode(), digest_size=12)
    hashes = distinct.hashes if kinds[0].all() else distinct.hashes[order]
    key.update(np.ascontiguousarray(hashes).data)
    folder = f"{WORK}/join-{key.hexdigest()}"
    blocks = cut_blocks(folder, distinct.hashes.shape[1], kinds, block_rows)
    _write_blocks(root, blocks, hashes)
    pairs = compared_blocks(blocks)
    tasks = _planned(root, folder, pairs, maker, radius, hashes)
    if annoy:  # a tile is one index, and not shared
        tasks = [task._replace(annoy=annoy, bands=(), share=(0, 1)) for task in tasks if task.share[0] == 0]
    present = set(storage.list_names(root))
    return Prepared(
        tasks=[task for task in tasks if task.tile not in present],
        tiles=[task.tile for task in tasks],
        distinct=distinct,
        order=order,
        known=gathered.known,
        rows=_rows(gathered.hashed, gathered.sets, gathered.variants, len(distinct.hashes)),
        left_out=gathered.left_out,
        made_by=made_by,
    )


def gather(root: str, maker: Maker, radius: Radius, min_quality: int, annoy: joins.Annoy | None = None) -> Gathered:
    """The live hashes of one hasher, the distinct ones among them, and what an earlier join says of those."""
    manifest = storage.read_manifest(root)
    made_by = {"hasher": maker.stamp[:2], "hashes": _made_alike(root, maker, manifest), "radius": list(radius)}
    schema = tables.hashes_schema(hash_type(maker.hasher))
    columns = ["uri", "variant", "frame_index", "hash", "quality"]
    table = tables.read_table(root, manifest.get(maker.folder, []), schema, columns)
    listed = len(table)
    good = pc.greater_equal(table["quality"], pa.scalar(min_quality, pa.int16()))
    wanted = pc.fill_null(pc.and_(pc.is_valid(table["hash"]), good), False)
    hashed = table if pc.all(wanted).as_py() else table.filter(wanted)
    variants = pc.index_in(hashed["variant"], pa.array(VARIANTS)).to_numpy().astype(np.int64)
    hashes, hashed = _as_bytes(hashed["hash"]), hashed.select(["uri", "frame_index"])
    del table  # the rows may be many: what is not needed any more goes
    pa.default_memory_pool().release_unused()
    distinct, sets = _distinct(hashes, variants == UPRIGHT)
    if annoy:
        made_by["engine"] = ["annoy", *annoy]
    fresh, known = _known_matches(root, manifest if annoy is None else {}, maker, made_by, radius, distinct)
    kinds = [distinct.upright & fresh, distinct.upright & ~fresh, ~distinct.upright & fresh, ~distinct.upright & ~fresh]
    return Gathered(hashed, variants, distinct, sets, kinds, known, listed - len(hashed), made_by)


# which kinds of hash are compared: 0 upright and new, 1 upright and known, 2 turned and new, 3 turned and known
_COMPARED = {0: (0, 1, 2, 3), 1: (2,)}


def _distinct(hashes: np.ndarray, upright: np.ndarray) -> tuple[Distinct, np.ndarray]:
    """The distinct hashes of rows, and for each row the number of its hash."""
    unique, sets = joins.distinct(hashes)
    has_upright = np.zeros(len(unique), bool)
    has_upright[sets[upright]] = True
    return Distinct(unique, has_upright), sets


def _planned(
    root: str,
    folder: str,
    pairs: Sequence[tuple[Block, Block]],
    maker: Maker,
    radius: Radius,
    hashes: np.ndarray,
) -> list[JoinTask]:
    """The tasks of all tiles. A large tile is shared by several: each takes some of the bands that the planner chose.

    The plan is kept with the tiles, as an interrupted join must go on by the same one.
    """
    kept = storage.read(root, f"{folder}/plan.json")
    plans: dict[str, tuple[int, list[list[int]]]] = json.loads(kept) if kept else {}
    tasks = []
    for left, right in pairs:
        tile = f"{folder}/tile-{left.start:012d}-{right.start:012d}"
        if tile not in plans and worth_a_plan(left, right) and (plan := plan_tile(left, right, hashes, radius)):
            plans[tile] = shares_of(plan), [list(band) for band in plan.bands]
        shares, sizes = plans.get(tile, (1, []))
        bands = tuple(joins.Band(*size) for size in sizes)
        tasks += [
            JoinTask(root, f"{tile}-{k:03d}.parquet", maker.hasher.dtype, left, right, radius, bands, (k, shares))
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
    """Among how many tasks a tile is shared: each takes every so many-th band of the plan."""
    return min(len(plan.bands), _SHARES, 1 + int(plan.seconds / _SHARE_SECONDS))


def cut_blocks(folder: str, width: int, kinds: Sequence[np.ndarray], block_rows: int) -> list[list[Block]]:
    """The blocks of at most `block_rows` hashes of each kind; they are numbered through all kinds."""
    blocks: list[list[Block]] = []
    begin = 0
    for kind in kinds:
        count = int(kind.sum())
        starts = range(begin, begin + count, block_rows)
        ends = [min(start + block_rows, begin + count) for start in starts]
        blocks.append(
            [
                Block(f"{folder}/block-{start:012d}.bin", start, end - start, width)
                for start, end in zip(starts, ends, strict=True)
            ]
        )
        begin += count
    return blocks


def compared_blocks(blocks: Sequence[Sequence[Block]]) -> list[tuple[Block, Block]]:
    """The tiles: which blocks, given by kind, are compared with which."""
    return [
        (left, right)
        for kind, others in _COMPARED.items()
        for left in blocks[kind]
        for other in others
        for right in blocks[other]
        if left.start <= right.start
    ]


def _write_blocks(root: str, blocks: Sequence[Sequence[Block]], hashes: np.ndarray) -> None:
    """Write the work files of all blocks; `hashes` are in their order."""
    for block in (block for kind in blocks for block in kind):
        storage.write(root, block.name, hashes[block.start : block.start + block.rows].tobytes())


def _known_matches(
    root: str,
    manifest: dict[str, list[str]],
    maker: Maker,
    made_by: dict[str, Any],
    radius: Radius,
    distinct: Distinct,
) -> tuple[np.ndarray, joins.Matches]:
    """Which distinct hashes no earlier join has compared with all others, and the matches of those it has."""
    joined, near = manifest.get(beside(maker, "joined"), []), manifest.get(beside(maker, "near"), [])
    fresh = np.ones(len(distinct.hashes), bool)
    nothing = joins.Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))
    if not joined:
        return fresh, nothing
    earlier = tables.made_by(root, joined[0])
    if {**earlier, "radius": 0} != {**made_by, "radius": 0} or Radius(*earlier["radius"]).limit < radius.limit:
        return fresh, nothing
    schema = tables.joined_schema(pa.binary(distinct.hashes.shape[1]))
    table = tables.read_table(root, joined, schema).sort_by("hash")  # NEAR numbers them in this order
    hashes = _as_bytes(table["hash"])
    both, numbers = joins.distinct(np.concatenate([hashes, distinct.hashes]))
    here = np.full(len(both), -1)
    here[numbers[len(hashes) :]] = np.arange(len(distinct.hashes))
    now = here[numbers[: len(hashes)]]
    was_upright = np.zeros(len(distinct.hashes), bool)
    was_upright[now[now >= 0]] = table["upright"].to_numpy()[now >= 0]
    fresh[now[now >= 0]] = False
    fresh |= distinct.upright & ~was_upright  # what was only seen turned has not been compared with turned ones
    found = tables.read_table(root, near, tables.NEAR)
    i, j, distance = now[found["i"].to_numpy()], now[found["j"].to_numpy()], found["distance"].to_numpy()
    wanted = (i >= 0) & (j >= 0) & radius.reaches(distance)
    i, j, distance = i[wanted], j[wanted], distance[wanted]
    compared = ~(fresh[i] | fresh[j]) & (distinct.upright[i] | distinct.upright[j])
    return fresh, joins.Matches(i[compared], j[compared], distance[compared])


def beside(maker: Maker, table: str) -> str:
    """The folder of another table of the same hasher."""
    return f"{table}/{maker.folder.split('/')[1]}"


def _made_alike(root: str, maker: Maker, manifest: dict[str, list[str]]) -> str:
    """How the hashes of this hasher were made; all alike, or RunError."""
    ways = set()
    for name in manifest.get(maker.folder, []):
        made_by = tables.made_by(root, name)
        if made_by["hasher"][:2] != maker.stamp[:2]:
            raise RunError(
                f"{name} holds hashes of {made_by['hasher'][:2]}, this version makes {maker.stamp[:2]}: the two must "
                "not meet; run `neardup hash` again over the same inputs"
            )
        ways.add(f"{made_by['hasher'][2]}, {made_by['decode']}")
    if len(ways) > 1:
        raise RunError(f"{maker.folder} holds hashes made in two ways ({'; '.join(sorted(ways))}); hash again")
    return ways.pop() if ways else ""


def _as_bytes(hashes: pa.ChunkedArray) -> np.ndarray:
    column = hashes.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        values: np.ndarray = column.flatten().to_numpy().view(np.uint8)
        return values.reshape(len(column), 4 * column.type.list_size)
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    return data[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)


def _rows(hashed: pa.Table, sets: np.ndarray, variants: np.ndarray, distinct: int) -> Rows:
    uris, items = _numbered(hashed["uri"])
    frame_index = hashed["frame_index"].to_numpy()
    frames = items
    if frame_index.any():
        frames = np.unique(items * (frame_index.max() + 1) + frame_index, return_inverse=True)[1]
    order = np.lexsort((frames, variants, items, sets))
    starts = np.searchsorted(sets[order], np.arange(distinct + 1))
    return Rows(uris, items[order], frames[order], variants[order], starts)


def _numbered(uris: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The sorted distinct uris, and for each row its number among them."""
    encoded = uris.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy()]


def _read_block(root: str, block: Block) -> np.ndarray:
    data = storage.read(root, block.name)
    if data is None:
        raise RunError(f"{root}/{block.name} is gone; run the join again")
    return np.frombuffer(data, np.uint8).reshape(-1, block.width)


def join_tile(task: JoinTask) -> Tile:
    """Join two blocks of distinct hashes and write the matches; the part is the tile's receipt."""
    left = _read_block(task.root, task.left)
    right = left if task.left == task.right else _read_block(task.root, task.right)
    compared = len(left) * (len(left) - 1) // 2 if task.left == task.right else len(left) * len(right)
    compared = compared if task.share[0] == 0 else 0  # counted once for all shares of a tile
    matches = spilled = 0
    last = tables.NEAR.empty_table()
    for found in _chunks(
        task, left, right
    ):  # all but the last chunk are spilled; the last is the receipt and says how many there are
        if len(last):
            tables.write_part(task.root, _spilled(task.tile, spilled), last, {})
            spilled += 1
        i, j = found.i + task.left.start, found.j + task.right.start
        last = pa.table([i, j, found.distance], schema=tables.NEAR)
        matches += len(last)
    tables.write_part(task.root, task.tile, last, {"spilled": spilled})
    return Tile(compared, matches)


def _chunks(task: JoinTask, left: np.ndarray, right: np.ndarray) -> Iterator[joins.Matches | RealMatches]:
    metric, limit = task.radius
    if task.annoy:
        if task.left == task.right:
            return joins.annoy_self_join_chunks(left, int(limit), joins.CHUNK_PAIRS, task.annoy)
        return joins.annoy_cross_join_chunks(left, right, int(limit), joins.CHUNK_PAIRS, task.annoy)
    if metric == "hamming":
        bands = task.bands or None
        if task.left == task.right:
            return joins.self_join_chunks(left, int(limit), bands=bands, share=task.share)
        return joins.cross_join_chunks(left, right, int(limit), bands=bands, share=task.share)
    if task.left == task.right:
        return self_join_real_chunks(_vectors(task, left), limit, cast("Metric", metric))
    return cross_join_real_chunks(_vectors(task, left), _vectors(task, right), limit, cast("Metric", metric))


def _vectors(task: JoinTask, hashes: np.ndarray) -> np.ndarray:
    """Packed real-valued hashes as float32 (n, elements)."""
    return hashes.view(task.dtype).astype(np.float32)


def _spilled(tile: str, number: int) -> str:
    return f"{tile.removesuffix('.parquet')}-{number:06d}.parquet"


def all_matches(root: str, prepared: Prepared) -> joins.Matches:
    """The matches between sets: those known before, and those of all tiles."""
    found = [prepared.known]
    for tile in prepared.tiles:
        spilled = tables.made_by(root, tile)["spilled"]
        for part in [*(_spilled(tile, number) for number in range(spilled)), tile]:
            rows = tables.read_part(root, part)
            i, j = (prepared.order[rows[name].to_numpy()] for name in ("i", "j"))
            found.append(joins.Matches(np.minimum(i, j), np.maximum(i, j), rows["distance"].to_numpy()))
    i, j, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((j, i))
    return joins.Matches(i[order], j[order], distance[order])


def measured_recall(prepared: Prepared, matches: joins.Matches, radius: Radius) -> dict[str, Any]:
    """What share of the matches of some upright hashes, joined exactly with all, is among `matches`."""
    upright = np.flatnonzero(prepared.distinct.upright)
    sample = upright[np.linspace(0, len(upright) - 1, min(len(upright), _RECALL_HASHES)).astype(np.int64)]
    found, true = joins.recall(prepared.distinct.hashes, int(radius.limit), matches, sample)
    return {"recall": found / true if true else None, "found": found, "matches": true, "hashes": len(sample)}


def write_joined(root: str, maker: Maker, prepared: Prepared, matches: joins.Matches) -> dict[str, list[str]]:
    """JOINED and NEAR: what the next join need not compare again. Gives the parts by table folder."""
    width = prepared.distinct.hashes.shape[1]
    hashes = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(prepared.distinct.hashes), [None, pa.py_buffer(prepared.distinct.hashes.tobytes())]
    )
    joined = pa.table([hashes, prepared.distinct.upright], schema=tables.joined_schema(pa.binary(width)))
    near = pa.table(list(matches), schema=tables.NEAR)
    return {
        beside(maker, "joined"): tables.write_chunks(root, beside(maker, "joined"), joined, prepared.made_by),
        beside(maker, "near"): tables.write_chunks(root, beside(maker, "near"), near, prepared.made_by),
    }
