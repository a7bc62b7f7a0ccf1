"""Videos, what transforms make of them, and their hashes."""

import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, cast

import pandas as pd

from neardup.benchmarking.frames import BenchmarkError, Dataset, Saveable
from neardup.benchmarking.hashes import BenchmarkHashes, Outcome, hash_rows, no_hashes
from neardup.benchmarking.image import TransformError
from neardup.errors import MediaError, UsageError
from neardup.hashers.video import VideoHasher, compute_synchronized_video_hashes
from neardup.transforms import seed_of
from neardup.transforms.video import VideoTransform, parse_video

AnyVideoTransform = VideoTransform | str | Callable[..., Any]


class BenchmarkVideoTransforms(Saveable):
    """One row per file: an original (transform_name "noop") or what a transform made of it, under the same guid.

    A transform that failed has a null filepath, and `error` says why.
    """

    expected_columns: ClassVar[list[str]] = [
        "filepath",
        "category",
        "transform_name",
        "input_filepath",
        "guid",
        "error",
    ]

    def compute_hashes(self, hashers: Mapping[str, VideoHasher], max_workers: int = 5) -> BenchmarkHashes:
        """The hashes of all files by all video hashers, in base64: a row for each hash of a video.

        Each file is decoded once for all hashers (and once more for those that take keyframes). A file that fails has a
        null hash and an error; one without any hash, such as a black one, a null hash alone.
        """
        for name, hasher in hashers.items():
            if not isinstance(hasher, VideoHasher):
                raise UsageError(
                    f"{name!r} is no video hasher; FramewiseHasher(hasher, interframe_threshold) makes one of it"
                )
        files = list(zip(self._df["filepath"], self._df["error"], strict=True))
        with ThreadPoolExecutor(max_workers=max_workers) as pool:
            by_file = list(pool.map(lambda file: _hash_file(file[0], file[1], hashers), files))
        frames = [
            hash_rows(self._df, name, hasher, [file[name] for file in by_file]) for name, hasher in hashers.items()
        ]
        return BenchmarkHashes(pd.concat(frames, ignore_index=True).sort_index(axis=1) if frames else no_hashes())


class BenchmarkVideoDataset(Dataset):
    """One row per video: its file and its category."""

    def transform(
        self, transforms: Mapping[str, AnyVideoTransform], storage_dir: str | Path, errors: str = "raise"
    ) -> BenchmarkVideoTransforms:
        """Apply every transform to every video, and save the results with their index in `storage_dir`.

        A transform is a text such as "clip:start=0.2,end=0.8" or "crop:0.05+reencode:codec=vp9" (see
        `transforms.video`), what `parse_video` or `video_transforms` make, or any callable that takes the paths
        `input_filepath` and `output_filepath`, may add a suffix to the latter and returns the path that it wrote. The
        one named "noop" is required and says how originals are stored ("reencode" is one); the others are applied to
        what it stored. Files are named GUID_TRANSFORM and a suffix.

        What fails is a `TransformError`, or with `errors` "warn" (a `UserWarning`) and "ignore" a row with an error.
        """
        if "noop" not in transforms:
            raise BenchmarkError("You must provide a no-op transform named 'noop', such as 'reencode'")
        if errors not in ("raise", "warn", "ignore"):
            raise UsageError(f"unknown errors={errors!r}; choose 'raise', 'warn' or 'ignore'")
        folder = Path(storage_dir)
        folder.mkdir(parents=True, exist_ok=True)
        steps = {name: parse_video(each) if isinstance(each, str) else each for name, each in transforms.items()}
        steps = {"noop": steps.pop("noop"), **steps}
        rows = []
        for path, category in self._df[["filepath", "category"]].itertuples(index=False, name=None):
            rows += [{**row, "category": category} for row in _transformed(path, steps, folder, errors)]
        order = {name: place for place, name in enumerate(steps)}
        columns = ["guid", "transform_name", "input_filepath", "filepath", "error", "category"]
        df = pd.DataFrame(rows, columns=columns)
        df = df.sort_values("transform_name", key=lambda names: names.map(order), kind="stable", ignore_index=True)
        result = BenchmarkVideoTransforms(df)
        result.save(folder)
        return result


def _transformed(path: str, steps: Mapping[str, Any], folder: Path, errors: str) -> Iterator[dict[str, str | None]]:
    """Store a video and what each transform makes of the stored one; the row of each."""
    guid, seed = str(uuid.uuid4()), seed_of(path)
    source: str | None = path
    for name, step in steps.items():
        target, error = None, None
        if source is None:
            error = "there is no video to apply it to: its noop failed"
        else:
            try:
                target = _written(step, source, folder / f"{guid}_{name.replace('/', '-')}", seed)
            except Exception as exc:  # whatever a callable of the user's own may raise
                error = str(exc)
                message = f"An exception occurred while processing {path} with transform {name}: {exc}"
                if errors == "raise":
                    raise TransformError(message) from exc
                if errors == "warn":
                    warnings.warn(message, UserWarning, stacklevel=3)
        yield {
            "guid": guid,
            "transform_name": name,
            "input_filepath": source or path,
            "filepath": target,
            "error": error,
        }
        if name == "noop":
            source = target


def _written(step: Any, source: str, target: Path, seed: int) -> str:
    """The path of what a transform made of a video."""
    if isinstance(step, VideoTransform):
        return step(source, target, seed)
    path = step(source, output_filepath=str(target))
    if path is None or not Path(path).is_file():
        raise UsageError(f"it returned {path!r}; it must return the path of the video that it wrote")
    return str(path)


def _hash_file(path: str | None, error: str | None, hashers: Mapping[str, VideoHasher]) -> dict[str, Outcome]:
    """The outcome of each hasher."""
    if pd.isnull(path):
        return dict.fromkeys(hashers, Outcome([None], error))
    try:
        found = compute_synchronized_video_hashes(cast("str", path), hashers, use_queue=False)
    except MediaError as exc:
        return dict.fromkeys(hashers, Outcome([None], str(exc)))
    except Exception as exc:  # as in `compute_parallel`: any failure of a hasher becomes a record
        if len(hashers) == 1:
            return dict.fromkeys(hashers, Outcome([None], str(exc)))
        return {
            key: value for name, one in hashers.items() for key, value in _hash_file(path, None, {name: one}).items()
        }
    return {name: Outcome(_listed(found[name], hasher), None) for name, hasher in hashers.items()}


def _listed(hashes: Any, hasher: VideoHasher) -> Sequence[Any]:
    return (hashes or [None]) if hasher.returns_multiple else [hashes]
