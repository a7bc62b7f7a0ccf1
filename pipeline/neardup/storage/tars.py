"""Tar archives: where each member lies, found header by header, without unpacking anything.

The headers are walked by us and parsed by `tarfile`: its own walk goes backwards over negative sizes, and reads headers
of any length into memory. Of the format: ustar, pax and GNU long names; GNU sparse files are refused.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from neardup.storage.members import Entry, Member

_BLOCK = 512
_MAX_HEADER_BYTES = 1 << 20  # of a long name or of pax records


class Source(Protocol):
    """What holds a tar: an object, or a stream that is unpacked. It is read forwards."""

    uri: str
    size: int

    def read(self, start: int, length: int) -> bytes:
        """The bytes at a place; fewer where it ends. Raises ValueError for damage."""
        ...


@dataclass(frozen=True)
class _Said:
    """What extension headers say of the member after them."""

    name: str | None = None
    link: str | None = None
    size: int | None = None
    sparse: bool = False


def entries(window: Source) -> Iterator[Entry]:
    """The members of a tar in order, links and special files with a fault; a nameless last one for damage."""
    at = 0
    said = _Said()
    placed: dict[str, Member] = {}
    damaged = None
    while True:
        try:
            block = window.read(at, _BLOCK)
            if len(block) < _BLOCK:
                damaged = "the archive is cut off" if at != window.size or not at else None
                break
            if not any(block):
                break
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            extension = header.type in (b"x", b"X", b"g", b"L", b"K")
            size = header.size if said.size is None or extension else said.size
            if size < 0:
                raise tarfile.HeaderError("negative size")
            body = at + _BLOCK
            if extension:
                said = _heard(said, header.type, _text_of(window, body, size))
        except (tarfile.HeaderError, ValueError, UnicodeError) as error:
            damaged = f"the archive is damaged at byte {at:,}: {error}"
            break
        at = body + -(-size // _BLOCK) * _BLOCK if _has_data(header) else body
        if extension:
            continue
        entry = _entry(header, said, Member(window.uri, "tar", body, size, size), window.size, placed)
        said = _Said()
        if entry:
            yield entry
    if damaged:
        yield Entry(None, None, None, damaged)


def _entry(
    header: tarfile.TarInfo, said: _Said, member: Member, archive_size: int, placed: dict[str, Member]
) -> Entry | None:
    name = said.name if said.name is not None else header.name
    if header.isdir():
        return None
    if said.sparse or header.type == tarfile.GNUTYPE_SPARSE:
        return Entry(name, None, None, "sparse files in archives are not read")
    if header.islnk():
        target = said.link if said.link is not None else header.linkname
        if target in placed:
            return Entry(name, placed[target].packed, placed[target], None)
        return Entry(name, None, None, "it is a link to what the archive does not hold before it")
    if not header.isfile():
        return Entry(name, None, None, "it is a link or a device, not a file")
    if member.offset + member.span > archive_size:
        return Entry(name, member.packed, None, "the archive ends before this member does")
    placed[name] = member
    return Entry(name, member.packed, member, None)


def _has_data(header: tarfile.TarInfo) -> bool:
    """Links, folders and devices have a size now and then, but nothing after their header."""
    return not (header.islnk() or header.issym() or header.isdir() or header.isdev())


def _text_of(window: Source, start: int, size: int) -> bytes:
    if size > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {size:,} bytes")
    text = window.read(start, size)
    if len(text) < size:
        raise ValueError("cut off")
    return text


def _heard(said: _Said, kind: bytes, body: bytes) -> _Said:
    if kind == b"L":
        return replace(said, name=body.rstrip(b"\0").decode("utf-8", "surrogateescape"))
    if kind == b"K":
        return replace(said, link=body.rstrip(b"\0").decode("utf-8", "surrogateescape"))
    if kind == b"g":
        return said  # what it says of all members (comments, times) changes no name and no size in practice
    records = dict(_pax_records(body))
    return replace(
        said,
        name=records.get("path", said.name),
        link=records.get("linkpath", said.link),
        size=int(records["size"]) if "size" in records else said.size,
        sparse=any(key.startswith("GNU.sparse") for key in records),
    )


def _pax_records(body: bytes) -> Iterator[tuple[str, str]]:
    """The `length key=value` records of a pax header."""
    while body.strip(b"\0"):
        length = int(body.split(b" ", 1)[0])
        if not 4 < length <= len(body):
            raise ValueError("a pax record of impossible length")
        key, equals, value = body[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        if not equals:
            raise ValueError("a pax record without a value")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        body = body[length:]
