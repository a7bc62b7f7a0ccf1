"""An output of neardup made of hashes alone, as if so many photos had been hashed by PDQ."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from neardup import storage, tables
from neardup.hashers import parse
from neardup.media import DecodePolicy
from neardup.stages.hashing import hash_type
from neardup.stages.live import maker

ROWS_PER_PART = 1_000_000


def write_output(folder: Path, hashes: np.ndarray) -> str:
    """MEDIA and HASHES of as many items as `hashes` (n, 32) has rows; gives the root."""
    root = storage.absolute(str(folder))
    made = maker(parse("pdq"))
    schema = tables.hashes_schema(hash_type(made.hasher))
    manifest: dict[str, list[str]] = {"media": [], made.folder: []}
    for start in range(0, len(hashes), ROWS_PER_PART):
        some = np.ascontiguousarray(hashes[start : start + ROWS_PER_PART])
        n = len(some)
        numbers = np.char.zfill(np.arange(start, start + n).astype(f"U{len(str(len(hashes)))}"), len(str(len(hashes))))
        uris = pa.array(np.char.add(np.char.add("file:///photos/", numbers), ".jpg"))
        columns = {
            "uri": uris,
            "version": pa.repeat("1", n),
            "variant": pa.repeat("r0", n),
            "frame_index": pa.repeat(pa.scalar(0, pa.int64()), n),
            "hash": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(some.shape[1]), n, [None, pa.py_buffer(some.tobytes())]
            ),
            "quality": pa.repeat(pa.scalar(100, pa.int16()), n),
        }
        stamp = {"hasher": made.stamp, "decode": DecodePolicy().spec}
        manifest[made.folder].append(_write(root, made.folder, start, schema, columns, stamp))
        media = {
            "uri": uris,
            "kind": pa.repeat("image", n),
            "size": pa.repeat(pa.scalar(1, pa.int64()), n),
            "version": pa.repeat("1", n),
        }
        manifest["media"].append(_write(root, "media", start, tables.MEDIA, media, {"decode": DecodePolicy().spec}))
    storage.commit_manifest(root, manifest)
    return root


def _write(
    root: str, folder: str, number: int, schema: pa.Schema, columns: dict[str, pa.Array], made_by: dict[str, object]
) -> str:
    name = f"{folder}/part-{number:024x}.parquet"
    count = len(columns["uri"])
    full = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    tables.write_part(root, name, pa.table(full, schema=schema), made_by)
    return name
