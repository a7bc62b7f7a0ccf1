"""MEDIA and HASHES: read, decode and hash the items of one slice."""

import atexit
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage, tables
from pipeline.child import Answer, Child, Inline, Limits, failed
from pipeline.errors import MediaError
from pipeline.hashers import Hasher, parse
from pipeline.media import DecodePolicy
from pipeline.stages.live import WORK, Maker, Slice, maker

_LIBRARIES = ("neardup", "numpy", "opencv-python-headless", "pillow", "simplejpeg")  # those that make hash bits


@dataclass(frozen=True)
class HashingOptions:
    """How items are read, decoded and hashed."""

    policy: DecodePolicy = field(default_factory=DecodePolicy)
    limits: Limits = field(default_factory=Limits)
    max_bytes: int = 512 << 20
    read_budget_bytes: int = 128 << 20
    isometric: bool = False
    in_child: bool = True


class HashTask(NamedTuple):
    """One slice to hash: where its listing rows lie, and what to do with them."""

    root: str
    work: str  # name of the file with the listing rows of all slices, one row group per slice
    row_group: int
    part: str
    specs: tuple[str, ...]
    options: HashingOptions


class Receipt(NamedTuple):
    """What one task did, in numbers."""

    part: str
    folders: tuple[str, ...]
    items: int
    failed: dict[str, int]  # by error class
    bytes_read: int
    bytes_written: int
    seconds: float
    children_replaced: int


def prepare(
    root: str, listing: pa.Table, slices: Sequence[Slice], makers: Sequence[Maker], options: HashingOptions
) -> list[HashTask]:
    """Write the listing rows of all slices as one work file; one task per slice."""
    if not slices:
        return []
    tasks = []
    batches = []
    digest = blake2b(digest_size=12)
    for number, piece in enumerate(slices):
        rows = listing.take(pa.array(piece.rows)).combine_chunks()
        specs = tuple(makers[i].spec for i in piece.makers)
        name = _part_name(rows, specs, options)
        digest.update(name.encode())
        batches.append(rows)
        tasks.append(HashTask(root, "", number, name, specs, options))
    work = f"{WORK}/slices-{digest.hexdigest()}.parquet"
    tables.write_row_groups(root, work, batches)
    return [task._replace(work=work) for task in tasks]


def _part_name(rows: pa.Table, specs: Sequence[str], options: HashingOptions) -> str:
    """Named by what it will hold: the same work done twice writes the same part."""
    digest = blake2b("\0".join([options.policy.spec, str(options.isometric), *specs]).encode(), digest_size=12)
    for column in (rows["uri"], rows["version"]):
        digest.update("\0".join(column.to_pylist()).encode())
    return f"part-{digest.hexdigest()}.parquet"


def hash_slice(task: HashTask) -> Receipt:
    """Read, decode and hash one slice; its hash parts are written first, its MEDIA part, the receipt, last."""
    begun = time.perf_counter()
    rows = tables.read_row_group(task.root, task.work, task.row_group)
    makers = [maker(parse(spec), task.options.isometric) for spec in task.specs]
    uris, versions = rows["uri"].to_pylist(), rows["version"].to_pylist()
    worker = _worker(task.specs, task.options)
    replaced = worker.replaced
    facts = _Facts()
    hashes = [_HashRows(maker.hasher) for maker in makers]
    contents = storage.read_ahead(
        zip(uris, rows["size"].to_pylist(), strict=True),
        max_bytes=task.options.max_bytes,
        budget_bytes=task.options.read_budget_bytes,
    )
    for number, answer in enumerate(worker.work(facts.digested(contents))):
        facts.add(answer)
        for column, found in zip(hashes, answer.hashes, strict=False):
            column.add(uris[number], versions[number], found)
    made_by = {
        "decode": task.options.policy.spec,
        "max_pixels": task.options.policy.max_pixels,
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    written = 0
    for one, column in zip(makers, hashes, strict=True):
        made = {**made_by, "hasher": one.stamp}
        written += tables.write_part(task.root, f"{one.folder}/{task.part}", column.table(), made)
    folders = tuple(one.folder for one in makers)
    media = f"media/{task.part}"
    written += tables.write_part(task.root, media, facts.table(rows), {**made_by, "folders": folders})
    return Receipt(
        media,
        folders,
        len(rows),
        dict(facts.failures),
        facts.bytes_read,
        written,
        time.perf_counter() - begun,
        worker.replaced - replaced,
    )


class _Facts:
    """The MEDIA columns of one slice, filled item by item."""

    def __init__(self) -> None:
        self.bytes_read = 0
        self.failures: Counter[str] = Counter()
        self._digests: deque[tuple[str | None, str | None, str]] = deque()
        self._columns: dict[str, list[Any]] = {field.name: [] for field in tables.MEDIA if field not in tables.LISTING}

    def digested(self, contents: Iterator[storage.Content | MediaError]) -> Iterator[bytes | Answer]:
        """Pass the bytes on to the worker, or the reason why there are none; keep the digests."""
        for content in contents:
            if isinstance(content, MediaError):
                self._digests.append((None, None, "read"))
                yield failed(content)
            else:
                self.bytes_read += len(content.data)
                self._digests.append((content.sha256, content.md5, "decode"))
                yield content.data

    def add(self, answer: Answer) -> None:
        """One more item; answers arrive in the order of the contents."""
        sha256, md5, stage = self._digests.popleft()
        if answer.error_class:
            self.failures[answer.error_class] += 1
        row = {
            "sha256": sha256,
            "md5": md5,
            "format": answer.format,
            "width": answer.width,
            "height": answer.height,
            "duration_s": None,
            "frame_count": answer.frame_count,
            "partial": answer.partial,
            "error_class": answer.error_class,
            "error_stage": stage if answer.error_class else None,
            "error": answer.error,
        }
        for name, value in row.items():
            self._columns[name].append(value)

    def table(self, listing: pa.Table) -> pa.Table:
        """The MEDIA rows of the slice."""
        added = [pa.array(column, tables.MEDIA.field(name).type) for name, column in self._columns.items()]
        return pa.table([*listing.columns, *added], schema=tables.MEDIA)


class _HashRows:
    """The HASHES rows of one slice and hasher, filled item by item."""

    def __init__(self, hasher: Hasher):
        self._schema = tables.hashes_schema(hash_type(hasher))
        self._columns: dict[str, list[Any]] = {field.name: [] for field in self._schema}

    def add(self, uri: str, item_version: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """The rows of one item."""
        for row in rows:
            for column, value in zip(self._columns.values(), (uri, item_version, *row), strict=True):
                column.append(value)

    def table(self) -> pa.Table:
        """The HASHES rows of the slice."""
        arrays = [
            _hash_array(column, field.type) if field.name == "hash" else pa.array(column, field.type)
            for column, field in zip(self._columns.values(), self._schema, strict=True)
        ]
        return pa.table(arrays, schema=self._schema)


def hash_type(hasher: Hasher) -> pa.DataType:
    """How a hasher's hashes lie in Parquet: packed bits and bytes as they are, reals as a list of fixed length."""
    if hasher.dtype == "float32":
        return pa.list_(pa.float32(), hasher.hash_length)
    return pa.binary(-(-hasher.hash_length // 8) if hasher.dtype == "bool" else hasher.hash_length)


def _hash_array(packed: list[bytes | None], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(packed, kind)
    width = kind.list_size
    values = np.frombuffer(b"".join(one if one is not None else bytes(4 * width) for one in packed), np.float32)
    missing = pa.array([one is None for one in packed], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=missing)


# one worker per process, kept between slices: starting a child costs as much as a hundred photos
_kept: tuple[tuple[Any, ...], Child | Inline] | None = None


def _worker(specs: tuple[str, ...], options: HashingOptions) -> Child | Inline:
    global _kept
    wanted = (specs, options.policy, options.limits, options.isometric, options.in_child)
    if _kept and _kept[0] != wanted:
        close_worker()
    if not _kept:
        if options.in_child:
            _kept = (wanted, Child(specs, options.policy, options.limits, options.isometric))
        else:
            _kept = (wanted, Inline(specs, options.policy, options.isometric))
    return _kept[1]


@atexit.register
def close_worker() -> None:
    """End this process's child, if it has one."""
    global _kept
    if _kept:
        _kept[1].close()
        _kept = None
