"""What is done, what is live: an anti-join on (uri, version), never a look at part names.

A run may build on live parts (named by the manifest) and on whole parts that no manifest names: the
finished work of a run that was interrupted. A slice writes its hash parts first and its MEDIA part last,
so a MEDIA part is the receipt of its slice; hash parts without their receipt are not used.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage, tables
from pipeline.errors import RunError
from pipeline.hashers import Hasher, canonical, folder_label
from pipeline.stages.listing import Listing
from pipeline.stages.spool import Spool, together

KEY = ["uri", "version"]
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
            hashed[-1].add(_hashed(root, name, "poison" in cutting.retry))
    for listed, knowing, *hashes in together(listing.spool, known, *hashed):
        rows = pa.concat_tables([listing.schema.empty_table(), *listed])
        found = _joined(knowing)
        done = _contained(rows, found) if found else np.zeros(len(rows), bool)
        settled = _contained(rows, found.filter(found["settled"])) if found else done
        needed = np.empty((len(rows), len(makers)), bool)
        for column, parts in enumerate(hashes):
            has = _joined(parts)
            needed[:, column] = ~(done & (settled | _contained(rows, has))) if has else ~(done & settled)
        yield Todo(rows, cut(rows, needed, cutting))


def _hashed(root: str, name: str, without_poison: bool) -> pa.Table:
    """The keys of a hash part; perhaps without those whose hasher was killed."""
    if not without_poison:
        return tables.read_part(root, name, KEY)
    rows = tables.read_part(root, name, [*KEY, "error"])
    poisoned = pc.fill_null(pc.starts_with(rows["error"], "poison:"), False)
    return rows.filter(pc.invert(poisoned)).select(KEY)


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
    removed: int  # items of the last commit that are no longer listed


def settle(
    root: str, listing: Listing, usable: Usable, makers: Sequence[Maker], written: Mapping[str, Sequence[str]]
) -> Kept:
    """Choose the live rows: one MEDIA row per listed item, hash rows of decoded items only.

    `written` are the MEDIA parts of this run, each with the hash folders its slice wrote to. Newer rows win; what a
    listing says of an item is what this one says; parts that hold rows no longer true are written again without them,
    and many small ones become one. Nothing is deleted here.
    """
    live = set(usable.manifest.get("media", []))
    media = _Candidates(root, [*sorted(written), *(name for name in usable.media if name not in written)], listing)
    asked = {maker.folder: usable.hashes[maker.folder] for maker in makers}
    hashes = {}
    for folder in {*asked, *_hash_folders(usable.manifest)}:
        new = sorted(_beside(name, folder) for name, folders in written.items() if folder in folders)
        old = asked.get(folder, usable.manifest.get(folder, []))
        hashes[folder] = _Candidates(root, [*new, *(name for name in old if name not in new)], listing)
    for number, name in enumerate(media.names):
        media.add(number, tables.read_listed(root, name))
    for candidates in hashes.values():
        for number, name in enumerate(candidates.names):
            candidates.add(number, tables.read_part(root, name, KEY))
    removed = 0
    was_live = np.array([name in live for name in media.names], bool)
    for listed, found, *hashed in together(listing.spool, media.spool, *(one.spool for one in hashes.values())):
        rows = pa.concat_tables([listing.schema.empty_table(), *listed])
        removed += _removed(rows, found, was_live)
        decoded = media.choose_items(rows, found)
        for (folder, candidates), parts in zip(hashes.items(), hashed, strict=True):
            candidates.choose_hashes(decoded, parts, folder if folder in asked else None)
    manifest = {**usable.manifest, "media": media.settled()}
    for folder, candidates in hashes.items():
        manifest[folder] = candidates.settled()
    for folder in hashes:
        if manifest[folder] != sorted(usable.manifest.get(folder, [])):  # what was derived from the old rows goes
            for derived in _DERIVED[folder.split("/")[0]]:
                manifest.pop(derived.format(hasher=folder.split("/")[1]), None)
            matches = manifest.get("matches", [])
            manifest["matches"] = [name for name in matches if _hash_folder(root, name) != folder]
    return Kept({folder: names for folder, names in manifest.items() if names}, removed)


def _removed(listed: pa.Table, found: Sequence[pa.Table], was_live: np.ndarray) -> int:
    """How many items of live parts are no longer listed."""
    if not found:
        return 0
    rows = pa.concat_tables([part.select(["uri", "part"]) for part in found])
    rows = rows.filter(pa.array(was_live[rows["part"].to_numpy()]))
    return int(pc.sum(pc.invert(pc.is_in(rows["uri"], listed["uri"].combine_chunks()))).as_py() or 0)


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
        self._said_alike.append(_carried(rows.schema).equals(self._said))
        rows = rows.replace_schema_metadata(None).append_column("part", pa.array(np.full(len(rows), number)))
        self.spool.add(rows.append_column("row", pa.array(np.arange(len(rows)))))

    @property
    def _said(self) -> pa.Schema:
        return _plain(pa.schema([self._listing.schema.field(name) for name in self._listing.carried]))

    def choose_items(self, listed: pa.Table, parts: Sequence[pa.Table]) -> pa.Table:
        """Choose one row for each listed item; gives the keys of those that were decoded."""
        keys = (
            pa.concat_tables([part.select([*KEY, "part", "row", "error_class"]) for part in parts]) if parts else None
        )
        chosen = _first_matches(listed, keys) if keys else np.full(len(listed), -1)
        if (chosen < 0).any():
            missing = listed["uri"][int(np.argmin(chosen))]
            raise RunError(f"bug: {(chosen < 0).sum()} listed items have no row, first {missing}")
        if keys is None or not len(listed):
            return listed.select(KEY)
        keys = keys.take(pa.array(chosen))
        part, row = keys["part"].to_numpy(), keys["row"].to_numpy()
        self._want(part, row)
        self._note_news(listed, parts, chosen, part, row)
        return listed.select(KEY).filter(pc.is_null(keys["error_class"]))

    def _note_news(
        self, listed: pa.Table, parts: Sequence[pa.Table], chosen: np.ndarray, part: np.ndarray, row: np.ndarray
    ) -> None:
        """Remember the rows of which the listing says something else than they do."""
        names = [*_SAID, *self._listing.carried]
        old = _shaped(parts, _plain(pa.schema([self._listing.schema.field(name) for name in names]))).take(chosen)
        new = listed.select(names)
        size = pc.coalesce(new["size"], old["size"])
        new = new.set_column(names.index("size"), "size", size)
        changed = ~np.array(self._said_alike, bool)[part]
        for name in names:
            changed |= _differ(old[name], new[name])
        for number in np.unique(part[changed]):
            rows = np.flatnonzero(changed & (part == number))
            news = new.take(pa.array(rows)).append_column("row", pa.array(row[rows]))
            self._news.setdefault(int(number), []).append(news)

    def choose_hashes(self, decoded: pa.Table, parts: Sequence[pa.Table], asked: str | None) -> None:
        """Choose the rows of each decoded item in the best part that has any; those of `asked` must be complete."""
        rows = pa.concat_tables(parts) if parts else None
        best = _first_matches(decoded, rows) if rows else np.full(len(decoded), -1)
        if asked and (best < 0).any():
            missing = decoded["uri"][int(np.argmin(best))]
            raise RunError(f"bug: {(best < 0).sum()} decoded items have no row in {asked}, first {missing}")
        if rows is None:
            return
        has = best >= 0
        winners = decoded.filter(pa.array(has)).append_column("part", rows["part"].take(pa.array(best[has])))
        wanted = rows.join(winners, [*KEY, "part"], join_type="left semi")
        self._want(wanted["part"].to_numpy(), wanted["row"].to_numpy())

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
            digest.update(_bytes_of(rows.select([*_SAID, *self._said.names])))
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
    if pa.types.is_nested(one.type):
        return np.array([a != b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)], bool)
    alike = pc.fill_null(pc.equal(one, other), False).to_numpy()
    missing = one.is_null().to_numpy(), other.is_null().to_numpy()
    return np.asarray(~(alike | (missing[0] & missing[1])))


def _with_news(rows: pa.Table, news: pa.Table, said: pa.Schema) -> pa.Table:
    """The rows of a MEDIA part with what the listing says of them now."""
    source = np.arange(len(rows))
    source[news["row"].to_numpy()] = len(rows) + np.arange(len(news))
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
