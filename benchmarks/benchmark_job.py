"""How fast is `neardup benchmark`, beside `perception` and in a large synthetic case, and how much memory does it take?

    python benchmarks/benchmark_job.py CORPUS [--limit 2000] [--oracle PYTHON --subset 150]
    python benchmarks/benchmark_job.py --synthetic 100000x1000000

The first form runs the ten transforms and the eight image hashers of the reference's documentation over a corpus on a
local cluster; with an interpreter that has `perception[pdq]` and `pandas`, also over a subset on both sides, each with
two workers: the whole command here, transform + compute_hashes + compute_threshold_recall there. The second form scores
made-up 256-bit hashes: so many originals, and so many altered pictures of them.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from dedup import watch

from neardup import report, storage, tables
from neardup.hashers import parse
from neardup.run import workers
from neardup.stages import live, nearing, originals, scoring

HERE = Path(__file__).parent
HASHERS = ["ahash:hash_size=16", "blockmean", "dhash:hash_size=16", "marrhildreth"]
HASHERS += ["pdq", "phash:hash_size=16", "wavelet:hash_size=16", "seed_hash.ShrinkHash"]
ORACLE_TRANSFORMS = ("noop", "watermark", "vignette", "blur", "gamma", "jpeg", "pad", "crop", "noise", "rotate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="*", type=Path, help="folders of images")
    parser.add_argument("--limit", type=int, default=2000, help="images used at most, evenly chosen (default 2000)")
    parser.add_argument("--oracle", metavar="PYTHON")
    parser.add_argument("--subset", type=int, default=150, help="images of the comparison (default 150)")
    parser.add_argument("--synthetic", metavar="NxM", help="originals x altered pictures")
    parser.add_argument("--hashers", nargs="*", default=["pdq"], help="of the synthetic case, 256 bits each")
    parser.add_argument("--categories", type=int, default=1, help="of the synthetic case: fewer pairs, as many rows")
    options = parser.parse_args()
    libraries = ("neardup", "numpy", "opencv-python-headless", "numba", "distributed")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},", end=" "
    )
    print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in libraries))
    if options.synthetic:
        synthetic(*map(int, options.synthetic.split("x")), options.hashers, options.categories)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        count = copy_pictures(options.corpus, work / "all", options.limit)
        seconds, peaks = run(work / "all", work / "out")
        summary = json.loads((work / "out" / "run.json").read_text())
        print(f"{count} images, {len(summary['config']['transforms'])} transforms, {len(HASHERS)} hashers:", end=" ")
        print(f"{seconds:.1f} s, {count / seconds:.1f} images/s; failed {summary['failed']}; {summary['originals']}")
        stages = {name: facts["seconds"] for name, facts in summary["stages"].items()}
        print("seconds by stage:", ", ".join(f"{name} {taken:.1f}" for name, taken in stages.items()))
        print("peak resident memory:", ", ".join(f"{kind} {peak / 1e6:.0f} MB" for kind, peak in sorted(peaks.items())))
        if options.oracle:
            beside(options.oracle, options.corpus, work, options.subset)


def copy_pictures(sources: list[Path], target: Path, limit: int) -> int:
    """Links to evenly chosen files, in a folder per source folder."""
    files = sorted(path for source in sources for path in source.rglob("*") if path.is_file())
    chosen = [files[k * len(files) // limit] for k in range(limit)] if len(files) > limit else files
    for number, path in enumerate(chosen):
        folder = target / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{number:05d}{path.suffix}")
    return len(chosen)


def leave_out_lone(pictures: Path) -> int:
    """Remove folders of one picture, which has nothing to be confused with: the reference does not take them."""
    lone = [folder for folder in pictures.iterdir() if len(list(folder.iterdir())) == 1]
    for folder in lone:
        shutil.rmtree(folder)
    return len(lone)


def run(pictures: Path, out: Path, *more: str) -> tuple[float, dict[str, int]]:
    """Seconds of the whole command, and the peak memory of each kind of process."""
    arguments = ["benchmark", str(pictures), "-o", str(out), "--json", *more]
    arguments += [text for spec in HASHERS for text in ("--hasher", spec)]
    search = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    peaks: dict[str, int] = {}
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(peaks, over))
    watcher.start()
    begun = time.perf_counter()
    try:
        command = [sys.executable, "-m", "neardup", *arguments]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": search})
    finally:
        over.set()
        watcher.join()
    return time.perf_counter() - begun, peaks


def beside(python: str, corpus: list[Path], work: Path, subset: int) -> None:
    """The same subset on both sides."""
    count = copy_pictures(corpus, work / "subset", subset)
    count -= leave_out_lone(work / "subset")
    ours, _ = run(work / "subset", work / "ours", "--duplicates", "none")
    stages = json.loads((work / "ours" / "run.json").read_text())["stages"]
    alike = sum(facts["seconds"] for name, facts in stages.items() if name not in ("list", "report"))
    transforms = {name: f"seed_transforms.{name}" for name in ORACLE_TRANSFORMS}
    options = {"transforms": transforms, "hashers": HASHERS, "workers": os.cpu_count()}
    options["rule"] = {"precision_threshold": 99.9}
    (work / "theirs").mkdir()
    command = [
        python,
        str(HERE / "benchmark_oracle.py"),
        str(work / "subset"),
        str(work / "theirs"),
        json.dumps(options),
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(HERE)})
    theirs = json.loads((work / "theirs" / "seconds.json").read_text())
    total = sum(theirs.values())
    steps = ", ".join(f"{name} {taken:.1f}" for name, taken in theirs.items())
    print(f"{count} images: neardup {ours:.1f} s with start and report, perception {total:.1f} s ({steps}):", end=" ")
    print(f"{total / ours:.1f}x; the stages that do what it does, altering, hashing, scoring: {alike:.1f} s,", end=" ")
    print(f"{total / alike:.1f}x")


def synthetic(n: int, altered: int, specs: list[str], categories: int) -> None:
    """Score made-up hashes on a local cluster: seconds of each stage, and memory."""
    names = ["noop", *(f"t{k}" for k in range(altered // n))]
    by_name = {name: name for name in names}
    peaks: dict[str, int] = {}
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(peaks, over))
    with tempfile.TemporaryDirectory() as folder:
        root = storage.absolute(folder)
        makers = [live.maker(parse(spec), altered="synthetic") for spec in specs]
        storage.commit_manifest(root, write_synthetic(root, makers, n, names, categories))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{n} originals x {altered} altered, {', '.join(specs)}; tables written, {before / 1e3:.0f} MB so far")
        watcher.start()
        with workers("local") as pool:
            marks = [time.perf_counter()]
            parts, _ = originals.write_originals(root, originals.read_rule("none", ""), "folder", "noop")
            scored = originals.read_originals(root, parts)
            tasks = []
            for maker in makers:
                prepared = nearing.prepare(root, maker, names, scored, 65_536)
                marks.append(time.perf_counter())
                compared = sum(pool.mapper(nearing.near_tiles, prepared.tasks))
                marks.append(time.perf_counter())
                print(f"{maker.spec}: prepared in {marks[-2] - marks[-3]:.1f} s, {len(prepared.tasks)} tasks,", end=" ")
                print(
                    f"{compared:.3g} pairs in {marks[-1] - marks[-2]:.1f} s: {compared / (marks[-1] - marks[-2]):.3g}/s"
                )
                tasks.append(scoring.score_task(root, maker, prepared.all_tasks, parts, by_name, scoring.Wanted()))
            found = list(pool.mapper(scoring.score, tasks))
            live.commit(root, scoring.with_scores(storage.read_manifest(root), parts, found), "score-")
            marks.append(time.perf_counter())
            best = report.write_report(root, report.live_results(root, by_name, 0.001))
            print(f"scored in {marks[-1] - marks[-2]:.1f} s, report in {time.perf_counter() - marks[-1]:.1f} s: {best}")
        over.set()
        watcher.join()
    peaks["driver"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1000
    print("peak resident memory:", ", ".join(f"{kind} {peak / 1e6:.0f} MB" for kind, peak in sorted(peaks.items())))


def write_synthetic(
    root: str, makers: list[live.Maker], n: int, names: list[str], categories: int
) -> dict[str, list[str]]:
    """MEDIA and altered hashes: random originals, altered ones with 0 to 60 of 256 bits changed; parts as of slices."""
    manifest: dict[str, list[str]] = {"media": []}
    step = 10_000
    for start in range(0, n, step):
        rng = np.random.default_rng(start)
        size = min(step, n - start)
        uris = pa.array([f"file:///corpus/{(start + k) % categories}/{start + k:09d}.jpg" for k in range(size)])
        columns = [pa.nulls(size, field.type) for field in tables.MEDIA]
        media = pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in tables.MEDIA]))
        for name, values in (("uri", uris), ("kind", pa.repeat("image", size)), ("version", uris)):
            media = media.set_column(media.schema.get_field_index(name), name, values)
        manifest["media"].append(f"media/part-{start:024x}.parquet")
        tables.write_part(root, manifest["media"][-1], media, {"decode": "synthetic"})
        for maker in makers:
            noop = rng.integers(0, 256, (size, 32), dtype=np.uint8)
            hashes = [noop, *(noop ^ _flips(rng, size) for _ in names[1:])]
            rows = {
                "uri": pa.concat_arrays([uris] * len(names)),
                "version": pa.concat_arrays([uris] * len(names)),
                "variant": pa.array(np.repeat(names, size)),
                "frame_index": np.zeros(size * len(names), np.int64),
                "timestamp_s": pa.nulls(size * len(names), pa.float64()),
                "hash": pa.array([one.tobytes() for one in np.concatenate(hashes)], pa.binary(32)),
                "quality": pa.nulls(size * len(names), pa.int16()),
                "error": pa.nulls(size * len(names), pa.string()),
            }
            manifest.setdefault(maker.folder, []).append(f"{maker.folder}/part-{start:024x}.parquet")
            tables.write_part(root, manifest[maker.folder][-1], pa.table(rows), {"hasher": maker.stamp})
    return manifest


def _flips(rng: np.random.Generator, size: int) -> np.ndarray:
    """Bits to change: of each row a share of its own."""
    share = rng.random((size, 1)) * 0.25
    return np.packbits(rng.random((size, 256), np.float32) < share, axis=1)


if __name__ == "__main__":
    main()
