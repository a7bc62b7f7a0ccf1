"""MEDIA and HASHES: read, decode and hash the items of one slice."""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup import storage, tables
from neardup.child import Child, Inline, Limits
from neardup.errors import MediaError, MissingError, UndecodableError
from neardup.hashers import Hasher, folder_label, parse
from neardup.media import DecodePolicy
from neardup.stages import children
from neardup.stages.live import WORK, Maker, Todo, Ways, maker
from neardup.stages.live import hash_type as hash_type
from neardup.work import Altering, Answer, Clip, HashRow, Item, Sampling, failed

_LIBRARIES = ("neardup", "numpy", "opencv-python-headless", "pillow", "simplejpeg", "av")  # those that make hash bits

_SHOWN = 5  # uris that an Unseen names


@dataclass(frozen=True)
class HashingOptions:
    """How items are read, decoded and hashed."""

    policy: DecodePolicy = field(default_factory=DecodePolicy)
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    max_bytes: int = 512 << 20
    read_budget_bytes: int = 128 << 20
    isometric: bool = False
    in_child: bool = True
    altering: Altering = field(default_factory=Altering)
    salt: str = ""  # of the names of parts, where a run that was given up may still write some
    per_host: int = 32

    @property
    def ways(self) -> Ways:
        """What parts made with these options say of themselves."""
        limits = [self.policy.max_pixels, self.max_bytes, self.sampling.max_duration_s]
        return Ways(self.policy.spec, self.sampling.spec, limits)


class HashTask(NamedTuple):
    """One slice to hash: where its listing rows lie, and what to do with them."""

    root: str
    work: str  # name of the file with the listing rows of all slices, one row group per slice
    row_group: int
    part: str
    specs: tuple[str, ...]
    options: HashingOptions
    gone_is_confirmed: bool = False  # whether the driver, too, no longer sees what was listed and is not there


class Unseen(NamedTuple):
    """Instead of a receipt: items that were listed are not there for this worker, so nothing was written."""

    task: Any
    uris: tuple[str, ...]  # a few of them
    worker: str = ""  # its address; empty in the driver's own process


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
    root: str, work: Todo, makers: Sequence[Maker], options: HashingOptions, live: Collection[str] = ()
) -> list[HashTask]:
    """Write the listing rows of these slices as one work file; one task per slice.

    No task writes over a `live` part, whose rows may be all that is known of items that fail now.
    """
    if not work.slices:
        return []
    tasks = []
    batches = []
    digest = blake2b(digest_size=12)
    for number, piece in enumerate(work.slices):
        rows = work.rows.take(pa.array(piece.rows)).combine_chunks()
        specs = tuple(makers[i].spec for i in piece.makers)
        name = _part_name(rows, specs, options)
        while f"media/{name}" in live:
            name = f"part-{blake2b(name.encode(), digest_size=12).hexdigest()}.parquet"
        digest.update(name.encode())
        batches.append(rows)
        tasks.append(HashTask(root, "", number, name, specs, options))
    name = f"{WORK}/slices-{digest.hexdigest()}.parquet"
    tables.write_row_groups(root, name, batches)
    return [task._replace(work=name) for task in tasks]


def _part_name(rows: pa.Table, specs: Sequence[str], options: HashingOptions) -> str:
    """Named by what it will hold: the same work done twice writes the same part."""
    ways = [options.policy.spec, options.sampling.spec, options.altering.stamp or str(options.isometric)]
    ways += [options.salt] if options.salt else []
    digest = blake2b("\0".join([*ways, *specs]).encode(), digest_size=12)
    for column in (rows["uri"], rows["version"]):
        digest.update("\0".join(column.to_pylist()).encode())
    return f"part-{digest.hexdigest()}.parquet"


def hash_slice(task: HashTask) -> Receipt | Unseen:
    """Read, decode and hash one slice; its hash parts are written first, its MEDIA part, the receipt, last."""
    begun = time.perf_counter()
    rows = tables.read_row_group(task.root, task.work, task.row_group)
    facts = Facts()
    with lease(task.specs, task.options) as child:
        replaced = child.replaced
        with closing(child.work(facts.items(rows, task.options))) as answers:
            receipt = write_slice(task, rows, facts, answers)
        if isinstance(receipt, Unseen):
            return receipt
        return receipt._replace(seconds=time.perf_counter() - begun, children_replaced=child.replaced - replaced)


def write_slice(task: HashTask, rows: pa.Table, facts: "Facts", answers: Iterable[Answer]) -> Receipt | Unseen:
    """Write what became of the items of a slice, unless some that were listed are not there to see."""
    makers = [maker(parse(spec), task.options.isometric, task.options.altering.stamp) for spec in task.specs]
    uris, versions = rows["uri"].to_pylist(), rows["version"].to_pylist()
    hashes = [_HashRows(maker.hasher) for maker in makers]
    for number, answer in enumerate(answers):
        facts.add(answer)
        for column, found in zip(hashes, answer.hashes, strict=False):
            column.add(uris[number], versions[number], found)
        for transform, image in zip(task.options.altering.transforms, answer.images, strict=False):
            if image is not None:
                storage.write(task.root, image_name(uris[number], transform), image)
    if not task.gone_is_confirmed and (unseen := facts.unseen(rows)):
        return Unseen(task, unseen)
    ways = task.options.ways
    made_by = {
        "decode": ways.decode,
        "sampling": ways.sampling if facts.sampled else None,
        "limits": ways.limits,
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    written = 0
    for one, column in zip(makers, hashes, strict=True):
        made = {**made_by, "hasher": one.stamp}
        written += tables.write_part(task.root, f"{one.folder}/{task.part}", column.table(), made)
    folders = tuple(one.folder for one in makers)
    media = f"media/{task.part}"
    written += tables.write_part(task.root, media, facts.table(rows), {**made_by, "folders": folders})
    return Receipt(media, folders, len(rows), dict(facts.failures), facts.bytes_read, written, 0.0, 0)


def image_name(uri: str, transform: str) -> str:
    """Where a picture that a transform made of an item lies, if these are kept."""
    return f"images/{folder_label(transform)}/{blake2b(uri.encode(), digest_size=12).hexdigest()}.png"


_OF_ANSWER = (
    "format",
    "width",
    "height",
    "duration_s",
    "frame_count",
    "partial",
    "error_class",
    "error_stage",
    "error",
)


class Facts:
    """The MEDIA columns of one slice, filled item by item."""

    def __init__(self) -> None:
        self.bytes_read = 0
        self.sampled = False  # whether rows depend on how frames are sampled
        self.failures: Counter[str] = Counter()
        self._digests: deque[tuple[str | None, str | None]] = deque()
        self._sizes: list[int | None] = []
        self._missing: set[int] = set()  # numbers of images that are not there
        self._columns: dict[str, list[Any]] = {
            field.name: [] for field in tables.MEDIA if field.name not in (*tables.LISTING.names, "stale")
        }

    def items(self, listing: pa.Table, options: HashingOptions) -> Iterator[Item | Answer]:
        """What the worker is given: the bytes of images, the uris of videos, or the reason why there are no bytes."""
        storage.limit_hosts(options.per_host)
        columns = (listing[name].to_pylist() for name in ("uri", "kind", "size", "place", "fault"))
        rows = [
            (kind, storage.Wanted(uri, size, storage.Member(**place) if place else None, fault))
            for uri, kind, size, place, fault in zip(*columns, strict=True)
        ]
        contents = storage.read_ahead(
            (item for kind, item in rows if kind == "image"),
            max_bytes=options.max_bytes,
            budget_bytes=options.read_budget_bytes,
        )
        for number, (kind, item) in enumerate(rows):
            content = next(contents) if kind == "image" else None
            if isinstance(content, storage.Content):
                self.bytes_read += len(content.data)
                self._digests.append((content.sha256, content.md5))
                self._sizes.append(len(content.data))
                yield content.data
            else:  # of a video, which is read by ranges, nobody sees all bytes
                self._digests.append((None, None))
                self._sizes.append(item.size)
                if content is None and item.fault:
                    content = UndecodableError(item.fault)
                if isinstance(content, MissingError):
                    self._missing.add(number)
                clip = Clip(item.uri, place=item.member, max_bytes=options.max_bytes)
                yield clip if content is None else failed(content, "read")

    def add(self, answer: Answer) -> None:
        """One more item; answers arrive in the order of the items."""
        sha256, md5 = self._digests.popleft() if self._digests else (None, None)
        self.sampled |= answer.sampled
        if answer.error_class:
            self.failures[answer.error_class] += 1
        row = {"sha256": sha256, "md5": md5} | {name: getattr(answer, name) for name in _OF_ANSWER}
        for name, value in row.items():
            self._columns[name].append(value)

    def unseen(self, listing: pa.Table) -> tuple[str, ...]:
        """Some uris that a listing saw, so that their size is known, and that are not there now."""
        uris, sizes, places = (listing[name].to_pylist() for name in ("uri", "size", "place"))
        kinds, classes = listing["kind"].to_pylist(), self._columns["error_class"]
        missing = (
            uri
            for number, uri in enumerate(uris)
            if sizes[number] is not None
            and classes[number] == "permanent"
            and (number in self._missing or (kinds[number] == "video" and is_gone(uri, places[number])))
        )
        return tuple(islice(missing, _SHOWN))

    def table(self, listing: pa.Table) -> pa.Table:
        """The MEDIA rows of the slice."""
        listed = {name: listing[name] for name in tables.LISTING.names}
        listed["size"] = pc.coalesce(
            listed["size"], pa.array(self._sizes or [None] * len(listing), pa.int64()), pa.scalar(0, pa.int64())
        )
        added = [pa.array(column, tables.MEDIA.field(name).type) for name, column in self._columns.items()]
        added.append(pa.nulls(len(listing), pa.string()))  # of `stale`
        carried = [field for field in listing.schema if field.name not in tables.LISTED.names]
        said = [listing[field.name] for field in carried]
        return pa.table([*listed.values(), *added, *said], schema=pa.schema([*tables.MEDIA, *carried]))


def is_gone(uri: str, place: dict[str, Any] | None = None) -> bool:
    """Whether an object, or the container that holds it, is not there for this process."""
    try:
        storage.facts(place["container"] if place else uri)
    except MissingError:
        return True
    except MediaError:
        return False
    return False


class _HashRows:
    """The HASHES rows of one slice and hasher, filled item by item."""

    def __init__(self, hasher: Hasher):
        self._schema = tables.hashes_schema(hash_type(hasher))
        self._columns: dict[str, list[Any]] = {field.name: [] for field in self._schema}

    def add(self, uri: str, item_version: str, rows: Sequence[HashRow]) -> None:
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


def _hash_array(packed: list[bytes | None], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(packed, kind)
    width = kind.list_size
    values = np.frombuffer(b"".join(one if one is not None else bytes(4 * width) for one in packed), np.float32)
    missing = pa.array([one is None for one in packed], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=missing)


def lease(specs: tuple[str, ...], options: HashingOptions) -> AbstractContextManager[Child | Inline]:
    """A child of this thread's own for these hashers and options, or what stands in for it, for the block's time."""
    return children.lease(_setup(specs, options))


def start_worker(specs: tuple[str, ...], options: HashingOptions) -> None:
    """Start a child that one of the first slices will want, and do not wait for it."""
    children.start(_setup(specs, options))


def close_worker() -> None:
    """End the children of this process that no slice has in use."""
    children.close_idle()


def _setup(specs: tuple[str, ...], options: HashingOptions) -> children.Setup:
    return children.Setup(
        specs,
        options.policy,
        options.limits if options.in_child else None,
        options.sampling,
        options.isometric,
        options.altering,
    )
