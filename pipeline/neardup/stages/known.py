"""Known lists: the hashes of content that is known, read from a file or from another output, and checked.

A list becomes parallel arrays. Its version is the digest of its content, so that a row of MATCHES says what it was
compared with. A list that was not made by the hasher it is to meet is refused; so is an empty one, which would
otherwise look like a clean corpus.
"""

import base64
import binascii
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neardup import joins, storage, tables
from neardup.errors import MissingError, RunError, TransientError, UsageError
from neardup.hashers.encoding import BITS, packed_length
from neardup.stages import tiles
from neardup.stages.hashing import hash_type
from neardup.stages.live import Maker

HASH_COLUMNS = ("hash", "signal_str")  # the second is that of ThreatExchange's data sets
ENTRY_COLUMNS = ("entry", "id")
KIND_COLUMN = "signal_type"  # of ThreatExchange's data sets, which mix kinds of hashes
INDEX_COLUMNS = ("hash", "id", "timestamp", "tags")  # of ThreatExchange's PDQ index files, which have no header
_UPRIGHT = "r0"
_BATCH_ROWS = 65_536
_MAX_LINE = 1 << 20  # characters of a line of text or JSON
_SHOWN = 40  # characters of a bad value
_JSON = json.JSONEncoder(ensure_ascii=False, default=str)


class ListOptions(NamedTuple):
    """How known lists are read."""

    hash_column: str | None = None  # None: `hash`, or what ThreatExchange calls it
    skip_bad_lines: bool = False  # count lines without a valid hash and go on, instead of refusing the list


class Known(NamedTuple):
    """A known list: parallel arrays, one place per hash."""

    name: str
    version: str  # digest of its content
    hashes: np.ndarray  # uint8 (n, width), packed bits
    upright: np.ndarray  # bool (n,): not a flipped or turned variant
    entries: pa.Array  # string (n,)
    labels: pa.Array  # string (n,), null where there is none
    left_out: dict[str, int]  # what is not in the arrays, and how often: bad_lines, without_hash, other_signals


def read_known(given: str, maker: Maker, decode: str | None, options: ListOptions) -> Known:
    """The known list at a path or url: a .csv, .tsv, .jsonl, .parquet or .txt file, or an output of another run.

    `decode` is the decode policy of the corpus, None where nobody knows it. Raises UsageError for what cannot be read
    or cannot meet the hashes of `maker`.
    """
    found = output_of(given)
    return _of_output(given, found, maker, decode) if found else _of_file(given, maker, decode, options)


def how_made(root: str, names: Sequence[str], maker: Maker, what: str) -> str | None:
    """The decode policy of hash parts, None where there are no parts.

    Raises UsageError unless this version of the hasher made them, and all with one policy.
    """
    made = [tables.made_by(root, name) for name in names]
    decodes = {_checked_stamp(one, maker, what) for one in made}
    if len(decodes) > 1:
        raise UsageError(f"{what} holds hashes decoded in two ways ({'; '.join(sorted(decodes))}); hash it again")
    return decodes.pop() if decodes else None


def _checked_stamp(made_by: Mapping[str, Any], maker: Maker, what: str) -> str:
    spec, revision = made_by["hasher"][:2]
    if [spec, revision] != maker.stamp[:2]:
        raise UsageError(
            f"{what} holds hashes of {spec} revision {revision}, to be compared with {maker.spec} revision "
            f"{maker.hasher.revision}: the two must not meet; hash it again with this version"
        )
    return str(made_by["decode"])


def _check_decode(name: str, listed: str | None, decode: str | None) -> None:
    if listed is not None and decode is not None and listed != decode:
        raise UsageError(
            f"known list {name!r} was decoded with {listed}, the corpus with {decode}: the two must not meet; "
            "hash one of them again"
        )


# --- outputs as lists -------------------------------------------------------------------------------------------------


class Output(NamedTuple):
    """An output that a path names; `folder` when the path names the hashes of one hasher in it."""

    root: str
    folder: str | None


def output_of(given: str) -> Output | None:
    """The output that a path or url names: its root, or its `hashes` or `hashes/hasher=NAME` folder; else None."""
    root = storage.absolute(given)
    if is_output(root):
        return Output(root, None)
    inside = re.fullmatch(r"(.+?)/(hashes(/hasher=[^/]+)?)", root)
    if inside and is_output(inside[1]):
        return Output(inside[1], inside[2] if inside[3] else None)
    return None


def is_output(root: str) -> bool:
    """Does a manifest of ours lie at this root? (A folder of photos may hold a manifest.json of a website.)"""
    try:
        data = storage.read(root, storage.MANIFEST)
        return data is not None and isinstance(json.loads(data)["tables"], dict)
    except (RunError, ValueError, KeyError, TypeError):
        return False


def _of_output(given: str, found: Output, maker: Maker, decode: str | None) -> Known:
    manifest = storage.read_manifest(found.root)
    name = found.root.rsplit("/", 1)[1]
    has = [found.folder] if found.folder else list(tables.hash_folders(manifest))
    if maker.folder not in has or maker.folder not in manifest:
        labels = ", ".join(folder.removeprefix("hashes/hasher=") for folder in has) or "no hasher"
        raise UsageError(
            f"known list {given!r} has hashes of {labels}, not of {maker.spec}; "
            f"add them: neardup hash … --hasher {maker.spec}"
        )
    names = manifest[maker.folder]
    _check_decode(name, how_made(found.root, names, maker, f"known list {given!r}"), decode)
    columns = ["uri", "version", "variant", "frame_index", "hash"]
    table = tables.read_table(found.root, names, tables.hashes_schema(hash_type(maker.hasher)), columns)
    return _of_rows(name, table, maker)


def _of_rows(name: str, table: pa.Table, maker: Maker, version: str | None = None) -> Known:
    """HASHES rows as a list: the uri is the entry. Its digest does not depend on how the rows lie in parts."""
    rows = table.filter(pc.is_valid(table["hash"]))
    rank = joins.distinct(tiles.as_bytes(rows["hash"]))[1]
    order = [(column, "ascending") for column in ("uri", "variant", "frame_index", "rank")]
    rows = rows.append_column("rank", pa.array(rank)).sort_by(order)
    hashes = tiles.as_bytes(rows["hash"])
    if version is None:
        digest = sha256(hashes.tobytes())
        for column in ("uri", "version", "variant"):
            digest.update("\0".join(rows[column].to_pylist()).encode())
        version = digest.hexdigest()
    left_out = {"bad_lines": 0, "without_hash": len(table) - len(rows), "other_signals": 0}
    upright = pc.equal(rows["variant"], _UPRIGHT).to_numpy().astype(bool)
    entries = rows["uri"].combine_chunks()
    return _nonempty(Known(name, version, hashes, upright, entries, pa.nulls(len(rows), pa.string()), left_out), maker)


def _width(maker: Maker) -> int:
    """The bytes of a packed hash."""
    return packed_length(maker.hasher.hash_length, maker.hasher.dtype)


def _bits(maker: Maker) -> int:
    return maker.hasher.hash_length * BITS[maker.hasher.dtype]


def _nonempty(known: Known, maker: Maker, first_bad: str | None = None) -> Known:
    if len(known.hashes):
        return known
    if first_bad:
        raise UsageError(f"no line of this known list holds a hash of {maker.spec}; the first: {first_bad}")
    counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in known.left_out.items() if count)
    raise UsageError(
        f"known list {known.name!r} holds no hash of {maker.spec}{f' ({counts})' if counts else ': it is empty'}; "
        "nothing could match it"
    )


# --- mappings as lists ------------------------------------------------------------------------------------------------


def of_mapping(hashes: Mapping[str, Any], maker: Maker) -> Known:
    """Hashes that a program holds, as a list: each name with a hash, several of them, or one per isometric variant.

    A hash is hex or base64 text, packed bytes, or a vector; None is left out. Raises UsageError for other values.
    """
    names: list[str] = []
    turned: list[bool] = []
    packed: list[bytes] = []
    without = 0
    for name, value in hashes.items():
        several = value.items() if isinstance(value, Mapping) else enumerate(value if _is_many(value) else [value])
        for variant, one in several:
            if one is None:
                without += 1
                continue
            try:
                packed.append(_decoded(_of_vector(one, maker) if isinstance(one, np.ndarray) else one, maker))
            except ValueError as error:
                raise UsageError(f"{name!r}: {error}") from error
            names.append(str(name))
            turned.append(isinstance(variant, str) and variant != _UPRIGHT)
    data = b"".join(packed)
    digest = sha256("\0".join(names).encode() + data)
    width = _width(maker)
    return Known(
        "mapping",
        digest.hexdigest(),
        np.frombuffer(data, np.uint8).reshape(-1, width),
        ~np.array(turned, bool),
        pa.array(names, pa.string()),
        pa.nulls(len(names), pa.string()),
        {"bad_lines": 0, "without_hash": without, "other_signals": 0},
    )


def _of_vector(vector: np.ndarray, maker: Maker) -> bytes:
    if vector.size != maker.hasher.hash_length:
        raise ValueError(f"a vector of {vector.size} elements, {maker.spec} has {maker.hasher.hash_length}")
    return maker.hasher.pack(vector)


def _is_many(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


# --- files as lists ---------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """One line or row of a list."""

    number: int
    hash: Any  # text, packed bytes, or None
    entry: str | None  # None: its number
    label: str | None


class _Reading:
    """One list while it is read: what the forms need to know, and what they leave out."""

    def __init__(self, name: str, maker: Maker, options: ListOptions, unit: str):
        self.name = name
        self.unit = unit  # what is numbered: lines or rows
        self.maker = maker
        self.options = options
        self.left_out = {"bad_lines": 0, "without_hash": 0, "other_signals": 0}
        self.first_bad: str | None = None

    def bad(self, number: int, why: str) -> None:
        """A line without a valid hash: refuse the list, or count it."""
        said = f"known list {self.name!r} {self.unit} {number}: {why}"
        if not self.options.skip_bad_lines:
            raise UsageError(f"{said}; correct it, or leave such lines out with --skip-bad-lines")
        self.left_out["bad_lines"] += 1
        self.first_bad = self.first_bad or said

    def hash_column(self, columns: Sequence[str]) -> int | None:
        """Which of the columns holds the hashes, None when none does and none was named."""
        plain = [column.casefold() for column in columns]
        if len(set(columns)) < len(columns):
            twice = next(column for column in columns if columns.count(column) > 1)
            raise UsageError(f"known list {self.name!r} has two columns {twice!r}; rename one")
        if self.options.hash_column is not None:
            if self.options.hash_column not in columns:
                raise UsageError(
                    f"known list {self.name!r} has no column {self.options.hash_column!r}; it has {_shown_all(columns)}"
                )
            return list(columns).index(self.options.hash_column)
        return next((plain.index(column) for column in HASH_COLUMNS if column in plain), None)

    def layout(self, columns: Sequence[str], hash_column: int) -> "_Layout":
        """The roles of all columns."""
        plain = [column.casefold() for column in columns]
        entry = next((plain.index(c) for c in ENTRY_COLUMNS if c in plain and plain.index(c) != hash_column), None)
        kind = plain.index(KIND_COLUMN) if KIND_COLUMN in plain else None
        labels = [n for n in range(len(columns)) if n not in (hash_column, entry)]
        return _Layout(hash_column, entry, kind, labels, [columns[n] for n in labels])

    def is_other(self, kind: Any) -> bool:
        """Is a row of a mixed list about another kind of hash?"""
        other = str(kind).casefold() != self.maker.spec.partition(":")[0]
        self.left_out["other_signals"] += other
        return other


class _Layout(NamedTuple):
    """Which column of a list is what."""

    hash: int
    entry: int | None
    kind: int | None
    labels: list[int]
    label_names: list[str]

    def line(self, number: int, row: Sequence[Any]) -> _Line:
        """A row as a line: one other column is the label as it is, several are JSON."""
        entry = row[self.entry] if self.entry is not None else None
        values = [row[n] for n in self.labels]
        label = _label(dict(zip(self.label_names, values, strict=True)))
        return _Line(number, row[self.hash], str(entry) if entry not in (None, "") else None, label)


def _label(values: Mapping[str, Any]) -> str | None:
    if not values:
        return None
    if len(values) == 1:
        (value,) = values.values()
        return value if value is None or isinstance(value, str) else _json(value)
    return _json(values)


def _json(value: Any) -> str:
    return _JSON.encode(value)


def _of_file(given: str, maker: Maker, decode: str | None, options: ListOptions) -> Known:
    uri = storage.absolute(given)
    name = uri.rsplit("/", 1)[1]
    suffix = name.rsplit(".", 1)[-1].lower()
    if suffix not in _FORMS:
        raise UsageError(
            f"known list {given!r} is neither an output of neardup nor one of {', '.join('.' + s for s in _FORMS)}"
        )
    try:
        data = storage.read_object(uri)
    except TransientError as error:
        raise RunError(f"cannot read the known list {given!r}: {error}; run again") from error
    except MissingError as error:
        raise UsageError(f"cannot read the known list {given!r}: {error}") from error
    if suffix == "parquet" and (part := _part_of_hashes(name, data, maker, decode)) is not None:
        return _of_rows(name, part, maker, sha256(data).hexdigest())
    reading = _Reading(name, maker, options, "row" if suffix == "parquet" else "line")
    try:
        return _collected(_FORMS[suffix](data, reading), reading, sha256(data).hexdigest())
    except UnicodeDecodeError as error:
        raise UsageError(f"known list {given!r} is not UTF-8 text: {error.reason}") from error


def _part_of_hashes(name: str, data: bytes, maker: Maker, decode: str | None) -> pa.Table | None:
    """The rows of a Parquet file that is a part of a HASHES table, None for any other; only comparable ones pass."""
    file = _parquet(name, data)
    schema = tables.hashes_schema(hash_type(maker.hasher))
    columns = ["uri", "variant", "frame_index", "hash"]
    try:
        made_by = json.loads((file.metadata.metadata or {})[b"neardup"])
        stamp = {"hasher": made_by["hasher"], "decode": made_by["decode"]}
    except (ValueError, KeyError, TypeError):
        return None
    if file.schema_arrow.names != schema.names:
        return None
    _check_decode(name, _checked_stamp(stamp, maker, f"known list {name!r}"), decode)
    try:
        return file.read(columns).cast(pa.schema([schema.field(column) for column in columns]))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"known list {name!r} is damaged: {str(error).splitlines()[0]}") from error


def _collected(lines: Iterator[_Line], reading: _Reading, version: str) -> Known:
    """The lines as arrays, batch by batch."""
    width = _width(reading.maker)
    hashes = [np.empty((0, width), np.uint8)]
    entries, labels = [pa.array([], pa.string())], [pa.array([], pa.string())]
    while batch := list(islice(lines, _BATCH_ROWS)):
        hashed = [line for line in batch if line.hash not in (None, "", b"")]
        reading.left_out["without_hash"] += len(batch) - len(hashed)
        good, packed = _packed(hashed, reading)
        hashes.append(packed)
        entries.append(pa.array([str(line.number) if line.entry is None else line.entry for line in good], pa.string()))
        labels.append(pa.array([line.label for line in good], pa.string()))
    together = np.concatenate(hashes)
    known = Known(
        reading.name,
        version,
        together,
        np.ones(len(together), bool),
        pa.concat_arrays(entries),
        pa.concat_arrays(labels),
        reading.left_out,
    )
    return _nonempty(known, reading.maker, reading.first_bad)


def _packed(lines: list[_Line], reading: _Reading) -> tuple[list[_Line], np.ndarray]:
    """The lines with a valid hash, and their hashes, uint8 (n, width)."""
    width = _width(reading.maker)
    if not _bits(reading.maker) % 8 and all(type(x.hash) is str and len(x.hash) == 2 * width for x in lines):
        try:  # one call for a whole batch of hex
            data = bytes.fromhex("".join(line.hash for line in lines))
        except ValueError:
            data = b""
        if len(data) == len(lines) * width:  # fromhex drops spaces
            return lines, np.frombuffer(data, np.uint8).reshape(-1, width)
    good, packed = [], []
    for line in lines:
        try:
            packed.append(_decoded(line.hash, reading.maker))
        except ValueError as error:
            reading.bad(line.number, str(error))
        else:
            good.append(line)
    return good, np.frombuffer(b"".join(packed), np.uint8).reshape(-1, width)


def _decoded(value: Any, maker: Maker) -> bytes:
    """The packed bytes of one hash. Raises ValueError that says what the value is instead."""
    width = _width(maker)
    bits = _bits(maker)
    shown = _shown(value)
    packed = value if isinstance(value, bytes) else _from_text(value.strip(), width) if isinstance(value, str) else None
    if packed is None:
        encoded = f"{2 * width} hex or {-(-width // 3) * 4} base64 characters"
        raise ValueError(f"{shown} is not a hash of {maker.spec}: expected {encoded}")
    if len(packed) != width:
        raise ValueError(
            f"{shown} is a hash of {8 * len(packed)} bits, {maker.spec} has {bits}; "
            "give the hasher that the list was made with (--hasher)"
        )
    if bits % 8 and packed[-1] & (0xFF >> bits % 8):
        raise ValueError(f"{shown} has bits beyond the {bits} of {maker.spec}")
    return packed


def _from_text(text: str, width: int) -> bytes | None:
    """What hex or base64 text stands for: of the wanted width if it can be, else of its own; None for other text."""
    hexadecimal = bytes.fromhex(text) if re.fullmatch(r"([0-9a-fA-F]{2})+", text) else None
    if hexadecimal is not None and len(hexadecimal) == width:
        return hexadecimal
    try:
        binary = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return hexadecimal
    if len(binary) == width:
        return binary
    return hexadecimal if hexadecimal is not None else binary if len(binary) >= 8 and len(text) % 4 == 0 else None


def _shown(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _shown_all(columns: Sequence[str]) -> str:
    names = ", ".join(_shown(column) for column in columns[:10])
    return names + (" …" if len(columns) > 10 else "")


# --- the forms --------------------------------------------------------------------------------------------------------


def _text(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")


def _csv_lines(data: bytes, reading: _Reading, delimiter: str = ",") -> Iterator[_Line]:
    """A header names the columns; a file whose first field is a hash has none, as ThreatExchange's PDQ index files."""
    reader = csv.reader(_text(data), delimiter=delimiter, strict=True)
    layout: _Layout | None = None
    number, fields = 1, 0
    try:
        for row in reader:
            if row and layout is None:
                layout, is_header = _csv_layout(row, reading)
                fields = len(row)
                if not is_header:
                    yield layout.line(number, row)
            elif row and layout is not None:
                if len(row) != fields:
                    reading.bad(number, f"it has {len(row)} fields, the first line {fields}")
                elif layout.kind is None or not reading.is_other(row[layout.kind]):
                    yield layout.line(number, row)
            number = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"known list {reading.name!r} line {number} is not CSV: {error}") from error


def _csv_layout(first: list[str], reading: _Reading) -> tuple[_Layout, bool]:
    columns = [column.strip() for column in first]
    found = reading.hash_column(columns)
    if found is not None:
        return reading.layout(columns, found), True
    try:
        _decoded(columns[0], reading.maker)
    except ValueError as error:
        raise UsageError(
            f"known list {reading.name!r} has no column 'hash' and no hash in its first field: {error}; "
            f"its columns are {_shown_all(columns)}: name one with --hash-column"
        ) from error
    columns = [f"column{n + 1}" for n in range(len(first))] if len(first) != len(INDEX_COLUMNS) else [*INDEX_COLUMNS]
    return reading.layout(columns, 0), False


def _tsv_lines(data: bytes, reading: _Reading) -> Iterator[_Line]:
    return _csv_lines(data, reading, "\t")


def _plain_lines(data: bytes, reading: _Reading) -> Iterator[_Line]:
    """One hash per line, then a label if there is one; lines that begin with # are remarks."""
    for number, line in enumerate(_text(data), 1):
        parts = re.split(r"[\s,;]+", line[:_MAX_LINE].strip(), maxsplit=1)
        if len(line) > _MAX_LINE:
            reading.bad(number, f"{_shown(line)} has {len(line):,} characters")
        elif parts[0] and not parts[0].startswith("#"):
            yield _Line(number, parts[0], None, parts[1] if len(parts) > 1 else None)


def _json_lines(data: bytes, reading: _Reading) -> Iterator[_Line]:
    """One JSON object per line."""
    for number, line in enumerate(_text(data), 1):
        if len(line) > _MAX_LINE:
            reading.bad(number, f"{_shown(line)} has {len(line):,} characters")
        elif line.strip():
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("no object")
                _json(row).encode()  # half a surrogate pair cannot be stored
            except (ValueError, RecursionError):
                reading.bad(number, f"{_shown(line.strip())} is not a JSON object")
                continue
            found = reading.hash_column(list(row))
            if found is None:
                reading.bad(number, f"it has no key 'hash'; it has {_shown_all(list(row))}")
                continue
            layout = reading.layout(list(row), found)
            if layout.kind is None or not reading.is_other(list(row.values())[layout.kind]):
                yield layout.line(number, list(row.values()))


def _parquet(name: str, data: bytes) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"known list {name!r} is not Parquet: {str(error).splitlines()[0]}") from error


def _parquet_lines(data: bytes, reading: _Reading) -> Iterator[_Line]:
    """A column of text or packed bytes; rows are numbered from 1."""
    file = _parquet(reading.name, data)
    columns = file.schema_arrow.names
    found = reading.hash_column(columns)
    if found is None:
        raise UsageError(
            f"known list {reading.name!r} has no column 'hash'; it has {_shown_all(columns)}: "
            "name one with --hash-column"
        )
    layout = reading.layout(columns, found)
    number = 0
    try:
        for batch in file.iter_batches(_BATCH_ROWS):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                if layout.kind is None or not reading.is_other(row[layout.kind]):
                    yield layout.line(number, row)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"known list {reading.name!r} is damaged: {str(error).splitlines()[0]}") from error


_FORMS: dict[str, Callable[[bytes, _Reading], Iterator[_Line]]] = {
    "csv": _csv_lines,
    "tsv": _tsv_lines,
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "parquet": _parquet_lines,
    "txt": _plain_lines,
}
