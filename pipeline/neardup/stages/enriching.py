"""ENRICHED: a Parquet table, row for row as it is, with columns that say what its media are.

The table's files are only read. Each becomes a file of the same relative name below `enriched/`: the same rows in the
same order and row groups, then the new columns. What is new in a file depends on its uris alone, so a file whose
content and new columns are the same is not written again.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neardup import storage, tables
from neardup.errors import RunError, UsageError
from neardup.stages.grouping import numbered
from neardup.stages.hashing import hash_type
from neardup.stages.live import WORK, Maker

FOLDER = "enriched"
_SUFFIXES = (".parquet", ".parq", ".pq")
_ROW_GROUP_BYTES = 256 << 20  # larger row groups of the table become several
_NS_RANGE = (datetime(1678, 1, 1), datetime(2262, 1, 1))  # that of nanoseconds in 64 bits
_SPARK = b"org.apache.spark.sql.parquet.row.metadata"  # where it is, Spark believes it rather than the schema
_SPARK_TYPES = {"int16": "short", "int32": "integer", "int64": "long", "bool": "boolean", "float": "float"}


class Source(NamedTuple):
    """A table to enrich, and where the uris of its media are."""

    root: str
    names: list[str]  # its files below the root
    column: str
    base: str  # what relative uris are relative to


class Addressed(NamedTuple):
    """Which uri each row of a table names."""

    uris: list[str]  # sorted, distinct
    rows: list[np.ndarray]  # int32, per file of the table: numbers of uris, -1 where a row has none


class Wanted(NamedTuple):
    """Which columns are to be added."""

    makers: Sequence[Maker]
    lists: Sequence[str] | None  # names of known lists
    prefix: str


class EnrichTask(NamedTuple):
    """One file to enrich: what `FOLDER/name` is to hold."""

    source: str
    name: str
    root: str
    work: str  # name of the file with the new columns, one row per different uri; beside it the numbers of the rows
    key: str  # names the file's content


class Receipt(NamedTuple):
    """What one task did."""

    rows: int
    written: bool  # else the file was there already


# --- the table --------------------------------------------------------------------------------------------------------


def find_table(table: str, column: str, base: str | None) -> Source:
    """The Parquet files of a table: itself, or those below the folder. Raises UsageError when it is none."""
    root = storage.absolute(table)
    below = storage.list_names(root)
    if any(name.startswith("_delta_log/") or name.endswith(".metadata.json") for name in below):
        raise UsageError(f"{table!r} is a Delta or Iceberg table; give a plain Parquet copy of its current version")
    names = [name for name in below if name.endswith(_SUFFIXES) and not _is_hidden(name)]
    if not names:
        if below:
            raise UsageError(f"{table!r} holds no files that end in {', '.join(_SUFFIXES)}")
        root, _, name = root.rpartition("/")
        names = [name]
    return Source(root, names, column, storage.absolute(base) if base else root)


def _is_hidden(name: str) -> bool:
    """As Spark and Hive see it: _temporary, _metadata, .part-0.crc; but not _year=2024/part-0."""
    return any(part.startswith((".", "_")) and "=" not in part for part in name.split("/"))


def check_columns(source: Source, wanted: Wanted) -> None:
    """Raise UsageError unless every file has the uri column, can be kept as it is, and has none of the new columns."""
    new = {name.lower(): name for name in column_names(wanted)}  # most engines do not tell a from A
    for name in source.names:
        shown = name if len(source.names) > 1 else f"{source.root}/{name}"
        with _opened(source, name) as file:
            schema, parquet = file.schema_arrow, file.schema
        count = schema.names.count(source.column)
        if count != 1:
            known = f"it has {', '.join(schema.names[:20])}" if not count else "it has several"
            raise UsageError(f"{shown} has no single column {source.column!r} of uris; {known}")
        if not _is_text(schema.field(source.column).type):
            kind = schema.field(source.column).type
            raise UsageError(f"--uri-column {source.column!r} of {shown} is {kind}, not text")
        partitions = [part.partition("=")[0] for part in name.split("/")[:-1] if "=" in part]
        clash = [has for has in [*schema.names, *partitions] if has.lower() in new]
        if clash:
            raise UsageError(f"{shown} has a column {clash[0]!r} already; rename the new ones: --prefix neardup_")
        for number in range(len(parquet)):
            if parquet.column(number).converted_type == "INTERVAL":
                path = parquet.column(number).path
                raise UsageError(f"column {path!r} of {shown} is an INTERVAL, which cannot be kept; leave it out")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)) or any(
        test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    )


def _opened(source: Source, name: str) -> Any:
    """One file of the table. Raises UsageError when it is not there or no Parquet."""
    try:
        return pq.ParquetFile(storage.open_part(source.root, name), pre_buffer=False)
    except (RunError, pa.ArrowInvalid) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"cannot read the table {source.root}/{name} as Parquet: {said}") from error


def read_uris(source: Source) -> Addressed:
    """The different uris of a table, and which of them each row names. One column of one row group is held at a time.

    Raises UsageError when a file is no Parquet or its column no text.
    """
    counts: list[int] = []
    texts, found = numbered(_texts(source, counts))
    resolved = [storage.resolved(text, source.base) if text else None for text in texts.to_pylist()]
    uris = sorted({uri for uri in resolved if uri is not None})
    place = {uri: number for number, uri in enumerate(uris)}
    numbers = np.array([-1 if uri is None else place[uri] for uri in resolved], np.int32)
    groups = iter(found)
    nothing = np.empty(0, np.int32)
    rows = [np.concatenate([nothing, *(numbers[next(groups)] for _ in range(count))]) for count in counts]
    return Addressed(uris, rows)


def _texts(source: Source, counts: list[int]) -> Iterator[pa.ChunkedArray]:
    """The uri column by row groups; `counts` gets the number of row groups of each file. No uri is an empty text."""
    for name in source.names:
        with _opened(source, name) as file:
            counts.append(file.num_row_groups)
            for number in range(file.num_row_groups):
                column = file.read_row_group(number, columns=[source.column], use_threads=False)[source.column]
                if pa.types.is_dictionary(column.type):
                    column = column.cast(column.type.value_type)
                try:
                    yield pc.fill_null(column.cast(pa.large_string()), "")
                except pa.ArrowInvalid as error:
                    raise UsageError(f"--uri-column {source.column!r} of {name} is not text: {error}") from error


# --- the new columns --------------------------------------------------------------------------------------------------


def _label(maker: Maker) -> str:
    """A hasher's name as SQL takes it without quotes: phash:hash_size=16 → phash_hash_size_16."""
    return re.sub(r"\W+", "_", maker.spec)


def column_names(wanted: Wanted) -> list[str]:
    """The names of the new columns, in their order."""
    hashes = [name for maker in wanted.makers for name in (_label(maker), f"{_label(maker)}_quality")]
    known = [f"known_{name}" for name in ("list", "entry", "label", "distance")] if wanted.lists is not None else []
    names = ["media_uri", *hashes, "width", "height", "group", "keep", "kept_uri", *known, "error"]
    return [f"{wanted.prefix}{name}" for name in names]


def new_columns(root: str, uris: Sequence[str], wanted: Wanted) -> pa.Table:
    """What the tables of an output say of each uri, in order; then a row for what has no uri."""
    manifest = storage.read_manifest(root)
    keys = pa.array(uris, pa.large_string())
    facts = ["uri", "width", "height", "error_class", "error"]
    media = _placed(keys, _read(root, manifest, "media", tables.MEDIA, facts))
    group = _placed(keys, _read(root, manifest, "groups", tables.GROUPS, ["uri", "group", "keep", "kept_uri"]))
    decoded = pc.and_(pc.is_valid(media["uri"]), pc.is_null(media["error_class"]))
    columns: list[Any] = [keys.cast(pa.string())]
    errors = [pc.binary_join_element_wise(media["error_class"], media["error"], ": ")]
    for maker in wanted.makers:
        rows = _hashes(root, manifest, maker)
        several = maker.hasher.returns_multiple
        first = _placed(keys, rows if several else _alone(keys, rows))
        columns += [_lists(keys, rows) if several else first["hash"], first["quality"]]
        errors.append(pc.binary_join_element_wise(maker.spec, first["error"], ": "))
    kept = pc.coalesce(group["keep"], pc.if_else(decoded, True, pa.scalar(None, pa.bool_())))
    columns += [media["width"], media["height"], group["group"], kept, group["kept_uri"]]
    if wanted.lists is not None:
        columns += _nearest(root, manifest, keys, wanted)
    said = errors[0]
    for error in errors[1:]:
        said = pc.coalesce(pc.binary_join_element_wise(said, error, "; "), said, error)
    columns.append(said)
    table = pa.table(dict(zip(column_names(wanted), columns, strict=True))).combine_chunks()
    without = {**dict.fromkeys(table.column_names), table.column_names[-1]: "no uri"}
    return pa.concat_tables([table, pa.Table.from_pylist([without], table.schema)]).combine_chunks()


def _hashes(root: str, manifest: dict[str, list[str]], maker: Maker) -> pa.Table:
    """The hashes of the upright items, those of one item together."""
    schema = tables.hashes_schema(hash_type(maker.hasher))
    facts = ["uri", "variant", "frame_index", "hash", "quality", "error"]
    rows = _read(root, manifest, maker.folder, schema, facts)
    return rows.filter(pc.equal(rows["variant"], "r0")).sort_by([("uri", "ascending"), ("frame_index", "ascending")])


def _read(root: str, manifest: dict[str, list[str]], folder: str, schema: pa.Schema, columns: list[str]) -> pa.Table:
    return tables.read_table(root, manifest.get(folder, []), schema, columns)


def _placed(keys: pa.Array, rows: pa.Table) -> dict[str, pa.Array]:
    """The columns of the first row of each uri, in the order of the uris; nulls where there is none."""
    found = rows.take(pc.index_in(keys, rows["uri"].cast(keys.type).combine_chunks()))
    return {name: found[name].combine_chunks() for name in found.column_names}


def _alone(keys: pa.Array, rows: pa.Table) -> pa.Table:
    """The rows of uris that have one only: no frame of a video stands for all of it."""
    place = pc.index_in(rows["uri"].cast(keys.type), keys).to_numpy()
    return rows.filter(pa.array(np.bincount(place, minlength=1)[place] == 1))


def _lists(keys: pa.Array, rows: pa.Table) -> pa.Array:
    """All hashes of each uri as a list, null where there is none."""
    rows = rows.filter(pc.is_valid(rows["hash"]))
    place = pc.index_in(rows["uri"].cast(keys.type), keys).to_numpy()
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(keys) + 1)).astype(np.int32)
    empty = np.append(starts[1:] == starts[:-1], False)
    return pa.ListArray.from_arrays(pa.array(starts, mask=empty), rows["hash"].combine_chunks().take(pa.array(order)))


def _nearest(root: str, manifest: dict[str, list[str]], keys: pa.Array, wanted: Wanted) -> list[Any]:
    """List, entry, label and distance of the nearest entry of the known lists."""
    found = _read(root, manifest, "matches", tables.MATCHES, tables.MATCHES.names)
    specs = pa.array([maker.spec for maker in wanted.makers])
    asked = pc.and_(pc.is_in(found["hasher"], specs), pc.is_in(found["list"], pa.array(wanted.lists, pa.string())))
    order = [(name, "ascending") for name in ("uri", "distance", "list", "entry", "hasher")]
    nearest = _placed(keys, found.filter(asked).sort_by(order))
    return [nearest[name] for name in ("list", "entry", "label", "distance")]


# --- files ------------------------------------------------------------------------------------------------------------


def prepare(
    root: str, source: Source, addressed: Addressed, new: pa.Table, options: dict[str, Any]
) -> list[EnrichTask]:
    """Write what each file gets as work files; one task per file. `options` say how the new columns were made."""
    tasks = []
    versions = [one.version for one in storage.list_objects([f"{source.root}/{name}" for name in source.names])]
    for name, version, rows in zip(source.names, versions, addressed.rows, strict=True):
        used, numbers = np.unique(rows, return_inverse=True)
        mine = new.take(pa.array(used.astype(np.int64) % len(new)))  # -1 is the last
        digest = blake2b(json.dumps([name, version, options]).encode(), digest_size=12)
        digest.update(mine.schema.serialize().to_pybytes() + _bytes(mine) + numbers.astype(np.int32).tobytes())
        work = f"{WORK}/enrich-{digest.hexdigest()}"
        tables.write_row_groups(root, f"{work}.parquet", [mine])
        tables.write_row_groups(root, f"{work}-rows.parquet", [pa.table({"row": numbers.astype(np.int32)})])
        tasks.append(EnrichTask(source.root, name, root, work, digest.hexdigest()))
    return tasks


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def enrich_file(task: EnrichTask) -> Receipt:
    """Write one file of the table with its new columns, row group by row group, whole or not at all."""
    numbers = tables.read_part(task.root, f"{task.work}-rows.parquet")["row"].to_numpy()
    name = f"{FOLDER}/{task.name}"
    if _key(task.root, name) == task.key:
        return Receipt(len(numbers), False)
    new = tables.read_part(task.root, f"{task.work}.parquet").combine_chunks()
    unit = _int96_unit(task)
    with (
        storage.open_part(task.source, task.name) as opened,
        pq.ParquetFile(opened, pre_buffer=False, coerce_int96_timestamp_unit=unit) as file,
        storage.writing(task.root, name) as sink,
    ):
        schema = _schema(file.schema_arrow, new.schema, task.key)
        done = 0
        with pq.ParquetWriter(sink, schema, **_layout(file, unit)) as writer:
            for rows in _row_groups(file):
                added = new.take(pa.array(numbers[done : done + len(rows)]))
                done += len(rows)
                columns = [*rows.cast(file.schema_arrow).columns, *added.columns]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=max(1, len(rows)))
        if done != len(numbers):
            raise RunError(f"{task.source}/{task.name} has changed while the run was on; run it again")
    return Receipt(done, True)


def _key(root: str, name: str) -> str | None:
    """The key of an enriched file, None when there is no such file. Raises RunError when it is not ours."""
    if name.rsplit("/", 1)[1] not in storage.list_folder(f"{root}/{name}".rsplit("/", 1)[0]):
        return None
    return str(tables.made_by(root, name)["enriched"])


def _int96_unit(task: EnrichTask) -> str | None:
    """How to read timestamps of 96 bits without loss: None when there are none, "us" when "ns" would not hold them."""
    with storage.open_part(task.source, task.name) as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
        leaves = [file.schema.column(number) for number in range(len(file.schema))]
        paths = [leaf.path for leaf in leaves if leaf.physical_type == "INT96"]
    if not paths:
        return None
    if any("." in path for path in paths):
        return "us"  # within lists and structs, as Spark writes them
    with (
        storage.open_part(task.source, task.name) as opened,
        pq.ParquetFile(opened, pre_buffer=False, coerce_int96_timestamp_unit="us") as file,
    ):
        for number in range(file.num_row_groups):
            for column in file.read_row_group(number, columns=paths, use_threads=False).columns:
                ends = pc.min_max(column)
                low, high = ends["min"].as_py(), ends["max"].as_py()
                if low is not None and not _NS_RANGE[0] < low <= high < _NS_RANGE[1]:
                    return "us"
    return "ns"


def _layout(file: Any, int96_unit: str | None) -> dict[str, Any]:
    """How the new file is to be written so that it lies as the old one."""
    schema, found = file.schema, file.metadata
    times = [schema.column(n).physical_type for n in range(len(schema)) if _is_time(schema.column(n))]
    layout: dict[str, Any] = {"compression": "snappy"}
    if int96_unit:  # Spark's; all or none of a file's timestamps can be written so
        layout["use_deprecated_int96_timestamps"] = set(times) == {"INT96"}
    if found.num_row_groups and found.num_columns:
        group = found.row_group(0)
        codec = group.column(0).compression
        layout["compression"] = {"UNCOMPRESSED": "none", "LZ4_RAW": "lz4"}.get(codec, codec.lower())
        layout["write_page_index"] = bool(group.column(0).has_column_index)
        layout["sorting_columns"] = group.sorting_columns or None
    return layout


def _is_time(leaf: Any) -> bool:
    return bool(leaf.physical_type == "INT96" or leaf.logical_type.type == "TIMESTAMP")


def _row_groups(file: Any) -> Iterator[pa.Table]:
    """The row groups of a file, very large ones in pieces."""
    for number in range(file.num_row_groups):
        facts = file.metadata.row_group(number)
        if facts.total_byte_size <= _ROW_GROUP_BYTES:
            yield file.read_row_group(number, use_threads=False)
        else:
            rows = max(1, facts.num_rows * _ROW_GROUP_BYTES // facts.total_byte_size)
            for batch in file.iter_batches(rows, row_groups=[number], use_threads=False):
                yield pa.Table.from_batches([batch])


def _schema(old: pa.Schema, new: pa.Schema, key: str) -> pa.Schema:
    """The columns of the table with its metadata, then the new ones; what made them stands under `neardup`."""
    metadata = {**(old.metadata or {}), **tables.stamped({"enriched": key})}
    if _SPARK in metadata:
        spark = json.loads(metadata[_SPARK])
        spark["fields"] += [
            {"name": field.name, "type": _spark_type(field.type), "nullable": True, "metadata": {}} for field in new
        ]
        metadata[_SPARK] = json.dumps(spark, separators=(",", ":")).encode()
    return pa.schema([*old, *(field.with_nullable(True) for field in new)], metadata)


def _spark_type(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return {"type": "array", "elementType": _spark_type(kind.value_type), "containsNull": True}
    if pa.types.is_fixed_size_binary(kind):
        return "binary"
    return _SPARK_TYPES.get(str(kind), str(kind))


def stale_files(root: str, source: Source) -> list[str]:
    """The names of the enriched files of files that the table no longer has. Others' files are not among them."""
    names = [name for name in storage.list_names(f"{root}/{FOLDER}") if name not in source.names]
    ours = []
    for name in (f"{FOLDER}/{name}" for name in names if name.endswith(_SUFFIXES)):
        try:
            if "enriched" in tables.made_by(root, name):
                ours.append(name)
        except RunError:
            continue
    return ours
