"""What a person is told when a job is done, and how to look further."""

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_SUFFIXES_SHOWN = 5


def show_summary(summary: dict[str, Any]) -> None:
    """Counts, seconds, where the tables are and lines to look at them with, on standard output."""
    console = Console()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    failed = ", ".join(f"{count:,} {name}" for name, count in summary["failed"].items())
    if "list" in summary["stages"]:
        table.add_row("listed", f"{summary['listed']:,}")
        table.add_row("decoded", f"{summary['decoded']:,}")
        table.add_row("failed", f"{sum(summary['failed'].values()):,}" + (f" ({failed})" if failed else ""))
    if passed := summary.get("passed_by"):
        table.add_row("passed by", escape(_passed_by(passed)))
    if summary.get("stale"):
        table.add_row("stale", f"{summary['stale']:,} of them known from earlier runs: could not be read or listed now")
    for place in summary.get("unread", []):
        table.add_row("not read", escape(f"{place['place']}: {place['why']}"))
    for spec, count in summary.get("pairs", {}).items():
        stage = summary["stages"][f"join {spec}"]
        counts = {
            "hubs": "hubs",
            "left_out": "hashes of low quality left out",
            "pairs_left_out": "pairs of too few frames left out",
        }
        more = "".join(f", {stage[key]:,} {what}" for key, what in counts.items() if stage[key])
        table.add_row("pairs", escape(f"{count:,} by {spec}{more}"))
        if measured := stage.get("measured"):
            table.add_row("recall", _recall(measured))
    if "groups" in summary:
        table.add_row("groups", f"{summary['groups']:,} of {summary['grouped_items']:,} items")
        table.add_row("duplicates", f"{summary['duplicate_bytes']:,} bytes could be saved")
    for found in summary.get("matches", []):
        bad = f", {found['bad_lines']:,} bad lines left out" if found["bad_lines"] else ""
        said = f"{found['items']:,} items of {found['list']} by {found['hasher']}{bad}"
        table.add_row("matches", escape(said))
    if "originals" in summary:
        facts = summary["originals"]
        table.add_row(
            "originals", f"{facts['scored']:,} in {facts['categories']:,} categories, {facts['duplicates']:,} left out"
        )
    for best in summary.get("best", []):
        at = "" if best["threshold"] is None else f" below {best['threshold']:.4g}"
        table.add_row("recall", escape(f"{best['recall']:6.2f} % by {best['hasher']}{at}"))
    if "enriched" in summary:
        table.add_row("enriched", f"{summary['enriched']['rows']:,} rows in {summary['enriched']['files']:,} files")
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    console.print(table)
    if not summary["written"]:
        console.print("nothing to do: no media found, nothing written")
        return
    where = summary["output"].removeprefix("file://")
    console.print(f"tables in {where}", soft_wrap=True, highlight=False)
    if "best" in summary:
        console.print(f"  {where}/report/index.html", soft_wrap=True, highlight=False, markup=False)
        console.print(f"  {where}/thresholds.yaml", soft_wrap=True, highlight=False, markup=False)
    if "enriched" in summary:
        print(f"the table with its new columns in {summary['enriched']['folder'].removeprefix('file://')}")
    elif summary.get("groups"):
        for line in _how_to_look(str(where)):
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def _passed_by(passed: dict[str, int]) -> str:
    """Which files of folders were not read, in words."""
    own = {"lists": "lists (--uri-column reads them)", "own tables": "tables of neardup's own"}
    words = [f"{passed[kind]:,} {what}" for kind, what in own.items() if kind in passed]
    others = sorted(((count, suffix) for suffix, count in passed.items() if suffix not in own), key=lambda x: -x[0])
    words += [f"{count:,} {suffix}" for count, suffix in others[:_SUFFIXES_SHOWN]]
    if rest := sum(count for count, _ in others[_SUFFIXES_SHOWN:]):
        words.append(f"{rest:,} others")
    return ", ".join(words)


def _recall(measured: dict[str, Any]) -> str:
    """How much an approximate join has found, in words."""
    of = f"of the {measured['matches']:,} matches of {measured['hashes']:,} hashes joined exactly"
    return f"{measured['recall']:.1%} {of}" if measured["matches"] else f"not known: none {of}"


def _how_to_look(where: str) -> list[str]:
    """Shell lines that write a page to look at and show the tables, with the Python of this process.

    With -P: the folder that they are called in may be one that others have filled.
    """
    python = Path(sys.executable)
    here = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    code = [
        f"import duckdb; print(duckdb.read_parquet({where + '/groups/*.parquet'!r}).filter('NOT keep'))",
        f"import pandas; print(pandas.read_parquet({where + '/pairs'!r}).sort_values('distance'))",
    ]
    return [f"{here} -P -m neardup report {shlex.quote(where)}", *(f'{here} -P -c "{line}"' for line in code)]
