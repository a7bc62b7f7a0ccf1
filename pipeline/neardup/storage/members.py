"""Members of containers: where they lie, and what they are called.

A member is called by a chain that fsspec opens too (`tar://a.jpg::s3://b/shard.tar`) where its name is unique and safe;
otherwise by its number (`s3://b/shard.tar#member=7`), as the rows of a Parquet file are.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_ARCHIVES = {"tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"), "zip": (".zip",)}  # by protocol
_CHAINED = re.compile(r"(tar|zip)://(.+?)::(.+)", re.S)
_NUMBERED = re.compile(r"(.+\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz|zip|parquet))#member=(\d+)", re.S | re.I)
_UNSAFE = re.compile(r"::|[\x00-\x1f\ud800-\udfff]|^/|/$|^$|(^|/)\.\.(/|$)|\\")


class Member(NamedTuple):
    """Where the bytes of a member lie."""

    container: str  # uri
    kind: str  # tar (as it is), zip (as it is, after a header), deflate (in a zip), packed (in a compressed tar),
    # row (of a Parquet file)
    offset: int  # of the data in a tar or unpacked tar, of the header in a zip, number of the row in a Parquet file
    span: int  # bytes to fetch there; of a row: about
    packed: int  # bytes of data in the container
    crc: int | None = None  # CRC-32 of the unpacked bytes
    column: str | None = None  # of a row


class Entry(NamedTuple):
    """What a container holds, in its own words. Without a name it is the container itself that has a fault."""

    name: str | None
    size: int | None  # unpacked
    member: Member | None
    fault: str | None  # why it cannot be read


class Address(NamedTuple):
    """What the uri of a member says: its container, and its name or its number there."""

    container: str
    name: str | None
    number: int | None


def archive_protocol(name: str) -> str | None:
    """The protocol of chains into an archive, by its name; None for what is none."""
    return next((protocol for protocol, suffixes in _ARCHIVES.items() if name.lower().endswith(suffixes)), None)


def addresses(container: str, entries: Sequence[Entry]) -> list[str]:
    """The uri of each entry of a container: by name where that is unique and safe, else by number."""
    protocol = archive_protocol(container)
    often = Counter(entry.name for entry in entries)
    return [
        container
        if entry.name is None
        else numbered(container, number)
        if often[entry.name] > 1 or _UNSAFE.search(entry.name)
        else f"{protocol}://{entry.name}::{container}"
        for number, entry in enumerate(entries)
    ]


def numbered(container: str, number: int) -> str:
    """The uri of a member by its number."""
    return f"{container}#member={number}"


def address(uri: str) -> Address | None:
    """What the uri of a member says; None for a uri that is an object of its own."""
    if found := _CHAINED.fullmatch(uri):
        return Address(found[3], found[2], None)
    if found := _NUMBERED.fullmatch(uri):
        return Address(found[1], None, int(found[2]))
    return None


def container_of(uri: str) -> str:
    """The object that holds the bytes of a uri: its container, or itself."""
    found = address(uri)
    return found.container if found else uri
