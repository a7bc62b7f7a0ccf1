"""What a benchmark makes of every item: its transforms with their names, and the category of each item."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neardup.errors import UsageError
from neardup.hashers import parse as parse_hasher
from neardup.hashers.spec import suggestion
from neardup.stages.live import Maker, maker
from neardup.transforms import parse
from neardup.work import Altering

NOOP = "noop"
_NO_CATEGORY = "(none)"
_NAME = re.compile(r"[^:+=]+=")


class Alterations(NamedTuple):
    """The names of transforms in the order given, the no-op first, and what the child does."""

    names: tuple[str, ...]
    altering: Altering  # with canonical texts, which are the variants of the hashes

    @property
    def by_name(self) -> dict[str, str]:
        """The canonical texts."""
        return dict(zip(self.names, self.altering.transforms, strict=True))


def read_alterations(transforms: Sequence[str], encode: str = "", keep_images: bool = False) -> Alterations:
    """The transforms that texts such as `blur:2`, `crop:0.05+jpeg:60` or `blur2=blur:2` (with a name) mean.

    The one named `noop` says how originals are hashed, and the others are applied to what it gives. Without one,
    originals stay as they are. Raises UsageError.
    """
    named = {}
    for text in transforms:
        name, spec = _split(text)
        if name in named:
            raise UsageError(f"two transforms are named {name!r}; give one another name: NAME={spec}")
        named[name] = spec
    noop = named.pop(NOOP, NOOP)
    for name, spec in named.items():
        if spec == noop:
            raise UsageError(f"transform {name!r} is the no-op itself; leave it out")
    by_spec = {spec: name for name, spec in named.items()}
    if len(by_spec) < len(named):
        twice = next(name for name, spec in named.items() if by_spec[spec] != name)
        raise UsageError(f"transform {named[twice]!r} is given twice; give each once")
    specs = (noop, *named.values())
    return Alterations((NOOP, *named), Altering(specs, parse(encode).spec if encode else "", keep_images))


def _split(text: str) -> tuple[str, str]:
    """The name and the canonical text of one transform; a text is its own name, and `noop:…` is the no-op."""
    name, spec = "", text
    if found := _NAME.match(text):
        name, spec = found[0][:-1].strip(), text[found.end() :]
    canonical = parse(spec).spec
    if not name:
        name = NOOP if re.fullmatch(r"noop(:[^+]*)?", spec.strip()) else spec.strip()
    return name, canonical


def altered_makers(specs: Sequence[str], altering: Altering) -> list[Maker]:
    """The makers of the altered hashes. Raises UsageError for a hasher whose hashes cannot be scored."""
    for spec in specs:
        if "@" in spec:
            raise UsageError(f"--hasher {spec!r}: a benchmark finds thresholds itself; leave out @{spec.split('@')[1]}")
    makers = [maker(parse_hasher(spec), altered=altering.stamp) for spec in specs]
    for one in makers:
        if one.hasher.distance_metric == "custom":
            raise UsageError(f"{one.spec} has a distance of its own, which a benchmark cannot compute; leave it out")
    return makers


# --- categories -------------------------------------------------------------------------------------------------------


def check_category(rule: str) -> None:
    """Raises UsageError unless the rule is `folder`, `column:NAME` (of MEDIA), or `pattern:REGEX`."""
    kind, _, rest = rule.partition(":")
    if rule.startswith("column:"):
        return
    if kind == "pattern" and rest:
        try:
            re.compile(rest)
        except re.error as error:
            raise UsageError(f"--category {rule!r} is not a regular expression: {error}") from error
    elif rule != "folder":
        raise UsageError(f"unknown --category {rule!r}; give folder, column:NAME or pattern:REGEX")


def check_category_column(rule: str, known: Sequence[str]) -> None:
    """Raises UsageError unless the column that the rule names is one of MEDIA's, those of lists included."""
    kind, _, column = rule.partition(":")
    if kind == "column" and column not in known:
        raise UsageError(f"--category {rule!r}: no column {column!r}; {suggestion(column, known)}")


def categories(media: pa.Table, rule: str) -> np.ndarray:
    """The category of each row of MEDIA, as text: its parent folder's name, a column, or what a pattern finds."""
    kind, _, rest = rule.partition(":")
    if kind == "column":
        try:
            found = media[rest].cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UsageError(f"--category {rule!r}: it is {media[rest].type}, which is no text or number") from error
    elif kind == "pattern":
        matches = [re.search(rest, uri) for uri in media["uri"].to_pylist()]
        found = pa.chunked_array([pa.array([one and (one[1] if one.re.groups else one[0]) for one in matches])])
    else:
        found = pc.extract_regex(media["uri"], r"(?P<folder>[^/]*)/[^/]*$").combine_chunks().field("folder")
    return np.asarray(pc.fill_null(found.cast(pa.string()), _NO_CATEGORY).to_pylist(), object)
