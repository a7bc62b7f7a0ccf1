"""Where tasks run: in this process, on a cluster of this machine, or on any Dask cluster.

Tasks are Dask bag partitions, submitted in a window so that the scheduler never knows more than it can
carry; only paths and numbers go to a worker, and only a receipt comes back.
"""

import importlib
import logging
import secrets
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import Client, LocalCluster, Security, fire_and_forget
from distributed.versions import VersionMismatchWarning

from neardup.child import ENVIRONMENT
from neardup.errors import ConfigError, NeardupError, RunError
from neardup.run import host, preflight, settings
from neardup.run.mapping import Mapper, in_process, on_cluster

_CONNECT_S = 25.0
_GREETING_S = 15.0
_NOTICE_AFTER_S = 3.0
_PACKAGES = {"coiled": "coiled", "dask_cloudprovider": "dask-cloudprovider", "dask_gateway": "dask-gateway"}
_PACKAGES |= {"dask_jobqueue": "dask-jobqueue", "dask_kubernetes": "dask-kubernetes", "dask_yarn": "dask-yarn"}
_SILENT = logging.CRITICAL + 1

log = logging.getLogger("neardup")  # notices to a person; at DEBUG, Dask's own are shown too


@dataclass(frozen=True)
class Workers:
    """A mapper, the number of tasks it runs at a time, where to watch it (None in process), and its losses."""

    mapper: Mapper
    count: int
    dashboard: str | None
    lost: Callable[[], int]  # worker processes that died since the start
    on_each_thread: Callable[[Callable[[], None]], None] = lambda _: None  # soon; nobody waits for it
    exclude: Callable[[str, str], None] | None = None  # address, why; None where all workers see what the driver sees
    excluded: dict[str, str] = field(default_factory=dict)  # address → why
    checked: Callable[[preflight.Probe], AbstractContextManager[None]] = lambda _: nullcontext()  # see `_crew`


@contextmanager
def workers(cluster: str | int | dict[str, Any]) -> Iterator[Workers]:
    """Workers by name: `none` (this process), `local` (one process per core), a number of them, a running scheduler
    (`HOST:PORT`, `tcp://…`, `tls://…`), a YAML file or its content: see `settings`.

    Raises ConfigError for anything else, RunError when a scheduler or its workers cannot do the work.
    """
    wanted = settings.read(cluster)
    if wanted.kind == "none":
        yield Workers(in_process, 1, None, lambda: 0)
        return
    with _quiet(), _client(wanted) as client:
        _await_worker(client, wanted)
        if wanted.kind == "local":
            yield _local_workers(client, wanted)
        else:
            with _crew(client, wanted) as workers:
                yield workers


def _local_workers(client: Client, wanted: settings.Settings) -> Workers:
    before = set(client.nthreads())
    count = sum(client.nthreads().values())
    mapper = on_cluster(client, lambda: count, wanted.wait_s)
    return Workers(
        mapper, count, client.dashboard_link, lambda: len(before - set(client.nthreads())), _on_each_thread(client)
    )


@contextmanager
def _crew(client: Client, wanted: settings.Settings) -> Iterator[Workers]:
    """The workers of a cluster that may lie anywhere: checked, and watched when others join."""
    excluded: dict[str, str] = {}
    topics: set[str] = set()  # of the checks that count now

    def exclude(address: str, why: str) -> None:
        if address in excluded:
            return
        excluded[address] = why
        log.warning("worker %s is left out: %s", address, why)
        with suppress(OSError, RuntimeError, ValueError):  # it has ended by itself
            client.retire_workers([address], close_workers=True)
        if not set(client.nthreads()) - set(excluded) and not wanted.adapt:
            raise RunError(f"no worker can do the work, the last, {address}: {why}")

    async def refused(topic: str, event: tuple[float, dict[str, str]]) -> None:
        address, fault = event[1]["worker"], event[1]["fault"]
        if topic not in topics or address in excluded:  # what it was to look at may be gone by now
            return
        excluded[address] = fault
        log.warning("worker %s is left out: %s", address, fault)
        with suppress(OSError, RuntimeError, ValueError):
            await client.scheduler.retire_workers(workers=[address], close_workers=True, remove=True)  # type: ignore[union-attr]

    def exclude_all(faults: dict[str, str]) -> None:
        if faults and not set(client.nthreads()) - set(faults):
            address, fault = min(faults.items())
            raise RunError(f"none of the {len(faults)} workers can do the work, such as {address}: {fault}")
        for address, fault in faults.items():
            exclude(address, fault)

    @contextmanager
    def made_ready(present: set[str], probe: preflight.Probe | None) -> Iterator[None]:
        topic = f"neardup-{secrets.token_hex(6)}"
        topics.add(topic)
        client.subscribe_topic(topic, partial(refused, topic))
        client.register_plugin(preflight.plugin(topic, present, probe))
        try:
            yield
        finally:
            topics.discard(topic)
            if client.status == "running":  # else the scheduler is gone
                with suppress(Exception):
                    client.unregister_worker_plugin(topic)

    @contextmanager
    def checked(probe: preflight.Probe) -> Iterator[None]:
        """While the block lasts, all workers pass the probe, also those that join."""
        present = set(client.nthreads())
        exclude_all(preflight.faults_of_stores(client, probe))
        with made_ready(present, probe):
            yield

    present = set(client.nthreads())  # those that come meanwhile are checked as they come
    faults, notice = preflight.faults_of_versions(client)
    exclude_all(faults)
    if notice:
        log.warning("%s", notice)
    with made_ready(present, None):
        before = set(client.nthreads())
        at_start = max(sum(client.nthreads().values()), wanted.workers or 0, wanted.adapt.get("maximum", 0), 1)

        def lost() -> int:
            return 0 if wanted.adapt else len(before - set(client.nthreads()) - set(excluded))

        mapper = on_cluster(client, lambda: sum(client.nthreads().values()), wanted.wait_s)
        yield Workers(
            mapper, at_start, client.dashboard_link, lost, _on_each_thread(client), exclude, excluded, checked
        )


# --- connections ------------------------------------------------------------------------------------------------------


@contextmanager
def _client(wanted: settings.Settings) -> Iterator[Client]:
    if wanted.kind == "running":
        with _connected(wanted) as client:
            yield client
        return
    with dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}), _started(wanted) as cluster:
        if wanted.kind == "class":
            _scale(cluster, wanted)
        with Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _connected(wanted: settings.Settings) -> Iterator[Client]:
    address = wanted.address
    _knock(address)
    try:
        security = Security(**wanted.security, require_encryption=True) if wanted.security else None
        client = Client(address, timeout=_CONNECT_S, set_as_default=False, security=security)
    except NeardupError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"the TLS file {error.filename!r} of {address} does not exist") from error
    except Exception as error:  # whatever answers may be anything
        raise RunError(
            f"what answers at {address} is no Dask scheduler, or one of another version or security ({_words(error)}); "
            "give the scheduler's own port, not that of its dashboard"
        ) from error
    with client:
        yield client


def _knock(address: str) -> None:
    """Wait until something listens at an address; a scheduler may be starting at this moment."""
    name, _, port = address.partition("://")[2].rpartition(":")
    until = time.monotonic() + _CONNECT_S
    while True:
        try:
            with socket.create_connection((name.strip("[]"), int(port)), timeout=5) as connection:
                if address.startswith("tcp://"):
                    _check_greeting(address, connection)
            return
        except OSError as error:
            if time.monotonic() > until or isinstance(error, socket.gaierror):
                raise RunError(f"no scheduler answers at {address} within {_CONNECT_S:g} s: {_words(error)}") from error
            time.sleep(0.3)


def _check_greeting(address: str, connection: socket.socket) -> None:
    """A Dask scheduler speaks first, and begins with the length of what it says; Dask's client would wait for ever."""
    connection.settimeout(_GREETING_S)
    try:
        first = connection.recv(8, socket.MSG_WAITALL)
    except TimeoutError:
        first = b""
    if len(first) < 8 or not 0 < int.from_bytes(first, "little") < 1 << 20:
        raise RunError(
            f"what answers at {address} is no Dask scheduler; give the scheduler's port, not its dashboard's"
        )


def _await_worker(client: Client, wanted: settings.Settings) -> None:
    """Wait for the first worker, with a task that a cluster which adapts itself starts one for."""
    if client.nthreads():
        return
    asked = client.submit(int, pure=False)
    begun, told = time.monotonic(), False
    while not client.nthreads():
        waited_s = time.monotonic() - begun
        if waited_s > wanted.wait_s:
            where = wanted.address or wanted.class_path or "the local cluster"
            raise RunError(f"{where} has no worker after {wanted.wait_s:g} s (wait_s in a cluster file); start some")
        if waited_s > _NOTICE_AFTER_S and not told:
            log.warning("waiting for a worker, at most %g s", wanted.wait_s)
            told = True
        time.sleep(0.1)
    asked.release()


# --- clusters that are started ----------------------------------------------------------------------------------------


@contextmanager
def _started(wanted: settings.Settings) -> Iterator[Any]:
    """A cluster that lives as long as the block; its processes do not hear Ctrl-C, which the driver sees to.

    It is started on a thread with interrupts blocked: what that thread starts, loops and processes, inherits it.
    """
    make, arguments = _local(wanted) if wanted.kind == "local" else (_class(wanted.class_path), wanted.arguments)
    outcome: list[Any] = []

    def start() -> None:
        resource_tracker.ensure_running()  # it unblocks interrupts when it is started
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            outcome.append(make(**arguments))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=start, name="start of cluster", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        thread.join(10)
        if outcome and not isinstance(outcome[0], Exception):
            outcome[0].close()
        raise
    (cluster,) = outcome
    if isinstance(cluster, Exception):
        what = wanted.class_path or "a local cluster"
        kind = ConfigError if isinstance(cluster, TypeError) else RunError
        raise kind(f"{what} cannot be started: {_words(cluster)}") from cluster
    try:
        yield cluster
    finally:
        cluster.close()


def _local(wanted: settings.Settings) -> tuple[Any, dict[str, Any]]:
    count = wanted.workers or max(1, host.cores() // wanted.threads_per_worker)
    memory: Any = wanted.memory_per_worker
    return LocalCluster, {
        "n_workers": count,
        "threads_per_worker": wanted.threads_per_worker,
        "processes": True,
        "memory_limit": host.memory_bytes() // max(count, 1) if memory == "auto" else memory,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.WARNING if log.isEnabledFor(logging.DEBUG) else _SILENT,
    }


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        top = module.split(".")[0]
        if error.name and error.name.split(".")[0] != top:  # what it needs itself
            raise ConfigError(f"class {path}: {_words(error)}") from error
        package = _PACKAGES.get(top, top)
        raise ConfigError(f"class {path}: {module} is not installed; pip install {package}") from error
    except AttributeError as error:
        raise ConfigError(f"class {path}: {module} has no {name}") from error
    except Exception as error:
        raise ConfigError(f"class {path} cannot be imported: {_words(error)}") from error
    if not isinstance(found, type) or not all(hasattr(found, method) for method in ("scale", "adapt", "close")):
        raise ConfigError(f"class {path} is no Dask cluster, which has scale, adapt and close")
    return found


def _scale(cluster: Any, wanted: settings.Settings) -> None:
    if wanted.adapt:
        cluster.adapt(**wanted.adapt)
    elif wanted.workers:
        cluster.scale(wanted.workers)


# --- words ------------------------------------------------------------------------------------------------------------


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own notices out of the output, unless for debugging; failures reach us as exceptions."""
    shown = log.isEnabledFor(logging.DEBUG)
    names = {name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "bokeh")}
    names |= {"distributed", "tornado.application", "asyncio"}
    before = {} if shown else {name: logging.getLogger(name).level for name in names}
    for name in before:
        logging.getLogger(name).setLevel(_SILENT)
    try:
        with dask.config.set({"distributed.admin.tick.limit": "60s"}), warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # said in one line, or not at all
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _on_each_thread(client: Client) -> Callable[[Callable[[], None]], None]:
    def submit(function: Callable[[], None]) -> None:
        for address, threads in client.nthreads().items():
            for _ in range(threads):
                fire_and_forget(client.submit(function, workers=[address], pure=False, allow_other_workers=False))

    return submit
