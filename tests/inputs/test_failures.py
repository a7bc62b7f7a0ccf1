"""Failures by class: what real servers answer, or do not, and what that means for an item."""

import errno
import importlib.util
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import stores
from neardup import storage
from neardup.errors import MediaError, MissingError, RunError, TransientError, UsageError
from neardup.storage import failures, hosts, retrying
from neardup_jobs.cli import app
from tools.https_service import Reply, service

DATA = b"a photo"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_FIRST_S", 0.005)


def failure(uri: str) -> tuple[str, str]:
    (outcome,) = storage.read_ahead([(uri, None)], max_bytes=1 << 20)
    assert isinstance(outcome, MediaError)
    return outcome.error_class, str(outcome)


def read_one_by_one(url: str, count: int) -> Iterator[storage.Content | MediaError]:
    for number in range(count):
        yield from storage.read_ahead([(f"{url}/{number}.jpg", None)], max_bytes=1 << 20)


@dataclass
class Crowd:
    """The requests under way to a server, by the host that they name."""

    port: int = 0
    under_way: Counter[str] = field(default_factory=lambda: Counter({"127.0.0.1": 0, "localhost": 0}))
    most_at_a_time: Counter[str] = field(default_factory=Counter)


@contextmanager
def crowded(most: int) -> Iterator[Crowd]:
    """A server that answers a request once more than `most` are under way to its host, or after a while."""
    crowd, changed = Crowd(), threading.Condition()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["Host"].partition(":")[0]
            with changed:
                crowd.under_way[host] += 1
                crowd.most_at_a_time[host] = max(crowd.most_at_a_time[host], crowd.under_way[host])
                changed.notify_all()
                changed.wait_for(lambda: crowd.most_at_a_time[host] > most, timeout=0.3)
                crowd.under_way[host] -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        crowd.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield crowd
        finally:
            server.shutdown()
            thread.join()


STATUSES = dict.fromkeys((401, 408, 425, 429, 500, 502, 503, 504), "transient")
STATUSES |= dict.fromkeys((400, 403, 404, 410), "permanent")


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_what_may_pass_or_what_is_gone(status: int) -> None:
    with service(None) as web:
        web.replies[:] = [Reply(status)]
        assert failure(f"{web.url}/x.jpg")[0] == STATUSES[status]
        patient = STATUSES[status] == "transient" and status != 401
        assert len(web.requests) == (retrying.ATTEMPTS if patient else 1)


def test_nobody_and_nowhere_may_pass() -> None:
    assert failure("http://127.0.0.1:1/x.jpg") == (
        "transient",
        "the connection is refused: nobody answers at 127.0.0.1:1",
    )
    assert failure("http://nohost.invalid/x.jpg") == ("transient", "the host at nohost.invalid:80 is unknown")


def test_a_server_is_waited_for_as_it_asks() -> None:
    with service(None) as web:
        web.replies[:] = [Reply(503, headers={"Retry-After": "1"}), Reply(body=b"good")]
        begun = time.monotonic()
        (outcome,) = storage.read_ahead([(f"{web.url}/x.jpg", None)], max_bytes=1 << 20)
        assert isinstance(outcome, storage.Content) and time.monotonic() - begun >= 1
        web.replies[:] = [Reply(503, headers={"Retry-After": "3600"})]
        assert failure(f"{web.url}/x.jpg") == (
            "transient",
            "the server answers 503 (Service Unavailable), and asks to wait 3,600 s",
        )


@pytest.mark.parametrize(
    "url",
    [
        "https://h/x.jpg?w=1&token=p4ss",
        "https://u:p4ss@h/x.jpg",
        "https://h/x.jpg#access_token=p4ss",
        "https://h/x.jpg?X%2DAmz%2DSignature=p4ss",
        "https://h/x.jpg?a=1\\u0026sig=p4ss",
    ],
)
def test_credentials_of_any_form_are_seen_and_hidden(url: str) -> None:
    assert storage.secret_in(url)
    for text in (f"cannot GET {url} (403)", f"cannot GET {url.split('//h')[-1]} (403)", f'{{"url": "{url}"}}'):
        assert "p4ss" not in storage.redacted(text)


def test_a_url_without_credentials_may_be_shown() -> None:
    for url in ("https://h/monkey=1/x.jpg?w=300&monkey=2", "https://h/a@2x.jpg", "file:///a?token=1"):
        assert storage.secret_in(url) is None


# --- hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, len(DATA)], ids=["on threads", "awaited"])
def test_a_host_gets_no_more_requests_at_a_time_than_it_may(size: int | None) -> None:
    with crowded(most=3) as crowd:
        storage.limit_hosts(3)
        try:
            wanted = [(f"http://{host}:{crowd.port}/{n}.jpg", size) for n in range(6) for host in crowd.under_way]
            outcomes = list(storage.read_ahead(wanted, max_bytes=1 << 20))
        finally:
            storage.limit_hosts(32)
    assert all(isinstance(outcome, storage.Content) for outcome in outcomes)
    assert crowd.most_at_a_time == {"127.0.0.1": 3, "localhost": 3}  # each host by itself


def test_a_host_that_answers_nothing_is_asked_now_and_then_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_FAILING_S": 0.0, "_LONG_FAILING_S": 0.0, "_FAILURES": 3, "_MANY_FAILURES": 5}.items():
        monkeypatch.setattr(hosts, name, value)
    monkeypatch.setattr(hosts, "_PROBE_EVERY", 4)
    with service(None) as web:
        web.replies[:] = [Reply(503)]
        url = web.url.removesuffix("/v1/match")
        asked = []
        for number in range(7):
            before = len(web.requests)
            assert failure(f"{url}/{number}.jpg")[0] == "transient"
            asked.append(len(web.requests) - before)
        assert asked == [3, 1, 1, 0, 0, 0, 1]  # patiently, in a hurry, not at all but to probe it
        assert failure(f"{url}/x.jpg") == ("transient", f"{url} answered nothing for long, and is not asked")
        web.replies[:] = [Reply(body=b"good")]
        good = [isinstance(outcome, storage.Content) for outcome in read_one_by_one(url, 6)]
        assert good == [False, False, True, True, True, True]


# --- what servers ask for ---------------------------------------------------------------------------------------------


def test_a_date_to_wait_for_is_waited_for() -> None:
    with service(None) as web:
        web.replies[:] = [Reply(503, headers={"Retry-After": formatdate(time.time() + 2.5, usegmt=True)}), Reply()]
        begun = time.monotonic()
        (outcome,) = storage.read_ahead([(f"{web.url}/x.jpg", None)], max_bytes=1 << 20)
        assert isinstance(outcome, storage.Content) and time.monotonic() - begun >= 1
        web.replies[:] = [Reply(429, headers={"Retry-After": formatdate(time.time() + 7200, usegmt=True)})]
        error_class, error = failure(f"{web.url}/x.jpg")
        assert error_class == "transient" and re.search(
            r"429 \(Too Many Requests\), and asks to wait 7,(1|2)\d\d s", error
        )
        for unreadable in ("soon", "-1", "Mon, 31 Feb 2026 00:00:00 GMT", formatdate(0, usegmt=True)):
            web.requests.clear()
            web.replies[:] = [Reply(503, headers={"Retry-After": unreadable}), Reply()]
            (outcome,) = storage.read_ahead([(f"{web.url}/x.jpg", None)], max_bytes=1 << 20)
            assert isinstance(outcome, storage.Content) and len(web.requests) == 2


def test_a_bucket_that_is_too_busy_is_waited_for_as_it_asks() -> None:
    slow = Reply(503, b"<Error><Code>SlowDown</Code><Message>less</Message></Error>", {"Retry-After": "1"})
    with service(None) as web, stores.environment(f"http://127.0.0.1:{web.port}"):
        web.replies[:] = [slow, Reply(body=b"good")]
        begun = time.monotonic()
        assert storage.read_object("s3://bucket/x.jpg") == b"good" and time.monotonic() - begun >= 1
        web.replies[:] = [Reply(503, slow.body, {"Retry-After": "600"})]
        with pytest.raises(TransientError, match="the store answers SlowDown, and asks to wait 600 s"):
            storage.read_object("s3://bucket/x.jpg")


def test_a_server_that_redirects_for_ever_is_asked_once() -> None:
    with service(None) as web:
        web.replies[:] = [Reply(302, headers={"Location": "/x.jpg"})]
        assert failure(f"{web.url}/x.jpg") == ("transient", "the server sends on and on")
        assert len(web.requests) < 2 * 11  # as far as one client follows


# --- S3 that refuses HEAD ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "why"),
    [
        ("RequestTimeTooSkewed", RunError, "the clock of this machine is not that of the store"),
        ("InvalidAccessKeyId", RunError, "the credentials are not accepted"),
        ("AccessDenied", UsageError, "permission denied"),
    ],
)
@pytest.mark.parametrize("given", ["s3://bucket/folder", "s3://bucket", "s3://bucket/x.jpg"])
def test_why_s3_refuses_head_is_asked(code: str, error: type[Exception], why: str, given: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    with service(None) as web, stores.environment(f"http://127.0.0.1:{web.port}"):
        web.replies[:] = [Reply(403, body)]  # the body of an answer to HEAD is not sent
        with pytest.raises(error, match=why):
            list(storage.list_media([given]))
        assert [request.method for request in web.requests] == ["HEAD", "GET"]


# --- files of this machine, and drivers -------------------------------------------------------------------------------

AWAY = "EIO ESTALE ENOTCONN ENODEV ENXIO EREMOTEIO EAGAIN EMFILE ENFILE ENOMEM EBUSY"
UNREACHED = "ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETUNREACH ECONNREFUSED ECONNRESET ECONNABORTED EPIPE"
ERRNOS: dict[str, type[MediaError]] = dict.fromkeys(f"{AWAY} {UNREACHED}".split(), TransientError)
ERRNOS |= dict.fromkeys(["ENOENT", "EACCES", "EPERM", "EISDIR", "ENOTDIR", "ENAMETOOLONG", "ELOOP"], MissingError)


@pytest.mark.parametrize("name", ERRNOS)
def test_an_errno_is_what_may_pass_or_what_is_gone(name: str) -> None:
    number = getattr(errno, name)
    judgement = failures.judged(OSError(number, os.strerror(number), "x.jpg"))
    assert type(judgement.failure) is ERRNOS[name] and "\n" not in str(judgement.failure)


@pytest.mark.parametrize(
    ("protocol", "driver"),
    [("gcs", "gcsfs"), ("gs", "gcsfs"), ("abfs", "adlfs"), ("az", "adlfs"), ("sftp", "paramiko")],
)
def test_a_driver_that_is_not_there_is_named(protocol: str, driver: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(driver):
        pytest.skip(f"{driver} is installed")
    told = f"the driver of {protocol}:// is not installed (pip install {driver})"
    with pytest.raises(UsageError) as refused:
        storage.absolute(f"{protocol}://bucket/photos")
    assert str(refused.value) == f"cannot open '{protocol}://bucket/photos': {told}"
    assert failure(f"{protocol}://bucket/x.jpg") == ("permanent", told)  # a row of a list
    done = CliRunner().invoke(app, ["hash", f"{protocol}://bucket/photos", "-o", str(tmp_path / "out")])
    assert done.exit_code == 2 and told in " ".join(done.output.split()) and "Traceback" not in done.output
