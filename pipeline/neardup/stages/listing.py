"""LISTING: what there is to do, with what the inputs say of it.

Many rows lie on disk in buckets, so that the memory of a run does not grow with its corpus.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from neardup import storage, tables
from neardup.errors import UsageError
from neardup.stages import unifying
from neardup.stages.lists import Items, ListOptions, carried_name, read_list, read_rows, read_table
from neardup.stages.spool import ROWS_IN_MEMORY, Spool

_ROWS_PER_BATCH = 65_536
_FIELDS = pa.field(f"{tables.RESERVED}fields", pa.string())  # of sidecars, as JSON, until all of them are known
_UNREAD = "unread"  # a kind of row that is no item
_INT64 = range(-(2**63), 2**63)


class Unread(NamedTuple):
    """A folder or container of which nobody knows all that it holds now."""

    uri: str
    why: str


@dataclass(frozen=True)
class Listing:
    """The rows of tables.LISTED and what the inputs say of them, in buckets, each uri once."""

    items: int
    bytes: int
    schema: pa.Schema
    spool: Spool
    unread: tuple[Unread, ...] = ()  # what is known of items there is not to be given up
    passed_by: dict[str, int] = field(default_factory=dict)  # files of folders that were not read: by suffix, or lists

    def __len__(self) -> int:
        return self.items

    def buckets(self) -> Iterator[pa.Table]:
        """The rows, bucket by bucket, sorted so that neighbours in an archive are neighbours."""
        for parts in self.spool.buckets():
            yield pa.concat_tables([self.schema.empty_table(), *parts])

    @property
    def media_columns(self) -> list[str]:
        """The columns that MEDIA will have."""
        return [*tables.MEDIA.names, *self.carried]

    @property
    def carried(self) -> list[str]:
        """The names of the columns that inputs say of items."""
        names: list[str] = self.schema.names[len(tables.LISTED) :]
        return names


@dataclass(frozen=True)
class InputOptions:
    """Which objects of the inputs are listed, and how lists are read."""

    exclude: tuple[str, ...] = ()
    lists: ListOptions = field(default_factory=ListOptions)
    rows_in_memory: int = ROWS_IN_MEMORY


def list_inputs(inputs: Sequence[str], options: InputOptions | None = None) -> Listing:
    """The listing of the inputs. Where a uri is given twice, what is said of it first counts."""
    options = options or InputOptions()
    passed: Counter[str] = Counter()
    return _listing(_batches(inputs, options, passed), options, passed)


def list_images(inputs: Sequence[str], options: InputOptions | None = None) -> Listing:
    """The listing of the images among the inputs."""
    options = options or InputOptions()
    passed: Counter[str] = Counter()
    kinds = pa.array(["image", _UNREAD])
    images = (
        batch._replace(rows=batch.rows.filter(pc.is_in(batch.rows["kind"], kinds)))
        for batch in _batches(inputs, options, passed)
    )
    return _listing(images, options, passed)


def list_uris(uris: Iterable[str]) -> Listing:
    """The listing of these uris (see storage.resolved), each once; also of those that cannot be found."""
    options = InputOptions()
    return _listing(
        (_Batch("", _batch(rows)) for rows in _chunks(storage.list_objects(sorted(set(uris))))), options, Counter()
    )


def total_bytes(listing: Listing) -> int:
    """The bytes of all listed items, as far as they are known."""
    return listing.bytes


def _chunks(found: Iterable[storage.Listed]) -> Iterator[list[storage.Listed]]:
    rows: list[storage.Listed] = []
    for listed in found:
        rows.append(listed)
        if len(rows) == _ROWS_PER_BATCH:
            yield rows
            rows = []
    yield rows


class _Batch(NamedTuple):
    """Some rows, and the file that says what is carried of them."""

    source: str
    rows: pa.Table


def _batches(inputs: Sequence[str], options: InputOptions, passed: Counter[str]) -> Iterator[_Batch]:
    read: dict[str, Callable[[storage.Listed, ListOptions], Iterator[Items]]] = {
        "list": read_list,
        "rows": partial(read_rows, passed=passed),
        "table": partial(read_table, passed=passed),
    }
    rows: list[storage.Listed] = []
    for listed in storage.list_media(inputs, options.exclude, passed):
        if listed.kind in read:
            for items in read[listed.kind](listed, options.lists):
                if rows:
                    yield _Batch("", _batch(rows))  # before the list's own: the first to be listed counts
                    rows = []
                yield _Batch(listed.uri, _with(_batch(items.listed), items.carried))
        else:
            rows.append(listed)
        if len(rows) == _ROWS_PER_BATCH:
            yield _Batch("", _batch(rows))
            rows = []
    yield _Batch("", _batch(rows))


def _batch(rows: Sequence[storage.Listed]) -> pa.Table:
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(8)]
    uri, kind, size, mtime, version, place, fault, fields = columns
    places = [None if one is None else one._asdict() for one in place]
    texts = [None if one is None else json.dumps(one, default=str) for one in fields]
    arrays = [uri, kind, size, mtime, version, places, fault]
    found = [pa.array(column, field.type) for column, field in zip(arrays, tables.LISTED, strict=True)]
    return pa.table([*found, pa.array(texts, pa.string())], schema=tables.LISTED.append(_FIELDS))


def _with(rows: pa.Table, carried: pa.Table) -> pa.Table:
    for name in carried.column_names:
        rows = rows.append_column(name, carried[name])
    return rows


# --- one table of all -------------------------------------------------------------------------------------------------


def _listing(batches: Iterator[_Batch], options: InputOptions, passed: Counter[str]) -> Listing:
    spool = Spool(options.rows_in_memory)
    columns = _Columns()
    said = _Fields(options.lists.columns)
    unread: set[Unread] = set()
    for batch in batches:
        rows = batch.rows
        places = rows.filter(pc.equal(rows["kind"], _UNREAD)).select(["uri", "fault"]).to_pylist()
        if places:
            unread.update(Unread(row["uri"], row["fault"]) for row in places)
            rows = rows.filter(pc.not_equal(rows["kind"], _UNREAD))
        columns.look_at(batch.source, rows.schema)
        said.look_at(rows[_FIELDS.name])
        spool.add(rows)
    columns.look_at("the sidecars in archives", said.schema())
    schema = columns.schema()
    items = size = 0

    def finished(parts: list[pa.Table]) -> pa.Table:
        nonlocal items, size
        rows = _once(said.in_place([columns.shaped(part, schema) for part in parts], parts, schema))
        items += len(rows)
        size += pc.sum(rows["size"]).as_py() or 0
        return rows

    spool.change(finished)
    return Listing(items, size, schema, spool, tuple(sorted(unread)), dict(passed))


class _Columns:
    """The columns that inputs say of their items, each of a type that holds what all of them say."""

    def __init__(self) -> None:
        self._kinds: dict[str, pa.DataType] = {}
        self._sources: dict[str, dict[pa.DataType, str]] = {}  # of each column: the first file with each type

    def look_at(self, source: str, schema: pa.Schema) -> None:
        """Learn the types of an input. Raises UsageError for one that does not go with those before it."""
        for column in schema:
            if column.name in tables.LISTED.names or column.name == _FIELDS.name:
                continue
            first = self._sources.setdefault(column.name, {})
            if column.type in first:
                continue
            first[column.type] = source
            before = self._kinds.get(column.name, column.type)
            kind = unifying.united(before, column.type)
            if kind is None:
                raise UsageError(self._apart(column.name, column.type))
            self._kinds[column.name] = kind

    def schema(self) -> pa.Schema:
        """The columns of LISTED, then these as Parquet gives them back."""
        fields = []
        for name, kind in self._kinds.items():
            try:
                fields.append(pa.field(name, unifying.stored(kind)))
            except ValueError as error:
                source = next(iter(self._sources[name].values()))
                raise UsageError(f"column {name!r} of {source!r}: {error}; leave it out with --columns") from error
        return pa.schema([*tables.LISTED, *fields])

    def shaped(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """Rows with all the columns. Raises UsageError where a value would not stay what it is."""
        columns = []
        for column in schema:
            if column.name not in rows.column_names:
                columns.append(pa.nulls(len(rows), column.type))
                continue
            try:
                columns.append(unifying.cast(rows[column.name], column.type))
            except ValueError as error:
                raise UsageError(f"{self._apart(column.name, rows[column.name].type)} ({error})") from error
        return pa.table(columns, schema=schema)

    def _apart(self, name: str, kind: pa.DataType) -> str:
        """That a column has one type here, another there, and what to do about it."""
        sources = self._sources[name]
        others = {one: source for one, source in sources.items() if one != kind and not pa.types.is_null(one)}
        apart = next((one for one in others if unifying.united(one, kind) is None), next(iter(others), None))
        if apart is None:
            return f"column {name!r} of {sources[kind]!r} is {kind}, which cannot be kept; leave it out with --columns"
        return (
            f"column {name!r} is {apart} in {sources[apart]!r} and {kind} in {sources[kind]!r}; "
            "make them alike, or say which columns to carry with --columns"
        )


def _once(rows: pa.Table) -> pa.Table:
    """Each uri once, the first of it; sorted by container and place there, or by uri."""
    numbered = rows.select(["uri"]).append_column("row", pa.array(range(len(rows)), pa.int64()))
    first = numbered.group_by("uri").aggregate([("row", "min")])["row_min"]
    rows = rows.take(first)
    place = rows["place"].combine_chunks()
    container = pc.coalesce(pc.struct_field(place, "container"), rows["uri"].combine_chunks())
    order = pa.table({"container": container, "at": pc.struct_field(place, "offset"), "uri": rows["uri"]})
    order = pc.sort_indices(order, sort_keys=[("container", "ascending"), ("at", "ascending"), ("uri", "ascending")])
    return rows.take(order).combine_chunks()


class _Fields:
    """What sidecars say: a column per field, of a type that fits all its values, whatever the order they came in."""

    def __init__(self, wanted: Sequence[str] | None):
        self._wanted = wanted
        self._kinds: dict[str, set[str]] = defaultdict(set)

    def look_at(self, texts: pa.ChunkedArray) -> None:
        """Learn the kinds of values."""
        for text in texts.drop_null().to_pylist():
            for name, value in json.loads(text).items():
                if value is not None and (self._wanted is None or _column(name) in self._wanted):
                    self._kinds[_column(name)].add(_kind(value))

    def schema(self) -> pa.Schema:
        """A field for each that had a value, sorted by name."""
        return pa.schema([(name, _type_of(kinds)) for name, kinds in sorted(self._kinds.items())])

    def in_place(self, shaped: list[pa.Table], raw: list[pa.Table], schema: pa.Schema) -> pa.Table:
        """The shaped tables as one, with the fields of the raw ones."""
        rows = pa.concat_tables(shaped) if shaped else schema.empty_table()
        if not self._kinds:
            return rows
        texts = [text for part in raw for text in part[_FIELDS.name].to_pylist()]
        for name in self._kinds:
            field = schema.field(name)
            values = [None if text is None else _value(json.loads(text), name, field.type) for text in texts]
            said = pc.coalesce(rows[name].combine_chunks(), pa.array(values, field.type))
            rows = rows.set_column(schema.get_field_index(name), field, said)
        return rows


def _column(name: str) -> str:
    """The column of a field: its name, or with a prefix where MEDIA has a column of that name."""
    return carried_name(name, "json_")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in _INT64 else "text"
    return {float: "float", str: "text"}.get(type(value), "text")


def _type_of(kinds: set[str]) -> pa.DataType:
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds == {"int"}:
        return pa.int64()
    return pa.float64() if kinds <= {"int", "float"} else pa.string()


def _value(fields: dict[str, Any], name: str, kind: pa.DataType) -> Any:
    value = next((value for key, value in fields.items() if _column(key) == name), None)
    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        value = float(value) if value is not None and pa.types.is_floating(kind) else value
    else:
        value = json.dumps(value, ensure_ascii=False)
    return storage.redacted(value) if isinstance(value, str) and storage.secret_in(value) else value
