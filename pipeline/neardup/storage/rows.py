"""Rows of a Parquet file as members: its column of image bytes, streamed row group by row group."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neardup.errors import MediaError, MissingError, UndecodableError
from neardup.storage.members import Member
from neardup.storage.objects import open_file

_ROWS_AT_A_TIME = 16
_BUFFER_BYTES = 1 << 20
BYTES_COLUMNS = ("image", "img", "bytes", "image_bytes", "jpg", "png", "content", "data")


@contextmanager
def opened(uri: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file, of which only what is asked for is read. Raises UndecodableError for one that is none."""
    with open_file(uri) as file:
        try:
            found = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except MediaError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise UndecodableError(f"no Parquet file that can be read: {error}") from error
        yield found


def bytes_column(schema: pa.Schema, wanted: str | None, sole: bool = True) -> str | None:
    """The path of the column that holds image bytes: plain, or `bytes` of a struct with `bytes` and `path`.

    Without a name wanted: one of the usual names, any such struct, or, if `sole`, the only column of plain bytes.
    """
    names = [wanted] if wanted else [*BYTES_COLUMNS, *(name for name in schema.names if name not in BYTES_COLUMNS)]
    for name in names:
        place = schema.get_field_index(name)
        if place < 0:
            continue
        kind = schema.field(place).type
        if pa.types.is_struct(kind):
            if kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type):
                return f"{name}.bytes"
        elif _is_bytes(kind) and (wanted or name in BYTES_COLUMNS):
            return name
    plain = [field.name for field in schema if _is_bytes(field.type)]
    return plain[0] if sole and not wanted and len(plain) == 1 else None


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def estimates(file: pq.ParquetFile, column: str) -> np.ndarray:
    """About how many bytes each row has: int64 (rows,), the mean of its row group."""
    found = []
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
        found.append(np.full(group.num_rows, size // max(1, group.num_rows), np.int64))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def missing(file: pq.ParquetFile, group: int, column: str) -> bool | None:
    """Have none of the rows of a row group a value? True: none has; False: all have; None: nobody has counted."""
    facts = file.metadata.row_group(group)
    for place in range(facts.num_columns):
        chunk = facts.column(place)
        if chunk.path_in_schema == column and chunk.is_stats_set and chunk.statistics.has_null_count:
            nulls = chunk.statistics.null_count
            return False if nulls == 0 else True if nulls == facts.num_rows else None
    return None


def read(members: Sequence[Member]) -> Iterator[bytes | MissingError]:
    """The bytes of rows of one file, in the order of their numbers, a few rows in memory at a time.

    Raises UndecodableError where the file is damaged.
    """
    if not members:
        return
    column = members[0].column or ""
    wanted = [member.offset for member in members]
    with opened(members[0].container) as file:
        try:
            first = 0
            for number in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                here = [row - first for row in wanted if first <= row < first + rows]
                if here:
                    yield from _of_group(file, number, column, here)
                first += rows
            yield from (MissingError("the file has no such row") for row in wanted if row >= first)
        except MediaError:
            raise
        except (pa.ArrowException, OSError) as error:  # Arrow says OSError of pages that it cannot unpack
            raise UndecodableError(f"the Parquet file is damaged: {error}") from error


def _of_group(file: pq.ParquetFile, number: int, column: str, rows: list[int]) -> Iterator[bytes | MissingError]:
    at = 0
    waiting = iter(rows)
    row = next(waiting, None)
    for batch in file.iter_batches(_ROWS_AT_A_TIME, row_groups=[number], columns=[column], use_threads=False):
        values = batch.column(0)
        if "." in column and pa.types.is_struct(values.type):
            values = values.field(0)
        while row is not None and row < at + len(batch):
            value = values[row - at].as_py()
            yield MissingError("its row has no bytes") if value is None else value
            row = next(waiting, None)
        at += len(batch)
        if row is None:
            return
