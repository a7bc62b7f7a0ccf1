"""The job `report`: write again what people look at, from the tables that an output has."""

from neardup import report, storage
from neardup.stages import reviewing


def run_report(output: str) -> list[str]:
    """Write the pages of a benchmark, of near duplicates, or of both; gives their places. Raises UsageError."""
    root = storage.absolute(output)
    tables = storage.read_manifest(root)
    written = []
    if "metrics" in tables:
        report.write_report(root, report.read_results(root))
        written.append("report/index.html")
    if "metrics" not in tables or any(folder.startswith("hashes/") for folder in tables):
        written.append(report.write_duplicates(root, reviewing.review(root)))
    return [f"{root.removeprefix('file://')}/{name}" for name in written]
