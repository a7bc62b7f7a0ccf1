"""LISTING: what there is to do."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage, tables

_ROWS_PER_BATCH = 65_536


def list_inputs(inputs: Sequence[str]) -> pa.Table:
    """The LISTING rows of the inputs, sorted by uri, each uri once."""
    return _table(storage.list_media(inputs))


def list_images(inputs: Sequence[str]) -> pa.Table:
    """The LISTING rows of the images among the inputs, sorted by uri, each uri once."""
    return _table(listed for listed in storage.list_media(inputs) if listed.kind == "image")


def list_uris(uris: Iterable[str]) -> pa.Table:
    """The LISTING rows of these uris (see storage.resolved), sorted, each once; also of those that cannot be found."""
    return _table(storage.list_objects(sorted(set(uris))))


def _table(found: Iterable[storage.Listed]) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    rows: list[storage.Listed] = []
    for listed in found:
        rows.append(listed)
        if len(rows) == _ROWS_PER_BATCH:
            batches.append(_batch(rows))
            rows = []
    batches.append(_batch(rows))
    return pa.Table.from_batches(batches).sort_by("uri")


def _batch(rows: list[storage.Listed]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ([] for _ in tables.LISTING)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, tables.LISTING, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=tables.LISTING)


def total_bytes(listing: pa.Table) -> int:
    """The bytes of all listed items."""
    return pc.sum(listing["size"]).as_py() or 0
