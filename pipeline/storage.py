"""Urls, listings, bulk reads, whole parts, the manifest. The only module that uses fsspec.

A *uri* is absolute and as fsspec opens it; local paths are `file:///…` with nothing escaped, so that a
name such as `a%20b.jpg` and the name `a b.jpg` stay two items. A *root* is the uri of an output folder;
a *name* is a path below a root, such as `media/part-1f00.parquet`.
"""

import hashlib
import io
import json
import os
import random
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import MissingError, NeardupError, PolicyError, RunError, TransientError, UsageError

# what media.decode_image reads
_IMAGES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff avif jp2 j2k jpx"
# what media.video reads
_VIDEOS = (
    "mp4 m4v mov qt 3gp 3g2 mkv webm avi mpg mpeg mpe m2v vob ts mts m2ts ogv flv f4v wmv asf rm rmvb dv ivf mxf nut"
)
IMAGE_SUFFIXES, VIDEO_SUFFIXES = frozenset(_IMAGES.split()), frozenset(_VIDEOS.split())
T = TypeVar("T")

MANIFEST = "manifest.json"
TEMPORARY = ".tmp"  # suffix of a file that is not whole yet; no reader's glob matches it
_READ_ATTEMPTS = 4
_COPY_BYTES = 8 << 20  # held while a file is copied
_RANGE_BYTES = 1 << 20  # fetched at a time where an object is read by ranges
_FOREIGN_IO_ERRORS = ("aiohttp", "aiobotocore", "botocore")  # libraries whose network errors are no OSError


class Listed(NamedTuple):
    """One object found in an input. `version` changes whenever the content may have: etag, else mtime and size."""

    uri: str
    kind: str
    size: int
    mtime: datetime | None
    version: str


class Content(NamedTuple):
    """The bytes of one object, with their digests."""

    data: bytes
    sha256: str
    md5: str


# --- urls -------------------------------------------------------------------------------------------------------------


def absolute(path: str) -> str:
    """The uri of a path or url: `photos` becomes `file:///…/photos`, other urls stay, without a trailing slash."""
    if path.startswith("file://"):
        path = path.removeprefix("file://")
    elif "://" in path:
        protocol = path.split("://", 1)[0]
        if protocol not in fsspec.available_protocols():
            raise UsageError(f"unknown protocol {protocol!r} in {path!r}; known are file, s3, memory, http, …")
        return path.rstrip("/")
    return "file://" + os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - resolve() would follow links


def resolved(text: str, base: str) -> str:
    """The uri that a line or cell of a list means: itself, or relative to `base`, the uri of the list's folder.

    Nothing is refused here: what cannot be opened becomes an error row when it is read.
    """
    if "://" in text and not text.startswith("file://"):
        return text
    if text.startswith(("/", "file://")) or base.startswith("file://"):
        path = os.path.join(base.removeprefix("file://"), text.removeprefix("file://"))  # noqa: PTH118 - keeps the text
        return "file://" + os.path.abspath(path)  # noqa: PTH100
    return f"{base}/{text.removeprefix('./')}"


def local_path(uri: str) -> Path | None:
    """The path of a local uri, None for any other store."""
    return Path(uri.removeprefix("file://")) if uri.startswith("file://") else None


def is_inside(uri: str, folder: str) -> bool:
    """Does `uri` lie at or below `folder`? Local links are followed."""
    here, there = local_path(uri), local_path(folder)
    if here and there:
        return here.resolve().is_relative_to(there.resolve())
    return uri == folder or uri.startswith(folder + "/")


@lru_cache(maxsize=64)
def _local() -> Any:
    return LocalFileSystem(auto_mkdir=True)


def _open_filesystem(uri: str) -> tuple[Any, str]:
    if uri.startswith("file://"):  # never through the url parser: a local name may hold '::' or '#'
        return _local(), uri.removeprefix("file://")
    filesystem, path = url_to_fs(uri)
    return filesystem, path


# --- listing ----------------------------------------------------------------------------------------------------------


def list_media(inputs: Sequence[str]) -> Iterator[Listed]:
    """Every media object of the inputs (folders, globs, single files), each uri once, in the stores' own order.

    Folders are walked recursively and give the files whose suffix is known; a file named directly is
    always listed. Links to files count, links to folders are not followed, devices and pipes are no media.
    Raises UsageError for an input that does not exist or may not be read.
    """
    seen: set[str] = set()
    for given in inputs:
        for listed in _list_input(given):
            if listed.uri not in seen:
                seen.add(listed.uri)
                yield listed


def _list_input(given: str) -> Iterator[Listed]:
    root = absolute(given)
    filesystem, path = _open_filesystem(root)
    try:
        if filesystem.isdir(path):
            yield from _walk(filesystem, path)
        elif filesystem.exists(path):
            yield _listed(filesystem.info(path), root)
        else:
            found = _glob(filesystem, path) if any(c in path for c in "*?[") else {}
            if not found:
                raise UsageError(f"no such file or folder: {given!r}")
            for name, info in sorted(found.items()):
                if info["type"] == "directory":
                    yield from _walk(filesystem, name)
                elif _is_media(filesystem, info):
                    yield _listed(info, _uri(filesystem, name))
    except PermissionError as error:
        raise UsageError(f"cannot read {given!r}: permission denied") from error


def list_objects(uris: Sequence[str], threads: int = 32) -> Iterator[Listed]:
    """One row per uri, in order, looked up concurrently. What cannot be found has a row too: reading it says why."""
    with ThreadPoolExecutor(threads, thread_name_prefix="list") as pool:
        for start in range(0, len(uris), 64 * threads):
            yield from pool.map(_looked_up, uris[start : start + 64 * threads])


def _looked_up(uri: str) -> Listed:
    def info() -> dict[str, Any]:
        filesystem, path = _open_filesystem(uri)
        return dict(filesystem.info(path))

    try:
        return _listed(_patiently(info), uri)
    except (MissingError, TransientError):
        return _listed({}, uri)


def _glob(filesystem: Any, path: str) -> dict[str, Any]:
    found: dict[str, Any] = filesystem.glob(path, detail=True)
    return found


def _walk(filesystem: Any, path: str) -> Iterator[Listed]:
    for _, folders, files in filesystem.walk(path, detail=True):
        for info in sorted(files.values(), key=lambda info: info["name"]):
            if _is_media(filesystem, info):
                yield _listed(info, _uri(filesystem, info["name"]))
        ordered = sorted(folders.items())  # walk descends into what stays here, in this order
        folders.clear()
        folders.update(ordered)


def _uri(filesystem: Any, name: str) -> str:
    return "file://" + name if filesystem is _local() else str(filesystem.unstrip_protocol(name))


def _is_media(filesystem: Any, info: dict[str, Any]) -> bool:
    if info["name"].rsplit(".", 1)[-1].lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        return False
    if info["type"] == "file":
        return True
    if filesystem is not _local():
        return False
    path = Path(info["name"])  # a link to a file is one; a dangling link is listed, so that its loss is a row
    return path.is_file() or (path.is_symlink() and not path.exists())


def _listed(info: dict[str, Any], uri: str) -> Listed:
    size = int(info.get("size") or 0)
    if info.get("islink") and (target := Path(info["name"])).exists():
        info = {**info, "mtime": target.stat().st_mtime}
    moment = info.get("LastModified") or info.get("mtime") or info.get("created")
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    mtime = moment if isinstance(moment, datetime) else None
    etag = info.get("ETag") or info.get("etag")
    version = str(etag).strip('"') if etag else f"{_microseconds(mtime):x}-{size:x}"
    return Listed(uri, kind_of(uri), size, mtime, version)


def kind_of(name: str) -> str:
    """What a file is by its name: "video", or "image", also where the name does not say."""
    return "video" if name.rsplit(".", 1)[-1].lower() in VIDEO_SUFFIXES else "image"


def _microseconds(mtime: datetime | None) -> int:
    return round(mtime.timestamp() * 1_000_000) if mtime else 0


# --- bulk reads -------------------------------------------------------------------------------------------------------


def read_ahead(
    items: Iterable[tuple[str, int]], *, max_bytes: int, budget_bytes: int = 128 << 20, threads: int = 8
) -> Iterator[Content | MissingError | TransientError | PolicyError]:
    """The content of each (uri, size) in order, read concurrently ahead of the caller, or why it could not be had.

    At most `budget_bytes` are held or under way (one larger object is read alone); objects over `max_bytes`
    are not read. Transient errors are tried again with exponential backoff and full jitter.
    """
    waiting: list[tuple[Future[Content], int]] = []
    held = 0
    source = iter(items)
    following = next(source, None)
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        try:
            while waiting or following:
                while following and (
                    not waiting or (held + following[1] <= budget_bytes and len(waiting) < 4 * threads)
                ):
                    uri, size = following
                    waiting.append((pool.submit(_read_within, uri, size, max_bytes), size))
                    held += size
                    following = next(source, None)
                future, size = waiting.pop(0)
                try:
                    yield future.result()
                except (MissingError, TransientError, PolicyError) as error:
                    yield error
                held -= size
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_within(uri: str, size: int, max_bytes: int) -> Content:
    if size > max_bytes:
        raise PolicyError(f"{size:,} bytes are over the limit of {max_bytes:,} (--max-bytes)")
    data = read_object(uri)
    if len(data) != size:
        raise TransientError(f"changed while the run was on: {size:,} bytes when listed, {len(data):,} when read")
    # md5 names content in matching services; it guards nothing here
    return Content(data, hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest())


def read_object(uri: str) -> bytes:
    """The bytes of one object. Raises MissingError, or TransientError after the last attempt."""

    def whole() -> bytes:
        filesystem, path = _open_filesystem(uri)
        return bytes(filesystem.cat_file(path))

    return _patiently(whole)


def open_object(uri: str) -> BinaryIO:
    """A seekable file over one object, of which only the ranges that are read are fetched.

    Opening and reading raise MissingError, or TransientError after the last attempt.
    """
    filesystem, path = _patiently(lambda: _open_filesystem(uri))
    options = {} if filesystem is _local() else {"block_size": _RANGE_BYTES}
    return cast("BinaryIO", _PatientFile(_patiently(lambda: filesystem.open(path, "rb", **options))))


class _PatientFile(io.RawIOBase):
    """A file whose reads are tried again where they may."""

    def __init__(self, file: Any):
        self._file = file

    def read(self, size: int | None = -1) -> bytes:
        position = self._file.tell()
        return _patiently(lambda: (self._file.seek(position), bytes(self._file.read(size)))[1])

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def _patiently(action: Callable[[], T]) -> T:
    """The outcome of an action that reads, tried again after transient errors, with backoff and full jitter."""
    for attempt in range(_READ_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0, 0.1 * 2**attempt))
        try:
            return action()
        except Exception as error:
            failure = _translated(error)
            if isinstance(failure, MissingError) or attempt == _READ_ATTEMPTS - 1:
                raise failure from error
    raise AssertionError("unreachable")


def _translated(error: Exception) -> MissingError | TransientError:
    """The media error that a foreign I/O error stands for; anything that is no I/O error is raised as it is."""
    if isinstance(error, FileNotFoundError):
        return MissingError("the object is gone")
    if isinstance(error, PermissionError):
        return MissingError("permission denied")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return MissingError("it is not a file")
    if isinstance(error, ValueError | TypeError | ImportError | NotImplementedError):
        # an unknown protocol, one that is not installed or wants arguments, a null character in a path
        return MissingError(f"it cannot be opened: {_first_line(error)}")
    if isinstance(error, OSError | EOFError) or type(error).__module__.split(".")[0] in _FOREIGN_IO_ERRORS:
        return TransientError(f"reading failed: {type(error).__name__}: {_first_line(error)}")
    raise error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


# --- whole parts ------------------------------------------------------------------------------------------------------


def write(root: str, name: str, data: bytes) -> None:
    """Write `name` whole or not at all: a temporary name and a rename on disk, one PUT on an object store."""
    filesystem, path = _open_filesystem(f"{root}/{name}")
    try:
        if filesystem is not _local():
            filesystem.pipe_file(path, data)
            return
        with _unfinished_file(filesystem, path) as file:
            file.write(data)
    except OSError as error:
        raise RunError(f"cannot write {root}/{name}: {error.strerror or _first_line(error)}") from error


@contextmanager
def writing(root: str, name: str) -> Iterator[BinaryIO]:
    """A file to write from front to back: `name` exists when the block has ended well, and is as it was otherwise."""
    filesystem, path = _open_filesystem(f"{root}/{name}")
    try:
        with _unfinished_file(filesystem, path) as file:
            yield file
    except OSError as error:
        if isinstance(error, NeardupError):  # what the block has read, not what it wrote
            raise
        raise RunError(f"cannot write {root}/{name}: {error.strerror or _first_line(error)}") from error


@contextmanager
def _unfinished_file(filesystem: Any, path: str) -> Iterator[Any]:
    if filesystem is not _local():
        file = filesystem.open(path, "wb", autocommit=False)
        try:
            yield file
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            raise
        return
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished = final.with_name(f"{final.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(final)
    finally:
        unfinished.unlink(missing_ok=True)


def copy(uri: str, root: str, name: str, sha256: str | None) -> bool:
    """Copy one object byte for byte to `name`, whole or not at all; False when it is there already.

    Raises MissingError or TransientError for what cannot be read; UsageError where another file has that name, and
    where the object's content is not that of `sha256`.
    """
    there = _digest(f"{root}/{name}")
    if there is not None:
        if there != (sha256 or _digest(uri)):
            raise UsageError(f"{root}/{name} exists and is another file; nothing is overwritten: give another folder")
        return False
    digest = hashlib.sha256()
    with open_object(uri) as source, writing(root, name) as target:
        while chunk := source.read(_COPY_BYTES):
            digest.update(chunk)
            target.write(chunk)
        if sha256 not in (None, digest.hexdigest()):
            raise UsageError(f"{uri} has changed since it was hashed; run the job that hashed it again")
    return True


def _digest(uri: str) -> str | None:
    """The SHA-256 of an object, None when there is none."""
    digest = hashlib.sha256()
    try:
        with open_object(uri) as source:
            while chunk := source.read(_COPY_BYTES):
                digest.update(chunk)
    except MissingError:
        return None
    return digest.hexdigest()


def create(root: str, name: str, data: bytes) -> bool:
    """Write `name` only if it does not exist yet; False when it does."""
    filesystem, path = _open_filesystem(f"{root}/{name}")
    try:
        if filesystem is _local():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        filesystem.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        raise RunError(f"cannot write {root}/{name}: {error.strerror or _first_line(error)}") from error
    return True


def read(root: str, name: str) -> bytes | None:
    """The bytes of `name`, None when it does not exist."""
    filesystem, path = _open_filesystem(f"{root}/{name}")
    try:
        return bytes(filesystem.cat_file(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {root}/{name}: {error.strerror or _first_line(error)}") from error


def open_part(root: str, name: str) -> BinaryIO:
    """A seekable file over one part, so that only the wanted columns are read."""
    filesystem, path = _open_filesystem(f"{root}/{name}")
    try:
        file: BinaryIO = filesystem.open(path, "rb")
    except OSError as error:
        raise RunError(f"cannot read {root}/{name}: {error.strerror or _first_line(error)}") from error
    return file


def list_folder(folder: str) -> dict[str, int]:
    """The files directly in a folder, by name, with their sizes; none when it does not exist."""
    filesystem, path = _open_filesystem(folder)
    try:
        found = filesystem.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RunError(f"cannot list {folder}: {error.strerror or _first_line(error)}") from error
    return {info["name"].rsplit("/", 1)[1]: int(info["size"] or 0) for info in found if info["type"] == "file"}


def list_names(root: str) -> list[str]:
    """The name of every whole file below a root, sorted, by one listing; unfinished files are not among them."""
    filesystem, path = _open_filesystem(root)
    filesystem.invalidate_cache()
    prefix = filesystem._strip_protocol(path).rstrip("/") + "/"
    return sorted(
        name.removeprefix(prefix) for name in filesystem.find(path) if not name.endswith(TEMPORARY) and name != path
    )


def total_size(root: str, names: Collection[str]) -> int:
    """The bytes of these files of an output together, by one listing."""
    filesystem, path = _open_filesystem(root)
    prefix = filesystem._strip_protocol(path).rstrip("/") + "/"
    found = filesystem.find(path, detail=True)
    return sum(int(found[prefix + name]["size"] or 0) for name in names if prefix + name in found)


def delete(root: str, names: Collection[str]) -> None:
    """Delete files of an output; those already gone are no error."""
    for name in names:
        filesystem, path = _open_filesystem(f"{root}/{name}")
        try:
            filesystem.rm_file(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RunError(f"cannot delete {root}/{name}: {error.strerror or _first_line(error)}") from error
        folder = local_path(f"{root}/{name}")
        while folder and (folder := folder.parent) != local_path(root) and not any(folder.iterdir()):
            folder.rmdir()  # an empty folder left behind would read as an empty table


def delete_unfinished(root: str) -> None:
    """Delete what interrupted writers left: files that were never renamed to their final name."""
    folder = local_path(root)
    for leftover in folder.rglob(f"*{TEMPORARY}") if folder else ():
        leftover.unlink(missing_ok=True)


# --- manifest ---------------------------------------------------------------------------------------------------------


def read_manifest(root: str) -> dict[str, list[str]]:
    """The live parts of every table: table folder → part names. Empty before the first commit."""
    try:
        data = read(root, MANIFEST)
    except RunError as error:  # looked at before any work begins
        raise UsageError(f"the output cannot be used: {error}; choose another with --output") from error
    if data is None:
        return {}
    try:
        tables = json.loads(data)["tables"]
        return {str(table): [str(name) for name in names] for table, names in tables.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{root}/{MANIFEST} is damaged; restore it or start with a new output") from error


def commit_manifest(root: str, manifest: dict[str, list[str]]) -> None:
    """Make exactly these parts live, by one write."""
    tables = {table: sorted(names) for table, names in sorted(manifest.items()) if names}
    write(root, MANIFEST, json.dumps({"format": 1, "tables": tables}, indent=1).encode())
