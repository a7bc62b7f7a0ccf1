"""Listing: every media object of an input, without holding more than a page, a folder or a few archives of them.

Media are found by their suffix, in folders, globs and archives; what is named directly is always listed.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.utils import glob_translate

from neardup.errors import MediaError, MissingError, RunError, TransientError, UsageError
from neardup.storage.containers import Held, held_in, is_archive, located
from neardup.storage.members import Member, address
from neardup.storage.objects import Facts, facts, facts_of, look_up
from neardup.storage.retrying import patiently, translated
from neardup.storage.sidecars import Sidecars
from neardup.storage.urls import absolute, braced, file_path, file_uri, is_local, local, open_filesystem

# what media.decode_image reads
_IMAGES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff avif jp2 j2k jpx"
# what media.video reads
_VIDEOS = (
    "mp4 m4v mov qt 3gp 3g2 mkv webm avi mpg mpeg mpe m2v vob ts mts m2ts ogv flv f4v wmv asf rm rmvb dv ivf mxf nut"
)
IMAGE_SUFFIXES, VIDEO_SUFFIXES = frozenset(_IMAGES.split()), frozenset(_VIDEOS.split())
_MEDIA_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
LIST_SUFFIXES = frozenset(["txt", "csv", "tsv", "jsonl", "ndjson", "parquet"])
_TABLE_SUFFIXES = LIST_SUFFIXES - {"txt", "parquet"}  # that have columns: a list in a folder is known by them
_PASSED, _PASSED_SUFFIXES = "passed", 200  # kind of a file that is no media, different suffixes that are counted
_PAGE = 1000
_LOOKUPS = 32  # under way at a time
_ARCHIVES = 4  # the same of archives that are looked through


class Listed(NamedTuple):
    """One object found in an input. `version` changes whenever the content may have: etag, else mtime and size."""

    uri: str
    kind: str  # image, video; list: a file that names or holds items; rows, table: a Parquet or other file in a folder;
    # unread: a folder or container of which nobody knows all that it holds, `fault` says why
    size: int | None  # None where the store does not say
    mtime: datetime | None
    version: str
    member: Member | None = None  # where it lies in a container
    fault: str | None = None  # why it cannot be read, known already
    fields: dict[str, Any] | None = None  # what a sidecar says of it


def list_media(
    inputs: Sequence[str], exclude: Sequence[str] = (), passed: Counter[str] | None = None
) -> Iterator[Listed]:
    """Every media object of the inputs, in their order, and files that name or hold others; a uri may come twice.

    Folders are walked recursively and give the files whose suffix is known: media, archives (which are opened), Parquet
    files, as `rows`, and other tables, as `table`; what is passed by is counted by suffix in `passed`. Lists are lists
    where they are named directly, or by a glob that ends with their suffix. Links to files count, links to folders are
    not followed, devices and pipes are no media. Patterns of `exclude` are held against the path below the input, or in
    an archive; without a slash, against any part of it. A folder below the input that cannot be read, and an archive
    that is damaged, are also listed as `unread`. Raises UsageError for an input that does not exist or may not be read,
    RunError where its store fails.
    """
    for given in chain.from_iterable(map(braced, inputs)):
        root = absolute(given)
        try:
            found = (one for one in _found(root, given) if not _excluded(_within(one), root, exclude))
            for held in open_archives(found):
                for one in held:
                    if not _excluded(one.uri, root, exclude):
                        if one.kind != _PASSED:
                            yield one
                        elif passed is not None:
                            _count(passed, one.uri)
        except MissingError as error:
            raise UsageError(f"cannot read {given!r}: {error.args[0]}") from error
        except OSError as error:  # what a walk raises; TransientError is one
            failure = translated(error)
            how, kind = ("read", UsageError) if isinstance(failure, MissingError) else ("list", RunError)
            raise kind(f"cannot {how} {given!r}: {failure}") from error


def _within(one: Listed) -> str:
    """What patterns are held against: of a folder that could not be read, anything in it."""
    return f"{one.uri}/_" if one.kind == "unread" else one.uri


def _count(passed: Counter[str], uri: str) -> None:
    name = uri.rpartition("/")[2]
    suffix = f".{_suffix(name)}" if "." in name.lstrip(".") else "no suffix"
    passed[suffix if suffix in passed or len(passed) < _PASSED_SUFFIXES else "other suffixes"] += 1


def _excluded(uri: str, root: str, patterns: Sequence[str]) -> bool:
    if not patterns:
        return False
    named = address(uri)
    below = named.name if named and named.name else uri.removeprefix(root.rstrip("/")).lstrip("/")
    parts = below.split("/")
    return any(
        fnmatchcase(below, pattern) if "/" in pattern else any(fnmatchcase(part, pattern) for part in parts)
        for pattern in patterns
    )


def list_objects(uris: Sequence[str]) -> Iterator[Listed]:
    """One row per uri, in order, looked up concurrently. What cannot be found has a row too: reading it says why."""
    with ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="list") as pool:
        for start in range(0, len(uris), 64 * _LOOKUPS):
            yield from pool.map(_looked_up, uris[start : start + 64 * _LOOKUPS])


UNKNOWN = "unknown"  # version of what could not be looked up


def _looked_up(uri: str) -> Listed:
    try:
        if (named := address(uri)) and not (is_local(uri) and Path(file_path(uri)).exists()):
            member, size = located(uri, named)
            of = facts(member.container)
            return Listed(uri, kind_of(uri), size, of.mtime, of.version, member)
        return _listed(facts(uri), uri)
    except MediaError:  # reading it will say why
        return Listed(uri, kind_of(uri), None, None, UNKNOWN)


def kind_of(uri: str) -> str:
    """What an item is by its name: "video", or "image", also where the name does not say."""
    named = address(uri)
    name = uri if named is None else named.name or ""
    return "video" if name.rsplit(".", 1)[-1].lower() in VIDEO_SUFFIXES else "image"


def has_media_suffix(name: str) -> bool:
    """Is it one of the media by its name?"""
    return _suffix(name) in _MEDIA_SUFFIXES


def _listed(of: Facts, uri: str) -> Listed:
    return Listed(uri, kind_of(uri), of.size, of.mtime, of.version)


# --- what an input names ----------------------------------------------------------------------------------------------


def _found(root: str, given: str) -> Iterator[Listed]:
    """The objects of an input: media, and named archives and lists as they are."""
    filesystem, path = patiently(lambda: open_filesystem(root))
    try:
        info = look_up(root)
    except MissingError as error:
        if not any(c in path for c in "*?[") or (is_local(root) and "permission" in str(error)):
            if not is_local(root) and "gone" not in str(error):
                raise
            why = "no such file or folder" if "gone" in str(error) else "cannot read"
            raise UsageError(f"{why}: {given!r}") from error
        yield from _globbed(filesystem, root, given)
        return
    if info["type"] == "directory":
        yield from _walked(filesystem, root, path)
    elif address(root) is None and _suffix(root) in LIST_SUFFIXES:
        yield _listed(facts_of(info), root)._replace(kind="list")
    else:
        yield _listed(facts_of(info), root)


def _globbed(filesystem: Any, root: str, given: str) -> Iterator[Listed]:
    """What matches a pattern, and what lies in folders that match."""
    pattern = root.removeprefix("file://").rstrip("/")
    base = pattern[: re.search(r"[*?[]", pattern).start()].rsplit("/", 1)[0]  # type: ignore[union-attr]
    matches, below = re.compile(glob_translate(pattern)), re.compile(glob_translate(pattern.rstrip("/") + "/**"))
    lists = _suffix(pattern) in LIST_SUFFIXES
    none = True
    start = base or "/"
    for name, info in _files(filesystem, root, open_filesystem(start)[1] if not is_local(root) else file_path(start)):
        shown = name if not is_local(root) else name.removeprefix("file://")
        if info["type"] == "unread":
            if _may_hold(pattern, shown):
                yield _unread(name, info["fault"])
            continue
        if matches.match(shown):
            none = False
            if lists and _suffix(name) in LIST_SUFFIXES:
                yield _listed(facts_of(info), name)._replace(kind="list")
                continue
        elif below.match(shown):
            none = False
        else:
            continue
        yield from _passed(filesystem, name, info)
    if none:
        raise UsageError(f"no such file or folder: {given!r}")


def _may_hold(pattern: str, folder: str) -> bool:
    """May something below a folder match the pattern?"""
    for part, wanted in zip(folder.split("/"), pattern.split("/"), strict=False):
        if wanted == "**":
            return True
        if not fnmatchcase(part, wanted):
            return False
    return True


def _walked(filesystem: Any, root: str, path: str) -> Iterator[Listed]:
    for name, info in _files(filesystem, root, path):
        if info["type"] == "unread":
            yield _unread(name, info["fault"])
        else:
            yield from _passed(filesystem, name, info)


def _unread(place: str, why: str) -> Listed:
    return Listed(place, "unread", None, None, "", fault=why)


def _passed(filesystem: Any, name: str, info: dict[str, Any]) -> Iterator[Listed]:
    """A file that was come by, if it is or may hold media by its suffix."""
    suffix = _suffix(name)
    kind = "rows" if suffix == "parquet" else "table" if suffix in _TABLE_SUFFIXES else None
    if not (has_media_suffix(name) or kind or is_archive(name)):
        yield Listed(name, _PASSED, None, None, "")
    elif _is_file(filesystem, info):
        listed = _listed(facts_of(info), name)
        yield listed._replace(kind=kind) if kind else listed


def _suffix(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower()


# --- files ------------------------------------------------------------------------------------------------------------


def _files(filesystem: Any, root: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file below a path with what the store tells of it: uri, info. Of a folder that cannot be read, but the
    first, the type is `unread` and its `fault` says why: what is known of it stays.
    """
    if hasattr(filesystem, "call_s3"):
        yield from _keys(filesystem, root, path)
        return
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            infos = patiently(lambda: filesystem.ls(folder, detail=True))  # noqa: B023
        except MediaError as error:
            if "gone" in str(error):
                continue
            if folder == path:
                raise
            yield _uri_of(filesystem, folder), {"type": "unread", "fault": str(error)}
            continue
        here = folder.rstrip("/")
        folders = [one for one in infos if one["type"] == "directory" and str(one["name"]).rstrip("/") != here]
        for info in sorted((one for one in infos if one["type"] != "directory"), key=lambda info: str(info["name"])):
            yield _uri_of(filesystem, str(info["name"])), info
        waiting += sorted((str(one["name"]).rstrip("/") for one in folders), reverse=True)


def _uri_of(filesystem: Any, name: str) -> str:
    return file_uri(name) if filesystem is local() else str(filesystem.unstrip_protocol(name))


def _keys(filesystem: Any, root: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The keys below a prefix of an S3 bucket, page by page: a bucket of millions is never in memory as a whole."""
    bucket, _, prefix = path.strip("/").partition("/")
    protocol = root.partition("://")[0]
    asked = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "MaxKeys": _PAGE}
    more: dict[str, str] = {}
    while True:
        page = patiently(lambda: filesystem.call_s3("list_objects_v2", **asked, **more))  # noqa: B023
        for one in page.get("Contents", []):
            if not one["Key"].endswith("/"):
                yield f"{protocol}://{bucket}/{one['Key']}", {**one, "type": "file", "size": one["Size"]}
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _is_file(filesystem: Any, info: dict[str, Any]) -> bool:
    if info["type"] == "file":
        return True
    if filesystem is not local():
        return False
    path = Path(info["name"])  # a link to a file is one; a dangling link is listed, so that its loss is a row
    return path.is_file() or (path.is_symlink() and not path.exists())


# --- archives ---------------------------------------------------------------------------------------------------------


def open_archives(found: Iterable[Listed]) -> Iterator[list[Listed]]:
    """What each object holds, in order: the media of an archive, of anything else itself. A few are open at a time."""
    waiting: deque[Future[list[Listed]] | list[Listed]] = deque()
    with ThreadPoolExecutor(_ARCHIVES, thread_name_prefix="archive") as pool:
        for one in found:
            opened = _members if _can_be_opened(one) else _looked_for if _may_be_away(one) else None
            waiting.append(pool.submit(opened, one) if opened else [one])
            while waiting and (len(waiting) > _ARCHIVES or not isinstance(waiting[0], Future)):
                yield _held(waiting.popleft())
        yield from map(_held, waiting)


def _may_be_away(one: Listed) -> bool:
    """May it be a container that could not be looked up?"""
    return (
        one.version == UNKNOWN and address(one.uri) is None and (is_archive(one.uri) or _suffix(one.uri) == "parquet")
    )


def _looked_for(one: Listed) -> list[Listed]:
    """A container that could not be looked up: `unread`, unless it is gone."""
    why = "it could not be looked up"
    try:
        look_up(one.uri)
    except MissingError:
        return [one]
    except MediaError as error:
        why = str(error)
    return [one, _unread(one.uri, why)]


def _held(found: Future[list[Listed]] | list[Listed]) -> list[Listed]:
    return found.result() if isinstance(found, Future) else found


def _can_be_opened(one: Listed) -> bool:
    """Is it an archive? One whose size nobody tells is not there, or cannot be read in places."""
    return one.kind != "list" and is_archive(one.uri) and address(one.uri) is None and one.size is not None


def _members(archive: Listed) -> list[Listed]:
    """The media of an archive in its order, each with what its sidecars say of it; `unread` where it is damaged."""
    try:
        held = held_in(archive.uri, archive.size or 0)
    except TransientError as error:  # else what was known of its members would go
        raise RunError(f"cannot list {archive.uri!r}: {error}") from error
    except MediaError as error:
        return [archive._replace(fault=str(error)), _unread(archive.uri, str(error))]
    sidecars = Sidecars(held)
    faults = [one.entry.fault for one in held if one.entry.name is None]
    unread = [_unread(archive.uri, fault or "it is damaged") for fault in faults[:1]]
    return unread + [
        archive._replace(fault=one.entry.fault)
        if one.entry.name is None
        else _member(archive, one, sidecars.fields_of(one.entry.name))
        for one in held
        if one.entry.name is None or has_media_suffix(one.entry.name)
    ]


def _member(archive: Listed, one: Held, fields: dict[str, Any] | None) -> Listed:
    _, size, member, fault = one.entry
    kind = "video" if _suffix(one.entry.name or "") in VIDEO_SUFFIXES else "image"
    return Listed(one.uri, kind, size, archive.mtime, archive.version, member, fault, fields)
