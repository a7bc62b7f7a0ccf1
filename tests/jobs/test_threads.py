"""Any number of threads per worker gives the same rows: real schedulers and workers, all jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from PIL import Image

from conftest import PHOTOS, all_rows
from dask_processes import scheduler, worker
from neardup.config import BenchmarkJob, DedupJob, EnrichJob, MatchJob
from neardup.hashers import PDQHash
from neardup.stages import hashing
from neardup_jobs.benchmark import run_benchmark
from neardup_jobs.dedup import run_dedup
from neardup_jobs.enrich import run_enrich
from neardup_jobs.match import run_match
from stores import free_port
from video_clips import clip

Rows = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, each near one other or none, a video, a table that names the pictures, a known list."""
    root = tmp_path_factory.mktemp("threads")
    (root / "media").mkdir()
    for number in range(80):
        pixels = np.random.default_rng(number % 50).integers(0, 256, (12, 12, 3), np.uint8)
        picture = Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC)
        picture.save(root / "media" / f"{number:03d}.jpg", quality=90 - number // 50 * 20)
    (root / "media" / "clip.mp4").write_bytes(clip())
    names = [f"media/{number:03d}.jpg" for number in range(80)]
    pq.write_table(pa.table({"url": names}), root / "table.parquet")
    known = [PDQHash().compute(path, hash_format="hex") for path in (*PHOTOS[:2], root / "media/007.jpg")]
    (root / "known.csv").write_text("\n".join(["hash", *known]))
    return root


def rows_of_jobs(corpus: Path, out: Path, cluster: Any, names: tuple[str, ...]) -> Rows:
    """The live rows of an output of each of these jobs."""
    media, known = str(corpus / "media"), [str(corpus / "known.csv")]
    alike = {"cluster": cluster, "slices": {"items": 5}}
    small = {"hashers": ["pdq@0.2"], **alike}
    both, cut = ["dhash@0.1", "pdq@0.2"], {"slice_bytes": 1, "segment_s": 0.5, "min_quality": 0}
    jobs: dict[str, Any] = {
        "dedup": DedupJob(inputs=[media], output=str(out / "dedup"), hashers=both, video=cut, **alike),
        "match": MatchJob(inputs=[media], output=str(out / "match"), known=known, block_rows=20, **small),
        "enrich": EnrichJob(
            inputs=[str(corpus / "table.parquet")], uri_column="url", output=str(out / "enrich"), known=known, **small
        ),
        "benchmark": BenchmarkJob(
            inputs=[media], output=str(out / "benchmark"), hashers=["dhash"], transforms=["noop:64", "blur:2"],
            duplicates="none", **alike,
        ),
    }  # fmt: skip
    runs: dict[str, Any] = {"dedup": run_dedup, "match": run_match, "enrich": run_enrich, "benchmark": run_benchmark}
    found = {}
    for name in names:
        summary = runs[name](jobs[name], "none")
        assert summary["failed"] == {} or not sum(summary["failed"].values()), name
        found[name] = all_rows(out / name)
    if "enrich" in names:
        files = (out / "enrich" / "enriched").glob("*.parquet")
        found["enriched"] = {path.name: list(map(str, pq.ParquetFile(path).read().to_pylist())) for path in files}
    return found


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What one process makes of it, one item after the other."""
    found = rows_of_jobs(corpus, tmp_path_factory.mktemp("in-process"), "none", ALL)
    assert len({row.split("'hash'")[1] for row in found["dedup"]["hashes/hasher=dhash"]}) > 50
    assert len(found["dedup"]["pairs/hasher=pdq"]) > 25 and found["enriched"]
    return found


@contextmanager
def with_threads(threads: int) -> Iterator[str]:
    with LocalCluster(
        n_workers=1, threads_per_worker=threads, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as running:
        yield running.scheduler_address


@contextmanager
def adaptive() -> Iterator[str]:
    """Workers that come when there is work, and go."""
    with LocalCluster(n_workers=0, threads_per_worker=2, host="127.0.0.1", dashboard_address=None) as running:
        running.adapt(minimum=1, maximum=2, interval="200ms")
        yield running.scheduler_address


@contextmanager
def processes() -> Iterator[str]:
    """A scheduler and two workers of three threads, each started as people start them."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with (
        TemporaryDirectory() as scratch,
        scheduler(port),
        worker(port, Path(scratch), threads=3),
        worker(port, Path(scratch), threads=3),
    ):
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address


@contextmanager
def local() -> Iterator[str]:
    yield "local"


ALL = ("dedup", "match", "enrich", "benchmark")
SOME = ("dedup", "benchmark")  # which share no tasks but those of hashing; all of them take too long on every cluster
CLUSTERS: dict[str, Any] = {
    "local": local,
    "1 thread": lambda: with_threads(1),
    "2 threads": lambda: with_threads(2),
    "4 threads": lambda: with_threads(4),
    "2 x 3 threads": processes,
    "adaptive": adaptive,
}


@pytest.mark.cluster
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_rows_are_those_of_one_process(cluster: str, corpus: Path, expected: Rows, tmp_path: Path) -> None:
    with CLUSTERS[cluster]() as address:
        found = rows_of_jobs(corpus, tmp_path, address, ALL if cluster in ("local", "2 x 3 threads") else SOME)
    hashing.close_worker()
    assert found.keys() >= {*SOME}
    for job, tables in ((job, expected[job]) for job in found):
        assert found[job].keys() == tables.keys()
        for table, rows in tables.items():
            different = [pair for pair in zip(found[job][table], rows, strict=True) if pair[0] != pair[1]]
            assert not different, f"{job}, {table}: {len(different)} of {len(rows)} rows differ, first {different[0]}"
