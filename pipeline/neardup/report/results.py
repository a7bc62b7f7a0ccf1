"""The tables of a finished benchmark as data frames, and the few questions that every view of them asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neardup import storage, tables
from neardup.errors import UsageError
from neardup.hashers import folder_label

GROUP = ["hasher", "category", "transform"]
_LOOKED_THROUGH = 2000  # nearest wrong matches, of which few are different pairs


@dataclass(frozen=True)
class Results:
    """METRICS, RATES and CURVES; what the transforms do, by name, and the false-positive rate of headline figures."""

    metrics: pd.DataFrame
    rates: pd.DataFrame
    curves: pd.DataFrame
    originals: pd.DataFrame  # uri, category, duplicate_of
    transforms: dict[str, str]
    rate: float

    @property
    def hashers(self) -> list[str]:
        """The hashers, best recall first."""
        overall = self.at_rate().query("transform.isna() and category.isna()")
        return list(overall.sort_values(["recall", "hasher"], ascending=[False, True])["hasher"])

    def at_rate(self, of: str = "queries") -> pd.DataFrame:
        """The rows of RATES at the headline rate, of queries or of pairs."""
        return self.rates[(self.rates["of"] == of) & (self.rates["wanted"] == self.rate)]

    def best(self) -> list[dict[str, Any]]:
        """For each hasher, best first: its threshold at the headline rate, and what that finds and lets through."""
        overall = self.at_rate().query("transform.isna() and category.isna()").set_index("hasher")
        rows = overall.loc[self.hashers].reset_index()
        rows["fpr_pairs"] = [self._at(*row)["fpr_pairs"] for row in zip(rows["hasher"], rows["threshold"], strict=True)]
        columns = ["hasher", "threshold", "recall", "recall_low", "recall_high", "fpr", "fpr_pairs"]
        records = rows[columns].astype(object).where(rows[columns].notna(), None).to_dict("records")
        return [{str(key): value for key, value in record.items()} for record in records]

    def recall_matrix(self) -> pd.DataFrame:
        """Recall at the headline rate: a row per hasher, best first, a column per transform, easiest first.

        Each cell has a threshold of its own, which keeps the rate under that transform.
        """
        rows = self.at_rate().query("category.isna() and transform.notna()")
        return self._ordered(rows.pivot(index="hasher", columns="transform", values="recall"))

    def recall_at_best(self) -> pd.DataFrame:
        """Recall under each transform at the one threshold of `best`: rows and columns as in `recall_matrix`."""
        thresholds = self.at_rate().query("category.isna() and transform.isna()").set_index("hasher")["threshold"]
        present = self.at_rate().query("category.isna() and transform.notna()")[["hasher", "transform"]]
        found = [self._at(one, thresholds[one], transform)["recall"] for one, transform in present.to_numpy()]
        return self._ordered(present.assign(recall=found).pivot(index="hasher", columns="transform", values="recall"))

    def _ordered(self, matrix: pd.DataFrame) -> pd.DataFrame:
        matrix = matrix.reindex(self.hashers)
        order = matrix.mean().reindex(list(self.transforms)).dropna().sort_values(ascending=False, kind="stable").index
        return matrix[order]

    def _at(self, hasher: str, threshold: float, transform: str | None = None) -> pd.Series:
        """The point of a curve that a threshold has; NaN is beyond all distances.

        Nothing changes between a threshold and the next point, unless a long curve was thinned: then a little.
        """
        points = self.curves[(self.curves["hasher"] == hasher) & self.curves["category"].isna()]
        of = points["transform"].isna() if transform is None else points["transform"] == transform
        points = points[of].sort_values("threshold")
        place = len(points) if np.isnan(threshold) else np.searchsorted(points["threshold"], threshold)
        return points.iloc[min(int(place), len(points) - 1)]


def confusions(root: str, hasher: str, count: int = 10) -> pd.DataFrame:
    """The altered pictures that are nearest to another original by a hasher, each pair of originals once."""
    columns = ["uri", "transform", "correct", "incorrect", "incorrect_uri"]
    folder = f"distances/hasher={folder_label(hasher)}"
    table = tables.read_live(root, folder, tables.DISTANCES, columns)
    nearest = np.argsort(table["incorrect"].to_numpy(), kind="stable")[:_LOOKED_THROUGH]
    frame = table.take(nearest).to_pandas().dropna(subset=["incorrect"]).sort_values(["incorrect", *columns])
    both = frame[["uri", "incorrect_uri"]].to_numpy(str)
    frame = frame[~pd.DataFrame(np.sort(both, axis=1)).duplicated().to_numpy()]
    return frame.head(count)[["incorrect", "correct", "transform", "uri", "incorrect_uri"]]


def read_results(root: str) -> Results:
    """The results of the benchmark in an output (a path or url). Raises UsageError where there is none."""
    root = storage.absolute(root)
    parts = storage.read_manifest(root).get("metrics", [])
    if not parts:
        raise UsageError(f"{root} holds no benchmark; make one with: neardup benchmark INPUT --output …")
    made_by = tables.made_by(root, parts[0])
    return live_results(root, dict(made_by["transforms"]), made_by["fpr"][0])


def live_results(root: str, transforms: Mapping[str, str], rate: float) -> Results:
    """The live tables of an output, perhaps empty; `transforms`, texts by name, and the rate are what made them."""
    schemas = {"metrics": tables.METRICS, "rates": tables.RATES, "curves": tables.CURVES}
    frames = {name: tables.read_live(root, name, schema).to_pandas() for name, schema in schemas.items()}
    last: dict[str, list[str]] = {"metrics": [], "rates": ["of", "wanted"], "curves": ["threshold"]}
    for name, frame in frames.items():
        frames[name] = frame.sort_values([*GROUP, *last[name]], kind="stable", ignore_index=True)
    originals = tables.read_live(root, "originals", tables.ORIGINALS).to_pandas()
    return Results(**frames, originals=originals, transforms=dict(transforms), rate=rate)
