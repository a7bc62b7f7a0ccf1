"""Whole parts: files of an output that are there as a whole or not at all."""

import errno
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fsspec.spec import AbstractBufferedFile

from neardup.errors import MissingError, NeardupError, OutputError, RefusedError, RunError
from neardup.storage.objects import open_file
from neardup.storage.retrying import first_line, patiently, translated
from neardup.storage.urls import escaped, is_local, local_path, open_filesystem

_FULL = (errno.ENOSPC, errno.EDQUOT)
TEMPORARY = ".tmp"  # suffix of a file that is not whole yet; no reader's glob matches it
_FOLDER_RACES = 8
T = TypeVar("T")


def write(root: str, name: str, data: bytes) -> None:
    """Write `name` whole or not at all: a temporary name and a rename on disk, one PUT on an object store."""
    where = f"{root}/{name}"
    filesystem, path = open_filesystem(where)
    if is_local(where):
        with writing(root, name) as file:
            file.write(data)
    else:
        reported(f"write {where}", lambda: patiently(lambda: filesystem.pipe_file(path, data)))


@contextmanager
def writing(root: str, name: str) -> Iterator[BinaryIO]:
    """A file to write from front to back: `name` exists when the block has ended well, and is as it was otherwise."""
    filesystem, path = open_filesystem(f"{root}/{name}", streams=True)
    try:
        with _unfinished_file(filesystem, path, is_local(root)) as file:
            yield file
    except OSError as error:
        if isinstance(error, NeardupError):  # what the block has read, not what it wrote
            raise
        raise _failure(f"write {root}/{name}", error) from error


@contextmanager
def _unfinished_file(filesystem: Any, path: str, on_disk: bool) -> Iterator[Any]:
    if not on_disk:
        file = filesystem.open(path, "wb", autocommit=False)
        try:
            yield file
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            if isinstance(file, AbstractBufferedFile):
                file.closed = True  # else it begins an upload of what it holds when it is collected
            raise
        return
    final = Path(path)
    shortened = final.name.encode(errors="ignore")[:200].decode(errors="ignore")  # so that the whole is no longer
    unfinished = final.with_name(f"{shortened}.{secrets.token_hex(4)}{TEMPORARY}")  # than a file system takes
    try:
        with _new_file(unfinished) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(final)
    finally:
        unfinished.unlink(missing_ok=True)


def _new_file(path: Path) -> BinaryIO:
    """A new file in a folder that need not exist, and that another run may find empty and delete at this moment."""
    for _ in range(_FOLDER_RACES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return open(path, "wb")
    return open(path, "wb")


def create(root: str, name: str, data: bytes) -> bool:
    """Write `name` only if it does not exist yet; False when it does."""
    filesystem, path = open_filesystem(f"{root}/{name}")

    def attempt() -> bool:
        try:
            if is_local(root):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            filesystem.pipe_file(path, data, mode="create")
        except FileExistsError:
            return read(root, name) == data  # true when an attempt succeeded whose answer was lost
        return True

    return reported(f"write {root}/{name}", attempt if is_local(root) else lambda: patiently(attempt))


def read(root: str, name: str) -> bytes | None:
    """The bytes of `name`, None when it does not exist."""
    where = f"{root}/{name}"
    filesystem, path = open_filesystem(where)

    def attempt() -> bytes | None:
        try:
            return bytes(filesystem.cat_file(path))
        except FileNotFoundError:
            return None

    return reported(f"read {where}", attempt if is_local(where) else lambda: patiently(attempt))


def open_part(root: str, name: str) -> BinaryIO:
    """A seekable file over one part, so that only the wanted columns are read."""
    where = f"{root}/{name}"
    filesystem, path = open_filesystem(where)
    opener: Callable[[], BinaryIO] = lambda: filesystem.open(path, "rb")  # noqa: E731
    return reported(f"read {where}", opener if is_local(where) else lambda: open_file(where))


@contextmanager
def reading_part(root: str, name: str) -> Iterator[BinaryIO]:
    """The same, for a block that reads it and nothing else: it may also be deleted while it is read."""
    with reporting(f"read {root}/{name}"), open_part(root, name) as file:
        yield file


def list_folder(folder: str) -> dict[str, int]:
    """The files directly in a folder, by name, with their sizes; none when it does not exist."""
    filesystem, path = open_filesystem(folder)

    def attempt() -> list[dict[str, Any]]:
        try:
            return list(filesystem.ls(path, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    found = reported(f"list {folder}", attempt if is_local(folder) else lambda: patiently(attempt))
    names = {info["name"].rsplit("/", 1)[1]: int(info["size"] or 0) for info in found if info["type"] == "file"}
    return {escaped(name): size for name, size in names.items()} if is_local(folder) else names


def list_names(root: str) -> list[str]:
    """The name of every whole file below a root, sorted, by one listing; unfinished files are not among them."""
    filesystem, path = open_filesystem(root)
    filesystem.invalidate_cache()
    prefix = filesystem._strip_protocol(path).rstrip("/") + "/"
    names = reported(f"list {root}", lambda: patiently(lambda: filesystem.find(path)))
    whole = (name.removeprefix(prefix) for name in names if not name.endswith(TEMPORARY) and name != path)
    return sorted(map(escaped, whole) if is_local(root) else whole)


def total_size(root: str, names: Collection[str]) -> int:
    """The bytes of these files of an output together, by one listing."""
    filesystem, path = open_filesystem(root)
    prefix = filesystem._strip_protocol(path).rstrip("/") + "/"
    found = filesystem.find(path, detail=True)
    return sum(int(found[prefix + name]["size"] or 0) for name in names if prefix + name in found)


def delete(root: str, names: Collection[str]) -> None:
    """Delete files of an output; those already gone are no error."""
    for name in names:
        filesystem, path = open_filesystem(f"{root}/{name}")

        def attempt(filesystem: Any = filesystem, path: str = path) -> bool:
            try:
                filesystem.rm_file(path)
            except FileNotFoundError:
                return False
            return True

        if not reported(f"delete {root}/{name}", attempt if is_local(root) else lambda: patiently(attempt)):
            continue
        folder = local_path(f"{root}/{name}")
        with suppress(OSError):  # not empty, or gone
            while folder and (folder := folder.parent) != local_path(root):
                folder.rmdir()  # an empty folder left behind would read as an empty table


def reported(what: str, action: Callable[[], T]) -> T:
    """The outcome of an action on an output. Raises RunError, in words, where the store fails it; RefusedError where
    it will go on doing so.
    """
    with reporting(what):
        return action()


@contextmanager
def reporting(what: str) -> Iterator[None]:
    """The same for a block."""
    try:
        yield
    except OSError as error:  # MissingError and TransientError are such
        raise _failure(what, error) from error


def _failure(what: str, error: OSError) -> RunError:
    kind = RefusedError if _is_for_good(error) else OutputError if error.errno in _FULL else RunError
    return kind(f"cannot {what}: {error.strerror or first_line(error)}")


def _is_for_good(error: OSError) -> bool:
    return error.errno in (errno.EROFS, errno.EEXIST) or isinstance(translated(error), MissingError)


def unfinished(root: str) -> list[str]:
    """The names of what writers have not renamed to its final name: interrupted ones, and those at work."""
    folder = local_path(root)
    return [str(leftover.relative_to(folder)) for leftover in folder.rglob(f"*{TEMPORARY}")] if folder else []
