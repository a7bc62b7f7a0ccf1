"""What is done, what is live: an anti-join on (uri, version), never a look at part names.

A run may build on live parts (named by the manifest) and on whole parts that no manifest names: the
finished work of a run that was interrupted. A slice writes its hash parts first and its MEDIA part last,
so a MEDIA part is the receipt of its slice; hash parts without their receipt are not used.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage, tables
from pipeline.errors import RunError
from pipeline.hashers import Hasher, canonical, folder_label

KEY = ["uri", "version"]
_PART = re.compile(
    r"(media|groups|hubs|matches|originals|metrics|rates|curves|(hashes|pairs|joined|near|altered|distances)/hasher=[^/]+)"
    r"/part-[0-9a-f]{24}\.parquet"
)  # none but our own
_DERIVED = {  # from each kind of hashes
    "hashes": ("groups", "hubs", "pairs/{hasher}"),
    "altered": ("originals", "metrics", "rates", "curves", "distances/{hasher}"),
}
WORK = "work"  # folder of files that only serve the run itself; empty at rest


class Maker(NamedTuple):
    """What decides the bits of a hash: the hasher with its revision, and how items are decoded."""

    hasher: Hasher
    spec: str
    folder: str
    isometric: bool  # a row for each flip and quarter turn, instead of one for the upright image
    altered: str = ""  # by which transforms pictures were altered before they were hashed, with a row for each

    @property
    def stamp(self) -> list[Any]:
        """The part of `made_by` that two hash parts must share to be comparable."""
        return [self.spec, self.hasher.revision, self.altered or ("isometric" if self.isometric else "upright")]


def maker(hasher: Hasher, isometric: bool = False, altered: str = "") -> Maker:
    """A hasher with its canonical spec and its folder in an output."""
    spec = canonical(hasher)
    return Maker(hasher, spec, f"{'altered' if altered else 'hashes'}/hasher={folder_label(spec)}", isometric, altered)


class Ways(NamedTuple):
    """How items are decoded: two parts can stand beside each other only if this is the same."""

    decode: str  # canonical text of the decode policy
    sampling: str  # the same of the frames that are taken of videos and animations
    limits: list[Any]  # over which items are refused

    def made(self, made_by: Mapping[str, Any]) -> bool:
        """Was a part made in this way? A part without a moving picture does not depend on the sampling."""
        return made_by["decode"] == self.decode and made_by["sampling"] in (None, self.sampling)


@dataclass(frozen=True)
class Usable:
    """The parts that a run may build on, best first within each list."""

    manifest: dict[str, list[str]]
    names: list[str]  # everything in the output
    media: list[str] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)  # by folder, the requested hashers only
    retried: frozenset[str] = frozenset()  # media parts whose policy failures were judged under another limit


def usable_parts(root: str, makers: Sequence[Maker], ways: Ways) -> Usable:
    """Find the parts of this output that a run with these hashers and these ways to decode may build on."""
    manifest = storage.read_manifest(root)
    names = storage.list_names(root)
    live = {name for parts in manifest.values() for name in parts}
    if missing := sorted(live.difference(names)):
        raise RunError(f"{root}: {len(missing)} live parts are gone, first {missing[0]}; restore them or start anew")
    found = Usable(manifest, names, [], {maker.folder: [] for maker in makers}, frozenset())
    orphans: set[str] = set()  # hash parts whose slice was finished by an interrupted run
    retried = set()
    for name in sorted((n for n in names if _is_part(n, "media")), key=lambda n: n not in live):
        made_by = tables.made_by(root, name)
        if ways.made(made_by):
            found.media.append(name)
            orphans.update(_beside(name, folder) for folder in made_by["folders"] if name not in live)
            if made_by["limits"] != ways.limits:
                retried.add(name)
    for maker in makers:
        for name in names:
            if _is_part(name, maker.folder) and (name in live or name in orphans):
                made_by = tables.made_by(root, name)
                if made_by["hasher"] == maker.stamp and ways.made(made_by):
                    found.hashes[maker.folder].append(name)
        found.hashes[maker.folder].sort(key=lambda n: n not in live)
    return Usable(manifest, names, found.media, found.hashes, frozenset(retried))


def _is_part(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/") and name.endswith(".parquet")


def _beside(name: str, folder: str) -> str:
    """The name, in another table folder, of the part that the same slice wrote."""
    return f"{folder}/{name.rsplit('/', 1)[1]}"


# --- what is to be done -----------------------------------------------------------------------------------------------


def needs(root: str, listing: pa.Table, usable: Usable, makers: Sequence[Maker]) -> np.ndarray:
    """Which hashers each listed item still needs: bool (items, hashers). A failed item needs none."""
    known = np.zeros(len(listing), bool)
    settled = np.zeros(len(listing), bool)
    for name in usable.media:
        rows = tables.read_part(root, name, [*KEY, "error_class"])
        again = ["transient", "policy"] if name in usable.retried else ["transient"]
        rows = rows.filter(pc.invert(pc.is_in(rows["error_class"], pa.array(again))))
        known |= _contained(listing, rows)
        settled |= _contained(listing, rows.filter(pc.is_valid(rows["error_class"])))
    needed = np.empty((len(listing), len(makers)), bool)
    for column, maker in enumerate(makers):
        hashed = np.zeros(len(listing), bool)
        for name in usable.hashes[maker.folder]:
            hashed |= _contained(listing, tables.read_part(root, name, KEY))
        needed[:, column] = ~(known & (settled | hashed))
    return needed


def _contained(listing: pa.Table, rows: pa.Table) -> np.ndarray:
    """Which rows of the listing have their (uri, version) among `rows`: bool (items,)."""
    mask = np.zeros(len(listing), bool)
    if len(rows) and len(listing):
        numbered = listing.select(KEY).append_column("row", pa.array(np.arange(len(listing))))
        mask[numbered.join(rows.select(KEY), KEY, join_type="left semi")["row"].to_numpy()] = True
    return mask


class Slice(NamedTuple):
    """Consecutive items with the same needs, worked on by one task."""

    rows: np.ndarray  # row numbers of the listing
    makers: tuple[int, ...]  # the hashers needed


def cut(listing: pa.Table, needed: np.ndarray, slice_items: int, slice_bytes: int, video_bytes: int) -> list[Slice]:
    """Cut the items that need anything into slices of one kind, of at most so many items and about so many bytes.

    A byte of video takes longer than one of an image, so videos have a limit of their own.
    """
    sizes = listing["size"].to_numpy()
    is_video = pc.equal(listing["kind"], "video").to_numpy()
    slices: list[Slice] = []
    patterns = np.column_stack([needed, is_video])
    for pattern in np.unique(patterns[needed.any(axis=1)], axis=0):
        rows = np.flatnonzero((patterns == pattern).all(axis=1))
        most_bytes = video_bytes if pattern[-1] else slice_bytes
        before = np.concatenate([[0], np.cumsum(sizes[rows])])
        start = 0
        while start < len(rows):
            by_bytes = int(np.searchsorted(before, before[start] + most_bytes, "right")) - 1
            end = min(len(rows), start + slice_items, max(by_bytes, start + 1))
            slices.append(Slice(rows[start:end], tuple(np.flatnonzero(pattern[:-1]).tolist())))
            start = end
    return slices


# --- what is live -----------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """The live parts of the item tables after a hash stage, and what they hold."""

    manifest: dict[str, list[str]]
    removed: int  # items of the last commit that are no longer listed


def settle(
    root: str, listing: pa.Table, usable: Usable, makers: Sequence[Maker], written: Mapping[str, Sequence[str]]
) -> Kept:
    """Choose the live rows: one MEDIA row per listed item, hash rows of decoded items only.

    `written` are the MEDIA parts of this run, each with the hash folders its slice wrote to. Newer rows
    win; parts that hold rows no longer true are written again without them. Nothing is deleted here.
    """
    candidates = [*sorted(written), *(name for name in usable.media if name not in written)]
    listed = listing.select(KEY)
    decoded: list[pa.Table] = []
    manifest = dict(usable.manifest)
    manifest["media"] = []
    for name in candidates:
        rows = tables.read_part(root, name, [*KEY, "error_class"])
        wanted, listed = _claimed(rows, listed)
        manifest["media"] += _without(root, name, rows, wanted)
        decoded.append(rows.filter(pa.array(wanted & rows["error_class"].is_null().to_numpy())).select(KEY))
    if len(listed):
        raise RunError(f"bug: {len(listed)} listed items have no row, first {listed['uri'][0]}")
    good = pa.concat_tables(decoded) if decoded else listing.select(KEY).slice(0, 0)
    asked = {maker.folder: usable.hashes[maker.folder] for maker in makers}
    for folder in {*asked, *_hash_folders(usable.manifest)}:
        new = sorted(_beside(name, folder) for name, folders in written.items() if folder in folders)
        old = asked.get(folder, usable.manifest.get(folder, []))
        kept: list[str] = []
        unclaimed = good
        for name in [*new, *(n for n in old if n not in new)]:
            rows = tables.read_part(root, name, KEY)
            wanted, unclaimed = _claimed(rows, unclaimed)
            kept += _without(root, name, rows, wanted)
        manifest[folder] = sorted(kept)
        if folder in asked and len(unclaimed):
            raise RunError(f"bug: {len(unclaimed)} decoded items have no row in {folder}, first {unclaimed['uri'][0]}")
    for folder in [*asked, *_hash_folders(usable.manifest)]:
        if manifest[folder] != sorted(usable.manifest.get(folder, [])):  # what was derived from the old rows goes
            for derived in _DERIVED[folder.split("/")[0]]:
                manifest.pop(derived.format(hasher=folder.split("/")[1]), None)
            matches = manifest.get("matches", [])
            manifest["matches"] = [name for name in matches if _hash_folder(root, name) != folder]
    before = tables.read_table(root, usable.manifest.get("media", []), tables.MEDIA, ["uri"])
    gone = pc.invert(pc.is_in(before["uri"], listing["uri"].combine_chunks()))
    return Kept({folder: names for folder, names in manifest.items() if names}, pc.sum(gone).as_py() or 0)


def _hash_folders(manifest: Mapping[str, Sequence[str]]) -> list[str]:
    """The folders of hashes, of the items and of what a benchmark made of them."""
    return [folder for folder in sorted(manifest) if folder.split("/")[0] in _DERIVED]


def _hash_folder(root: str, name: str) -> str:
    """The folder of the hashes that a part was derived from."""
    return f"hashes/hasher={folder_label(tables.made_by(root, name)['hasher'][0])}"


def _claimed(rows: pa.Table, unclaimed: pa.Table) -> tuple[np.ndarray, pa.Table]:
    """Which rows are the true ones for keys nobody has claimed yet, and the keys left unclaimed."""
    wanted = np.zeros(len(rows), bool)
    if not len(rows) or not len(unclaimed):
        return wanted, unclaimed
    numbered = rows.select(KEY).append_column("row", pa.array(np.arange(len(rows))))
    wanted[numbered.join(unclaimed, KEY, join_type="left semi")["row"].to_numpy()] = True
    left = unclaimed.join(rows.select(KEY), KEY, join_type="left anti")
    return wanted, left.select(KEY)


def _without(root: str, name: str, rows: pa.Table, wanted: np.ndarray) -> list[str]:
    """The part itself when all its rows are wanted, a part of the wanted ones, or nothing."""
    if wanted.all():
        return [name] if len(rows) else []
    if not wanted.any():
        return []
    folder, old = name.rsplit("/", 1)
    digest = blake2b(old.encode() + np.packbits(wanted).tobytes(), digest_size=12).hexdigest()
    kept = f"{folder}/part-{digest}.parquet"
    tables.write_part(root, kept, tables.read_part(root, name).filter(pa.array(wanted)), tables.made_by(root, name))
    return [kept]


def commit(root: str, manifest: dict[str, list[str]], finished_work: str) -> None:
    """Make these parts live, then delete every part that is not, and the work files that begin with `finished_work`."""
    storage.commit_manifest(root, manifest)
    live = {name for names in manifest.values() for name in names}
    dead = [n for n in storage.list_names(root) if _PART.fullmatch(n) and n not in live]
    storage.delete(root, [*dead, *(n for n in storage.list_names(root) if n.startswith(f"{WORK}/{finished_work}"))])


class Counts(NamedTuple):
    """The live rows of the item tables, counted."""

    decoded: int
    failed: dict[str, int]  # by error class
    hashers: dict[str, dict[str, int]]  # canonical spec → items with and without a hash


def count(root: str, manifest: Mapping[str, Sequence[str]], makers: Sequence[Maker]) -> Counts:
    """Count items: decoded and failed, and for each hasher those with and without a hash."""
    classes = tables.read_table(root, manifest.get("media", []), tables.MEDIA, ["error_class"])["error_class"]
    failed = {one["values"]: one["counts"] for one in pc.value_counts(classes.drop_null()).to_pylist()}
    hashers = {}
    for maker in makers:
        total = hashed = 0
        for name in manifest.get(maker.folder, []):
            rows = tables.read_part(root, name, ["uri", "hash"])
            total += pc.count_distinct(rows["uri"]).as_py()
            hashed += pc.count_distinct(rows.filter(pc.is_valid(rows["hash"]))["uri"]).as_py()
        hashers[maker.spec] = {"with_hash": hashed, "without_hash": total - hashed}
    return Counts(classes.null_count, dict(sorted(failed.items())), hashers)
