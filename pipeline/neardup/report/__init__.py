"""What people look at: a benchmark as CSV, Markdown, plots, a page and a threshold file; near duplicates as a page."""

from typing import Any

from neardup import storage
from neardup.report import duplicates, figures, markdown, page, thresholds
from neardup.report.results import Results, confusions, live_results, read_results
from neardup.stages.reviewing import Review

__all__ = ["Results", "live_results", "read_results", "write_duplicates", "write_report"]


def write_duplicates(root: str, found: Review) -> str:
    """Write the page of an output of near duplicates; gives its name below the output."""
    storage.write(root, duplicates.NAME, duplicates.render(found, root).encode())
    return duplicates.NAME


def write_report(root: str, results: Results) -> list[dict[str, Any]]:
    """Write report/ and thresholds.yaml of the results of an output; gives the best thresholds, best first."""
    for name, frame in (("metrics", results.metrics), ("rates", results.rates), ("curves", results.curves)):
        storage.write(root, f"report/{name}.csv", frame.to_csv(index=False).encode())
    drawn = figures.draw_all(root, results)
    for name, data in drawn.items():
        storage.write(root, f"report/{name}", data)
    storage.write(root, "report/metrics.md", markdown.tables(results).encode())
    confused = confusions(root, results.hashers[0]) if results.hashers else None
    storage.write(root, "report/index.html", page.render(results, drawn, confused).encode())
    storage.write(root, thresholds.NAME, thresholds.text(results).encode())
    return results.best()
