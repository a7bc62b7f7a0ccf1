"""The manifest: which parts of an output are live, and what it has replaced.

Each manifest is numbered, names the digest of the one that it replaces and the run that wrote it, and takes its place
only if that one is still there. So a run begins with a manifest of its own (a fence): from then on no earlier run can
commit, however long it was away. What a commit makes dead is named in it before it is deleted, so that later runs
neither build on it nor use its names while the deleter may still be under way.
"""

import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from neardup.errors import ClaimError, RefusedError, RunError, UsageError
from neardup.storage.parts import delete, read, unfinished
from neardup.storage.swaps import Stored, read_stored, swap

MANIFEST = "manifest.json"
_FORMAT = 2
_SURE_S = 2.0  # how long after a look a run still deletes without another
_BATCH = 100  # names deleted between looks at the clock
_ATTEMPTS = 20


@dataclass(frozen=True)
class Manifest:
    """One manifest: the live parts and the chain that it belongs to."""

    tables: Mapping[str, Sequence[str]] = field(default_factory=dict)  # table folder → part names
    number: int = 0  # one more than that of its parent
    parent: str | None = None  # digest of the text that it replaced
    run: str | None = None  # random name of the run that wrote it
    open: bool = False  # may that run still be at work?
    dead: Sequence[str] = ()  # what that run deletes after this manifest, or has deleted
    avoid: Sequence[str] = ()  # what earlier runs, of which nobody knows whether they live, may still delete


class Commits:
    """The manifests of one run: each replaces the one before, or the run has lost its output and deletes nothing."""

    def __init__(self, root: str, stored: Stored | None) -> None:
        self.root = root
        self.run = secrets.token_hex(8)
        self.salt = ""  # in the names of new parts, where an earlier run might still write parts of the same names
        self.manifest = _parsed(root, stored)
        self._stored = stored
        self._looked = time.monotonic()

    @property
    def digest(self) -> str | None:
        """The digest of the manifest as it is stored now."""
        return _digest(self._stored)

    def commit(self, tables: Mapping[str, Collection[str]], dead: Sequence[str] = ()) -> None:
        """Make exactly these parts live, by one write, then delete the dead. Raises ClaimError if it is another's."""
        self._write(replace(self.manifest, tables=_sorted(tables), dead=sorted(dead)))
        self.delete(self.manifest.dead)

    def delete(self, names: Sequence[str]) -> None:
        """Delete files that no manifest will name again; stops with a ClaimError once another run has begun."""
        for start in range(0, len(names), _BATCH):
            if time.monotonic() - self._looked > _SURE_S:
                self.check()
            delete(self.root, names[start : start + _BATCH])

    def check(self) -> None:
        """Raise ClaimError if another run has written a manifest since."""
        now = read_stored(self.root, MANIFEST)
        if now is None or self._stored is None or now.tag != self._stored.tag:
            raise _lost(self.root)
        self._looked = time.monotonic()

    def fence(self, alone: bool) -> bool:
        """Begin: no earlier run can commit after this. False if one did at this moment, so that all is to be read anew.

        `alone` says that the run before is known to be over; what it has left undone is done here.
        """
        before, leftovers = self.manifest, unfinished(self.root)
        if before.open and not alone:
            self.salt = self.run
            self.manifest = replace(before, avoid=sorted({*before.avoid, *before.dead}))
        try:
            self._write(replace(self.manifest, open=True))
        except ClaimError:
            return False
        self.delete([*before.dead, *leftovers])
        return True

    def close(self, finished: bool) -> None:
        """Say that the run is over; `finished` if all that it was to delete is deleted. It may be too late to say."""
        with suppress(RunError):
            self._write(replace(self.manifest, open=False, dead=() if finished else self.manifest.dead))

    def _write(self, manifest: Manifest) -> None:
        after = replace(manifest, number=self.manifest.number + 1, parent=_digest(self._stored), run=self.run)
        stored = swap(self.root, MANIFEST, self._stored, _text(after))
        if stored is None:
            raise _lost(self.root)
        self.manifest, self._stored, self._looked = after, stored, time.monotonic()


def fence(root: str, alone: bool = False) -> Commits:
    """The commits of a new run. From here on no earlier run can commit to this output."""
    for _ in range(_ATTEMPTS):
        commits = Commits(root, read_stored(root, MANIFEST))
        if commits.fence(alone):
            return commits
    raise ClaimError(f"{root} is being written by several runs at this moment; end all but one and try again")


def read_manifest(root: str) -> dict[str, list[str]]:
    """The live parts of every table: table folder → part names. Empty before the first commit."""
    try:
        data = read(root, MANIFEST)
    except RefusedError as error:  # looked at before any work begins
        raise UsageError(f"the output cannot be used: {error}; choose another with --output") from error
    return {
        table: list(names) for table, names in _parsed(root, None if data is None else Stored(data, "")).tables.items()
    }


def commit_manifest(root: str, manifest: Mapping[str, Collection[str]]) -> None:
    """Make exactly these parts live, by one write, whoever is at work; nothing is deleted."""
    commits = Commits(root, read_stored(root, MANIFEST))
    commits.commit(manifest)


def _lost(root: str) -> ClaimError:
    return ClaimError(f"{root} was taken over by another run; this run stops without committing")


def _digest(stored: Stored | None) -> str | None:
    return blake2b(stored.data, digest_size=16).hexdigest() if stored else None


def _sorted(tables: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    return {table: sorted(names) for table, names in sorted(tables.items()) if names}


def _text(manifest: Manifest) -> bytes:
    facts = {
        "format": _FORMAT,
        "number": manifest.number,
        "parent": manifest.parent,
        "run": manifest.run,
        "open": manifest.open,
        "tables": manifest.tables,
        "dead": list(manifest.dead),
        "avoid": list(manifest.avoid),
    }
    return json.dumps(facts, indent=1).encode()


def _parsed(root: str, stored: Stored | None) -> Manifest:
    if stored is None:
        return Manifest()
    try:
        facts = json.loads(stored.data)
        tables = {str(table): [str(name) for name in names] for table, names in facts["tables"].items()}
        newer = int(facts.get("format", 1)) > _FORMAT
        manifest = Manifest(
            tables,
            int(facts.get("number", 0)),
            facts.get("parent"),
            facts.get("run"),
            bool(facts.get("open", False)),
            [str(name) for name in facts.get("dead", [])],
            [str(name) for name in facts.get("avoid", [])],
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{root}/{MANIFEST} is damaged; restore it or start with a new output") from error
    if newer:
        raise UsageError(f"{root} was written by a newer version of neardup; use that one, or a new output")
    return manifest
