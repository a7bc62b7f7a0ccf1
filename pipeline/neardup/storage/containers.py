"""Containers opened: what an archive holds, and the one member that a uri names."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from neardup.errors import MissingError, UndecodableError
from neardup.storage import packed, tars, zips
from neardup.storage.members import Address, Entry, Member, address, addresses, archive_protocol, numbered
from neardup.storage.objects import Window, facts

_WALKS: dict[str | None, Callable[[Window], Iterator[Entry]]] = {"tar": tars.entries, "zip": zips.entries}


class Held(NamedTuple):
    """One entry of an archive with its uri."""

    uri: str
    entry: Entry


def is_archive(name: str) -> bool:
    """Is it an archive by its name?"""
    return archive_protocol(name) is not None


def held_in(container: str, size: int) -> list[Held]:
    """Everything an archive holds, in its order. Raises MissingError or TransientError where it cannot be read."""
    if packed.is_packed(container):
        entries = list(packed.entries(container))
    else:
        entries = list(_WALKS[archive_protocol(container)](Window(container, size)))
    return [Held(uri, entry) for uri, entry in zip(addresses(container, entries), entries, strict=True)]


def located(uri: str, named: Address) -> tuple[Member, int | None]:
    """The member that a uri names, and its unpacked size where that is known; its container is walked to find it.

    Raises MissingError where there is none, UndecodableError where it cannot be read.
    """
    (entry,) = find_members(named.container, [uri])
    if entry is None:
        raise MissingError(f"{named.container} holds no such member")
    if entry.fault or entry.member is None:
        raise UndecodableError(entry.fault or "it has no bytes")
    return entry.member, entry.size


def find_members(container: str, uris: Sequence[str], column: str | None = None) -> list[Entry | None]:
    """What these uris of one container name, in order, with one look through it; None for what it does not hold.

    Of a Parquet file it is the image bytes of a `column`, if it has them there, else where they usually are. Raises
    MissingError or TransientError where it cannot be read, UndecodableError where it is no container.
    """
    if container.lower().endswith(".parquet"):
        numbers = [named.number if (named := address(uri)) else None for uri in uris]
        return _rows(container, numbers, column)
    held = held_by_uri(container)
    return [held.get(uri) for uri in uris]


def held_by_uri(container: str) -> dict[str, Entry]:
    """The entries of an archive by uri; each under its number too."""
    if not is_archive(container):
        raise MissingError(f"not an archive by its name: {container}")
    found = facts(container)
    return _index(container, found.size or 0, found.version)


@lru_cache(maxsize=8)
def _index(container: str, size: int, version: str) -> dict[str, Entry]:
    del version  # another content is another index
    held = held_in(container, size)
    found = {numbered(container, number): one.entry for number, one in enumerate(held)}
    return found | {one.uri: one.entry for one in held if one.entry.name is not None}


def _rows(container: str, numbers: Sequence[int | None], wanted: str | None) -> list[Entry | None]:
    from neardup.storage import rows  # brings Arrow, of which the child has no use

    with rows.opened(container) as file:
        column = rows.bytes_column(file.schema_arrow, wanted) or rows.bytes_column(file.schema_arrow, None)
        if column is None:
            return [None] * len(numbers)
        spans = rows.estimates(file, column).tolist()
    return [
        Entry(str(number), None, Member(container, "row", number, spans[number], 0, None, column), None)
        if number is not None and number < len(spans)
        else None
        for number in numbers
    ]
