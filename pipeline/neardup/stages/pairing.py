"""PAIRS and HUBS: from matching hashes to pairs of items."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import joins, storage, tables
from neardup.errors import UsageError
from neardup.hashers import VARIANTS
from neardup.joins.forests import Distances, spanning_forest
from neardup.stages import tiles
from neardup.stages.joining import UPRIGHT, Near, Prepared, Rows, beside
from neardup.stages.live import Maker
from neardup.stages.tiles import Radius

ALL_PAIRS_LIMIT = 1024  # two sets with more combinations than this are written as a star
OFFSET_WINDOW_S = 1.0  # differences of timestamps that speak for one offset lie this close together
FRAMES_PER_ENTRY = 16  # of a still scene, that have a say in the offset
LINKS_AT_A_TIME = 1 << 22  # that are held before they are known to be of use
# the turn that undoes each variant: all undo themselves but the two quarter turns
_INVERSE = np.array([VARIANTS.index({"r90": "r270", "r270": "r90"}.get(name, name)) for name in VARIANTS])


class Rules(NamedTuple):
    """What becomes a pair, and how many are written."""

    block_by: tuple[str, ...] = ()  # pair only within blocks of one of these kinds
    all_pairs: bool = False  # write large sets in full too
    min_overlap: float = 0.0  # the larger of the two overlaps
    min_matches: int = 1  # matching frames; fewer are enough of an item that has fewer


class Written(NamedTuple):
    """The parts and rows of the tables that a join gives."""

    pairs: list[str]
    hubs: list[str]
    pair_rows: int
    hub_rows: int
    left_out: int  # pairs with too few matching frames


def write_pairs(root: str, maker: Maker, prepared: Prepared, near: Near, rules: Rules) -> Written:
    """Derive PAIRS and HUBS from the matches between sets of equal hashes, and write them."""
    rows = prepared.rows
    radius = Radius(*prepared.made_by["radius"])
    blocks = [_blocks(root, rows.uris, rule) for rule in rules.block_by]
    within = joins.concatenated(iter([_within(maker, prepared, radius), near.matches]))
    limit = np.iinfo(np.int64).max if rules.all_pairs else ALL_PAIRS_LIMIT
    found, hubs = item_pairs(rows, near._replace(matches=within), reach_of(maker, prepared), blocks, limit)
    frames_of = _frames_of(rows)
    fewest = np.minimum(np.minimum(frames_of[found.item_a], frames_of[found.item_b]), rules.min_matches)
    enough = (np.maximum(found.overlap_a, found.overlap_b) >= rules.min_overlap) & (found.matches >= fewest)
    pairs = Pairs(*(column[enough] for column in found))
    made_by = {**prepared.made_by, **rules._asdict()}
    table = pa.table(
        {
            "uri_a": rows.uris.take(pa.array(pairs.item_a)),
            "uri_b": rows.uris.take(pa.array(pairs.item_b)),
            "distance": pairs.distance / (maker.hasher.hash_length if radius.metric == "hamming" else 1),
            "matches": pairs.matches,
            "overlap_a": pairs.overlap_a,
            "overlap_b": pairs.overlap_b,
            "variant": pa.array(VARIANTS).take(pa.array(pairs.variant)),
            "offset_s": pa.array(pairs.offset_s, from_pandas=True),
        },
        schema=tables.PAIRS,
    )
    hub_table = pa.table(
        {
            "hasher": pa.repeat(maker.spec, len(hubs.item)),
            "uri": rows.uris.take(pa.array(hubs.item)),
            "items": hubs.items,
            "reason": pa.array(_reasons(hubs, prepared.made_by["max_neighbours"]), pa.string()),
        },
        schema=tables.HUBS,
    )
    return Written(
        tables.write_chunks(root, beside(maker, "pairs"), table, made_by),
        tables.write_chunks(root, "hubs", hub_table, made_by),
        len(table),
        len(hub_table),
        len(found.item_a) - len(table),
    )


def with_pairs(root: str, manifest: dict[str, list[str]], maker: Maker, written: Written) -> dict[str, list[str]]:
    """The manifest after this join: it replaces what an earlier join of the same hasher gave."""
    others = [name for name in manifest.get("hubs", []) if tables.made_by(root, name)["hasher"][0] != maker.spec]
    return {**manifest, beside(maker, "pairs"): written.pairs, "hubs": [*others, *written.hubs]}


def _reasons(hubs: "Hubs", max_neighbours: int) -> list[str]:
    crowded = f"more than {max_neighbours:,} other hashes are within the radius"
    return [
        crowded
        if many
        else f"{items} item{'s have' if items > 1 else ' has'} this hash, others are within the radius"
        if items * (items - 1) // 2 <= ALL_PAIRS_LIMIT
        else f"{items} items share one hash"
        for items, many in zip(hubs.items.tolist(), hubs.crowded.tolist(), strict=True)
    ]


def _within(maker: Maker, prepared: Prepared, radius: Radius) -> joins.Matches:
    """Each set of several rows as a match of itself: equal hashes, at the distance 0 unless the hasher has its own."""
    same = np.flatnonzero(np.diff(prepared.rows.starts) > 1)
    distance = np.zeros(len(same), np.int32)
    if radius.metric == "custom":
        unpack, own = maker.hasher.unpack, maker.hasher.compute_distance
        vectors = [unpack(row.tobytes()) for row in prepared.distinct.hashes[same]]
        distance = np.array([own(one, one, "vector") for one in vectors], np.float64)
    chosen = radius.reaches(distance)
    return joins.Matches(same[chosen], same[chosen], distance[chosen])


class Reach(NamedTuple):
    """How far sets are from each other, where no match says so, and what is within the radius."""

    distances: Distances
    near: Callable[[np.ndarray], np.ndarray]


def reach_of(maker: Maker, prepared: Prepared) -> Reach:
    """The distances between the sets of a join; two turned hashes are never near."""
    radius = Radius(*prepared.made_by["radius"])
    return Reach(tiles.distances_between(maker.hasher, prepared.distinct), radius.reaches)


# --- who may meet -----------------------------------------------------------------------------------------------------


def check_block_rule(rule: str) -> None:
    """Raises UsageError unless the rule is `folder`, `column:NAME` or `pattern:REGEX`."""
    kind, _, rest = rule.partition(":")
    if rule != "folder" and not rule.startswith("column:") and not (kind == "pattern" and rest):
        raise UsageError(f"unknown --block-by {rule!r}; give folder, column:NAME or pattern:REGEX")
    try:
        re.compile(rest if kind == "pattern" else "")
    except re.error as error:
        raise UsageError(f"--block-by {rule!r} is not a regular expression: {error}") from error


def media_columns(root: str) -> set[str]:
    """The columns that MEDIA of an output has."""
    parts = storage.read_manifest(root).get("media", [])
    return {name for part in parts for name in tables.columns_of(root, part)} if parts else set(tables.MEDIA.names)


def check_block_columns(rules: Sequence[str], known: Collection[str]) -> None:
    """Raises UsageError unless the columns that these rules name are among those of MEDIA."""
    for rule in rules:
        kind, _, column = rule.partition(":")
        if kind == "column" and column not in known:
            raise UsageError(f"--block-by {rule!r}: MEDIA has no such column; it has {', '.join(sorted(known))}")


def _blocks(root: str, uris: pa.Array, rule: str) -> np.ndarray:
    kind, _, column = rule.partition(":")
    if kind != "column":
        return block_of(uris, rule)
    keys = [pa.array([], pa.string())]
    names = [pa.array([], uris.type)]
    for part in storage.read_manifest(root).get("media", []):
        if column in tables.columns_of(root, part):
            rows = tables.read_part(root, part, ["uri", column] if column != "uri" else ["uri"])
            names += rows["uri"].cast(uris.type).chunks
            try:
                keys += rows[column].cast(pa.string()).chunks
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise UsageError(
                    f"--block-by {rule!r}: it is {rows[column].type}, which is no text or number"
                ) from error
    place = pc.index_in(uris, pa.concat_arrays(names))
    return _codes(pa.concat_arrays(keys).take(place))


def block_of(uris: pa.Array, rule: str) -> np.ndarray:
    """The block of each item by a rule, int64, -1 for none: its folder, or what the pattern (its first group) finds."""
    if rule == "folder":
        return _codes(pc.replace_substring_regex(uris, "/[^/]*$", ""))
    found = [re.search(rule.partition(":")[2], uri) for uri in uris.to_pylist()]
    return _codes(pa.array([match and (match[1] if match.re.groups else match[0]) for match in found], pa.string()))


def _codes(keys: pa.Array) -> np.ndarray:
    codes: np.ndarray = pc.fill_null(keys.dictionary_encode().indices, -1).to_numpy().astype(np.int64)
    return codes


# --- item pairs -------------------------------------------------------------------------------------------------------


class Pairs(NamedTuple):
    """Parallel arrays, one entry per pair of items, item_a < item_b, sorted; distance in bits, or the hasher's own."""

    item_a: np.ndarray
    item_b: np.ndarray
    distance: np.ndarray
    matches: np.ndarray  # matching pairs of frames
    overlap_a: np.ndarray  # share of a's frames that match
    overlap_b: np.ndarray
    variant: np.ndarray  # index into VARIANTS: the transform of b that matched
    offset_s: np.ndarray  # NaN without timestamps


class Hubs(NamedTuple):
    """Parallel arrays, one entry per hash with pairs left out."""

    item: np.ndarray  # the first that has it
    items: np.ndarray  # how many have it
    crowded: np.ndarray  # whether more than `max_neighbours` hashes are within the radius


class Entries(NamedTuple):
    """An item with its frames in one set, as one entry; where frames have several rows (variants), one entry per row.

    Ordered by piece (a set, or what of it is in one block), item and variant.
    """

    items: np.ndarray  # int64 (entries,)
    keys: np.ndarray  # int64 (entries,): equal for the same frames
    frames: np.ndarray  # int64 (entries,): how many
    variants: np.ndarray  # int64 (entries,)
    rows: np.ndarray  # int64 (entries,): the first of its rows
    starts: np.ndarray  # int64 (pieces + 1,)


class Links(NamedTuple):
    """Matching entries: parallel arrays."""

    a: np.ndarray
    b: np.ndarray
    distance: np.ndarray


def item_pairs(
    rows: Rows,
    near: Near,
    reach: Reach,
    blocks: Sequence[np.ndarray] = (),
    limit: int = ALL_PAIRS_LIMIT,
) -> tuple[Pairs, Hubs]:
    """The pairs of items that have rows in matching sets, and the hashes that not all pairs are written of.

    With blocks (each an int64 per item: the block it belongs to, -1 for none) only items that share a block of at least
    one kind are paired. What stars and hubs leave out are pairs: matches, overlaps and offsets of the others are those
    of all frames, as far as one of the two items has several.
    """
    entries = _entries(rows)
    frames_of = _frames_of(rows)
    links, hubs = [], []
    for block in blocks or [np.zeros(len(rows.uris), np.int64)]:
        cut, entry_of, set_of, matches = _cut(entries, near.matches, block)
        crowded = near.hubs[set_of]
        forest = _forest(cut, block, set_of, crowded, reach)
        matches = joins.concatenated(iter([matches, forest]))
        star = _combinations(cut, matches) > limit
        found = _concatenated([*_all_links(cut, matches.where(~star)), _star_links(cut, matches.where(star))])
        found = _between_items(cut, found)
        left_out = [*_starred(cut, found, matches.where(star), frames_of)]
        left_out += _crowded(cut, found, set_of, crowded, reach, frames_of)
        found = _between_items(cut, _concatenated([found, *left_out]))
        links.append(Links(entry_of[found.a], entry_of[found.b], found.distance))
        hubs.append(_hubs(cut, crowded, matches.where(star)))
    together = _between_items(entries, _once(entries, _concatenated(links)))
    return _by_items(rows, entries, frames_of, together), _distinct_hubs(hubs)


def _frames_of(rows: Rows) -> np.ndarray:
    """How many frames each item has."""
    counts: np.ndarray = np.bincount(rows.items[np.unique(rows.frames, return_index=True)[1]], minlength=len(rows.uris))
    return counts


def _entries(rows: Rows) -> Entries:
    first = np.arange(len(rows.items))
    keys = rows.frames
    if len(np.unique(rows.frames)) == len(rows.frames):  # each frame has one row
        sets = np.repeat(np.arange(len(rows.starts) - 1), np.diff(rows.starts))
        first = np.flatnonzero(_changes(sets, rows.items, rows.variants))
        keys = np.arange(len(first))
    frames = np.diff(np.append(first, len(rows.items)))
    starts = np.searchsorted(first, rows.starts)
    return Entries(rows.items[first], keys, frames, rows.variants[first], first, starts)


def _pieces(entries: Entries) -> np.ndarray:
    """The piece of each entry."""
    return np.repeat(np.arange(len(entries.starts) - 1), np.diff(entries.starts))


def _cut(
    entries: Entries, matches: joins.Matches, block: np.ndarray
) -> tuple[Entries, np.ndarray, np.ndarray, joins.Matches]:
    """The entries with each set cut into its blocks; the entry and the set that each is; the matches between pieces."""
    sets = _pieces(entries)
    if not block.any():
        return entries, np.arange(len(sets)), np.arange(len(entries.starts) - 1), matches
    blocks = block[entries.items]
    order = np.lexsort((np.arange(len(sets)), blocks, sets))
    order = order[blocks[order] >= 0]
    first = np.flatnonzero(_changes(sets[order], blocks[order]))
    pieces = pa.table({"set": sets[order][first], "block": blocks[order][first], "piece": np.arange(len(first))})
    edges = pa.table({"i": matches.i, "j": matches.j, "distance": matches.distance})
    left = edges.join(pieces.rename_columns(["i", "block", "piece_i"]), "i", join_type="inner")
    both = left.join(pieces.rename_columns(["j", "block", "piece_j"]), ["j", "block"], join_type="inner")
    both = both.sort_by([("piece_i", "ascending"), ("piece_j", "ascending")])
    items, keys, frames, variants, rows = (column[order] for column in entries[:-1])
    cut = Entries(items, keys, frames, variants, rows, np.append(first, len(order)))
    met = joins.Matches(*(both[name].to_numpy() for name in ("piece_i", "piece_j", "distance")))
    return cut, order, sets[order][first], met


def _forest(
    entries: Entries, block: np.ndarray, set_of: np.ndarray, crowded: np.ndarray, reach: Reach
) -> joins.Matches:
    """What keeps hubs together: within each block a spanning forest of its pieces with a crowded hash."""
    pieces = np.flatnonzero(crowded)
    blocks = block[entries.items[entries.starts[pieces]]]
    order = np.lexsort((pieces, blocks))
    found = [joins.Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))]
    for some in np.split(pieces[order], np.flatnonzero(np.diff(blocks[order])) + 1):
        if len(some) > 1:
            i, j, distance = spanning_forest(len(some), _of(reach.distances, set_of[some]), reach.near)
            found.append(joins.Matches(some[i], some[j], distance))
    return joins.concatenated(iter(found))


def _of(distances: Distances, sets: np.ndarray) -> Distances:
    """The distances between these sets, by their place among them."""
    return lambda row, others: distances(int(sets[row]), sets[others])


# --- links between entries --------------------------------------------------------------------------------------------


def _combinations(entries: Entries, matches: joins.Matches) -> np.ndarray:
    counts = np.diff(entries.starts)
    i, j = counts[matches.i], counts[matches.j]
    combinations: np.ndarray = np.where(matches.i == matches.j, i * (i - 1) // 2, i * j)
    return combinations


def _all_links(entries: Entries, matches: joins.Matches) -> Iterator[Links]:
    """Every entry of one set with every entry of the other, as far as their items differ; some matches at a time."""
    counts = np.diff(entries.starts)
    for some in _portions(counts[matches.i] * counts[matches.j]):
        i, j, distance = matches.part(some.start, some.stop)
        which, position = _ranges(counts[i] * counts[j])
        left, right = i[which], j[which]
        a = entries.starts[left] + position // counts[right]
        b = entries.starts[right] + position % counts[right]
        yield _between_items(entries, Links(a, b, distance[which]), (left != right) | (a < b))


def _star_links(entries: Entries, matches: joins.Matches) -> Links:
    """Of two large sets: the centre of the larger (of a set with itself: its own) with each entry of the other.

    The centre is the first upright entry; where there is none, the smaller set has one, and the larger is linked to it.
    """
    counts, upright = np.diff(entries.starts), np.flatnonzero(entries.variants == UPRIGHT)
    centres = np.full(len(counts), -1)
    centres[_pieces(entries)[upright][::-1]] = upright[::-1]  # of several the last assignment, the first entry, stays
    first = entries.items[entries.starts[:-1]]
    i, j = matches.i, matches.j
    larger = (counts[i] > counts[j]) | ((counts[i] == counts[j]) & (first[i] <= first[j]))
    hub, other = np.where(larger, i, j), np.where(larger, j, i)
    alone = centres[hub] < 0
    hub, other = np.where(alone, other, hub), np.where(alone, hub, other)
    some = centres[hub] >= 0
    hub, other, distance = hub[some], other[some], matches.distance[some]
    which, position = _ranges(counts[other])
    return Links(centres[hub][which], entries.starts[other][which] + position, distance[which])


def _between_items(entries: Entries, links: Links, wanted: np.ndarray | bool = True) -> Links:
    """The wanted links between different items with an upright side, the smaller item first."""
    swapped = entries.items[links.a] > entries.items[links.b]
    a, b = np.where(swapped, links.b, links.a), np.where(swapped, links.a, links.b)
    upright = (entries.variants[a] == UPRIGHT) | (entries.variants[b] == UPRIGHT)
    chosen = (entries.items[a] != entries.items[b]) & upright & wanted
    return Links(a[chosen], b[chosen], links.distance[chosen])


def _once(entries: Entries, links: Links) -> Links:
    """Each link once, in order."""
    once = np.unique(links.a * (len(entries.items) + 1) + links.b, return_index=True)[1]
    return Links(links.a[once], links.b[once], links.distance[once])


def _concatenated(links: Sequence[Links]) -> Links:
    if not links:
        return Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))
    return Links(*(np.concatenate(column) for column in zip(*links, strict=True)))


# --- what stars and hubs left out of the pairs that there are ---------------------------------------------------------


def _linked_items(entries: Entries, links: Links, frames_of: np.ndarray) -> np.ndarray:
    """The pairs of items with links (pairs, 2), of which one has several frames: only those can match in several."""
    a, b = entries.items[links.a], entries.items[links.b]
    several = (frames_of[a] > 1) | (frames_of[b] > 1)
    pairs = np.unique(a[several] * (len(frames_of) + 1) + b[several])
    return np.stack(np.divmod(pairs, len(frames_of) + 1), axis=1)


def _starred(entries: Entries, links: Links, stars: joins.Matches, frames_of: np.ndarray) -> Iterator[Links]:
    """The links of linked items through sets that were written as a star."""
    pairs = _linked_items(entries, links, frames_of)
    if not len(stars.i) or not len(pairs):
        return
    pieces, count = _pieces(entries), len(entries.starts)
    across = stars.i != stars.j
    here = np.concatenate([stars.i, stars.j[across]])
    there = np.concatenate([stars.j, stars.i[across]])
    distance = np.concatenate([stars.distance, stars.distance[across]])
    order = np.argsort(here, kind="stable")
    here, there, distance = here[order], there[order], distance[order]
    involved = np.flatnonzero(np.isin(pieces, here))
    involved = involved[np.argsort(entries.items[involved], kind="stable")]
    places = np.sort(entries.items[involved] * count + pieces[involved], kind="stable")
    by_place = involved[np.argsort(entries.items[involved] * count + pieces[involved], kind="stable")]
    first, last = (np.searchsorted(entries.items[involved], pairs[:, 0], side) for side in ("left", "right"))
    weights = (last - first) * max(1, int(np.bincount(here).max()))
    for some in _portions(weights):
        pair, place = _ranges((last - first)[some])
        a, b = involved[first[some][pair] + place], pairs[some, 1][pair]
        begin, end = (np.searchsorted(here, pieces[a], side) for side in ("left", "right"))
        which, place = _ranges(end - begin)
        match = begin[which] + place
        wanted = b[which] * count + there[match]
        begin, end = (np.searchsorted(places, wanted, side) for side in ("left", "right"))
        found, place = _ranges(end - begin)
        yield Links(a[which][found], by_place[begin[found] + place], distance[match][found])


def _crowded(
    entries: Entries, links: Links, set_of: np.ndarray, crowded: np.ndarray, reach: Reach, frames_of: np.ndarray
) -> list[Links]:
    """The links of linked items through two crowded hashes each."""
    pieces = _pieces(entries)
    hubs = np.flatnonzero(crowded[pieces])
    hubs = hubs[np.argsort(entries.items[hubs], kind="stable")]
    pairs = _linked_items(entries, links, frames_of)
    bounds = [np.searchsorted(entries.items[hubs], pairs, side) for side in ("left", "right")]
    found = []
    for (start_a, start_b), (stop_a, stop_b) in zip(bounds[0].tolist(), bounds[1].tolist(), strict=True):
        others = hubs[start_b:stop_b]
        for a in hubs[start_a:stop_a].tolist() if len(others) else ():
            distance = reach.distances(int(set_of[pieces[a]]), set_of[pieces[others]])
            met = reach.near(distance) & (pieces[others] != pieces[a])
            found.append(Links(np.full(int(met.sum()), a), others[met], distance[met]))
    return found


# --- hubs -------------------------------------------------------------------------------------------------------------


def _hubs(entries: Entries, crowded: np.ndarray, stars: joins.Matches) -> Hubs:
    """The pieces that are crowded, or the larger one of a star."""
    counts = np.diff(entries.starts)
    listed = crowded.copy()
    listed[np.where(counts[stars.i] >= counts[stars.j], stars.i, stars.j)] = True
    pieces = _pieces(entries)
    items = np.bincount(pieces[_changes(pieces, entries.items)], minlength=len(counts))
    chosen = np.flatnonzero(listed)
    return Hubs(entries.items[entries.starts[chosen]], items[chosen], crowded[chosen])


def _distinct_hubs(found: Sequence[Hubs]) -> Hubs:
    """All of them by item; what two kinds of block have in common is there twice and is listed once."""
    item, items, crowded = (np.concatenate(column) for column in zip(*found, strict=True))
    if len(found) > 1:
        item, items, crowded = np.unique(np.stack([item, items, crowded]), axis=1)
    order = np.lexsort((crowded, items, item))
    return Hubs(item[order], items[order], crowded[order].astype(bool))


# --- what is said of a pair -------------------------------------------------------------------------------------------


def _by_items(rows: Rows, entries: Entries, frames_of: np.ndarray, links: Links) -> Pairs:
    """Links gathered by the pair of items they belong to."""
    variant_a, variant_b = entries.variants[links.a], entries.variants[links.b]
    variant = np.where(variant_a == UPRIGHT, variant_b, _INVERSE[variant_a])
    a, b = entries.items[links.a], entries.items[links.b]
    best = np.lexsort((variant, links.distance, b, a))
    new = _changes(a[best], b[best])
    first = best[new]
    group = np.empty(len(a), np.int64)
    group[best] = np.cumsum(new) - 1
    key_a, key_b = entries.keys[links.a], entries.keys[links.b]
    frames_a, frames_b = entries.frames[links.a], entries.frames[links.b]
    return Pairs(
        a[first],
        b[first],
        links.distance[first],
        _sum_per_group(len(first), group, frames_a * frames_b, key_a, key_b),
        _sum_per_group(len(first), group, frames_a, key_a) / frames_of[a[first]],
        _sum_per_group(len(first), group, frames_b, key_b) / frames_of[b[first]],
        variant[first],
        _offsets(rows, entries, links, group, len(first)),
    )


def _sum_per_group(groups: int, group: np.ndarray, values: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """The sum of the values in each group, where the columns are equal only once."""
    order = np.lexsort((*columns, group))
    fresh = order[_changes(group[order], *(column[order] for column in columns))]
    return np.bincount(group[fresh], values[fresh], minlength=groups).astype(np.int64)


def _offsets(rows: Rows, entries: Entries, links: Links, group: np.ndarray, groups: int) -> np.ndarray:
    """By how many seconds b is behind a, per group: float64, NaN where no two matching frames have timestamps.

    The differences of the timestamps of matching frames lie within the sampling steps of the true offset where the two
    align, and anywhere else. So it is the median of those in the window of OFFSET_WINDOW_S that holds most of them; of
    equally full windows, that nearest to 0. Of a still scene at most FRAMES_PER_ENTRY frames count, evenly spaced.
    """
    offset = np.full(groups, np.nan)
    timed = np.isfinite(rows.timestamps[entries.rows[links.a]]) & np.isfinite(rows.timestamps[entries.rows[links.b]])
    chosen = np.flatnonzero(timed)
    chosen = chosen[np.argsort(group[chosen], kind="stable")]
    used_a, used_b = (np.minimum(entries.frames[side], FRAMES_PER_ENTRY) for side in (links.a, links.b))
    ends = np.flatnonzero(np.diff(group[chosen], append=-1)) + 1
    weights = np.add.reduceat((used_a * used_b)[chosen], np.append(0, ends[:-1])) if len(chosen) else ends
    for some in _portions(weights):
        part = chosen[ends[some.start - 1] if some.start else 0 : ends[some.stop - 1]]
        which, position = _ranges((used_a * used_b)[part])
        link = part[which]
        a, b = links.a[link], links.b[link]
        row_a = entries.rows[a] + position // used_b[link] * entries.frames[a] // used_a[link]
        row_b = entries.rows[b] + position % used_b[link] * entries.frames[b] // used_b[link]
        behind = rows.timestamps[row_b] - rows.timestamps[row_a]
        found, value = _densest(group[link], np.rint(behind * 1e6).astype(np.int64), round(OFFSET_WINDOW_S * 1e6))
        offset[found] = value / 1e6
    return offset


def _densest(group: np.ndarray, values: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The groups, and the median of each within the window of that width that holds most of its values."""
    names, group = np.unique(group, return_inverse=True)
    low = int(values.min())
    span = int(values.max()) - low + width + 1
    keys = np.sort(group * span + (values - low))  # no window reaches into the next group
    stop = np.searchsorted(keys, keys + width, "right")
    of, inside = keys // span, stop - np.arange(len(keys))
    middle = np.arange(len(keys)) + stop
    lower, upper = (keys[place // 2] - of * span for place in (middle - 1, middle))
    median = (lower + upper) / 2 + low
    order = np.lexsort((median, np.abs(median), -inside, of))
    return names, median[order[_changes(of[order])]]


# --- arrays -----------------------------------------------------------------------------------------------------------


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Where a row of sorted columns differs from the row before it: bool (n,), true for the first."""
    change = np.ones(len(columns[0]), bool)
    change[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return change


def _ranges(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All members of ranges of these sizes: the number of its range for each, and its place there."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _portions(weights: np.ndarray) -> Iterator[slice]:
    """Slices of about LINKS_AT_A_TIME weight, of one element at least."""
    reached = np.cumsum(weights)
    start = 0
    while start < len(weights):
        base = int(reached[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(reached, base + LINKS_AT_A_TIME, "right")))
        yield slice(start, stop)
        start = stop
