"""Copies of objects, byte for byte, held against their digests."""

import hashlib
from collections.abc import Callable
from typing import BinaryIO

from neardup.errors import MissingError, UsageError
from neardup.storage.parts import writing
from neardup.storage.reading import open_object

Opener = Callable[[], BinaryIO]  # of a file; opening and reading it raise MediaError
_COPY_BYTES = 8 << 20  # held while a file is copied


def copy(uri: str, root: str, name: str, sha256: str | None, opened: Opener | None = None) -> bool:
    """Copy one object byte for byte to `name`, whole or not at all; False when it is there already.

    It is read from what is `opened`, if that is given. Raises MissingError, UndecodableError or TransientError for what
    cannot be read; UsageError where another file has that name, and where the object's content is not that of `sha256`.
    """
    opened = opened or (lambda: open_object(uri))
    there = _digest(lambda: open_object(f"{root}/{name}"))
    if there is not None:
        if there != (sha256 or _digest(opened)):
            raise UsageError(f"{root}/{name} exists and is another file; nothing is overwritten: give another folder")
        return False
    digest = hashlib.sha256()
    with opened() as source, writing(root, name) as target:
        while chunk := source.read(_COPY_BYTES):
            digest.update(chunk)
            target.write(chunk)
        if sha256 not in (None, digest.hexdigest()):
            raise UsageError(f"{uri} has changed since it was hashed; run the job that hashed it again")
    return True


def _digest(opened: Opener) -> str | None:
    """The SHA-256 of an object, None when there is none."""
    digest = hashlib.sha256()
    try:
        with opened() as source:
            while chunk := source.read(_COPY_BYTES):
                digest.update(chunk)
    except MissingError:
        return None
    return digest.hexdigest()
