"""What people look at: the tables of a finished benchmark as CSV, Markdown, plots, one page, and a threshold file."""

from collections.abc import Sequence
from typing import Any

from pipeline import storage
from pipeline.report import figures, markdown, page, thresholds
from pipeline.report.results import Results, live_results, read_results

__all__ = ["Results", "read_results", "write_report"]


def write_report(root: str, transforms: Sequence[str], rate: float) -> list[dict[str, Any]]:
    """Write report/ and thresholds.yaml of the live tables of an output; gives the best thresholds, best first.

    `transforms`: their names in order; `rate`: the false-positive rate whose thresholds are recommended.
    """
    results = live_results(root, transforms, rate)
    for name, frame in (("metrics", results.metrics), ("rates", results.rates), ("curves", results.curves)):
        storage.write(root, f"report/{name}.csv", frame.to_csv(index=False).encode())
    drawn = figures.draw_all(root, results)
    for name, data in drawn.items():
        storage.write(root, f"report/{name}", data)
    storage.write(root, "report/metrics.md", markdown.tables(results).encode())
    storage.write(root, "report/index.html", page.render(results, drawn).encode())
    storage.write(root, thresholds.NAME, thresholds.text(results).encode())
    return results.best()
