"""The join of one hasher: which distinct hashes match, and which have too many matches to tell.

Tiles join *distinct* hashes; `pairing` derives the pairs of items from them afterwards, so that a thousand
copies of one picture cost one row in the join. Where items have isometric variants, one side of a match is
always upright: what a turned and a turned hash say of each other, an upright and a turned one say too.

A hash with more than `max_neighbours` others within the radius is a hub. Matches between two hubs are left out: a flood
of n hashes would have n² of them; `pairing` links hubs by a spanning forest instead. Whether a hash is a hub depends on
the final hashes alone. All matches of a hash that is none are there, so those are counted; a tile that knows a hash to
be a hub says so, and it stays one until hashes are removed, the radius shrinks or the limit rises.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import joins, storage, tables
from neardup.errors import RunError, UsageError
from neardup.hashers import VARIANTS
from neardup.joins.real import METRICS
from neardup.stages import tiles
from neardup.stages.hashing import hash_type
from neardup.stages.live import WORK, Maker
from neardup.stages.tiles import Distinct, JoinTask, Radius

UPRIGHT = VARIANTS.index("r0")
_RECALL_HASHES = 2000  # joined exactly to see what an approximate join has missed


class Rows(NamedTuple):
    """The joined rows, ordered by set (of equal hashes), item and variant: what distinct hashes stand for."""

    uris: pa.Array  # sorted distinct uris; items are indexes into it
    items: np.ndarray  # int64 (rows,)
    frames: np.ndarray  # int64 (rows,): numbers each (item, frame index)
    variants: np.ndarray  # int64 (rows,): index into VARIANTS
    timestamps: np.ndarray  # float64 (rows,): seconds, NaN where there are none
    starts: np.ndarray  # int64 (sets + 1,): where the rows of each set begin


class Gathered(NamedTuple):
    """The rows of one hasher that are to be joined, and their distinct hashes."""

    hashed: pa.Table  # uri, frame_index and timestamp_s of the rows
    variants: np.ndarray  # int64 (rows,): index into VARIANTS
    distinct: Distinct
    sets: np.ndarray  # int64 (rows,): the distinct hash of each row
    kinds: list[np.ndarray]  # bool (sets,) each: upright and new, upright and known, turned and new, turned and known
    known: "Near"  # from an earlier join
    left_out: int  # hashes of too low quality
    made_by: dict[str, Any]


class Prepared(NamedTuple):
    """A join ready to run. Sets are numbered as the distinct hashes are."""

    tasks: list[JoinTask]  # the tiles still to be joined
    tiles: list[str]  # the parts of all tiles
    distinct: Distinct
    order: np.ndarray  # int64 (sets,): the set that each row of the blocks stands for
    known: "Near"  # from an earlier join
    rows: Rows
    left_out: int  # hashes of too low quality
    made_by: dict[str, Any]  # what PAIRS, JOINED and NEAR of this join carry


class Near(NamedTuple):
    """Sets within the radius of each other."""

    matches: joins.Matches  # those of two hubs left out
    hubs: np.ndarray  # bool (sets,)


def radius_of(maker: Maker, threshold: float) -> Radius:
    """The radius of a threshold in the hasher's own distance. Raises UsageError where it cannot be meant."""
    hasher = maker.hasher
    if hasher.distance_metric == "hamming":
        return Radius("hamming", joins.radius_from_threshold(threshold, hasher.hash_length))
    if hasher.distance_metric not in (*METRICS, "custom"):
        known = ", ".join(METRICS)
        raise UsageError(f"{maker.spec} has distance_metric {hasher.distance_metric!r}; use custom, {known}")
    if np.isnan(threshold) or (not threshold > 0 and hasher.distance_metric != "custom"):
        raise UsageError(f"threshold {threshold:g} for {maker.spec} matches nothing; give a distance above 0")
    return Radius(hasher.distance_metric, threshold)


def prepare(
    root: str,
    maker: Maker,
    radius: Radius,
    block_rows: int,
    min_quality: int = 0,
    max_neighbours: int = 0,
    annoy: joins.Annoy | None = None,
) -> Prepared:
    """Collect the live hashes of one hasher, write the distinct ones as blocks, and plan the tiles.

    Hashes that an earlier join has compared are not compared again: tiles have a new hash on one side. With annoy, all
    are compared, approximately: what such a join has not found is no fact to build on.
    """
    gathered = gather(root, maker, radius, min_quality, max_neighbours, annoy)
    distinct, kinds, made_by = gathered.distinct, gathered.kinds, gathered.made_by
    order = np.concatenate([np.flatnonzero(kind) for kind in kinds])
    key = blake2b(f"{made_by}|{block_rows}|{[int(kind.sum()) for kind in kinds]}".encode(), digest_size=12)
    hashes = distinct.hashes if kinds[0].all() else distinct.hashes[order]
    key.update(np.ascontiguousarray(hashes).data)
    folder = f"{WORK}/join-{key.hexdigest()}"
    blocks = tiles.cut_blocks(folder, hashes.shape[1], kinds, block_rows)
    tiles.write_blocks(root, blocks, hashes)
    nowhere = tiles.Block("", 0, 0, 0)
    alike = JoinTask(root, folder, maker.spec, nowhere, nowhere, radius, max_neighbours=max_neighbours, annoy=annoy)
    tasks = tiles.planned(compared_blocks(blocks), alike, hashes)
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


def gather(
    root: str,
    maker: Maker,
    radius: Radius,
    min_quality: int = 0,
    max_neighbours: int = 0,
    annoy: joins.Annoy | None = None,
) -> Gathered:
    """The live hashes of one hasher, the distinct ones among them, and what an earlier join says of those."""
    manifest = storage.read_manifest(root)
    made_by = {
        "hasher": maker.stamp[:2],
        "hashes": _made_alike(root, maker, manifest),
        "radius": list(radius),
        "max_neighbours": max_neighbours,
        **({"engine": ["annoy", *annoy]} if annoy else {}),
    }
    schema = tables.hashes_schema(hash_type(maker.hasher))
    columns = ["uri", "variant", "frame_index", "timestamp_s", "hash", "quality"]
    table = tables.read_table(root, manifest.get(maker.folder, []), schema, columns)
    listed = len(table) - table["hash"].null_count
    good = pc.fill_null(pc.greater_equal(table["quality"], pa.scalar(min_quality, pa.int16())), True)
    wanted = pc.and_(pc.is_valid(table["hash"]), good)
    hashed = table if pc.all(wanted).as_py() else table.filter(wanted)
    variants = pc.index_in(hashed["variant"], pa.array(VARIANTS)).to_numpy().astype(np.int64)
    hashes, hashed = tiles.as_bytes(hashed["hash"]), hashed.select(["uri", "frame_index", "timestamp_s"])
    del table  # the rows may be many: what is not needed any more goes
    pa.default_memory_pool().release_unused()
    distinct, sets = tiles.distinct(hashes, variants == UPRIGHT)
    fresh, known = _known_matches(root, manifest if annoy is None else {}, maker, made_by, radius, distinct)
    kinds = [distinct.upright & fresh, distinct.upright & ~fresh, ~distinct.upright & fresh, ~distinct.upright & ~fresh]
    return Gathered(hashed, variants, distinct, sets, kinds, known, listed - len(hashed), made_by)


def compared_blocks(blocks: Sequence[Sequence[tiles.Block]]) -> list[tuple[tiles.Block, tiles.Block]]:
    """The tiles: which blocks, given by kind, are compared with which."""
    return [
        (left, right)
        for kind, others in _COMPARED.items()
        for left in blocks[kind]
        for other in others
        for right in blocks[other]
        if left.start <= right.start
    ]


# which kinds of hash are compared: 0 upright and new, 1 upright and known, 2 turned and new, 3 turned and known
_COMPARED = {0: (0, 1, 2, 3), 1: (2,)}


def _known_matches(
    root: str,
    manifest: dict[str, list[str]],
    maker: Maker,
    made_by: dict[str, Any],
    radius: Radius,
    distinct: Distinct,
) -> tuple[np.ndarray, Near]:
    """Which distinct hashes no earlier join has compared with all others, and what it knows of those it has."""
    joined, near = manifest.get(beside(maker, "joined"), []), manifest.get(beside(maker, "near"), [])
    fresh = np.ones(len(distinct.hashes), bool)
    no_matches = joins.Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))
    hubs = np.zeros(len(distinct.hashes), bool)
    nothing = Near(no_matches, hubs)
    if not joined:
        return fresh, nothing
    earlier = tables.made_by(root, joined[0])
    free = {"radius": 0, "max_neighbours": 0}
    if {**earlier, **free} != {**made_by, **free} or Radius(*earlier["radius"]).limit < radius.limit:
        return fresh, nothing
    schema = tables.joined_schema(pa.binary(distinct.hashes.shape[1]))
    table = tables.read_table(root, joined, schema).sort_by("hash")  # NEAR numbers them in this order
    hashes = tiles.as_bytes(table["hash"])
    both, numbers = joins.distinct(np.concatenate([hashes, distinct.hashes]))
    here = np.full(len(both), -1)
    here[numbers[len(hashes) :]] = np.arange(len(distinct.hashes))
    now = here[numbers[: len(hashes)]]
    was_upright = np.zeros(len(distinct.hashes), bool)
    was_upright[now[now >= 0]] = table["upright"].to_numpy()[now >= 0]
    fresh[now[now >= 0]] = False
    fresh |= distinct.upright & ~was_upright  # what was only seen turned has not been compared with turned ones
    hubs[now[now >= 0]] = table["hub"].to_numpy()[now >= 0]
    fewer = (now < 0).any() or (was_upright & ~distinct.upright).any() or earlier["radius"] != list(radius)
    most, before = (one["max_neighbours"] or np.inf for one in (made_by, earlier))
    if fewer or most > before:  # hubs have matches that nobody knows, and may be none any more
        fresh |= hubs
        hubs[:] = False
    found = tables.read_table(root, near, tables.NEAR)
    i, j, distance = now[found["i"].to_numpy()], now[found["j"].to_numpy()], found["distance"].to_numpy()
    wanted = (i >= 0) & (j >= 0) & radius.reaches(distance)
    i, j, distance = i[wanted], j[wanted], distance[wanted]
    compared = ~(fresh[i] | fresh[j]) & (distinct.upright[i] | distinct.upright[j])
    hubs[fresh] = False
    return fresh, Near(joins.Matches(i[compared], j[compared], distance[compared]), hubs)


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


def _rows(hashed: pa.Table, sets: np.ndarray, variants: np.ndarray, distinct: int) -> Rows:
    uris, items = numbered(hashed["uri"])
    frame_index = hashed["frame_index"].to_numpy()
    frames = items
    if frame_index.any():
        frames = np.unique(items * (frame_index.max() + 1) + frame_index, return_inverse=True)[1]
    order = np.lexsort((frames, variants, items, sets))
    starts = np.searchsorted(sets[order], np.arange(distinct + 1))
    seconds = hashed["timestamp_s"].to_numpy()
    return Rows(uris, items[order], frames[order], variants[order], seconds[order], starts)


def numbered(uris: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The sorted distinct uris, and for each row its number among them."""
    encoded = uris.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy()]


def all_matches(root: str, prepared: Prepared) -> Near:
    """The matches between sets: those known before, and those of all tiles; without those of two hubs."""
    hubs = prepared.known.hubs.copy()
    for tile in prepared.tiles:
        hubs[prepared.order[tiles.read_crowded(root, tile)]] = True
    found = [prepared.known.matches]
    for tile in prepared.tiles:
        for rows in tiles.read_matches(root, tile):
            i, j = (prepared.order[rows[name].to_numpy()] for name in ("i", "j"))
            one = joins.Matches(np.minimum(i, j), np.maximum(i, j), rows["distance"].to_numpy())
            found.append(_without(one, hubs))
    i, j, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    if most := prepared.made_by["max_neighbours"]:
        hubs |= np.bincount(i, minlength=len(hubs)) + np.bincount(j, minlength=len(hubs)) > most
    matches = _without(joins.Matches(i, j, distance), hubs)
    order = np.lexsort((matches.j, matches.i))
    return Near(matches.where(order), hubs)


def _without(matches: joins.Matches, hubs: np.ndarray) -> joins.Matches:
    """The matches but those of two hubs."""
    wanted = ~(hubs[matches.i] & hubs[matches.j])
    return matches.where(wanted)


def measured_recall(prepared: Prepared, near: Near, radius: Radius) -> dict[str, Any]:
    """What share of the matches of some upright hashes, joined exactly with all, was found; of two hubs none counts."""
    upright = np.flatnonzero(prepared.distinct.upright)
    sample = upright[np.linspace(0, len(upright) - 1, min(len(upright), _RECALL_HASHES)).astype(np.int64)]
    found, true = joins.recall(prepared.distinct.hashes, int(radius.limit), near.matches, sample, near.hubs)
    return {"recall": found / true if true else None, "found": found, "matches": true, "hashes": len(sample)}


def write_joined(root: str, maker: Maker, prepared: Prepared, near: Near) -> dict[str, list[str]]:
    """JOINED and NEAR: what the next join need not compare again. Gives the parts by table folder."""
    width = prepared.distinct.hashes.shape[1]
    hashes = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(prepared.distinct.hashes), [None, pa.py_buffer(prepared.distinct.hashes.tobytes())]
    )
    joined = pa.table([hashes, prepared.distinct.upright, near.hubs], schema=tables.joined_schema(pa.binary(width)))
    found = pa.table(list(near.matches), schema=tables.NEAR)
    return {
        beside(maker, "joined"): tables.write_chunks(root, beside(maker, "joined"), joined, prepared.made_by),
        beside(maker, "near"): tables.write_chunks(root, beside(maker, "near"), found, prepared.made_by),
    }
