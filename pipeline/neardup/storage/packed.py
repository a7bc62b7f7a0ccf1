"""Compressed tars: read forwards as one stream, unpacked as it goes by; of it only the wanted bytes are held.

There is no way into its middle: what lies far in is reached by unpacking all that lies before. So members are read in
the order of their places in the unpacked stream, and a stream is kept open for those that come next.
"""

import bz2
import gzip
import lzma
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from neardup.errors import MediaError, UndecodableError
from neardup.storage import tars
from neardup.storage.members import Entry, Member
from neardup.storage.objects import facts, open_file

_CHUNK = 1 << 20
_AHEAD_BYTES = 8 << 20  # fetched at a time from a store
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 100  # more than these and so many times its size: no archive of media
_KEPT = 2  # streams, or as many as threads have read at a time


def _zstd(file: Any) -> Any:
    import pyarrow as pa  # of which the child has no use, but for this

    return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")


_UNPACKERS: dict[str, Callable[[Any], Any]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file),
    "tgz": lambda file: gzip.GzipFile(fileobj=file),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zst": _zstd,
}


def is_packed(container: str) -> bool:
    """Is it a compressed tar by its name?"""
    return container.rsplit(".", 1)[-1].lower() in _UNPACKERS


class _Stream:
    """An archive unpacked from front to back, as `tars` walks it."""

    def __init__(self, uri: str):
        found = facts(uri)
        self.uri, self.version = uri, found.version
        self.size = sys.maxsize  # until its end is met
        self.at = 0
        self.closed = False
        self._most = max(_BOMB_BYTES, _BOMB_RATIO * (found.size or 0))
        self._file = open_file(uri, _AHEAD_BYTES)
        self._unpacked = _UNPACKERS[uri.rsplit(".", 1)[-1].lower()](self._file)

    def read(self, start: int, length: int) -> bytes:
        """The bytes at a place not before `at`; fewer where the archive ends. Raises UndecodableError for damage."""
        while self.at < start and self._some(start - self.at):
            pass
        found = bytearray()
        while len(found) < length and (some := self._some(length - len(found))):
            found += some
        return bytes(found)

    def _some(self, most: int) -> bytes:
        if self.at > self._most:
            raise UndecodableError(f"it unpacks to over {_BOMB_RATIO} times its size, which no archive of media does")
        try:
            data = bytes(self._unpacked.read(min(most, _CHUNK)))
        except MediaError:
            raise
        except (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError) as error:
            raise UndecodableError(f"its compressed bytes are damaged: {error}") from error
        self.at += len(data)
        if not data:
            self.size = self.at
        return data

    def close(self) -> None:
        """Leave it."""
        self.closed = True
        self._unpacked.close()
        self._file.close()


def entries(container: str) -> Iterator[Entry]:
    """The members of a compressed tar in order, as `tars.entries` has them; their places are those in the stream."""
    stream = _Stream(container)
    try:
        for entry in tars.entries(stream):
            yield entry._replace(member=entry.member and entry.member._replace(kind="packed"))
    finally:
        stream.close()


def read(members: Sequence[Member]) -> Iterator[bytes | MediaError]:
    """The bytes of members of one archive, in the order of their places, one of them in memory at a time.

    Raises UndecodableError where the archive is damaged.
    """
    stream = _stream_before(members[0])
    place, data = -1, b""
    try:
        for member in members:
            if member.offset != place:  # a link has the place of what it links to
                if member.offset < stream.at:
                    stream.close()
                    _keep(stream)
                    stream = _stream_before(member)
                place, data = member.offset, stream.read(member.offset, member.packed)
            whole = len(data) == member.packed
            yield data if whole else UndecodableError("the archive ends before this member does")
    except GeneratorExit:  # nobody wants more; where the stream is, is known
        raise
    except BaseException:  # perhaps in the middle of a step: where it is, is not known
        stream.close()
        raise
    finally:
        _keep(stream)


_lock = threading.Lock()
_streams: list[_Stream] = []  # of this process, the last used at the end; taken out while in use, by one thread
_in_use: set[_Stream] = set()
_most = _KEPT


def _stream_before(member: Member) -> _Stream:
    """A stream that has not gone past a member: the nearest that is kept, if its archive is still the same, or new."""
    global _most
    while True:
        with _lock:
            before = [one for one in _streams if one.uri == member.container and one.at <= member.offset]
            stream = max(before, key=lambda one: one.at, default=None)
            if stream:
                _streams.remove(stream)
        if stream is None or _is_current(stream):
            break
    stream = stream or _Stream(member.container)
    with _lock:
        _in_use.add(stream)
        _most = max(_most, len(_in_use))
    return stream


def _is_current(stream: _Stream) -> bool:
    """Is its archive still the same? If not, it is closed."""
    current = False
    try:
        current = facts(stream.uri).version == stream.version
    finally:
        if not current:
            stream.close()
    return current


def _keep(stream: _Stream) -> None:
    """Take back a stream from the thread that used it."""
    with _lock:
        _in_use.discard(stream)
        if not stream.closed:
            _streams.append(stream)
        surplus = _streams[: max(0, len(_streams) - _most)]
        del _streams[: len(surplus)]
    for one in surplus:
        one.close()


def _forget() -> None:
    """In a fork of this process: what both have open has one place, and both would move it."""
    global _lock
    _lock = threading.Lock()
    _streams.clear()
    _in_use.clear()


os.register_at_fork(after_in_child=_forget)
