"""PAIRS and HUBS: from matching hashes to pairs of items."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import joins, tables
from pipeline.errors import UsageError
from pipeline.hashers import VARIANTS
from pipeline.stages.joining import UPRIGHT, Prepared, Radius, Rows, beside
from pipeline.stages.live import Maker

ALL_PAIRS_LIMIT = 1024  # two sets with more combinations than this are written as a star
# the turn that undoes each variant: all undo themselves but the two quarter turns
_INVERSE = np.array([VARIANTS.index({"r90": "r270", "r270": "r90"}.get(name, name)) for name in VARIANTS])


class Written(NamedTuple):
    """The parts and rows of the tables that a join gives."""

    pairs: list[str]
    hubs: list[str]
    pair_rows: int
    hub_rows: int


def write_pairs(
    root: str, maker: Maker, prepared: Prepared, matches: joins.Matches, block_by: Sequence[str] = ()
) -> Written:
    """Derive PAIRS and HUBS from the matches between sets of equal hashes, and write them."""
    rows = prepared.rows
    radius = Radius(*prepared.made_by["radius"])
    within = _within(rows, radius)
    blocks = [block_of(rows.uris, rule) for rule in block_by]
    pairs, hubs = item_pairs(rows, joins.concatenated(iter([within, matches])), blocks)
    made_by = {**prepared.made_by, "block_by": list(block_by)}
    table = pa.table(
        {
            "uri_a": rows.uris.take(pa.array(pairs.item_a)),
            "uri_b": rows.uris.take(pa.array(pairs.item_b)),
            "distance": pairs.distance / (maker.hasher.hash_length if radius.metric == "hamming" else 1),
            "matches": pairs.matches,
            "overlap_a": pairs.overlap_a,
            "overlap_b": pairs.overlap_b,
            "variant": pa.array(VARIANTS).take(pa.array(pairs.variant)),
            "offset_s": pa.nulls(len(pairs.item_a), pa.float64()),
        },
        schema=tables.PAIRS,
    )
    hub_table = pa.table(
        {
            "hasher": pa.array([maker.spec] * len(hubs), pa.string()),
            "uri": rows.uris.take(pa.array([hub.item for hub in hubs], pa.int64())),
            "items": pa.array([hub.items for hub in hubs], pa.int64()),
            "reason": pa.array([hub.reason for hub in hubs], pa.string()),
        },
        schema=tables.HUBS,
    )
    return Written(
        tables.write_chunks(root, beside(maker, "pairs"), table, made_by),
        tables.write_chunks(root, "hubs", hub_table, made_by),
        len(table),
        len(hub_table),
    )


def with_pairs(root: str, manifest: dict[str, list[str]], maker: Maker, written: Written) -> dict[str, list[str]]:
    """The manifest after this join: it replaces what an earlier join of the same hasher gave."""
    others = [name for name in manifest.get("hubs", []) if tables.made_by(root, name)["hasher"][0] != maker.spec]
    return {**manifest, beside(maker, "pairs"): written.pairs, "hubs": [*others, *written.hubs]}


def check_block_rule(rule: str) -> None:
    """Raises UsageError unless the rule is `folder` or `pattern:REGEX`."""
    kind, _, pattern = rule.partition(":")
    if rule != "folder" and not (kind == "pattern" and pattern):
        raise UsageError(f"unknown --block-by {rule!r}; give folder, or pattern:REGEX")
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--block-by {rule!r} is not a regular expression: {error}") from error


def block_of(uris: pa.Array, rule: str) -> np.ndarray:
    """The block of each item by a rule, int64, -1 for none: its folder, or what the pattern (its first group) finds."""
    if rule == "folder":
        keys = pc.replace_substring_regex(uris, "/[^/]*$", "")
    else:
        found = [re.search(rule.partition(":")[2], uri) for uri in uris.to_pylist()]
        keys = pa.array([match and (match[1] if match.re.groups else match[0]) for match in found], pa.string())
    codes: np.ndarray = pc.fill_null(keys.dictionary_encode().indices, -1).to_numpy().astype(np.int64)
    return codes


def _within(rows: Rows, radius: Radius) -> joins.Matches:
    """Each set of several rows as a match of itself: equal hashes, distance 0."""
    same = np.flatnonzero(np.diff(rows.starts) > 1) if radius.reaches(np.zeros(1))[0] else np.empty(0, np.int64)
    return joins.Matches(same, same, np.zeros(len(same), np.int32))


class Pairs(NamedTuple):
    """Parallel arrays, one entry per pair of items, item_a < item_b, sorted; distance in bits, or the hasher's own."""

    item_a: np.ndarray
    item_b: np.ndarray
    distance: np.ndarray
    matches: np.ndarray  # matching pairs of frames
    overlap_a: np.ndarray  # share of a's frames that match
    overlap_b: np.ndarray
    variant: np.ndarray  # index into VARIANTS: the transform of b that matched


class Hub(NamedTuple):
    """Sets too large for all their pairs: written as a star around one item."""

    item: int
    items: int
    reason: str


def item_pairs(rows: Rows, matches: joins.Matches, blocks: Sequence[np.ndarray] = ()) -> tuple[Pairs, list[Hub]]:
    """The pairs of items that have rows in matching sets; and a hub for each match of sets that are too large.

    With blocks (each an int64 per item: the block it belongs to, -1 for none) only items that share a block of at least
    one kind are paired.
    """
    found: list[tuple[np.ndarray, ...]] = []
    hubs: list[Hub] = []
    for block in blocks or [np.zeros(len(rows.uris), np.int64)]:
        part, rows_of, part_matches = _cut(rows, matches, block)
        row_pairs, part_hubs = _row_pairs(part, part_matches)
        found += [(rows_of[row_a], rows_of[row_b], distance) for row_a, row_b, distance in row_pairs]
        hubs += part_hubs
    row_a, row_b, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    if len(blocks) > 1:  # what two kinds of block have in common was found twice
        once = np.unique(np.stack([row_a, row_b]), axis=1, return_index=True)[1]
        row_a, row_b, distance = row_a[once], row_b[once], distance[once]
    return _by_items(rows, row_a, row_b, distance), hubs


def _cut(rows: Rows, matches: joins.Matches, block: np.ndarray) -> tuple[Rows, np.ndarray, joins.Matches]:
    """The rows with each set cut into its blocks, the row each of them is, and the matches between those pieces."""
    if not block.any():
        return rows, np.arange(len(rows.items)), matches
    sets = np.repeat(np.arange(len(rows.starts) - 1), np.diff(rows.starts))
    blocks = block[rows.items]
    order = np.lexsort((np.arange(len(sets)), blocks, sets))
    order = order[blocks[order] >= 0]
    first = np.flatnonzero(_changes(sets[order], blocks[order]))
    pieces = pa.table({"set": sets[order][first], "block": blocks[order][first], "piece": np.arange(len(first))})
    edges = pa.table({"i": matches.i, "j": matches.j, "distance": matches.distance})
    left = edges.join(pieces.rename_columns(["i", "block", "piece_i"]), "i", join_type="inner")
    both = left.join(pieces.rename_columns(["j", "block", "piece_j"]), ["j", "block"], join_type="inner")
    both = both.sort_by([("piece_i", "ascending"), ("piece_j", "ascending")])
    cut = Rows(rows.uris, rows.items[order], rows.frames[order], rows.variants[order], np.append(first, len(order)))
    return cut, order, joins.Matches(*(both[name].to_numpy() for name in ("piece_i", "piece_j", "distance")))


def _row_pairs(rows: Rows, matches: joins.Matches) -> tuple[list[tuple[np.ndarray, ...]], list[Hub]]:
    """The pairs of rows in matching sets, as (row, row, distance), and a hub for each match written as a star."""
    counts = np.diff(rows.starts)
    i, j, distance = matches
    combinations = np.where(i == j, counts[i] * (counts[i] - 1) // 2, counts[i] * counts[j])
    star = combinations > ALL_PAIRS_LIMIT
    row_a, row_b, which = _every_pair(rows.starts, i[~star], j[~star])
    found: list[tuple[np.ndarray, ...]] = [(row_a, row_b, distance[~star][which])]
    hubs = []
    for left, right, apart in zip(i[star].tolist(), j[star].tolist(), distance[star].tolist(), strict=True):
        if rows.items[rows.starts[right]] < rows.items[rows.starts[left]]:
            left, right = right, left
        others = np.arange(rows.starts[right] + (left == right), rows.starts[right + 1])
        found.append((np.full(len(others), rows.starts[left]), others, np.full(len(others), apart)))
        hubs.append(_hub(rows, left, right))
    return found, hubs


def _hub(rows: Rows, left: int, right: int) -> Hub:
    members = [rows.items[rows.starts[one] : rows.starts[one + 1]] for one in {left, right}]
    items = len(np.unique(np.concatenate(members)))
    why = "share one hash" if left == right else "have one of two hashes within the radius"
    return Hub(int(rows.items[rows.starts[left]]), items, f"{items} items {why}")


def _every_pair(starts: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every row of set i[k] with every row of set j[k] (each pair once where the sets are the same), and k."""
    left, right = np.diff(starts)[i], np.diff(starts)[j]
    sizes = left * right
    which = np.repeat(np.arange(len(i)), sizes)
    position = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row_a, row_b = starts[i[which]] + position // right[which], starts[j[which]] + position % right[which]
    once = (i[which] != j[which]) | (row_a < row_b)
    return row_a[once], row_b[once], which[once]


def _by_items(rows: Rows, row_a: np.ndarray, row_b: np.ndarray, distance: np.ndarray) -> Pairs:
    """Row pairs gathered by the pair of items they belong to."""
    items, variants = rows.items, rows.variants
    swapped = items[row_a] > items[row_b]
    row_a, row_b = np.where(swapped, row_b, row_a), np.where(swapped, row_a, row_b)
    upright_a, upright_b = variants[row_a] == UPRIGHT, variants[row_b] == UPRIGHT
    wanted = (items[row_a] != items[row_b]) & (upright_a | upright_b)
    row_a, row_b, distance, upright_a = row_a[wanted], row_b[wanted], distance[wanted], upright_a[wanted]
    variant = np.where(upright_a, variants[row_b], _INVERSE[variants[row_a]])
    a, b, frame_a, frame_b = items[row_a], items[row_b], rows.frames[row_a], rows.frames[row_b]
    best = np.lexsort((variant, distance, b, a))
    first = best[_changes(a[best], b[best])]
    group = np.empty(len(a), np.int64)
    group[best] = np.cumsum(_changes(a[best], b[best])) - 1
    frames_of = np.bincount(items[np.unique(rows.frames, return_index=True)[1]]) if len(items) else items
    return Pairs(
        a[first],
        b[first],
        distance[first],
        _distinct_per_group(len(first), group, frame_a, frame_b),
        _distinct_per_group(len(first), group, frame_a) / frames_of[a[first]],
        _distinct_per_group(len(first), group, frame_b) / frames_of[b[first]],
        variant[first],
    )


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Where a row of sorted columns differs from the row before it: bool (n,), true for the first."""
    change = np.ones(len(columns[0]), bool)
    change[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return change


def _distinct_per_group(groups: int, group: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """How many different rows of the columns each group has."""
    order = np.lexsort((*columns, group))
    fresh = _changes(group[order], *(column[order] for column in columns))
    return np.bincount(group[order][fresh], minlength=groups)
