"""Whether a worker sees the stores as the driver does: a small write and read of the output, a look at some inputs."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from neardup import storage
from neardup.errors import MediaError, NeardupError
from neardup.stages.listing import Listing
from neardup.stages.live import WORK

Probe = Callable[[], str | None]


@contextmanager
def probing(root: str, uris: Sequence[str]) -> Iterator[Probe]:
    """A probe for workers: what is wrong with the output or these objects there, None if nothing is.

    Objects that the driver itself does not see now are not asked for. What was written for it goes with the block.
    """
    token = secrets.token_hex(6)
    storage.write(root, _name(token), token.encode())
    try:
        yield partial(fault_of_stores, root, token, [uri for uri in uris if _fault(uri) is None])
    finally:
        left = [name for name in storage.list_folder(f"{root}/{WORK}") if name.startswith(f"probe-{token}")]
        storage.delete(root, [f"{WORK}/{name}" for name in left])


def some_objects(listing: Listing) -> list[str]:
    """The first, middle and last object of those that a listing saw, by uri."""
    rows = next(listing.buckets(), None)
    uris = [] if rows is None else rows.filter(rows["size"].is_valid())["uri"].to_pylist()
    some = [uris[0], uris[len(uris) // 2], uris[-1]] if uris else []
    return list(dict.fromkeys(storage.container_of(uri) for uri in some))


def fault_of_stores(root: str, token: str, uris: Sequence[str]) -> str | None:
    """What this process cannot do of what a worker must, in words; None if nothing."""
    try:
        if storage.read(root, _name(token)) is None:
            return (
                f"it does not see the output {storage.redacted(root)}: the folder is not shared, or not mounted there"
            )
        name = f"{_name(token)}-{secrets.token_hex(6)}"
        storage.write(root, name, b"")
        storage.delete(root, [name])
    except NeardupError as error:
        return str(error)
    return next((fault for uri in uris if (fault := _fault(uri))), None)


def _name(token: str) -> str:
    return f"{WORK}/probe-{token}"


def _fault(uri: str) -> str | None:
    try:
        storage.facts(uri)
    except MediaError as error:
        return f"it does not see {storage.redacted(uri)}: {error}"
    return None
