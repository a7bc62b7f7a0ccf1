"""Sidecars: what the `.json` and `.txt` members of an archive say of the media beside them.

As in WebDataset, members belong together whose names agree up to the first dot of the file's own name.
"""

import json
from collections.abc import Sequence
from typing import Any

from neardup.errors import MediaError
from neardup.storage.containers import Held, held_by_uri, is_archive
from neardup.storage.members import Entry
from neardup.storage.reading import Wanted, read_ahead

SUFFIXES = ("json", "txt")
_MAX_BYTES = 1 << 20  # a larger one is no description


class Sidecars:
    """The sidecars of one archive, read together."""

    def __init__(self, held: Sequence[Held]):
        found = [one for one in held if one.entry.name and one.entry.member and _parts(one.entry.name)[1] in SUFFIXES]
        wanted = (Wanted(one.uri, one.entry.size, one.entry.member) for one in found)
        self._texts: dict[tuple[str, str], str] = {}
        for one, content in zip(found, read_ahead(wanted, max_bytes=_MAX_BYTES), strict=True):
            if not isinstance(content, MediaError) and one.entry.name:
                self._texts[_parts(one.entry.name)] = content.data.decode("utf-8", "replace")

    def fields_of(self, name: str) -> dict[str, Any] | None:
        """The fields of the sidecars beside a member: those of a JSON object by name, a text as `txt`."""
        key = _parts(name)[0]
        fields: dict[str, Any] = {}
        if (text := self._texts.get((key, "json"))) is not None:
            fields = _of_json(text)
        if (text := self._texts.get((key, "txt"))) is not None:
            fields["txt"] = text
        return fields or None


def sidecars_of(container: str, uris: Sequence[str]) -> list[dict[str, Held]]:
    """The sidecars beside each of these members of one container, by suffix; rows of a Parquet file have none.

    Raises MissingError or TransientError where it cannot be read.
    """
    if not is_archive(container):
        return [{} for _ in uris]
    held = held_by_uri(container)
    found: dict[str, dict[str, Held]] = {}
    for uri, entry in held.items():
        key, suffix = _parts(entry.name or "")
        if entry.member and suffix in SUFFIXES and (entry.size or 0) <= _MAX_BYTES:
            found.setdefault(key, {}).setdefault(suffix, Held(uri, entry))
    none = Entry(None, None, None, None)
    return [found.get(_parts(held.get(uri, none).name or "")[0], {}) for uri in uris]


def _parts(name: str) -> tuple[str, str]:
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return folder + slash + stem, suffix.lower()


def _of_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"json": text}
    return value if isinstance(value, dict) else {"json": text}
