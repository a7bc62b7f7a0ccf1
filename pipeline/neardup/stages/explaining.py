"""Everything the tables of an output say of one item."""

import difflib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from neardup import storage, tables
from neardup.errors import UsageError

_CANDIDATES = 2_000  # uris that are compared letter by letter


def find_item(root: str, given: str) -> str:
    """The uri of the item that is meant: as it stands, as a path from here, or as the end of one uri or member only.

    Raises UsageError, with the nearest known uri, when there is none.
    """
    manifest = storage.read_manifest(root)
    if not manifest:
        raise UsageError(f"{root} is not an output of neardup; make one with: neardup dedup INPUT --output …")
    uris = tables.read_table(root, manifest.get("media", []), tables.MEDIA, ["uri"])["uri"]
    meant = [given] if "://" in given else [storage.absolute(given), given]
    for uri in meant:
        if pc.any(pc.equal(uris, uri)).as_py():
            return uri
    tail = given.removeprefix("./").rstrip("/")
    ends = pc.or_(pc.ends_with(uris, f"/{tail}"), pc.match_substring(uris, f"/{tail}::"))  # of a member too
    found = uris.filter(ends).unique().to_pylist()
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UsageError(f"{given!r} may be {min(found)} or {len(found) - 1:,} others of {root}; give more of its path")
    near = _nearest(uris, meant[0])
    raise UsageError(f"no item {given!r} in {root}{f'; the nearest is {near}' if near else ': it is empty'}")


def _nearest(uris: pa.ChunkedArray, wanted: str) -> str | None:
    """The uri that is most like this text: among those of the same name, else of the same folder, else some."""
    folder, _, name = wanted.rpartition("/")
    for some in (uris.filter(pc.ends_with(uris, f"/{name}")), uris.filter(pc.starts_with(uris, f"{folder}/")), uris):
        candidates = some.slice(0, _CANDIDATES).to_pylist()
        if candidates:
            return str(difflib.get_close_matches(wanted, candidates, 1, cutoff=0.0)[0])
    return None


def explain(root: str, uri: str) -> dict[str, Any]:
    """All rows of all tables about one item: media, hashes, pairs, group with its members, hubs, matches.

    Hashes are hex text, or lists of numbers. A pair says which uri the other one is; the nearest comes first.
    """
    manifest = storage.read_manifest(root)

    def about(folder: str, *columns: str, value: str = uri) -> list[dict[str, Any]]:
        return [row for name in sorted(manifest.get(folder, [])) for row in _rows(root, name, columns, value)]

    (media,) = about("media", "uri")
    hashes, pairs = {}, []
    for folder in tables.hash_folders(manifest):
        spec = tables.made_by(root, manifest[folder][0])["hasher"][0]
        hashes[spec] = [_readable(row) for row in about(folder, "uri")]
        for row in about(folder.replace("hashes/", "pairs/", 1), "uri_a", "uri_b"):
            ends = row.pop("uri_a"), row.pop("uri_b")
            pairs.append({"uri": ends[ends[0] == uri], "hasher": spec, **row})
    groups = about("groups", "uri")
    members = about("groups", "group", value=groups[0]["group"]) if groups else []
    near = {pair["uri"] for pair in pairs} | {uri}
    hubs = [row for one in sorted(near) for row in about("hubs", "uri", value=one)]
    matches = about("matches", "uri")
    return {
        "media": media,
        "hashes": hashes,
        "pairs": sorted(pairs, key=lambda row: (row["distance"], row["uri"], row["hasher"])),
        "group": groups[0] if groups else None,
        "members": sorted(members, key=lambda row: (not row["keep"], row["uri"])),
        "hubs": hubs,
        "matches": sorted(matches, key=lambda row: (row["distance"], row["list"], row["entry"])),
    }


def _rows(root: str, name: str, columns: tuple[str, ...], value: str) -> list[dict[str, Any]]:
    """The rows of a part that have this value in one of the columns; other columns are read only if there are any."""
    keys = tables.read_part(root, name, columns)
    wanted = pc.equal(keys[columns[0]], value)
    for column in columns[1:]:
        wanted = pc.or_(wanted, pc.equal(keys[column], value))
    if not pc.any(wanted).as_py():
        return []
    found: list[dict[str, Any]] = tables.read_part(root, name).filter(wanted).to_pylist()
    return found


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    if isinstance(row["hash"], bytes):
        row["hash"] = row["hash"].hex()
    return row
