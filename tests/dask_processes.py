"""Schedulers and workers of Dask as processes of their own, as people start them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import ROOT


@contextmanager
def process(*command: Any, cwd: Path = ROOT, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A quiet process, killed at the end with all that it started. `environment` is added to ours."""
    quiet = subprocess.DEVNULL
    started = subprocess.Popen(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def scheduler(port: int, **where: Any) -> Any:
    """`where` may have cwd, and variables of the environment."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port]
    return process(*command, "--no-dashboard", **where)


def worker(port: int, scratch: Path, threads: int = 1, **where: Any) -> Any:
    """One worker; `scratch` is the folder of its temporary files."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--host", "127.0.0.1"]
    command += ["--nworkers", "1", "--nthreads", str(threads), "--no-dashboard", "--local-directory", str(scratch)]
    return process(*command, **where)
