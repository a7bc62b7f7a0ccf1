"""Where tasks run: in this process, on a cluster of this machine, or on any Dask cluster.

Tasks are Dask bag partitions, submitted in a window so that the scheduler never knows more than it can
carry; only paths and numbers go to a worker, and only a receipt comes back.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import dask
import dask.bag
import yaml
from distributed import Client, LocalCluster, as_completed, fire_and_forget

from pipeline.child import ENVIRONMENT
from pipeline.errors import ConfigError, NeardupError, RunError

T = TypeVar("T")
R = TypeVar("R")

_WINDOW = 20_000  # tasks known to the scheduler at a time
_CONNECT_S = 30


class Mapper(Protocol):
    """Apply a function to every task and yield what it gives, in any order."""

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]: ...


@dataclass(frozen=True)
class Workers:
    """A mapper, the number of tasks it runs at a time, where to watch it (None in process), and its losses."""

    mapper: Mapper
    count: int
    dashboard: str | None
    lost: Callable[[], int]  # worker processes that died since the start
    warm: Callable[[Callable[[], None]], None] = lambda _: None  # each thread calls it soon; nobody waits for that


@contextmanager
def workers(cluster: str | dict[str, Any]) -> Iterator[Workers]:
    """Workers by name: `none` (this process), `local` (one process per core), `tcp://host:port` or `tls://…`
    (a running scheduler), or the settings of a local cluster: {"workers": 2, "memory_per_worker": "4GB"}.

    Raises ConfigError for anything else, RunError when a scheduler does not answer.
    """
    if cluster == "none":
        yield Workers(in_process, 1, None, lambda: 0)
        return
    with _quiet(), _client(cluster) as client:
        count = sum(client.nthreads().values()) or 1
        before = set(client.nthreads())
        yield Workers(
            _on(client), count, client.dashboard_link, lambda: len(before - set(client.nthreads())), _warm(client)
        )


@contextmanager
def _client(cluster: str | dict[str, Any]) -> Iterator[Client]:
    if isinstance(cluster, str) and cluster.startswith(("tcp://", "tls://")):
        try:
            client = Client(cluster, timeout=_CONNECT_S, set_as_default=False)
        except OSError as error:
            raise RunError(f"no scheduler answers at {cluster} within {_CONNECT_S} s") from error
        with client:
            yield client
        return
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}),
        LocalCluster(**_local_settings(cluster)) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def _local_settings(cluster: str | dict[str, Any]) -> dict[str, Any]:
    settings = {"workers": len(os.sched_getaffinity(0)), "memory_per_worker": "auto"}
    if isinstance(cluster, dict):
        if unknown := set(cluster) - set(settings):
            raise ConfigError(f"unknown cluster setting {min(unknown)!r}; known are {', '.join(sorted(settings))}")
        settings.update(cluster)
    elif cluster != "local":
        raise ConfigError(f"unknown cluster {cluster!r}; give none, local, tcp://HOST:PORT or a .yaml file")
    return {
        "n_workers": settings["workers"],
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": settings["memory_per_worker"],
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.ERROR,
    }


def cluster_from_file(path: str) -> dict[str, Any] | str:
    """The cluster that a YAML file describes: `address: tcp://…`, or the settings of a local cluster."""
    try:
        with open(path) as file:
            settings = yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the cluster file {path!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected keys such as 'workers' or 'address'")
    return str(settings["address"]) if set(settings) == {"address"} else settings


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own notices out of the output; failures reach us as exceptions."""
    names = ("distributed", "distributed.nanny", "distributed.worker", "distributed.scheduler", "bokeh")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with dask.config.set({"distributed.admin.tick.limit": "60s"}):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def in_process(function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]:
    """Run the tasks here, one after another; all are tried, then failures are raised together."""
    failures: list[BaseException] = []
    for task in tasks:
        try:
            result = function(task)
        except NeardupError as error:
            failures.append(error)
        else:
            yield result
    _raise(failures, len(tasks))


def _warm(client: Client) -> Callable[[Callable[[], None]], None]:
    def warm(function: Callable[[], None]) -> None:
        for address, threads in client.nthreads().items():
            for _ in range(threads):
                fire_and_forget(client.submit(function, workers=[address], pure=False, allow_other_workers=False))

    return warm


def _on(client: Client) -> Mapper:
    def mapper(function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]:
        failures: list[BaseException] = []
        pending = list(tasks)
        completed = as_completed(loop=client.loop)
        under_way = 0

        def submit() -> int:
            batch = [pending.pop() for _ in range(min(len(pending), _WINDOW - under_way))]
            if batch:
                bag = dask.bag.from_sequence(batch, npartitions=len(batch)).map(function)
                for future in client.compute(bag.to_delayed()):
                    completed.add(future)
            return len(batch)

        pending.reverse()
        under_way += submit()
        while under_way:
            future: Any = next(completed)
            under_way -= 1
            if future.status == "finished":
                yield from future.result()
            else:
                failures.append(future.exception() or RunError(f"a task was {future.status}"))
            future.release()
            if under_way < _WINDOW // 2:
                under_way += submit()
        _raise(failures, len(tasks))

    return mapper


def _raise(failures: Sequence[BaseException], total: int) -> None:
    if not failures:
        return
    first = failures[0]
    if len(failures) == 1 and isinstance(first, NeardupError):
        raise first
    raise RunError(
        f"{len(failures)} of {total} tasks failed, first: {type(first).__name__}: {first}; "
        "what the others finished stays: run again"
    ) from first
