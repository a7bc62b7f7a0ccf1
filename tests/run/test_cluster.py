"""Mappers: every task is tried, failures are raised together, and only small things travel."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from neardup.errors import ConfigError, RunError
from neardup.run import Workers, cluster_from_file, workers


def square(number: int) -> int:
    if number == 13:
        raise RunError("thirteen")
    return number * number


def process(_: int) -> int:
    return os.getpid()


@pytest.fixture(params=["none", pytest.param("local", marks=pytest.mark.cluster)], scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[Workers]:
    with workers("none" if request.param == "none" else {"workers": 2}) as pool:
        yield pool


def test_every_result_arrives(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    from neardup.run import mapping

    monkeypatch.setattr(mapping, "WINDOW", 4)  # far fewer than the tasks
    assert sorted(pool.mapper(square, [n for n in range(40) if n != 13])) == sorted(n * n for n in range(40) if n != 13)
    assert list(pool.mapper(square, [])) == []
    assert pool.lost() == 0


def test_all_are_tried_before_a_failure_is_raised(pool: Workers) -> None:
    done = []
    with pytest.raises(RunError, match="thirteen"):
        for result in pool.mapper(square, list(range(20))):
            done.append(result)  # noqa: PERF402 - extend would lose all of them to the exception
    assert len(done) == 19
    with pytest.raises(RunError, match="2 of 3 tasks failed, first: RunError: thirteen"):
        list(pool.mapper(square, [13, 1, 13]))


@pytest.mark.cluster
def test_a_local_cluster_uses_processes_and_listens_on_loopback_only() -> None:
    import psutil

    with workers({"workers": 2}) as pool:
        used = set(pool.mapper(process, list(range(20))))
        assert os.getpid() not in used and pool.count == 2
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = {c.laddr.ip for one in family for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        assert pool.dashboard and "127.0.0.1" in pool.dashboard


@pytest.mark.cluster
def test_a_running_scheduler_is_used(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as running:
        file = tmp_path / "cluster.yaml"
        file.write_text(f"address: {running.scheduler_address}\n")
        with workers(cluster_from_file(str(file))) as pool:
            assert list(pool.mapper(square, [3])) == [9]


def test_what_is_no_cluster_is_refused(tmp_path: Path) -> None:
    for cluster, message in [("huge", "unknown cluster 'huge'"), ({"worker": 2}, "unknown cluster setting 'worker'")]:
        with pytest.raises(ConfigError, match=message), workers(cluster):
            pass
    with pytest.raises(ConfigError, match="cannot read the cluster file"):
        cluster_from_file(str(tmp_path / "none.yaml"))


def leave_pid(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


@pytest.mark.cluster
def test_every_worker_warms_up_and_nobody_waits(tmp_path: Path) -> None:
    with workers("none") as pool:
        pool.on_each_thread(partial(leave_pid, tmp_path))
    assert not list(tmp_path.iterdir())
    with workers({"workers": 2}) as pool:
        pool.on_each_thread(partial(leave_pid, tmp_path))
        while len(list(tmp_path.iterdir())) < 2:  # else the test's own time runs out
            assert sorted(pool.mapper(str, [1, 2])) == ["1", "2"]
    assert str(os.getpid()) not in {path.name for path in tmp_path.iterdir()}
