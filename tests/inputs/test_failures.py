"""Failures by class: what real servers answer, or do not, and what that means for an item."""

import time

import pytest
from tools.https_service import Reply, service

from pipeline import storage
from pipeline.errors import MediaError
from pipeline.storage import retrying


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_FIRST_S", 0.005)


def failure(uri: str) -> tuple[str, str]:
    (outcome,) = storage.read_ahead([(uri, None)], max_bytes=1 << 20)
    assert isinstance(outcome, MediaError)
    return outcome.error_class, str(outcome)


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
