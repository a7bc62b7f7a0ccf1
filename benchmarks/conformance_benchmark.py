"""Is the whole METRICS table that of `perception`, cell by cell?

    python benchmarks/conformance_benchmark.py PICTURES --oracle PYTHON [--limit 240]

PICTURES: folders; PYTHON: an interpreter with `perception[pdq]` 0.9. Photos are decoded once and given to both sides as
PNG; the transforms are those of `plain_transforms`, which give the same pixels everywhere. `perception` writes every
picture as JPEG of quality 95, alters the pictures it wrote and hashes files; neardup does the same in memory
(`--encode jpeg:95`). A cell is a threshold, recall, precision or number of exemplars of a hasher in a group: each
category and transform, each transform, overall. Categories are the folders of the photos. The exit code is 1 if a cell
differs that does not when a known defect of the reference is switched off.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import cv2
import pandas as pd

from pipeline import media
from pipeline.errors import MediaError
from pipeline.report import read_results

HERE = Path(__file__).parent
NAMES = ("small", "blur", "gamma", "coarse", "watermark", "vignette", "pad", "crop", "noise", "shear")
TRANSFORMS = {"noop" if name == "small" else name: f"plain_transforms.{name}" for name in NAMES}
HASHERS = ["ahash:hash_size=16", "blockmean", "dhash:hash_size=16", "marrhildreth"]
HASHERS += ["pdq", "phash:hash_size=16", "wavelet:hash_size=16", "seed_hash.ShrinkHash"]
CELLS = {"precision_threshold": "threshold", "precision_recall": "recall", "precision": "precision"}
CELLS["n_exemplars"] = "n_exemplars"


def write_pictures(sources: list[Path], target: Path, limit: int) -> int:
    """The decoded photos as PNG, in a folder per category; evenly chosen."""
    files = sorted(path for source in sources for path in source.rglob("*") if path.is_file())
    step = max(1, len(files) // limit)
    written = 0
    for path in files[::step]:
        try:
            pixels = media.decode_image(path.read_bytes()).pixels
        except MediaError:
            continue
        folder = target / path.parent.name
        folder.mkdir(exist_ok=True, parents=True)
        cv2.imwrite(str(folder / f"{written:05d}.png"), pixels[..., ::-1])
        written += 1
        if written == limit:
            break
    return written


def run_neardup(pictures: Path, out: Path, *more: str) -> None:
    """The job, with the encoding of the reference."""
    arguments = ["benchmark", str(pictures), "-o", str(out), "--duplicates", "none", "--encode", "jpeg:95"]
    arguments += [text for name, path in TRANSFORMS.items() for text in ("--transform", f"{name}={path}")]
    arguments += [text for spec in HASHERS for text in ("--hasher", spec)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    subprocess.run(
        [sys.executable, "-m", "jobs", *arguments, *more, "--json"],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def run_oracle(python: str, pictures: Path, out: Path) -> None:
    """The same by `perception`; its tables as CSV."""
    out.mkdir()
    options = {"transforms": TRANSFORMS, "hashers": HASHERS, "precision": 99.9, "workers": os.cpu_count()}
    command = [python, str(HERE / "benchmark_oracle.py"), str(pictures), str(out), json.dumps(options)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(HERE)}, capture_output=True)


def compare(ours: pd.DataFrame, theirs: Path) -> list[tuple]:
    """Every cell: where it is, our value, theirs."""
    cells = []
    for by in (["category", "transform"], ["transform"], []):
        name = "-".join("transform_name" if column == "transform" else column for column in by) or "overall"
        renamed = {"transform_name": "transform", "hasher_name": "hasher"}
        table = pd.read_csv(theirs / f"{name}.csv", dtype={"category": str}).rename(columns=renamed)
        mine = ours
        for column in ("category", "transform"):
            mine = mine[mine[column].notna() == (column in by)]
        keys = [*by, "hasher"]
        both = mine.merge(table, on=keys, how="outer", suffixes=("", "_theirs"), indicator=True)
        for row in both.to_dict("records"):
            where = tuple(row[key] for key in keys)
            for column, other in CELLS.items():
                value = row[other if other != "n_exemplars" else column] if other == column else row[column]
                theirs_value = row[f"{other}_theirs"] if f"{other}_theirs" in row else row[other]
                cells.append((where, column, value, theirs_value))
    return cells


def equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--oracle", required=True, metavar="PYTHON")
    parser.add_argument("--limit", type=int, default=240, help="photos used at most, evenly chosen (default 240)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        count = write_pictures(options.pictures, work / "pictures", options.limit)
        run_neardup(work / "pictures", work / "out")
        run_oracle(options.oracle, work / "pictures", work / "oracle")
        ours = read_results(str(work / "out")).metrics
        cells, double = (compare(ours, work / "oracle" / kind) for kind in ("shipped", "double"))
    known = {cell[:2]: cell[3] for cell in double}
    unequal = [cell for cell in cells if not equal(cell[2], cell[3])]
    differing = [cell for cell in unequal if not equal(cell[2], known[cell[:2]])]
    for where, column, mine, theirs in differing[:40]:
        print(f"differs: {column} of {', '.join(map(str, where))}: {mine!r}, perception {theirs!r}")
    for what, found in Counter(cell[0][-1] for cell in differing).items():
        print(f"{found} cells of {what} differ")
    explained = len(unequal) - len(differing)
    print(f"{count} photos, {len(TRANSFORMS)} transforms, {len(HASHERS)} hashers: {len(cells)} cells,", end=" ")
    print(f"{len(cells) - len(unequal)} equal, {explained} explained, {len(differing)} unexplained")
    if explained:
        print(
            "explained: the compiled extension of perception keeps distances of whole-number vectors in float32;",
            end=" ",
        )
        print("without it they are ours, digit by digit:", Counter(c[0][-1] for c in unequal if c not in differing))
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
