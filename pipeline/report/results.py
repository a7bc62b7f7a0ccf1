"""The tables of a finished benchmark as data frames, and the few questions that every view of them asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import storage, tables
from pipeline.errors import UsageError

GROUP = ["hasher", "category", "transform"]


@dataclass(frozen=True)
class Results:
    """METRICS, RATES and CURVES; transforms in their order, and the false-positive rate of the headline figures."""

    metrics: pd.DataFrame
    rates: pd.DataFrame
    curves: pd.DataFrame
    originals: pd.DataFrame  # uri, category, duplicate_of
    transforms: list[str]
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
        columns = ["hasher", "threshold", "recall", "recall_low", "recall_high", "fpr"]
        records = rows[columns].astype(object).where(rows[columns].notna(), None).to_dict("records")
        return [{str(key): value for key, value in record.items()} for record in records]

    def recall_matrix(self) -> pd.DataFrame:
        """Recall at the headline rate: a row per hasher, best first, a column per transform, easiest first."""
        rows = self.at_rate().query("category.isna() and transform.notna()")
        matrix = rows.pivot(index="hasher", columns="transform", values="recall").reindex(self.hashers)
        order = matrix.mean().reindex(self.transforms).dropna().sort_values(ascending=False, kind="stable").index
        return matrix[order]


def read_results(root: str) -> Results:
    """The results of the benchmark in an output (a path or url). Raises UsageError where there is none."""
    root = storage.absolute(root)
    parts = storage.read_manifest(root).get("metrics", [])
    if not parts:
        raise UsageError(f"{root} holds no benchmark; make one with: neardup benchmark INPUT --output …")
    made_by = tables.made_by(root, parts[0])
    return live_results(root, made_by["transforms"], made_by["fpr"][0])


def live_results(root: str, transforms: Sequence[str], rate: float) -> Results:
    """The live tables of an output, perhaps empty, with the transforms and the rate that they were made for."""
    schemas = {"metrics": tables.METRICS, "rates": tables.RATES, "curves": tables.CURVES}
    frames = {name: tables.read_live(root, name, schema).to_pandas() for name, schema in schemas.items()}
    last: dict[str, list[str]] = {"metrics": [], "rates": ["of", "wanted"], "curves": ["threshold"]}
    for name, frame in frames.items():
        frames[name] = frame.sort_values([*GROUP, *last[name]], kind="stable", ignore_index=True)
    originals = tables.read_live(root, "originals", tables.ORIGINALS).to_pandas()
    return Results(**frames, originals=originals, transforms=list(transforms), rate=rate)
