"""What is kept, copied as it is; what is not kept, as a list. Nothing is deleted or overwritten.

An item is kept when GROUPS says so or does not know it. Where it goes is its path below the folder that all items of
the output have in common; for members of containers, the container is a folder too.
"""

import csv
import hashlib
import io
import itertools
import json
import os
import re
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from hashlib import blake2b
from typing import IO, Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neardup import storage, tables
from neardup.errors import MediaError, MissingError, RunError, UndecodableError, UsageError
from neardup.stages.spool import scratch

_SIDECARS = (".json", ".txt")
_SHARD_ITEMS, _SHARD_BYTES = 10_000, 1 << 30
_ROW_GROUP_BYTES = 64 << 20  # of the Parquet form: what is held
_THREADS = 16
_MEMBERS_AT_A_TIME = 1_000  # whose sidecars are held
_LARGE_BYTES = 16 << 20  # larger members are read bit by bit, where they can be
_HELD_BYTES = 512 << 20  # of one that cannot be; more only where it was decoded
_CHUNK = 8 << 20
_MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as the Hugging Face datasets have it
_EXPORTED = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("media", _MEDIA),
        pa.field("json", pa.string()),
        pa.field("txt", pa.string()),
    ]
)


class Decided(NamedTuple):
    """Every item of an output, and what is to become of it."""

    items: pa.Table  # uri, size, mtime, version, sha256, format, error_class, keep, group, kept_uri; by uri
    inputs: tuple[str, ...]  # as they were given to the last run, if it had any
    column: str | None  # of uris or image bytes, as it was given to it


class Item(NamedTuple):
    """One item to export."""

    uri: str
    path: str  # below the destination
    size: int
    version: str
    sha256: str | None  # None where it was never read as a whole
    failed: bool  # it could not be decoded; perhaps it is not there
    column: str | None  # of its bytes in a Parquet file, if one was named


class Receipt(NamedTuple):
    """What was done about some items."""

    items: int
    bytes: int
    written: int = 0  # items and their sidecars
    there: int = 0  # files that were there already
    missing: int = 0  # failed items that are not there to be copied
    failures: tuple[str, ...] = ()


# --- what was decided -------------------------------------------------------------------------------------------------


def read_decided(root: str, shown: str) -> Decided:
    """The items of an output with their verdicts. Raises UsageError when it is none, or was never grouped."""
    manifest = storage.read_manifest(root)
    if not manifest:
        raise UsageError(f"{shown!r} is not an output of neardup; make one with: neardup dedup INPUT --output …")
    run: dict[str, Any] = json.loads(storage.read(root, "run.json") or b"{}")
    if "groups" not in manifest and run.get("groups") != 0:
        raise UsageError(
            f"{shown!r} has no groups of what it holds now; make them with: neardup join {shown} --hasher …"
        )
    facts = ["uri", "size", "mtime", "version", "sha256", "format", "error_class"]
    media = tables.read_table(root, manifest.get("media", []), tables.MEDIA, facts).sort_by("uri")
    groups = tables.read_table(root, manifest.get("groups", []), tables.GROUPS, ["uri", "keep", "group", "kept_uri"])
    place = pc.index_in(media["uri"], groups["uri"].combine_chunks())
    for name in ("keep", "group", "kept_uri"):
        media = media.append_column(name, groups[name].take(place))
    kept = pc.fill_null(media["keep"], True)
    media = media.set_column(media.column_names.index("keep"), "keep", kept)
    config = run.get("config", {})
    return Decided(media, tuple(config.get("inputs", ())), config.get("uri_column"))


class Saved(NamedTuple):
    """What need not be kept."""

    items: int
    bytes: int


def saved(decided: Decided) -> Saved:
    """How many items need not be kept, and their bytes."""
    sizes = decided.items.filter(pc.invert(decided.items["keep"]))["size"]
    return Saved(len(sizes), pc.sum(sizes).as_py() or 0)


def survivors(decided: Decided, with_errors: bool = True) -> list[Item]:
    """The items to keep, by container and uri. Raises UsageError when two would have one path."""
    names = decided.items.select(["uri", "format"]).to_pylist()
    folders = {found for row in names if (found := storage.container_of(row["uri"])) != row["uri"]}
    flat = [_flat(row["uri"], row["format"]) for row in names]  # a container, if it is an item, goes into its folder
    paths = _paths(
        [[*parts, parts[-1]] if row["uri"] in folders else parts for row, parts in zip(names, flat, strict=True)]
    )
    wanted = decided.items["keep"]
    if not with_errors:
        wanted = pc.and_(wanted, pc.is_null(decided.items["error_class"]))
    rows = decided.items.append_column("path", pa.array(paths, pa.string())).filter(wanted).to_pylist()
    taken: dict[str, str] = {}
    items = []
    for row in rows:
        uri, path, failed = row["uri"], row["path"], row["error_class"] is not None
        if (other := taken.setdefault(path, uri)) != uri:
            raise UsageError(f"{other} and {uri} would both become {path!r}; export them separately")
        items.append(Item(uri, path, row["size"], row["version"], row["sha256"], failed, decided.column))
    return sorted(items, key=lambda item: (storage.container_of(item.uri), item.uri))


def _flat(uri: str, kind: str | None) -> list[str]:
    """The parts of a uri as folders and a name: store, folders, container, member."""
    container = storage.container_of(uri)
    if container == uri:
        store, _, path = uri.partition("://")
        return [store, *path.split("/")]
    if uri.startswith(container):
        return [*_flat(container, None), f"{uri.rpartition('=')[2]}.{(kind or 'bin').lower()}"]
    return [*_flat(container, None), *uri.removesuffix(f"::{container}").partition("://")[2].split("/")]


def _paths(flat: Sequence[Sequence[str]]) -> list[str]:
    """The path of each below the folder that all share. None can leave a folder."""
    if not flat:
        return []
    folders = [list(parts[:-1]) for parts in flat]
    first, last = min(folders), max(folders)
    shared = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return ["/".join(_safe(part) for part in parts[shared:]) for parts in flat]


def _safe(part: str) -> str:
    return {"": "%2F", ".": "%2E", "..": "%2E%2E"}.get(part, part)


# --- where it may go --------------------------------------------------------------------------------------------------


def check_place(given: str, decided: Decided, root: str | None = None) -> None:
    """Raise UsageError when what is to be written lies in an input or in the output `root`, or holds one of them."""
    dest = storage.absolute(given)
    if root and (storage.is_inside(dest, root) or storage.is_inside(root, dest)):
        raise UsageError(f"{given!r} and the output {root} lie inside each other; give another folder")
    uris = [storage.container_of(uri) for uri in decided.items["uri"].to_pylist()]
    folders = {uri.rpartition("/")[0] for uri in uris}
    above = dest
    while "/" in (above := above.rstrip("/")):
        if any(_is_input(above, one) for one in decided.inputs) and any(uri.startswith(f"{above}/") for uri in uris):
            folders.add(above)
        above = above.rpartition("/")[0]
    for folder in sorted(folders):
        if storage.is_inside(dest, folder):
            raise UsageError(f"{given!r} lies inside the input {folder}; give another place")
        if storage.is_inside(folder, dest):
            raise UsageError(f"{given!r} holds the input {folder}; give another place")


def _is_input(folder: str, given: str) -> bool:
    """May this folder be the input that was given, perhaps relative to another working folder?"""
    if folder == storage.absolute(given):
        return True
    tail = re.sub(r"^(\.\./)+", "", os.path.normpath(given))
    return "://" not in given and folder.endswith(f"/{tail}")


# --- forms ------------------------------------------------------------------------------------------------------------


def copy_files(dest: str, items: Sequence[Item]) -> Iterator[Receipt]:
    """Copy each item and its sidecars to its path, byte for byte; files that are there already are compared."""
    waiting: deque[Future[Receipt]] = deque()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="export") as pool:
        for source in _sources(items):
            waiting.append(pool.submit(_copied, dest, source))
            if len(waiting) > _THREADS:  # no more are held
                yield waiting.popleft().result()
        yield from (one.result() for one in waiting)


def _copied(dest: str, source: "Source") -> Receipt:
    item = source.item
    try:
        new = storage.copy(item.uri, dest, item.path, item.sha256, source.opened)
        also = [
            storage.copy(item.uri, dest, source.stem + suffix, None, opened)
            for suffix, opened in source.beside().items()
        ]
    except (MediaError, UsageError, RunError) as error:
        return _not_exported(item, error)
    written = sum([new, *also])
    return Receipt(1, item.size, written=written, there=1 + len(also) - written)


def _not_exported(item: Item, error: Exception) -> Receipt:
    if item.failed and isinstance(error, MissingError | UndecodableError):
        return Receipt(1, 0, missing=1)
    said = str(error)
    return Receipt(1, 0, failures=(said if item.uri in said or item.path in said else f"{item.uri}: {said}",))


def write_tars(dest: str, items: Sequence[Item]) -> Iterator[Receipt]:
    """Write shards of about a gigabyte, as WebDataset reads them: the bytes of each item, its sidecars behind it."""
    yield from _shards(dest, "tar", items, _write_tar)


def write_parquet(dest: str, items: Sequence[Item]) -> Iterator[Receipt]:
    """Write parts of about a gigabyte with a row per item: uri, bytes and path, the text of its sidecars."""
    yield from _shards(dest, "parquet", items, _write_rows)


Content = tuple[Item, IO[bytes], dict[str, bytes]]  # with its sidecars, by path


def _shards(
    dest: str, suffix: str, items: Sequence[Item], write: Callable[[Any, Iterator[Content]], None]
) -> Iterator[Receipt]:
    """Write items shard by shard. A shard is named by what it holds, so one that is there is done."""
    shards = {_shard_name(number, cut, suffix): cut for number, cut in enumerate(_cut(items))}
    present = set(storage.list_names(dest))
    if others := sorted(present - shards.keys()):
        raise UsageError(f"{dest} holds files of something else, such as {others[0]!r}; give another folder")
    for name, cut in shards.items():
        size = sum(item.size for item in cut)
        if name in present:
            yield Receipt(len(cut), size, there=1)
            continue
        failed: list[Receipt] = []
        try:
            with storage.writing(dest, name) as sink:
                write(sink, _contents(cut, failed))
                if failures := tuple(text for one in failed for text in one.failures):
                    raise _Incomplete  # a shard that is there is whole
            yield Receipt(len(cut), size, written=1, missing=len(failed))
        except _Incomplete:
            yield Receipt(len(cut), 0, failures=failures)


class _Incomplete(Exception):  # noqa: N818 - never seen outside
    pass


def _cut(items: Sequence[Item]) -> Iterator[list[Item]]:
    cut: list[Item] = []
    size = 0
    for item in items:
        if cut and (len(cut) == _SHARD_ITEMS or size + item.size > _SHARD_BYTES):
            yield cut
            cut, size = [], 0
        cut.append(item)
        size += item.size
    if cut:
        yield cut


def _shard_name(number: int, items: Sequence[Item], suffix: str) -> str:
    digest = blake2b(json.dumps([(item.path, item.version) for item in items]).encode(), digest_size=6)
    return f"shard-{number:06d}-{digest.hexdigest()}.{suffix}"


def _contents(items: Sequence[Item], failed: list[Receipt]) -> Iterator[Content]:
    """Each item that can be read as it was hashed; what becomes of the others goes to `failed`."""
    for source in _sources(items):
        item = source.item
        with tempfile.SpooledTemporaryFile(_ROW_GROUP_BYTES) as file:
            try:
                digest = hashlib.sha256()
                with source.opened() as opened:
                    while chunk := opened.read(_CHUNK):
                        digest.update(chunk)
                        with scratch():
                            file.write(chunk)
                if item.sha256 not in (None, digest.hexdigest()):
                    raise UsageError(f"{item.uri} has changed since it was hashed; run the job that hashed it again")
                beside = {source.stem + suffix: _all_of(opened) for suffix, opened in source.beside().items()}
            except (MediaError, UsageError, RunError) as error:
                failed.append(_not_exported(item, error))
                continue
            file.seek(0)
            yield item, file, beside


def _all_of(opened: storage.Opener) -> bytes:
    with opened() as file:
        return file.read()


def _write_tar(sink: Any, contents: Iterator[Content]) -> None:
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        last: dict[str, bytes] = {}
        for item, file, beside in contents:
            _add(tar, item.path, file)
            for path, data in beside.items():
                if path not in last:  # two items may share one, and are neighbours then
                    _add(tar, path, io.BytesIO(data))
            last = beside


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)  # no time and no owner: the same items make the same shard
    info.size = file.seek(0, os.SEEK_END)
    file.seek(0)
    tar.addfile(info, file)


def _write_rows(sink: Any, contents: Iterator[Content]) -> None:
    rows: list[dict[str, Any]] = []
    size = 0
    kinds = set()
    # a stored Arrow schema would hide what is said at the end, when the kinds are known
    options = {"compression": "zstd", "use_dictionary": False, "store_schema": False}
    with pq.ParquetWriter(sink, _EXPORTED, **options) as writer:
        for item, file, beside in contents:
            data = file.read()
            kinds.add(storage.kind_of(item.uri))
            texts = {path.rpartition(".")[2]: text.decode(errors="replace") for path, text in beside.items()}
            rows.append({"uri": item.uri, "media": {"bytes": data, "path": item.path}, **texts})
            size += len(data)
            if size > _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, _EXPORTED))
                rows, size = [], 0
        writer.write_table(pa.Table.from_pylist(rows, _EXPORTED))
        writer.add_key_value_metadata({"huggingface": json.dumps({"info": {"features": _features(kinds)}})})


def _features(kinds: set[str]) -> dict[str, Any]:
    """What the Hugging Face datasets make of the columns: images or videos, where a shard holds nothing else."""
    text = {"dtype": "string", "_type": "Value"}
    types = {"image": {"_type": "Image"}, "video": {"_type": "Video"}}
    mixed = {"bytes": {"dtype": "binary", "_type": "Value"}, "path": text}
    media = types[next(iter(kinds))] if len(kinds) == 1 else mixed
    return {"uri": text, "media": media, "json": text, "txt": text}


FORMS = {"folder": copy_files, "tar": write_tars, "parquet": write_parquet}


# --- where it comes from ----------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """One item to export, and what lies beside it."""

    item: Item
    opened: storage.Opener
    stem: str  # of the paths of its sidecars
    beside: Callable[[], dict[str, storage.Opener]]  # gives its sidecars by suffix, with the dot


def _sources(items: Sequence[Item]) -> Iterator[Source]:
    """Where each item is read from: files one by one; members of a container together, in the order of their places."""
    _names.cache_clear()
    for container, group in itertools.groupby(items, lambda item: storage.container_of(item.uri)):
        members = []
        for item in group:
            if item.uri == container:
                yield _file(item)
            else:
                members.append(item)
        if members:
            yield from _members(container, members)


def _file(item: Item) -> Source:
    """An item that is a file, with the files of its stem beside it."""

    def beside() -> dict[str, storage.Opener]:
        folder, _, name = item.uri.rpartition("/")
        stem = os.path.splitext(name)[0]  # noqa: PTH122 - of a name on any store
        names = {suffix: f"{stem}{suffix}" for suffix in _SIDECARS}
        return {suffix: _opener(f"{folder}/{name}") for suffix, name in names.items() if name in _names(folder)}

    return Source(item, _opener(item.uri), os.path.splitext(item.path)[0], beside)  # noqa: PTH122


@lru_cache(maxsize=64)
def _names(folder: str) -> frozenset[str]:
    return frozenset(storage.list_folder(folder))


def _members(container: str, items: Sequence[Item]) -> Iterator[Source]:
    """Members of one container. Their sidecars are those of WebDataset: alike up to the first dot of their name."""
    uris = [item.uri for item in items]
    try:
        found = storage.find_members(container, uris, items[0].column)
        rows = list(zip(items, found, storage.sidecars_of(container, uris), strict=True))
    except MediaError as error:
        yield from (Source(item, _holding(error), "", dict) for item in items)
        return
    rows.sort(key=lambda row: row[1].member.offset if row[1] and row[1].member else -1)
    for start in range(0, len(rows), _MEMBERS_AT_A_TIME):
        batch = rows[start : start + _MEMBERS_AT_A_TIME]
        sidecars = {held.uri: _wanted(held.uri, held.entry) for _, _, beside in batch for held in beside.values()}
        in_order = sorted(sidecars.values(), key=lambda one: one.member.offset if one.member else -1)
        texts = dict(
            zip([one.uri for one in in_order], storage.read_ahead(in_order, max_bytes=_LARGE_BYTES), strict=True)
        )
        whole = [_wanted(item.uri, entry) for item, entry, _ in batch if not _is_large(entry)]
        most = max([_HELD_BYTES, *(item.size for item, _, _ in batch if not item.failed)])
        contents = storage.read_ahead(whole, max_bytes=most)
        for item, entry, beside in batch:
            opened = _opener(item.uri, entry and entry.member) if _is_large(entry) else _holding(next(contents))
            folder, slash, name = item.path.rpartition("/")
            stem = folder + slash + name.partition(".")[0]
            held = {f".{kind}": _holding(texts[one.uri]) for kind, one in beside.items()}
            yield Source(item, opened, stem, partial(dict, held))


def _is_large(entry: storage.Entry | None) -> bool:
    """Is it better read bit by bit? What lies compressed cannot be."""
    return bool(entry and entry.member and entry.member.kind in ("tar", "zip") and (entry.size or 0) > _LARGE_BYTES)


def _wanted(uri: str, entry: storage.Entry | None) -> storage.Wanted:
    if entry is None:
        return storage.Wanted(uri, None, None, "its container no longer holds it")
    return storage.Wanted(uri, entry.size, entry.member, entry.fault)


def _opener(uri: str, place: storage.Member | None = None) -> storage.Opener:
    return lambda: storage.open_object(uri, place=place)


def _holding(content: storage.Content | MediaError) -> storage.Opener:
    """What opens bytes that are held, or fails as their reading did."""

    def opened() -> BinaryIO:
        if isinstance(content, MediaError):
            raise content
        return io.BytesIO(content.data)

    return opened


# --- what is not kept -------------------------------------------------------------------------------------------------


def delete_list(given: str, decided: Decided) -> bytes:
    """What is not kept: `.txt`, a uri per line; `.csv`, with group and kept_uri. UsageError over another file."""
    rows = decided.items.filter(pc.invert(decided.items["keep"])).select(["uri", "group", "kept_uri"])
    if given.endswith(".csv"):
        text = io.StringIO(newline="")
        lines = csv.writer(text)
        lines.writerow(rows.column_names)
        lines.writerows(zip(*(column.to_pylist() for column in rows.columns), strict=True))
        data = text.getvalue().encode()
    elif given.endswith(".txt"):
        uris = rows["uri"].to_pylist()
        if broken := [uri for uri in uris if "\n" in uri or "\r" in uri]:
            raise UsageError(f"{broken[0]!r} holds a line break, which a .txt list cannot tell; name a .csv file")
        data = "".join(f"{uri}\n" for uri in uris).encode()
    else:
        raise UsageError(f"--delete-list {given!r}: name a .txt or .csv file")
    folder, _, name = storage.absolute(given).rpartition("/")
    if storage.read(folder, name) not in (None, data):
        raise UsageError(f"{given!r} exists and says something else; nothing is overwritten: name another file")
    return data
