"""Machines of a cluster, all on this one: what they share is a network and an object store, and nothing else.

Where root and iproute2 allow it, each has a network namespace, a mount namespace, a host name and an environment of its
own, and a bridge joins them. Elsewhere they have folders and environments of their own on loopback, and each sees the
store through a forwarder. `Network.form` says which.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import stores
from neardup import storage

ROOT = Path(__file__).parent.parent
_PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_READY_S = 90
_NOBODY = "02:00:00:00:00:01"  # a network card that no machine has

# --- machines ---------------------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """A machine: its address, its file tree, how a process is started in it, its environment, and its processes."""

    name: str
    address: str
    tree: Path  # as this process sees it
    home: Path  # where it sees its tree itself
    prefix: list[str]
    lose_store: Callable[[], None]
    regain_store: Callable[[], None]
    environment: dict[str, str]
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, *command: str, output: str = "log", environment: dict[str, str] | None = None) -> Any:
        """Start a command in this machine; what it prints goes to files `OUTPUT.out` and `OUTPUT.err` of its tree."""
        with open(self.tree / f"{output}.out", "wb") as out, open(self.tree / f"{output}.err", "wb") as err:
            process = subprocess.Popen(
                [*self.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**self.environment, **(environment or {})},
                cwd=None if self.prefix else self.tree / "work",
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def kill(self) -> None:
        """As when it loses power: all of its processes end at once."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()


@dataclass
class Network:
    """A network: where its machines have their trees, what it is made of, and the address of what all share."""

    folder: Path
    form: str
    address: str
    bridge: str | None
    undo: ExitStack
    store: str = ""  # its url
    count: int = 0


@contextmanager
def network(folder: Path, namespaces: bool = True) -> Iterator[Network]:
    """A network without machines; on loopback where there can be no namespaces, or none are wanted."""
    with ExitStack() as undo:
        made = _bridge(undo) if namespaces else None
        if made:
            yield Network(folder, "network and mount namespaces", made[1], made[0], undo)
        else:
            yield Network(folder, "loopback, with folders and environments of their own", "127.0.0.1", None, undo)


def add_machine(net: Network, name: str) -> Machine:
    """A new machine that reaches the store of the network, and all other machines."""
    net.count += 1
    tree = net.folder / f"{net.count}-{name}"
    for part in ("home", "tmp", "work"):
        (tree / part).mkdir(parents=True)
    make = _in_namespace if net.bridge else _on_loopback
    machine = make(net, name, tree)
    net.undo.callback(machine.kill)
    return machine


def _environment(home: Path, store: str) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "AWS_ACCESS_KEY_ID": stores.KEY,
        "AWS_SECRET_ACCESS_KEY": stores.SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store,
    }


def _bridge(undo: ExitStack) -> tuple[str, str] | None:
    """The name and address of a new bridge that two namespaces have talked across; None where that cannot be done."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
        return None
    for _ in range(5):
        number = random.randrange(1, 255)
        name, address = f"nd{number}", f"198.18.{number}.1"  # a range for tests, which no network uses (RFC 2544)
        if not _ip("link", "add", name, "type", "bridge"):
            continue
        undo.callback(_ip, "link", "del", name)
        if _ip("addr", "add", f"{address}/24", "dev", name) and _ip("link", "set", name, "up") and _talk(name, address):
            return name, address
        return None
    return None


def _talk(bridge: str, address: str) -> bool:
    """Can a process in a namespace, with a tree of its own, connect to one in another and to one outside?"""
    with ExitStack() as undo, socket.socket() as outside:
        try:
            first, second = (_namespace(bridge, f"{bridge}p{n}", f"{address[:-1]}{240 + n}", undo) for n in (1, 2))
            outside.bind((address, 0))
            outside.listen()
            port = outside.getsockname()[1]
            serve = "import socket; s = socket.create_server(('', 7777)); print(flush=True); s.accept()"
            others = [(f"{address[:-1]}241", 7777), (address, port)]
            connect = f"import socket; [socket.create_connection(other, 5) for other in {others}]"
            listener = subprocess.Popen([*first, sys.executable, "-c", serve], stdout=subprocess.PIPE)
            undo.callback(listener.wait)
            undo.callback(listener.kill)
            assert listener.stdout
            with listener.stdout:
                listener.stdout.readline()
            probe = subprocess.run([*second, sys.executable, "-c", connect], capture_output=True, timeout=30)
        except (OSError, subprocess.SubprocessError):
            return False
        return probe.returncode == 0


def _namespace(bridge: str, name: str, address: str, undo: ExitStack) -> list[str]:
    """What to put before a command to run it in a new network namespace, with mounts and a host name of its own."""
    near, far = f"{name}a", f"{name}b"
    steps = (
        ("netns", "add", name),
        ("link", "add", near, "type", "veth", "peer", "name", far, "netns", name),
        ("link", "set", near, "master", bridge, "up"),
        ("-n", name, "link", "set", "lo", "up"),
        ("-n", name, "link", "set", far, "name", "eth0", "up"),
        ("-n", name, "addr", "add", f"{address}/24", "dev", "eth0"),
    )
    undo.callback(_ip, "netns", "del", name)
    for step in steps:
        if not _ip(*step):
            raise OSError(f"ip {' '.join(step)} failed")
    return ["ip", "netns", "exec", name, "unshare", "--uts", "--mount"]


def _ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


def _in_namespace(net: Network, name: str, tree: Path) -> Machine:
    assert net.bridge
    space = f"{net.bridge}m{net.count}"
    address = f"{net.address.rpartition('.')[0]}.{net.count + 1}"
    prefix = _namespace(net.bridge, space, address, net.undo)
    # the folder of all trees becomes its own tree, so that it sees no other; nor what others put into shared memory
    script = (
        f"echo {name} > /proc/sys/kernel/hostname; mount --bind {tree} {net.folder} && mount -t tmpfs shm /dev/shm "
        f'&& cd {net.folder}/work && exec "$@"'
    )
    table = ("-n", space, "neigh")
    return Machine(
        name=name,
        address=address,
        tree=tree,
        home=net.folder,
        prefix=[*prefix, "sh", "-c", script, "sh"],
        lose_store=lambda: _must(*table, "replace", net.address, "lladdr", _NOBODY, "dev", "eth0", "nud", "permanent"),
        regain_store=lambda: _must(*table, "del", net.address, "dev", "eth0"),
        environment=_environment(net.folder, net.store),
    )


def _must(*arguments: str) -> None:
    assert _ip(*arguments), f"ip {' '.join(arguments)} failed"


def _on_loopback(net: Network, name: str, tree: Path) -> Machine:
    port = stores.free_port()
    host, _, target = net.store.removeprefix("http://").partition(":")
    command = [sys.executable, str(Path(__file__).with_name("forwarder.py")), str(port), host, target]
    forwarder = subprocess.Popen(command)
    net.undo.callback(forwarder.wait)
    net.undo.callback(forwarder.kill)
    _until(lambda: _accepts("127.0.0.1", port), f"the forwarder of {name}")
    return Machine(
        name=name,
        address="127.0.0.1",
        tree=tree,
        home=tree,
        prefix=[],
        lose_store=lambda: forwarder.send_signal(signal.SIGSTOP),
        regain_store=lambda: forwarder.send_signal(signal.SIGCONT),
        environment=_environment(tree, f"http://127.0.0.1:{port}"),
    )


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def _until(ready: Callable[[], bool], name: str) -> None:
    until = time.monotonic() + _READY_S
    while not ready():
        assert time.monotonic() < until, f"{name} is not ready within {_READY_S} s"
        time.sleep(0.05)


# --- the store --------------------------------------------------------------------------------------------------------


@dataclass
class Gate(stores.Faults):
    """The way to the store: it counts the reads of each object, and can hold back the receipts of an output."""

    reads: Counter[str] = field(default_factory=Counter)
    output: str = ""  # the key of the output whose receipts (the parts of MEDIA) count
    passing: int = 0  # so many receipts pass; the others wait until the gate is opened
    waiting: int = 0  # receipts that are held back now
    opened: Event = field(default_factory=Event)

    def arm(self, output: str, passing: int) -> None:
        """Let so many receipts of an output pass, hold back the next ones, and count reads from zero."""
        with self.lock:
            self.output, self.passing = output, passing
            self.waiting = 0
            self.reads.clear()
            self.opened.clear()

    def next(self, method: str, path: str) -> str:
        path = path.partition("?")[0].lstrip("/")
        with self.lock:
            self.reads[path] += method == "GET"
            receipt = method == "PUT" and path.startswith(f"{self.output}/media/")
            self.passing -= receipt
            waits = receipt and self.passing < 0 and not self.opened.is_set()
            self.waiting += waits
        if waits:
            self.opened.wait(_READY_S)
        return super().next(method, path)

    def reads_below(self, prefix: str) -> dict[str, int]:
        """How often each object below a prefix was read since the gate was armed."""
        with self.lock:
            return {path: count for path, count in self.reads.items() if count and path.startswith(prefix)}


@contextmanager
def common_store(net: Network) -> Iterator[Gate]:
    """SeaweedFS behind a gate, the only thing that all machines share; it has the buckets `inputs` and `outputs`."""
    folder = net.folder / "store"
    folder.mkdir(parents=True)
    gate = Gate()
    with stores.seaweed(folder, net.address) as url, stores.faulty(url, gate, net.address) as before:
        net.store = before
        with stores.environment(url):
            for bucket in ("inputs", "outputs"):
                stores.make_bucket(bucket)
            yield gate


def live_rows(output: str) -> dict[str, list[str]]:
    """Every live row of every table of an output in any store, as sorted text: equal for equal outputs."""
    root = storage.absolute(output)
    return {table: _rows(root, names) for table, names in storage.read_manifest(root).items()}


def _rows(root: str, names: list[str]) -> list[str]:
    texts: list[str] = []
    for name in names:
        data = storage.read(root, name)
        assert data is not None, f"{name} is live and not there"
        if name.endswith(".parquet"):
            texts += map(str, pq.ParquetFile(pa.BufferReader(data)).read().to_pylist())
        else:
            texts.append(str(data))
    return sorted(texts)


# --- the cluster ------------------------------------------------------------------------------------------------------


@dataclass
class Cluster:
    """A scheduler and its workers, each on a machine of its own."""

    net: Network
    threads: int = 1  # of a worker
    scheduler: Machine | None = None
    port: int = 0
    workers: list[Machine] = field(default_factory=list)

    @property
    def address(self) -> str:
        assert self.scheduler
        return f"tcp://{self.scheduler.address}:{self.port}"

    def start(self, count: int) -> None:
        """A scheduler, and workers up to this number; those that run already stay."""
        if self.scheduler is None:
            self.scheduler = add_machine(self.net, "scheduler")
            self.port = stores.free_port()
            command = ("--host", self.scheduler.address, "--port", str(self.port), "--no-dashboard")
            self.scheduler.start(sys.executable, "-m", "distributed.cli.dask_scheduler", *command)
            _until(lambda: _accepts(self.scheduler.address, self.port), "the scheduler")  # type: ignore[union-attr]
        for _ in range(count - len(self.workers)):
            self.add_worker()
        self.wait_for_workers()

    def add_worker(self, **environment: str) -> Machine:
        """One more worker on a machine of its own; it may take seconds until the scheduler knows it."""
        machine = add_machine(self.net, f"worker{self.net.count}")
        self.launch(machine, **environment)
        return machine

    def launch(self, machine: Machine, **environment: str) -> None:
        """Start a worker on this machine."""
        options = ("--host", machine.address, "--nworkers", "1", "--nthreads", str(self.threads), "--no-dashboard")
        command = ("-m", "distributed.cli.dask_worker", self.address, *options, "--name", machine.name)
        place = ("--local-directory", str(machine.home / "tmp"))
        machine.start(sys.executable, *command, *place, environment=environment)
        self.workers.append(machine)

    def kill_worker(self) -> None:
        self.workers.pop(0).kill()

    def kill_scheduler(self) -> None:
        """The scheduler's machine loses power; its workers, who have nobody to work for, end too."""
        assert self.scheduler
        for machine in (self.scheduler, *self.workers):
            machine.kill()
        self.scheduler = None
        self.workers.clear()

    def wait_for_workers(self) -> None:
        """Until the scheduler knows all our workers that live, and no other."""
        from distributed import Client

        names = {machine.name for machine in self.workers}
        with Client(self.address, timeout=_READY_S, set_as_default=False) as client:

            def known() -> bool:
                workers = client.scheduler_info(n_workers=-1)["workers"].values()
                return {worker["name"] for worker in workers} == names

            _until(known, f"a cluster of {len(names)} workers")


def other_version(folder: Path, version: str) -> Path:
    """A folder for PYTHONPATH with a copy of this project that says it is of another version."""
    for package in ("pipeline/neardup", "jobs/neardup_jobs"):
        target = folder / Path(package).name
        shutil.copytree(ROOT / package, target, ignore=shutil.ignore_patterns("__pycache__"))
    metadata = folder / f"neardup-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: neardup\nVersion: {version}\n")
    return folder


# --- the command ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code, run summary, lines on standard error, seconds."""

    code: int
    summary: dict[str, Any]
    lines: list[str]
    seconds: float


class Run:
    """The command line, run on a machine; it prints its summary as JSON."""

    def __init__(self, machine: Machine, *arguments: str) -> None:
        self.machine, self.begun = machine, time.monotonic()
        self.output = f"run{len(list(machine.tree.glob('run*.out')))}"
        program = str(Path(sys.executable).with_name("neardup"))
        self.process = machine.start(program, *arguments, "--json", output=self.output)

    def kill(self) -> None:
        self.machine.kill()

    def wait(self, timeout_s: float = 240) -> Done:
        code = self.process.wait(timeout_s)
        printed, errors = (
            (self.machine.tree / f"{self.output}.{kind}").read_text(errors="replace") for kind in ("out", "err")
        )
        try:
            summary = json.loads(printed)
        except ValueError:
            summary = {}
        return Done(code, summary, errors.splitlines(), time.monotonic() - self.begun)
