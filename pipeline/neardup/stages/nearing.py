"""Of each altered hash, how far its own original and the nearest other original of its category are: tiles.

The hashes of one hasher are written as one work file, ordered by category, transform and original, so that the hashes
of a category and transform (queries) and the unaltered ones of the category (references) are ranges of it. A tile is a
range of both; tasks take tiles of about equal work, and their parts are their receipts. What a query has of several
tiles is merged when all are done.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import storage, tables
from neardup.errors import RunError
from neardup.hashers import Hasher, parse
from neardup.joins.nearest import Nearest, Owned, bit_pairs, nearest_vectors, vector_pairs
from neardup.stages.hashing import hash_type
from neardup.stages.live import WORK, Maker
from neardup.stages.originals import Originals
from neardup.stages.tiles import as_bytes

_WORTH_A_TASK = 1 << 32  # pairs of packed hashes that are compared within seconds
_VECTOR_COST = 64  # a pair of vectors takes so many times as long
_BINS = 4096  # intervals in which the distances of vectors are counted
_COUNTED = 1 << 30  # pairs of vectors counted per hasher; of more, those of evenly chosen originals

# One row per tile: ranges of the work file.
PLAN = pa.schema(
    [
        pa.field(name, pa.int64(), nullable=False)
        for name in ("task", "category", "transform", "query", "query_stop", "reference", "reference_stop")
    ]
)
_NEAREST = pa.schema([("correct", pa.float64()), ("incorrect", pa.float64()), ("incorrect_row", pa.int64())])
_PAIRS = pa.schema([("tile", pa.int64()), ("bin", pa.int64()), ("pairs", pa.int64())])


class NearTask(NamedTuple):
    """Some tiles of one hasher: those of the plan with this number."""

    root: str
    folder: str
    number: int
    spec: str
    width: float  # of the intervals in which the distances of vectors are counted
    every: int  # of the originals, whose pairs of vectors are counted

    @property
    def part(self) -> str:
        """Its receipt."""
        return f"{self.folder}/tiles-{self.number:06d}.parquet"


class Prepared(NamedTuple):
    """The tiles of one hasher, ready to be computed."""

    folder: str
    tasks: list[NearTask]  # still to be done
    all_tasks: list[NearTask]


class Near(NamedTuple):
    """What all tiles of one hasher found; `owners`, `nearest` and the ranges of the plan have a row per hash."""

    plan: dict[str, np.ndarray]
    owners: np.ndarray
    nearest: Nearest
    pairs: np.ndarray  # int64 (n, 3): tile, bin, pairs
    values: np.ndarray  # float64: the least distance of each bin


def prepare(root: str, maker: Maker, specs: Sequence[str], originals: Originals, block_rows: int) -> Prepared:
    """Write the hashes of one hasher and the plan of its tiles. `specs`: canonical transforms, the no-op first."""
    owners, transforms, values = _rows(root, maker, specs, originals)
    key = originals.category[owners] * len(specs) + transforms
    order = np.lexsort((owners, key))  # stable: several hashes of a picture stay in their order
    owners, key, values = owners[order], key[order], values[order]
    starts = np.searchsorted(key, np.arange(len(originals.names) * len(specs) + 1))
    tiles, more = _tiles(owners, starts, len(specs), block_rows)
    owners, values = np.concatenate([owners, owners[more]]), np.concatenate([values, values[more]])
    packed = maker.hasher.distance_metric == "hamming" and maker.hasher.dtype == "bool"
    plan = _plan(tiles, 1 if packed else _VECTOR_COST)
    digest = blake2b(f"{maker.stamp}|{originals.names}|{specs}".encode(), digest_size=12)
    for column in (*plan.values(), owners, values):
        digest.update(np.ascontiguousarray(column).tobytes())
    folder = f"{WORK}/score-{digest.hexdigest()}"
    width = 0.0 if packed or not len(values) else _widest(maker.hasher, _vectors(maker.hasher, values)) / _BINS
    compared = sum(int(t[3] - t[2]) * int(t[5] - t[4]) for t in tiles)
    every = 1 if packed else -(-compared // _COUNTED) or 1
    storage.write(root, f"{folder}/values.bin", values.tobytes())
    storage.write(root, f"{folder}/owners.bin", owners.astype(np.int64).tobytes())
    tables.write_part(root, f"{folder}/plan.parquet", pa.table(plan, schema=PLAN), {"width": width})
    numbers = range(int(plan["task"][-1]) + 1 if len(tiles) else 0)
    tasks = [NearTask(root, folder, number, maker.spec, width, every) for number in numbers]
    present = set(storage.list_names(root))
    return Prepared(folder, [task for task in tasks if task.part not in present], tasks)


def _rows(
    root: str, maker: Maker, specs: Sequence[str], originals: Originals
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every hash of an original that is scored: its original, its transform, its bytes."""
    schema = tables.hashes_schema(hash_type(maker.hasher))
    names = storage.read_manifest(root).get(maker.folder, [])
    table = tables.read_table(root, names, schema, ["uri", "variant", "frame_index", "hash"])
    owners = pc.index_in(table["uri"], originals.uris)
    table = table.append_column("owner", owners).filter(pc.and_(pc.is_valid(owners), pc.is_valid(table["hash"])))
    order = pc.sort_indices(
        table.select(["owner", "frame_index"]), [("owner", "ascending"), ("frame_index", "ascending")]
    )
    table = table.take(order)
    transforms = pc.index_in(table["variant"], pa.array(specs)).to_numpy().astype(np.int64)
    return table["owner"].to_numpy().astype(np.int64), transforms, as_bytes(table["hash"])


Tile = tuple[int, int, int, int, int, int]  # category, transform, query, query_stop, reference, reference_stop


def _tiles(owners: np.ndarray, starts: np.ndarray, transforms: int, block_rows: int) -> tuple[list[Tile], np.ndarray]:
    """The tiles, and the rows to be added to the file for them.

    Queries whose original has no hash are left out, and so are references of which nothing in the group was made; where
    that leaves gaps in a range, what remains is added to the end of the file.
    """
    more: list[np.ndarray] = []
    end = int(starts[-1])

    def within(first: int, stop: int, wanted: np.ndarray) -> tuple[int, int]:
        nonlocal end
        kept = np.flatnonzero(np.isin(owners[first:stop], wanted)) + first
        if len(kept) == stop - first:
            return first, stop
        more.append(kept)
        end += len(kept)
        return end - len(kept), end

    tiles: list[Tile] = []
    for group in range(len(starts) - 1):
        category, transform = divmod(group, transforms)
        noop = slice(*starts[category * transforms : category * transforms + 2])
        queries = slice(*starts[group : group + 2])
        query, query_stop = within(queries.start, queries.stop, owners[noop])
        reference, reference_stop = within(noop.start, noop.stop, owners[queries])
        tiles += [
            (category, transform, q, min(q + block_rows, query_stop), r, min(r + block_rows, reference_stop))
            for q in range(query, query_stop, block_rows)
            for r in range(reference, reference_stop, block_rows)
        ]
    return tiles, np.concatenate([np.empty(0, np.int64), *more])


def _plan(tiles: Sequence[Tile], cost: int) -> dict[str, np.ndarray]:
    """The tiles as columns, in order, with the number of the task that takes each."""
    columns = np.array(tiles, np.int64).reshape(len(tiles), 6).T
    work = cost * (columns[3] - columns[2]) * (columns[5] - columns[4])
    before = np.cumsum(work) - work
    _, tasks = np.unique(before // _WORTH_A_TASK, return_inverse=True)
    return dict(zip(PLAN.names, [tasks.astype(np.int64), *columns], strict=True))


def _widest(hasher: Hasher, vectors: np.ndarray) -> float:
    """A distance that no two of these vectors exceed."""
    if hasher.distance_metric in ("cosine", "hamming"):
        return 2.0 if hasher.distance_metric == "cosine" else 1.0
    squares = (vectors * vectors).sum(axis=1)
    longest = 2 * float(np.sqrt(squares[np.isfinite(squares)].max(initial=0.0))) or 1.0
    return longest if hasher.distance_metric == "euclidean" else longest**2


def _vectors(hasher: Hasher, rows: np.ndarray) -> np.ndarray:
    """Packed hashes as float64 vectors."""
    if hasher.dtype == "bool":
        return np.unpackbits(rows, axis=1, count=hasher.hash_length).astype(np.float64)
    return np.ascontiguousarray(rows).view("<f4" if hasher.dtype == "float32" else "u1").astype(np.float64)


# --- a task -----------------------------------------------------------------------------------------------------------


def near_tiles(task: NearTask) -> int:
    """Compute the tiles of one task and write what they found; gives the pairs compared."""
    hasher = parse(task.spec)
    plan = _read_plan(task.root, task.folder)
    nearest: list[Nearest] = []
    counts = []
    compared = 0
    for tile in np.flatnonzero(plan["task"] == task.number):
        queries, references = (
            _read_rows(task, hasher, int(plan[side][tile]), int(plan[f"{side}_stop"][tile]))
            for side in ("query", "reference")
        )
        found, pairs = _near(hasher, queries, references, task)
        some = np.flatnonzero(pairs)
        counts.append(np.stack([np.full(len(some), tile), some, pairs[some]], axis=1))
        row = np.where(found.incorrect_row < 0, -1, found.incorrect_row + plan["reference"][tile])
        nearest.append(found._replace(incorrect_row=row))
        compared += len(queries.owners) * len(references.owners)
    columns = [np.concatenate(column) for column in zip(*nearest, strict=True)]
    tables.write_part(task.root, _pairs_part(task), pa.table(list(np.concatenate(counts).T), schema=_PAIRS), {})
    tables.write_part(task.root, task.part, pa.table(columns, schema=_NEAREST), {})
    return compared


def _near(hasher: Hasher, queries: Owned, references: Owned, task: NearTask) -> tuple[Nearest, np.ndarray]:
    if hasher.distance_metric == "hamming" and hasher.dtype == "bool":
        return bit_pairs(queries, references, hasher.hash_length)
    chosen = queries.owners % task.every == 0
    some = Owned(queries.values[chosen], queries.owners[chosen])
    pairs = vector_pairs(some, references, hasher.distance_metric, task.width, _BINS)
    return nearest_vectors(queries, references, hasher.distance_metric), pairs


def _pairs_part(task: NearTask) -> str:
    return f"{task.folder}/pairs-{task.number:06d}.parquet"


def _read_plan(root: str, folder: str) -> dict[str, np.ndarray]:
    table = tables.read_part(root, f"{folder}/plan.parquet")
    return {name: table[name].to_numpy() for name in PLAN.names}


def _read_rows(task: NearTask, hasher: Hasher, first: int, stop: int) -> Owned:
    kind = hash_type(hasher)
    width = 4 * kind.list_size if pa.types.is_fixed_size_list(kind) else kind.byte_width
    data = _read_range(task.root, f"{task.folder}/values.bin", first * width, stop * width)
    values = np.frombuffer(data, np.uint8).reshape(stop - first, width)
    owners = np.frombuffer(_read_range(task.root, f"{task.folder}/owners.bin", first * 8, stop * 8), np.int64)
    packed = hasher.distance_metric == "hamming" and hasher.dtype == "bool"
    return Owned(values if packed else _vectors(hasher, values), owners)


def _read_range(root: str, name: str, first: int, stop: int) -> bytes:
    with storage.reading_part(root, name) as file:
        file.seek(first)
        data = file.read(stop - first)
    if len(data) != stop - first:
        raise RunError(f"{root}/{name} is cut short; run the benchmark again")
    return data


# --- what all tasks found ---------------------------------------------------------------------------------------------


def collect(root: str, tasks: Sequence[NearTask]) -> Near:
    """Merge what the tasks of one hasher found."""
    folder, hasher = tasks[0].folder, parse(tasks[0].spec)
    plan = _read_plan(root, folder)
    data = storage.read(root, f"{folder}/owners.bin")
    if data is None:
        raise RunError(f"{root}/{folder}/owners.bin is gone; run the benchmark again")
    owners = np.frombuffer(data, np.int64)
    nearest = Nearest.nothing(len(owners))
    for task in tasks:
        table = tables.read_part(root, task.part)
        columns = Nearest(*(table[name].to_numpy() for name in _NEAREST.names))
        start = 0
        for tile in np.flatnonzero(plan["task"] == task.number):
            rows = slice(int(plan["query"][tile]), int(plan["query_stop"][tile]))
            stop = start + rows.stop - rows.start
            merged = nearest.part(rows).merged(columns.part(slice(start, stop)), 0)
            for column, values in zip(nearest, merged, strict=True):
                column[rows] = values
            start = stop
    pairs = [np.empty((0, 3), np.int64), *(_as_rows(tables.read_part(root, _pairs_part(task))) for task in tasks)]
    packed = hasher.distance_metric == "hamming" and hasher.dtype == "bool"
    values = np.arange(hasher.hash_length + 1) / hasher.hash_length if packed else np.arange(_BINS) * tasks[0].width
    return Near(plan, owners, nearest, np.concatenate(pairs), values)


def _as_rows(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in _PAIRS.names], axis=1)


def groups(near: Near) -> Iterator[tuple[int, int, slice, np.ndarray]]:
    """Each category and transform with hashes: their numbers, the rows of its queries, the pairs in each bin."""
    plan: dict[str, Any] = near.plan
    by_tile = near.pairs[np.argsort(near.pairs[:, 0], kind="stable")]
    key = np.stack([plan["category"], plan["transform"]])
    starts = np.flatnonzero(np.diff(key, axis=1, prepend=-1).any(axis=0))
    for first, stop in zip(starts, [*starts[1:], key.shape[1]], strict=True):
        found = by_tile[slice(*np.searchsorted(by_tile[:, 0], [first, stop]))]
        pairs = np.bincount(found[:, 1], found[:, 2], minlength=len(near.values)).astype(np.int64)
        rows = slice(int(plan["query"][first:stop].min()), int(plan["query_stop"][first:stop].max()))
        yield int(key[0, first]), int(key[1, first]), rows, pairs
