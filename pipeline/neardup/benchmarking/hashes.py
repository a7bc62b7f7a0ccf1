"""Hashes of originals and of what was made of them: how far apart they are, and what a threshold finds."""

import base64
import binascii
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd

from neardup.benchmarking.archives import read_index
from neardup.benchmarking.frames import BenchmarkError, Filterable
from neardup.errors import UsageError
from neardup.hashers import Hasher
from neardup.hashers.encoding import BITS, packed_length, unpack
from neardup.hashers.spec import suggestion
from neardup.joins.nearest import Nearest, Owned, Rows, Values, nearest_bits, nearest_vectors
from neardup.metrics.rules import Floats, Ties, rule

if TYPE_CHECKING:
    from neardup.report.histograms import Figure

CORRECT, INCORRECT = "distance_to_closest_correct_image", "distance_to_closest_incorrect_image"
GROUPING = ("category", "transform_name")
KIND = ["hasher_dtype", "hasher_distance_metric", "hasher_hash_length"]

Distances = Mapping[str, Callable[[Any, Any], float]]


class Kind(NamedTuple):
    """What the hashes of one hasher are."""

    dtype: str
    metric: str
    length: int


class Outcome(NamedTuple):
    """The hashes of one file by one hasher, or the error that stands in their place."""

    hashes: Sequence[Any]
    error: str | None


class BenchmarkHashes(Filterable):
    """One row per hash. The rows of one original share a guid; its own hash has the transform_name "noop".

    Hashes are base64 text, null where there is none; `error` then says why.
    """

    expected_columns: ClassVar[list[str]] = [
        "category",
        "error",
        "filepath",
        "guid",
        "hash",
        "hasher_distance_metric",
        "hasher_dtype",
        "hasher_hash_length",
        "hasher_name",
        "input_filepath",
        "transform_name",
    ]

    def __init__(self, df: pd.DataFrame) -> None:
        super().__init__(df)
        self._metrics: pd.DataFrame | None = None

    def __add__(self, other: "BenchmarkHashes") -> "BenchmarkHashes":
        """The rows of both, each once."""
        return BenchmarkHashes(pd.concat([self._df, other._df], ignore_index=True).drop_duplicates(ignore_index=True))

    def __radd__(self, other: object) -> "BenchmarkHashes":
        """So that `sum` works, which starts from 0."""
        return self if other == 0 else NotImplemented

    @classmethod
    def load(cls, filepath: str | Path) -> Self:
        """The table of a CSV file."""
        return cls(read_index(Path(filepath)))

    def save(self, filepath: str | Path) -> None:
        """Write the table as CSV."""
        self._df.to_csv(filepath, index=False)

    def compute_metrics(self, custom_distance_metrics: Distances | None = None) -> pd.DataFrame:
        """Per hash the distance to the nearest original of its own guid and of another guid of its category.

        Columns guid, transform_name, hasher_name, category, distance_to_closest_correct_image,
        distance_to_closest_incorrect_image (NaN where the category has one original), distance_to_closest_image and
        closest_incorrect_guid. Computed once; null hashes and hashes whose original has none are left out.

        `custom_distance_metrics` gives a function of two encoded hashes by hasher name, needed where the metric of a
        hasher is "custom".
        """
        if self._metrics is None:
            self._metrics = _metrics(self._df, custom_distance_metrics or {})
        return self._metrics

    def compute_threshold_recall(
        self,
        precision_threshold: float | None = None,
        grouping: Sequence[str] | None = None,
        *,
        fpr_threshold: float | None = None,
        ties: Ties = "ranked",
        custom_distance_metrics: Distances | None = None,
    ) -> pd.DataFrame:
        """Per group and hasher: threshold, recall in percent, precision (or fpr) and the number of exemplars.

        `grouping`: columns of `compute_metrics`, by default category and transform_name; `[]` for one row per hasher.
        The rule is `precision_threshold` (in percent, 99.9 by default; the threshold itself is a match) or
        `fpr_threshold` (a fraction; only distances below the threshold are matches). `ties="grouped"` counts equal
        distances together instead of in a made-up order; see `rules.Rule`.
        """
        chosen = rule(precision_threshold, fpr_threshold, ties)
        by = _grouping(grouping)
        rows = []
        for key, subset in _groups(self.compute_metrics(custom_distance_metrics), by):
            choice = chosen.choose(*exemplars(subset, by))
            rows.append((*key, *choice, len(subset)))
        accuracy = "precision" if chosen.kind == "precision" else "fpr"
        columns = [*by, "hasher_name", "threshold", "recall", accuracy, "n_exemplars"]
        return pd.DataFrame(rows, columns=columns).set_index([*by, "hasher_name"])

    def show_histograms(
        self,
        grouping: Sequence[str] | None = None,
        precision_threshold: float | None = None,
        *,
        fpr_threshold: float | None = None,
        ties: Ties = "ranked",
        custom_distance_metrics: Distances | None = None,
    ) -> "Figure":
        """A figure with a row per group and a column per hasher: both distances, recall and threshold.

        The arguments are those of `compute_threshold_recall`. `emd` is the earth mover's distance of the two
        histograms. Nothing is opened: a notebook shows the figure, and its `savefig` writes it.
        """
        from neardup.report.histograms import draw

        by = _grouping(grouping)
        chosen = rule(precision_threshold, fpr_threshold, ties)
        groups = _groups(self.compute_metrics(custom_distance_metrics), by)
        return draw({key: exemplars(subset, by) for key, subset in groups}, chosen)


def hash_rows(files: pd.DataFrame, name: str, hasher: Hasher, outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """The rows of files once per hash, with the columns of `BenchmarkHashes`."""
    listed = list(outcomes)
    places = [place for place, outcome in enumerate(listed) for _ in outcome.hashes]
    return files.iloc[places].assign(
        hash=pd.Series([each for outcome in listed for each in outcome.hashes], dtype=object).to_numpy(),
        error=pd.Series([outcome.error for outcome in listed for _ in outcome.hashes], dtype=object).to_numpy(),
        hasher_name=name,
        hasher_dtype=hasher.dtype,
        hasher_distance_metric=hasher.distance_metric,
        hasher_hash_length=hasher.hash_length,
    )


def no_hashes() -> pd.DataFrame:
    """The rows of no hasher."""
    return pd.DataFrame(columns=sorted(BenchmarkHashes.expected_columns))


def exemplars(metrics: pd.DataFrame, grouping: Sequence[str]) -> tuple[Floats, Floats]:
    """The smallest correct and incorrect distance per original, and per transform where that is not grouped by."""
    keys = ["guid"] if "transform_name" in grouping else ["guid", "transform_name"]
    least = metrics.groupby(keys, sort=False)[[CORRECT, INCORRECT]].min()
    return least[CORRECT].to_numpy(np.float64), least[INCORRECT].to_numpy(np.float64)


def nearest(
    queries: Owned, references: Owned, kind: Kind, custom: Callable[[Any, Any], float] | None = None
) -> Nearest:
    """Of hashes as `decoded` gives them: by the join of packed bits, by vectors, or by a function of the user's own."""
    if kind.metric == "custom":
        if custom is None:
            raise BenchmarkError(
                'the metric "custom" needs a function of two encoded hashes in custom_distance_metrics'
            )
        return nearest_vectors(queries, references, custom)
    if is_packed(kind):
        return nearest_bits(queries, references, kind.length)
    return nearest_vectors(queries, references, kind.metric)


def is_packed(kind: Kind) -> bool:
    """Whether hashes of this kind are compared as packed bits."""
    return kind.dtype == "bool" and kind.metric == "hamming"


def decoded(hashes: Sequence[str], kind: Kind) -> Values:
    """Base64 texts as packed bits (n, bytes), as vectors (n, length), or as they are for a custom metric."""
    if kind.metric == "custom":
        return np.array(hashes, dtype=object)
    if kind.dtype not in BITS:
        raise UsageError(f"unknown hash dtype {kind.dtype!r}; use one of {', '.join(BITS)}")
    width = packed_length(kind.length, kind.dtype)
    rows = [_raw(text, width, kind) for text in hashes]
    if is_packed(kind):
        return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), width)
    return np.array([unpack(row, kind.dtype, kind.length) for row in rows]).reshape(len(rows), kind.length)


def _raw(text: str, width: int, kind: Kind) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise UsageError(f"{text[:40]!r} is no base64") from exc
    if len(raw) != width:
        raise UsageError(
            f"{text[:40]!r} is no hash of {kind.length} {kind.dtype} elements: {len(raw)} bytes, not {width}"
        )
    return raw


def _metrics(df: pd.DataFrame, custom: Distances) -> pd.DataFrame:
    hashes = df.sort_values("guid", kind="stable")
    dropped = int(hashes["hash"].isnull().sum())
    if dropped:
        hashes = hashes.dropna(subset=["hash"])
        warnings.warn(f"Dropping {dropped} invalid / empty hashes.", UserWarning, stacklevel=3)
    owners, guids = pd.factorize(hashes["guid"])
    hashes = hashes.assign(owner=owners)
    pieces = [
        piece
        for name, of_hasher in hashes.groupby("hasher_name", sort=True)
        for piece in _metrics_of_hasher(str(name), of_hasher, guids, custom)
    ]
    columns = ["guid", "transform_name", "hasher_name", "category", CORRECT, INCORRECT]
    columns += ["distance_to_closest_image", "closest_incorrect_guid"]
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=columns)


def _metrics_of_hasher(name: str, hashes: pd.DataFrame, guids: Any, custom: Distances) -> Iterator[pd.DataFrame]:
    kind = _kind(name, hashes)
    if kind.metric == "custom" and name not in custom:
        raise BenchmarkError(
            f"hasher {name!r} has a custom metric: give custom_distance_metrics={{{name!r}: function}}"
        )
    values = decoded(hashes["hash"].tolist(), kind)
    owners = hashes["owner"].to_numpy(np.int64)
    is_original = hashes["transform_name"].to_numpy() == "noop"
    places = hashes.groupby(["transform_name", "category"], sort=True).indices
    for (transform, category), rows in places.items():
        references = np.flatnonzero(is_original & np.isin(owners, owners[rows]))
        queries = rows[np.isin(owners[rows], owners[references])]
        if len(queries) == 0:
            continue  # no original of these has a hash: there is nothing to be near to
        found = nearest(
            Owned(values[queries], owners[queries]),
            Owned(values[references], owners[references]),
            kind,
            custom.get(name),
        )
        yield pd.DataFrame(
            {
                "guid": guids[owners[queries]],
                "transform_name": transform,
                "hasher_name": name,
                "category": category,
                CORRECT: found.correct,
                INCORRECT: found.incorrect,
                "distance_to_closest_image": np.fmin(found.correct, found.incorrect),
                "closest_incorrect_guid": _named(found.incorrect_row, owners[references], guids),
            }
        )


def _named(rows: Rows, owners: Rows, guids: Any) -> Any:
    names = np.array(guids[owners[np.maximum(rows, 0)]], dtype=object)
    names[rows < 0] = None
    return names


def _kind(name: str, hashes: pd.DataFrame) -> Kind:
    kinds = hashes[KIND].drop_duplicates()
    if len(kinds) > 1:
        raise UsageError(f"hasher {name!r} has hashes of {len(kinds)} kinds; give different hashers different names")
    dtype, metric, length = kinds.iloc[0]
    return Kind(str(dtype), str(metric), int(length))


def _grouping(grouping: Sequence[str] | None) -> list[str]:
    chosen = list(GROUPING) if grouping is None else [grouping] if isinstance(grouping, str) else list(grouping)
    known = ("category", "transform_name", "guid")
    for column in chosen:
        if column not in known:
            raise UsageError(f"cannot group by {column!r}; {suggestion(column, known)}")
    return chosen


def _groups(metrics: pd.DataFrame, grouping: list[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    yield from metrics.groupby([*grouping, "hasher_name"], sort=True)
