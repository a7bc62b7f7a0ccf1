"""Urls, listings, bulk reads, whole parts, the manifest. The only package that uses fsspec.

A *root* is the uri of an output folder; a *name* is a path below a root, such as `media/part-1f00.parquet`.

    credentials which urls carry one, and texts without them
    failures    what a foreign error means
    urls        what an item is called, which store it lies in
    hosts       how many requests are under way to each, which of them answer at all
    web         a client of web servers that says what went wrong
    retrying    what is tried again, and how soon
    objects     one object: its facts, its bytes, a file over it
    members     items inside containers: where they lie, what they are called
    tars, packed, zips, rows   the containers; `containers` opens any of them
    reading     bulk reads within a budget, single reads
    sidecars    what the files beside a member say of it
    listing     what an input holds
    parts       files of an output, whole or not there
    copies      objects copied byte for byte
    swaps       compare and set
    manifest    which parts are live, and what each commit replaced
"""

from neardup.storage.containers import Held, find_members
from neardup.storage.copies import Opener, copy
from neardup.storage.credentials import redacted, secret_in
from neardup.storage.hosts import forget_hosts, limit_hosts
from neardup.storage.listing import (
    IMAGE_SUFFIXES,
    LIST_SUFFIXES,
    UNKNOWN,
    VIDEO_SUFFIXES,
    Listed,
    kind_of,
    list_media,
    list_objects,
    open_archives,
)
from neardup.storage.manifest import MANIFEST, Commits, Manifest, commit_manifest, fence, read_manifest
from neardup.storage.members import Entry, Member, container_of, numbered
from neardup.storage.objects import facts
from neardup.storage.parts import (
    TEMPORARY,
    create,
    delete,
    list_folder,
    list_names,
    open_part,
    read,
    reading_part,
    total_size,
    unfinished,
    write,
    writing,
)
from neardup.storage.reading import Content, Wanted, open_object, read_ahead, read_object
from neardup.storage.sidecars import sidecars_of
from neardup.storage.swaps import Stored, read_stored, remove, swap
from neardup.storage.urls import absolute, forget, is_inside, is_local, local_path, resolved

__all__ = [
    "IMAGE_SUFFIXES",
    "LIST_SUFFIXES",
    "MANIFEST",
    "TEMPORARY",
    "UNKNOWN",
    "VIDEO_SUFFIXES",
    "Commits",
    "Content",
    "Entry",
    "Held",
    "Listed",
    "Manifest",
    "Member",
    "Opener",
    "Stored",
    "Wanted",
    "absolute",
    "commit_manifest",
    "container_of",
    "copy",
    "create",
    "delete",
    "facts",
    "fence",
    "find_members",
    "forget",
    "forget_hosts",
    "is_inside",
    "is_local",
    "kind_of",
    "limit_hosts",
    "list_folder",
    "list_media",
    "list_names",
    "list_objects",
    "local_path",
    "numbered",
    "open_archives",
    "open_object",
    "open_part",
    "read",
    "read_ahead",
    "read_manifest",
    "read_object",
    "read_stored",
    "reading_part",
    "redacted",
    "remove",
    "resolved",
    "secret_in",
    "sidecars_of",
    "swap",
    "total_size",
    "unfinished",
    "write",
    "writing",
]
