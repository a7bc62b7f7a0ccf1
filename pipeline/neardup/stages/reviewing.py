"""What a person decides about: the groups that cost most, who is in them, and what failed and why. Only reads."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import storage, tables
from neardup.errors import UsageError

MOST_GROUPS = 100
MOST_MEMBERS = 24  # of a group
MOST_REASONS = 50


class Review(NamedTuple):
    """What an output holds, in counts, and the rows worth looking at."""

    items: int
    bytes: int
    failures: list[dict[str, Any]]  # error_class, error_stage, error, items, uri of one; the commonest first
    failed: int
    stale: int  # rows of an earlier run, of items that the last could not read or list
    groups: int
    grouped: int  # items in groups
    dropped: int  # items that need not be kept
    bytes_saved: int
    largest: list[dict[str, Any]]  # items, bytes_saved, members (rows of GROUPS and MEDIA); the most bytes first
    hashers: list[dict[str, Any]]  # hasher, hashes, pairs; pairs is None where it was not joined
    hubs: int
    matches: list[dict[str, Any]]  # hasher, list, items


def review(root: str) -> Review:
    """What the live tables of an output say as a whole. Raises UsageError where there is no output."""
    manifest = storage.read_manifest(root)
    if not manifest.get("media"):
        raise UsageError(f"{root} is not an output of neardup; make one with: neardup dedup INPUT --output …")
    columns = ["uri", "kind", "size", "format", "width", "height", "error_class", "error_stage", "error", "stale"]
    media = tables.read_table(root, manifest["media"], tables.MEDIA, columns)
    failed = media.filter(pc.is_valid(media["error_class"]))
    groups = tables.read_table(root, manifest.get("groups", []), tables.GROUPS)
    places = pc.index_in(groups["uri"], media["uri"])
    sizes = pc.fill_null(media["size"].take(places), 0)
    saved = pc.if_else(groups["keep"], 0, sizes)
    matches = tables.read_table(root, manifest.get("matches", []), tables.MATCHES, ["hasher", "list", "uri"])
    return Review(
        items=len(media),
        bytes=pc.sum(media["size"]).as_py() or 0,
        failures=_reasons(failed),
        failed=len(failed),
        stale=len(media) - media["stale"].null_count,
        groups=pc.count_distinct(groups["group"]).as_py(),
        grouped=len(groups),
        dropped=len(groups) - (pc.sum(groups["keep"]).as_py() or 0),
        bytes_saved=pc.sum(saved).as_py() or 0,
        largest=_largest(groups, media, places, saved),
        hashers=[_hasher(root, manifest, folder) for folder in tables.hash_folders(manifest)],
        hubs=tables.count_rows(root, manifest.get("hubs", [])),
        matches=_counted(matches, ["hasher", "list"], "uri"),
    )


def _reasons(failed: pa.Table) -> list[dict[str, Any]]:
    """Equal errors counted, with the first item of each."""
    keys = ["error_class", "error_stage", "error"]
    found = failed.group_by(keys).aggregate([("uri", "count"), ("uri", "min")])
    found = found.sort_by([("uri_count", "descending"), *((key, "ascending") for key in keys)]).slice(0, MOST_REASONS)
    rows: list[dict[str, Any]] = found.rename_columns([*keys, "items", "uri"]).to_pylist()
    return rows


def _largest(
    groups: pa.Table, media: pa.Table, places: pa.ChunkedArray, saved: pa.ChunkedArray
) -> list[dict[str, Any]]:
    with_bytes = groups.select(["group"]).append_column("saved", saved)
    totals = with_bytes.group_by("group").aggregate([("saved", "sum"), ("saved", "count")])
    totals = totals.sort_by([("saved_sum", "descending"), ("group", "ascending")]).slice(0, MOST_GROUPS)
    chosen = np.flatnonzero(pc.is_in(groups["group"], totals["group"].combine_chunks()).to_numpy())
    rows = groups.take(chosen)
    about = media.take(places.take(pa.array(chosen)))
    for name in ("kind", "size", "format", "width", "height"):
        rows = rows.append_column(name, about[name])
    rows = rows.sort_by([("group", "ascending"), ("keep", "descending"), ("uri", "ascending")])
    members: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        members.setdefault(row["group"], []).append(row)
    return [
        {"items": row["saved_count"], "bytes_saved": row["saved_sum"], "members": members[row["group"]][:MOST_MEMBERS]}
        for row in totals.to_pylist()
    ]


def _hasher(root: str, manifest: dict[str, list[str]], folder: str) -> dict[str, Any]:
    pairs, compared = (folder.replace("hashes/", f"{table}/", 1) for table in ("pairs", "joined"))
    spec = tables.made_by(root, manifest[folder][0])["hasher"][0]
    joined = tables.count_rows(root, manifest.get(pairs, [])) if {pairs, compared} & set(manifest) else None
    return {"hasher": spec, "hashes": tables.count_rows(root, manifest[folder]), "pairs": joined}


def _counted(table: pa.Table, keys: list[str], counted: str) -> list[dict[str, Any]]:
    found = table.group_by(keys).aggregate([(counted, "count_distinct")])
    found = found.rename_columns([*keys, "items"]).sort_by([(key, "ascending") for key in keys])
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows
