"""The tables: one schema each, and Parquet parts that carry them.

The key is `uri`. A part's file metadata holds a JSON object under `neardup`: what made the part.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from neardup import storage
from neardup.errors import RunError

# One row per object found in the inputs.
LISTING = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # image, video
        pa.field("size", pa.int64()),  # null where the store did not say before it was read
        pa.field("mtime", pa.timestamp("us", "UTC")),
        pa.field("version", pa.string(), nullable=False),  # etag, else mtime and size
    ]
)

# Where the bytes of a member of a container lie; see storage.Member.
PLACE = pa.struct(
    [
        ("container", pa.string()),
        ("kind", pa.string()),
        ("offset", pa.int64()),
        ("span", pa.int64()),
        ("packed", pa.int64()),
        ("crc", pa.int64()),
        ("column", pa.string()),
    ]
)

# One row per object to read: of LISTING, with what only the reading needs, before what its input says of it.
LISTED = pa.schema([*LISTING, pa.field("place", PLACE), pa.field("fault", pa.string())])

# One row per listed item, always, also when it failed. What lists and sidecars say of items follows as more columns.
MEDIA = pa.schema(
    [
        *LISTING,
        pa.field("sha256", pa.string()),
        pa.field("md5", pa.string()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("duration_s", pa.float64()),
        pa.field("frame_count", pa.int64()),
        pa.field("partial", pa.bool_()),
        pa.field("error_class", pa.string()),  # transient, permanent, poison, policy; null when decoded
        pa.field("error_stage", pa.string()),  # read, decode
        pa.field("error", pa.string()),
        pa.field("stale", pa.string()),  # why the row is of an earlier run: the error of the last; null when it is not
    ]
)

RESERVED = "\x1f"  # begins the names of columns that tables only have while they are worked on; no list's column does

# by reading and decoding; what became of an item is asked for with what its listing said
_FOUND = frozenset(MEDIA.names) - frozenset([*LISTING.names, "error_class", "error", "stale"])


def hashes_schema(hash_type: pa.DataType) -> pa.Schema:
    """One row per decoded item and hash: a frame, a segment, a variant; a null hash and `error` where there is none."""
    return pa.schema(
        [
            pa.field("uri", pa.string(), nullable=False),
            pa.field("version", pa.string(), nullable=False),  # of the content that was hashed
            pa.field("variant", pa.string(), nullable=False),  # r0, or the transform that was applied before hashing
            pa.field("frame_index", pa.int64(), nullable=False),
            pa.field("timestamp_s", pa.float64()),
            pa.field("hash", hash_type),
            pa.field("quality", pa.int16()),
            pa.field("error", pa.string()),
        ]
    )


# One row per unordered pair of items with a match, uri_a < uri_b.
PAIRS = pa.schema(
    [
        pa.field("uri_a", pa.string(), nullable=False),
        pa.field("uri_b", pa.string(), nullable=False),
        pa.field("distance", pa.float64(), nullable=False),  # the smallest of the matching rows
        pa.field("matches", pa.int64(), nullable=False),  # matching row pairs
        pa.field("overlap_a", pa.float64(), nullable=False),  # share of a's joined rows that match
        pa.field("overlap_b", pa.float64(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),  # the transform of b that matched
        pa.field("offset_s", pa.float64()),  # what is at t in a is at t + offset_s in b; null without timestamps
    ]
)


def joined_schema(hash_type: pa.DataType) -> pa.Schema:
    """One row per distinct hash that the last join of a hasher has compared with all others."""
    return pa.schema(
        [
            pa.field("hash", hash_type, nullable=False),
            pa.field("upright", pa.bool_(), nullable=False),
            pa.field("hub", pa.bool_(), nullable=False),  # has more than max_neighbours others within the radius
        ]
    )


# One row per pair of distinct hashes within the radius, but of two hubs; i and j number the rows of JOINED in the order
# of their hashes.
NEAR = pa.schema(
    [
        pa.field("i", pa.int64(), nullable=False),
        pa.field("j", pa.int64(), nullable=False),
        pa.field("distance", pa.float64(), nullable=False),  # differing bits, or the hasher's own distance
    ]
)

# One row per item in a group of two or more.
GROUPS = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),  # its smallest uri
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("kept_uri", pa.string(), nullable=False),
        pa.field("distance_to_kept", pa.float64()),  # null when the two were linked through others
        pa.field("reason", pa.string(), nullable=False),
    ]
)

# One row per hash with pairs left out: written as a star around its first item, or, among hubs, as a spanning forest.
HUBS = pa.schema(
    [
        pa.field("hasher", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),  # the centre
        pa.field("items", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

# One row per item and entry of a known list within the radius of each other.
MATCHES = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("hasher", pa.string(), nullable=False),
        pa.field("list", pa.string(), nullable=False),  # its name
        pa.field("version", pa.string(), nullable=False),  # digest of the list's content
        pa.field("entry", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # what the list says of the entry
        pa.field("distance", pa.float64(), nullable=False),  # the smallest of the matching rows
    ]
)

# One row per decoded item of a benchmark.
ORIGINALS = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("duplicate_of", pa.string()),  # the item that is scored in its place; null when it is scored
    ]
)

# One row per original, hasher and transform of a benchmark: the smallest distances of its hashes.
DISTANCES = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("transform", pa.string(), nullable=False),
        pa.field("hashes", pa.int32(), nullable=False),  # of the altered picture
        pa.field("correct", pa.float64()),  # to the original's own hashes
        pa.field("incorrect", pa.float64()),  # to those of the other originals of its category; null when it is alone
        pa.field("incorrect_uri", pa.string()),
    ]
)

_GROUP = [
    pa.field("hasher", pa.string(), nullable=False),
    pa.field("category", pa.string()),  # null: all
    pa.field("transform", pa.string()),  # null: all
]

# One row per hasher and group: each category × transform, each transform, and all together.
# Recalls and precision are percentages. `threshold`, `recall`, `fpr` are by the reference's rule of 2019, `precision…`
# by its rule of today; both rank equal distances. `…_grouped`: by the same rules, equal distances counted together.
METRICS = pa.schema(
    [
        *_GROUP,
        pa.field("n_exemplars", pa.int64(), nullable=False),  # hashes of altered pictures
        pa.field("n_altered", pa.int64(), nullable=False),  # altered pictures
        pa.field("n_originals", pa.int64(), nullable=False),
        pa.field("pairs", pa.int64(), nullable=False),  # of an altered picture's hash and another original's, counted
        *(
            pa.field(f"{column}{ties}", pa.float64())
            for ties in ("", "_grouped")
            for column in ("threshold", "recall", "fpr", "precision_threshold", "precision_recall", "precision")
        ),
    ]
)

# One row per hasher, group and wanted false-positive rate: the largest (strict) threshold within it.
RATES = pa.schema(
    [
        *_GROUP,
        pa.field("of", pa.string(), nullable=False),  # queries: altered pictures; pairs: of one and another's original
        pa.field("wanted", pa.float64(), nullable=False),
        pa.field("threshold", pa.float64()),  # null: none is too large
        pa.field("fpr", pa.float64()),  # what the threshold lets through
        pa.field("recall", pa.float64(), nullable=False),  # percent
        pa.field("recall_low", pa.float64(), nullable=False),  # 95 % interval
        pa.field("recall_high", pa.float64(), nullable=False),
    ]
)

# One row per hasher, group and threshold at which anything changes.
CURVES = pa.schema(
    [
        *_GROUP,
        pa.field("threshold", pa.float64(), nullable=False),  # strict
        pa.field("recall", pa.float64(), nullable=False),  # percent
        pa.field("fpr_queries", pa.float64(), nullable=False),
        pa.field("fpr_pairs", pa.float64()),  # null where there are no pairs
    ]
)

_REPETITIVE = (
    "kind",
    "format",
    "variant",
    "error_class",
    "error_stage",
    "error",
    "stale",
    "hasher",
    "reason",
    "group",
    "kept_uri",
    "list",
    "label",
    "category",
    "transform",
    "of",
)
_MADE_BY = b"neardup"
_ROWS_PER_PART = 1_000_000


def stamped(made_by: dict[str, Any]) -> dict[bytes, bytes]:
    """The metadata of a file that says what made it."""
    return {_MADE_BY: json.dumps(made_by, sort_keys=True).encode()}


def is_ours(schema: pa.Schema) -> bool:
    """Does the metadata of a file say that neardup made it?"""
    return _MADE_BY in (schema.metadata or {})


def write_part(root: str, name: str, rows: pa.Table, made_by: dict[str, Any]) -> int:
    """Write one part whole; returns its bytes. Columns whose values repeat are dictionary-encoded."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.replace_schema_metadata(stamped(made_by)),
        sink,
        compression="zstd",
        use_dictionary=[column for column in rows.column_names if column in _REPETITIVE],
    )
    data = sink.getvalue()
    storage.write(root, name, data.to_pybytes())
    return int(data.size)


def write_chunks(root: str, folder: str, table: pa.Table, made_by: dict[str, Any]) -> list[str]:
    """Write a table as parts of bounded size, named by their content; no part for no rows."""
    names = []
    for start in range(0, len(table), _ROWS_PER_PART):
        rows = table.slice(start, _ROWS_PER_PART)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        digest = blake2b(json.dumps(made_by).encode() + sink.getvalue().to_pybytes(), digest_size=12)
        names.append(f"{folder}/part-{digest.hexdigest()}.parquet")
        write_part(root, names[-1], rows, made_by)
    return names


def write_row_groups(root: str, name: str, groups: Sequence[pa.Table]) -> None:
    """Write a work file of several row groups, so that a task reads one of them by a range."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, groups[0].schema, compression="zstd") as writer:
        for rows in groups:
            writer.write_table(rows, row_group_size=max(1, len(rows)))
    storage.write(root, name, sink.getvalue().to_pybytes())


def read_row_group(root: str, name: str, number: int) -> pa.Table:
    """One row group of a work file."""
    with storage.reading_part(root, name) as file:
        return pq.ParquetFile(file, pre_buffer=False).read_row_group(number, use_threads=False)


def made_by(root: str, name: str) -> dict[str, Any]:
    """What made a part: the JSON object in its file metadata."""
    with storage.reading_part(root, name) as file:
        try:
            found: dict[str, Any] = json.loads((pq.read_metadata(file).metadata or {})[_MADE_BY])
        except (KeyError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise RunError(f"{name} was not written by neardup; move it out of the output") from error
    return found


def count_rows(root: str, names: Sequence[str]) -> int:
    """How many rows some parts have, by their metadata alone."""
    counted = 0
    for name in names:
        with storage.reading_part(root, name) as file:
            counted += pq.read_metadata(file).num_rows
    return counted


def columns_of(root: str, name: str) -> list[str]:
    """The columns of one part."""
    return list(schema_of(root, name).names)


def schema_of(root: str, name: str) -> pa.Schema:
    """The columns of one part with their types."""
    with storage.reading_part(root, name) as file:
        return pq.read_schema(file).remove_metadata()


def read_part(root: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of one part, or only some of its columns."""
    with storage.reading_part(root, name) as file:
        return _read(file, name, columns)


def read_listed(root: str, name: str) -> pa.Table:
    """The rows of a MEDIA part: what became of items, and what their listing said, columns of inputs included."""
    with storage.reading_part(root, name) as file:
        return _read(file, name, [column for column in _names(file, name) if column not in _FOUND])


def _names(file: BinaryIO, name: str) -> list[str]:
    try:
        names: list[str] = pq.read_schema(file).names
    except pa.ArrowInvalid as error:
        raise RunError(f"{name} is damaged ({error}); delete it and run again") from error
    file.seek(0)
    return names


def _read(file: BinaryIO, name: str, columns: Sequence[str] | None) -> pa.Table:
    # Here as wherever Arrow reads a file of Python's: on no thread of Arrow's. They free its buffers a moment after the
    # call, and should Python end just then, all ends in an abort (apache/arrow#34314).
    try:
        names = None if columns is None else list(columns)
        return pq.ParquetFile(file, pre_buffer=False).read(names, use_threads=False)
    except pa.ArrowInvalid as error:
        raise RunError(f"{name} is damaged ({error}); delete it and run again") from error


def read_table(root: str, names: Sequence[str], schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of several parts in the order of their names; an empty table when there are none."""
    wanted = schema if columns is None else pa.schema([schema.field(column) for column in columns])
    parts = [_completed(read_part(root, name, wanted.names), wanted) for name in sorted(names)]
    return pa.concat_tables(parts) if parts else wanted.empty_table()


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with these columns: nulls where an older version of neardup did not write one."""
    for field in schema:
        if field.nullable and field.name not in rows.column_names:
            rows = rows.append_column(field.name, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def read_live(root: str, folder: str, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The live rows of one table folder of an output."""
    return read_table(root, storage.read_manifest(root).get(folder, []), schema, columns)


def hash_folders(manifest: dict[str, list[str]]) -> Iterator[str]:
    """The folders of the HASHES table, one per hasher."""
    return (folder for folder in sorted(manifest) if folder.startswith("hashes/"))
