"""PAIRS: which items have hashes within the radius of each other.

Tiles join *distinct* hashes, block against block; the pairs of items are derived from them afterwards, so
that a thousand copies of one picture cost one row in the join.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import joins, storage, tables
from pipeline.errors import RunError, UsageError
from pipeline.stages.hashing import hash_type
from pipeline.stages.live import WORK, Maker

ALL_PAIRS_LIMIT = 1024  # two sets with more combinations than this are written as a star
_ROWS_PER_PART = 1_000_000
_MATCHES = pa.schema([("i", pa.int64()), ("j", pa.int64()), ("distance", pa.int32())])


class JoinTask(NamedTuple):
    """One tile: two blocks of distinct hashes (left ≤ right), and the radius within which they match."""

    root: str
    folder: str  # the work folder of this join
    left: int
    right: int
    width: int  # bytes of a hash
    block_rows: int  # number of hashes in every block but the last
    radius_bits: int


class Tile(NamedTuple):
    """What one tile found."""

    name: str
    compared: int
    matches: int


class Prepared(NamedTuple):
    """A join ready to run: its tiles, and the rows that its distinct hashes stand for."""

    tasks: list[JoinTask]  # the tiles still to be joined
    tiles: list[str]  # the parts of all tiles
    uris: pa.Array  # sorted distinct uris of the joined rows
    items: np.ndarray  # int64 (rows,): index into uris, rows ordered by (set, item)
    starts: np.ndarray  # int64 (sets + 1,): where the rows of each distinct hash begin
    left_out: int  # rows without a hash


def joined_bits(maker: Maker) -> int:
    """The number of bits of this hasher's hashes. Raises UsageError when they are not bits."""
    if maker.hasher.distance_metric != "hamming":
        raise UsageError(f"{maker.spec} has real-valued hashes; only binary hashes can be joined so far")
    return int(maker.hasher.hash_length)


def prepare(root: str, maker: Maker, radius_bits: int, block_rows: int) -> Prepared:
    """Collect the live hashes of one hasher, write the distinct ones as blocks, and plan the tiles."""
    names = storage.read_manifest(root).get(maker.folder, [])
    _check_comparable(root, maker, names)
    schema = tables.hashes_schema(hash_type(maker.hasher))
    rows = tables.read_table(root, names, schema, ["uri", "hash"])
    hashed = rows.filter(pc.is_valid(rows["hash"]))
    unique, sets = joins.distinct(_as_bytes(hashed["hash"]))
    uris, items = _numbered(hashed["uri"])
    order = np.lexsort((items, sets))
    starts = np.searchsorted(sets[order], np.arange(len(unique) + 1))
    key = blake2b(f"{maker.stamp}|{radius_bits}|{block_rows}".encode(), digest_size=12)
    key.update(unique.tobytes())
    folder = f"{WORK}/join-{key.hexdigest()}"
    blocks = range(-(-len(unique) // block_rows))
    for block in blocks:
        part = np.ascontiguousarray(unique[block * block_rows : (block + 1) * block_rows])
        storage.write(root, _block_name(folder, block), part.tobytes())
    present = set(storage.list_names(root))
    width = unique.shape[1]
    tasks = [JoinTask(root, folder, a, b, width, block_rows, radius_bits) for a in blocks for b in blocks if a <= b]
    left = [task for task in tasks if _tile_name(task) not in present]
    return Prepared(left, [_tile_name(task) for task in tasks], uris, items[order], starts, len(rows) - len(hashed))


def _check_comparable(root: str, maker: Maker, names: Sequence[str]) -> None:
    decodings = set()
    for name in names:
        made_by = tables.made_by(root, name)
        if made_by["hasher"] != maker.stamp:
            raise RunError(
                f"{name} holds hashes of {made_by['hasher']}, this version makes {maker.stamp}: the two must not meet; "
                "run `neardup hash` again over the same inputs"
            )
        decodings.add(made_by["decode"])
    if len(decodings) > 1:
        raise RunError(f"{maker.folder} holds hashes decoded in two ways ({', '.join(sorted(decodings))}); hash again")


def _as_bytes(hashes: pa.ChunkedArray) -> np.ndarray:
    column = hashes.combine_chunks()
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    return data[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)


def _numbered(uris: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The sorted distinct uris, and for each row its number among them."""
    encoded = uris.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy()]


def _block_name(folder: str, block: int) -> str:
    return f"{folder}/block-{block:05d}.bin"


def _block(task: JoinTask, block: int) -> np.ndarray:
    data = storage.read(task.root, _block_name(task.folder, block))
    if data is None:
        raise RunError(f"{task.root}/{_block_name(task.folder, block)} is gone; run the join again")
    return np.frombuffer(data, np.uint8).reshape(-1, task.width)


def _tile_name(task: JoinTask) -> str:
    return f"{task.folder}/tile-{task.left:05d}-{task.right:05d}.parquet"


def join_tile(task: JoinTask) -> Tile:
    """Join two blocks of distinct hashes and write the matches; the part is the tile's receipt."""
    left = _block(task, task.left)
    if task.left == task.right:
        found = joins.self_join(left, task.radius_bits)
        compared = len(left) * (len(left) - 1) // 2
    else:
        right = _block(task, task.right)
        found = joins.cross_join(left, right, task.radius_bits)
        compared = len(left) * len(right)
    i, j = found.i + task.left * task.block_rows, found.j + task.right * task.block_rows
    tables.write_part(task.root, _tile_name(task), pa.table([i, j, found.distance], schema=_MATCHES), {})
    return Tile(_tile_name(task), compared, len(i))


# --- from matching hashes to pairs of items ---------------------------------------------------------------------------


class Written(NamedTuple):
    """The parts and rows of the tables that a join gives."""

    pairs: list[str]
    hubs: list[str]
    pair_rows: int
    hub_rows: int


def write_pairs(root: str, maker: Maker, prepared: Prepared, radius_bits: int) -> Written:
    """Derive PAIRS and HUBS from the matches of all tiles, and write them."""
    bits = joined_bits(maker)
    pairs, hubs = _pairs(prepared, tables.read_table(root, prepared.tiles, _MATCHES), radius_bits)
    made = {"hasher": maker.stamp, "radius_bits": radius_bits}
    table = pa.table(
        {
            "uri_a": prepared.uris.take(pa.array(pairs.item_a)),
            "uri_b": prepared.uris.take(pa.array(pairs.item_b)),
            "distance": pairs.distance / bits,
            "matches": pairs.matches,
            "overlap_a": pairs.overlap_a,
            "overlap_b": pairs.overlap_b,
            "variant": pa.array(["r0"] * len(pairs.item_a), pa.string()),
            "offset_s": pa.nulls(len(pairs.item_a), pa.float64()),
        },
        schema=tables.PAIRS,
    )
    hub_table = pa.table(
        {
            "hasher": pa.array([maker.spec] * len(hubs), pa.string()),
            "uri": prepared.uris.take(pa.array([centre for centre, _, _ in hubs], pa.int64())),
            "items": pa.array([items for _, items, _ in hubs], pa.int64()),
            "reason": pa.array([reason for _, _, reason in hubs], pa.string()),
        },
        schema=tables.HUBS,
    )
    label = maker.folder.split("/")[1]
    return Written(
        write_chunks(root, f"pairs/{label}", table, made),
        write_chunks(root, "hubs", hub_table, made),
        len(table),
        len(hub_table),
    )


def write_chunks(root: str, folder: str, table: pa.Table, made_by: dict[str, Any]) -> list[str]:
    """Write a table as parts of bounded size, named by their content; no part for no rows."""
    names = []
    for start in range(0, len(table), _ROWS_PER_PART):
        rows = table.slice(start, _ROWS_PER_PART)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        digest = blake2b(sink.getvalue(), digest_size=12).hexdigest()
        names.append(f"{folder}/part-{digest}.parquet")
        tables.write_part(root, names[-1], rows, made_by)
    return names


class _ItemPairs(NamedTuple):
    """Parallel arrays, one entry per pair of items, item_a < item_b; distance in bits."""

    item_a: np.ndarray
    item_b: np.ndarray
    distance: np.ndarray
    matches: np.ndarray
    overlap_a: np.ndarray
    overlap_b: np.ndarray


def _pairs(prepared: Prepared, matches: pa.Table, radius_bits: int) -> tuple[_ItemPairs, list[tuple[int, int, str]]]:
    """The pairs of items whose rows lie in matching sets of equal hashes; and a hub for each set too large."""
    items, starts = prepared.items, prepared.starts
    counts = np.diff(starts)
    same = np.flatnonzero(counts > 1) if radius_bits >= 0 else np.empty(0, np.int64)
    i = np.concatenate([same, matches["i"].to_numpy()])
    j = np.concatenate([same, matches["j"].to_numpy()])
    distance = np.concatenate([np.zeros(len(same), np.int64), matches["distance"].to_numpy()])
    combinations = np.where(i == j, counts[i] * (counts[i] - 1) // 2, counts[i] * counts[j])
    star = combinations > ALL_PAIRS_LIMIT
    row_a, row_b, which = _every_pair(starts, i[~star], j[~star])
    found = [(row_a, row_b, distance[~star][which])]
    hubs = []
    for left, right, bits in zip(i[star].tolist(), j[star].tolist(), distance[star].tolist(), strict=True):
        if items[starts[right]] < items[starts[left]]:
            left, right = right, left
        others = np.arange(starts[right] + (left == right), starts[right + 1])
        found.append((np.full(len(others), starts[left]), others, np.full(len(others), bits)))
        size = int(counts[left] + (counts[right] if left != right else 0))
        kind = "share one hash" if left == right else f"are {bits} bits apart as two sets"
        hubs.append((int(items[starts[left]]), size, f"{size} items {kind}"))
    return _by_items(items, *(np.concatenate(column) for column in zip(*found, strict=True))), hubs


def _every_pair(starts: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every row of set i[k] with every row of set j[k] (each pair once where the sets are the same), and k."""
    left, right = np.diff(starts)[i], np.diff(starts)[j]
    sizes = left * right
    which = np.repeat(np.arange(len(i)), sizes)
    position = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row_a, row_b = starts[i[which]] + position // right[which], starts[j[which]] + position % right[which]
    once = (i[which] != j[which]) | (row_a < row_b)
    return row_a[once], row_b[once], which[once]


def _by_items(items: np.ndarray, row_a: np.ndarray, row_b: np.ndarray, distance: np.ndarray) -> _ItemPairs:
    """Row pairs gathered by the pair of items they belong to."""
    swapped = items[row_a] > items[row_b]
    row_a, row_b = np.where(swapped, row_b, row_a), np.where(swapped, row_a, row_b)
    apart = items[row_a] != items[row_b]
    row_a, row_b, distance = row_a[apart], row_b[apart], distance[apart]
    item_a, item_b = items[row_a], items[row_b]
    order = np.lexsort((distance, item_b, item_a))
    row_a, row_b, distance, item_a, item_b = (x[order] for x in (row_a, row_b, distance, item_a, item_b))
    first = np.flatnonzero(np.r_[True, (np.diff(item_a) != 0) | (np.diff(item_b) != 0)]) if len(item_a) else order
    rows_of = np.bincount(items)
    matches = np.diff(np.r_[first, len(item_a)])
    group = np.repeat(np.arange(len(first)), matches)
    a, b = item_a[first], item_b[first]
    return _ItemPairs(
        a,
        b,
        distance[first],
        matches,
        _distinct_per_group(group, row_a, len(first)) / rows_of[a],
        _distinct_per_group(group, row_b, len(first)) / rows_of[b],
    )


def _distinct_per_group(group: np.ndarray, rows: np.ndarray, groups: int) -> np.ndarray:
    """How many different rows each group has."""
    order = np.lexsort((rows, group))
    group, rows = group[order], rows[order]
    fresh = np.r_[True, (np.diff(group) != 0) | (np.diff(rows) != 0)][: len(group)]
    return np.bincount(group[fresh], minlength=groups)


def with_pairs(root: str, manifest: dict[str, list[str]], maker: Maker, written: Written) -> dict[str, list[str]]:
    """The manifest after this join: it replaces what an earlier join of the same hasher gave."""
    others = [name for name in manifest.get("hubs", []) if tables.made_by(root, name)["hasher"][0] != maker.spec]
    return {**manifest, f"pairs/{maker.folder.split('/')[1]}": written.pairs, "hubs": [*others, *written.hubs]}
