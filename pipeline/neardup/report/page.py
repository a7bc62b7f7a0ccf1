"""One HTML page of a benchmark that needs nothing beside it: tables as text, plots as data."""

import base64
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jinja2
import pandas as pd

from neardup.errors import UsageError
from neardup.report.figures import CURVES, DISTANCES
from neardup.report.markdown import SEED_COLUMNS, percent, rates_table, seed_table
from neardup.report.results import Results
from neardup.transforms import parse

_MOST_ROWS = 2000  # of a table on the page; all are in the CSV files
_FOUND, _LOST = 95, 50  # percent of a transform's pictures: nearly all, and less than half
_TYPES = {"svg": "image/svg+xml", "png": "image/png"}


def render(results: Results, drawn: Mapping[str, bytes], confused: pd.DataFrame | None) -> str:
    """The page, escaped throughout: names of hashers, transforms and categories may hold anything."""
    environment = templates()
    environment.filters |= {"percent": percent, "one_in": _one_in}
    plots = {name: _data_uri(name, drawn[name]) for name in (CURVES, DISTANCES) if name in drawn}
    originals = results.originals
    scored = originals[originals["duplicate_of"].isna()]
    best = results.best()
    return environment.get_template("benchmark.html").render(
        best=best,
        advice=_advice(results, best) if best else None,
        categories=scored["category"].value_counts().sort_index().to_dict(),
        duplicates=len(originals) - len(scored),
        rate=results.rate,
        transforms={name: _described(text) for name, text in results.transforms.items()},
        at_best=_heat(results.recall_at_best()) if best else None,
        at_own=_heat(results.recall_matrix()) if best else None,
        curves=plots.get(CURVES),
        distances=plots.get(DISTANCES),
        confused=[] if confused is None else confused.astype(object).where(confused.notna(), None).to_dict("records"),
        seed_tables=[
            ("Overall", *_shown(seed_table(results.metrics, []))),
            ("By transform", *_shown(seed_table(results.metrics, ["transform"]))),
            ("By category and transform", *_shown(seed_table(results.metrics, ["category", "transform"]))),
        ],
        rates=_shown(rates_table(results)),
        text_columns={*SEED_COLUMNS, *SEED_COLUMNS.values(), "of"},
        version=version("neardup"),
    )


def templates() -> jinja2.Environment:
    """The templates of pages: whatever they show is escaped, and a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neardup.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = _figure
    return environment


def _advice(results: Results, best: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the first screen says of the best hasher: how sure it is, and what it finds and loses."""
    first = best[0]
    recalls = results.recall_at_best().loc[first["hasher"]].dropna()
    overall = results.metrics[results.metrics["category"].isna() & results.metrics["transform"].isna()]
    pictures = int(overall.set_index("hasher").loc[first["hasher"], "n_altered"])
    return {
        **first,
        "rivals": [one["hasher"] for one in best[1:] if one["recall_high"] >= first["recall_low"] and one["recall"]],
        "found": [(name, value) for name, value in recalls.items() if value >= _FOUND],
        "lost": [(name, value) for name, value in recalls.items() if value < _LOST],
        "pictures": pictures,
        "allowed": int(results.rate * pictures + 1e-9),
    }


def _heat(matrix: pd.DataFrame) -> dict[str, Any]:
    """A matrix of percentages as columns and rows of text, each with how dark its cell is."""
    rows = [(name, [None if pd.isna(v) else (percent(v), v / 100) for v in row]) for name, *row in matrix.itertuples()]
    return {"columns": list(matrix.columns), "rows": rows}


def _described(text: str) -> list[str]:
    """What each step of a transform does; the text itself where a function of the user's own is not at hand."""
    try:
        return [step.described for step in parse(text).steps]
    except UsageError:
        return [text]


def _one_in(share: float | None) -> str:
    """A share as "1 in so many"."""
    if share is None:
        return "unknown"
    return "none" if share == 0 else f"1 in {float(f'{1 / share:.2g}'):,.0f}"


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
