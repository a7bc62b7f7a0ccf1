"""Compare and set: a small file of an output replaced only if it is still what its writer has seen.

file, memory    a lock around looking and replacing, within a machine or a shared file system that has locks
s3              If-Match and If-None-Match
gs              generation preconditions
az, abfs        etags
anything else   looking, writing, reading back: a writer that pauses between the first two may still win over a newer
                one. So it is also for an S3 that takes no notice of conditions, which is found out, and for a file
                system without locks.
"""

import errno
import fcntl
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.asyn import sync

from neardup.errors import ClaimError, TransientError
from neardup.storage.parts import reported, write
from neardup.storage.retrying import patiently
from neardup.storage.urls import is_local, open_filesystem

_LOCK_S = 60.0  # how long a lock is waited for; it is held for one look and one write
_RACES = 10
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_REFUSED = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")  # codes of S3
_UNKNOWN = ("NotImplemented", "501")
_NEVER = '"00000000000000000000000000000000"'  # the etag of no content


class Stored(NamedTuple):
    """The content of a file, and what its store calls this content."""

    data: bytes
    tag: str  # an etag, a generation, a digest


class _ChangedError(Exception):
    """The file is not, or perhaps not, what its writer has seen."""


class _Store(NamedTuple):
    """How files of one kind of store are read, and replaced if they are still as seen (None: not there)."""

    read: Callable[[Any, str], Stored | None]
    replace: Callable[[Any, str, str | None, bytes], str]


def read_stored(root: str, name: str) -> Stored | None:
    """The content of `name` with its tag, None when it does not exist."""
    where = f"{root}/{name}"
    filesystem, path = open_filesystem(where)
    attempt = lambda: _store(where).read(filesystem, path)  # noqa: E731
    return reported(f"read {where}", attempt if is_local(where) else lambda: patiently(attempt))


def swap(root: str, name: str, seen: Stored | None, data: bytes) -> Stored | None:
    """What is stored now that `data` has replaced what was seen (None: nothing); None if it was no longer that.

    `data` must be new, such as by a random number in it: so an attempt whose answer was lost is known again.
    """
    where = f"{root}/{name}"
    filesystem, path = open_filesystem(where)
    store = _store(where)

    def attempt() -> Stored | None:
        for _ in range(_RACES):
            try:
                return Stored(data, store.replace(filesystem, path, seen.tag if seen else None, data))
            except _ChangedError:
                now = store.read(filesystem, path)
            if now is not None and now.data == data:
                return now
            if (now.tag if now else None) != (seen.tag if seen else None):
                return None
            time.sleep(0.05)  # two writers at one moment, both refused; or what was there is gone again
        raise TransientError("several runs write it at this moment")

    return reported(f"write {where}", attempt if is_local(where) else lambda: patiently(attempt))


def remove(root: str, name: str, seen: Stored) -> None:
    """Delete `name` if it is still what was seen, as far as its store can tell."""
    where = f"{root}/{name}"
    filesystem, path = open_filesystem(where)

    def attempt() -> None:
        with suppress(FileNotFoundError), _locked(path) if is_local(where) else nullcontext():
            now = _store(where).read(filesystem, path)
            if now is not None and now.tag == seen.tag:
                filesystem.rm_file(path)

    reported(f"delete {where}", attempt if is_local(where) else lambda: patiently(attempt))


def _store(where: str) -> _Store:
    protocol = where.partition("://")[0]
    return _STORES.get(protocol, _Store(_read_plain, _replace_plain))


# --- any store --------------------------------------------------------------------------------------------------------


def _read_plain(filesystem: Any, path: str) -> Stored | None:
    try:
        data = bytes(filesystem.cat_file(path))
    except FileNotFoundError:
        return None
    return Stored(data, _digest(data))


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _replace_plain(filesystem: Any, path: str, tag: str | None, data: bytes) -> str:
    _check(_read_plain(filesystem, path), tag)
    filesystem.pipe_file(path, data)
    return _stayed(_read_plain(filesystem, path), data)


def _stayed(now: Stored | None, data: bytes) -> str:
    """The tag of what was written without conditions, if it is what has stayed."""
    if now is None or now.data != data:
        raise _ChangedError
    return now.tag


def _check(now: Stored | None, tag: str | None) -> None:
    if (now.tag if now else None) != tag:
        raise _ChangedError


# --- disk and memory --------------------------------------------------------------------------------------------------

_in_process = threading.Lock()


def _replace_on_disk(filesystem: Any, path: str, tag: str | None, data: bytes) -> str:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        _check(_read_plain(filesystem, path), tag)
        write(f"file://{place.parent}", place.name, data)
    return _digest(data)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Alone with a file, among all processes of all machines whose file system has locks; the lock leaves no file."""
    place = Path(path).with_name(f".{Path(path).name}.lock")
    until = time.monotonic() + _LOCK_S
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, place):
                break
        except OSError as error:
            if error.errno in _NO_LOCKS:
                break
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                raise
            if time.monotonic() > until:
                os.close(descriptor)
                raise ClaimError(f"{path} is being written by another run, which does not go on") from error
        os.close(descriptor)
        time.sleep(0.005)
    try:
        yield
    finally:
        with suppress(OSError):
            place.unlink()  # while it is held: who waits for it finds that it is no longer the file that counts
        os.close(descriptor)


def _is_at(descriptor: int, place: Path) -> bool:
    """Is this open file still the one of that name?"""
    try:
        return os.path.samestat(os.fstat(descriptor), place.stat())
    except FileNotFoundError:
        return False


def _replace_in_memory(filesystem: Any, path: str, tag: str | None, data: bytes) -> str:
    with _in_process:
        _check(_read_plain(filesystem, path), tag)
        filesystem.pipe_file(path, data)
    return _digest(data)


# --- S3 ---------------------------------------------------------------------------------------------------------------

_heeds: dict[str, bool] = {}  # bucket → does its store take notice of conditions?


def _read_s3(filesystem: Any, path: str) -> Stored | None:
    bucket, _, key = path.partition("/")

    async def get() -> Stored:
        answer = await filesystem._call_s3("get_object", Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            return Stored(await body.read(), answer["ETag"])

    try:
        stored: Stored = sync(filesystem.loop, get)
    except FileNotFoundError:
        return None
    return stored


def _replace_s3(filesystem: Any, path: str, tag: str | None, data: bytes) -> str:
    bucket = path.partition("/")[0]
    if not _heeds.get(bucket, True):
        _check(_read_s3(filesystem, path), tag)
        _put_s3(filesystem, path, data, {})
        return _stayed(_read_s3(filesystem, path), data)
    condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    etag = _put_s3(filesystem, path, data, condition)
    if bucket not in _heeds:  # asked once: a condition that cannot hold must be refused
        try:
            etag = _put_s3(filesystem, path, data, {"IfMatch": _NEVER})
            _heeds[bucket] = False
        except _ChangedError:
            _heeds[bucket] = True
    return etag


def _put_s3(filesystem: Any, path: str, data: bytes, condition: dict[str, str]) -> str:
    bucket, _, key = path.partition("/")
    try:
        etag: str = filesystem.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)["ETag"]
    except OSError as error:  # s3fs says the same of several codes: the code itself is in the cause
        code = _s3_code(error)
        if code in _UNKNOWN:
            _heeds[bucket] = False
            raise TransientError("the store knows no conditions") from error  # tried again, without
        if code in _REFUSED or isinstance(error, FileExistsError) or (code == "NoSuchKey" and "IfMatch" in condition):
            raise _ChangedError from error
        raise
    return etag


def _s3_code(error: BaseException) -> str:
    answer = getattr(error.__cause__, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


# --- Google Cloud Storage, by gcsfs -----------------------------------------------------------------------------------


def _read_gcs(filesystem: Any, path: str) -> Stored | None:
    try:
        headers, data = filesystem.call("GET", filesystem.url(path))
    except FileNotFoundError:
        return None
    return Stored(bytes(data), str(headers["x-goog-generation"]))


def _replace_gcs(filesystem: Any, path: str, tag: str | None, data: bytes) -> str:
    bucket, _, key = path.partition("/")
    url = f"{filesystem._location}/upload/storage/v1/b/{bucket}/o"
    asked = {"uploadType": "media", "name": key, "ifGenerationMatch": tag or "0"}
    try:
        answer = filesystem.call("POST", url, data=data, json_out=True, **asked)
    except FileExistsError as error:
        raise _ChangedError from error
    except Exception as error:
        if str(getattr(error, "code", "")) == "412":
            raise _ChangedError from error
        raise
    return str(answer["generation"])


# --- Azure, by adlfs --------------------------------------------------------------------------------------------------


def _read_azure(filesystem: Any, path: str) -> Stored | None:
    async def get() -> Stored:
        stream = await _blob(filesystem, path).download_blob()
        return Stored(await stream.readall(), stream.properties.etag)

    try:
        stored: Stored = sync(filesystem.loop, get)
    except Exception as error:
        if getattr(error, "status_code", None) == 404:
            return None
        raise
    return stored


def _replace_azure(filesystem: Any, path: str, tag: str | None, data: bytes) -> str:
    if tag is None:
        condition: dict[str, Any] = {"overwrite": False}
    else:
        unmodified = importlib.import_module("azure.core").MatchConditions.IfNotModified
        condition = {"overwrite": True, "etag": tag, "match_condition": unmodified}

    async def put() -> str:
        answer = await _blob(filesystem, path).upload_blob(data, **condition)
        return str(answer["etag"])

    try:
        etag: str = sync(filesystem.loop, put)
    except Exception as error:
        if getattr(error, "status_code", None) in (404, 409, 412):
            raise _ChangedError from error
        raise
    return etag


def _blob(filesystem: Any, path: str) -> Any:
    container, _, name = path.partition("/")
    return filesystem.service_client.get_blob_client(container, name)


_S3_STORE = _Store(_read_s3, _replace_s3)
_GCS_STORE = _Store(_read_gcs, _replace_gcs)
_AZURE_STORE = _Store(_read_azure, _replace_azure)
_STORES = {
    "file": _Store(_read_plain, _replace_on_disk),
    "memory": _Store(_read_plain, _replace_in_memory),
    **dict.fromkeys(("s3", "s3a"), _S3_STORE),
    **dict.fromkeys(("gs", "gcs"), _GCS_STORE),
    **dict.fromkeys(("az", "abfs"), _AZURE_STORE),
}
