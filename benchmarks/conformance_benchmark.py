"""Is the whole METRICS table that of `perception`, cell by cell?

    python benchmarks/conformance_benchmark.py PICTURES --oracle PYTHON [--oracle2019 PYTHON] [--limit 240]

PICTURES: folders; PYTHON: an interpreter with `perception[pdq]` 0.9, and one with a release that has the rule of 2019.
The Python files of 0.3.15 run wherever its requirements, pandas<2.1 and setuptools<81 are installed:

    pip install --no-deps --target SITE_PACKAGES --only-binary :all: --python-version 37 --abi cp37m \\
        --platform manylinux1_x86_64 perception==0.3.15

Photos are decoded once and given to both sides as PNG; the transforms are those of `plain_transforms`, which give the
same pixels everywhere. `perception` writes every picture as JPEG of quality 95, alters the pictures it wrote and hashes
files; neardup does the same in memory (`--encode jpeg:95`). A cell is a threshold, recall, precision (in 2019: fpr) or
number of exemplars of a hasher in a group: each category and transform, each transform, overall. Categories are the
folders of the photos. Cells are compared digit by digit. Only where the compiled extension of `perception` has worked,
on whole-number vectors, do its thresholds have the digits of float32: there ours is rounded to float32 first, and all
is compared once more, in all digits, with what `perception` gives without the extension. The exit code is 1 if a cell
differs.
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
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from benchmark_job import leave_out_lone

from neardup import media
from neardup.errors import MediaError
from neardup.report import read_results

HERE = Path(__file__).parent
NAMES = ("small", "blur", "gamma", "coarse", "watermark", "vignette", "pad", "crop", "noise", "shear")
TRANSFORMS = {"noop" if name == "small" else name: f"plain_transforms.{name}" for name in NAMES}
HASHERS = ["ahash:hash_size=16", "blockmean", "dhash:hash_size=16", "marrhildreth"]
HASHERS += ["pdq", "phash:hash_size=16", "wavelet:hash_size=16", "seed_hash.ShrinkHash"]
IN_FLOAT32 = ("seed_hash.ShrinkHash",)  # whole numbers, euclidean
TODAY, OF_2019 = {"precision_threshold": 99.9}, {"fpr_threshold": 1e-4}
# the columns of METRICS, and what they are called there
CELLS_TODAY = {"precision_threshold": "threshold", "precision_recall": "recall", "precision": "precision"}
CELLS_TODAY["n_exemplars"] = "n_exemplars"
CELLS_2019 = {name: name for name in ("threshold", "recall", "fpr", "n_exemplars")}


class Cell(NamedTuple):
    """One figure of one hasher in one group, by both."""

    where: tuple[str, ...]
    column: str
    ours: float
    theirs: float

    def agrees(self, float32: bool) -> bool:
        """In all digits, or, of thresholds in float32, in those that there are."""
        ours = float(np.float32(self.ours)) if float32 and self.rounded else self.ours
        return ours == self.theirs or (math.isnan(ours) and math.isnan(self.theirs))

    @property
    def rounded(self) -> bool:
        """Whether the compiled extension has kept it in float32."""
        return self.column == "threshold" and self.where[-1] in IN_FLOAT32


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
    return written - leave_out_lone(target)


def run_neardup(pictures: Path, out: Path, *more: str) -> None:
    """The job, with the encoding of the reference."""
    arguments = ["benchmark", str(pictures), "-o", str(out), "--duplicates", "none", "--encode", "jpeg:95"]
    arguments += [text for name, path in TRANSFORMS.items() for text in ("--transform", f"{name}={path}")]
    arguments += [text for spec in HASHERS for text in ("--hasher", spec)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    subprocess.run(
        [sys.executable, "-m", "neardup", *arguments, *more, "--json"],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def run_oracle(python: str, source: Path, out: Path, rule: dict[str, float]) -> None:
    """The same by `perception`, or only the scores of its hashes; its tables as CSV."""
    out.mkdir()
    options = {"transforms": TRANSFORMS, "hashers": HASHERS, "rule": rule, "workers": os.cpu_count()}
    command = [python, str(HERE / "benchmark_oracle.py"), str(source), str(out), json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python} failed:\n{done.stderr[-2000:]}")


def compare(ours: pd.DataFrame, theirs: Path, names: dict[str, str]) -> list[Cell]:
    """Every cell of the groupings in a folder; a group that one side lacks has NaN there."""
    cells = []
    for by in (["category", "transform"], ["transform"], []):
        file = "-".join("transform_name" if column == "transform" else column for column in by) or "overall"
        table = pd.read_csv(theirs / f"{file}.csv", dtype={"category": str})
        table = table.rename(columns={"transform_name": "transform", "hasher_name": "hasher"})
        mine = ours[ours["category"].notna().eq("category" in by) & ours["transform"].notna().eq("transform" in by)]
        keys = [*by, "hasher"]
        left = mine.set_index(keys)[list(names)].rename(columns=names).astype(float)
        left, right = left.align(table.set_index(keys)[list(left)].astype(float), join="outer")
        for column in left:
            rows = zip(left.index, left[column], right[column], strict=True)
            cells += [Cell(where if by else (where,), str(column), *values) for where, *values in rows]
    return cells


def report(what: str, cells: list[Cell], float32: bool = False) -> bool:
    """Print how many cells agree and those that do not; whether all do."""
    differing = [cell for cell in cells if not cell.agrees(float32)]
    for where, column, mine, theirs in differing[:40]:
        print(f"differs: {column} of {', '.join(map(str, where))}: {mine!r}, perception {theirs!r}")
    for name, found in Counter(cell.where[-1] for cell in differing).items():
        print(f"{found} cells of {name} differ")
    print(f"{what}: {len(cells)} cells, {len(cells) - len(differing)} equal, {len(differing)} unexplained")
    rounded = [cell for cell in cells if float32 and cell.agrees(float32) and not cell.agrees(False)]
    if rounded:
        names = ", ".join(sorted({cell.where[-1] for cell in rounded}))
        print(f"  of these {len(rounded)} thresholds of {names} in the digits of float32, the others in all digits")
    return not differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--oracle", required=True, metavar="PYTHON")
    parser.add_argument("--oracle2019", metavar="PYTHON")
    parser.add_argument("--limit", type=int, default=240, help="photos used at most, evenly chosen (default 240)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        count = write_pictures(options.pictures, work / "pictures", options.limit)
        run_neardup(work / "pictures", work / "out")
        ours = read_results(str(work / "out")).metrics
        print(f"{count} photos, {len(TRANSFORMS)} transforms, {len(HASHERS)} hashers")
        run_oracle(options.oracle, work / "pictures", work / "today", TODAY)
        equal = report("rule of today", compare(ours, work / "today" / "shipped", CELLS_TODAY), float32=True)
        without = compare(ours, work / "today" / "double", CELLS_TODAY)
        equal &= report("rule of today, without the compiled extension", without)
        if options.oracle2019:
            run_oracle(options.oracle2019, work / "today" / "hashes.csv", work / "2019", OF_2019)
            equal &= report("rule of 2019, by its release", compare(ours, work / "2019" / "double", CELLS_2019))
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
