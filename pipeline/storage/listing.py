"""Listing: every media object of an input, without holding more than a page, a folder or an archive of them.

Media are found by their suffix, in folders, globs and archives; what is named directly is always listed.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.utils import glob_translate

from pipeline.errors import MediaError, MissingError, TransientError, UsageError
from pipeline.storage.containers import Held, held_in, is_archive, located
from pipeline.storage.members import Member, address
from pipeline.storage.objects import Facts, facts, facts_of
from pipeline.storage.retrying import patiently
from pipeline.storage.sidecars import Sidecars
from pipeline.storage.urls import absolute, is_local, local, open_filesystem

# what media.decode_image reads
_IMAGES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff avif jp2 j2k jpx"
# what media.video reads
_VIDEOS = (
    "mp4 m4v mov qt 3gp 3g2 mkv webm avi mpg mpeg mpe m2v vob ts mts m2ts ogv flv f4v wmv asf rm rmvb dv ivf mxf nut"
)
IMAGE_SUFFIXES, VIDEO_SUFFIXES = frozenset(_IMAGES.split()), frozenset(_VIDEOS.split())
LIST_SUFFIXES = frozenset(["txt", "csv", "tsv", "jsonl", "ndjson", "parquet"])
_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_PAGE = 1000
_LOOKUPS = 32  # under way at a time


class Listed(NamedTuple):
    """One object found in an input. `version` changes whenever the content may have: etag, else mtime and size."""

    uri: str
    kind: str  # image, video; list: a file that names or holds items
    size: int | None  # None where the store does not say
    mtime: datetime | None
    version: str
    member: Member | None = None  # where it lies in a container
    fault: str | None = None  # why it cannot be read, known already
    fields: dict[str, Any] | None = None  # what a sidecar says of it


def list_media(inputs: Sequence[str], exclude: Sequence[str] = ()) -> Iterator[Listed]:
    """Every media object of the inputs, in their order, and the lists named by them; a uri may come twice.

    Folders are walked recursively and give the files whose suffix is known. Archives and lists are opened where they
    are named directly, or by a glob that ends with their suffix. Links to files count, links to folders are not
    followed, devices and pipes are no media. Patterns of `exclude` are held against the path below the input, or,
    without a slash, against any part of it. Raises UsageError for an input that does not exist or may not be read.
    """
    for given in inputs:
        root = absolute(given)
        try:
            for listed in _opened(_found(root, given)):
                if not exclude or not _excluded(listed.uri, root, exclude):
                    yield listed
        except (PermissionError, MissingError) as error:
            raise UsageError(f"cannot read {given!r}: {error.args[0] or 'permission denied'}") from error
        except TransientError as error:
            raise UsageError(f"cannot list {given!r}: {error}") from error


def _excluded(uri: str, root: str, patterns: Sequence[str]) -> bool:
    below = uri.removeprefix(root.rstrip("/")).lstrip("/")
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


def _looked_up(uri: str) -> Listed:
    try:
        if (named := address(uri)) and not (is_local(uri) and Path(uri.removeprefix("file://")).exists()):
            member, size = located(uri, named)
            of = facts(member.container)
            return Listed(uri, kind_of(uri), size, of.mtime, of.version, member)
        return _listed(facts(uri), uri)
    except MediaError:  # reading it will say why
        return Listed(uri, kind_of(uri), None, None, "unknown")


def kind_of(uri: str) -> str:
    """What an item is by its name: "video", or "image", also where the name does not say."""
    named = address(uri)
    name = uri if named is None else named.name or ""
    return "video" if name.rsplit(".", 1)[-1].lower() in VIDEO_SUFFIXES else "image"


def has_media_suffix(name: str) -> bool:
    """Is it one of the media by its name?"""
    return name.rsplit(".", 1)[-1].lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _listed(of: Facts, uri: str) -> Listed:
    return Listed(uri, kind_of(uri), of.size, of.mtime, of.version)


# --- what an input names ----------------------------------------------------------------------------------------------


def _found(root: str, given: str) -> Iterator[Listed]:
    """The objects of an input: media, and named archives and lists as they are."""
    filesystem, path = open_filesystem(root)
    try:
        info = patiently(lambda: filesystem.info(path))
    except MissingError as error:
        if not any(c in path for c in "*?[") or (is_local(root) and "permission" in str(error)):
            if not is_local(root) and "gone" not in str(error):
                raise
            why = "no such file or folder" if "gone" in str(error) else "cannot read"
            raise UsageError(f"{why}: {given!r}") from error
        yield from _globbed(filesystem, root, path, given)
        return
    if info["type"] == "directory":
        yield from _walked(filesystem, root, path)
    elif address(root) is None and _suffix(root) in LIST_SUFFIXES:
        yield _listed(facts_of(info), root)._replace(kind="list")
    else:
        if root.lower().endswith(_COMPRESSED_TARS):
            raise UsageError(f"{given!r} is a compressed tar, which cannot be read in places; give it as a plain .tar")
        yield _listed(facts_of(info), root)


def _globbed(filesystem: Any, root: str, path: str, given: str) -> Iterator[Listed]:
    """What matches a pattern, and what lies in folders that match."""
    pattern = path if is_local(root) else root.rstrip("/")
    base = pattern[: re.search(r"[*?[]", pattern).start()].rsplit("/", 1)[0]  # type: ignore[union-attr]
    matches, below = re.compile(glob_translate(pattern)), re.compile(glob_translate(pattern.rstrip("/") + "/**"))
    opens = is_archive(pattern) or _suffix(pattern) in LIST_SUFFIXES
    none = True
    start = base or "/"
    for name, info in _files(filesystem, root, open_filesystem(start)[1] if not is_local(root) else start):
        shown = name if not is_local(root) else name.removeprefix("file://")
        if matches.match(shown):
            none = False
            if opens and not has_media_suffix(name):
                kind = "list" if _suffix(name) in LIST_SUFFIXES else kind_of(name)
                yield _listed(facts_of(info), name)._replace(kind=kind)
                continue
        elif below.match(shown):
            none = False
        else:
            continue
        if _is_media(filesystem, name, info):
            yield _listed(facts_of(info), name)
    if none:
        raise UsageError(f"no such file or folder: {given!r}")


def _walked(filesystem: Any, root: str, path: str) -> Iterator[Listed]:
    for name, info in _files(filesystem, root, path):
        if _is_media(filesystem, name, info):
            yield _listed(facts_of(info), name)


def _suffix(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower()


# --- files ------------------------------------------------------------------------------------------------------------


def _files(filesystem: Any, root: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file below a path with what the store tells of it: uri, info."""
    if hasattr(filesystem, "call_s3"):
        yield from _keys(filesystem, root, path)
        return
    for _, folders, files in filesystem.walk(path, detail=True):
        for info in sorted(files.values(), key=lambda info: str(info["name"])):
            name = str(info["name"])
            yield ("file://" + name if filesystem is local() else str(filesystem.unstrip_protocol(name))), info
        ordered = sorted(folders.items())  # walk descends into what stays here, in this order
        folders.clear()
        folders.update(ordered)


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


def _is_media(filesystem: Any, name: str, info: dict[str, Any]) -> bool:
    if not has_media_suffix(name):
        return False
    if info["type"] == "file":
        return True
    if filesystem is not local():
        return False
    path = Path(info["name"])  # a link to a file is one; a dangling link is listed, so that its loss is a row
    return path.is_file() or (path.is_symlink() and not path.exists())


# --- archives ---------------------------------------------------------------------------------------------------------


def _opened(found: Iterator[Listed]) -> Iterator[Listed]:
    """The same objects, with the members of archives in place of those."""
    for listed in found:
        if listed.kind != "list" and is_archive(listed.uri) and address(listed.uri) is None:
            yield from _members(listed)
        else:
            yield listed


def _members(archive: Listed) -> Iterator[Listed]:
    """The media of an archive in its order, each with what its sidecars say of it."""
    try:
        held = held_in(archive.uri, archive.size or 0)
    except MediaError as error:
        yield archive._replace(fault=str(error))
        return
    sidecars = Sidecars(held)
    for one in held:
        if one.entry.name is None:
            yield archive._replace(fault=one.entry.fault)
        elif has_media_suffix(one.entry.name):
            yield _member(archive, one, sidecars.fields_of(one.entry.name))


def _member(archive: Listed, one: Held, fields: dict[str, Any] | None) -> Listed:
    _, size, member, fault = one.entry
    kind = "video" if _suffix(one.entry.name or "") in VIDEO_SUFFIXES else "image"
    return Listed(one.uri, kind, size, archive.mtime, archive.version, member, fault, fields)
