"""The text forms of what to keep: criteria in the order in which they decide."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from neardup.errors import UsageError

MEASURES = ("duration", "pixels", "bytes", "mtime", "uri")
"""Criteria that put the smallest first: the fewest pixels, the oldest; with a minus in front, the largest."""
DEFAULT_KEEP = ("-duration", "-pixels", "-bytes", "mtime", "uri")


class Criterion(NamedTuple):
    """One criterion: a measure, a prefix of uris to prefer, or an order of formats."""

    name: str  # duration, pixels, bytes, mtime, uri, prefer, format
    descending: bool = False
    choices: tuple[str, ...] = ()  # the prefix, or the formats, best first

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name}:{'>'.join(self.choices)}"
        return f"{'-' * self.descending}{self.name}"


def parse_keep(texts: Sequence[str]) -> tuple[Criterion, ...]:
    """The criteria that these texts name, `uri` at the end, which leaves nothing undecided.

    Raises UsageError for one that cannot be meant, with the one that probably was.
    """
    criteria: list[Criterion] = []
    for text in texts:
        criterion = _parse(text)
        if criterion in criteria or criterion._replace(descending=not criterion.descending) in criteria:
            raise UsageError(f"--keep {text!r} comes twice, and the first decides; give it once")
        criteria.append(criterion)
    if all(criterion.name != "uri" for criterion in criteria):
        criteria.append(Criterion("uri"))
    return tuple(criteria)


def _parse(text: str) -> Criterion:
    name, colon, value = text.strip().partition(":")
    if name == "prefer" and colon:
        if not value:
            raise UsageError(f"--keep {text!r} names no prefix; write prefer:s3://bucket/folder/")
        return Criterion("prefer", choices=(value,))
    if name == "format" and colon:
        formats = tuple(one.strip().lower() for one in value.split(">"))
        if not all(formats) or len(set(formats)) < len(formats):
            raise UsageError(f"--keep {text!r}: name each format once, the best first, as in format:png>webp>jpeg")
        return Criterion("format", choices=formats)
    if name.removeprefix("-") in MEASURES and not colon:
        return Criterion(name.removeprefix("-"), name.startswith("-"))
    known = [f"{sign}{measure}" for measure in MEASURES for sign in ("", "-")] + ["prefer:", "format:"]
    close = difflib.get_close_matches(name + colon, known, 1)
    meant = f"did you mean {close[0] + value!r}?" if close else f"known are {', '.join(known)} (a minus: largest first)"
    raise UsageError(f"unknown --keep {text!r}; {meant}")
