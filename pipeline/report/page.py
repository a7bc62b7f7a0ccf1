"""One HTML page of a benchmark that needs nothing beside it: tables as text, plots as data."""

import base64
from collections.abc import Mapping
from importlib.metadata import version

import jinja2
import pandas as pd

from pipeline.report.figures import CURVES, DISTANCES, HEATMAP
from pipeline.report.markdown import SEED_COLUMNS, rates_table, seed_table
from pipeline.report.results import Results

_MOST_ROWS = 2000  # of a table on the page; all are in the CSV files
_TYPES = {"svg": "image/svg+xml", "png": "image/png"}


def render(results: Results, drawn: Mapping[str, bytes]) -> str:
    """The page, escaped throughout: names of hashers, transforms and categories may hold anything."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = _figure
    plots = {name: _data_uri(name, drawn[name]) for name in (HEATMAP, CURVES, DISTANCES) if name in drawn}
    originals = results.originals
    scored = originals[originals["duplicate_of"].isna()]
    return environment.get_template("page.html").render(
        best=results.best(),
        pairs={row["hasher"]: row for row in _overall_pairs(results)},
        categories=scored["category"].value_counts().sort_index().to_dict(),
        duplicates=len(originals) - len(scored),
        rate=results.rate,
        transforms=results.transforms,
        heatmap=plots.get(HEATMAP),
        curves=plots.get(CURVES),
        distances=plots.get(DISTANCES),
        seed_tables=[
            ("Overall", *_shown(seed_table(results.metrics, []))),
            ("By transform", *_shown(seed_table(results.metrics, ["transform"]))),
            ("By category and transform", *_shown(seed_table(results.metrics, ["category", "transform"]))),
        ],
        rates=_shown(rates_table(results)),
        text_columns={*SEED_COLUMNS, *SEED_COLUMNS.values(), "of"},
        version=version("neardup"),
    )


def _overall_pairs(results: Results) -> list[dict[str, object]]:
    rows = results.at_rate("pairs").query("transform.isna() and category.isna()")
    return [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]


def _shown(frame: pd.DataFrame) -> tuple[list[str], list[list[object]], int]:
    """Columns, the first rows, and how many rows are left out."""
    rows = frame.head(_MOST_ROWS).astype(object).where(frame.head(_MOST_ROWS).notna(), None)
    return list(frame.columns), rows.to_numpy().tolist(), max(0, len(frame) - _MOST_ROWS)


def _data_uri(name: str, data: bytes) -> str:
    return f"data:{_TYPES[name.rsplit('.', 1)[1]]};base64,{base64.b64encode(data).decode()}"


def _figure(value: object, digits: int = 6) -> str:
    """A number to so many digits, text as it is, nothing for nothing."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
