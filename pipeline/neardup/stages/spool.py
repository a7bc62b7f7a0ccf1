"""Rows in buckets by their uri: in memory while they are few, on this machine's disk when they are many.

All members of a container share a bucket, so that an archive is never cut by chance.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from neardup.errors import NeardupError, RunError

BUCKETS = 64
ROWS_IN_MEMORY = 200_000


def bucket_numbers(uris: pa.ChunkedArray) -> np.ndarray:
    """The bucket of each uri: int64 (n,), 0 to BUCKETS - 1, the same in every process."""
    holders = pc.replace_substring_regex(uris, r"^(?:tar|zip)://(?s:.+?)::", "")
    holders = pc.replace_substring_regex(holders, r"#member=\d+$", "")
    hashed = pd.util.hash_array(holders.to_numpy(zero_copy_only=False), categorize=False)
    return np.asarray(hashed % BUCKETS, np.int64)


@contextmanager
def scratch(folder: Path | None = None) -> Iterator[None]:
    """What writes and reads temporary files. Raises RunError, with the place and the way out, where that fails."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NeardupError):
            raise
        where = folder or tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
        raise RunError(
            f"cannot keep temporary files in {where}: {error.strerror or error}; make room there, or set TMPDIR to a "
            "folder with more"
        ) from error


class Spool:
    """Tables added one by one, given back bucket by bucket. Their schemas may differ; all have a column `uri`."""

    def __init__(self, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        self.limit = rows_in_memory
        self._held: list[pa.Table] = []
        self._folder: Path | None = None
        self._rows = 0

    @property
    def spilled(self) -> bool:
        """Do its rows lie on disk?"""
        return self._folder is not None

    def add(self, rows: pa.Table) -> None:
        """Add rows; only those beyond the limit cost a disk anything."""
        self._rows += len(rows)
        self._held.append(rows)
        if self.spilled or self._rows > self.limit:
            self.spill()

    def spill(self) -> None:
        """Put what is in memory on disk. Raises RunError where that has no room."""
        if self._folder is None:
            with scratch():
                self._folder = Path(tempfile.mkdtemp(prefix="neardup-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for rows in self._held:
            for number, bucket in _split(rows):
                self._write(number, "ab", bucket)
        self._held = []

    def buckets(self) -> Iterator[list[pa.Table]]:
        """The tables of each bucket in the order they were added: a single bucket where nothing was spilled."""
        if not self.spilled:
            yield self._held
            return
        for number in range(BUCKETS):
            yield list(_streams(self._path(number)))

    def change(self, to: Callable[[list[pa.Table]], pa.Table]) -> None:
        """Put in place of each bucket's tables the one that is made of them."""
        if not self.spilled:
            self._held = [to(self._held)]
            return
        for number in range(BUCKETS):
            changed = to(list(_streams(self._path(number))))
            self._write(number, "wb", changed)

    def _write(self, number: int, mode: str, rows: pa.Table) -> None:
        with (
            scratch(self._folder),
            open(self._path(number), mode) as file,
            pa.ipc.new_stream(file, rows.schema) as stream,
        ):
            stream.write_table(rows)

    def _path(self, number: int) -> Path:
        assert self._folder
        return self._folder / f"{number}.arrows"


def _split(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    numbers = bucket_numbers(rows["uri"])
    order = np.argsort(numbers, kind="stable")
    edges = np.searchsorted(numbers[order], np.arange(BUCKETS + 1))
    for number in range(BUCKETS):
        if edges[number] < edges[number + 1]:
            yield number, rows.take(pa.array(order[edges[number] : edges[number + 1]])).combine_chunks()


def _streams(path: Path) -> Iterator[pa.Table]:
    if not path.exists():
        return
    with open(path, "rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            with pa.ipc.open_stream(file) as stream:
                yield stream.read_all()


def together(*spools: Spool) -> Iterator[tuple[list[pa.Table], ...]]:
    """The tables of several spools, bucket by bucket: those of one bucket of each at a time."""
    if any(spool.spilled for spool in spools):
        for spool in spools:
            spool.spill()
    yield from zip(*(spool.buckets() for spool in spools), strict=True)
