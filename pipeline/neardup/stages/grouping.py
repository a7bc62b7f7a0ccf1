"""GROUPS: which items belong together, which one to keep, and why."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import groups, storage, tables
from neardup.errors import UsageError
from neardup.groups import Criterion
from neardup.media import FORMATS

_FACTS = ["uri", "size", "mtime", "format", "width", "height", "duration_s"]
_BATCH_ROWS = 1_000_000
_UPRIGHT = "r0"
_URIS = pa.large_string()  # a string array of Arrow ends at 2 GiB
_FORMAT_OF_SUFFIX = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff", "jp2": "jpeg2000", "j2k": "jpeg2000"}


class Policy(NamedTuple):
    """What makes a group, which of its items to keep, and which to keep in any case."""

    grouping: str  # a key of GROUPINGS
    keep: tuple[Criterion, ...]
    protect: tuple[str, ...]  # prefixes of uris


class Grouped(NamedTuple):
    """The parts of GROUPS, and what they hold."""

    names: list[str]
    groups: int
    items: int
    alone: int  # items that have pairs and yet are in no group
    protected: int  # items kept for nothing but a protected prefix
    duplicate_bytes: int  # of the items that need not be kept


def read_policy(
    grouping: str = "component", keep: Sequence[str] = groups.DEFAULT_KEEP, protect: Sequence[str] = ()
) -> Policy:
    """The policy that these texts name, with local prefixes as uris. Raises UsageError for what cannot be meant."""
    if grouping not in groups.GROUPINGS:
        raise UsageError(f"unknown --groups {grouping!r}; known are {', '.join(groups.GROUPINGS)}")
    criteria = []
    for criterion in groups.parse_keep(keep):
        if criterion.name == "prefer":
            criterion = criterion._replace(choices=tuple(_uri_prefix(one) for one in criterion.choices))
        for name in criterion.choices if criterion.name == "format" else ():
            _check_format(name, str(criterion))
        criteria.append(criterion)
    if not all(protect):
        raise UsageError("--protect '' would protect everything; give a prefix such as s3://bucket/folder/")
    return Policy(grouping, tuple(criteria), tuple(_uri_prefix(one) for one in protect))


def _uri_prefix(text: str) -> str:
    """The prefix that uris of the tables have for this one: absolute, with the slash at its end if there was one."""
    prefix = storage.absolute(text)
    return f"{prefix}/" if text.endswith("/") and not prefix.endswith("/") else prefix


def _check_format(name: str, criterion: str) -> None:
    from neardup.media.video import CONTAINERS  # importing FFmpeg takes a moment, which few runs need

    known = sorted({*(one.lower() for one in FORMATS), *CONTAINERS.split(",")})
    if name not in known:
        meant = _FORMAT_OF_SUFFIX.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), None)
        hint = f"did you mean {meant!r}?" if meant else f"known are {', '.join(known)}"
        raise UsageError(f"--keep {criterion!r}: unknown format {name!r}; {hint}")


def write_groups(root: str, policy: Policy) -> Grouped:
    """Group the items that the live pairs of all hashers link, choose what to keep, and write GROUPS."""
    manifest = storage.read_manifest(root)
    linked = _read_linked(root, manifest)
    members = _read_members(root, manifest, linked.uris)
    criteria = [_ranked(criterion, members) for criterion in policy.keep]
    order = groups.keep_order(len(members), criteria)
    edges = [(chunk.i, chunk.j) for chunk in linked.chunks]
    labels = groups.GROUPINGS[policy.grouping](edges, order, linked.twins)
    kept = groups.choose_kept(labels, order, criteria)
    distance = groups.distances_to_kept(kept.kept, linked.twins, linked.chunks)
    decided = _Decided(labels, kept, distance, _protecting(members, policy.protect))
    items = np.flatnonzero(kept.size > 1)
    items = items[np.argsort(labels[items], kind="stable")]
    made_by = {"groups": policy.grouping, "keep": list(map(str, policy.keep)), "protect": list(policy.protect)}
    names = []
    for start in range(0, len(items), _BATCH_ROWS):
        rows = _rows(members, policy, decided, items[start : start + _BATCH_ROWS])
        names += tables.write_chunks(root, "groups", rows, {"policy": made_by})
    saved = members["size"].filter(pa.array(decided.dropped & (kept.size > 1)))
    return Grouped(
        names,
        groups=int(np.count_nonzero(kept.keep[items])),
        items=len(items),
        alone=len(members) - len(items),
        protected=int(np.count_nonzero(~(kept.keep | decided.dropped)[items])),
        duplicate_bytes=pc.sum(saved).as_py() or 0,
    )


# --- what is linked ---------------------------------------------------------------------------------------------------


class _Chunk(NamedTuple):
    """The pairs of one part; items are numbered in the order of their uris."""

    i: np.ndarray  # int32 (pairs,)
    j: np.ndarray
    distance: np.ndarray  # float64 (pairs,)


class _Linked(NamedTuple):
    """The pairs of all hashers, without their strings."""

    uris: pa.Array  # sorted distinct
    chunks: list[_Chunk]
    twins: np.ndarray  # int64 (uris,): the smallest item with the same hash by every hasher


def _read_linked(root: str, manifest: dict[str, list[str]]) -> _Linked:
    folders = [folder for folder in sorted(manifest) if folder.startswith("pairs/")]
    names = [name for folder in folders for name in sorted(manifest[folder])]
    ends = (tables.read_part(root, name, ["uri_a", "uri_b"]) for name in names)
    uris, codes = numbered(pa.chunked_array([*rows["uri_a"].chunks, *rows["uri_b"].chunks]) for rows in ends)
    chunks: list[_Chunk] = []
    hashers = []
    for folder in folders:
        met, equal = [], []
        for name in sorted(manifest[folder]):
            i, j = np.split(codes[len(chunks)], 2)
            rows = tables.read_part(root, name, ["distance", "matches", "overlap_a", "overlap_b", "variant"])
            chunks.append(_Chunk(i, j, rows["distance"].to_numpy()))
            same = _equal_hashes(rows, tables.made_by(root, name))
            met.append((i, j))
            equal.append((i[same], j[same]))
        hashers.append((met, equal))
    return _Linked(uris, chunks, groups.find_twins(len(uris), hashers))


def numbered(columns: Iterable[pa.ChunkedArray]) -> tuple[pa.Array, list[np.ndarray]]:
    """The sorted distinct strings of all columns, and for each column their numbers: int32, one per row.

    Of the columns only one is held at a time, and no string is held more than a few times. (What is new is collected
    until there is as much of it as is known, so that each string is looked up a few times at most.)
    """
    known, fresh = pa.array([], _URIS), []
    codes: list[np.ndarray] = []
    for column in columns:
        coded = column.dictionary_encode().combine_chunks()
        codes.append(coded.indices.to_numpy())
        fresh.append(coded.dictionary.cast(_URIS))
        if sum(map(len, fresh)) > max(len(known), _BATCH_ROWS):
            known, fresh = _with_fresh(known, fresh, codes), []
    known = _with_fresh(known, fresh, codes)
    order = pc.sort_indices(known).to_numpy()
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    for number, code in enumerate(codes):
        codes[number] = place[code]
    return known.take(pa.array(order)), codes


def _with_fresh(known: pa.Array, fresh: list[pa.Array], codes: list[np.ndarray]) -> pa.Array:
    """All that is known then; the last codes, which number the entries of `fresh`, are made to number those of it."""
    known = pc.unique(pa.chunked_array([known, *fresh], _URIS))  # in the order of appearance: older numbers stay
    found = pc.index_in(pa.chunked_array(fresh, _URIS), known).to_numpy()
    first = len(codes) - len(fresh)
    for number, part in enumerate(np.split(found, np.cumsum([len(one) for one in fresh])[:-1]) if fresh else []):
        codes[first + number] = part[codes[first + number]]
    return known


def _equal_hashes(rows: pa.Table, made_by: dict[str, Any]) -> np.ndarray:
    """Which pairs are of items with one hash each, the same: what pairs with one of them pairs with the other.

    Not so within several kinds of blocks, where the other may be in a block of another kind.
    """
    equal = (rows["distance"].to_numpy() == 0) & (rows["matches"].to_numpy() == 1)
    equal &= (rows["overlap_a"].to_numpy() == 1) & (rows["overlap_b"].to_numpy() == 1)
    equal &= pc.equal(rows["variant"], _UPRIGHT).to_numpy()
    return equal if len(made_by.get("block_by", [])) < 2 else np.zeros(len(rows), bool)


# --- what decides -----------------------------------------------------------------------------------------------------


def _read_members(root: str, manifest: dict[str, list[str]], uris: pa.Array) -> pa.Table:
    """The rows of MEDIA of the given items, in their order, as far as they decide what to keep."""
    found, waiting, count = [tables.MEDIA.empty_table().select(_FACTS)], [], 0
    for name in (*sorted(manifest.get("media", [])), None):
        if name is not None:
            waiting.append(tables.read_part(root, name, _FACTS))
            count += len(waiting[-1])
        if waiting and (name is None or count > max(len(uris), _BATCH_ROWS)):  # each look-up costs the length of `uris`
            rows = pa.concat_tables(waiting)
            found.append(rows.filter(pc.is_in(rows["uri"].cast(_URIS), uris)))
            waiting, count = [], 0
    media = pa.concat_tables(found)
    place = pc.index_in(uris, media["uri"].cast(_URIS).combine_chunks())
    return media.select(_FACTS[1:]).take(place).append_column("uri", pa.chunked_array([uris], _URIS))


def _ranked(criterion: Criterion, members: pa.Table) -> np.ndarray:
    """The place of each item by this criterion alone, 0 for the best."""
    if criterion.name == "prefer":
        (prefix,) = criterion.choices
        return groups.ranks(_under(members["uri"], prefix).astype(np.int64), descending=True)
    if criterion.name == "format":
        place = pc.index_in(pc.utf8_lower(members["format"]), pa.array(criterion.choices))
        return groups.ranks(pc.fill_null(place, len(criterion.choices)).to_numpy())
    if criterion.name == "pixels":
        pixels = pc.multiply(members["width"].cast(pa.int64()), members["height"].cast(pa.int64()))
        return groups.ranks(pixels.to_numpy(), criterion.descending)
    if criterion.name == "duration":  # in whole seconds: encodings of one video differ by parts of one
        seconds = pc.round(pc.fill_null(members["duration_s"], 0.0))
        return groups.ranks(seconds.to_numpy(), criterion.descending)
    if criterion.name == "uri":
        return groups.ranks(np.arange(len(members)), criterion.descending)
    return groups.ranks(members[{"bytes": "size", "mtime": "mtime"}[criterion.name]].to_numpy(), criterion.descending)


def _under(uris: pa.ChunkedArray, prefix: str) -> np.ndarray:
    """Which uris begin with the prefix, or lie in a container whose uri does."""
    found: np.ndarray = pc.or_(pc.starts_with(uris, prefix), pc.match_substring(uris, f"::{prefix}")).to_numpy()
    return found


def _protecting(members: pa.Table, protect: Sequence[str]) -> np.ndarray:
    """For each item the number of the first prefix that protects it, -1 without one: int64."""
    protecting = np.full(len(members), -1, np.int64)
    for number in reversed(range(len(protect))):
        protecting[_under(members["uri"], protect[number])] = number
    return protecting


# --- what is said -----------------------------------------------------------------------------------------------------


class _Decided(NamedTuple):
    """What is decided of each item."""

    labels: np.ndarray  # int64: the smallest item of its group
    kept: groups.Kept
    distance: np.ndarray  # float64: to the kept item
    protecting: np.ndarray  # int64: the number of the prefix that protects it, -1 without one

    @property
    def dropped(self) -> np.ndarray:
        return ~self.kept.keep & (self.protecting < 0)


def _rows(members: pa.Table, policy: Policy, decided: _Decided, items: np.ndarray) -> pa.Table:
    """The rows of GROUPS of these items."""
    uris = members["uri"]
    columns = {
        "uri": uris.take(pa.array(items)),
        "group": uris.take(pa.array(decided.labels[items])),
        "keep": ~decided.dropped[items],
        "kept_uri": uris.take(pa.array(decided.kept.kept[items])),
        "distance_to_kept": pa.array(decided.distance[items], from_pandas=True),
        "reason": _reasons(members, policy, decided, items),
    }
    return pa.table(columns).cast(tables.GROUPS)


def _reasons(members: pa.Table, policy: Policy, decided: _Decided, items: np.ndarray) -> pa.Array:
    """Per item one sentence that says why it is kept, or what the kept one has over it."""
    keep, reason = decided.kept.keep[items], decided.kept.reason[items]
    texts, places = [pa.array([], pa.string())], []
    for number in range(len(policy.keep)):
        first, others = np.flatnonzero(keep & (reason == number)), np.flatnonzero(~keep & (reason == number))
        texts.append(pa.repeat(f"keep: {_why_kept(policy.keep[: number + 1])}", len(first)))
        texts.append(_why_dropped(policy.keep[: number + 1], members, items[others], decided.kept.kept[items[others]]))
        places += [first, others]
    said = pa.concat_arrays(texts).take(pa.array(np.argsort(np.concatenate(places))))
    protecting = np.where(keep, -1, decided.protecting[items])
    prefixes = pa.array(policy.protect, pa.string()).take(pa.array(protecting, mask=protecting < 0))
    protected = pc.binary_join_element_wise("keep: protected by ", prefixes, "; otherwise ", said, "")
    return pc.coalesce(protected, said)


def _why_kept(criteria: Sequence[Criterion]) -> str:
    """Why an item is kept that comes before the next one by the last of these criteria, equal in those before."""
    *equal, last = criteria
    if last.name == "prefer":
        why = f"under {last.choices[0]}"
    elif last.name == "format":
        why = f"its format comes first in {'>'.join(last.choices)}"
    else:
        why = _FIRST[last.name][last.descending]
    return f"{_equal_in(equal, last)}{why}"


_FIRST = {
    "duration": ("shortest", "longest"),
    "pixels": ("fewest pixels", "most pixels"),
    "bytes": ("fewest bytes", "most bytes"),
    "mtime": ("oldest", "newest"),
    "uri": ("first by uri", "last by uri"),
}
_ASPECT = {"prefer": "preference", "mtime": "age"}


def _equal_in(equal: Sequence[Criterion], last: Criterion) -> str:
    aspects = list(dict.fromkeys(_ASPECT.get(one.name, one.name) for one in equal if one.name != "duration"))
    if not aspects:
        return ""
    if last.name == "uri":
        return "equal to others, "
    if aspects == ["pixels"]:
        return "as many pixels as others, "
    if aspects == ["pixels", "bytes"]:
        return "as large as others, "
    return f"equal to others in {' and '.join(aspects)}, "


def _why_dropped(criteria: Sequence[Criterion], members: pa.Table, items: np.ndarray, kept: np.ndarray) -> pa.Array:
    """What each of the kept items has over the other by the last of these criteria."""
    last = criteria[-1]
    if last.name == "uri":
        later = "earlier by uri" if last.descending else "later by uri"
        return pa.repeat(f"drop: {'equal to the kept one, ' if len(criteria) > 1 else ''}{later}", len(items))
    if last.name == "prefer":
        return pa.repeat(f"drop: not under {last.choices[0]}, the kept one is", len(items))
    mine, other = (_shown(last.name, members.take(pa.array(which))) for which in (items, kept))
    return pc.binary_join_element_wise("drop: ", mine, ", kept has ", other, "")


def _shown(measure: str, members: pa.Table) -> pa.Array:
    if measure == "pixels":
        sides = [pc.fill_null(members[side].cast(pa.string()), "?").combine_chunks() for side in ("width", "height")]
        return pc.binary_join_element_wise(pc.binary_join_element_wise(*sides, "x"), " pixels", "")
    if measure == "duration":
        return _written(members["duration_s"], "{:,.0f} s".format, "no duration")
    if measure == "bytes":
        return _written(members["size"], "{:,} bytes".format, "unknown size")
    if measure == "mtime":
        return _written(members["mtime"], "modified {:%Y-%m-%dT%H:%M:%S}".format, "unknown time")
    return _written(members["format"], lambda name: f"format {name.lower()}", "unknown format")


def _written(values: pa.ChunkedArray, write: Callable[[Any], str], null: str) -> pa.Array:
    """Each value as text; what repeats is written once."""
    coded = values.combine_chunks().dictionary_encode()
    texts = pa.array([write(value) for value in coded.dictionary.to_pylist()], pa.string())
    return pc.fill_null(texts.take(coded.indices), null)
