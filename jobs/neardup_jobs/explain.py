"""The job `explain`: show all that the tables say of one item."""

from typing import Any

from neardup import storage
from neardup.config import ExplainJob
from neardup.stages import explaining
from neardup_jobs.progress import Style


def run_explain(job: ExplainJob, _: Style) -> dict[str, Any]:
    """What the tables of an output say of an item."""
    root = storage.absolute(job.output)
    return explaining.explain(root, explaining.find_item(root, job.uri))


def show_explained(found: dict[str, Any]) -> None:
    """The same as text to read, on standard output."""
    print("\n".join([found["media"]["uri"], *(f"  {title:9}{line}" for title, line in _lines(found))]))


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("media", _media(found["media"]))]
    if found["media"].get("stale"):
        lines.append(("stale", f"as an earlier run read it; the last could not: {found['media']['stale']}"))
    for spec, rows in found["hashes"].items():
        for row in rows:
            variant = "" if row["variant"] == "r0" else f" {row['variant']}"
            frame = f" frame {row['frame_index']}" if len({one["frame_index"] for one in rows}) > 1 else ""
            value = row["error"] if row["hash"] is None else f"{row['hash']}, quality {row['quality']}"
            lines.append(("hash", f"{spec}{variant}{frame}: {value}"))
    for row in found["pairs"]:
        variant = "" if row["variant"] == "r0" else f" ({row['variant']})"
        lines.append(("near", f"{row['distance']:.6g} by {row['hasher']}{variant}: {row['uri']}"))
    if found["group"] is None:
        lines.append(("group", "none: nothing is near enough to be grouped with, so it is to be kept"))
    else:
        lines.append(("group", f"of {len(found['members']):,}; {found['group']['reason']}"))
        lines += [("", f"{row['uri']}: {row['reason']}") for row in found["members"]]
    lines += [
        ("hub", f"{row['uri']}, {row['items']:,} items by {row['hasher']}: {row['reason']}") for row in found["hubs"]
    ]
    for row in found["matches"]:
        label = f" ({row['label']})" if row["label"] is not None else ""
        lines.append(("known", f"{row['distance']:.6g} by {row['hasher']}: {row['entry']}{label} of {row['list']}"))
    return lines


def _media(row: dict[str, Any]) -> str:
    if row["error_class"]:
        return f"{row['size']:,} bytes, not decoded: {row['error_class']} ({row['error_stage']}): {row['error']}"
    mtime = f", modified {row['mtime']:%Y-%m-%dT%H:%M:%S}" if row["mtime"] else ""
    size = f" {row['width']}x{row['height']}" if row["width"] else ""
    digest = f", sha256 {row['sha256']}" if row["sha256"] else ""
    return f"{row['format']}{size}, {row['size']:,} bytes{mtime}{digest}"
