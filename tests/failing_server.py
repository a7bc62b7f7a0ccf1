"""A web server on loopback that fails by every class, by a plan that says of each photo how; it heals, and goes down.

It is a process of its own and speaks HTTP/1.1 itself, so that it can break off wherever a real one may.
"""

import asyncio
import contextlib
import email.utils
import hashlib
import io
import multiprocessing
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE, CELLS = 64, 16
COPIED = 10  # one photo in so many is a copy of the one before
NO_HOST = "photos.invalid"  # no resolver knows a name below .invalid (RFC 6761)
_LONG_S = 3600  # what a server asks to wait that does not come back tonight


class Kind(NamedTuple):
    """What is right for a failure that lasts, and after how many requests one may pass that is tried again."""

    error_class: str
    passes_after: int = 0  # 0: it is not tried again within a run


KINDS = {
    "401": Kind("transient"),
    "403": Kind("permanent"),
    "404": Kind("permanent"),
    "408": Kind("transient", 3),
    "410": Kind("permanent"),
    "425": Kind("transient", 3),
    "429 seconds": Kind("transient", 2),  # Retry-After as a number
    "429 date": Kind("transient", 2),
    "500": Kind("transient", 3),
    "502": Kind("transient", 3),
    "503": Kind("transient", 3),
    "504": Kind("transient", 3),
    "refused": Kind("transient"),  # at a port where nobody listens
    "unknown host": Kind("transient"),
    "redirects": Kind("transient"),  # for ever, to itself
    "reset": Kind("transient", 3),  # in the middle of the header
    "closed": Kind("transient", 3),  # without an answer
    "cut": Kind("transient", 3),  # half the body that was announced
    "silent": Kind("transient", 1),  # no first byte
    "stalled": Kind("transient", 1),  # no byte after half the body
    "garbage": Kind("permanent"),  # a good answer, and no image
    "truncated": Kind("permanent"),  # a good answer, and half an image
}
_OF_BODIES = ("cut", "stalled")  # what HEAD does not see
_OF_PLACES = ("refused", "unknown host")  # what is no matter of this server


class Failure(NamedTuple):
    """How one photo fails, and whether it does so all night or for a few requests."""

    kind: str
    lasts: bool


Plan = dict[str, Failure]  # by name of the photo


def plan_failures(names: Sequence[str], kinds: Sequence[str], share: float, seed: int) -> Plan:
    """The photos that fail, each kind with this share of them at random; half of what may pass passes."""
    chance = random.Random(seed)
    plan = {}
    for name in names:
        number, lasts = int(chance.random() / share), chance.random() < 0.5
        if number < len(kinds):
            plan[name] = Failure(kinds[number], lasts or not KINDS[kinds[number]].passes_after)
    return plan


def make_photos(folder: Path, count: int, seed: int) -> list[str]:
    """Small photos of noise; each tenth is a copy of the one before. Gives their names."""
    noise = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(count)]
    data = b""
    for number, name in enumerate(names):
        cells = noise.integers(0, 256, (CELLS, CELLS, 3), dtype=np.uint8)
        if number % COPIED != COPIED - 1:
            sink = io.BytesIO()
            Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(sink, "JPEG", quality=90)
            data = sink.getvalue()
        (folder / name).write_bytes(data)
    return names


@dataclass
class FailingServer:
    """Where the server is, and what can be told to it."""

    url: str
    refusing_url: str
    pipe: Connection

    def url_of(self, name: str, failure: Failure | None) -> str:
        """Where a photo is listed to be."""
        kind = failure.kind if failure else ""
        port = self.url.rpartition(":")[2]
        base = {"refused": self.refusing_url, "unknown host": f"http://{NO_HOST}:{port}"}.get(kind, self.url)
        return f"{base}/{name}"

    def tell(self, what: str) -> Counter[str]:
        """`heal` it, take it `down`, bring it `up`, or just `count`; gives the failures and good answers so far."""
        self.pipe.send(what)
        return Counter(self.pipe.recv())


@contextmanager
def failing_server(folder: Path, plan: Plan) -> Iterator[FailingServer]:
    """A server of the photos of a folder that fails by a plan until it is told to heal."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(str(folder), plan, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        port, refusing = ours.recv()
        yield FailingServer(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{refusing}", ours)
    finally:
        process.kill()
        process.join()
        ours.close()


# --- the process of the server ----------------------------------------------------------------------------------------


def _serve(folder: str, plan: Plan, pipe: Connection) -> None:
    asyncio.run(_Server(Path(folder), plan, pipe).run())


class _Server:
    def __init__(self, folder: Path, plan: Plan, pipe: Connection) -> None:
        self.folder, self.plan, self.pipe = folder, plan, pipe
        self.healed = False
        self.asked: Counter[str] = Counter()  # requests that failed, by photo
        self.counts: Counter[str] = Counter()
        self.clients: set[asyncio.StreamWriter] = set()
        self.listening: dict[int, asyncio.Server] = {}

    async def run(self) -> None:
        # a port that is bound, and at which nobody listens, refuses and is nobody else's
        self.bound = {port: one for one in (_bound(0), _bound(0)) for port in [one.getsockname()[1]]}
        port, refusing = self.bound
        await self._listen(port)
        told: asyncio.Queue[str] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), lambda: told.put_nowait(self.pipe.recv()))
        self.pipe.send((port, refusing))
        while True:
            match await told.get():
                case "heal":
                    self.healed = True
                    await self._listen(refusing)
                case "down":
                    await self._go_down()
                case "up":
                    for number in list(self.bound):
                        await self._listen(number)
            self.pipe.send(dict(self.counts))

    async def _listen(self, port: int) -> None:
        self.listening[port] = await asyncio.start_server(self._serve_client, sock=self.bound.pop(port), backlog=512)

    async def _go_down(self) -> None:
        for port, server in self.listening.items():
            server.close()
            self.bound[port] = _bound(port)
        self.listening.clear()
        for writer in list(self.clients):
            writer.transport.abort()

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.add(writer)
        try:
            while True:
                method, path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[:2]
                if not await self._answer(method.decode(), path.decode().lstrip("/"), reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has hung up
        finally:
            self.clients.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, method: str, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request, well or not; says whether the connection goes on."""
        data = (self.folder / name).read_bytes()
        kind = self._failure(method, name)
        self.counts[kind or "good"] += 1
        if kind in ("garbage", "truncated"):
            data = random.Random(name).randbytes(1000) if kind == "garbage" else data[: len(data) // 2]
            kind = ""
        if kind == "closed":
            return False
        if kind == "reset":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            await writer.drain()
            taken = writer.get_extra_info("socket")
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if kind == "silent":
            await reader.read()  # until the client hangs up
            return False
        if kind and kind not in _OF_BODIES:
            writer.write(_head(*_refusal(kind, name, lasts=self.plan[name].lasts)))
            await writer.drain()
            return True
        headers = {"Content-Length": str(len(data)), "Content-Type": "image/jpeg"}
        headers["ETag"] = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        sent = b"" if method == "HEAD" else data[: len(data) // 2] if kind else data
        writer.write(_head("200 OK", headers) + sent)
        await writer.drain()
        if kind == "stalled":
            await reader.read()
        return not kind

    def _failure(self, method: str, name: str) -> str:
        """How this request fails; nothing where it does not."""
        failure = self.plan.get(name)
        if self.healed or failure is None or failure.kind in _OF_PLACES:
            return ""
        if method == "HEAD" and failure.kind in _OF_BODIES:
            return ""
        if not failure.lasts and self.asked[name] >= KINDS[failure.kind].passes_after:
            return ""
        self.asked[name] += 1
        return failure.kind


def _bound(port: int) -> socket.socket:
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    return taken


def _refusal(kind: str, name: str, lasts: bool) -> tuple[str, dict[str, str]]:
    """Status and headers of an answer without a body."""
    headers = {"Content-Length": "0"}
    wait_s = _LONG_S if lasts else 1
    if kind == "redirects":
        return "302 Found", {**headers, "Location": f"/{name}"}
    if kind == "429 seconds":
        headers["Retry-After"] = str(wait_s)
    if kind == "429 date":
        headers["Retry-After"] = email.utils.formatdate(time.time() + wait_s, usegmt=True)
    return f"{kind.split()[0]} Failing", headers


def _head(status: str, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


# --- what a run made of it --------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """What a run says of one photo."""

    name: str
    content: str  # its digest and its hash; nothing where it has none
    error_class: str | None
    error: str


class Faults(NamedTuple):
    """What is wrong with the tables of a run, photo by photo."""

    wrong: list[str]  # another digest or hash than the same bytes have in a folder
    lost: list[str]  # no row, or more than one
    misjudged: list[str]  # of another class than the failure is, or failed though it passed


def rows_of(output: Path) -> list[Row]:
    """What MEDIA and HASHES of an output with a single hasher say of each photo."""
    import pyarrow.parquet as pq  # the process of the server has no use for it

    from neardup import storage

    manifest = storage.read_manifest(f"file://{output}")
    (folder,) = (name for name in manifest if name.startswith("hashes/"))
    held = {name: [pq.ParquetFile(output / part).read() for part in manifest[name]] for name in ("media", folder)}
    hashes: dict[str, str] = {}
    for row in (row for part in held[folder] for row in part.select(["uri", "hash"]).to_pylist()):
        hashes[row["uri"]] = hashes.get(row["uri"], "") + f" {row['hash'].hex() if row['hash'] else None}"
    columns = ["uri", "sha256", "error_class", "error"]
    media = [row for part in held["media"] for row in part.select(columns).to_pylist()]
    return [
        Row(
            row["uri"].rpartition("/")[2], f"{row['sha256'] or ''}{hashes.get(row['uri'], '')}", *list(row.values())[2:]
        )
        for row in media
    ]


def faults_in(rows: Sequence[Row], right: Sequence[Row], failing: Plan) -> Faults:
    """Hold what a run says against what another says of the same photos in a folder, and against what still fails."""
    contents = {row.name: row.content for row in right}
    times = Counter(row.name for row in rows)
    wrong, misjudged = [], []
    for row in rows:
        failure = failing.get(row.name)
        error_class = KINDS[failure.kind].error_class if failure and failure.lasts else None
        if row.error_class != error_class:
            what = f"{failure.kind}, {'lasting' if failure.lasts else 'passing'}" if failure else "good"
            misjudged.append(f"{row.name} ({what}): {row.error_class}, {row.error}")
        elif row.content != ("" if error_class else contents.get(row.name)) and not _undecoded(row, failure):
            wrong.append(row.name)
    lost = [name for name in contents.keys() | times.keys() if times[name] != 1 or name not in contents]
    return Faults(sorted(wrong), sorted(lost), sorted(misjudged))


def _undecoded(row: Row, failure: Failure | None) -> bool:
    """Is it what was read well, and is no image? It has the digest of what was read, and no hash."""
    return failure is not None and failure.kind in ("garbage", "truncated") and " " not in row.content
