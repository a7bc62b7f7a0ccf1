"""Runs inside another Python with `perception` and `pandas`: its benchmark of a folder, as tables.

    PYTHON benchmark_oracle.py PICTURES OUT OPTIONS
    PYTHON benchmark_oracle.py HASHES.csv OUT OPTIONS

PICTURES holds a folder per category; OPTIONS is JSON: the hashers as specs, the transforms as dotted paths by name, the
limit of the rule, the number of workers. OUT gets hashes.csv, shipped/ and double/ with a CSV for each grouping, and
seconds.json of the former. `double` is without the compiled extension, which keeps distances of whole-number vectors
in float32. The second form scores such hashes, in double/ only: for a release whose hashers are not those of today.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

from hash_oracle import make


def main():
    for name in ("ffmpeg", "albumentations", "imgaug", "matplotlib", "matplotlib.pyplot", "tabulate"):
        sys.modules.setdefault(name, MagicMock())  # imported for videos and plots, which are not wanted here
    from perception import benchmarking
    from perception.benchmarking import common

    source, out, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    if source.suffix == ".csv":
        hashes = benchmarking.BenchmarkHashes.load(str(source))
    else:
        hashes = hashed(source, out, options, benchmarking)
        hashes.save(str(out / "hashes.csv"))
    common.extensions = None
    write_tables(benchmarking.BenchmarkHashes(hashes._df), options["rule"], out / "double")


def hashed(pictures, out, options, benchmarking):
    import cv2
    import perception.hashers

    cv2.setNumThreads(1)

    class ShrinkHash(perception.hashers.ImageHasher):
        hash_length = 64
        dtype = "uint8"
        distance_metric = "euclidean"

        def _compute(self, image):
            return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dsize=(8, 8)).flatten()

    hashers = {
        spec: ShrinkHash() if spec.endswith("ShrinkHash") else make(spec, perception.hashers)
        for spec in options["hashers"]
    }
    transforms = {}
    for name, path in options["transforms"].items():
        module, _, function = path.rpartition(".")
        transforms[name] = getattr(importlib.import_module(module), function)
    files = sorted(path for path in pictures.rglob("*") if path.is_file())
    dataset = benchmarking.BenchmarkImageDataset.from_tuples([(str(path), path.parent.name) for path in files])
    seconds, begun = {}, time.perf_counter()
    transformed = dataset.transform(transforms, storage_dir=str(out / "transformed"), errors="raise")
    seconds["transform"] = time.perf_counter() - begun
    hashes = transformed.compute_hashes(hashers, max_workers=options["workers"])
    seconds["hash"] = time.perf_counter() - begun - seconds["transform"]
    write_tables(hashes, options["rule"], out / "shipped")
    seconds["metrics"] = time.perf_counter() - begun - seconds["transform"] - seconds["hash"]
    (out / "seconds.json").write_text(json.dumps(seconds))
    return hashes


def write_tables(hashes, rule, folder):
    folder.mkdir()
    for by in (["category", "transform_name"], ["transform_name"], []):
        table = hashes.compute_threshold_recall(**rule, grouping=by).reset_index()
        table.to_csv(folder / f"{'-'.join(by) or 'overall'}.csv", index=False, float_format="%.17g")


if __name__ == "__main__":
    main()
