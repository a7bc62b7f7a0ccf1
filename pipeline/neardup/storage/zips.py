"""Zip archives: where each member lies, by the central directory; and its bytes, inflated within a bound.

The directory may lie: sizes, places and checksums are held against what is found, and nothing grows beyond what was
said.
"""

import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Iterator

from neardup.errors import UndecodableError
from neardup.storage.members import Entry, Member
from neardup.storage.objects import Window

_LOCAL = struct.Struct("<4s5H3I2H")
LOCAL_BYTES = _LOCAL.size
_LOCAL_EXTRA_BYTES = 66 << 10  # room for what may lie between a local header and its data
_SLACK_BYTES = 64  # an extra field of the local header that the directory's has not
_MAX_DIRECTORY_BYTES = 1 << 30
_ENCRYPTED = 0x1


def entries(window: Window) -> Iterator[Entry]:
    """The members of a zip in the order of its directory; a single one without name where that cannot be read."""
    try:
        with zipfile.ZipFile(_Bounded(window)) as archive:
            found = archive.infolist()
            end = archive.start_dir
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        if isinstance(error, OSError) and not isinstance(error, ValueError):
            raise
        yield Entry(None, None, None, f"the archive is damaged: {error}")
        return
    places = sorted({info.header_offset for info in found} | {end})
    following = dict(itertools.pairwise(places))
    for info in found:
        if not info.is_dir():
            yield _entry(info, window.uri, end, following.get(info.header_offset, end))


def _entry(info: zipfile.ZipInfo, container: str, end: int, following: int) -> Entry:
    name, fault = info.filename, None
    kind = {zipfile.ZIP_STORED: "zip", zipfile.ZIP_DEFLATED: "deflate"}.get(info.compress_type)
    last = info.header_offset + _LOCAL.size + info.compress_size
    if info.flag_bits & _ENCRYPTED:
        fault = "it is encrypted"
    elif kind is None:
        fault = f"compression method {info.compress_type} is not read; deflate is"
    elif info.external_attr >> 28 == 0xA:
        fault = "it is a link, not a file"
    elif info.header_offset < 0 or last > end or (kind == "zip" and info.compress_size != info.file_size):
        fault = "the archive's directory says of it what cannot be"
    if fault or kind is None:
        return Entry(name, info.file_size, None, fault)
    header = _LOCAL.size + len(name.encode("utf-8", "surrogateescape")) + len(info.extra) + _SLACK_BYTES
    least = header + info.compress_size  # also where another is said to begin within it
    span = min(end - info.header_offset, max(least, min(following - info.header_offset, least + _LOCAL_EXTRA_BYTES)))
    return Entry(
        name, info.file_size, Member(container, kind, info.header_offset, span, info.compress_size, info.CRC), None
    )


def data_start(raw: bytes) -> int:
    """Where the data of a member begins in bytes that begin with its local header."""
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\3\4":
        raise UndecodableError("the archive's directory names a place where no member is")
    *_, name_length, extra_length = _LOCAL.unpack_from(raw)
    return int(_LOCAL.size + name_length + extra_length)


def unpacked(raw: bytes, member: Member, size: int) -> bytes:
    """The bytes of a member from the bytes at its place. Raises UndecodableError where the directory lied."""
    start = data_start(raw)
    packed = raw[start : start + member.packed]
    data = _inflated(packed, size) if member.kind == "deflate" else packed
    if len(data) != size:
        raise UndecodableError(f"{size:,} bytes by the archive's directory, in truth fewer or more")
    if member.crc is not None and zlib.crc32(data) != member.crc:
        raise UndecodableError("its checksum in the archive is not that of its bytes")
    return data


def _inflated(packed: bytes, size: int) -> bytes:
    """What deflated bytes hold, one byte more than they should at most."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    except zlib.error as error:
        raise UndecodableError(f"its bytes in the archive are damaged: {error}") from error


class _Bounded(io.RawIOBase):
    """A file over an archive, for `zipfile`, that never reads more than a directory may take."""

    def __init__(self, window: Window):
        self._window, self._at = window, 0

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._window.size - self._at if size is None or size < 0 else size
        if wanted > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"a directory of {wanted:,} bytes")
        data = self._window.read(self._at, wanted)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._window.size}[whence]
        if base + offset < 0:
            raise zipfile.BadZipFile("a place before its beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
