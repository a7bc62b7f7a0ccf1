"""`neardup explain`: what all tables say of one item, found as a person types it."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import rows
from neardup import storage
from neardup.config import DedupJob, MatchJob
from neardup.hashers import PDQHash
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup
from neardup_jobs.match import run_match

NOT_IN_CHILD: dict[str, Any] = {"child": {"enabled": False}, "cluster": "none"}


@pytest.fixture
def out(photos: Path, tmp_path: Path) -> Path:
    """An output with groups, a hub, an error and matches."""
    (photos / "sub").mkdir()
    with Image.open(photos / "image1.jpg") as photo:
        photo.resize((photo.width // 2, photo.height // 2)).save(photos / "small.png")
    for number in range(50):  # more than 1,024 pairs
        shutil.copy(photos / "image2.jpg", photos / "sub" / f"copy{number:02d}.jpg")
    (photos / "text.jpg").write_text("not a photo")
    hashers = ["pdq@0.2", "phash:hash_size=16@0.2"]
    given = {"inputs": [str(photos)], "output": str(tmp_path / "out"), "hashers": hashers, **NOT_IN_CHILD}
    run_dedup(DedupJob.model_validate(given), "none")
    known = f"hash,id,label\n{PDQHash().compute(photos / 'image1.jpg', hash_format='hex')},17,seen before\n"
    (tmp_path / "known.csv").write_text(known)
    given = {"inputs": [str(tmp_path / "out")], "known": [str(tmp_path / "known.csv")], "hashers": ["pdq"]}
    run_match(MatchJob.model_validate({**given, **NOT_IN_CHILD}), "none")
    return tmp_path / "out"


def explain(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["explain", *map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_everything_about_an_item(photos: Path, out: Path) -> None:
    base = storage.absolute(str(photos))
    found = json.loads(explain(out, photos / "image1.jpg", "--json"))
    (media,) = (row for row in rows(out, "media") if row["uri"] == f"{base}/image1.jpg")
    assert found["media"] == {**media, "mtime": media["mtime"].isoformat()}  # type: ignore[attr-defined]
    hex_ = PDQHash().compute(photos / "image1.jpg", hash_format="hex")
    assert [row["hash"] for row in found["hashes"]["pdq"]] == [hex_] and len(found["hashes"]) == 2
    near = [(row["uri"], row["hasher"]) for row in found["pairs"]]
    assert sorted(near) == [(f"{base}/small.png", "pdq"), (f"{base}/small.png", "phash:hash_size=16")]
    assert [row["distance"] for row in found["pairs"]] == sorted(row["distance"] for row in found["pairs"])
    assert found["group"]["keep"] and [row["uri"] for row in found["members"]] == [
        f"{base}/image1.jpg",
        f"{base}/small.png",
    ]
    assert [(row["entry"], row["label"], row["distance"]) for row in found["matches"]] == [("17", "seen before", 0.0)]
    other = json.loads(explain(out, photos / "small.png", "--json"))
    assert {row["uri"] for row in other["pairs"]} == {f"{base}/image1.jpg"} and other["hubs"] == []
    text = explain(out, photos / "image1.jpg")
    for said in (
        f"{base}/image1.jpg\n",
        f"pdq: {hex_}, quality",
        "by pdq: 17 (seen before) of known.csv",
        "of 2; keep: most",
    ):
        assert said in text
    assert "drop: " in text and f"sha256 {media['sha256']}" in text


def test_hubs_errors_and_items_alone(photos: Path, out: Path) -> None:
    found = json.loads(explain(out, photos / "sub" / "copy07.jpg", "--json"))
    assert {row["items"] for row in found["hubs"]} == {51} and len(found["members"]) == 51
    assert "51 items by pdq" in explain(out, photos / "sub" / "copy07.jpg")
    text = explain(out, photos / "text.jpg")
    assert "not decoded: permanent (decode)" in text and "group    none" in text
    assert "group    none" in explain(out, photos / "image5.jpg")


def test_an_item_is_found_as_it_is_typed(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"{storage.absolute(str(photos))}/sub/copy07.jpg"
    monkeypatch.chdir(photos)
    for typed in (uri, "sub/copy07.jpg", "./sub/copy07.jpg", "../photos/sub/copy07.jpg", "copy07.jpg"):
        assert explain(out, typed).splitlines()[0] == uri
    monkeypatch.chdir(photos.parent)
    for typed in ("photos/sub/copy07.jpg", "sub/copy07.jpg"):
        assert explain("out", typed).splitlines()[0] == uri


def test_a_member_is_found_by_its_name(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(photos / "image1.jpg", "one.jpg")
        archive.add(photos / "image2.jpg", "sub/one.jpg")
        archive.add(photos / "image3.jpg", "sub/two.jpg")
    given = {
        "inputs": [str(tmp_path / "a.tar")],
        "output": str(tmp_path / "out"),
        "hashers": ["pdq@0.2"],
        **NOT_IN_CHILD,
    }
    run_dedup(DedupJob.model_validate(given), "none")
    for typed, name in {"two.jpg": "sub/two.jpg", "sub/one.jpg": "sub/one.jpg"}.items():
        assert explain(tmp_path / "out", typed).splitlines()[0] == f"tar://{name}::file://{tmp_path}/a.tar"
    done = CliRunner().invoke(app, ["explain", str(tmp_path / "out"), "one.jpg"])
    assert done.exit_code == 2 and "or 1 others" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out", "photos/imag1.jpg"], "no item 'photos/imag1.jpg' in file://{}/out; the nearest is file://{}/photos/image1.jpg"),
        (["out", "other/image3.jpg"], "the nearest is file://{}/photos/image3.jpg"),
        (["out", "s3://b/small.png"], "the nearest is file://{}/photos/small.png"),
        (["out", "twice.jpg"], "'twice.jpg' may be file://{}/photos/sub/twice.jpg or 1 others"),
        (["photos", "x.jpg"], "is not an output of neardup"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_line(
    photos: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sub", "twin"):
        (photos / name).mkdir(exist_ok=True)
        shutil.copy(photos / "image9.jpg", photos / name / "twice.jpg")
    given = {"inputs": ["photos"], "output": "out", "hashers": ["pdq@0.2"], **NOT_IN_CHILD}
    run_dedup(DedupJob.model_validate(given), "none")
    done = CliRunner().invoke(app, ["explain", *arguments])
    assert (done.exit_code, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert message.replace("{}", str(tmp_path)) in done.stderr
