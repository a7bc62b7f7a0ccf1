"""Urls: what an item is called, and which store it lies in.

A *uri* is absolute and as fsspec opens it; local paths are `file:///…` with nothing escaped, so that a name such as
`a%20b.jpg` and the name `a b.jpg` stay two items. No character of a name is special: `#`, `?` and `::` are parts of it.
Only a byte that is no UTF-8, which no table can hold, is written as `\\xE9`; so is the backslash of a name that has
these four characters itself (`\\x5CxE9`), so that each name has one uri, and each uri names one file.
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from neardup.errors import MissingError, NeardupError, UsageError
from neardup.storage.credentials import redacted, secret_in
from neardup.storage.failures import translated
from neardup.storage.hosts import PER_HOST, forget_hosts, most_requests

CONNECTIONS = PER_HOST  # to one store at a time: as many as there are reads under way
CONNECT_S = 15.0  # that a server may take to accept a connection
SILENCE_S = 25.0  # and between two bytes, the first one too
_S3 = ("s3", "s3a")
_WEB = ("http", "https")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_ESCAPED = re.compile(r"\\x([0-9A-F]{2})")
_UNWRITABLE = re.compile(r"[\ud800-\udfff]+|\\(?=x[0-9A-F]{2})")  # bytes that are no UTF-8, and what reads as one
_CHAIN = re.compile(r"[a-z0-9_]+::")  # a chain of filesystems, such as simplecache::s3://…
_DRIVERS = {"gs": "gcsfs", "gcs": "gcsfs", "sftp": "paramiko", "ssh": "paramiko", "hf": "huggingface_hub"}
_DRIVERS |= dict.fromkeys(("az", "abfs", "adl", "abfss"), "adlfs") | {"oss": "ossfs", "smb": "smbprotocol"}
_DRIVERS |= {"webdav": "webdav4", "oci": "ocifs", "tos": "tosfs", "lakefs": "lakefs-spec", "s3": "s3fs", "s3a": "s3fs"}
_DRIVERS |= {"hdfs": "pyarrow", "box": "boxfs", "gdrive": "gdrive_fs", "http": "aiohttp", "https": "aiohttp"}


def absolute(path: str) -> str:
    """The uri of a path or url: `photos` becomes `file:///…/photos`, other urls stay, without a trailing slash.

    Raises UsageError for an unknown protocol or one whose driver is not installed, and for a url that carries
    credentials.
    """
    if path.startswith("file://"):
        return "file://" + os.path.abspath(Path(path.removeprefix("file://")).expanduser())  # noqa: PTH100
    if "://" in path:
        protocol = path.split("://", 1)[0].split("::")[-1]
        if protocol not in fsspec.available_protocols():
            raise UsageError(f"unknown protocol {protocol!r} in {path!r}; known are file, s3, memory, http, …")
        if why := secret_in(path):
            raise UsageError(f"{redacted(path)!r} holds {why}; give it through the store's own configuration")
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            raise UsageError(f"cannot open {path!r}: {_what_to_install(protocol, error)}") from error
        return path.rstrip("/")
    return file_uri(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links


def file_uri(path: str) -> str:
    """The uri of an absolute path of this machine."""
    return f"file://{escaped(path)}"


def escaped(path: str) -> str:
    """A local path as a text that any table can hold; see the top of this module."""
    if path.isascii() and "\\" not in path:
        return path
    return _UNWRITABLE.sub(lambda at: "".join(f"\\x{byte:02X}" for byte in os.fsencode(at[0])), path)


def file_path(uri: str) -> str:
    """The path, as this machine has it, of a local uri."""
    path = uri.removeprefix("file://")
    if "\\x" not in path:
        return path
    pieces = _ESCAPED.split(path)  # texts, and between them the digits of bytes
    data = [bytes.fromhex(one) if number % 2 else os.fsencode(one) for number, one in enumerate(pieces)]
    return os.fsdecode(b"".join(data))


def resolved(text: str, base: str) -> str:
    """The uri that a line or cell of a list means: itself, or relative to `base`, the uri of the list's folder.

    Nothing is refused here: what cannot be opened becomes an error row when it is read.
    """
    if "://" in text and not text.startswith("file://"):
        return text
    if text.startswith(("/", "file://")) or base.startswith("file://"):
        path = text.removeprefix("file://") if text.startswith("file://") else escaped(text)
        path = os.path.join(base.removeprefix("file://"), path)  # noqa: PTH118 - keeps the text
        return "file://" + os.path.abspath(path)  # noqa: PTH100
    return f"{base}/{text.removeprefix('./')}"


def braced(given: str) -> Iterator[str]:
    """The names that braces stand for, as a shell and WebDataset read them: `a-{08..10}` is a-08, a-09 and a-10."""
    found = _BRACES.search(given)
    if not found or ((path := local_path(absolute(given))) and path.exists()):
        yield given
        return
    first, last = found[1], found[2]
    for number in range(int(first), int(last) + 1):
        yield from braced(f"{given[: found.start()]}{number:0{len(first)}}{given[found.end() :]}")


def local_path(uri: str) -> Path | None:
    """The path of a local uri, None for any other store."""
    return Path(file_path(uri)) if uri.startswith("file://") else None


def is_inside(uri: str, folder: str) -> bool:
    """Does `uri` lie at or below `folder`? Local links are followed."""
    here, there = local_path(uri), local_path(folder)
    if here and there:
        return here.resolve().is_relative_to(there.resolve())
    return uri == folder or uri.startswith(folder + "/")


# --- filesystems ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def local() -> Any:
    """The filesystem of this machine."""
    return LocalFileSystem(auto_mkdir=True)


def open_filesystem(uri: str, streams: bool = False) -> tuple[Any, str]:
    """The filesystem of a uri, one for all threads of this process, and the path in it.

    It leaves it to us to try again, unless it `streams` what it is given: what has gone by cannot be given again.
    Raises MissingError where there is no such store or its driver is not installed, TransientError where it cannot be
    reached.
    """
    try:
        return _opened(uri, streams)
    except NeardupError:
        raise
    except ImportError as error:
        raise MissingError(_what_to_install(uri.partition("://")[0].split("::")[-1], error)) from error
    except Exception as error:  # some clients connect at once
        raise translated(error) from error


def _what_to_install(protocol: str, error: ImportError) -> str:
    driver = _DRIVERS.get(protocol)
    way = f"pip install {driver}" if driver else redacted((str(error).splitlines() or [""])[0])
    return f"the driver of {protocol}:// is not installed ({way})"


def _opened(uri: str, streams: bool) -> tuple[Any, str]:
    if uri.startswith("file://"):  # never through the url parser: a local name may hold '::' or '#'
        return local(), file_path(uri)
    protocol, _, path = uri.partition("://")
    if protocol in _S3:
        return _s3(protocol, streams, os.getpid()), path
    if _CHAIN.match(uri):
        filesystem, path = url_to_fs(uri)
        return filesystem, path
    return _plain(protocol, _host(uri), os.getpid()), _path(uri)


def is_local(uri: str) -> bool:
    """Is it a file of this machine?"""
    return uri.startswith("file://")


def _host(uri: str) -> str:
    """The part of a url that decides which server is asked; nothing where the filesystem asks any."""
    protocol = uri.partition("://")[0]
    if protocol in (*_WEB, "memory"):
        return ""
    return uri.partition("://")[2].split("/")[0]


def _path(uri: str) -> str:
    if uri.startswith("memory://"):  # its own parser takes '::' in a name for a chain
        return "/" + uri.removeprefix("memory://").strip("/")
    filesystem = fsspec.get_filesystem_class(uri.partition("://")[0])
    return str(filesystem._strip_protocol(uri))


@lru_cache(maxsize=16)
def _plain(protocol: str, host: str, _process: int) -> Any:
    if protocol in _WEB:
        from neardup.storage.web import web  # takes a moment, and most runs ask no web server

        return web(protocol, CONNECT_S, SILENCE_S)
    kind = fsspec.get_filesystem_class(protocol)
    return fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(f"{protocol}://{host}"))


@lru_cache(maxsize=4)
def _s3(protocol: str, streams: bool, _process: int) -> Any:
    """An S3 client whose pool fits our reads; what is configured for it elsewhere stays."""
    configured = dict(fsspec.config.conf.get(protocol, {}).get("config_kwargs", {}))
    client = {
        "max_pool_connections": max(CONNECTIONS, most_requests()),
        "connect_timeout": CONNECT_S,
        "read_timeout": SILENCE_S,
        "retries": {"mode": "standard", "total_max_attempts": 7 if streams else 1},
    }
    # with more than one request per object, s3fs asks for its size first: one more round trip for every photo
    filesystem = fsspec.filesystem(
        protocol, config_kwargs={**client, **configured}, max_concurrency=1, use_listings_cache=False
    )
    if not streams:
        filesystem.retries = 1
    return filesystem


def forget() -> None:
    """Open every store anew, as after a change of the environment."""
    for opened in (_s3, _plain):
        opened.cache_clear()
    for kind in {type(local()), *(fsspec.get_filesystem_class(name) for name in ("s3", "http"))}:
        kind.clear_instance_cache()
    for kind in fsspec.get_filesystem_class("http").__subclasses__():
        kind.clear_instance_cache()
    forget_hosts()
