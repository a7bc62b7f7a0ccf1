"""Pictures, what transforms make of them, and their hashes."""

import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import cv2
import pandas as pd

from neardup import tools
from neardup.benchmarking.frames import BenchmarkError, Dataset, Saveable
from neardup.benchmarking.hashes import BenchmarkHashes, Outcome, hash_rows, no_hashes
from neardup.errors import MediaError, RunError, UsageError
from neardup.hashers import Hasher, Planes
from neardup.hashers.encoding import Vector
from neardup.hashers.tools import read
from neardup.transforms import Pixels, Transform, call, parse, seed_of
from neardup.transforms.detail import encoded

AnyTransform = Transform | str | Callable[..., Any]
JPEG_QUALITY = 95


class TransformError(RunError, RuntimeError):
    """A transform failed on a picture, or gave no picture (also a RuntimeError, which the reference raises)."""


class BenchmarkImageTransforms(Saveable):
    """One row per file: an original (transform_name "noop") or what a transform made of it, under the same guid."""

    expected_columns: ClassVar[list[str]] = ["filepath", "category", "transform_name", "input_filepath", "guid"]

    def compute_hashes(self, hashers: Mapping[str, Hasher], max_workers: int = 5) -> BenchmarkHashes:
        """The hashes of all files by all hashers, in base64; a file that fails has a null hash and an error.

        Each file is decoded once, and hashers share what they compute from it. A hasher that brings its own `compute`
        or `compute_parallel`, or does not allow threads, gets the files by its own `compute_parallel`.
        """
        paths = self._df["filepath"].tolist()
        shared = {name: hasher for name, hasher in hashers.items() if _can_share(hasher)}
        by_file = _hash_files(paths, list(shared.values()), max_workers)
        outcomes = {name: [file[place] for file in by_file] for place, name in enumerate(shared)}
        frames = [
            hash_rows(
                self._df, name, hasher, outcomes[name] if name in shared else _own_way(hasher, paths, max_workers)
            )
            for name, hasher in hashers.items()
        ]
        return BenchmarkHashes(pd.concat(frames, ignore_index=True).sort_index(axis=1) if frames else no_hashes())


class BenchmarkImageDataset(Dataset):
    """One row per picture: its file and its category."""

    def deduplicate(
        self, hasher: Hasher, threshold: float = 0.001, isometric: bool = False
    ) -> tuple[Self, set[tuple[str, str]]]:
        """The dataset without the first of each pair of duplicates within a category, and those pairs."""
        pairs: set[tuple[str, str]] = set()
        for _, group in self._df.groupby("category", sort=False):
            pairs.update(tools.deduplicate(group["filepath"].tolist(), [(hasher, threshold)], isometric=isometric))
        removed = {first for first, _ in pairs}
        return self.__class__(self._df[~self._df["filepath"].isin(removed)].copy()), pairs

    def transform(
        self, transforms: Mapping[str, AnyTransform], storage_dir: str | Path, errors: str = "raise"
    ) -> BenchmarkImageTransforms:
        """Apply every transform to every picture, and save the results with their index in `storage_dir`.

        A transform is a text such as "jpeg:60", what `transforms.parse` makes of it, or any callable that takes
        `image=` (RGB) and returns pixels or a dict with an "image". The one named "noop" is required and says how
        originals are stored; the others are applied to what it stored. Everything is stored as JPEG of quality 95,
        named GUID_TRANSFORM.jpg. Transforms of the catalogue draw at random by the original's path alone.

        A picture that cannot be read is an error, or with `errors="warn"` a `UserWarning` and left out.
        """
        if "noop" not in transforms:
            raise BenchmarkError("You must provide a no-op transform named 'noop', such as 'noop' or 'noop:256'")
        if errors not in ("raise", "warn", "ignore"):
            raise UsageError(f"unknown errors={errors!r}; choose 'raise', 'warn' or 'ignore'")
        folder = Path(storage_dir)
        folder.mkdir(parents=True, exist_ok=True)
        steps = {name: parse(each) if isinstance(each, str) else each for name, each in transforms.items()}
        steps = {"noop": steps.pop("noop"), **steps}
        rows = []
        for path, category in self._df[["filepath", "category"]].itertuples(index=False, name=None):
            original = _read_original(path, errors)
            if original is not None:
                rows += [{**row, "category": category} for row in _transformed(path, original, steps, folder)]
        order = {name: place for place, name in enumerate(steps)}
        df = pd.DataFrame(rows, columns=["guid", "transform_name", "input_filepath", "filepath", "category"])
        df = df.sort_values("transform_name", key=lambda names: names.map(order), kind="stable", ignore_index=True)
        result = BenchmarkImageTransforms(df)
        result.save(folder)
        return result


def _read_original(path: str, errors: str) -> Pixels | None:
    try:
        return read(path)
    except MediaError as exc:
        if errors == "raise":
            raise
        if errors == "warn":
            warnings.warn(f"An error occurred reading {path}. ({exc})", UserWarning, stacklevel=3)
        return None


def _transformed(path: str, original: Pixels, steps: Mapping[str, Any], folder: Path) -> Iterator[dict[str, str]]:
    """Store a picture and what each transform makes of the stored one; the row of each."""
    guid, seed = str(uuid.uuid4()), seed_of(path)
    source, pixels = path, original
    for name, step in steps.items():
        try:
            # a copy, as a callable of the user's own may write into what it gets
            changed = step(pixels, seed) if isinstance(step, Transform) else call(step, pixels.copy())
            data = encoded(changed, ".jpg", cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
        except Exception as exc:  # whatever a callable of the user's own may raise
            raise TransformError(f"An exception occurred while processing {path} with transform {name}: {exc}") from exc
        target = folder / f"{guid}_{name.replace('/', '-')}.jpg"
        target.write_bytes(data)
        yield {"guid": guid, "transform_name": name, "input_filepath": source, "filepath": str(target)}
        if name == "noop":
            source, pixels = str(target), read(data)


def _can_share(hasher: Hasher) -> bool:
    """Whether a hasher's `compute` is the usual one, so that it may be given planes that others use too."""
    if not isinstance(hasher, Hasher) or not hasher.allow_parallel:
        return False
    cls = type(hasher)
    return cls.compute is Hasher.compute and cls.compute_parallel is Hasher.compute_parallel


def _hash_files(paths: Sequence[str], hashers: Sequence[Hasher], max_workers: int) -> list[list[Outcome]]:
    """Per file, the outcome of each hasher."""
    with ThreadPoolExecutor(max_workers=max_workers) as pool:
        return list(pool.map(lambda path: _hash_file(path, hashers), paths))


def _hash_file(path: str, hashers: Sequence[Hasher]) -> list[Outcome]:
    try:
        planes = Planes(read(path))
    except MediaError as exc:
        return [Outcome([None], str(exc))] * len(hashers)
    return [_hash(planes, hasher) for hasher in hashers]


def _hash(planes: Planes, hasher: Hasher) -> Outcome:
    try:  # as in `compute_parallel`: any failure of a hasher becomes a record
        vectors, _ = hasher.hash_planes(planes)
    except Exception as exc:
        return Outcome([None], str(exc))
    several = cast("list[Vector]", vectors or []) if hasher.returns_multiple else [cast("Vector | None", vectors)]
    return Outcome([hasher.vector_to_string(vector) for vector in several] or [None], None)


def _own_way(hasher: Hasher, paths: Sequence[str], max_workers: int) -> list[Outcome]:
    records = hasher.compute_parallel(paths, max_workers=max_workers)
    hashes = [record["hash"] for record in records]
    lists = [each if hasher.returns_multiple and each is not None else [each] for each in hashes]
    return [Outcome(each or [None], record["error"]) for each, record in zip(lists, records, strict=True)]
