"""`neardup report`: the page of near duplicates says what the tables say, and that of a benchmark is written again."""

import html
import html.parser
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import PHOTOS, rows
from neardup import storage
from neardup.config import BenchmarkJob, DedupJob, MatchJob
from neardup.report.duplicates import _bytes, _href
from neardup.stages import reviewing
from neardup_jobs.benchmark import run_benchmark
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup
from neardup_jobs.match import run_match

ALONE: dict[str, Any] = {"child": {"enabled": False}, "cluster": "none"}
ODD = "<img src=x onerror=alert(1)> &amp; 100% #1?.png"


class Page(html.parser.HTMLParser):
    """The links and images of a page, its tags and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        assert not any(name.startswith("on") for name in given)
        self.links += [given["href"] or ""] if "href" in given else []
        self.pictures += [given["src"] or ""] if "src" in given else []

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + " "


@pytest.fixture
def out(photos: Path, tmp_path: Path) -> Path:
    """An output with a group of many, one of two under an odd name, and three items that cannot be decoded."""
    with Image.open(photos / "image1.jpg") as photo:
        photo.resize((photo.width // 2, photo.height // 2)).save(photos / ODD)
    for number in range(30):
        shutil.copy(photos / "image2.jpg", photos / f"copy{number:02d}.jpg")
    for name in ("text.jpg", "more.jpg"):
        (photos / name).write_text("not a photo")
    (photos / "cut.jpg").write_bytes(PHOTOS[0].read_bytes()[:100])
    given = {"inputs": [str(photos)], "output": str(tmp_path / "my out"), "hashers": ["phash:hash_size=16@0.2"]}
    run_dedup(DedupJob.model_validate({**given, **ALONE}), "none")
    return tmp_path / "my out"


def report(output: Path) -> list[str]:
    done = CliRunner().invoke(app, ["report", str(output)])
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


def test_the_page_says_what_the_tables_say(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (written,) = report(out)
    assert written == str(out / "report" / "duplicates.html")
    page = Page(Path(written).read_text())
    run = json.loads((out / "run.json").read_text())
    dropped = [row for row in rows(out, "groups") if not row["keep"]]
    assert len(dropped) == 31 and run["duplicate_bytes"] > 0
    assert f"31 of {run['listed']} items need not be kept: {_bytes(run['duplicate_bytes'])}" in page.text
    assert "2 groups of 33 items" in page.text and "3 could not be decoded" in page.text
    assert f"neardup export '{out}' --delete-list drop.csv" in page.text
    found = reviewing.review(storage.absolute(str(out)))
    sizes = {row["uri"]: row["size"] for row in rows(out, "media")}
    groups = pd.DataFrame(dropped).assign(bytes=lambda frame: frame["uri"].map(sizes)).groupby("group")["bytes"].sum()
    assert [one["bytes_saved"] for one in found.largest] == sorted(groups, reverse=True)
    assert found.bytes_saved == groups.sum() == run["duplicate_bytes"] and found.bytes == sum(sizes.values())
    assert [one["items"] for one in found.largest] == [31, 2] and "7 more items of this group" in page.text
    assert len(found.largest[0]["members"]) == 24 and found.largest[0]["members"][0]["keep"]
    assert sum(one["items"] for one in found.failures) == found.failed == 3 == sum(run["failed"].values())
    assert found.failures[0]["items"] == 2 and found.failures[0]["uri"].endswith("more.jpg")
    assert found.hashers == [
        {"hasher": "phash:hash_size=16", "hashes": 41, "pairs": run["pairs"]["phash:hash_size=16"]}
    ]
    monkeypatch.setattr(reviewing, "MOST_GROUPS", 1)
    assert len(reviewing.review(storage.absolute(str(out))).largest) == 1


def test_names_are_shown_as_they_are_and_links_lead_to_files(out: Path) -> None:
    text = Path(report(out)[0]).read_text()
    page = Page(text)
    assert "script" not in page.tags and html.escape(ODD) in text and ODD not in text and ODD in page.text
    assert len(page.pictures) == 26 and set(page.pictures) <= set(page.links)
    assert all(Path(unquote(link.removeprefix("file://"))).is_file() for link in page.links)
    assert any(link.endswith("100%25%20%231%3F.png") for link in page.pictures)


def test_links_lead_nowhere_else() -> None:
    assert _href("javascript:alert(1)") is None and _href("data://x") is None and _href("s3://b/a.jpg") is None
    assert _href("tar://a.jpg::file:///b.tar") is None and _href("/a.jpg") is None
    assert _href('https://a.b/c d"e?f=1&g') == "https://a.b/c%20d%22e?f=1&g"
    assert [_bytes(count) for count in (None, 0, 999, 1_000, 999_600, 3_000_000_000_000_000)] == [
        "unknown size", "0 bytes", "999 bytes", "1 kB", "1 MB", "3e+03 TB"]  # fmt: skip


def test_every_output_has_a_page(photos: Path, tmp_path: Path) -> None:
    given = {"inputs": [str(photos)], "output": str(tmp_path / "out"), "hashers": ["phash:hash_size=16@0.05"], **ALONE}
    run_dedup(DedupJob.model_validate(given), "none")
    assert "No near duplicates" in Page(Path(report(tmp_path / "out")[0]).read_text()).text
    (tmp_path / "known.csv").write_text(
        f"hash,id\n{'0' * 64},17\n{rows(tmp_path / 'out', 'hashes/hasher=phash-hash_size-16')[0]['hash'].hex()},18\n"
    )
    known = {"known": [str(tmp_path / "known.csv")], "hashers": ["phash:hash_size=16@0.05"], **ALONE}
    run_match(MatchJob.model_validate({"inputs": [str(photos)], "output": str(tmp_path / "found"), **known}), "none")
    page = Page(Path(report(tmp_path / "found")[0]).read_text())
    assert "Compared with known content" in page.text and "known.csv phash:hash_size=16 1 " in page.text
    done = CliRunner().invoke(app, ["report", str(photos)])
    assert done.exit_code == 2 and "is not an output of neardup; make one with" in done.stderr


def test_the_report_of_a_benchmark_is_written_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = {"inputs": [str(photos)], "output": str(out), "hashers": ["dhash", "pdq"], **ALONE}
    run_benchmark(BenchmarkJob.model_validate({**given, "transforms": ["noop:64", "soft=blur:2", "flip"]}), "none")
    before = {path: path.read_bytes() for path in [out / "thresholds.yaml", *(out / "report").iterdir()]}
    assert len(before) == 9
    for path in before:
        path.unlink()
    assert report(out) == [str(out / "report" / "index.html")]
    assert {path: path.read_bytes() for path in [out / "thresholds.yaml", *(out / "report").iterdir()]} == before
    run_dedup(DedupJob.model_validate({**given, "hashers": ["dhash@0.1"]}), "none")
    assert [Path(place).name for place in report(out)] == ["index.html", "duplicates.html"]
