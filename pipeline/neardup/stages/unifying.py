"""Types of one column in several inputs made one, where no value is lost, and columns cast to it.

Wider than both is what holds all values of both: of integers, of decimals, of units of time. Integers meet doubles
where each of them is one. Parquet holds what comes out.
"""

import pyarrow as pa
import pyarrow.parquet as pq

_UNITS = ("s", "ms", "us", "ns")
_MOST_DIGITS = 76  # of a decimal


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values themselves: without dictionaries, views and other ways to lay them out."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_element(kind), kind.list_size)
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_element(kind))
    if _is_list(kind):
        return pa.list_(_element(kind))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    return kind


def _element(kind: pa.DataType) -> pa.Field:
    return pa.field("element", plain(kind.value_type))


def stored(kind: pa.DataType) -> pa.DataType:
    """The type that Parquet gives back for a column of this type, strings for one without any value.

    Raises ValueError for what it cannot hold.
    """
    if pa.types.is_null(kind):
        return pa.string()
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.schema([("x", kind)]).empty_table(), sink)
    except pa.ArrowException as error:
        raise ValueError(f"Parquet cannot hold {kind}") from error
    return pq.read_schema(pa.BufferReader(sink.getvalue())).field(0).type


def united(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds what plain types hold, None where there is none. Which comes first makes no difference."""
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    return _nested(one, other) if pa.types.is_nested(one) or pa.types.is_nested(other) else _flat(one, other)


def _nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        kinds = {field.name: field.type for field in one}
        if len(kinds) < one.num_fields or len({field.name for field in other}) < other.num_fields:
            return None
        for field in other:
            kinds[field.name] = united(kinds[field.name], field.type) if field.name in kinds else field.type
        # in an order of their own, so that the order of the inputs makes no difference
        return None if None in kinds.values() else pa.struct(sorted(kinds.items()))
    if pa.types.is_map(one) and pa.types.is_map(other):
        key, item = united(one.key_type, other.key_type), united(one.item_type, other.item_type)
        return pa.map_(key, item) if key and item else None
    if not (_is_list(one) and _is_list(other)):
        return None
    value = united(one.value_type, other.value_type)
    if value is None:
        return None
    if pa.types.is_fixed_size_list(one) and pa.types.is_fixed_size_list(other) and one.list_size == other.list_size:
        return pa.list_(pa.field("element", value), one.list_size)
    large = pa.types.is_large_list(one) or pa.types.is_large_list(other)
    return (pa.large_list if large else pa.list_)(pa.field("element", value))


def _is_list(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )


def _flat(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    both = (one, other)
    if all(map(pa.types.is_integer, both)):
        return _integer(one, other)
    if all(map(_is_number, both)):
        if any(map(pa.types.is_decimal, both)):
            return None if any(map(pa.types.is_floating, both)) else _decimal(one, other)
        if any(map(pa.types.is_integer, both)):
            return pa.float64()
        return max(both, key=lambda kind: kind.bit_width)
    if all(map(_is_text, both)):
        return pa.large_string()  # one of them is
    if all(_is_text(kind) or _is_bytes(kind) for kind in both):
        large = any(map(pa.types.is_large_binary, both)) or any(map(pa.types.is_large_string, both))
        return pa.large_binary() if large else pa.binary()
    return _moment(one, other)


def _integer(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    signed = pa.types.is_signed_integer(one), pa.types.is_signed_integer(other)
    if signed[0] == signed[1]:
        return max(one, other, key=lambda kind: kind.bit_width)
    unsigned, other = (one, other) if signed[1] else (other, one)
    bits = min(64, max(other.bit_width, 2 * unsigned.bit_width))  # of uint64 what is beyond int64 is refused later
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[bits]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    shapes = [(kind.precision, kind.scale) if pa.types.is_decimal(kind) else (20, 0) for kind in (one, other)]
    scale = max(scale for _, scale in shapes)
    digits = max(precision - scale for precision, scale in shapes) + scale
    if digits > _MOST_DIGITS:
        return None
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _moment(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Of times, dates and durations: the finer unit. A moment with a zone and one without never meet."""
    both = (one, other)
    if all(map(pa.types.is_timestamp, both)):
        if (one.tz is None) != (other.tz is None):
            return None
        return pa.timestamp(_finer(one, other), one.tz if one.tz == other.tz else "UTC")
    if all(map(pa.types.is_time, both)):
        unit = _finer(one, other)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if all(map(pa.types.is_duration, both)):
        return pa.duration(_finer(one, other))
    if all(map(pa.types.is_date, both)):
        return pa.date32()
    if any(map(pa.types.is_date, both)) and any(map(pa.types.is_timestamp, both)):
        moment = one if pa.types.is_timestamp(one) else other
        return moment if moment.tz is None else None
    return None


def _finer(one: pa.DataType, other: pa.DataType) -> str:
    return str(max(one.unit, other.unit, key=_UNITS.index))


# --- values -----------------------------------------------------------------------------------------------------------


def cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The values of a column as another type. Raises ValueError, in words, for one that would not stay what it is."""
    if column.type.equals(kind):
        return column
    try:
        return pa.chunked_array([_as(chunk, kind) for chunk in column.chunks], kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _as(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type.equals(kind):
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        names = [field.name for field in array.type]
        children = [
            _as(array.field(names.index(field.name)), field.type)
            if field.name in names
            else pa.nulls(len(array), field.type)
            for field in kind
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if _is_list(kind) and _is_list(array.type):
        return _list_as(array, kind)
    return array.cast(kind)


def _list_as(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A list of other elements. Its values are laid out anew, as nulls and slices may hide some of them."""
    lengths = array.value_lengths().fill_null(0).cast(pa.int64())
    values = _as(array.flatten(), kind.value_type)
    if pa.types.is_fixed_size_list(kind):  # so is the array: united() says no to all others
        return array.cast(kind)
    wide = pa.types.is_large_list(kind)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pa.compute.cumulative_sum(lengths)])
    return (pa.LargeListArray if wide else pa.ListArray).from_arrays(
        offsets.cast(pa.int64() if wide else pa.int32()), values, type=kind, mask=array.is_null()
    )
