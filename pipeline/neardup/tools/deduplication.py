"""Duplicates as pairs of ids: among ready-made hashes, and among files that are hashed first.

Hashes are packed as tables hold them, equal ones are collapsed, the join finds the near ones, and each pair of hashes
becomes the pairs of the ids that have them. Ids are numbered in the order in which they are given.
"""

import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from neardup import joins
from neardup.errors import UsageError
from neardup.hashers import Hasher
from neardup.hashers.encoding import BITS, Vector, pack, packed_length, string_to_vector, unpack
from neardup.joins.real import METRICS, pair_distances, self_join_real_chunks, tile_count

TILE_ROWS = 1 << 17  # binary hashes compared between two reports of progress
CHUNK_PAIRS = 1 << 22  # pairs of ids held at once beyond the distinct ones

Id = TypeVar("Id", bound=Hashable)
Item = TypeVar("Item")
File = TypeVar("File", str, Path, str | Path)
Progress = Callable[..., Iterable[Any]]
Rows = NDArray[np.int64]
Pairs = tuple[Rows, Rows]  # of numbers, the smaller first
Packed = NDArray[np.uint8]


class Space(NamedTuple):
    """What hashes are: so many elements of a type, and what tells how far apart two are."""

    length: int
    dtype: str
    metric: str
    hasher: Hasher | None

    @property
    def is_binary(self) -> bool:
        """Whether the join of packed bits is the one to use."""
        return self.dtype == "bool" and self.metric == "hamming"


def deduplicate(
    files: Iterable[File],
    hashers: Iterable[tuple[Hasher, float]],
    isometric: bool = False,
    progress: Progress | None = None,
) -> list[tuple[File, File]]:
    """The pairs of files that at least one of the `hashers`, given as (hasher, threshold), takes for duplicates.

    Each pair has the file that comes earlier in `files` first, and pairs are in that order. Removing the first file of
    every pair leaves at least one file of every group. With `isometric`, flipped and turned copies count as
    duplicates. `progress` is called as `tqdm.tqdm` is: with an iterable, `total` and `desc`.

    A file that cannot be hashed is in no pair, and a `UserWarning` names it and the reason. Of several names of one
    file (a repeated path, `./a` for `a`, a link) the first is compared, with a `UserWarning`. Raises `UsageError` for a
    threshold that cannot be meant and for what is not a path.
    """
    hashers = list(hashers)
    for hasher, threshold in hashers:
        _check_threshold(threshold, hasher.distance_metric)
    once = _without_repeats(files)
    position = {file: number for number, file in enumerate(once)}
    found: set[tuple[File, File]] = set()
    failures: dict[str, None] = {}
    for number, (hasher, threshold) in enumerate(hashers, start=1):
        hashes: list[tuple[File, str]] = []
        for record in hasher.compute_parallel(
            once,
            progress=progress,
            progress_desc=f"Hashing, hasher {number} of {len(hashers)}",
            isometric=isometric,
        ):
            file, texts = cast("Any", record["filepath"]), list(_texts(record["hash"]))
            hashes.extend((file, text) for text in texts)
            if not texts:
                reason = record["error"] or f"{type(hasher).__name__} has no hash for it"
                failures[f"{os.fspath(file)} was not compared: {reason}"] = None
        found.update(deduplicate_hashes(hashes, threshold, hasher=hasher, progress=progress))
    for failure in failures:
        warnings.warn(failure, UserWarning, stacklevel=2)
    return sorted(found, key=lambda pair: (position[pair[0]], position[pair[1]]))


def deduplicate_hashes(
    hashes: Iterable[tuple[Id, str | Vector | None]],
    threshold: float,
    hash_format: str = "base64",
    hasher: Hasher | None = None,
    hash_length: int | None = None,
    hash_dtype: str | None = None,
    distance_metric: str | None = None,
    progress: Progress | None = None,
) -> list[tuple[Id, Id]]:
    """The pairs of ids of which two hashes are at a distance < `threshold`, from (id, hash) pairs.

    An id is anything hashable and may have several hashes, strings in `hash_format` or vectors; a hash that is None
    is near to none. Each pair has the id that comes earlier in `hashes` first, and pairs are in that order: removing
    the first id of every pair leaves at least one of every group. An id is never paired with itself.

    Distances are the `hasher`'s, else those of `distance_metric` ("hamming", "euclidean", "sqeuclidean" or "cosine")
    between `hash_length` elements of `hash_dtype` ("bool", "uint8" or "float32"). Where both are given and differ, the
    hasher is right and a `UserWarning` says so. Hashes with a custom metric are compared one by one. `progress` is
    called as `tqdm.tqdm` is.

    Raises `UsageError` for hashes of another length or format, and for a threshold that cannot be meant.
    """
    space = _space(hasher, hash_length, hash_dtype, distance_metric)
    _check_threshold(threshold, space.metric)
    ids, owners, packed = _packed(hashes, space, hash_format)
    if space.metric == "custom":
        pieces = _custom_pairs(packed, owners, threshold, space, progress)
    else:
        pieces = _joined_pairs(packed, owners, threshold, space, progress)
    first, second = np.divmod(_merged(first * len(ids) + second for first, second in pieces), max(1, len(ids)))
    return [(ids[a], ids[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True)]


def flatten(list_of_lists: Iterable[Iterable[Item]]) -> list[Item]:
    """The items of all lists, in order, as one list."""
    return list(chain.from_iterable(list_of_lists))


# --- what is compared -------------------------------------------------------------------------------------------------


def _space(hasher: Hasher | None, length: int | None, dtype: str | None, metric: str | None) -> Space:
    if hasher is not None:
        space = Space(hasher.hash_length, hasher.dtype, hasher.distance_metric, hasher)
        differing = [
            f"{name}={given!r} (the hasher has {known!r})"
            for name, given, known in zip(
                ("hash_length", "hash_dtype", "distance_metric"), (length, dtype, metric), space, strict=False
            )
            if given is not None and given != known
        ]
        if differing:
            warnings.warn(f"the hasher decides; ignored: {', '.join(differing)}", UserWarning, stacklevel=3)
    elif length is None or dtype is None or metric is None:
        raise UsageError(
            "what the hashes are is not known: give hasher, or hash_length, hash_dtype and distance_metric"
        )
    else:
        space = Space(length, dtype, metric, None)
    if space.dtype not in BITS:
        raise UsageError(f"unknown hash dtype {space.dtype!r}; use one of {', '.join(BITS)}")
    if space.metric not in METRICS and not (space.metric == "custom" and hasher is not None):
        raise UsageError(
            f"unknown distance metric {space.metric!r}; use one of {', '.join(METRICS)}, or give the hasher of another"
        )
    if space.length < 1:
        raise UsageError(f"hashes of {space.length} elements have no distances: give the length, 1 or more")
    return space


def _check_threshold(threshold: float, metric: str) -> None:
    if metric == "hamming" and not 0 <= threshold <= 1:
        raise UsageError(
            f"threshold {threshold:g} is outside 0..1: a Hamming distance is the fraction of elements that differ"
        )
    if np.isnan(threshold) or (threshold < 0 and metric != "custom"):
        raise UsageError(f"threshold {threshold:g} cannot be meant: no distance is below it; give a positive number")


def _packed(
    hashes: Iterable[tuple[Id, str | Vector | None]], space: Space, hash_format: str
) -> tuple[list[Id], Rows, Packed]:
    """The ids in order of their first appearance, and per hash that is not None the number of its id and its bytes."""
    numbers: dict[Id, int] = {}
    owners: list[int] = []
    rows: list[bytes] = []
    for identity, value in hashes:
        try:
            owner = numbers.setdefault(identity, len(numbers))
        except TypeError as exc:
            raise UsageError(f"{identity!r} cannot be an id: ids must be hashable, such as str, Path or tuple") from exc
        if value is not None:
            owners.append(owner)
            rows.append(_bytes(identity, value, space, hash_format))
    width = packed_length(space.length, space.dtype)
    packed = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), width)
    return list(numbers), np.array(owners, np.int64), packed


def _bytes(identity: Hashable, value: str | Vector, space: Space, hash_format: str) -> bytes:
    try:
        if isinstance(value, str):
            value = string_to_vector(value, space.dtype, space.length, hash_format)
        vector = np.asarray(value)
        if vector.size != space.length:
            raise UsageError(f"{vector.size} elements, not {space.length}")
        return pack(vector, space.dtype)
    except ValueError as exc:  # UsageError is one; the rest is what numpy says of values that are no vector
        raise UsageError(f"the hash of {identity!r} cannot be used: {exc}") from exc


# --- pairs of hashes to pairs of ids ----------------------------------------------------------------------------------


def _joined_pairs(
    packed: Packed, owners: Rows, threshold: float, space: Space, progress: Progress | None
) -> Iterator[Pairs]:
    """Pairs of ids, in pieces and some more than once, by the join of distinct hashes."""
    if len(packed) == 0:
        return
    hashes, inverse = joins.distinct(packed)
    owned = _Owned.of(inverse, owners, len(hashes))
    shared = np.flatnonzero(np.diff(owned.starts) > 1)
    if space.is_binary:
        near = shared if threshold > 0 else shared[:0]
        matches = _binary_matches(hashes, joins.radius_from_threshold(threshold, space.length), progress)
    else:
        vectors = _float_rows(hashes, space)
        near = shared[pair_distances(vectors, shared, shared, cast("Any", space.metric)) < threshold]
        matches = _real_matches(vectors, threshold, space.metric, progress)
    yield from owned.pairs(near, near)
    for i, j in matches:
        yield from owned.pairs(i, j)


class _Owned(NamedTuple):
    """Who has a distinct hash: the ids of hash k are `owners[starts[k]:starts[k + 1]]`, each once."""

    starts: Rows
    owners: Rows

    @staticmethod
    def of(inverse: Rows, owners: Rows, n_hashes: int) -> "_Owned":
        rows, who = np.divmod(np.unique(inverse * (owners.max() + 1) + owners), owners.max() + 1)
        return _Owned(np.searchsorted(rows, np.arange(n_hashes + 1)), who)

    def pairs(self, i: Rows, j: Rows) -> Iterator[Pairs]:
        """The pairs of an id of hash i[k] and another of hash j[k], in pieces of about `CHUNK_PAIRS`."""
        sizes = np.diff(self.starts)
        a = self.owners[_ranges(self.starts[i], sizes[i])]
        j = np.repeat(j, sizes[i])
        ends = np.cumsum(sizes[j])
        start, done = 0, 0
        while start < len(a):
            stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK_PAIRS, "right")))
            of_hash = j[start:stop]
            b = self.owners[_ranges(self.starts[of_hash], sizes[of_hash])]
            left = np.repeat(a[start:stop], sizes[of_hash])
            first, second = np.minimum(left, b), np.maximum(left, b)
            differ = first != second
            yield first[differ], second[differ]
            start, done = stop, int(ends[stop - 1])


def _ranges(starts: Rows, counts: Rows) -> Rows:
    """starts[0], starts[0] + 1, ... counts[0] of them, then those of starts[1], and so on."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def _binary_matches(hashes: Packed, radius_bits: int, progress: Progress | None) -> Iterator[Pairs]:
    """Rows of near packed hashes, tile by tile."""
    starts = range(0, len(hashes), TILE_ROWS)
    tiles = [(top, left) for top in starts for left in starts if top <= left]
    for top, left in _reported(tiles, len(tiles), progress):
        a, b = hashes[top : top + TILE_ROWS], hashes[left : left + TILE_ROWS]
        same = top == left
        chunks = joins.self_join_chunks(a, radius_bits) if same else joins.cross_join_chunks(a, b, radius_bits)
        for chunk in chunks:
            yield chunk.i + top, chunk.j + left


def _real_matches(
    vectors: NDArray[np.float32], threshold: float, metric: str, progress: Progress | None
) -> Iterator[Pairs]:
    """Rows of near vectors, tile by tile."""
    chunks = self_join_real_chunks(vectors, threshold, cast("Any", metric))
    for chunk in _reported(chunks, tile_count(len(vectors)), progress):
        yield chunk.i, chunk.j


def _custom_pairs(
    packed: Packed, owners: Rows, threshold: float, space: Space, progress: Progress | None
) -> Iterator[Pairs]:
    """Pairs of ids, by the hasher's own distance, one pair of hashes at a time."""
    hasher = cast("Hasher", space.hasher)
    vectors = [unpack(row.tobytes(), space.dtype, space.length) for row in packed]
    for row in _reported(range(len(vectors)), len(vectors), progress):
        near = [
            other
            for other in range(row + 1, len(vectors))
            if owners[other] != owners[row] and hasher.compute_distance(vectors[row], vectors[other]) < threshold
        ]
        yield np.minimum(owners[near], owners[row]), np.maximum(owners[near], owners[row])


def _float_rows(packed: Packed, space: Space) -> NDArray[np.float32]:
    if space.dtype == "float32":
        return packed.view("<f4").astype(np.float32, copy=False)
    rows = np.unpackbits(packed, axis=1, count=space.length) if space.dtype == "bool" else packed
    return rows.astype(np.float32)


def _merged(pieces: Iterable[Rows]) -> Rows:
    """The distinct numbers in all pieces, sorted, holding not much more than these at any time."""
    merged, waiting, n_waiting = np.empty(0, np.int64), [], 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting > max(CHUNK_PAIRS, len(merged)):
            merged, waiting, n_waiting = np.unique(np.concatenate([merged, *waiting])), [], 0
    return np.unique(np.concatenate([merged, *waiting]))


def _reported(iterable: Iterable[Any], total: int, progress: Progress | None) -> Iterable[Any]:
    return iterable if progress is None else progress(iterable, total=total, desc="Comparing")


# --- files ------------------------------------------------------------------------------------------------------------


def _without_repeats(files: Iterable[File]) -> list[File]:
    """The files, each once, as removing "the first of a pair" must not remove the only file."""
    first: dict[str, File] = {}
    repeats = []
    for file in files:
        if not isinstance(file, (str, os.PathLike)):
            raise UsageError(f"{file!r} is not a path: files are given as str or Path")
        target = _target(os.fspath(file))
        if target in first:
            repeats.append(file)
        else:
            first[target] = file
    if repeats:
        shown = ", ".join(map(str, repeats[:3])) + (", ..." if len(repeats) > 3 else "")
        warnings.warn(f"{len(repeats)} files were given more than once ({shown}); each is compared once", stacklevel=3)
    return list(first.values())


def _target(path: str) -> str:
    """The file that a path leads to; what cannot be a path of this machine (a URL) is only equal to itself."""
    return path if "://" in path or "\0" in path else os.path.realpath(path)


def _texts(hash_value: Any) -> Iterator[str]:
    """The hashes in a record: of one image, of a list of them, or of its variants."""
    if isinstance(hash_value, dict):
        hash_value = list(hash_value.values())
    if isinstance(hash_value, list):
        for value in hash_value:
            yield from _texts(value)
    elif hash_value is not None:
        yield hash_value
