"""Any cluster: settings, quotas of containers, real schedulers and workers that cannot do the work, or no longer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import ROOT, rows
from dask_processes import process, scheduler, worker
from neardup.errors import ConfigError, OutputError, RunError
from neardup.run import cluster, cluster_from_file, host, workers
from neardup.run.mapping import in_process
from neardup.run.settings import read
from stores import free_port

REFUSED: list[tuple[Any, str]] = [
    ("tcp://localhost", "has no valid port"),
    ("http://localhost:8787", "no scheduler is reached by http://"),
    ("0", "unknown cluster '0'"),
    ({"address": "a:1", "workers": 2}, "does not go with 'address'"),
    ({"clas": "a.B"}, "unknown cluster setting 'clas'"),
    ({"class": "a.B", "argument": {}}, "did you mean 'arguments'"),
    ({"class": "a.B", "adapt": {"minimum": 3, "maximum": 2}}, "minimum 3 is more than maximum 2"),
    ({"class": "a.B", "scale": 1, "adapt": {"maximum": 2}}, "'scale' or 'adapt'"),
    ({"class": "__import__('os')"}, "expected a dotted path"),
    ({"workers": 0}, "at least 1, not 0"),
]


@pytest.mark.parametrize(("cluster", "message"), REFUSED, ids=str)
def test_settings_that_cannot_be_meant(cluster: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(cluster)


def test_settings_that_can(tmp_path: Path) -> None:
    assert read("localhost:8786").address == "tcp://localhost:8786"
    assert read("[::1]:8786").address == "tcp://[::1]:8786"
    assert read("3").workers == read(3).workers == read({"workers": 3}).workers == 3
    secured = read({"address": "tls://a:1", "security": {"ca_file": "ca.pem"}})
    assert secured.security == {"tls_ca_file": "ca.pem"}
    (tmp_path / "bad.yaml").write_text("class: !!python/name:os.system\n")
    with pytest.raises(ConfigError, match="cannot read the cluster file"):
        cluster_from_file(str(tmp_path / "bad.yaml"))


def test_a_class_that_is_not_there_says_what_to_install() -> None:
    for path, message in [
        ("dask_cloudprovider.aws.FargateCluster", "pip install dask-cloudprovider"),
        ("distributed.SlurmCluster", "distributed has no SlurmCluster"),
        ("os.system", "os.system is no Dask cluster"),
    ]:
        with pytest.raises(ConfigError, match=message), workers({"class": path}):
            pass


def test_quotas_of_containers(tmp_path: Path) -> None:
    for version, files in {
        "2": {"cpu.max": "150000 100000", "a/cpu.max": "max 100000", "a/memory.max": "1000000", "memory.max": "max"},
        "1": {
            "cpu/a/cpu.cfs_quota_us": "100000",
            "cpu/a/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "1000000",
        },
    }.items():
        root = tmp_path / version
        for name, text in files.items():
            file = root / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text("0::/a\n" if version == "2" else "4:cpu,cpuacct:/a\n3:memory:/a\n")
        assert (host.cores(root), host.memory_bytes(root)) == (1, 1_000_000)
    assert host.cores(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_no_more_is_tried_where_all_would_fail() -> None:
    tried = []

    def full(task: int) -> None:
        tried.append(task)
        raise OutputError("No space left") if task == 3 else RunError("away")

    with pytest.raises(OutputError, match="No space left"):
        list(in_process(full, range(1000)))
    assert tried == [0, 1, 2, 3]
    with pytest.raises(RunError, match="away"):
        list(in_process(full, range(4, 1000)))
    assert len(tried) < 50


# --- real schedulers and workers --------------------------------------------------------------------------------------


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (64 + number, 64), (number, 0, 0)).save(folder / f"{number:03d}.png")
    return folder


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "neardup", "hash", *map(str, arguments)]


def run(*arguments: Any, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, check=False, timeout=120)


@pytest.mark.cluster
def test_a_worker_that_sees_less_than_was_listed_is_left_out(tmp_path: Path) -> None:
    """The folder of the inputs is that of each process; one worker's has only what is looked at in the beginning."""
    whole = pictures(tmp_path / "whole/in", 40).parent
    (tmp_path / "partly/in").mkdir(parents=True)
    for number in (0, 20, 39):
        (tmp_path / f"partly/in/{number:03d}.png").write_bytes((whole / f"in/{number:03d}.png").read_bytes())
    port = free_port()
    given = ["/proc/self/cwd/in", "-o", tmp_path / "out", "--cluster", f"127.0.0.1:{port}", "--json"]
    with (
        scheduler(port),
        worker(port, tmp_path / "a", cwd=whole),
        worker(port, tmp_path / "b", cwd=tmp_path / "partly"),
    ):
        from distributed import Client

        with Client(f"tcp://127.0.0.1:{port}", set_as_default=False, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        done = run(*given, "--set", "slices.items=2", cwd=whole)
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["decoded"], summary["failed"]) == (0, 40, {}), done.stderr
    assert len(summary["workers_left_out"]) == 1 and len(rows(tmp_path / "out", "media")) == 40
    assert "does not see" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.cluster
def test_a_port_of_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    monkeypatch.setattr(cluster, "_GREETING_S", 2.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RunError, match="is no Dask scheduler"), workers(f"127.0.0.1:{server.server_port}"):
            pass
        server.shutdown()


@pytest.mark.cluster
def test_a_run_whose_last_worker_dies_ends(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(f"address: 127.0.0.1:{(port := free_port())}\nwait_s: 4\n")
    given = [pictures(tmp_path / "in", 300), "-o", tmp_path / "out", "--cluster", tmp_path / "cluster.yaml"]
    pipe = subprocess.PIPE
    with scheduler(port), worker(port, tmp_path / "a") as last:
        slices = ("--set", "slices.items=1")
        running = subprocess.Popen(command(*given, *slices), stdout=pipe, stderr=pipe, text=True)
        while not list((tmp_path / "out").glob("media/*.parquet")):
            assert running.poll() is None, running.communicate()
            time.sleep(0.01)
        os.killpg(last.pid, signal.SIGKILL)
        _, told = running.communicate(timeout=90)
    assert running.returncode == 1 and told.count("no worker is left") == 2, told
    assert told.splitlines()[-1] == (
        "neardup: no worker is left, and none came within 4 s; what is finished stays: run again"
    )


@pytest.mark.cluster
def test_a_class_by_its_path_that_adapts_itself() -> None:
    arguments = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with workers({"class": "distributed.LocalCluster", "arguments": arguments, "adapt": {"maximum": 1}}) as pool:
        assert list(pool.mapper(str, [1])) == ["1"] and pool.exclude is not None


@pytest.mark.cluster
def test_no_process_outlives_a_driver_that_is_killed(tmp_path: Path) -> None:
    import psutil

    given = command(pictures(tmp_path / "in", 200), "-o", tmp_path / "out", "--cluster", 2, "--set", "slices.items=1")
    with process(*given) as running:
        while not list((tmp_path / "out").glob("media/*.parquet")):
            assert running.poll() is None
            time.sleep(0.01)
        family = psutil.Process(running.pid).children(recursive=True)
        running.kill()
        assert family and not psutil.wait_procs(family, timeout=30)[1]
