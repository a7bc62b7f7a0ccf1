"""GROUPS, from tables to table: against a plain sort, whatever the order of rows and the parts they come in."""

import json
import random
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from conftest import rows
from neardup import groups, storage, tables
from neardup.config import DedupJob, JoinJob
from neardup.errors import UsageError
from neardup.stages import grouping, pairing
from neardup.stages.grouping import read_policy
from neardup_jobs.cli import app
from neardup_jobs.dedup import run_dedup, run_join

NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
DEFAULT = read_policy()
Item = dict[str, Any]


def item(uri: str, width: int | None = 10, height: int | None = 10, **other: Any) -> Item:
    row = dict.fromkeys(tables.MEDIA.names)
    row |= {"uri": uri, "kind": "image", "size": 100, "mtime": NOON, "version": "v", "partial": False, "format": "JPEG"}
    return row | {"width": width, "height": height} | other


def pair(a: str, b: str, distance: float = 0.1, **other: Any) -> Item:
    row = {"uri_a": min(a, b), "uri_b": max(a, b), "distance": distance, "matches": 1, "variant": "r0"}
    return row | {"overlap_a": 1.0, "overlap_b": 1.0, "offset_s": None} | other


def output(
    folder: Path, items: Sequence[Item], pairs: dict[str, Sequence[Item]], parts: int = 1, **made_by: Any
) -> str:
    """An output with these rows of MEDIA and PAIRS, in so many parts."""
    root = storage.absolute(str(folder))
    manifest = {}
    found = [("media", items, tables.MEDIA), *((f"pairs/hasher={name}", pairs[name], tables.PAIRS) for name in pairs)]
    for table, all_rows, schema in found:
        manifest[table] = [f"{table}/part-{number:024x}.parquet" for number in range(parts)]
        for number, name in enumerate(manifest[table]):
            tables.write_part(root, name, pa.Table.from_pylist(list(all_rows[number::parts]), schema), made_by)
    storage.commit_manifest(root, manifest)
    return root


def grouped(root: str, policy: grouping.Policy = DEFAULT) -> list[Item]:
    found = grouping.write_groups(root, policy)
    return tables.read_table(root, found.names, tables.GROUPS).to_pylist()


# --- the kept item and the reason -------------------------------------------------------------------------------------


def test_the_reason_says_in_what_the_kept_item_is_better(tmp_path: Path) -> None:
    items = [
        item("a1", 20, 10),
        item("a2", 10, 20, size=1_234_567),
        item("a3", 11, 10, format="PNG"),
        item("a4", None, None),
        item("b1", mtime=NOON + timedelta(days=1)),
        item("b2"),
        item("b3"),
        item("b4", mtime=None),
    ]
    pairs = [pair(a, b) for name in "ab" for a, b in combinations([f"{name}{n}" for n in range(1, 5)], 2)]
    root = output(tmp_path, items, {"x": pairs})

    def said(*keep: str) -> list[str]:
        policy = read_policy(keep=keep) if keep else DEFAULT
        return [row["reason"] for row in sorted(grouped(root, policy), key=lambda row: row["uri"])]

    assert said() == [
        "drop: 100 bytes, kept has 1,234,567 bytes",
        "keep: as many pixels as others, most bytes",
        "drop: 11x10 pixels, kept has 10x20 pixels",
        "drop: ?x? pixels, kept has 10x20 pixels",
        "drop: modified 2020-01-02T12:00:00, kept has modified 2020-01-01T12:00:00",
        "keep: equal to others, first by uri",
        "drop: equal to the kept one, later by uri",
        "drop: unknown time, kept has modified 2020-01-01T12:00:00",
    ]
    assert said("format:png>gif", "mtime") == [
        "drop: format jpeg, kept has format png",
        "drop: format jpeg, kept has format png",
        "keep: its format comes first in png>gif",
        "drop: format jpeg, kept has format png",
        "drop: modified 2020-01-02T12:00:00, kept has modified 2020-01-01T12:00:00",
        "keep: equal to others, first by uri",
        "drop: equal to the kept one, later by uri",
        "drop: unknown time, kept has modified 2020-01-01T12:00:00",
    ]
    assert said("pixels", "format:jpeg", "-bytes", "-mtime")[2:5] == [
        "keep: fewest pixels",
        "drop: ?x? pixels, kept has 11x10 pixels",
        "keep: equal to others in pixels and format and bytes, newest",
    ]
    assert said("-uri")[:4] == [*["drop: earlier by uri"] * 3, "keep: last by uri"]
    assert said("bytes", "uri")[4:6] == [
        "keep: equal to others, first by uri",
        "drop: equal to the kept one, later by uri",
    ]


def key_of(row: Item, criterion: str) -> tuple[bool, Any]:
    """Where a plain sort puts this item: nulls last."""
    name, _, choice = criterion.removeprefix("-").partition(":")
    value: Any
    if name == "prefer":
        return (False, not row["uri"].startswith(choice))
    if name == "format":
        order = choice.split(">")
        return (False, order.index(row["format"].lower()) if str(row["format"]).lower() in order else len(order))
    if name == "uri":
        value = row["number"]
    elif name == "mtime":
        value = row["mtime"] and row["mtime"].timestamp()
    else:
        value = row["size"] if name == "bytes" else row["width"] and row["width"] * row["height"]
    return (value is None, 0 if value is None else -value if criterion[0] == "-" else value)


ITEMS = st.fixed_dictionaries(
    {
        "size": st.integers(1, 3),
        "mtime": st.none() | st.integers(0, 2).map(lambda hours: NOON + timedelta(hours=hours)),
        "format": st.sampled_from(["PNG", "JPEG", "GIF", None]),
        "width": st.sampled_from([None, 1, 2]),
        "bucket": st.sampled_from(["s3://gold/", "s3://silver/", "s3://tin/"]),
    }
)
KEEP = ["-pixels", "bytes", "-mtime", "-bytes", "pixels", "mtime", "uri", "-uri", "prefer:s3://gold/"]
KEEP += ["prefer:s3://silver/", "format:png>jpeg", "format:gif>jpeg>png"]


@pytest.mark.parametrize("kind", groups.GROUPINGS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    found=st.lists(ITEMS, min_size=2, max_size=9),
    keep=st.lists(st.sampled_from(KEEP), min_size=1, max_size=4, unique_by=lambda text: text.removeprefix("-")),
    protect=st.lists(st.sampled_from(["s3://tin/", "s3://t", "s3://s", "s3://nothing/"]), max_size=2),
    chance=st.randoms(use_true_random=False),
)
def test_groups_equal_those_of_a_plain_sort_in_any_order_of_rows(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    found: list[Item],
    keep: list[str],
    protect: list[str],
    chance: random.Random,
) -> None:
    items = [item(f"{one.pop('bucket')}{n:02d}", height=3, **one) for n, one in enumerate(found)]
    every = list(combinations([one["uri"] for one in items], 2))
    pairs = [pair(a, b, chance.choice([0.1, 0.2])) for a, b in chance.sample(every, chance.randint(1, len(every)))]
    expected = obvious_groups(items, pairs, kind, keep, protect)
    policy = read_policy(kind, keep, protect)
    for parts in (1, 3):
        chance.shuffle(items)
        chance.shuffle(pairs)
        by_hasher = {"x": pairs[::2], "y": pairs[1::2]} if parts == 3 else {"x": pairs}
        root = output(tmp_path_factory.mktemp("out"), items, by_hasher, parts)
        got = grouped(root, policy)
        assert got == sorted(got, key=lambda row: (row["group"], row["uri"]))
        assert [{key: row[key] for key in expected[0]} for row in got] == expected if expected else not got
        for row in got:
            protected = row["uri"].startswith(tuple(protect)) and row["uri"] != row["kept_uri"]
            prefix = next((one for one in protect if row["uri"].startswith(one)), None)
            start = (
                f"keep: protected by {prefix}; otherwise drop: " if protected else "keep: " if row["keep"] else "drop: "
            )
            assert row["reason"].startswith(start)


def obvious_groups(
    items: list[Item], pairs: list[Item], kind: str, keep: list[str], protect: list[str]
) -> list[dict[str, Any]]:
    """All of GROUPS but the reasons, by loops over a sorted list."""
    distance = {frozenset((one["uri_a"], one["uri_b"])): one["distance"] for one in pairs}
    numbered = [one | {"number": n} for n, one in enumerate(sorted(items, key=lambda one: one["uri"]))]
    free = [one["uri"] for one in sorted(numbered, key=lambda one: [key_of(one, text) for text in [*keep, "uri"]])]
    found = []
    while free:
        group = [free.pop(0)]
        grown = -1
        while grown != len(group):
            grown = len(group)
            for uri in list(free):
                near = [frozenset((uri, other)) in distance for other in group]
                if {"component": any(near), "diameter": near[0], "clique-like": all(near)}[kind]:
                    group.append(uri)
                    free.remove(uri)
        for uri in group if len(group) > 1 else []:
            kept = uri == group[0] or uri.startswith(tuple(protect))
            apart = 0.0 if uri == group[0] else distance.get(frozenset((uri, group[0])))
            row = {"uri": uri, "group": min(group), "keep": kept, "kept_uri": group[0], "distance_to_kept": apart}
            found.append(row)
    return sorted(found, key=lambda row: (row["group"], row["uri"]))


# --- protection -------------------------------------------------------------------------------------------------------


def test_protected_items_are_kept_beside_the_best_and_counted(tmp_path: Path) -> None:
    items = [item("s3://b/best", 99), item("s3://gold/1"), item("s3://gold/2"), item("s3://golden/3"), item("s3://b/4")]
    items += [item("tar://5::s3://gold/x.tar"), item("s3://b/gold/6")]
    pairs = [pair("s3://b/best", one["uri"]) for one in items[1:]] + [pair("s3://gold/8", "s3://gold/9")]
    items += [item("s3://gold/8"), item("s3://gold/9")]
    root = output(tmp_path, items, {"x": pairs})
    found = grouping.write_groups(root, read_policy(protect=["s3://gold/", "s3://gold/1"]))
    got = tables.read_table(root, found.names, tables.GROUPS).to_pylist()
    kept = ["s3://b/best", *(f"s3://gold/{n}" for n in (1, 2, 8, 9)), "tar://5::s3://gold/x.tar"]
    assert sorted(row["uri"] for row in got if row["keep"]) == kept
    assert [row["kept_uri"] for row in got] == ["s3://b/best"] * 7 + ["s3://gold/8"] * 2
    assert (found.groups, found.items, found.protected, found.duplicate_bytes) == (2, 9, 4, 300)
    said = {row["uri"]: row["reason"] for row in got}
    assert said["s3://b/best"] == "keep: most pixels"
    text = "keep: protected by s3://gold/; otherwise drop: 10x10 pixels, kept has 99x10 pixels"
    assert said["s3://gold/1"] == text


def test_a_local_prefix_means_its_uri(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    policy = read_policy(keep=["prefer:best/", "prefer:best", "prefer:/"], protect=["./a/../b/", "s3://x/", "s3://x/y"])
    base = f"file://{tmp_path}"
    assert [one.choices for one in policy.keep[:-1]] == [(f"{base}/best/",), (f"{base}/best",), ("file:///",)]
    assert policy.protect == (f"{base}/b/", "s3://x/", "s3://x/y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grouping": "dimeter"}, "unknown --groups 'dimeter'"),
        ({"protect": [""]}, "would protect everything"),
        ({"keep": ["format:jpg>png"]}, "unknown format 'jpg'; did you mean 'jpeg'?"),
        ({"keep": ["format:wepb"]}, "did you mean 'webp'?"),
        ({"keep": ["prefer:s4://x/"]}, "unknown protocol 's4'"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read_policy(**arguments)


# --- floods and chains ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", groups.GROUPINGS)
def test_a_chain_of_a_thousand(tmp_path: Path, kind: str) -> None:
    names = [f"u{n:03d}" for n in np.random.default_rng(0).permutation(1000)]
    root = output(tmp_path, [item(name) for name in names], {"x": [pair(a, b) for a, b in pairwise(names)]})
    found = grouping.write_groups(root, read_policy(kind))
    got = tables.read_table(root, found.names, tables.GROUPS).to_pylist()
    sizes = np.unique([row["group"] for row in got], return_counts=True)[1]
    assert found.items + found.alone == 1000
    if kind == "component":
        assert sizes.tolist() == [1000] and sum(row["distance_to_kept"] is None for row in got) == 1000 - 3
    else:
        assert sizes.max() == (3 if kind == "diameter" else 2) and found.alone > 0
        assert all(row["distance_to_kept"] == (0.0 if row["uri"] == row["kept_uri"] else 0.1) for row in got)


@pytest.mark.parametrize("hashers", [1, 2])
@pytest.mark.parametrize("kind", groups.GROUPINGS)
@settings(max_examples=15, deadline=None, derandomize=True)
@example(found=[0] * 6 + [1] * 7, chance=0)
@given(found=st.lists(st.integers(0, 7), min_size=2, max_size=12), chance=st.integers(0, 99))
def test_pairs_written_as_a_star_give_the_groups_of_all_pairs(
    tmp_path_factory: pytest.TempPathFactory, kind: str, hashers: int, found: list[int], chance: int
) -> None:
    """One hash per item; the second hasher splits each set of the first or joins it to another."""
    rng = np.random.default_rng(chance)
    items = [item(f"u{n:02d}", int(rng.integers(1, 4))) for n in range(len(found))]
    got = []
    for limit in (pairing.ALL_PAIRS_LIMIT, 2):
        by_hasher = {name: list(flood(found if name == "x" else found[::-1], limit)) for name in "xy"[:hashers]}
        got.append(grouped(output(tmp_path_factory.mktemp("out"), items, by_hasher), read_policy(kind)))
    if kind == "component" and hashers == 2:  # what is not paired directly then has no distance
        got = [[row | {"distance_to_kept": None} for row in one] for one in got]
    if hashers == 1 or kind == "component":
        assert got[0] == got[1]
    else:  # equal by one hasher only: nothing may be grouped that was not so with all pairs
        near = nearness(found)
        assert all(near[int(row["uri"][1:]), int(row["kept_uri"][1:])] for row in got[1])


def flood(values: list[int], limit: int) -> list[Item]:
    """The pairs of items with these hashes, where 0 and 1, 2 and 3, … are near: as `pairing` writes them."""
    sets = {value: np.flatnonzero(np.array(values) == value) for value in set(values)}
    found = {}
    for value, other in [(v, w) for v in sorted(sets) for w in sorted(sets) if v <= w and v // 2 == w // 2]:
        left, right = sorted((sets[value], sets[other]), key=min)
        combinations = len(left) * (len(left) - 1) // 2 if value == other else len(left) * len(right)
        for a in left if combinations <= limit else left[:1]:
            found |= {frozenset((f"u{a:02d}", f"u{b:02d}")): (other - value) / 10 for b in right if a != b}
    return [pair(*sorted(ends), distance) for ends, distance in found.items()]


def nearness(found: list[int]) -> np.ndarray:
    one, other = np.array(found) // 2, np.array(found[::-1]) // 2
    return (one[:, None] == one) | (other[:, None] == other)


@pytest.mark.parametrize(
    ("change", "made_by"),
    [
        ({"matches": 2}, {}),
        ({"overlap_a": 0.5}, {}),
        ({"overlap_b": 0.5}, {}),
        ({"variant": "r90"}, {}),
        ({"distance": 0.01}, {}),
        ({}, {"block_by": ["folder", "pattern:x"]}),
    ],
)
def test_only_items_of_one_equal_hash_stand_for_each_other(
    tmp_path: Path, change: dict[str, Any], made_by: dict[str, Any]
) -> None:
    items = [item("a"), item("b", 20), item("c")]
    pairs = [pair("a", "b", 0.0), pair("a", "c", 0.0)]
    policy = read_policy("diameter")
    assert len(grouped(output(tmp_path / "equal", items, {"x": pairs}, block_by=["folder"]), policy)) == 3
    changed = [one | change for one in pairs]
    got = grouped(output(tmp_path / "other", items, {"x": changed}, **made_by), policy)
    assert [row["uri"] for row in got] == ["a", "b"]


# --- tables -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.text("ab\u00e9", max_size=3), max_size=8), max_size=6), st.integers(0, 6))
def test_strings_are_numbered_in_their_order(columns: list[list[str]], batch_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "_BATCH_ROWS", batch_rows)
        strings, codes = grouping.numbered(pa.chunked_array([column], pa.string()) for column in columns)
    assert strings.to_pylist() == sorted({text for column in columns for text in column}, key=str.encode)
    assert [[strings[int(code)].as_py() for code in part] for part in codes] == columns


def test_many_batches_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    items = [item(f"u{n:02d}", int(rng.integers(1, 4)), size=int(rng.integers(1, 9))) for n in rng.permutation(60)]
    pairs = [pair(*(f"u{n:02d}" for n in sorted(rng.choice(20, 2, replace=False) * 3))) for _ in range(25)]
    whole = grouped(output(tmp_path / "one", items, {"x": pairs}), read_policy("diameter"))
    monkeypatch.setattr(grouping, "_BATCH_ROWS", 7)
    assert grouped(output(tmp_path / "many", items, {"x": pairs}, parts=9), read_policy("diameter")) == whole


def test_no_pairs_are_no_groups(tmp_path: Path) -> None:
    for pairs in ({}, {"x": []}):
        found = grouping.write_groups(output(tmp_path / str(len(pairs)), [item("a")], pairs), DEFAULT)
        assert found == ([], 0, 0, 0, 0, 0)


# --- the jobs ---------------------------------------------------------------------------------------------------------


def policy_of(out: Path) -> list[Any]:
    return [json.loads(pq.read_metadata(part).metadata[b"neardup"]) for part in out.glob("groups/*.parquet")]


def test_another_policy_regroups_without_joining_again(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "image1.jpg", photos / "copy.jpg")
    out = tmp_path / "out"
    settings: dict[str, Any] = {"output": str(out), "cluster": "none", "hashers": ["phash:hash_size=16@0.2"]}
    run_dedup(DedupJob(inputs=(str(photos),), **settings), "none")
    pairs = {part: part.stat().st_size for part in out.glob("pairs/*/*.parquet")}
    assert policy_of(out) == [{"policy": {"groups": "component", "keep": [*groups.DEFAULT_KEEP], "protect": []}}]
    first = rows(out, "groups")
    changed = {"groups": "diameter", "keep": ("-uri",), "protect": (f"{photos}/copy",)}
    summary = run_join(JoinJob(**settings, **changed), "none")
    assert sum(stage.get("compared", 0) for stage in summary["stages"].values()) == 0
    assert {part: part.stat().st_size for part in out.glob("pairs/*/*.parquet")} == pairs
    policy = {"groups": "diameter", "keep": ["-uri"], "protect": [f"file://{photos}/copy"]}
    assert policy_of(out) == [{"policy": policy}]
    second = rows(out, "groups")
    assert [row["keep"] for row in first] == [False, True] or [row["keep"] for row in first] == [True, False]
    assert [row["keep"] for row in second] == [True, True] and str(second[0]["kept_uri"]).endswith("image1.jpg")
    assert summary["stages"]["group"]["protected"] == 1
    run_dedup(DedupJob(inputs=(str(photos),), **settings), "none")
    assert rows(out, "groups") == first


def test_flags_reach_the_groups(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "image1.jpg", photos / "copy.jpg")
    out = tmp_path / "out"
    command = ["dedup", str(photos), "-o", str(out), "--cluster", "none", "--groups", "clique-like"]
    done = CliRunner().invoke(app, [*command, "--keep", "-bytes", "--keep", "-uri", "--protect", f"{photos}/"])
    assert done.exit_code == 0, done.stderr
    policy = {"groups": "clique-like", "keep": ["-bytes", "-uri"], "protect": [f"file://{photos}/"]}
    assert policy_of(out) == [{"policy": policy}]


@pytest.mark.parametrize("command", [["dedup", "photos", "-o", "out"], ["join", "out"]])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--keep", "-pixles"], "did you mean '-pixels'?"),
        (["--set", "keep=[-pixles]"], "did you mean '-pixels'?"),
        (["--groups", "clique"], "groups: input should be 'component', 'diameter' or 'clique-like', not 'clique'"),
        (["--protect", "s4://x"], "unknown protocol 's4'"),
    ],
)
def test_bad_policies_are_one_line_and_nothing_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], flags: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*command, *flags])
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
