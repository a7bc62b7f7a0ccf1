"""Asking a matching service whether images are known to it, by their hashes: no image leaves the machine.

The protocol is the reference's: one POST of {"hashes": [{"id", HASHER, "md5"}, ...], "version": "v2"} with Basic
authorization. Hashes and credentials go to the service's own origin (scheme, host, port) and nowhere else; credentials
are in no message and no repr.
"""

import base64
import http.client
import json
import os
import random
import ssl
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from email.utils import parsedate_to_datetime
from hashlib import md5
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from neardup.errors import RunError, UsageError
from neardup.hashers import Hasher, PHash
from neardup.hashers.reading import ImageInput, read_bytes

WORKERS = 5
MAX_REDIRECTS = 5
FIRST_WAIT_S = 0.5  # before the second attempt, at most; doubles with each
LONGEST_WAIT_S = 120.0

Image = str | os.PathLike[str] | tuple[ImageInput, str]
Entry = dict[str, Any]


class SaferMatcher:
    """Matches images with the known content of a Safer matching service, by their hashes.

    The credentials are `api_key` (base64 of "user:password") or `username` and `password`, which win over it. Without
    any argument they are the environment's SAFER_MATCHING_SERVICE_USERNAME and _PASSWORD if both are set, else
    SAFER_MATCHING_SERVICE_API_KEY. `url` may come from SAFER_MATCHING_SERVICE_URL; it must be https, unless
    SAFER_MATCHING_SERVICE_DEV_ALLOW_HTTP is set and not empty.

    `hasher` is `PHash(hash_size=16)` by default and `hasher_api_id` the service's name for it, "phash". Images whose
    quality is not above `quality_threshold` are not sent. Raises `UsageError` for settings that cannot work.

    These may be set on the class or an instance: `timeout_s` for each wait for the network, `max_attempts` per request,
    and `batch_size`, the number of hashes per request.
    """

    timeout_s: float = 30.0
    max_attempts: int = 5
    batch_size: int = 1000

    def __init__(
        self,
        api_key: str | None = None,
        username: str | None = None,
        password: str | None = None,
        url: str | None = None,
        hasher: Hasher | None = None,
        hasher_api_id: str | None = None,
        quality_threshold: int = 90,
    ) -> None:
        self.api_key = _api_key(api_key, username, password)
        self.url = _service_url(url)
        self.hasher = hasher if hasher is not None else PHash(hash_size=16, highfreq_factor=4)
        if hasher_api_id is None and not isinstance(self.hasher, PHash):
            name = type(self.hasher).__name__
            warnings.warn(f"hashes of {name} will be sent as 'phash': give its hasher_api_id", stacklevel=2)
        self.hasher_api_id = hasher_api_id if hasher_api_id is not None else "phash"
        self.quality_threshold = quality_threshold

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={_shown(self.url)!r}, hasher_api_id={self.hasher_api_id!r})"

    def match(self, images: Sequence[Image]) -> Any:
        """The service's answer for images given as paths or as (image, id), as parsed from its JSON.

        An image that cannot be hashed is left out, and a `UserWarning` names it and the reason; where that is every
        image, the first error is raised. Without an image of sufficient quality the answer is {}, with a `UserWarning`
        and without a request. The answers of several requests (`batch_size`) are merged: lists follow each other, dicts
        are merged key by key, and of other values that differ the first stays, with a `UserWarning`.

        Connection errors, 429 and 5xx are tried again with growing random waits, and not before a `Retry-After`. Raises
        `RunError` when the service cannot be reached, refuses, redirects to another host, or answers no JSON.
        """
        if self.batch_size < 1 or self.max_attempts < 1:
            raise UsageError(
                f"batch_size {self.batch_size} and max_attempts {self.max_attempts} cannot be meant: give 1 or more"
            )
        entries = self._entries([_checked(image) for image in images])
        if not entries:
            warnings.warn("No images of sufficient quality were found.", UserWarning, stacklevel=2)
            return {}
        answers = [
            self._answer(entries[start : start + self.batch_size]) for start in range(0, len(entries), self.batch_size)
        ]
        answer = answers[0]
        for other in answers[1:]:
            answer = _merged(answer, other)
        return answer

    def _entries(self, images: Sequence[Image]) -> list[Entry]:
        """What is sent for each image that can be hashed and is good enough, in order."""
        with ThreadPoolExecutor(max_workers=WORKERS if self.hasher.allow_parallel else 1) as pool:
            outcomes = list(pool.map(self._outcome, images))
        failed = [
            (image, outcome) for image, outcome in zip(images, outcomes, strict=True) if isinstance(outcome, Exception)
        ]
        if failed and len(failed) == len(outcomes):
            raise failed[0][1]
        for image, error in failed:
            warnings.warn(f"{_identity(image)} was not matched: {error}", UserWarning, stacklevel=3)
        hashed = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        return [entry for entry, quality in hashed if quality > self.quality_threshold]

    def _outcome(self, image: Image) -> tuple[Entry, int] | Exception:
        # Whatever is wrong with one image must not keep the others from being matched.
        try:
            return self._entry(image)
        except Exception as exc:
            return exc

    def _entry(self, image: Image) -> tuple[Entry, int]:
        """What is sent for one image, and its quality."""
        source = image[0] if isinstance(image, tuple) else image
        of_file: Entry = {}
        if isinstance(source, (str, os.PathLike)):
            source = read_bytes(source)
            of_file = {"md5": md5(source, usedforsecurity=False).hexdigest()}
        encoded, quality = self.hasher.compute_with_quality(source)
        if encoded is None:
            raise UsageError(f"{type(self.hasher).__name__} has no hash for it")
        return {"id": _identity(image), self.hasher_api_id: encoded} | of_file, quality

    def _answer(self, entries: list[Entry]) -> Any:
        body = json.dumps({"hashes": entries, "version": "v2"}).encode("utf-8")
        data = _Exchange(self.url, self.timeout_s, self.max_attempts).post(body, f"Basic {self.api_key}")
        try:
            return json.loads(data)
        except ValueError as exc:
            raise RunError(
                f"{_shown(self.url)} answered something that is not JSON; is it the matching service?"
            ) from exc


# --- one request ------------------------------------------------------------------------------------------------------


class _Reply(NamedTuple):
    status: int
    headers: Message
    data: bytes


class _Passing(NamedTuple):
    """A failed attempt after which another may succeed, and how long the service asks to wait."""

    problem: str
    asked_s: float
    cause: Exception | None


class _Exchange(NamedTuple):
    """How requests to one service are made: with retries, and with redirects inside its own origin only."""

    url: str
    timeout_s: float
    max_attempts: int

    def post(self, body: bytes, authorization: str) -> bytes:
        """The body of the answer. Raises `RunError`."""
        attempts = 0
        while True:
            outcome = self._attempt(body, authorization)
            if isinstance(outcome, bytes):
                return outcome
            attempts += 1
            if outcome.asked_s > LONGEST_WAIT_S:
                raise RunError(f"{outcome.problem} and asks to wait {outcome.asked_s:.0f} seconds; try again then")
            if attempts >= self.max_attempts:
                raise RunError(f"{outcome.problem} ({attempts} attempts); try again later") from outcome.cause
            longest_s = min(FIRST_WAIT_S * 2 ** (attempts - 1), LONGEST_WAIT_S)
            time.sleep(outcome.asked_s + random.uniform(0, longest_s))

    def _attempt(self, body: bytes, authorization: str) -> "bytes | _Passing":
        """The body of the answer, or what may pass. Raises `RunError` for what will not."""
        try:
            reply = self._post_once(body, authorization)
        except (OSError, http.client.HTTPException) as exc:
            problem = f"{_shown(self.url)} could not be reached: {_reason(exc)}"
            if _is_untrusted(exc):
                raise RunError(f"{problem}; SSL_CERT_FILE names the authorities to trust") from exc
            return _Passing(problem, 0.0, exc if isinstance(exc, OSError) else None)
        if 200 <= reply.status < 300:
            return reply.data
        problem = f"{_shown(self.url)} answered {reply.status} {http.client.responses.get(reply.status, '')}".strip()
        if reply.status != 429 and reply.status < 500:
            raise RunError(f"{problem}; check the url and the credentials")
        return _Passing(problem, _retry_after_s(reply.headers["Retry-After"]), None)

    def _post_once(self, body: bytes, authorization: str) -> _Reply:
        """One answer, behind redirects: a POST stays a POST, and nothing is sent to another origin."""
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
            request.add_unredirected_header("Authorization", authorization)
            with _opener().open(request, timeout=self.timeout_s) as response:
                reply = _Reply(response.status, response.headers, response.read())
            target = reply.headers["Location"]
            if reply.status not in (301, 302, 307, 308) or target is None:
                return reply
            if _origin(target := _joined(url, target)) != _origin(self.url):
                raise RunError(
                    f"{_shown(self.url)} redirects to {_shown(target)}, another origin, to which nothing was sent; "
                    "if that is the service, give it as url"
                )
            url = target
        raise RunError(f"{_shown(self.url)} redirects more than {MAX_REDIRECTS} times; check the url")


def _opener() -> urllib.request.OpenerDirector:
    """Proxies, http and https, and nothing that acts on a status by itself."""
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()):
        opener.add_handler(handler)
    return opener


def _retry_after_s(value: str | None) -> float:
    """Seconds or a date as seconds from now; 0 where there is neither."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _reason(exc: Exception) -> str:
    cause = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    told = str(cause) if isinstance(cause, (OSError, str)) else ""  # an HTTPException repeats what the service sent
    return told or type(cause).__name__


def _is_untrusted(exc: Exception) -> bool:
    return isinstance(exc, urllib.error.URLError) and isinstance(exc.reason, ssl.SSLCertVerificationError)


# --- settings ---------------------------------------------------------------------------------------------------------


def _api_key(api_key: str | None, username: str | None, password: str | None) -> str:
    """What follows "Basic " in the request. No message shows any of it."""
    if api_key is None and username is None and password is None:
        names = ("SAFER_MATCHING_SERVICE_USERNAME", "SAFER_MATCHING_SERVICE_PASSWORD")
        if all(name in os.environ for name in names):
            username, password = (os.environ[name] for name in names)
    if username is not None and password is not None:
        if ":" in username:
            raise UsageError("the user name has a colon, which Basic authorization cannot carry")
        return base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
    key = api_key if api_key is not None else os.environ.get("SAFER_MATCHING_SERVICE_API_KEY")
    if key is None:
        raise UsageError(
            "no credentials for the matching service: give api_key, or username and password, or set "
            "SAFER_MATCHING_SERVICE_API_KEY, or SAFER_MATCHING_SERVICE_USERNAME and SAFER_MATCHING_SERVICE_PASSWORD"
        )
    key = key.strip()
    if not key or not _is_plain(key):
        raise UsageError("the api_key is empty or has characters that no base64 has; give base64 of 'user:password'")
    return key


def _service_url(url: str | None) -> str:
    url = url if url is not None else os.environ.get("SAFER_MATCHING_SERVICE_URL")
    if url is None:
        raise UsageError("no matching service: give url or set SAFER_MATCHING_SERVICE_URL")
    origin = _origin(url)
    if origin is None:
        raise UsageError(
            "the url of the matching service cannot be read: give https://HOST/PATH in ASCII and without credentials"
        )
    allowed = ("https", "http") if os.environ.get("SAFER_MATCHING_SERVICE_DEV_ALLOW_HTTP") else ("https",)
    if origin[0] not in allowed:
        raise UsageError(f"credentials are not sent to {_shown(url)}: give an url that begins with https://")
    return url


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what has none, or might be read in two ways."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return None
    if not parts.hostname or "@" in parts.netloc or not _is_plain(url):
        return None
    return parts.scheme, parts.hostname, port


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _shown(url: str) -> str:
    """A url for messages: without user, query and fragment, which may hold secrets."""
    if _origin(url) is None:
        return "an address that cannot be read"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _is_plain(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


# --- images and answers -----------------------------------------------------------------------------------------------


def _checked(image: Image) -> Image:
    if isinstance(image, (str, os.PathLike)) or (isinstance(image, tuple) and len(image) == 2):
        return image
    raise UsageError(f"{type(image).__name__} is no image to match: give a path, or (image, id)")


def _identity(image: Image) -> str:
    return image[1] if isinstance(image, tuple) else os.fspath(image)


def _merged(answer: Any, other: Any, key: str = "") -> Any:
    """Two answers of one service as one."""
    if isinstance(answer, dict) and isinstance(other, dict):
        both = {name: _merged(answer[name], other[name], name) for name in answer if name in other}
        return answer | other | both
    if isinstance(answer, list) and isinstance(other, list):
        return answer + other
    if answer != other:
        warnings.warn(f"the answers to several requests differ in {key!r}; the first is kept", stacklevel=4)
    return answer
