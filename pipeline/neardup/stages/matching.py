"""MATCHES: the items of a corpus that are near an entry of a known list.

The list is the right side of a join: its distinct hashes are compared with the distinct hashes of the corpus, tile by
tile, and never the corpus with itself. Whatever knows content in another way (a matching service) can hand its rows to
`write_matches` in the same form. As in a join, one side of a match is always upright: what a turned and a turned hash
say of each other, an upright and a turned one say too.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import joins, storage, tables
from neardup.errors import UsageError
from neardup.hashers import parse, recommended_threshold
from neardup.joins import crowds
from neardup.stages import joining, tiles
from neardup.stages.hashing import hash_type
from neardup.stages.known import Known, ListOptions, how_made, of_mapping, output_of, read_known
from neardup.stages.live import WORK, Maker, maker
from neardup.stages.tiles import Found, Radius

ROWS_AT_A_TIME = 1 << 22  # pairs of a row and a hash of the list, about: what is held while MATCHES is derived
Source = str | os.PathLike[str] | Mapping[str, Any]


class Side(NamedTuple):
    """One side of a match: rows in the order of their items, and the distinct hashes ("sets") they stand for."""

    names: pa.Array  # sorted distinct uris or entries; items are indexes into it
    items: np.ndarray  # int64 (rows,)
    sets: np.ndarray  # int64 (rows,)
    upright: np.ndarray  # bool (rows,)
    rows: np.ndarray  # int64 (rows,): where each row came from
    distinct: tiles.Distinct


class Corpus(NamedTuple):
    """The hashes of one hasher in an output."""

    side: Side
    left_out: int  # rows without a hash, or of too low quality


class Wanted(NamedTuple):
    """A hasher, and how near its hashes must be."""

    maker: Maker
    radius: Radius


class Prepared(NamedTuple):
    """A corpus and a list, ready to be compared. Hashes are numbered through the blocks of both."""

    tasks: list[tiles.JoinTask]  # the tiles still to be joined
    tiles: list[str]  # the parts of all tiles
    order: np.ndarray  # int64 (hashes of both,): the set of its side that each hash of the blocks stands for


class Written(NamedTuple):
    """The parts of MATCHES for one list, and what they hold."""

    names: list[str]
    rows: int
    items: int  # different ones


# --- what is to be matched --------------------------------------------------------------------------------------------


def wanted(text: str, radius_bits: int | None) -> Wanted:
    """The hasher that `SPEC` or `SPEC@THRESHOLD` names, and the radius of a match. Raises UsageError."""
    spec, _, given = text.partition("@")
    made = maker(parse(spec))
    if radius_bits is not None:
        if made.hasher.distance_metric != "hamming":
            raise UsageError(f"--radius-bits does not fit {made.spec}, whose hashes are real-valued; give a threshold")
        return Wanted(made, Radius("hamming", min(radius_bits, made.hasher.hash_length)))
    try:
        threshold = float(given) if given else recommended_threshold(made.hasher)
    except ValueError as error:
        raise UsageError(f"{text!r}: the threshold {given!r} is not a number; write SPEC@0.2") from error
    if threshold is None:
        raise UsageError(f"{made.spec} has no recommended threshold; give one: --hasher {made.spec}@0.1")
    return Wanted(made, joining.radius_of(made, threshold))


def corpus_decode(root: str, maker: Maker) -> str | None:
    """The decode policy of the hashes that an output has. Raises UsageError when it has none of this hasher."""
    names = storage.read_manifest(root).get(maker.folder)
    if names is None:
        raise UsageError(f"{root} has no hashes of {maker.spec}; add them: neardup hash … --hasher {maker.spec}")
    return how_made(root, names, maker, root)


def read_corpus(root: str, maker: Maker, min_quality: int = 0) -> Corpus:
    """The live hashes of one hasher, those of lower quality left out and counted."""
    schema = tables.hashes_schema(hash_type(maker.hasher))
    names = storage.read_manifest(root).get(maker.folder, [])
    table = tables.read_table(root, names, schema, ["uri", "variant", "hash", "quality"])
    wanted = pc.is_valid(table["hash"])
    if min_quality > 0:
        wanted = pc.and_(wanted, pc.greater_equal(table["quality"], pa.scalar(min_quality, pa.int16())))
    rows = table.filter(wanted)
    upright = pc.equal(rows["variant"], "r0").to_numpy().astype(bool)
    return Corpus(_side(rows["uri"], tiles.as_bytes(rows["hash"]), upright), len(table) - len(rows))


def side_of(listed: Known) -> Side:
    """A known list as the right side of a join."""
    return _side(pa.chunked_array([listed.entries]), listed.hashes, listed.upright)


def _side(names: pa.ChunkedArray, hashes: np.ndarray, upright: np.ndarray) -> Side:
    unique, items = joining.numbered(names)
    distinct, sets = tiles.distinct(hashes, upright)
    order = np.argsort(items, kind="stable")
    return Side(unique, items[order], sets[order], upright[order], order, distinct)


# --- tiles ------------------------------------------------------------------------------------------------------------


def prepare(root: str, corpus: Side, listed: Side, how: Wanted, block_rows: int) -> Prepared:
    """Write the distinct hashes of both sides as blocks, and plan the tiles: a block of each side."""
    left, right = corpus.distinct, listed.distinct
    hashes = np.concatenate([left.hashes, right.hashes])
    of_list = np.arange(len(hashes)) >= len(left.hashes)
    upright = np.concatenate([left.upright, right.upright])
    kinds = [~of_list & upright, ~of_list & ~upright, of_list & upright, of_list & ~upright]
    order = np.concatenate([np.flatnonzero(kind) for kind in kinds])
    sizes = [int(kind.sum()) for kind in kinds]
    key = blake2b(f"{how.maker.stamp}|{how.radius}|{block_rows}|{sizes}".encode(), digest_size=12)
    key.update(hashes[order].tobytes())
    folder = f"{WORK}/match-{key.hexdigest()}"
    blocks = tiles.cut_blocks(folder, hashes.shape[1], kinds, block_rows)
    tiles.write_blocks(root, blocks, hashes[order])
    pairs = [(a, b) for kind, others in _MEET.items() for a in blocks[kind] for other in others for b in blocks[other]]
    nowhere = tiles.Block("", 0, 0, 0)
    alike = tiles.JoinTask(root, folder, how.maker.spec, nowhere, nowhere, how.radius)
    tasks = tiles.planned(pairs, alike, hashes[order])
    present = set(storage.list_names(root))
    return Prepared(
        [task for task in tasks if task.tile not in present],
        [task.tile for task in tasks],
        np.where(of_list[order], order - len(left.hashes), order),
    )


# which kinds of hash meet: 0 upright and 1 turned of the corpus, 2 upright and 3 turned of the list
_MEET = {0: (2, 3), 1: (2,)}


def all_matches(root: str, prepared: Prepared) -> joins.Matches:
    """What all tiles have found: i numbers the sets of the corpus, j those of the list; sorted."""
    found = []
    for tile in prepared.tiles:
        for rows in tiles.read_matches(root, tile):
            i, j = (prepared.order[rows[name].to_numpy()] for name in ("i", "j"))
            found.append(joins.Matches(i, j, rows["distance"].to_numpy()))
    return _sorted(found)


def matches_in_memory(corpus: Side, listed: Side, how: Wanted) -> joins.Matches:
    """The same without tiles or files."""
    left, right = (np.ascontiguousarray(side.distinct.hashes) for side in (corpus, listed))
    first, second = (tiles.Block("", k, len(side), side.shape[1]) for k, side in enumerate((left, right)))
    task = tiles.JoinTask("", "", how.maker.spec, first, second, how.radius)
    return _sorted(list(tiles.chunks(task, left, right, crowds.crowd(len(left), len(right)))))


def _sorted(found: Sequence[Found]) -> joins.Matches:
    nothing = joins.Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))
    i, j, distance = (np.concatenate(column) for column in zip(nothing, *found, strict=True))
    order = np.lexsort((j, i))
    return joins.Matches(i[order], j[order], distance[order])


# --- MATCHES ----------------------------------------------------------------------------------------------------------


class Near(NamedTuple):
    """Items near entries: parallel arrays, each pair once, by item and entry; distance in bits or the hasher's own."""

    items: np.ndarray
    entries: np.ndarray
    distance: np.ndarray
    rows: np.ndarray  # the row of the list that was nearest, the first of several


def items_near(corpus: Side, listed: Side, matches: joins.Matches, at_a_time: int = ROWS_AT_A_TIME) -> Iterator[Near]:
    """Every item and entry with matching rows, at their smallest distance; piece by piece, in order."""
    by_set = np.argsort(listed.sets, kind="stable")
    starts = np.searchsorted(listed.sets[by_set], np.arange(len(listed.distinct.hashes) + 1))
    sizes = np.diff(starts)[matches.j]  # rows of the list behind each match
    before = np.concatenate([[0], np.cumsum(sizes)])
    bounds = np.searchsorted(matches.i, np.arange(len(corpus.distinct.hashes) + 1))
    weights = (before[bounds[1:]] - before[bounds[:-1]])[corpus.sets]  # of each row of the corpus
    for rows in _pieces(corpus.items, weights, at_a_time):
        first = bounds[corpus.sets[rows]]
        row, match = _ranges(first, bounds[corpus.sets[rows] + 1] - first)
        pair, place = _ranges(starts[matches.j[match]], sizes[match])
        here, there = rows[row[pair]], by_set[place]
        once = corpus.upright[here] | listed.upright[there]
        here, there, distance = here[once], there[once], matches.distance[match[pair][once]]
        yield _nearest(corpus.items[here], listed.items[there], distance, listed.rows[there])


def _pieces(items: np.ndarray, weights: np.ndarray, at_a_time: int) -> Iterator[np.ndarray]:
    """Rows that weigh anything, cut between items into pieces of about that weight."""
    rows = np.flatnonzero(weights)
    ends = np.flatnonzero(np.diff(items[rows], append=-1)) + 1  # behind the last row of each item
    reached = np.cumsum(weights[rows])[ends - 1] if len(rows) else ends
    start = done = 0
    while done < len(ends):
        base = int(reached[done - 1]) if done else 0
        done = max(done + 1, int(np.searchsorted(reached, base + at_a_time, "right")))
        yield rows[start : ends[done - 1]]
        start = ends[done - 1]


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All members of the ranges, and for each the number of its range: starts[k], starts[k] + 1, …"""
    which = np.repeat(np.arange(len(sizes)), sizes)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + starts[which]


def _nearest(items: np.ndarray, entries: np.ndarray, distance: np.ndarray, rows: np.ndarray) -> Near:
    order = np.lexsort((rows, distance, entries, items))
    items, entries = items[order], entries[order]
    first = np.ones(len(order), bool)
    first[1:] = (items[1:] != items[:-1]) | (entries[1:] != entries[:-1])
    return Near(items[first], entries[first], distance[order][first], rows[order][first])


def match_tables(
    maker: Maker, corpus: Side, listed: Known, entries: Side, matches: joins.Matches
) -> Iterator[pa.Table]:
    """The MATCHES rows of one list, whose right side is `entries`; piece by piece, by uri and entry."""
    scale = maker.hasher.hash_length if maker.hasher.distance_metric == "hamming" else 1.0
    for near in items_near(corpus, entries, matches):
        count = len(near.items)
        yield pa.table(
            {
                "uri": corpus.names.take(pa.array(near.items)),
                "hasher": pa.repeat(maker.spec, count),
                "list": pa.repeat(listed.name, count),
                "version": pa.repeat(listed.version, count),
                "entry": entries.names.take(pa.array(near.entries)),
                "label": listed.labels.take(pa.array(near.rows)),
                "distance": near.distance / scale,
            },
            schema=tables.MATCHES,
        )


def write_matches(root: str, pieces: Iterable[pa.Table], made_by: dict[str, Any]) -> Written:
    """Write the MATCHES rows of one list; a piece holds all rows of its items."""
    names: list[str] = []
    rows = items = 0
    for piece in pieces:
        names += tables.write_chunks(root, "matches", piece, made_by)
        rows += len(piece)
        items += pc.count_distinct(piece["uri"]).as_py()
    return Written(names, rows, items)


def made_by(maker: Maker, listed: Known, radius: Radius) -> dict[str, Any]:
    """What the parts of MATCHES say of how they were made."""
    return {"hasher": maker.stamp[:2], "list": listed.name, "version": listed.version, "radius": list(radius)}


def with_matches(
    root: str, manifest: dict[str, list[str]], made: dict[str, Any], written: Written
) -> dict[str, list[str]]:
    """The manifest after this match: it replaces the rows of the same hasher and list name."""
    same = (made["hasher"][0], made["list"])
    others = []
    for name in manifest.get("matches", []):
        earlier = tables.made_by(root, name)
        if (earlier["hasher"][0], earlier["list"]) != same:
            others.append(name)
    return {**manifest, "matches": [*others, *written.names]}


# --- lists ------------------------------------------------------------------------------------------------------------


def read_lists(
    given: Sequence[Source], maker: Maker, corpus: str | None, decode: str | None, options: ListOptions
) -> list[Known]:
    """All known lists of a match, read and checked before any work. Raises UsageError.

    `corpus` is the root of the output that is matched and `decode` its decode policy, None where there are none.
    """
    lists = [_list(one, maker, corpus, decode, options) for one in given]
    names = [one.name for one in lists]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two known lists are named {name!r}; rename one, as MATCHES tells lists apart by name")
    return lists


def _list(given: Source, maker: Maker, corpus: str | None, decode: str | None, options: ListOptions) -> Known:
    if isinstance(given, Mapping):
        return of_mapping(given, maker)
    path = os.fspath(given)
    found = output_of(path)
    if found and found.root == corpus:
        raise UsageError(f"known list {path!r} is the corpus itself; for pairs within a corpus use: neardup join")
    return read_known(path, maker, decode, options)


def match(
    corpus: Source,
    known: Source | Sequence[Source],
    hasher: str = "phash:hash_size=16@0.2",
    *,
    radius_bits: int | None = None,
    options: ListOptions | None = None,
) -> pa.Table:
    """The MATCHES rows of a corpus and known lists, in memory; `.to_pandas()` makes a DataFrame of them.

    `corpus` is an output of neardup (path or url), or a mapping of names to hashes: hex or base64 text, packed bytes,
    a vector, or several of them. `known` is a list or several: files or outputs as for `neardup match`, or such a
    mapping. `hasher` is SPEC or SPEC@THRESHOLD; `radius_bits`, inclusive, may be given instead of a threshold. Raises
    UsageError for what cannot be meant and for lists that were made by another hasher.
    """
    how = wanted(hasher, radius_bits)
    maker = how.maker
    root = decode = None
    if isinstance(corpus, Mapping):
        left = side_of(of_mapping(corpus, maker))
    else:
        found = output_of(os.fspath(corpus))
        if found is None:
            raise UsageError(f"{str(corpus)!r} is not an output of neardup; make one with: neardup hash … --output …")
        root, decode = found.root, corpus_decode(found.root, maker)
        left = read_corpus(root, maker).side
    given = [known] if isinstance(known, str | os.PathLike | Mapping) else known
    pieces = [tables.MATCHES.empty_table()]
    for listed in read_lists(given, maker, root, decode, options or ListOptions()):
        right = side_of(listed)
        matches = matches_in_memory(left, right, how)
        pieces += match_tables(maker, left, listed, right, matches)
    return pa.concat_tables(pieces)
