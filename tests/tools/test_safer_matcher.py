"""The matching client against a real HTTPS service on loopback: protocol, failures, and where credentials go."""

import io
import json
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from conftest import SAMPLES
from neardup import hashers
from neardup.errors import RunError, UndecodableError, UsageError
from neardup.hashers.tools import read
from neardup.tools import SaferMatcher, matching
from tools.https_service import Reply, Service, service, write_certificate

PHOTO = SAMPLES / "perception/image1.jpg"
# Of the reference (perception 0.9.3), for this photo, and for the user "u" with the password "p".
PHASH = "+K34nidUhwJso8thGrMFTfiYPRwtLbiuem5O44VOaTI="
MD5 = "598b5a8149b892c8806287eda9e696f6"
USER_U_PASSWORD_P = "dTpw"
SECRET = "c2VjcmV0LWtleQ"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls") / "service.pem")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD", "API_KEY", "URL", "DEV_ALLOW_HTTP"):
        monkeypatch.delenv(f"SAFER_MATCHING_SERVICE_{name}", raising=False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


@pytest.fixture
def remote(trusted: Path) -> Iterator[Service]:
    with service(trusted) as running:
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    made: list[float] = []
    clock = SimpleNamespace(sleep=made.append, time=matching.time.time)
    monkeypatch.setattr(matching, "time", clock)
    return made


def matcher(remote: Service, **settings: object) -> SaferMatcher:
    return SaferMatcher(**{"api_key": SECRET, "url": remote.url, **settings})


def sent(remote: Service) -> list[list[dict[str, str]]]:
    """The hashes of each request."""
    return [json.loads(request.body)["hashes"] for request in remote.requests]


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_the_request_is_the_reference_s(remote: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PHOTO, tmp_path / "myfile.jpg")
    monkeypatch.chdir(tmp_path)
    answer = {"matches": {"myfile.jpg": [{"label": "known"}]}, "version": "v2", "extra": [None, 1.5]}
    remote.replies = [Reply(body=json.dumps(answer).encode())]
    assert matcher(remote).match(["myfile.jpg"]) == answer
    (request,) = remote.requests
    assert (request.method, request.path) == ("POST", "/v1/match")
    assert request.headers["Authorization"] == f"Basic {SECRET}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("Python-urllib/3.")
    assert set(request.headers) - {"Accept-Encoding", "Content-Length", "Host", "Connection"} == {
        "Authorization", "Content-Type", "User-Agent",
    }  # fmt: skip
    entry = f'{{"id": "myfile.jpg", "phash": "{PHASH}", "md5": "{MD5}"}}'
    assert request.body.decode() == f'{{"hashes": [{entry}], "version": "v2"}}'


def test_images_in_every_form(remote: Service) -> None:
    pixels = read(PHOTO)
    images = [
        str(PHOTO),
        PHOTO,
        (str(PHOTO), "a path"),
        (pixels, "an array"),
        (PIL.Image.open(PHOTO), "a picture"),
        (io.BytesIO(PHOTO.read_bytes()), "a buffer"),
    ]
    matcher(remote).match(images)
    assert [(entry["id"], entry.get("md5")) for entry in sent(remote)[0]] == [
        (str(PHOTO), MD5), (str(PHOTO), MD5), ("a path", MD5),
        ("an array", None), ("a picture", None), ("a buffer", None),
    ]  # fmt: skip
    assert {entry["phash"] for entry in sent(remote)[0]} == {PHASH}


def test_a_hasher_and_its_name(remote: Service) -> None:
    hasher = hashers.PDQHash()
    matcher(remote, hasher=hasher, hasher_api_id="pdq").match([str(PHOTO)])
    assert sent(remote)[0][0]["pdq"] == hasher.compute(PHOTO)
    with pytest.warns(UserWarning, match="hashes of PDQHash will be sent as 'phash'"):
        matcher(remote, hasher=hasher)


def test_images_of_low_quality_are_not_sent(remote: Service) -> None:
    flat = np.zeros((80, 80, 3), np.uint8)
    images = [(flat, "flat"), (str(PHOTO), "photo")]
    matcher(remote).match(images)
    assert [entry["id"] for entry in sent(remote)[0]] == ["photo"]
    quality = hashers.PHash(16).compute_with_quality(PHOTO)[1]
    for asked in ([], [(flat, "flat")]):
        with pytest.warns(UserWarning, match="No images of sufficient quality were found"):
            assert matcher(remote).match(asked) == {}
    with pytest.warns(UserWarning, match="No images"):
        matcher(remote, quality_threshold=quality).match([PHOTO])
    assert len(remote.requests) == 1
    matcher(remote, quality_threshold=quality - 1).match([PHOTO])
    assert len(remote.requests) == 2


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ({"api_key": "a2V5"}, {}, "a2V5"),
        ({"username": "u", "password": "p"}, {}, USER_U_PASSWORD_P),
        ({"username": "u", "password": "p", "api_key": "a2V5"}, {}, USER_U_PASSWORD_P),
        ({"username": "u", "api_key": "a2V5"}, {}, "a2V5"),
        ({}, {"API_KEY": "a2V5"}, "a2V5"),
        ({}, {"API_KEY": "a2V5\n"}, "a2V5"),
        ({}, {"USERNAME": "u", "PASSWORD": "p"}, USER_U_PASSWORD_P),
        ({}, {"USERNAME": "u", "PASSWORD": "p", "API_KEY": "a2V5"}, USER_U_PASSWORD_P),
        ({}, {"USERNAME": "u", "API_KEY": "a2V5"}, "a2V5"),
        ({"api_key": "a2V5"}, {"USERNAME": "u", "PASSWORD": "p"}, "a2V5"),
        ({"username": "x"}, {"USERNAME": "u", "PASSWORD": "p", "API_KEY": "a2V5"}, "a2V5"),
    ],
)
def test_which_credentials_are_used(
    remote: Service, arguments: dict, environment: dict, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"SAFER_MATCHING_SERVICE_{name}", value)
    monkeypatch.setenv("SAFER_MATCHING_SERVICE_URL", remote.url)
    SaferMatcher(**arguments).match([PHOTO])
    assert remote.requests[0].headers["Authorization"] == f"Basic {expected}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key": None}, "no credentials"),
        ({"api_key": None, "username": "secret"}, "no credentials"),
        ({"api_key": None, "username": "secret:", "password": "secret"}, "colon"),
        ({"api_key": "secret\nX-Other: 1"}, "no base64"),
        ({"api_key": "s€cret"}, "no base64"),
        ({"api_key": " "}, "is empty"),
        ({"url": None}, "give url"),
        ({"url": "http://127.0.0.1/secret-free"}, "begins with https"),
        ({"url": "file:///etc/secret"}, "cannot be read"),
        ({"url": "https://user:secret@127.0.0.1/"}, "without credentials"),
        ({"url": "https://127.0.0.1:secret/"}, "cannot be read"),
        ({"url": "https://127.0.0.1/a secret"}, "cannot be read"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_showing_secrets(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        SaferMatcher(**{"api_key": "a2V5", "url": "https://127.0.0.1/", **settings})
    assert "secret" not in str(caught.value).replace("secret-free", "")


def test_plain_http_only_where_the_environment_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(None) as plain:
        monkeypatch.setenv("SAFER_MATCHING_SERVICE_DEV_ALLOW_HTTP", "")
        with pytest.raises(UsageError, match="begins with https"):
            matcher(plain)
        monkeypatch.setenv("SAFER_MATCHING_SERVICE_DEV_ALLOW_HTTP", "1")
        assert matcher(plain).match([PHOTO]) == {"matches": []}
        with pytest.raises(UsageError, match="credentials are not sent to ftp"):
            matcher(plain, url="ftp://127.0.0.1/")


# --- images that fail -------------------------------------------------------------------------------------------------


def test_an_image_that_fails_is_named_and_the_others_are_matched(remote: Service, tmp_path: Path) -> None:
    page, absent = SAMPLES / "broken/page.jpg", tmp_path / "absent.jpg"
    with pytest.warns(UserWarning) as caught:
        matcher(remote).match([str(page), str(PHOTO), str(absent), (np.zeros((9, 9)), "grey")])
    texts = [str(warning.message) for warning in caught]
    assert [text.split(" was not matched: ")[0] for text in texts] == [str(page), str(absent), "grey"]
    assert all(len(text.split(" was not matched: ")[1]) > 10 for text in texts)
    assert {warning.filename for warning in caught} == {__file__}
    assert [entry["id"] for entry in sent(remote)[0]] == [str(PHOTO)]


def test_an_image_without_a_hash_is_named(remote: Service) -> None:
    black = np.zeros((80, 80, 3), np.uint8)
    with pytest.warns(UserWarning, match="black was not matched: PHashF has no hash for it"):
        matcher(remote, hasher=hashers.PHashF(), hasher_api_id="phashf").match([(black, "black"), PHOTO])


def test_where_every_image_fails_the_first_error_is_raised(remote: Service, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        matcher(remote).match([str(tmp_path / "absent.jpg")])
    with pytest.raises(UndecodableError):
        matcher(remote).match([SAMPLES / "broken/page.jpg", tmp_path / "absent.jpg"])
    with pytest.raises(UsageError, match="ndarray is no image to match"):
        matcher(remote).match([np.zeros((9, 9, 3), np.uint8)])
    assert remote.requests == []


# --- a service that fails ---------------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again_with_growing_random_waits(
    remote: Service, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "random", SimpleNamespace(uniform=lambda low, high: (low, high)[1]))
    client = matcher(remote)
    client.timeout_s = 1.0
    client.max_attempts = 6
    remote.replies = [Reply(429), Reply(500), Reply(0), Reply(503), Reply(-1), Reply(body=b'{"matches": [1]}')]
    started_s = matching.time.time()
    assert client.match([PHOTO]) == {"matches": [1]}
    assert matching.time.time() - started_s < 15  # one answer never comes
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert len({request.body for request in remote.requests}) == 1
    assert all(request.headers["Authorization"] == f"Basic {SECRET}" for request in remote.requests)


def test_waits_are_random(remote: Service, waits: list[float]) -> None:
    remote.replies = [Reply(503)] * 4 + [Reply()]
    matcher(remote).match([PHOTO])
    assert len(set(waits)) == 4
    assert waits != [0.5, 1.0, 2.0, 4.0]
    assert all(0 <= wait <= 0.5 * 2**n for n, wait in enumerate(waits))


def test_a_service_that_stays_down_is_given_up(remote: Service, waits: list[float]) -> None:
    remote.replies = [Reply(503)]
    with pytest.raises(RunError, match=r"answered 503 Service Unavailable \(5 attempts\); try again later"):
        matcher(remote).match([PHOTO])
    assert (len(remote.requests), len(waits)) == (5, 4)


def test_a_service_that_is_not_there_is_given_up(trusted: Path, waits: list[float]) -> None:
    with service(trusted) as gone:
        pass
    with pytest.raises(RunError, match=r"could not be reached: .*refused"):
        matcher(gone).match([PHOTO])
    assert len(waits) == 4


def test_retry_after_is_waited_for(remote: Service, waits: list[float]) -> None:
    soon = formatdate(matching.time.time() + 60, usegmt=True)
    past = formatdate(0, usegmt=True)
    remote.replies = [Reply(429, headers={"Retry-After": value}) for value in ("7", soon, past, "soonish")] + [Reply()]
    matcher(remote).match([PHOTO])
    assert 7 <= waits[0] <= 7.5
    assert 55 <= waits[1] <= 61.0
    assert 0 <= waits[2] <= 2.0
    assert 0 <= waits[3] <= 4.0


def test_a_long_retry_after_is_told_instead_of_waited_for(remote: Service, waits: list[float]) -> None:
    remote.replies = [Reply(429, headers={"Retry-After": "3600"})]
    with pytest.raises(RunError, match="asks to wait 3600 seconds"):
        matcher(remote).match([PHOTO])
    assert waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 303])
def test_a_refusal_is_not_tried_again(remote: Service, status: int) -> None:
    remote.replies = [Reply(status)]
    with pytest.raises(RunError, match=f"answered {status} .*check the url and the credentials"):
        matcher(remote).match([PHOTO])
    assert len(remote.requests) == 1


def test_an_answer_that_is_not_json_is_told(remote: Service) -> None:
    remote.replies = [Reply(body=b"<html>")]
    with pytest.raises(RunError, match="not JSON"):
        matcher(remote).match([PHOTO])


def test_a_certificate_that_is_not_trusted_ends_it_before_anything_is_sent(
    certificate: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with service(certificate) as untrusted, pytest.raises(RunError, match=r"certificate verify failed.*SSL_CERT_FILE"):
        matcher(untrusted).match([PHOTO])
    assert (untrusted.requests, waits) == ([], [])


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_inside_the_service_is_followed_with_all_that_was_sent(remote: Service, status: int) -> None:
    absolute = remote.url.replace("/v1/", "/v2/")
    remote.replies = [Reply(status, headers={"Location": target}) for target in ("match/", absolute)] + [Reply()]
    assert matcher(remote).match([PHOTO]) == {"matches": []}
    assert [request.path for request in remote.requests] == ["/v1/match", "/v1/match/", "/v2/match"]
    assert {request.method for request in remote.requests} == {"POST"}
    assert len({request.body for request in remote.requests}) == 1
    assert {request.headers["Authorization"] for request in remote.requests} == {f"Basic {SECRET}"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        pytest.param(lambda remote, other: f"https://localhost:{other.port}/v1/match", id="another host"),
        pytest.param(lambda remote, other: f"https://localhost:{remote.port}/v1/match", id="another name"),
        pytest.param(lambda remote, other: f"https://127.0.0.1:{other.port}/v1/match", id="another port"),
        pytest.param(lambda remote, other: f"//localhost:{other.port}/v1/match", id="without a scheme"),
        pytest.param(lambda remote, other: f"https://127.0.0.1:{remote.port}@localhost:{other.port}/", id="as a user"),
        pytest.param(lambda remote, other: f"https://x@127.0.0.1:{remote.port}/", id="with a user"),
        pytest.param(lambda remote, other: f"https://127.0.0.1:{remote.port}\t.localhost:{other.port}/", id="tab"),
        pytest.param(lambda remote, other: "https://[::1/", id="unreadable"),
    ],
)
def test_nothing_is_sent_to_another_origin(
    remote: Service, trusted: Path, status: int, location: Callable[[Service, Service], str], waits: list[float]
) -> None:
    with service(trusted) as other:
        remote.replies = [Reply(status, headers={"Location": location(remote, other)})]
        with pytest.raises(RunError, match="another origin, to which nothing was sent"):
            matcher(remote).match([PHOTO])
    assert (len(remote.requests), other.requests, waits) == (1, [], [])


def test_nothing_is_sent_without_tls(remote: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFER_MATCHING_SERVICE_DEV_ALLOW_HTTP", "1")
    with service(None) as plain:
        remote.replies = [Reply(307, headers={"Location": plain.url})]
        with pytest.raises(RunError, match="another origin"):
            matcher(remote).match([PHOTO])
    assert plain.requests == []


def test_endless_redirects_end(remote: Service) -> None:
    remote.replies = [Reply(307, headers={"Location": remote.url})]
    with pytest.raises(RunError, match="redirects more than 5 times"):
        matcher(remote).match([PHOTO])
    assert len(remote.requests) == 6


# --- many images ------------------------------------------------------------------------------------------------------


def test_many_hashes_per_request_and_one_answer(remote: Service) -> None:
    images = [(str(PHOTO), f"photo {n}") for n in range(7)]
    remote.replies = [
        Reply(body=json.dumps({"version": "v2", "matches": {f"photo {n}": [n]}, "all": [n]}).encode()) for n in range(3)
    ]
    client = matcher(remote)
    client.batch_size = 3
    answer = client.match(images)
    assert answer == {
        "version": "v2", "matches": {"photo 0": [0], "photo 1": [1], "photo 2": [2]}, "all": [0, 1, 2],
    }  # fmt: skip
    assert [[entry["id"] for entry in hashes] for hashes in sent(remote)] == [
        ["photo 0", "photo 1", "photo 2"],
        ["photo 3", "photo 4", "photo 5"],
        ["photo 6"],
    ]
    client.batch_size = 7
    client.match(images)
    assert len(remote.requests) == 4


def test_answers_that_differ_are_told(remote: Service) -> None:
    remote.replies = [Reply(body=b'{"request": 1, "x": {"a": [1]}}'), Reply(body=b'{"request": 2, "x": {"a": [2]}}')]
    client = matcher(remote)
    client.batch_size = 1
    with pytest.warns(UserWarning, match="differ in 'request'; the first is kept"):
        assert client.match([PHOTO, PHOTO]) == {"request": 1, "x": {"a": [1, 2]}}
    for setting in ("batch_size", "max_attempts"):
        setattr(client, setting, 0)
        with pytest.raises(UsageError, match=f"{setting} 0 .*give 1 or more"):
            client.match([PHOTO])
        setattr(client, setting, 1)


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_message_repr_or_traceback_shows_the_credentials(
    remote: Service, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    echo = Reply(418, body=SECRET.encode(), headers={"X-Echo": SECRET})
    failing = [echo, Reply(503, body=SECRET.encode()), Reply(0), Reply(-2, f"Basic {SECRET}\r\n\r\n".encode())]
    failing += [Reply(body=f"Basic {SECRET}".encode())]
    failing += [Reply(302, headers={"Location": f"https://{SECRET}@localhost/?key={SECRET}"})]
    failing += [Reply(307, headers={"Location": f"https://localhost/?key={SECRET}"})]
    client = matcher(remote, url=f"{remote.url}?token={SECRET}", username=None)
    shown = [repr(client), str(client)]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for reply in failing:
            remote.replies = [reply]
            with pytest.raises(RunError) as caught:
                client.match([PHOTO, SAMPLES / "broken/page.jpg"])
            shown += [repr(caught.value), "".join(traceback.format_exception(caught.value))]
    shown += [str(warning.message) for warning in warned] + [*capfd.readouterr(), caplog.text]
    assert len(warned) == len(failing)
    assert SECRET in remote.requests[0].headers["Authorization"]
    assert not [text for text in shown if SECRET in text]
