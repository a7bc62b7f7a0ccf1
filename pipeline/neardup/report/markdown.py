"""The tables of a benchmark in Markdown, laid out as in the reference's documentation."""

from collections.abc import Iterable, Sequence

import pandas as pd

from neardup.report.results import Results

SEED_COLUMNS = {"category": "category", "transform": "transform_name", "hasher": "hasher_name"}
FIGURES = ["threshold", "recall", "fpr", "n_exemplars"]


def tables(results: Results) -> str:
    """Recall by the reference's rule: by category and transform, by transform, overall; then by false-positive rate."""
    sections = [
        "# Benchmark\n",
        "Recall in percent by the reference's rule of 2019 (largest threshold whose share of false matches stays "
        "within its limit, equal distances ranked).\n",
    ]
    for title, by in (
        ("By category and transform", ["category", "transform"]),
        ("By transform", ["transform"]),
        ("Overall", []),
    ):
        sections += [f"## {title}\n", table(seed_table(results.metrics, by))]
    sections += [
        "## Recall at false-positive rates\n",
        "Equal distances are counted together. `of` queries: altered pictures that have another original below the "
        "threshold; `of` pairs: pairs of an altered picture and another original that lie below it. The interval is "
        "that of a bootstrap over originals.\n",
        table(rates_table(results)),
    ]
    return "\n".join(sections)


def seed_table(metrics: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The rows of METRICS of one grouping, with the columns and the order of the reference's documentation."""
    chosen = metrics[group_mask(metrics, by)].sort_values([*by, "hasher"])
    return chosen[[*by, "hasher", *FIGURES]].rename(columns=SEED_COLUMNS)


def rates_table(results: Results) -> pd.DataFrame:
    """The rows of RATES over all categories and transforms."""
    rows = results.rates[group_mask(results.rates, [])]
    return rows[["hasher", "of", "wanted", "threshold", "fpr", "recall", "recall_low", "recall_high"]]


def group_mask(frame: pd.DataFrame, by: Iterable[str]) -> pd.Series:
    """Which rows are of this grouping: the columns given are stated, the others stand for all."""
    wanted = set(by)
    mask = pd.Series(True, index=frame.index)
    for column in ("category", "transform"):
        mask &= frame[column].notna() if column in wanted else frame[column].isna()
    return mask


def table(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table, numbers to six digits."""
    lines = [list(frame.columns), ["---"] * len(frame.columns)]
    lines += [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: object) -> str:
    """One value as text; what would end a cell is escaped."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def percent(value: float) -> str:
    """Two or three digits; what is not all is never shown as 100."""
    return f"{value:.0f}" if value == 100 or value < 99.5 else "99.9" if value > 99.94 else f"{value:.1f}"
