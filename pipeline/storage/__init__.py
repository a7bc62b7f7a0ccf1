"""Urls, listings, bulk reads, whole parts, the manifest. The only package that uses fsspec.

A *root* is the uri of an output folder; a *name* is a path below a root, such as `media/part-1f00.parquet`.

    urls        what an item is called, which store it lies in, what must not be written down
    retrying    what is tried again, what a foreign error means
    objects     one object: its facts, its bytes, a file over it
    members     items inside containers: where they lie, what they are called
    tars, packed, zips, rows   the containers; `containers` opens any of them
    reading     bulk reads within a budget, single reads
    sidecars    what the files beside a member say of it
    listing     what an input holds
    parts       files of an output, whole or not there
    copies      objects copied byte for byte
    manifest    which parts are live
"""

from pipeline.storage.containers import Held, find_members
from pipeline.storage.copies import Opener, copy
from pipeline.storage.listing import (
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
from pipeline.storage.manifest import MANIFEST, commit_manifest, read_manifest
from pipeline.storage.members import Entry, Member, container_of, numbered
from pipeline.storage.parts import (
    TEMPORARY,
    create,
    delete,
    delete_unfinished,
    list_folder,
    list_names,
    open_part,
    read,
    total_size,
    write,
    writing,
)
from pipeline.storage.reading import Content, Wanted, open_object, read_ahead, read_object
from pipeline.storage.sidecars import sidecars_of
from pipeline.storage.urls import absolute, forget, is_inside, is_local, local_path, redacted, resolved, secret_in

__all__ = [
    "IMAGE_SUFFIXES",
    "LIST_SUFFIXES",
    "MANIFEST",
    "TEMPORARY",
    "UNKNOWN",
    "VIDEO_SUFFIXES",
    "Content",
    "Entry",
    "Held",
    "Listed",
    "Member",
    "Opener",
    "Wanted",
    "absolute",
    "commit_manifest",
    "container_of",
    "copy",
    "create",
    "delete",
    "delete_unfinished",
    "find_members",
    "forget",
    "is_inside",
    "is_local",
    "kind_of",
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
    "redacted",
    "resolved",
    "secret_in",
    "sidecars_of",
    "total_size",
    "write",
    "writing",
]
