"""The join of one hasher: its distinct hashes in blocks, block against block as tiles.

Tiles join *distinct* hashes; `pairing` derives the pairs of items from them afterwards, so that a thousand
copies of one picture cost one row in the join. Where items have isometric variants, one side of a match is
always upright: what a turned and a turned hash say of each other, an upright and a turned one say too.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import joins, storage, tables
from pipeline.errors import RunError, UsageError
from pipeline.hashers import VARIANTS
from pipeline.stages.hashing import hash_type
from pipeline.stages.live import WORK, Maker

UPRIGHT = VARIANTS.index("r0")
_MATCHES = pa.schema([("i", pa.int64()), ("j", pa.int64()), ("distance", pa.int32())])


class Block(NamedTuple):
    """Consecutive distinct hashes, written as one work file."""

    name: str
    start: int  # number of its first hash
    width: int  # bytes of a hash


class JoinTask(NamedTuple):
    """One tile: two blocks of distinct hashes (the same, or left before right) and the radius of a match."""

    root: str
    tile: str
    left: Block
    right: Block
    radius_bits: int


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


class Prepared(NamedTuple):
    """A join ready to run."""

    tasks: list[JoinTask]  # the tiles still to be joined
    tiles: list[str]  # the parts of all tiles
    rows: Rows
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
    table = tables.read_table(root, names, schema, ["uri", "variant", "frame_index", "hash"])
    hashed = table.filter(pc.is_valid(table["hash"]))
    variants = pc.index_in(hashed["variant"], pa.array(VARIANTS)).to_numpy().astype(np.int64)
    unique, sets, upright = _upright_first(*joins.distinct(_as_bytes(hashed["hash"])), variants == UPRIGHT)
    key = blake2b(f"{maker.spec}|{maker.hasher.revision}|{radius_bits}|{block_rows}|{upright}".encode(), digest_size=12)
    key.update(unique.tobytes())
    folder = f"{WORK}/join-{key.hexdigest()}"
    blocks = [
        _write_block(root, folder, unique, start, min(start + block_rows, end))
        for begin, end in ((0, upright), (upright, len(unique)))
        for start in range(begin, end, block_rows)
    ]
    present = set(storage.list_names(root))
    tasks = [
        JoinTask(root, f"{folder}/tile-{left.start:012d}-{right.start:012d}.parquet", left, right, radius_bits)
        for left in blocks
        for right in blocks
        if left.start < upright and left.start <= right.start
    ]
    rows = _rows(hashed, sets, variants, len(unique))
    to_do = [task for task in tasks if task.tile not in present]
    return Prepared(to_do, [task.tile for task in tasks], rows, len(table) - len(hashed))


def _check_comparable(root: str, maker: Maker, names: Sequence[str]) -> None:
    decodings = set()
    for name in names:
        made_by = tables.made_by(root, name)
        if made_by["hasher"][:2] != maker.stamp[:2]:
            raise RunError(
                f"{name} holds hashes of {made_by['hasher'][:2]}, this version makes {maker.stamp[:2]}: the two must "
                "not meet; run `neardup hash` again over the same inputs"
            )
        decodings.add(f"{made_by['decode']} {made_by['hasher'][2:]}")
    if len(decodings) > 1:
        raise RunError(f"{maker.folder} holds hashes made in two ways ({', '.join(sorted(decodings))}); hash again")


def _as_bytes(hashes: pa.ChunkedArray) -> np.ndarray:
    column = hashes.combine_chunks()
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    return data[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)


def _upright_first(unique: np.ndarray, sets: np.ndarray, upright: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The distinct hashes with those of upright rows first, the set of each row, and how many those are."""
    turned = np.ones(len(unique), bool)
    turned[sets[upright]] = False
    order = np.argsort(turned, kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return unique[order], number[sets], int(np.count_nonzero(~turned))


def _rows(hashed: pa.Table, sets: np.ndarray, variants: np.ndarray, distinct: int) -> Rows:
    uris, items = _numbered(hashed["uri"])
    keys = np.stack([items, hashed["frame_index"].to_numpy()])
    frames = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1) if len(items) else items
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


def _write_block(root: str, folder: str, unique: np.ndarray, start: int, end: int) -> Block:
    block = Block(f"{folder}/block-{start:012d}.bin", start, unique.shape[1])
    storage.write(root, block.name, np.ascontiguousarray(unique[start:end]).tobytes())
    return block


def _read_block(root: str, block: Block) -> np.ndarray:
    data = storage.read(root, block.name)
    if data is None:
        raise RunError(f"{root}/{block.name} is gone; run the join again")
    return np.frombuffer(data, np.uint8).reshape(-1, block.width)


def join_tile(task: JoinTask) -> Tile:
    """Join two blocks of distinct hashes and write the matches; the part is the tile's receipt."""
    left = _read_block(task.root, task.left)
    if task.left == task.right:
        chunks = joins.self_join_chunks(left, task.radius_bits)
        compared = len(left) * (len(left) - 1) // 2
    else:
        right = _read_block(task.root, task.right)
        chunks = joins.cross_join_chunks(left, right, task.radius_bits)
        compared = len(left) * len(right)
    matches = spilled = 0
    last = _MATCHES.empty_table()
    for found in chunks:  # all but the last chunk are spilled; the last is the receipt and says how many there are
        if len(last):
            tables.write_part(task.root, _spilled(task.tile, spilled), last, {})
            spilled += 1
        i, j = found.i + task.left.start, found.j + task.right.start
        last = pa.table([i, j, found.distance], schema=_MATCHES)
        matches += len(last)
    tables.write_part(task.root, task.tile, last, {"spilled": spilled})
    return Tile(compared, matches)


def _spilled(tile: str, number: int) -> str:
    return f"{tile.removesuffix('.parquet')}-{number:06d}.parquet"


def read_matches(root: str, prepared: Prepared) -> Iterator[joins.Matches]:
    """The matches of all tiles, chunk by chunk; i and j number the sets of `prepared.rows`."""
    for tile in prepared.tiles:
        spilled = tables.made_by(root, tile)["spilled"]
        for part in [*(_spilled(tile, number) for number in range(spilled)), tile]:
            found = tables.read_part(root, part)
            yield joins.Matches(*(found[name].to_numpy() for name in _MATCHES.names))
