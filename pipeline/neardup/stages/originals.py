"""ORIGINALS: the items of a benchmark with their categories, and which of them are near duplicates of another.

A near duplicate would be counted as a false match of its twin. Of each pair within a category the first in the order of
uris goes, as in the reference's `deduplicate`; of a chain of them at least the last stays.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import joins, storage, tables
from neardup.errors import UsageError
from neardup.hashers import parse
from neardup.joins.real import Metric, self_join_real_chunks
from neardup.stages.altering import categories
from neardup.stages.hashing import hash_type
from neardup.stages.joining import radius_of
from neardup.stages.live import Maker, maker
from neardup.stages.tiles import Radius, as_bytes

EXACT, NONE = "exact", "none"


class Rule(NamedTuple):
    """Which items are duplicates: those of equal bytes, and those whose hashes are within a radius."""

    text: str
    exact: bool
    maker: Maker | None
    radius: Radius | None


def read_rule(text: str, altered: str) -> Rule:
    """The rule that `exact`, `none` or SPEC@THRESHOLD states; `altered` is what altered hashes are stamped with."""
    if text in (EXACT, NONE):
        return Rule(text, text == EXACT, None, None)
    spec, at, threshold = text.partition("@")
    try:
        limit = float(threshold)
    except ValueError as error:
        raise UsageError(f"--duplicates {text!r}: give exact, none, or SPEC@THRESHOLD such as pdq@0.1") from error
    by = maker(parse(spec), altered=altered)
    if by.hasher.distance_metric == "custom":
        raise UsageError(f"--duplicates {text!r}: {by.spec} has a distance of its own; judge by another hasher")
    return Rule(f"{by.spec}{at}{limit:g}", True, by, radius_of(by, limit))


class Originals(NamedTuple):
    """The items that are scored, in the order of their uris."""

    uris: pa.Array
    category: np.ndarray  # int64 (items,): index into `names`
    names: list[str]  # of the categories, sorted


def write_originals(root: str, rule: Rule, category: str, noop: str) -> tuple[list[str], int]:
    """Write ORIGINALS of the live items; its parts, and how many items are duplicates of another."""
    manifest = storage.read_manifest(root)
    named = category.partition(":")[2] if category.startswith("column:") else "uri"
    columns = list(dict.fromkeys(["uri", "sha256", "error_class", named]))
    parts = manifest.get("media", [])
    kinds = {kind.name: kind for kind in tables.MEDIA}
    if named not in kinds:  # what the lists say of items has one type in all parts
        kinds |= {kind.name: kind for part in parts[:1] for kind in tables.schema_of(root, part)}
    media = tables.read_table(root, parts, pa.schema([kinds[column] for column in columns]))
    media = media.filter(pc.is_null(media["error_class"])).sort_by("uri").combine_chunks()
    of = categories(media, category)
    names, codes = np.unique(of.astype(str), return_inverse=True)
    better = np.arange(len(media))  # the last item that each is a duplicate of; itself, where it is none
    if rule.exact:
        contents = pc.fill_null(media["sha256"].combine_chunks().dictionary_encode().indices, -1).to_numpy()
        contents = np.where(contents < 0, -1 - np.arange(len(media)), contents)  # unknown: equal to none
        for rows in _grouped(codes):
            np.maximum.at(better, rows, rows[_last_of_equal(contents[rows])])
    if rule.maker and rule.radius:
        owners, hashes = _noop_hashes(root, manifest, rule.maker, noop, media["uri"])
        for rows in _grouped(codes[owners]):
            reach = _last_within(hashes[rows], owners[rows], rule.maker, rule.radius)
            np.maximum.at(better, owners[rows], reach)
    dropped = better > np.arange(len(media))
    twins = media["uri"].take(pa.array(better, mask=~dropped))
    table = pa.table([media["uri"], pa.array(names[codes].tolist(), pa.string()), twins], schema=tables.ORIGINALS)
    made_by = {"duplicates": rule.text, "category": category}
    return tables.write_chunks(root, "originals", table, made_by), int(dropped.sum())


def read_originals(root: str, parts: Sequence[str]) -> Originals:
    """The items to be scored, of ORIGINALS parts."""
    table = tables.read_table(root, parts, tables.ORIGINALS)
    table = table.filter(pc.is_null(table["duplicate_of"])).sort_by("uri").combine_chunks()
    names, codes = np.unique(np.asarray(table["category"].to_pylist(), str), return_inverse=True)
    return Originals(table["uri"].combine_chunks(), codes.astype(np.int64), [str(name) for name in names])


def _noop_hashes(
    root: str, manifest: dict[str, list[str]], maker: Maker, noop: str, uris: pa.ChunkedArray
) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of unaltered pictures: the number of the item of each, and its bytes."""
    schema = tables.hashes_schema(hash_type(maker.hasher))
    table = tables.read_table(root, manifest.get(maker.folder, []), schema, ["uri", "variant", "hash"])
    table = table.filter(pc.and_(pc.equal(table["variant"], noop), pc.is_valid(table["hash"])))
    owners = pc.index_in(table["uri"], uris.combine_chunks()).to_numpy().astype(np.int64)
    return owners, as_bytes(table["hash"])


def _grouped(codes: np.ndarray) -> Iterator[np.ndarray]:
    """The positions of each code, ascending."""
    order = np.argsort(codes, kind="stable")
    if len(order):
        yield from np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _last_of_equal(values: np.ndarray) -> np.ndarray:
    """For each value the last position of an equal one."""
    _, inverse = np.unique(values, return_inverse=True)
    last = np.zeros(len(values), np.int64)
    last[inverse] = np.arange(len(values))
    return last[inverse]


def _last_within(hashes: np.ndarray, owners: np.ndarray, maker: Maker, radius: Radius) -> np.ndarray:
    """For each hash the last owner of one within the radius."""
    unique, sets = joins.distinct(hashes)
    last = np.full(len(unique), -1)
    np.maximum.at(last, sets, owners)
    reach = last.copy()
    if radius.metric == "hamming":
        chunks: Iterator[tuple[np.ndarray, ...]] = joins.self_join_chunks(unique, int(radius.limit))
        if radius.limit < 0:
            reach = np.full(len(unique), -1)  # not even equals are within it
    else:
        vectors = unique.view(maker.hasher.dtype).astype(np.float32)
        chunks = self_join_real_chunks(vectors, radius.limit, cast("Metric", radius.metric))
    for i, j, _ in chunks:
        np.maximum.at(reach, i, last[j])
        np.maximum.at(reach, j, last[i])
    return reach[sets]
