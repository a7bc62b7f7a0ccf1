"""One object: its facts, its bytes, some of its bytes, a file over it. Everything here is patient."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from fsspec.asyn import AsyncFileSystem, sync

from neardup.errors import MissingError, TransientError
from neardup.storage.hosts import host_of
from neardup.storage.retrying import patiently, translated
from neardup.storage.urls import is_local, open_filesystem

_RANGE_BYTES = 1 << 20  # fetched at a time where an object is read by ranges
_FAR_BYTES = 1 << 20  # places further apart than this are fetched one by one
_WINDOW_BYTES = 4 << 20
_GLANCE_BYTES = 8 << 10
# time limits of one attempt, where a store is asked on an event loop
LOOK_S = 15.0  # for the facts of an object
READ_S = 60.0  # for bytes, and more by their number: a server may be slow, but not as slow as it likes
SLOWEST_BYTES_PER_S = 8 << 10


class Facts(NamedTuple):
    """What a store says of an object. `version` changes whenever the content may have: etag, else mtime and size."""

    size: int | None  # None where the store does not say
    mtime: datetime | None
    version: str


def facts(uri: str) -> Facts:
    """The facts of one object. Raises MissingError, or TransientError after the last attempt."""

    return facts_of(_asked(uri, "info", LOOK_S))


def look_up(uri: str) -> dict[str, Any]:
    """What its store tells of an object or folder; raises as `facts` does, and says what an answer to HEAD cannot.

    S3 answers HEAD without a body, and so with a bare 403 where a clock is wrong or credentials are not accepted any
    more: a listing of one key, which is checked in the same way before any permission, says which it is.
    """
    return patiently(lambda: _looked_up(uri), uri)


def _looked_up(uri: str) -> dict[str, Any]:
    try:
        return dict(_asked_once(uri, "info", LOOK_S, 0))
    except Exception as error:
        if isinstance(translated(error), MissingError) and not isinstance(error, FileNotFoundError):
            _raise_what_may_pass(uri)
        raise


def _raise_what_may_pass(uri: str) -> None:
    """Raise what S3 says against a listing, where it is not for good."""
    filesystem, path = open_filesystem(uri)
    if not hasattr(filesystem, "call_s3"):
        return
    bucket, _, prefix = path.strip("/").partition("/")
    try:
        filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except Exception as error:
        if isinstance(translated(error), TransientError):
            raise


def time_limit_s(uri: str, usual_s: float, size: int = 0) -> float:
    """How long one attempt may take that gives so many bytes; less than usual where the host answers nothing."""
    host = host_of(uri)
    hurry_s = host.hurry_s if host else None
    return (usual_s if hurry_s is None else min(usual_s, hurry_s)) + size / SLOWEST_BYTES_PER_S


def _asked(uri: str, method: str, usual_s: float, **named: Any) -> Any:
    """What a filesystem's method gives for a uri, patiently, and within a time limit where it awaits its store."""
    return patiently(lambda: _asked_once(uri, method, usual_s, 0, **named), uri)


def _asked_once(uri: str, method: str, usual_s: float, size: int, **named: Any) -> Any:
    filesystem, path = open_filesystem(uri)
    if not isinstance(filesystem, AsyncFileSystem):
        return getattr(filesystem, method)(path, **named)
    limit_s = time_limit_s(uri, usual_s, size)
    timeout_s = None if limit_s == inf else limit_s
    return sync(filesystem.loop, getattr(filesystem, f"_{method}"), path, timeout=timeout_s, **named)


def facts_of(info: dict[str, Any]) -> Facts:
    """The facts in what fsspec tells about a file."""
    size = info.get("size")
    if info.get("islink") and (target := Path(info["name"])).exists():
        info = {**info, "mtime": target.stat().st_mtime}
    moment = info.get("LastModified") or info.get("mtime") or info.get("created") or info.get("Last-Modified")
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    elif isinstance(moment, str):
        try:
            moment = parsedate_to_datetime(moment)
        except ValueError:
            moment = None
    mtime = moment if isinstance(moment, datetime) else None
    etag = info.get("ETag") or info.get("etag")
    since = round(mtime.timestamp() * 1_000_000) if mtime else 0
    version = str(etag).strip('"') if etag else f"{since:x}-{size or 0:x}"
    return Facts(None if size is None else int(size), mtime, version)


def read_whole(uri: str) -> bytes:
    """The bytes of one object. Raises MissingError, or TransientError after the last attempt."""
    return bytes(_asked(uri, "cat_file", inf))


def read_at_most(uri: str, most: int) -> bytes:
    """The bytes of an object whose size nobody told, or its first `most` + 1 where it is larger."""

    if uri.startswith(("http://", "https://")):
        return bytes(_asked(uri, "first_bytes", inf, most=most + 1, slowest=(READ_S, SLOWEST_BYTES_PER_S)))

    def some() -> bytes:
        filesystem, path = open_filesystem(uri)
        with filesystem.open(path, "rb", **({} if is_local(uri) else {"block_size": 0})) as file:
            found = bytearray()
            while len(found) <= most and (more := file.read(min(_RANGE_BYTES, most + 1 - len(found)))):
                found += more
        return bytes(found)

    return patiently(some, uri)


def read_range(uri: str, start: int, end: int) -> bytes:
    """The bytes of an object from `start` to before `end`. Raises TransientError where there are fewer."""

    def some() -> bytes:
        data = bytes(_asked_once(uri, "cat_file", READ_S, end - start, start=start, end=end))
        if len(data) != end - start:
            raise TransientError(f"asked for {end - start:,} bytes at {start:,}, given {len(data):,}")
        return data

    return patiently(some, uri) if end > start else b""


@dataclass
class Window:
    """An object read forwards in places: near ones are fetched together, far ones each alone."""

    uri: str
    size: int
    _start: int = 0
    _data: bytes = b""
    _last: int = field(default=0, repr=False)

    def read(self, start: int, length: int) -> bytes:
        """The bytes at a place; fewer where the object ends."""
        end = min(start + length, self.size)
        if start >= end:
            return b""
        if not (self._start <= start and end <= self._start + len(self._data)):
            near = start - self._last < _FAR_BYTES
            ahead = max(length, _WINDOW_BYTES if near else _GLANCE_BYTES)
            self._start = start
            self._data = read_range(self.uri, start, min(start + ahead, self.size))
        self._last = start
        return self._data[start - self._start : end - self._start]


def open_file(uri: str, range_bytes: int = _RANGE_BYTES) -> BinaryIO:
    """A seekable file over one object, of which only the ranges that are read are fetched, so many bytes at a time.

    Opening and reading raise MissingError, or TransientError after the last attempt.
    """
    options = {} if is_local(uri) else {"block_size": range_bytes}

    def opened() -> Any:
        filesystem, path = open_filesystem(uri)
        return filesystem.open(path, "rb", **options)

    file = _PatientFile(patiently(opened, uri), uri)
    if not file.seekable():
        file.close()
        raise MissingError("its server gives no ranges, and so no file to seek in")
    return cast("BinaryIO", file)


class _PatientFile(io.RawIOBase):
    """A file whose reads are tried again where they may."""

    def __init__(self, file: Any, uri: str):
        self._file = file
        self._uri = uri

    def read(self, size: int | None = -1) -> bytes:
        position = self._file.tell()
        return patiently(lambda: (self._file.seek(position), bytes(self._file.read(size)))[1], self._uri)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def close(self) -> None:
        self._file.close()
        super().close()


class Section(io.RawIOBase):
    """A seekable file over a part of another: a member that lies in its archive as it is."""

    def __init__(self, opened: Callable[[], BinaryIO], start: int, length: int):
        self._file = opened()
        self._start, self._length, self._at = start, length, 0

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._length - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._start + self._at)
        data = self._file.read(wanted)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
