"""Any number of threads per worker gives the same rows: real schedulers and workers, all jobs."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PHOTOS, all_rows
from distributed import Client, LocalCluster
from PIL import Image
from video_clips import clip

from jobs.benchmark import run_benchmark
from jobs.dedup import run_dedup
from jobs.enrich import run_enrich
from jobs.match import run_match
from pipeline.config import BenchmarkJob, DedupJob, EnrichJob, MatchJob

Tables = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that differ from each other, some of them twice, a video, a table of the pictures."""
    root = tmp_path_factory.mktemp("threads")
    (root / "media").mkdir()
    for number in range(60):
        rows = np.random.default_rng(number % 50).integers(0, 256, (12, 12, 3), np.uint8)
        picture = Image.fromarray(rows).resize((160, 120), Image.Resampling.BICUBIC)
        picture.save(root / "media" / f"{number:03d}.jpg", quality=95 - number // 50)
    for photo in PHOTOS[:2]:
        (root / "media" / photo.name).write_bytes(photo.read_bytes())
    pictures = sorted(path.name for path in (root / "media").iterdir())
    pq.write_table(pa.table({"url": pictures}), root / "media.parquet")
    return root
