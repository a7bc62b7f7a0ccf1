"""GROUPS: which items belong together, which one to keep, and why."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import groups, storage, tables

_FACTS = ["uri", "size", "mtime", "width", "height"]


class Grouped(NamedTuple):
    """The parts of GROUPS, and what they hold."""

    names: list[str]
    groups: int
    items: int
    duplicate_bytes: int  # of the items that need not be kept


def write_groups(root: str) -> Grouped:
    """Group the items that the live pairs of all hashers link, choose what to keep, and write GROUPS."""
    manifest = storage.read_manifest(root)
    folders = [folder for folder in sorted(manifest) if folder.startswith("pairs/")]
    pairs = [tables.read_table(root, manifest[f], tables.PAIRS, ["uri_a", "uri_b", "distance"]) for f in folders]
    edges = pa.concat_tables(pairs) if pairs else tables.PAIRS.empty_table().select(["uri_a", "uri_b", "distance"])
    uris = pc.unique(pa.chunked_array([*edges["uri_a"].chunks, *edges["uri_b"].chunks], pa.string()))
    uris = uris.take(pc.sort_indices(uris))
    i = pc.index_in(edges["uri_a"], uris).to_numpy().astype(np.int64)
    j = pc.index_in(edges["uri_b"], uris).to_numpy().astype(np.int64)
    facts = _facts(root, manifest, uris)
    pixels = facts["width"].astype(np.int64) * facts["height"]
    labels = groups.components(len(uris), i, j)
    kept = groups.choose_kept(labels, pixels, facts["size"], facts["mtime"])
    distance = groups.distances_to_kept(kept.kept, i, j, edges["distance"].to_numpy())
    table = pa.table(
        {
            "uri": uris,
            "group": uris.take(pa.array(labels)),
            "keep": kept.keep,
            "kept_uri": uris.take(pa.array(kept.kept)),
            "distance_to_kept": pa.array(distance, from_pandas=True),
            "reason": pa.array(_reasons(kept, facts), pa.string()),
        },
        schema=tables.GROUPS,
    ).sort_by([("group", "ascending"), ("uri", "ascending")])
    names = tables.write_chunks(root, "groups", table, {"policy": list(groups.REASONS)})
    saved = int(facts["size"][~kept.keep].sum())
    return Grouped(names, int(np.count_nonzero(kept.keep)), len(uris), saved)


def _facts(root: str, manifest: dict[str, list[str]], uris: pa.Array) -> dict[str, np.ndarray]:
    """Size, mtime, width and height of the given items, in their order."""
    found = []
    for name in manifest.get("media", []):
        rows = tables.read_part(root, name, _FACTS)
        found.append(rows.filter(pc.is_in(rows["uri"], uris)))
    media = pa.concat_tables(found) if found else tables.MEDIA.empty_table().select(_FACTS)
    ordered = media.take(pc.index_in(uris, media["uri"].combine_chunks()))
    return {name: ordered[name].to_numpy() for name in _FACTS[1:]}


def _reasons(kept: groups.Kept, facts: dict[str, np.ndarray]) -> list[str]:
    """Per item one sentence that says why it is kept, or what the kept one has over it."""

    def shown(item: int, reason: str) -> str:
        if reason == "largest_pixels":
            return f"{facts['width'][item]}x{facts['height'][item]} pixels"
        if reason == "largest_bytes":
            return f"{facts['size'][item]:,} bytes"
        if reason == "oldest_mtime":
            return f"modified {np.datetime_as_string(facts['mtime'][item], 's')}"
        return "later uri"

    said = {
        "largest_pixels": "most pixels",
        "largest_bytes": "as many pixels as others, most bytes",
        "oldest_mtime": "as large as others, oldest",
        "smallest_uri": "equal to others, first by uri",
    }
    texts = []
    for item, (keep, best, code) in enumerate(
        zip(kept.keep.tolist(), kept.kept.tolist(), kept.reason.tolist(), strict=True)
    ):
        reason = groups.REASONS[code]
        if keep:
            texts.append(f"keep: {said[reason]}")
        elif reason == "smallest_uri":
            texts.append("drop: equal to the kept one, later by uri")
        else:
            texts.append(f"drop: {shown(item, reason)}, kept has {shown(best, reason)}")
    return texts
