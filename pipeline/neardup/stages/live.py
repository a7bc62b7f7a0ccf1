"""What is done, what is live: an anti-join on (uri, version), never a look at part names.

A run may build on live parts (named by the manifest) and on whole parts that no manifest names: the
finished work of a run that was interrupted. A slice writes its hash parts first and its MEDIA part last,
so a MEDIA part is the receipt of its slice; hash parts without their receipt are not used.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import storage, tables
from neardup.errors import RunError
from neardup.hashers import Hasher, canonical, folder_label
from neardup.stages.listing import Listing, Unread
from neardup.stages.spool import Spool, together

KEY = ["uri", "version"]
_PART_NUMBER, _ROW_NUMBER = f"{tables.RESERVED}part", f"{tables.RESERVED}row"  # where a row of the spools comes from
_PART = re.compile(
    r"(media|groups|hubs|matches|originals|metrics|rates|curves|(hashes|pairs|joined|near|altered|distances)/hasher=[^/]+)"
    r"/part-[0-9a-f]{24}\.parquet"
)  # none but our own
_DERIVED = {  # from each kind of hashes
    "hashes": ("groups", "hubs", "pairs/{hasher}"),
    "altered": ("originals", "metrics", "rates", "curves", "distances/{hasher}"),
}
_SAID = ["kind", "size", "mtime"]  # by the listing, besides the key
_UNKNOWN_BYTES = 200_000  # what an item of unknown size counts when slices are cut
_SMALL_ROWS = 5_000  # of a part; many of those become few
_MANY_SMALL = 100
_COMPACT_ROWS = 100_000  # of a part made of small ones, about
_TRIED_AGAIN = ("transient:", "permanent:")  # why known items could not be read for a hasher that was added
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


class Todo(NamedTuple):
    """Some rows of the listing, and the slices of them that are to be done."""

    rows: pa.Table
    slices: list["Slice"]


@dataclass(frozen=True)
class Cutting:
    """How work is cut into slices, and which failures are tried again besides transient ones."""

    items: int
    bytes: int
    video_bytes: int  # a byte of video takes longer than one of an image
    retry: frozenset[str] = frozenset()  # error classes


def todo(root: str, listing: Listing, usable: Usable, makers: Sequence[Maker], cutting: Cutting) -> Iterator[Todo]:
    """The slices to do, bucket by bucket of the listing; a failed item is done unless its class is tried again."""
    known = Spool(listing.spool.limit)
    for name in usable.media:
        rows = tables.read_part(root, name, [*KEY, "error_class"])
        again = {"transient", *cutting.retry, *(["policy"] if name in usable.retried else [])}
        rows = rows.filter(pc.invert(pc.is_in(rows["error_class"], pa.array(sorted(again)))))
        known.add(rows.select(KEY).append_column("settled", pc.is_valid(rows["error_class"])))
    hashed = []
    for maker in makers:
        hashed.append(Spool(listing.spool.limit))
        for name in usable.hashes[maker.folder]:
            hashed[-1].add(_hashed(root, name, [*_TRIED_AGAIN, *(["poison:"] if "poison" in cutting.retry else [])]))
    for listed, knowing, *hashes in together(listing.spool, known, *hashed):
        rows = pa.concat_tables([listing.schema.empty_table(), *listed])
        found = _joined(knowing)
        best = _first_matches(rows, found) if found else np.full(len(rows), -1)  # a live row before any other
        done = best >= 0
        settled = done & found["settled"].to_numpy()[best] if found and len(found) else done
        needed = np.empty((len(rows), len(makers)), bool)
        for column, parts in enumerate(hashes):
            has = _joined(parts)
            needed[:, column] = ~(done & (settled | _contained(rows, has))) if has else ~(done & settled)
        yield Todo(rows, cut(rows, needed, cutting))


def _hashed(root: str, name: str, again: Sequence[str]) -> pa.Table:
    """The keys of a hash part, but of items without a hash for a reason that begins so."""
    rows = tables.read_part(root, name, [*KEY, "error"])
    failed = np.zeros(len(rows), bool)
    for reason in again:
        failed |= pc.fill_null(pc.starts_with(rows["error"], reason), False).to_numpy()
    return rows.filter(pa.array(~failed)).select(KEY)


def _joined(parts: Sequence[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(parts) if parts else None


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


def cut(listing: pa.Table, needed: np.ndarray, cutting: Cutting) -> list[Slice]:
    """Cut the items that need anything into slices of one kind, of at most so many items and about so many bytes."""
    sizes = _sizes(listing)
    is_video = pc.equal(listing["kind"], "video").to_numpy()
    slices: list[Slice] = []
    patterns = np.column_stack([needed, is_video])
    for pattern in np.unique(patterns[needed.any(axis=1)], axis=0):
        rows = np.flatnonzero((patterns == pattern).all(axis=1))
        most_bytes = cutting.video_bytes if pattern[-1] else cutting.bytes
        before = np.concatenate([[0], np.cumsum(sizes[rows])])
        start = 0
        while start < len(rows):
            by_bytes = int(np.searchsorted(before, before[start] + most_bytes, "right")) - 1
            end = min(len(rows), start + cutting.items, max(by_bytes, start + 1))
            slices.append(Slice(rows[start:end], tuple(np.flatnonzero(pattern[:-1]).tolist())))
            start = end
    return slices


def _sizes(listing: pa.Table) -> np.ndarray:
    """The bytes that each item costs, about, where the listing does not say: int64 (items,)."""
    spans = pc.struct_field(listing["place"].combine_chunks(), "span")
    return np.asarray(pc.coalesce(listing["size"].combine_chunks(), spans, pa.scalar(_UNKNOWN_BYTES)).to_numpy())


# --- what is live -----------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """The live parts of the item tables after a hash stage, and what they hold."""

    manifest: dict[str, list[str]]
    items: int  # those listed, and those known of places that could not be read


def settle(
    root: str, listing: Listing, usable: Usable, makers: Sequence[Maker], written: Mapping[str, Sequence[str]]
) -> Kept:
    """Choose the live rows: one MEDIA row per listed item, hash rows of decoded items only.

    `written` are the MEDIA parts of this run, each with the hash folders its slice wrote to. Newer rows win, but what
    is known of an item stays where this run could not read it (`_known`); what a listing says of an item is what this
    one says; parts that hold rows no longer true are written again without them, and many small ones become one.
    Nothing is deleted here.
    """
    new_parts = sorted(written)
    media = _Candidates(root, [*new_parts, *(name for name in usable.media if name not in written)], listing)
    asked = {maker.folder: maker for maker in makers}
    hashes = {}
    for folder in {*asked, *_hash_folders(usable.manifest)}:
        new = sorted(_beside(name, folder) for name, folders in written.items() if folder in folders)
        old = usable.hashes[folder] if folder in asked else usable.manifest.get(folder, [])
        hashes[folder] = _Candidates(root, [*new, *(name for name in old if name not in new)], listing)
    for number, name in enumerate(media.names):
        media.add(number, tables.read_listed(root, name))
    for candidates in hashes.values():
        for number, name in enumerate(candidates.names):
            candidates.add(number, tables.read_part(root, name, KEY))
    items = 0
    without: dict[str, list[pa.Table]] = {folder: [] for folder in asked}  # known items that a hasher has no row of
    for listed, found, *hashed in together(listing.spool, media.spool, *(one.spool for one in hashes.values())):
        rows = pa.concat_tables([listing.schema.empty_table(), *listed])
        decoded = media.choose_items(rows, found, len(new_parts), set(usable.manifest.get("media", [])))
        items += decoded.items
        for (folder, candidates), parts in zip(hashes.items(), hashed, strict=True):
            missing = candidates.choose_hashes(decoded.rows, parts, folder if folder in asked else None)
            if folder in asked and len(missing):
                without[folder].append(missing)
    manifest = {**usable.manifest, "media": media.settled()}
    for folder, candidates in hashes.items():
        added = _no_hashes(root, asked[folder], without[folder], [*new_parts, *usable.media]) if folder in asked else []
        manifest[folder] = sorted([*candidates.settled(), *added])
    for folder in hashes:
        if manifest[folder] != sorted(usable.manifest.get(folder, [])):  # what was derived from the old rows goes
            for derived in _DERIVED[folder.split("/")[0]]:
                manifest.pop(derived.format(hasher=folder.split("/")[1]), None)
            matches = manifest.get("matches", [])
            manifest["matches"] = [name for name in matches if _hash_folder(root, name) != folder]
    return Kept({folder: names for folder, names in manifest.items() if names}, items)


class _Decoded(NamedTuple):
    """What MEDIA will hold of some items."""

    items: int
    rows: pa.Table  # uri, version, stale of those that were decoded


def _known(listed: pa.Table, keys: pa.Table, chosen: np.ndarray, new_parts: int, live: np.ndarray) -> np.ndarray:
    """Of each listed item the row that was known of it and stays in place of the one chosen, else -1: int64 (items,).

    This run tried the item and failed. Where the listing could not say whether its content has changed, a transient
    failure says nothing about it. Where it is listed as it was, and was decoded then, no failure to read or decode it
    takes that back: it goes when it is no longer listed, when its content changes, or by a limit that was set (policy).
    Of content that is known to have changed, nothing was known.
    """
    kept = np.full(len(listed), -1)
    part = keys[_PART_NUMBER].to_numpy()
    tried = np.flatnonzero((part[chosen] < new_parts) & keys["error_class"].is_valid().to_numpy()[chosen])
    if not len(tried):
        return kept
    order = np.flatnonzero(part >= new_parts)
    order = order[np.argsort(~live[part[order]], kind="stable")]  # live rows first
    order = order[~pc.fill_null(pc.equal(keys["error_class"], "transient"), False).to_numpy()[order]]
    place = pc.index_in(listed["uri"].take(pa.array(tried)), keys["uri"].take(pa.array(order)).combine_chunks())
    has = place.is_valid().to_numpy()
    tried, known = tried[has], order[place.drop_null().to_numpy()]
    failure = keys["error_class"].take(pa.array(chosen[tried]))
    decoded = keys["error_class"].take(pa.array(known)).is_null().to_numpy()
    versions = listed["version"].take(pa.array(tried))
    alike = pc.equal(versions, keys["version"].take(pa.array(known))).to_numpy()
    unsure = pc.equal(versions, storage.UNKNOWN).to_numpy()
    transient = pc.equal(failure, "transient").to_numpy()
    policy = pc.equal(failure, "policy").to_numpy()
    stays = (transient & (unsure | alike)) | (alike & decoded & ~policy)
    kept[tried[stays]] = known[stays]
    return kept


def _below_unread(listed: pa.Table, keys: pa.Table, unread: Sequence[Unread], live: np.ndarray) -> tuple[Any, Any]:
    """The live rows of items that are not listed, in places that could not be read: their numbers, and why."""
    waiting = live[keys[_PART_NUMBER].to_numpy()]
    waiting &= ~pc.is_in(keys["uri"], listed["uri"].combine_chunks()).to_numpy()
    rows, why = [], []
    folders = sorted(unread, key=lambda place: -len(place.uri))
    for row in np.flatnonzero(waiting):
        uri = keys["uri"][int(row)].as_py()
        container = storage.container_of(uri)
        place = next((one for one in folders if container == one.uri or container.startswith(f"{one.uri}/")), None)
        if place and uri != place.uri:
            rows.append(int(row))
            why.append(f"not listed: {place.why}")
    return np.array(rows, np.int64), why


def _no_hashes(root: str, maker: Maker, missing: Sequence[pa.Table], media: Sequence[str]) -> list[str]:
    """The parts that say of known items why a hasher that was added has no hash of them."""
    if not missing:
        return []
    rows = pa.concat_tables(missing).sort_by("uri")
    schema = tables.hashes_schema(hash_type(maker.hasher))
    columns = {
        "uri": rows["uri"],
        "version": rows["version"],
        "variant": pa.array(["r0"] * len(rows)),
        "frame_index": pa.array([0] * len(rows), pa.int64()),
        "error": rows["stale"],
    }
    arrays = [columns.get(field.name, pa.nulls(len(rows), field.type)) for field in schema]
    ways = {key: value for key, value in tables.made_by(root, media[0]).items() if key != "folders"}
    made_by = {**ways, "sampling": None, "hasher": maker.stamp}
    return tables.write_chunks(root, maker.folder, pa.table(arrays, schema=schema), made_by)


def hash_type(hasher: Hasher) -> pa.DataType:
    """How a hasher's hashes lie in Parquet: packed bits and bytes as they are, reals as a list of fixed length."""
    if hasher.dtype == "float32":
        return pa.list_(pa.float32(), hasher.hash_length)
    return pa.binary(-(-hasher.hash_length // 8) if hasher.dtype == "bool" else hasher.hash_length)


def _hash_folders(manifest: Mapping[str, Sequence[str]]) -> list[str]:
    """The folders of hashes, of the items and of what a benchmark made of them."""
    return [folder for folder in sorted(manifest) if folder.split("/")[0] in _DERIVED]


def _hash_folder(root: str, name: str) -> str:
    """The folder of the hashes that a part was derived from."""
    return f"hashes/hasher={folder_label(tables.made_by(root, name)['hasher'][0])}"


class _Candidates:
    """Parts of one table whose rows may be live, best first, and which of their rows were chosen."""

    def __init__(self, root: str, names: list[str], listing: Listing):
        self.names = names
        self.spool = Spool(listing.spool.limit)
        self._root, self._listing = root, listing
        self._wanted: list[np.ndarray] = []
        self._news: dict[int, list[pa.Table]] = {}  # part → rows of which the listing says something else now
        self._said_alike: list[bool] = []

    def add(self, number: int, rows: pa.Table) -> None:
        """The rows of one part."""
        self._wanted.append(np.zeros(len(rows), bool))
        self._said_alike.append("stale" in rows.schema.names and _carried(rows.schema).equals(self._said))
        rows = rows.replace_schema_metadata(None).append_column(_PART_NUMBER, pa.array(np.full(len(rows), number)))
        self.spool.add(rows.append_column(_ROW_NUMBER, pa.array(np.arange(len(rows)))))

    @property
    def _said(self) -> pa.Schema:
        return _plain(pa.schema([self._listing.schema.field(name) for name in self._listing.carried]))

    def choose_items(self, listed: pa.Table, parts: Sequence[pa.Table], new_parts: int, live: set[str]) -> _Decoded:
        """Choose one row for each listed item, and for each known one of a place that could not be read.

        The first `new_parts` are those of this run.
        """
        columns = [*KEY, _PART_NUMBER, _ROW_NUMBER, "error_class", "error"]
        keys = pa.concat_tables([part.select(columns) for part in parts]) if parts else None
        chosen = _first_matches(listed, keys) if keys else np.full(len(listed), -1)
        if (chosen < 0).any():
            missing = listed["uri"][int(np.argmin(chosen))]
            raise RunError(f"bug: {(chosen < 0).sum()} listed items have no row, first {missing}")
        if keys is None:
            return _Decoded(0, listed.select(KEY).append_column("stale", pa.nulls(0, pa.string())))
        was_live = np.array([name in live for name in self.names], bool)
        kept = _known(listed, keys, chosen, new_parts, was_live)
        stays = kept >= 0
        failures = keys.take(pa.array(chosen))
        stale = pc.binary_join_element_wise(failures["error_class"], failures["error"], ": ").to_pylist()
        stale = [why if known else None for why, known in zip(stale, stays, strict=True)]
        chosen = np.where(stays, kept, chosen)
        if self._listing.unread:
            unlisted, why = _below_unread(listed, keys, self._listing.unread, was_live)
            rows = pa.concat_tables([self._shaped_as_listed(part) for part in parts]).take(pa.array(unlisted))
            listed, stale = pa.concat_tables([listed, rows]), [*stale, *why]
            chosen = np.concatenate([chosen, unlisted])
        keys = keys.take(pa.array(chosen))
        part, row = keys[_PART_NUMBER].to_numpy(), keys[_ROW_NUMBER].to_numpy()
        self._want(part, row)
        self._note_news(listed.append_column("stale", pa.array(stale, pa.string())), parts, chosen, part, row)
        decoded = keys.select(KEY).append_column("stale", pa.array(stale, pa.string()))
        return _Decoded(len(listed), decoded.filter(pc.is_null(keys["error_class"])))

    def _shaped_as_listed(self, part: pa.Table) -> pa.Table:
        return _shaped([part], self._listing.schema)

    def _note_news(
        self, listed: pa.Table, parts: Sequence[pa.Table], chosen: np.ndarray, part: np.ndarray, row: np.ndarray
    ) -> None:
        """Remember the rows of which the listing says something else than they do."""
        names = [*_SAID, *self._listing.carried, "stale"]
        old = _shaped(parts, _plain(pa.schema([listed.schema.field(name) for name in names]))).take(chosen)
        new = listed.select(names)
        for name in ("size", "mtime"):  # a listing that could not look an item up says neither
            known = old[name] if name == "size" else pc.if_else(new["stale"].is_null(), None, old[name])
            new = new.set_column(names.index(name), name, pc.coalesce(new[name], known))
        changed = ~np.array(self._said_alike, bool)[part]
        for name in names:
            changed |= _differ(old[name], new[name])
        for number in np.unique(part[changed]):
            rows = np.flatnonzero(changed & (part == number))
            news = new.take(pa.array(rows)).append_column(_ROW_NUMBER, pa.array(row[rows]))
            self._news.setdefault(int(number), []).append(news)

    def choose_hashes(self, decoded: pa.Table, parts: Sequence[pa.Table], asked: str | None) -> pa.Table:
        """Choose the rows of each decoded item in the best part that has any.

        Gives the items that have none; in `asked` only stale ones may.
        """
        rows = pa.concat_tables(parts) if parts else None
        best = _first_matches(decoded, rows) if rows else np.full(len(decoded), -1)
        missing = decoded.filter(pa.array(best < 0))
        if asked and pc.any(pc.is_null(missing["stale"])).as_py():
            missing = missing.filter(pc.is_null(missing["stale"]))
            raise RunError(f"bug: {len(missing)} decoded items have no row in {asked}, first {missing['uri'][0]}")
        if rows is None:
            return missing
        has = best >= 0
        winners = decoded.filter(pa.array(has)).append_column(
            _PART_NUMBER, rows[_PART_NUMBER].take(pa.array(best[has]))
        )
        wanted = rows.join(winners.select([*KEY, _PART_NUMBER]), [*KEY, _PART_NUMBER], join_type="left semi")
        self._want(wanted[_PART_NUMBER].to_numpy(), wanted[_ROW_NUMBER].to_numpy())
        return missing

    def _want(self, part: np.ndarray, row: np.ndarray) -> None:
        order = np.argsort(part, kind="stable")
        numbers, starts = np.unique(part[order], return_index=True)
        for number, (start, end) in zip(numbers, itertools.pairwise([*starts, len(part)]), strict=True):
            self._wanted[number][row[order[start:end]]] = True

    def settled(self) -> list[str]:
        """The names of the parts that hold the chosen rows; those that held others are written again."""
        sizes: dict[str, int] = {}
        for number, (name, wanted) in enumerate(zip(self.names, self._wanted, strict=True)):
            if wanted.all() and number not in self._news:
                kept = [name] if len(wanted) else []
            else:
                kept = self._written_again(number, name, wanted) if wanted.any() else []
            sizes.update(dict.fromkeys(kept, int(wanted.sum())))
        return _compacted(self._root, sizes)

    def _written_again(self, number: int, name: str, wanted: np.ndarray) -> list[str]:
        rows = tables.read_part(self._root, name)
        news = pa.concat_tables(self._news[number]) if number in self._news else None
        digest = blake2b(name.encode() + np.packbits(wanted).tobytes(), digest_size=12)
        if news:
            rows = _with_news(rows, news, self._said)
            digest.update(_bytes_of(rows.select([*_SAID, *self._said.names, "stale"])))
        kept = f"{name.rsplit('/', 1)[0]}/part-{digest.hexdigest()}.parquet"
        tables.write_part(self._root, kept, rows.filter(pa.array(wanted)), tables.made_by(self._root, name))
        return [kept]


def _carried(schema: pa.Schema) -> pa.Schema:
    """The columns of a MEDIA part that its inputs said of it."""
    return _plain(pa.schema([field for field in schema if field.name not in tables.MEDIA.names]))


def _plain(schema: pa.Schema) -> pa.Schema:
    """Names and types only: what Parquet gives back may have other notes on nulls."""
    return pa.schema([(field.name, field.type) for field in schema])


def _shaped(parts: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """The rows of parts with these columns; nulls where a part has another column of that name, or none."""
    shaped = [
        pa.table(
            [
                part[field.name]
                if field.name in part.column_names and part.schema.field(field.name).type == field.type
                else pa.nulls(len(part), field.type)
                for field in schema
            ],
            schema=schema,
        )
        for part in parts
    ]
    return pa.concat_tables(shaped)


def _first_matches(left: pa.Table, right: pa.Table) -> np.ndarray:
    """For each row of `left` the first row of `right` of the same key, else -1: int64 (rows of left,)."""
    found = np.full(len(left), -1)
    if len(left) and len(right):
        one = left.select(KEY).append_column("left", pa.array(np.arange(len(left))))
        other = right.select(KEY).append_column("right", pa.array(np.arange(len(right))))
        first = one.join(other, KEY, join_type="inner").group_by("left").aggregate([("right", "min")])
        found[first["left"].to_numpy()] = first["right_min"].to_numpy()
    return found


def _differ(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    """Which values differ, nulls being alike: bool (n,)."""
    if pa.types.is_nested(one.type):  # as text, in which no number (NaN) is the same as itself
        pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
        return np.array([repr(a) != repr(b) for a, b in pairs], bool)
    if pa.types.is_float16(one.type):  # which Arrow does not compare
        one, other = one.cast(pa.float32()), other.cast(pa.float32())
    alike = pc.fill_null(pc.equal(one, other), False).to_numpy()
    if pa.types.is_floating(one.type):
        alike = alike | pc.fill_null(pc.and_(pc.is_nan(one), pc.is_nan(other)), False).to_numpy()
    missing = one.is_null().to_numpy(), other.is_null().to_numpy()
    return np.asarray(~(alike | (missing[0] & missing[1])))


def _with_news(rows: pa.Table, news: pa.Table, said: pa.Schema) -> pa.Table:
    """The rows of a MEDIA part with what the listing says of them now."""
    source = np.arange(len(rows))
    source[news[_ROW_NUMBER].to_numpy()] = len(rows) + np.arange(len(news))
    columns: dict[str, pa.ChunkedArray] = {}
    for one in [*tables.MEDIA, *said]:
        if one.name in news.column_names:
            old = _shaped([rows], pa.schema([(one.name, one.type)]))[one.name]
            both = pa.chunked_array([*old.chunks, *news[one.name].cast(one.type).chunks], one.type)
            columns[one.name] = both.take(pa.array(source))
        else:
            columns[one.name] = rows[one.name]
    return pa.table(list(columns.values()), schema=pa.schema([*tables.MEDIA, *said]))


def _bytes_of(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows.combine_chunks())
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _compacted(root: str, sizes: Mapping[str, int]) -> list[str]:
    """The names of parts after many small ones became few; `sizes` are the rows of each.

    Their rows stay as they are. The new parts are no receipts: should the run end before it commits, they count for
    nothing that the old ones do not say.
    """
    small = sorted(name for name, rows in sizes.items() if rows < _SMALL_ROWS)
    if len(small) <= _MANY_SMALL:
        return sorted(sizes)
    alike: dict[str, list[str]] = {}
    for name in small:
        made_by = tables.made_by(root, name)
        alike.setdefault(json.dumps({**made_by, "folders": []} if "folders" in made_by else made_by), []).append(name)
    kept = [name for name in sizes if sizes[name] >= _SMALL_ROWS]
    for made_by_text, names in sorted(alike.items()):
        before = np.cumsum([sizes[name] for name in names]) // _COMPACT_ROWS
        for number in np.unique(before):
            batch = [name for name, place in zip(names, before, strict=True) if place == number]
            rows = pa.concat_tables([tables.read_part(root, name).replace_schema_metadata(None) for name in batch])
            kept += tables.write_chunks(root, names[0].rsplit("/", 1)[0], rows, json.loads(made_by_text))
    return sorted(kept)


def commit(
    root: str, manifest: Mapping[str, Sequence[str]], finished_work: str, commits: storage.Commits | None = None
) -> dict[str, list[str]]:
    """Make these parts live, then delete every part that is not, and the work files that begin with `finished_work`.

    Gives the manifest as it was committed. Without the `commits` of a run, this is a run of its own.

    What is dead is listed before the commit: what a later run writes is then never among it.
    """
    if commits is None:
        commits = storage.fence(root)
        tables = commit(root, manifest, finished_work, commits)
        commits.close(finished=True)
        return tables
    tables, names = _renamed(root, manifest, commits), storage.list_names(root)
    live = {name for parts in tables.values() for name in parts}
    if missing := sorted(live.difference(names)):
        commits.check()  # a run that has lost the output builds on what a newer one has deleted
        raise RunError(f"{root}: {len(missing)} parts are gone before their commit, first {missing[0]}; run again")
    dead = [n for n in names if _PART.fullmatch(n) and n not in live]
    commits.commit(tables, [*dead, *(n for n in names if n.startswith(f"{WORK}/{finished_work}"))])
    return tables


def _renamed(root: str, manifest: Mapping[str, Sequence[str]], commits: storage.Commits) -> dict[str, list[str]]:
    """The parts of a manifest, those copied to other names that an earlier run may yet delete."""
    avoided = set(commits.manifest.avoid)
    tables: dict[str, list[str]] = {}
    for folder, names in manifest.items():
        tables[folder] = []
        for name in names:
            if name in avoided:
                data = storage.read(root, name)
                if data is None:
                    raise RunError(f"{root}: {name} was deleted by an earlier run; run again")
                digest = blake2b(f"{name} {commits.run}".encode(), digest_size=12)
                name = f"{name.rsplit('/', 1)[0]}/part-{digest.hexdigest()}.parquet"
                storage.write(root, name, data)
            tables[folder].append(name)
    return tables


# --- what stops a run before it commits -------------------------------------------------------------------------------


class Removed(NamedTuple):
    """Items of the last commit that are gone from the inputs."""

    items: int
    of: int  # items of the last commit
    prefix: str  # that the uris of all those that are gone have in common


def removed(root: str, listing: Listing, manifest: Mapping[str, Sequence[str]]) -> Removed:
    """What the last commit held and this listing does not; places that could not be read hide nothing."""
    known = Spool(listing.spool.limit)
    of = 0
    for name in manifest.get("media", []):
        known.add(tables.read_part(root, name, ["uri"]))
    places = [place.uri for place in listing.unread]
    items, ends = 0, set()
    for listed, before in together(listing.spool, known):
        if not before:
            continue
        uris = pa.concat_tables([rows.replace_schema_metadata(None) for rows in before])["uri"]
        of += len(uris)
        if listed:
            uris = uris.filter(pc.invert(pc.is_in(uris, pa.concat_tables(listed)["uri"].combine_chunks())))
        if places and len(uris):
            hidden = [_is_below(uri, places) for uri in uris.to_pylist()]
            uris = uris.filter(pc.invert(pa.array(hidden)))
        if len(uris):
            items += len(uris)
            ends |= set(pc.min_max(uris).as_py().values())
    return Removed(items, of, _folder_above(min(ends), max(ends)) if ends else "")


def _folder_above(first: str, last: str) -> str:
    """The longest beginning of two uris, and of all between them, that ends with a slash."""
    shared = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, shared) + 1]


def _is_below(uri: str, places: Sequence[str]) -> bool:
    """Does an item lie in one of these folders or containers?"""
    container = storage.container_of(uri)
    return any(uri != place and (container == place or container.startswith(f"{place}/")) for place in places)


class Unreachable(NamedTuple):
    """Items that could not be read for a reason that may pass."""

    items: int
    most_at: str  # where most of them lie
    first: str  # the error of the first of these


def unreachable(root: str, written: Iterable[str]) -> Unreachable:
    """Which store has failed, by the MEDIA parts of a run."""
    errors: dict[str, list[str]] = {}
    for name in sorted(written):
        rows = tables.read_part(root, name, ["uri", "error_class", "error"])
        for row in rows.filter(pc.fill_null(pc.equal(rows["error_class"], "transient"), False)).to_pylist():
            errors.setdefault(_store_of(row["uri"]), []).append(row["error"])
    most_at = max(sorted(errors), key=lambda place: len(errors[place]), default="")
    return Unreachable(sum(map(len, errors.values())), most_at, errors[most_at][0] if most_at else "")


def _store_of(uri: str) -> str:
    """The server or bucket of a uri; of a local one its folder."""
    container = storage.container_of(uri)
    if storage.is_local(container):
        return container.rpartition("/")[0]
    return storage.redacted("/".join(container.split("/")[:3]))


def drop(root: str, written: Mapping[str, Sequence[str]]) -> None:
    """Delete parts of a run that will not commit, and that hold nothing worth adopting: no manifest names them."""
    live = {name for names in storage.read_manifest(root).values() for name in names}
    for name, folders in written.items():
        storage.delete(root, [one for one in (name, *(_beside(name, folder) for folder in folders)) if one not in live])


class Counts(NamedTuple):
    """The live rows of the item tables, counted."""

    decoded: int
    stale: int  # rows of an earlier run, decoded or not
    failed: dict[str, int]  # by error class
    hashers: dict[str, dict[str, int]]  # canonical spec → items with and without a hash


def count(root: str, manifest: Mapping[str, Sequence[str]], makers: Sequence[Maker]) -> Counts:
    """Count items: decoded and failed, and for each hasher those with and without a hash."""
    media = tables.read_table(root, manifest.get("media", []), tables.MEDIA, ["error_class", "stale"])
    classes = media["error_class"]
    failed = {one["values"]: one["counts"] for one in pc.value_counts(classes.drop_null()).to_pylist()}
    hashers = {}
    for maker in makers:
        total = hashed = 0
        for name in manifest.get(maker.folder, []):
            rows = tables.read_part(root, name, ["uri", "hash"])
            total += pc.count_distinct(rows["uri"]).as_py()
            hashed += pc.count_distinct(rows.filter(pc.is_valid(rows["hash"]))["uri"]).as_py()
        hashers[maker.spec] = {"with_hash": hashed, "without_hash": total - hashed}
    stale = len(media) - media["stale"].null_count
    return Counts(classes.null_count, stale, dict(sorted(failed.items())), hashers)
