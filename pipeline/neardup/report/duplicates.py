"""One HTML page of an output of near duplicates: what could go, the groups that cost most, what failed and why."""

import shlex
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from neardup.report.page import templates
from neardup.stages.reviewing import Review

NAME = "report/duplicates.html"
_SHOWN = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF")  # what every browser shows
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def render(found: Review, output: str) -> str:
    """The page, escaped throughout: names and errors may hold anything."""
    environment = templates()
    environment.filters |= {"href": _href, "picture": _picture, "bytes": _bytes, "shell": shlex.quote}
    joined = any(one["pairs"] is not None for one in found.hashers)
    template = environment.get_template("duplicates.html")
    return template.render(
        found=found, output=output.removeprefix("file://"), joined=joined, version=version("neardup")
    )


def _href(uri: str) -> str | None:
    """Where a link may lead: files and web pages; None for members of archives, object stores and all else."""
    scheme, separator, rest = uri.partition("://")
    if not separator or "::" in uri or scheme not in ("file", "http", "https"):
        return None
    return f"{scheme}://{quote(rest) if scheme == 'file' else quote(rest, safe='/:?&=%@+,;~')}"


def _picture(member: dict[str, Any]) -> str | None:
    """Where the picture of an item on this machine is; nothing is fetched from elsewhere."""
    here = member["uri"].startswith("file://") and member["kind"] == "image" and member["format"] in _SHOWN
    return _href(member["uri"]) if here else None


def _bytes(count: int | None) -> str:
    """Three digits and a unit."""
    if count is None:
        return "unknown size"
    power = 0
    while power + 1 < len(_UNITS) and count >= 999.5 * 1000**power:
        power += 1
    return f"{count:,} {_UNITS[0]}" if not power else f"{count / 1000**power:.3g} {_UNITS[power]}"
