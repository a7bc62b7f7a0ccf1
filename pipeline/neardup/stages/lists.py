"""Lists of items: text, CSV, JSON lines and Parquet files with a column of uris, or of the images' bytes themselves.

What else a list says of its items is carried through, typed as the list has it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from neardup import storage, tables
from neardup.errors import MediaError, RunError, TransientError, UndecodableError, UsageError
from neardup.stages import unifying
from neardup.storage import rows as parquet_rows

URI_COLUMNS = ("uri", "url", "path", "file", "filename", "file_name", "filepath", "image_url", "image_path")
LISTS, OWN_TABLES = "lists", "own tables"  # what is passed by in folders, besides files by suffix
_ROWS_AT_A_TIME = 16_384
_ROWS_WITH_BYTES = 64  # the same of rows whose bytes have to be read to know whether there are any
_JSON_BLOCK_BYTES = 16 << 20  # a line must fit into it
_TAKEN = frozenset([*tables.MEDIA.names, *tables.LISTED.names])


class ListOptions(NamedTuple):
    """How lists are read."""

    uri_column: str | None = None  # None: one of the usual names
    columns: tuple[str, ...] | None = None  # what is carried through; None: all


class Items(NamedTuple):
    """Some items of a list, and a row for each of what the list says of it."""

    listed: list[storage.Listed]
    carried: pa.Table


def read_list(found: storage.Listed, options: ListOptions) -> Iterator[Items]:
    """The items that a list names or holds, in order. Raises UsageError for a list that cannot be meant."""
    name = found.uri
    try:
        if name.lower().endswith(".parquet"):
            with parquet_rows.opened(name) as file:
                yield from _of_parquet(found, file, options)
        else:
            yield from _of_table(found, _table(name, options), options)
    except TransientError as error:
        raise RunError(f"cannot read the list {name!r}: {error}; run again") from error
    except MediaError as error:
        raise UsageError(f"cannot read the list {name!r}: {error}") from error


def carried_name(name: str, prefix: str = "list_") -> str:
    """The name by which MEDIA carries a column: its own, or with a prefix where a column of ours has that name.

    A name with the prefix gets another one where it would meet such a column: no two names become one.
    """
    bare = name
    while bare.startswith(prefix):
        bare = bare.removeprefix(prefix)
    return f"{prefix}{name}" if bare in _TAKEN or bare.startswith(tables.RESERVED) else name


def read_rows(
    found: storage.Listed, options: ListOptions, passed: Counter[str] | None = None, by_name: bool = False
) -> Iterator[Items]:
    """The images in a Parquet file that a folder holds, or, `by_name`, that a list names; or the items that it names.

    In a folder, files without image bytes or the named column of uris are passed by, and so are neardup's own tables;
    they are counted in `passed`. What cannot be read is an item that says why.
    """
    passed = Counter() if passed is None else passed
    try:
        with parquet_rows.opened(found.uri) as file:
            column = parquet_rows.bytes_column(file.schema_arrow, options.uri_column, sole=by_name)
            if tables.is_ours(file.schema_arrow) and not by_name:
                passed[OWN_TABLES] += 1
            elif column:
                yield from _held(found, file, column, options)
            elif by_name:
                yield _failed(found, "it has no column of image bytes")
            elif options.uri_column in file.schema_arrow.names:
                yield from _of_parquet(found, file, options)
            else:
                passed[LISTS] += 1
    except TransientError as error:
        raise RunError(f"cannot list {found.uri!r}: {error}") from error
    except MediaError as error:
        yield _failed(found, str(error))
        yield Items([storage.Listed(found.uri, "unread", None, None, "", fault=str(error))], pa.table({}))


def read_table(found: storage.Listed, options: ListOptions, passed: Counter[str]) -> Iterator[Items]:
    """The items that a CSV or JSON file of a folder names in the column that is asked for.

    One without that column, or that is no such file at all, is passed by: a folder holds other tables too.
    """
    table = None
    if options.uri_column is not None:
        try:
            table = _table(found.uri, options)
        except UsageError:
            table = None
        except TransientError as error:
            raise RunError(f"cannot list {found.uri!r}: {error}") from error
        except MediaError as error:
            yield _failed(found, str(error))
            return
    if table is None or options.uri_column not in table.column_names:
        passed[LISTS] += 1
    else:
        yield from _of_table(found, table, options)


def _of_table(found: storage.Listed, table: pa.Table, options: ListOptions) -> Iterator[Items]:
    column = _uri_column(found.uri, table.schema, options)
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        yield from _named(found, table.slice(start, _ROWS_AT_A_TIME), column, start, options)


def _failed(found: storage.Listed, fault: str) -> Items:
    return Items([found._replace(kind="image", fault=fault)], pa.table({}))


def _table(name: str, options: ListOptions) -> pa.Table:
    data = storage.read_object(name)
    suffix = name.rsplit(".", 1)[-1].lower()
    try:
        if suffix == "txt":
            # splitlines() would also cut a name at a form feed or a line separator
            lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
            return pa.table({options.uri_column or "uri": pa.array([one for one in lines if one.strip()], pa.string())})
        if suffix in ("csv", "tsv"):
            parse = pa.csv.ParseOptions(delimiter="," if suffix == "csv" else "\t", newlines_in_values=True)
            return pa.csv.read_csv(pa.BufferReader(data), parse_options=parse)
        read = pa.json.ReadOptions(block_size=_JSON_BLOCK_BYTES)
        return pa.json.read_json(pa.BufferReader(data), read_options=read)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if "Empty CSV file" in str(error) or not data.strip():
            raise UsageError(f"the list {name!r} is empty") from error
        raise UsageError(f"the list {name!r} is no {suffix} that can be read: {str(error).splitlines()[0]}") from error


def _uri_column(name: str, schema: pa.Schema, options: ListOptions) -> str:
    usual = [options.uri_column] if options.uri_column else [one for one in URI_COLUMNS if one in schema.names]
    if not usual or usual[0] not in schema.names:
        has = ", ".join(schema.names[:20]) or "none"
        missing = f"no column {options.uri_column!r}" if options.uri_column else "no column of uris such as uri or url"
        raise UsageError(f"the list {name!r} has {missing}; its columns are {has}: name one with --uri-column")
    if schema.names.count(usual[0]) > 1:
        raise UsageError(f"the list {name!r} has two columns named {usual[0]!r}; rename one")
    kind = unifying.plain(schema.field(usual[0]).type)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise UsageError(f"column {usual[0]!r} of the list {name!r} holds {kind}, not uris; choose with --uri-column")
    return usual[0]


def _listed(found: storage.Listed, uris: pa.ChunkedArray, first: int) -> list[storage.Listed]:
    base = found.uri.rsplit("/", 1)[0]
    texts = uris.to_pylist()
    faults = [_fault(text) for text in texts]
    named = [storage.resolved(text, base) for text, fault in zip(texts, faults, strict=True) if fault is None]
    objects = storage.list_objects(named)
    return [
        next(objects)
        if fault is None
        else found._replace(uri=storage.numbered(found.uri, first + number), kind="image", fault=fault)
        for number, fault in enumerate(faults)
    ]


def _fault(text: str | None) -> str | None:
    """Why a row of a list names no item that can be worked on; None where it does."""
    if not text:
        return "its row has no uri"
    if why := storage.secret_in(text):
        return f"its row holds a url with {why}; give it through the store's own configuration"
    return None


def _named(found: storage.Listed, rows: pa.Table, column: str, first: int, options: ListOptions) -> Iterator[Items]:
    """What some rows of a list name; instead of archives and Parquet files what these hold, each with its row's say."""
    said = _carried(found.uri, rows, column, options)
    listed: list[storage.Listed] = []
    numbers: list[int] = []  # of the row of each
    for number, held in enumerate(storage.open_archives(_listed(found, rows[column], first))):
        if held and held[0].uri.lower().endswith(".parquet") and held[0].size is not None:
            yield Items(listed, said.take(numbers))
            listed, numbers = [], []
            for items in read_rows(held[0], ListOptions(None, options.columns), by_name=True):
                yield Items(items.listed, _together(said.take([number] * len(items.listed)), items.carried))
            continue
        listed += held
        numbers += [number] * len(held)
        if len(listed) >= _ROWS_AT_A_TIME:
            yield Items(listed, said.take(numbers))
            listed, numbers = [], []
    yield Items(listed, said.take(numbers))


def _together(said: pa.Table, more: pa.Table) -> pa.Table:
    """The columns of both; what a list says of its rows comes before what these say themselves."""
    return pa.table({one: table[one] for table in (more, said) for one in table.column_names})


def _carried(name: str, rows: pa.Table, without: str, options: ListOptions) -> pa.Table:
    wanted = [one for one in rows.column_names if one not in (without, tables.RESERVED)]
    if options.columns is not None:
        wanted = [one for one in wanted if one in options.columns]
    if len(set(wanted)) < len(wanted):
        twice = next(one for one in wanted if wanted.count(one) > 1)
        raise UsageError(f"the list {name!r} has two columns named {twice!r}; rename one")
    if not wanted:
        return rows.select([])
    return pa.table({carried_name(one): _carried_values(name, one, rows[one]) for one in wanted})


def _carried_values(name: str, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        plain = unifying.cast(values, unifying.plain(values.type))
    except ValueError as error:
        raise UsageError(
            f"column {column!r} of the list {name!r} cannot be carried: {error}; leave it out with --columns"
        ) from error
    return pa.chunked_array([_shown(chunk) for chunk in plain.chunks], plain.type)


def _shown(values: pa.Array) -> pa.Array:
    """Values without what must not be written down of the urls in them."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        urls = pc.fill_null(pc.match_substring_regex(values, r"://[^/]*@|[?&]"), False)
        if not pc.any(urls).as_py():
            return values
        texts = values.to_pylist()
        for number in np.flatnonzero(urls.to_numpy(zero_copy_only=False)).tolist():
            if storage.secret_in(texts[number]):
                texts[number] = storage.redacted(texts[number])
        return pa.array(texts, kind)
    if pa.types.is_struct(kind):
        fields = [_shown(values.field(number)) for number in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=values.is_null()) if fields else values
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _shown_list(values)
    return values


def _shown_list(values: pa.Array) -> pa.Array:
    held = values.values
    clean = _shown(held)
    if clean is held or clean.equals(held):
        return values
    rows = values.to_pylist()  # seldom: only where there is a credential
    texts = iter(clean.slice(values.offsets[0].as_py()).to_pylist())
    if not pa.types.is_map(values.type):
        return pa.array([None if row is None else [next(texts) for _ in row] for row in rows], values.type)
    return pa.array([None if row is None else [tuple(next(texts).values()) for _ in row] for row in rows], values.type)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _of_parquet(found: storage.Listed, file: pa.parquet.ParquetFile, options: ListOptions) -> Iterator[Items]:
    schema = file.schema_arrow
    if holds_bytes := _bytes_column(schema, options):
        yield from _held(found, file, holds_bytes, options)
        return
    column = _uri_column(found.uri, schema, options)
    first = 0
    for batch in _batches(file, [column, *_others(schema, column, options)]):
        yield from _named(found, pa.Table.from_batches([batch]), column, first, options)
        first += len(batch)


def _held(
    found: storage.Listed, file: pa.parquet.ParquetFile, holds_bytes: str, options: ListOptions
) -> Iterator[Items]:
    """The rows of a Parquet file with a column of image bytes; where one has a path only, the file that it names.

    Hugging Face's datasets have images as bytes, as paths, or some as this and some as that.
    """
    schema = file.schema_arrow
    column, _, inner = holds_bytes.partition(".")
    others = _others(schema, column, options)
    by_path = bool(inner) and schema.field(column).type.get_field_index("path") >= 0
    sizes = parquet_rows.estimates(file, holds_bytes)
    first = 0
    for group in range(file.num_row_groups):
        missing = parquet_rows.missing(file, group, holds_bytes) if by_path else False
        read = (
            [f"{column}.path", *others] if by_path and missing is not None else [column, *others] if by_path else others
        )
        at_a_time = _ROWS_AT_A_TIME if missing is not None else _ROWS_WITH_BYTES
        for batch in _batches(file, read, group, at_a_time):
            numbers = range(first, first + len(batch))
            listed = [_row(found, number, int(sizes[number]), holds_bytes) for number in numbers]
            if missing is not False:
                for number, named in _by_path(found, batch.column(column), missing, first):
                    listed[number] = named
            yield Items(listed, _carried(found.uri, pa.Table.from_batches([batch]), column, options))
            first += len(batch)


def _by_path(
    found: storage.Listed, images: pa.StructArray, missing: bool | None, first: int
) -> Iterator[tuple[int, storage.Listed]]:
    """The rows of a batch that have a path and no bytes, and what the path names; `missing` where none has bytes."""
    paths = pc.struct_field(images, "path").to_pylist()
    empty = [True] * len(paths) if missing else pc.struct_field(images, "bytes").is_null().to_pylist()
    rows = [number for number, path in enumerate(paths) if path and empty[number]]
    texts = pa.chunked_array([[paths[number] for number in rows]], pa.string())
    for number, named in zip(rows, _listed(found, texts, first), strict=True):
        numbered = storage.numbered(found.uri, first + number)
        yield number, named if named.fault is None else named._replace(uri=numbered)


def _others(schema: pa.Schema, column: str, options: ListOptions) -> list[str]:
    """The columns that are carried, besides that of uris or bytes."""
    names = [name for name in schema.names if name != column]
    return names if options.columns is None else [name for name in names if name in options.columns]


def _batches(
    file: pa.parquet.ParquetFile, columns: Sequence[str], group: int | None = None, at_a_time: int = _ROWS_AT_A_TIME
) -> Iterator[pa.RecordBatch]:
    groups = None if group is None else [group]
    if columns:
        try:
            tops = list(dict.fromkeys(_top(file.schema_arrow, column) for column in columns))
            for batch in file.iter_batches(at_a_time, row_groups=groups, columns=list(columns), use_threads=False):
                yield batch.select(tops) if len(set(batch.schema.names)) == batch.num_columns else batch
        except MediaError:
            raise
        except (pa.ArrowException, OSError) as error:  # Arrow says OSError of pages that it cannot unpack
            raise UndecodableError(f"the Parquet file is damaged: {error}") from error
        return
    count = file.metadata.num_rows if group is None else file.metadata.row_group(group).num_rows
    for start in range(0, count, _ROWS_AT_A_TIME):  # nothing but bytes: nothing to read yet
        rows = min(_ROWS_AT_A_TIME, count - start)
        yield pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[tables.RESERVED])


def _top(schema: pa.Schema, column: str) -> str:
    """The column of the table that a path of columns is in."""
    return column if column in schema.names else column.removesuffix(".path")


def _bytes_column(schema: pa.Schema, options: ListOptions) -> str | None:
    """The column of the images' bytes where that is what to read: named, by a usual name, or no other choice."""
    if options.uri_column:
        return parquet_rows.bytes_column(schema, options.uri_column)
    has_uris = any(name in URI_COLUMNS for name in schema.names)
    return parquet_rows.bytes_column(schema, None, sole=not has_uris)


def _row(found: storage.Listed, number: int, size: int, column: str) -> storage.Listed:
    place = storage.Member(found.uri, "row", number, size, 0, None, column)
    return found._replace(uri=storage.numbered(found.uri, number), kind="image", size=None, member=place)
