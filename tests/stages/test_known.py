"""Every form of known list says the same, and what is not a list of this hasher is refused in one line."""

import base64
import csv
import io
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PHOTOS
from neardup.errors import UsageError
from neardup.hashers import PDQHash, parse
from neardup.stages.known import Known, ListOptions, of_mapping, read_known
from neardup.stages.live import maker

PDQ = maker(parse("pdq"))
RAW = [bytes(np.random.default_rng(0).integers(0, 256, 32, np.uint8)) for _ in range(3)]
RAW = [bytes([n]) + raw[1:] for n, raw in enumerate(RAW)]
HEX = [raw.hex() for raw in RAW]
LABELS = ["cat", "=cmd|' /C calc'!A0", 'käse,\n"quoted"']
ENTRIES = ["7", "b", "c/9"]


def read(path: Path, made: Any = PDQ, **options: Any) -> Known:
    return read_known(str(path), made, None, ListOptions(**options))


def rows(known: Known) -> list[tuple[bytes, str, str | None]]:
    hashes = [bytes(one) for one in known.hashes]
    return list(zip(hashes, known.entries.to_pylist(), known.labels.to_pylist(), strict=True))


def csv_text(*lines: list[str], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(lines)
    return text.getvalue().encode()


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def as_csv(encode: Callable[[bytes], str], delimiter: str = ",") -> bytes:
    lines = [[label, encode(raw), entry] for label, raw, entry in zip(LABELS, RAW, ENTRIES, strict=True)]
    return csv_text(["label", "hash", "id"], *lines, delimiter=delimiter)


def as_jsonl(_: Any = None) -> bytes:
    lines = [{"hash": h, "entry": e, "label": t} for h, e, t in zip(HEX, ENTRIES, LABELS, strict=True)]
    return "\n".join(map(json.dumps, lines)).encode() + b"\n\n"


def as_parquet(hashes: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ENTRIES, "hash": hashes, "label": LABELS}), sink)
    return sink.getvalue().to_pybytes()


FORMS: dict[str, tuple[str, bytes]] = {
    "hex csv": ("csv", as_csv(bytes.hex)),
    "upper-case csv": ("csv", as_csv(lambda raw: raw.hex().upper())),
    "base64 csv": ("csv", as_csv(base64_of)),
    "base64 without padding": ("csv", as_csv(lambda raw: base64_of(raw).rstrip("="))),
    "spaces around": ("csv", as_csv(lambda raw: f" {raw.hex()}\t")),
    "csv with a BOM": ("csv", b"\xef\xbb\xbf" + as_csv(bytes.hex)),
    "csv with old line ends": ("csv", as_csv(bytes.hex).replace(b"\r\n", b"\r")),
    "tsv": ("tsv", as_csv(bytes.hex, "\t")),
    "jsonl": ("jsonl", as_jsonl()),
    "ndjson with a BOM": ("ndjson", b"\xef\xbb\xbf" + as_jsonl()),
    "parquet of text": ("parquet", as_parquet(pa.array(HEX))),
    "parquet of a dictionary": ("parquet", as_parquet(pa.array(HEX).dictionary_encode())),
    "parquet of bytes": ("parquet", as_parquet(pa.array(RAW, pa.binary(32)))),
    "parquet of loose bytes": ("parquet", as_parquet(pa.array(RAW, pa.binary()))),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_list(tmp_path: Path, name: str) -> None:
    suffix, data = FORMS[name]
    (tmp_path / f"list.{suffix}").write_bytes(data)
    known = read(tmp_path / f"list.{suffix}")
    assert rows(known) == list(zip(RAW, ENTRIES, LABELS, strict=True))
    assert known.name == f"list.{suffix}" and known.version == sha256(data).hexdigest()
    assert known.upright.all() and not any(known.left_out.values())


def test_plain_text_has_a_hash_and_perhaps_a_label_per_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# bad ones\n\n{HEX[0]}\n{base64_of(RAW[1])}  two words\n{HEX[2]},90,x.jpg\n")
    assert rows(read(tmp_path / "list.txt")) == [
        (RAW[0], "3", None),
        (RAW[1], "4", "two words"),
        (RAW[2], "5", "90,x.jpg"),
    ]


def test_an_entry_without_a_name_is_its_line_and_several_labels_are_json(tmp_path: Path) -> None:
    lines = [["hash", "source", "note"], [HEX[0], "a\nb", ""], [], [HEX[1], "c", "ü"], ["", "no hash", ""]]
    (tmp_path / "list.csv").write_bytes(csv_text(*lines))
    known = read(tmp_path / "list.csv")
    assert rows(known) == [
        (RAW[0], "2", '{"source": "a\\nb", "note": ""}'),
        (RAW[1], "5", '{"source": "c", "note": "ü"}'),
    ]
    assert known.left_out == {"bad_lines": 0, "without_hash": 1, "other_signals": 0}


def test_another_column_of_hashes(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(csv_text(["hash", "pdq", "id"], ["x", HEX[0], ""]))
    assert rows(read(tmp_path / "list.csv", hash_column="pdq")) == [(RAW[0], "2", "x")]
    with pytest.raises(UsageError, match=r"no column 'PDQ'; it has 'hash', 'pdq', 'id'"):
        read(tmp_path / "list.csv", hash_column="PDQ")


# what ThreatExchange's PDQ index and data set files look like: fields as in its public samples, other values
def test_threatexchange_index_csv(tmp_path: Path) -> None:
    lines = [[h, str(100 + n), "2020-07-31T18:47:52+0000", "tag_a tag_b"] for n, h in enumerate(HEX)]
    (tmp_path / "pdq.csv").write_bytes(csv_text(*lines))
    label = '{"timestamp": "2020-07-31T18:47:52+0000", "tags": "tag_a tag_b"}'
    assert rows(read(tmp_path / "pdq.csv")) == [(raw, str(100 + n), label) for n, raw in enumerate(RAW)]


def test_threatexchange_data_set_csv_holds_other_kinds_too(tmp_path: Path) -> None:
    lines = [["collab", "signal_type", "signal_str", "category"], ["c", "pdq", HEX[0], "bad"], ["c", "url", "x", "bad"]]
    (tmp_path / "signals.csv").write_bytes(csv_text(*lines))
    known = read(tmp_path / "signals.csv")
    assert rows(known) == [(RAW[0], "2", '{"collab": "c", "signal_type": "pdq", "category": "bad"}')]
    assert known.left_out["other_signals"] == 1
    with pytest.raises(UsageError, match=r"holds no hash of dhash \(2 other signals\)"):
        read(tmp_path / "signals.csv", maker(parse("dhash")))


def test_other_files_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(csv_text([HEX[0], "a"], [HEX[1], "b"]))
    assert rows(read(tmp_path / "list.csv")) == [(RAW[0], "1", "a"), (RAW[1], "2", "b")]


def test_lists_lie_on_any_store() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/lists/known.csv", FORMS["hex csv"][1])
    known = read_known("memory://lists/known.csv", PDQ, None, ListOptions())
    store.rm("/lists", recursive=True)
    assert rows(known) == list(zip(RAW, ENTRIES, LABELS, strict=True)) and known.name == "known.csv"


def test_long_lists_are_read_in_batches(tmp_path: Path) -> None:
    raws = np.random.default_rng(1).integers(0, 256, (70_000, 32), np.uint8)
    (tmp_path / "list.txt").write_text("\n".join(bytes(raw).hex() for raw in raws) + f"\n{base64_of(RAW[0])}\n")
    known = read(tmp_path / "list.txt")
    assert np.array_equal(known.hashes[:-1], raws) and bytes(known.hashes[-1]) == RAW[0]
    assert known.entries.to_pylist() == [str(n + 1) for n in range(70_001)]


# --- what is refused --------------------------------------------------------------------------------------------------

LONG = "ab" * 300_000
BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("csv", b"", "holds no hash of pdq: it is empty"),
    "only a header": ("csv", b"hash,label\n", "it is empty"),
    "only a BOM": ("txt", b"\xef\xbb\xbf", "it is empty"),
    "no hashes at all": ("jsonl", b'{"hash": null}\n', "1 without hash"),
    "wrong hex": ("csv", csv_text(["hash"], [HEX[0]], ["zz" + HEX[1][2:]]), "line 3: 'zz"),
    "space within": ("txt", f"{HEX[0]}\n{HEX[1][:-2]}+g\n".encode(), "line 2: "),
    "short": ("csv", csv_text(["hash"], [HEX[0][:16]]), "hash of 64 bits, pdq has 256"),
    "no hex, no header": ("csv", b"name,other\n1,2\n", "its columns are 'name', 'other'"),
    "short, no header": ("csv", csv_text([HEX[0][:16], "x"]), "hash of 64 bits, pdq has 256"),
    "too many fields": ("csv", csv_text(["hash", "x"], [HEX[0], "x", "y"]), "line 2: it has 3 fields"),
    "open quote": ("csv", f'hash,x\n{HEX[0]},"a\n{HEX[1]},b\n'.encode(), "line 2 is not CSV"),
    "huge field": ("csv", f"hash,x\n{HEX[0]},{LONG}\n".encode(), "line 2 is not CSV: field larger"),
    "huge line": ("txt", f"{HEX[0]}\n{LONG}{LONG}\n".encode(), "line 2: 'ab"),
    "huge hash": ("txt", f"{LONG}\n".encode(), "hash of 2400000 bits, pdq has 256"),
    "two columns alike": ("csv", f"hash,hash\n{HEX[0]},x\n".encode(), "two columns 'hash'"),
    "a null byte": ("txt", f"{HEX[0]}\0\n".encode(), "line 1: "),
    "UTF-16": ("csv", "hash\n".encode("utf-16"), "not UTF-8"),
    "Latin-1": ("txt", HEX[0].encode() + b" k\xe4se\n", "not UTF-8"),
    "an image": ("csv", PHOTOS[0].read_bytes()[:400], "not UTF-8"),
    "no JSON": ("jsonl", b'{"hash": \n', "line 1: '{\"hash\":' is not a JSON object"),
    "JSON list": ("jsonl", f'["{HEX[0]}"]\n'.encode(), "is not a JSON object"),
    "deep JSON": ("jsonl", b"[" * 100_000 + b"\n", "is not a JSON object"),
    "half a surrogate": ("jsonl", f'{{"hash": "{HEX[0]}", "a": "\\ud800"}}\n'.encode(), "is not a JSON object"),
    "huge label": ("jsonl", f'{{"hash": "{HEX[0]}", "a": "{LONG}{LONG}"}}'.encode(), "has 1,200,"),
    "huge number": ("jsonl", b'{"hash": ' + b"1" * 5000 + b"}\n", "is not a JSON object"),
    "number as hash": ("jsonl", b'{"hash": 12}\n', "'12' is not a hash of pdq"),
    "no key": ("jsonl", b'{"pdq": "x"}\n', "no key 'hash'; it has 'pdq'"),
    "no Parquet": ("parquet", b"hash\n", "is not Parquet"),
    "half a Parquet": ("parquet", as_parquet(pa.array(HEX))[:-20], "is not Parquet"),
    "damaged Parquet": ("parquet", b"PAR1" + b"\0" * 60 + as_parquet(pa.array(HEX))[64:], "is damaged"),
    "Parquet without hash": ("parquet", as_parquet(pa.array([1, 2, 3])), "row 1: '1' is not a hash"),
    "short Parquet": ("parquet", as_parquet(pa.array([RAW[0], b"abc", RAW[1]])), "row 2: '616263' is a hash of 24"),
    "unknown form": ("xlsx", b"PK", "neither an output of neardup nor one of .csv, .tsv"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_lists_are_refused_in_one_short_line(tmp_path: Path, name: str) -> None:
    suffix, data, message = BAD[name]
    (tmp_path / f"list.{suffix}").write_bytes(data)
    with pytest.raises(UsageError) as raised:
        read(tmp_path / f"list.{suffix}")
    assert message in str(raised.value) and len(str(raised.value)) < 400 and "list" in str(raised.value)


def test_missing_lists_folders_and_protocols_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for given, message in [("none.csv", "the object is gone"), ("folder.csv", "not a file"), ("", "neither an output")]:
        with pytest.raises(UsageError, match=message):
            read(tmp_path / given)


def test_a_manifest_of_something_else_makes_no_output(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "my website"}')
    with pytest.raises(UsageError, match="neither an output"):
        read(tmp_path)


def test_bad_lines_may_be_counted_instead(tmp_path: Path) -> None:
    lines = [["hash", "x"], [HEX[0], "a"], ["what?", "b"], [HEX[1][:-2], "c"], [HEX[2]], [HEX[1], "d"]]
    (tmp_path / "list.csv").write_bytes(csv_text(*lines))
    known = read(tmp_path / "list.csv", skip_bad_lines=True)
    assert rows(known) == [(RAW[0], "2", "a"), (RAW[1], "6", "d")] and known.left_out["bad_lines"] == 3
    (tmp_path / "list.csv").write_bytes(csv_text(*lines[:4]))
    with pytest.raises(
        UsageError, match=r"no line of this known list holds a hash of ahash; the first: .* line 2: .* 256"
    ):
        read(tmp_path / "list.csv", maker(parse("ahash")), skip_bad_lines=True)


def test_bits_beyond_the_hash_are_refused(tmp_path: Path) -> None:
    odd = maker(parse("phash:hash_size=3"))  # 9 bits in 2 bytes
    (tmp_path / "list.txt").write_text("ff80\n00C0\n")
    with pytest.raises(UsageError, match="line 2: '00C0' has bits beyond the 9 of phash"):
        read(tmp_path / "list.txt", odd)
    (tmp_path / "list.txt").write_text("ff80\n/4A=\n")
    assert [bytes(one) for one in read(tmp_path / "list.txt", odd).hashes] == [b"\xff\x80"] * 2


# --- from a program ---------------------------------------------------------------------------------------------------


def test_a_mapping_takes_every_way_to_write_a_hash() -> None:
    vector = PDQHash().string_to_vector(HEX[0], "hex")
    given = {"a": HEX[0], "b": base64_of(RAW[0]), "c": RAW[0], "d": vector, "e": [HEX[1], None], "f": None}
    known = of_mapping({**given, "g": {"r0": RAW[1], "fh": RAW[2]}}, PDQ)
    assert [bytes(one) for one in known.hashes] == [RAW[0]] * 4 + [RAW[1], RAW[1], RAW[2]]
    assert known.entries.to_pylist() == [*"abcdegg"] and known.upright.tolist() == [True] * 6 + [False]
    assert known.left_out["without_hash"] == 2
    for bad in (HEX[0][:10], 7, vector[:250], "zz"):
        with pytest.raises(UsageError, match=r"^'a': "):
            of_mapping({"a": bad}, PDQ)
