"""`neardup match`: real photos against lists of some of them, refused lists, reruns, increments, the command line."""

import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import neardup
from conftest import PHOTOS, ROOT, SAMPLES, all_rows, rows
from neardup import storage
from neardup.config import DedupJob, HashJob, MatchJob
from neardup.errors import ClaimError, RunError, UsageError
from neardup.hashers import PDQHash, PHash
from neardup.run import claimed
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup, run_hash
from neardup_jobs.match import run_match

NOT_IN_CHILD = {"child": {"enabled": False}, "cluster": "none"}


def match(*inputs: Path, known: Any, **settings: Any) -> dict[str, Any]:
    lists = [str(one) for one in (known if isinstance(known, list) else [known])]
    given = {"inputs": [str(one) for one in inputs], "known": lists, "hashers": ["pdq"], **NOT_IN_CHILD, **settings}
    if "output" in given:
        given["output"] = str(given["output"])
    return run_match(MatchJob.model_validate(given), "none")


def hash_only(photos: Path, output: Path, **settings: Any) -> None:
    given = {"inputs": [str(photos)], "output": str(output), "hashers": ["pdq"], **NOT_IN_CHILD, **settings}
    run_hash(HashJob.model_validate(given), "none")


def write_list(path: Path, photos: list[Path]) -> Path:
    """A CSV list of photos, as `hash,id,label`."""
    with open(path, "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["hash", "id", "label"])
        for photo in photos:
            lines.writerow([PDQHash().compute(photo, hash_format="hex"), photo.name, f"=label of {photo.stem}"])
    return path


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A list of the first three reference photos."""
    return write_list(tmp_path / "known.csv", PHOTOS[:3])


@pytest.fixture
def hashed(photos: Path, tmp_path: Path) -> Path:
    """An output with the PDQ hashes of the ten reference photos."""
    hash_only(photos, tmp_path / "out")
    return tmp_path / "out"


def matches(output: Path) -> set[tuple[str, str, str]]:
    """The file name, list and entry of each row of MATCHES."""
    return {(str(r["uri"]).rsplit("/", 1)[1], str(r["list"]), str(r["entry"])) for r in rows(output, "matches")}


THREE = {(photo.name, "known.csv", photo.name) for photo in PHOTOS[:3]}

# --- what comes out ---------------------------------------------------------------------------------------------------


def test_samples_match_the_list_made_of_some_of_them_and_their_copies(tmp_path: Path) -> None:
    import duckdb

    listed = write_list(tmp_path / "known.csv", PHOTOS[:3])
    summary = match(SAMPLES, known=listed, output=tmp_path / "out")
    base = storage.absolute(str(SAMPLES))
    found = {(str(r["uri"]).removeprefix(f"{base}/"), str(r["entry"])) for r in rows(tmp_path / "out", "matches")}
    originals = {f"perception/{photo.name}" for photo in PHOTOS[:3]}
    with open(SAMPLES / "expected.csv") as file:
        pairs = [(row["file_a"], row["file_b"]) for row in csv.DictReader(file)]
    copies = {(a, b.rsplit("/", 1)[1]) for pair in pairs for a, b in (pair, pair[::-1]) if b in originals}
    assert {(f"perception/{photo.name}", photo.name) for photo in PHOTOS[:3]} <= found
    assert found <= copies | {(name, name.rsplit("/", 1)[1]) for name in originals} and len(found) > 3
    assert (summary["listed"], summary["decoded"]) == (60, 56)
    (facts,) = summary["matches"]
    assert (facts["rows"], facts["items"]) == (len(found), len({uri for uri, _ in found}))
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == summary
    seen = duckdb.sql(f"SELECT DISTINCT hasher, list, label FROM '{tmp_path}/out/matches/*.parquet' ORDER BY label")
    assert seen.fetchall() == [("pdq", "known.csv", f"=label of {photo.stem}") for photo in PHOTOS[:3]]


def test_an_output_gets_matches_and_keeps_all_else(photos: Path, known: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = DedupJob(inputs=(str(photos),), output=str(out), hashers=("pdq@0.2",), **NOT_IN_CHILD)
    run_dedup(job, "none")
    before = all_rows(out)
    summary = match(out, known=known)
    assert matches(out) == THREE and "listed" in summary and "hash" not in summary["stages"]
    assert {table: found for table, found in all_rows(out).items() if table != "matches"} == before
    assert not (out / "work").exists() and not (out / "claim.json").exists()
    assert rows(out, "matches") == neardup.match(out, known, "pdq").to_pylist()
    run_dedup(job, "none")
    assert matches(out) == THREE  # a run that changes no hash leaves them


def test_the_folder_of_hashes_stands_for_its_output(hashed: Path, known: Path) -> None:
    match(hashed / "hashes", known=known)
    assert matches(hashed) == THREE and not list(hashed.glob("hashes/*.json"))


def test_matches_may_go_to_another_output(hashed: Path, known: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in hashed.rglob("*"))
    match(hashed, known=known, output=tmp_path / "found")
    assert sorted((path, path.stat().st_mtime_ns) for path in hashed.rglob("*")) == before
    assert matches(tmp_path / "found") == THREE
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"manifest.json", "matches", "run.json"}


def test_hash_first_or_later_blocks_and_workers_give_the_same_rows(photos: Path, hashed: Path, known: Path) -> None:
    match(hashed, known=known)
    expected = rows(hashed, "matches")
    for number, how in enumerate([{"block_rows": 1}, {"block_rows": 2, "slices": {"items": 3}}, {}]):
        match(photos, known=known, output=hashed.parent / str(number), **how)
        assert rows(hashed.parent / str(number), "matches") == expected


@pytest.mark.cluster
def test_a_cluster_gives_the_same_rows(hashed: Path, known: Path, tmp_path: Path) -> None:
    match(hashed, known=known)
    match(hashed, known=known, output=tmp_path / "found", cluster={"workers": 2}, block_rows=3)
    assert rows(tmp_path / "found", "matches") == rows(hashed, "matches")


@pytest.mark.parametrize("folder", ["", "hashes", "hashes/hasher=pdq", "hashes/hasher=pdq/"])
def test_another_output_is_a_list(hashed: Path, photos: Path, tmp_path: Path, folder: str) -> None:
    some = tmp_path / "some"
    some.mkdir()
    for photo in PHOTOS[:2]:
        with Image.open(photo) as image:
            image.resize((image.width // 2, image.height // 2)).save(some / f"half-{photo.name}")
    (some / "broken.jpg").write_text("no photo")
    hash_only(some, tmp_path / "listed")
    match(hashed, known=f"{tmp_path}/listed/{folder}")
    base = storage.absolute(str(some))
    assert matches(hashed) == {(p.name, "listed", f"{base}/half-{p.name}") for p in PHOTOS[:2]}
    assert {r["label"] for r in rows(hashed, "matches")} == {None}


def test_the_version_of_an_output_is_that_of_its_hashes_however_they_lie(hashed: Path, tmp_path: Path) -> None:
    hash_only(tmp_path / "photos", tmp_path / "a", slices={"items": 1})
    hash_only(tmp_path / "photos", tmp_path / "b", slices={"items": 4})
    versions = []
    for name in ("a", "b", "b"):
        match(hashed, known=tmp_path / name, output=tmp_path / "found")
        versions.append({r["version"] for r in rows(tmp_path / "found", "matches") if r["list"] == name}.pop())
        if len(versions) == 2:
            (tmp_path / "photos" / PHOTOS[0].name).unlink()
            hash_only(tmp_path / "photos", tmp_path / "b")
    assert versions[0] == versions[1] != versions[2]


def test_one_part_of_hashes_is_a_list(hashed: Path, tmp_path: Path) -> None:
    part = min((hashed / "hashes" / "hasher=pdq").iterdir())
    shutil.copy(part, tmp_path / "part.parquet")
    match(hashed, known=tmp_path / "part.parquet")
    found = rows(hashed, "matches")
    assert [r["uri"] for r in found] == sorted(pq.read_table(part)["uri"].to_pylist())
    assert all(r["entry"] == r["uri"] and r["distance"] == 0 for r in found)


def test_flips_and_turns_match_and_turned_rows_never_meet_turned_ones(photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "image1.jpg") as photo:
        photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    listed = write_list(tmp_path / "known.csv", [tmp_path / "turned.png"])
    match(photos, known=listed, output=tmp_path / "upright")
    assert not rows(tmp_path / "upright", "matches")
    match(photos, known=listed, output=tmp_path / "out", isometric=True, block_rows=7)
    match(photos, known=listed, output=tmp_path / "upright", isometric=True)  # hashes anew
    for name in ("out", "upright"):
        assert matches(tmp_path / name) == {("image1.jpg", "known.csv", "turned.png")}
    some = tmp_path / "some"
    some.mkdir()
    shutil.move(tmp_path / "turned.png", some)
    for name, isometric in (("listed", False), ("listed-turned", True)):
        hash_only(some, tmp_path / name, isometric=isometric)
    summary = match(tmp_path / "out", known=[tmp_path / "listed", tmp_path / "listed-turned"])
    assert {r["list"] for r in rows(tmp_path / "out", "matches")} == {"known.csv", "listed", "listed-turned"}
    compared = [one["compared"] for name, one in summary["stages"].items() if name.startswith("match")]
    assert compared == [80 * 1, 10 * 8 + 70 * 1]


def test_several_rows_of_an_item_are_one_match_at_the_smallest_distance(hashed: Path, tmp_path: Path) -> None:
    photo = PHOTOS[0]
    vector = PDQHash().compute(photo, hash_format="vector")
    lines = ["hash,id"]
    for bits in (5, 2, 9):
        moved = vector.copy()
        moved[:bits] ^= True
        lines.append(f"{PDQHash().vector_to_string(moved, 'hex')},same")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    match(hashed, known=tmp_path / "list.csv")
    (row,) = rows(hashed, "matches")
    assert (row["entry"], row["distance"]) == ("same", 2 / 256)


def test_min_quality_leaves_poor_hashes_out(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (200, 200), "grey").save(photos / "blank.png")
    listed = write_list(tmp_path / "known.csv", [photos / "blank.png"])
    for quality, found, left_out in [(0, 1, 0), (50, 0, 1)]:
        summary = match(photos, known=listed, output=tmp_path / "out", min_quality=quality)
        (facts,) = (one for name, one in summary["stages"].items() if name.startswith("match"))
        assert (facts["items"], facts["hashes"], facts["left_out"]) == (found, 11 - left_out, left_out)


# --- again ------------------------------------------------------------------------------------------------------------


def test_a_rerun_replaces_the_rows_of_the_same_list_only(hashed: Path, known: Path, tmp_path: Path) -> None:
    other = write_list(tmp_path / "other.csv", PHOTOS[5:6])
    match(hashed, known=[known, other])
    parts = sorted(hashed.glob("matches/*"))
    match(hashed, known=[known, other])
    assert sorted(hashed.glob("matches/*")) == parts and len(parts) == 2
    old = {str(r["version"]) for r in rows(hashed, "matches") if r["list"] == "known.csv"}
    write_list(known, PHOTOS[1:2])
    match(hashed, known=known)
    kept = (PHOTOS[5].name, "other.csv", PHOTOS[5].name)
    assert matches(hashed) == {(PHOTOS[1].name, "known.csv", PHOTOS[1].name), kept}
    assert old.isdisjoint(str(r["version"]) for r in rows(hashed, "matches"))
    write_list(known, [SAMPLES / "copies" / "lakes-cmyk.jpg"])
    match(hashed, known=known, radius_bits=0)
    assert matches(hashed) == {kept} and len(list(hashed.glob("matches/*"))) == 1


def test_two_hashers_have_rows_of_their_own(photos: Path, hashed: Path, known: Path, tmp_path: Path) -> None:
    match(hashed, known=known)
    hash_only(photos, hashed, hashers=["phash:hash_size=16"])
    assert matches(hashed) == THREE  # another hasher changes none of them
    texts = [PHash(hash_size=16).compute(photo, hash_format="hex") for photo in PHOTOS[:1]]
    (tmp_path / "phash").mkdir()
    (tmp_path / "phash" / "known.csv").write_text("hash\n" + "\n".join(map(str, texts)))
    match(hashed, known=tmp_path / "phash" / "known.csv", hashers=["phash:hash_size=16"])
    assert sorted(str(r["hasher"]) for r in rows(hashed, "matches")) == ["pdq"] * 3 + ["phash:hash_size=16"]


def test_when_hashes_change_what_was_matched_with_them_goes(photos: Path, known: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    match(photos, known=known, output=out)
    (photos / PHOTOS[0].name).unlink()
    hash_only(photos, out)
    assert not rows(out, "matches") and not (out / "matches").exists()
    match(photos, known=known, output=out)
    assert matches(out) == {one for one in THREE if one[0] != PHOTOS[0].name}
    match(photos, known=known, output=tmp_path / "fresh")
    assert rows(out, "matches") == rows(tmp_path / "fresh", "matches")


def test_a_killed_match_goes_on_from_its_tiles(hashed: Path, known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neardup.stages import tiles

    join_tile, done = tiles.join_tile, []

    def dying(task: Any) -> Any:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(task.tile)
        return join_tile(task)

    monkeypatch.setattr(tiles, "join_tile", dying)
    with pytest.raises(KeyboardInterrupt):
        match(hashed, known=known, block_rows=2)
    assert not rows(hashed, "matches") and len(list(hashed.glob("work/*/tile*"))) == 5
    monkeypatch.setattr(tiles, "join_tile", join_tile)
    summary = match(hashed, known=known, block_rows=2)
    assert matches(hashed) == THREE and not (hashed / "work").exists()
    (facts,) = (one for name, one in summary["stages"].items() if name.startswith("match"))
    assert facts["tiles"] == 5  # of ten


def test_one_run_at_a_time_and_a_lost_claim_commits_nothing(
    hashed: Path, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neardup.stages import matching

    with claimed(storage.absolute(str(hashed))), pytest.raises(ClaimError, match="is being written"):
        match(hashed, known=known)
    write = matching.write_matches

    def robbed(*arguments: Any) -> Any:
        (hashed / "claim.json").write_text("{}")
        return write(*arguments)

    monkeypatch.setattr(matching, "write_matches", robbed)
    with pytest.raises(ClaimError, match="taken over"):
        match(hashed, known=known)
    assert not rows(hashed, "matches")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_hashes_that_must_not_meet_are_refused_before_any_work(
    photos: Path, hashed: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_only(photos, tmp_path / "drop", decode={"alpha": "drop"})
    hash_only(photos, tmp_path / "phash", hashers=["phash"])
    refused = {
        "drop": r"known list 'drop' was decoded with alpha=drop;.*, the corpus with alpha=white;.*",
        "phash": r"has hashes of phash, not of pdq",
        "phash/hashes/hasher=phash": r"has hashes of phash, not of pdq",
        "out": r"is the corpus itself",
    }
    for given, message in refused.items():
        with pytest.raises(UsageError, match=message):
            match(hashed, known=tmp_path / given)
    for given in ("drop", "phash"):
        with pytest.raises(UsageError, match=refused[given]):
            match(photos, known=tmp_path / given, output=tmp_path / "new")
    with pytest.raises(UsageError, match="hash of 256 bits, phash has 64"):
        match(tmp_path / "phash", known=known, hashers=["phash@0.2"])
    monkeypatch.setattr(PDQHash, "revision", PDQHash.revision + 1)
    both = f"pdq revision {PDQHash.revision - 1}, to be compared with pdq revision {PDQHash.revision}"
    for given in (tmp_path / "drop", next((tmp_path / "drop" / "hashes" / "hasher=pdq").iterdir())):
        with pytest.raises(UsageError, match=both):
            match(photos, known=given, output=tmp_path / "new")
    with pytest.raises(UsageError, match=both):
        match(hashed, known=known)
    assert not (tmp_path / "new").exists() and not rows(hashed, "matches")


BAD: dict[str, tuple[list[str], str]] = {
    "no list": (["match", "out"], "'known' is missing"),
    "no input": (["match", "--known", "known.csv", "-o", "new"], "'inputs' is missing"),
    "missing list": (["match", "out", "--known", "none.csv"], "cannot read the known list 'none.csv'"),
    "unknown form": (["match", "out", "--known", "a.xlsx"], "neither an output of neardup nor one of .csv"),
    "missing input": (["match", "nowhere", "--known", "known.csv", "-o", "new"], "no such file or folder: 'nowhere'"),
    "no output": (["match", "photos", "--known", "known.csv"], "'photos' is not an output of neardup; to hash it"),
    "two inputs, no output": (["match", "photos", "out", "--known", "known.csv"], "'output' is missing"),
    "output inside input": (["match", "photos", "--known", "known.csv", "-o", "photos/x"], "inside each other"),
    "hasher not there": (["match", "out", "--known", "known.csv", "--hasher", "ahash@0.1"], "no hashes of ahash"),
    "no threshold": (["match", "out", "--known", "known.csv", "--hasher", "ahash"], "no recommended threshold"),
    "bad line": (["match", "out", "--known", "bad.csv"], "known list 'bad.csv' line 2: 'xyz' is not a hash of pdq"),
    "another hasher's": (["match", "out", "--known", "short.csv"], "a hash of 64 bits, pdq has 256"),
    "no such column": (["match", "out", "--known", "known.csv", "--hash-column", "pdq"], "no column 'pdq'; it has"),
    "two of a name": (["match", "out", "--known", "known.csv", "--known", "./known.csv"], "named 'known.csv'"),
    "same hasher twice": (["match", "out", "--known", "known.csv", "--hasher", "pdq"], "twice"),
    "radius of two": (["match", "out", "--known", "known.csv", "--hasher", "ahash", "--radius-bits", "3"], "single"),
    "threshold 7": (["match", "out", "--known", "known.csv", "--threshold", "7"], "outside 0..1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_usage_is_one_line_and_exit_2(
    hashed: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "bad.csv").write_text("hash\nxyz\n")
    (tmp_path / "short.csv").write_text("hash\n0123456789abcdef\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[name]
    hashers = [] if name in ("hasher not there", "no threshold") else ["--hasher", "pdq"]
    done = CliRunner().invoke(app, [*arguments, *hashers])
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and done.stderr.startswith("neardup: ") and done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_line(hashed: Path, known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(known, "a") as file:
        file.write("xyz,a,b\n")
    arguments = ["match", str(hashed), "--known", str(known), "--hasher", "pdq", "--cluster", "none"]
    assert "--skip-bad-lines" in CliRunner().invoke(app, arguments).stderr
    done = CliRunner().invoke(app, [*arguments, "--skip-bad-lines", "--threshold", "0.1"])
    assert done.exit_code == 0 and "3 items of known.csv by pdq, 1 bad lines left out" in done.stdout
    assert "listed" not in done.stdout and done.stderr.startswith("match: 1 of 1")
    done = CliRunner().invoke(app, [*arguments, "--skip-bad-lines", "--json"])
    summary = json.loads(done.stdout)
    expected = {"hasher": "pdq", "list": "known.csv", "rows": 3, "items": 3, "bad_lines": 1}
    assert summary["matches"] == [expected] and summary["job"] == "match" and done.stderr == ""
    assert "neardup match out --known" in CliRunner().invoke(app, ["match", "--help"]).stdout


def test_what_the_page_on_matching_says_works(
    photos: Path, hashed: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "matching.md").read_text()
    shutil.copytree(hashed, tmp_path / "other-out")
    (tmp_path / "samples").symlink_to(SAMPLES)
    monkeypatch.chdir(tmp_path)
    commands = [line.split("  #")[0].split()[1:] for line in page.splitlines() if line.startswith("neardup match ")]
    for arguments in commands:
        done = CliRunner().invoke(app, [*arguments, "--cluster", "none"])
        assert done.exit_code == 0 and "matches" in done.stdout, done.stderr
    assert len(commands) == 3 and {r["list"] for r in rows(tmp_path / "found", "matches")} == {"known.csv", "other-out"}
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "matching.md", "exec"), {})
    assert "headquarters" in printed.getvalue()


def test_an_empty_folder_writes_nothing_and_one_that_became_empty_empties_the_tables(
    photos: Path, known: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert match(tmp_path / "empty", known=known, output=tmp_path / "out")["written"] is False
    assert not (tmp_path / "out").exists()
    match(photos, known=known, output=tmp_path / "out")
    for photo in photos.iterdir():
        photo.unlink()
    summary = match(photos, known=known, output=tmp_path / "out", max_removed=1)
    assert summary["matches"][0]["rows"] == 0 and not list((tmp_path / "out").rglob("*.parquet"))


def test_a_part_that_is_not_ours_is_named(hashed: Path, known: Path) -> None:
    (part,) = (name for name in sorted(hashed.glob("hashes/*/*"))[:1])
    pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    with pytest.raises(RunError, match="was not written by neardup"):
        match(hashed, known=known)
