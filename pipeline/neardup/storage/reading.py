"""Bulk reads: many objects and members at once, in order, within a budget of bytes; and single ones."""

import asyncio
import hashlib
import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, BinaryIO, NamedTuple, cast

from fsspec.asyn import AsyncFileSystem

from neardup.errors import MediaError, PolicyError, TransientError, UndecodableError
from neardup.storage import packed, zips
from neardup.storage.containers import located
from neardup.storage.members import Member, address
from neardup.storage.objects import READ_S, Section, open_file, read_at_most, read_range, read_whole, time_limit_s
from neardup.storage.retrying import patiently_async
from neardup.storage.urls import CONNECTIONS, is_local, local_path, open_filesystem

_LOCAL_READS = 8  # under way at a time on a disk
_STREAMED = ("row", "packed")  # members that are read one after the other
_UNIT_BYTES = 4 << 20  # neighbours in an archive are fetched together up to this size
_GAP_BYTES = 64 << 10  # fetched for nothing at most, between two neighbours
_UNKNOWN_BYTES = 4 << 20  # what an object of unknown size counts in the budget
_MAX_BYTES = 512 << 20


class Wanted(NamedTuple):
    """One item to read: its size where that is known, and where its bytes lie in a container."""

    uri: str
    size: int | None
    member: Member | None = None
    fault: str | None = None  # why it need not be tried


class Content(NamedTuple):
    """The bytes of one object, with their digests."""

    data: bytes
    sha256: str
    md5: str


Outcome = Content | MediaError


def read_ahead(
    items: Iterable[tuple[str, int | None] | Wanted], *, max_bytes: int, budget_bytes: int = 128 << 20
) -> Iterator[Outcome]:
    """The content of each item in order, read concurrently ahead of the caller, or why it could not be had.

    At most `budget_bytes` are held or under way (one larger object is read alone); objects over `max_bytes`
    are not read. Neighbours in an archive are fetched together. Transient errors are tried again with exponential
    backoff and full jitter.
    """
    waiting: deque[tuple[Future[list[Outcome]], int]] = deque()
    held = 0
    units = _units((Wanted(*item) for item in items), max_bytes, min(_UNIT_BYTES, budget_bytes))
    following = next(units, None)
    most = _LOCAL_READS if following and is_local(following.source) else CONNECTIONS
    with ThreadPoolExecutor(most, thread_name_prefix="read") as pool:
        try:
            while waiting or following:
                while following and (
                    not waiting or (held + following.size <= budget_bytes and len(waiting) < 4 * most)
                ):
                    if following.kind == "stream" and waiting:
                        break
                    if following.kind == "stream":
                        yield from _streamed(following.items, max_bytes)
                    else:
                        waiting.append((_begun(following, max_bytes, pool), following.size))
                        held += following.size
                    following = next(units, None)
                if waiting:
                    future, size = waiting.popleft()
                    yield from future.result()
                    del future  # the bytes belong to the caller now
                    held -= size
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# --- units ------------------------------------------------------------------------------------------------------------


class _Unit(NamedTuple):
    """Items that one request fetches, or that come one after the other."""

    items: list[Wanted]
    kind: str  # whole, range, stream
    source: str  # uri of what is opened
    size: int  # bytes it counts


def _units(items: Iterable[Wanted], max_bytes: int, most_bytes: int) -> Iterator[_Unit]:
    """The items as units, in order: neighbours in an archive together, and all that one stream gives."""
    run: list[Wanted] = []
    for item in items:
        if run and not _belongs(run, item, max_bytes, most_bytes):
            yield _unit(run)
            run = []
        run.append(item)
    if run:
        yield _unit(run)


def _belongs(run: list[Wanted], item: Wanted, max_bytes: int, most_bytes: int) -> bool:
    first, last, here = run[0].member, run[-1].member, item.member
    if not first or not last or not here or here.container != first.container:
        return False
    if first.kind in _STREAMED:
        return here.offset >= last.offset
    gap = here.offset - (last.offset + last.span)
    over = any((one.size or 0) > max_bytes for one in (run[-1], item))
    fits = _end([*run, item]) - first.offset <= most_bytes
    return here.offset >= last.offset and gap <= _GAP_BYTES and fits and not over


def _end(run: list[Wanted]) -> int:
    return max(item.member.offset + item.member.span for item in (run[0], run[-1]) if item.member)


def _unit(run: list[Wanted]) -> _Unit:
    member = run[0].member
    if member and member.kind in _STREAMED:
        return _Unit(run, "stream", member.container, 0)
    if member:
        size = max(_end(run) - member.offset, sum(item.size or 0 for item in run))
        return _Unit(run, "range", member.container, size)
    return _Unit(run, "whole", run[0].uri, _UNKNOWN_BYTES if run[0].size is None else run[0].size)


def _begun(unit: _Unit, max_bytes: int, pool: ThreadPoolExecutor) -> "Future[list[Outcome]]":
    """Begin to read a unit: on the event loop of a store that has one, which costs no thread; else on a thread."""
    (item, *others) = unit.items
    if unit.kind == "whole" and not others and item.size is not None and not _refused(item, max_bytes):
        try:
            filesystem, path = open_filesystem(item.uri)
        except Exception:  # a thread finds out why, and what that means
            filesystem, path = None, ""
        if isinstance(filesystem, AsyncFileSystem) and address(item.uri) is None:
            return asyncio.run_coroutine_threadsafe(_read_awaited(filesystem, path, item), filesystem.loop)
    return pool.submit(_read_unit, unit, max_bytes)


async def _read_awaited(filesystem: AsyncFileSystem, path: str, item: Wanted) -> list[Outcome]:
    size = item.size or 0

    async def whole() -> bytes:
        async with asyncio.timeout(time_limit_s(item.uri, READ_S, size)):
            return bytes(await filesystem._cat_file(path))

    try:
        return [_digested(_checked(await patiently_async(whole, item.uri), size))]
    except MediaError as error:
        return [error]


def _read_unit(unit: _Unit, max_bytes: int) -> list[Outcome]:
    found: list[Outcome] = []
    raw: bytes | MediaError = b""
    start = 0
    if unit.kind == "range":
        readable = [item.member for item in unit.items if item.member and not _refused(item, max_bytes)]
        if readable:
            start = readable[0].offset
            raw = _tried(read_range, unit.source, start, max(one.offset + one.span for one in readable))
    for item in unit.items:
        if refusal := _refused(item, max_bytes):
            found.append(refusal)
        elif item.member is None:
            found.append(_digested(_tried(_whole, item, max_bytes)))
        elif isinstance(raw, MediaError):
            found.append(raw)
        else:
            member = item.member
            piece = raw[member.offset - start : member.offset - start + member.span]
            found.append(_digested(_tried(_taken, piece, member, item.size)))
    return found


def _refused(item: Wanted, max_bytes: int) -> MediaError | None:
    if item.fault:
        return UndecodableError(item.fault)
    if item.size is not None and item.size > max_bytes:
        return PolicyError(f"{item.size:,} bytes are over the limit of {max_bytes:,} (--max-bytes)")
    return None


def _tried(action: Callable[..., bytes], *arguments: Any) -> bytes | MediaError:
    try:
        return action(*arguments)
    except MediaError as error:
        return error


def _whole(item: Wanted, max_bytes: int) -> bytes:
    if item.size is None:
        data = read_object(item.uri, max_bytes)
        if len(data) > max_bytes:
            raise PolicyError(f"over the limit of {max_bytes:,} bytes (--max-bytes)")
        return data
    return _checked(read_object(item.uri), item.size)


def _checked(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise TransientError(f"changed while the run was on: {size:,} bytes when listed, {len(data):,} when read")
    return data


def _taken(raw: bytes, member: Member, size: int | None) -> bytes:
    """The bytes of a member from the bytes at its place."""
    return raw if member.kind == "tar" else zips.unpacked(raw, member, size or 0)


def _streamed(items: list[Wanted], max_bytes: int) -> Iterator[Outcome]:
    """Members of one container, one after the other; where reading it fails, every one that is left says so."""
    wanted = [item.member for item in items if item.member and not _refused(item, max_bytes)]
    failure: MediaError | None = None
    with closing(_stream_of(wanted)) as found:
        for item in items:
            outcome: Outcome | None = _refused(item, max_bytes) or failure
            if outcome is None:
                try:
                    outcome = _digested(next(found))
                    if isinstance(outcome, Content):
                        outcome = _refused(Wanted("", len(outcome.data)), max_bytes) or outcome
                except MediaError as error:
                    outcome = failure = error
            yield outcome


def _stream_of(members: list[Member]) -> Generator[bytes | MediaError]:
    """The bytes of members of one container, in the order of their places."""
    if members and members[0].kind == "packed":
        yield from packed.read(members)
    elif members:
        from neardup.storage import rows  # brings Arrow, of which the child has no use

        yield from rows.read(members)


def _digested(data: bytes | MediaError) -> Outcome:
    if isinstance(data, MediaError):
        return data
    # md5 names content in matching services; it guards nothing here
    return Content(data, hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest())


# --- single objects ---------------------------------------------------------------------------------------------------


def read_object(uri: str, max_bytes: int | None = None) -> bytes:
    """The bytes of one object or member; with `max_bytes`, not many more than those.

    Raises MissingError, UndecodableError for a damaged container, or TransientError after the last attempt.
    """
    member, size = _member(uri)
    if member is None:
        return read_whole(uri) if max_bytes is None else read_at_most(uri, max_bytes)
    return _read_member(member, size)


def _read_member(member: Member, size: int | None) -> bytes:
    if member.kind in _STREAMED:
        (data,) = _stream_of([member])
        if isinstance(data, MediaError):
            raise data
        return data
    return _taken(read_range(member.container, member.offset, member.offset + member.span), member, size)


def open_object(uri: str, max_bytes: int = _MAX_BYTES, place: Member | None = None) -> BinaryIO:
    """A seekable file over one object or member, of which only the ranges that are read are fetched.

    The `place` of a member, where it is known, spares a look through its container. What lies compressed in there, or
    in a row, is held in memory, up to `max_bytes`: PolicyError beyond. Opening and reading raise MissingError,
    UndecodableError for a damaged container, or TransientError after the last attempt.
    """
    member, size = (place, place.packed) if place and place.kind in ("tar", "zip", "packed") else _member(uri)
    if member is None:
        return open_file(uri)
    if member.kind == "tar":
        return _section(member, member.offset)
    if member.kind == "zip":
        head = read_range(member.container, member.offset, member.offset + min(member.span, zips.LOCAL_BYTES))
        return _section(member, member.offset + zips.data_start(head))
    if size is not None and size > max_bytes:
        raise PolicyError(f"{size:,} bytes to unpack are over the limit of {max_bytes:,} (--max-bytes)")
    return io.BytesIO(_read_member(member, size))


def _section(member: Member, start: int) -> BinaryIO:
    return cast("BinaryIO", Section(lambda: open_file(member.container), start, member.packed))


def _member(uri: str) -> tuple[Member | None, int | None]:
    """Where the member that a uri names lies; None for an object of its own."""
    named = address(uri)
    path = local_path(uri)
    if named is None or (path and path.exists()):  # a file may be called x.tar#member=1
        return None, None
    return located(uri, named)
