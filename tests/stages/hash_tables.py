"""HASHES tables written directly, and the join of them stage by stage."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from neardup import storage, tables
from neardup.stages import joining, live, pairing, tiles
from neardup.stages.hashing import hash_type
from neardup.stages.live import Maker
from neardup.stages.tiles import Radius

Row = tuple[str, int, float | None, bytes | Sequence[float]]  # uri, frame index, timestamp in seconds, hash


class Joined(NamedTuple):
    """What a join has written."""

    pairs: list[dict[str, Any]]
    hubs: list[dict[str, Any]]
    near: int  # rows of NEAR
    found: int  # matches written by tiles


def write_hashes(root: str, maker: Maker, rows: Iterable[Row], variants: Sequence[str] | None = None) -> None:
    """Make these the HASHES of an output, in place of those it had."""
    columns = list(zip(*rows, strict=True))
    count = len(columns[0])
    schema = tables.hashes_schema(hash_type(maker.hasher))
    uris, frames, seconds, hashes = columns
    table = pa.table(
        [uris, ["1"] * count, variants or ["r0"] * count, frames, seconds, hashes, [100] * count, [None] * count],
        schema=schema,
    )
    made_by = {"hasher": maker.stamp, "decode": "any"}
    names = tables.write_chunks(root, maker.folder, table, made_by)
    live.commit(root, {**storage.read_manifest(root), maker.folder: names}, "join-")


def join(
    root: str,
    maker: Maker,
    radius: Radius,
    max_neighbours: int = 0,
    block_rows: int = 1000,
    rules: pairing.Rules | None = None,
) -> Joined:
    """Join the HASHES of an output with each other as `neardup join` does, tiles in another order each time."""
    prepared = joining.prepare(root, maker, radius, block_rows, 0, max_neighbours)
    order = np.random.default_rng(len(prepared.tasks)).permutation(len(prepared.tasks))
    found = sum(tiles.join_tile(prepared.tasks[k]).matches for k in order)
    near = joining.all_matches(root, prepared)
    written = pairing.write_pairs(root, maker, prepared, near, rules or pairing.Rules())
    parts = joining.write_joined(root, maker, prepared, near)
    live.commit(root, pairing.with_pairs(root, {**storage.read_manifest(root), **parts}, maker, written), "join-")
    return Joined(
        tables.read_table(root, written.pairs, tables.PAIRS).to_pylist(),
        tables.read_table(root, written.hubs, tables.HUBS).to_pylist(),
        len(near.matches.i),
        found,
    )


def components(pairs: Iterable[dict[str, Any]]) -> set[frozenset[str]]:
    """The items that pairs hang together with."""
    group: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        both = {pair["uri_a"], pair["uri_b"]}
        merged = both.union(*(group[uri] for uri in both))
        for uri in merged:
            group[uri] = merged
    return {frozenset(one) for one in group.values()}
