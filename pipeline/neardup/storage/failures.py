"""Failures: what a foreign error means, whoever raised it. The one table of what may pass and what is gone for good.

Stores say what is wrong by a status of HTTP, a code of S3, an errno, or the type of an exception, and their clients
wrap that in errors of their own: so the causes of an error are asked too. What may pass is a TransientError, what is
gone or refused a MissingError; a `Verdict` adds how often such an action is worth another try within one run.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from neardup.errors import MissingError, NeardupError, TransientError
from neardup.storage.credentials import redacted

ATTEMPTS = 7
_SILENT_ATTEMPTS = 2  # each costs as long as the time limit
_UNKNOWN_HOST_ATTEMPTS = 4

_FOREIGN_IO_ERRORS = [
    "aiohttp",
    "aiobotocore",
    "botocore",
    "urllib3",
    "requests",
    "gcsfs",
    "google",
    "adlfs",
    "azure",
    "paramiko",
    "ftplib",
    "smbprotocol",
    "ossfs",
    "oss2",
    "huggingface_hub",
    "webdav4",
    "httpx",
    "httpcore",
    "asyncssh",
    "hdfs",
    "dropbox",
]  # whose errors are often no OSError
# of credentials: they do not heal within seconds, but someone renews them before the next run
_ACCESS_STATUSES = (401, 407)
_ACCESS_CODES = {
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "TokenRefreshRequired": "the credentials have expired",
    "RequestExpired": "the credentials have expired",
    "AuthenticationFailed": "the credentials are not accepted",
    "InvalidAuthenticationInfo": "the credentials are not accepted",
    "InvalidAccessKeyId": "the credentials are not accepted",
    "InvalidClientTokenId": "the credentials are not accepted",
    "InvalidToken": "the credentials are not accepted",
    "InvalidSecurity": "the credentials are not accepted",
    "SignatureDoesNotMatch": "the credentials are not accepted",
    "UnrecognizedClientException": "the credentials are not accepted",
    "AuthFailure": "the credentials are not accepted",
    "NotSignedUp": "the credentials are not accepted",
    "MissingSecurityHeader": "the credentials are not accepted",
    "RequestTimeTooSkewed": "the clock of this machine is not that of the store",
}
_ACCESS_TYPES = [
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "RefreshError",
    "DefaultCredentialsError",
    "ClientAuthenticationError",
    "CredentialUnavailableError",
    "AuthenticationException",
    "BadAuthenticationType",
    "NoAuthTokenError",
    "TokenMissingError",
]
_PASSING_STATUSES = (408, 425, 429)  # of those that blame the client
_PASSING_CODES = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "ServerBusy",
    "OperationTimedOut",
    "BandwidthLimitExceeded",
    "IncompleteBody",
    "OperationAborted",
]
_MISSING_CODES = ["NoSuchKey", "NoSuchBucket", "NoSuchVersion", "BlobNotFound", "ContainerNotFound", "ResourceNotFound"]
_REFUSED_CODES = ["AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "AuthorizationFailure"]
_CUT = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_AWAY = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EHOSTDOWN, errno.EREMOTEIO)
_NAMES_NO_FILE = (errno.ENAMETOOLONG, errno.ELOOP)
_OUTCOMES = {  # of a look at the net
    errno.ECONNREFUSED: "the connection is refused: nobody answers{at}",
    errno.EHOSTUNREACH: "the host{at} cannot be reached",
    errno.ENETUNREACH: "the network{at} cannot be reached",
    errno.EHOSTDOWN: "the host{at} is down",
}


class Verdict(NamedTuple):
    """What a foreign error means, and how patient to be with it."""

    failure: MissingError | TransientError
    attempts: int = ATTEMPTS  # of the same action that are worth their while
    after_s: float = 0.0  # how long the server asks to wait


class _Signs(NamedTuple):
    """What an error and its causes tell."""

    chain: list[BaseException]
    status: int | None
    code: str
    headers: Any


def translated(error: Exception) -> MissingError | TransientError:
    """The media error that a foreign I/O error stands for; anything that is no I/O error is raised as it is."""
    return judged(error).failure


def judged(error: Exception) -> Verdict:
    """The same, with how patient to be."""
    if isinstance(error, MissingError | TransientError):
        return Verdict(error)
    if isinstance(error, NeardupError):
        raise error
    signs = _signs_of(error)
    return _by_credentials(signs) or _by_answer(signs) or _by_connection(signs) or _by_type(error)


def first_line(error: BaseException) -> str:
    """What an error says, in one line without secrets."""
    return redacted((str(error).splitlines() or [""])[0])[:200]


# --- signs ------------------------------------------------------------------------------------------------------------


def _signs_of(error: BaseException) -> _Signs:
    chain = list(_causes(error))
    cut = any(type(one).__module__ == "aiohttp.http_exceptions" for one in chain)  # its "400" is of no server
    answers = [] if cut else [one for cause in chain for one in [_answer_of(cause)] if one is not None]
    status = next((status for status, _, _ in answers if status), None)
    code = next((code for _, code, _ in answers if code and not code.isdigit()), "")
    headers = next((headers for _, _, headers in answers if headers), None)
    return _Signs(chain, status, code, headers)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what led to it."""
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _answer_of(error: BaseException) -> tuple[int | None, str, Any] | None:
    """Status, code and headers of a store's answer, where an error has any."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        metadata = response.get("ResponseMetadata", {})
        code = str(response.get("Error", {}).get("Code", ""))
        status = metadata.get("HTTPStatusCode") or (int(code) if code.isdigit() else None)
        return status, code, metadata.get("HTTPHeaders")
    status = next((number for number in map(_status_of, (error, response)) if number), None)
    numbered = status or isinstance(getattr(error, "status", None), int)  # and then `code` may warn, too
    named = getattr(error, "error_code", None) or ("" if numbered else getattr(error, "code", None))
    headers = getattr(error, "headers", None) or getattr(response, "headers", None)
    if type(error).__module__ == "ftplib" and (reply := re.match(r"(\d{3})\b", str(error))):
        status = {"421": 503, "530": 401, "550": 404, "553": 403}.get(reply[1], 503 if reply[1][0] == "4" else 400)
    return (status, named if isinstance(named, str) else "", headers) if status else None


def _status_of(answer: object) -> int | None:
    for name in ("status", "status_code", "code"):  # the next is asked for only where there is no other: it may warn
        number = getattr(answer, name, None)
        if isinstance(number, int):
            return number if 100 <= number < 600 else None
    return None


def _wait_asked_for(headers: Any) -> float:
    """The seconds of a Retry-After, as a number or a date; 0 where there is none."""
    asked = next((value for name, value in (headers or {}).items() if str(name).lower() == "retry-after"), "")
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(str(asked))
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _by_credentials(signs: _Signs) -> Verdict | None:
    if signs.code in _ACCESS_CODES:
        return Verdict(TransientError(f"{_ACCESS_CODES[signs.code]} ({signs.code})"), 1)
    if signs.status in _ACCESS_STATUSES:
        return Verdict(TransientError(f"the server wants valid credentials ({_phrase(signs.status)})"), 1)
    for one in signs.chain:
        if type(one).__name__ in _ACCESS_TYPES:
            missing = "no credentials can be had" if "Auth" not in type(one).__name__ else "the credentials are refused"
            return Verdict(TransientError(f"{missing}: {first_line(one)}"), 1)
    return None


def _by_answer(signs: _Signs) -> Verdict | None:
    """What a store that did answer means."""
    status, code, error = signs.status, signs.code, signs.chain[0]
    if code in _MISSING_CODES or status in (404, 410):
        return Verdict(MissingError("the object is gone"))
    if code in _REFUSED_CODES:
        return Verdict(MissingError("permission denied"))
    if code in _PASSING_CODES or (status is not None and (status >= 500 or status in _PASSING_STATUSES)):
        what = f"the store answers {code}" if code else f"the server answers {_phrase(status or 0)}"
        return Verdict(TransientError(what), after_s=_wait_asked_for(signs.headers))
    if isinstance(error, PermissionError):
        return Verdict(MissingError("permission denied"))
    if status is not None and 400 <= status < 500 and not code:
        if _is_s3(signs) and status == 400:  # to HEAD, which says no more: as often as not, credentials that expired
            return Verdict(TransientError("the store answers 400 (Bad Request)"), 1)
        return Verdict(MissingError(f"the server refuses it: status {status}"))
    if status is not None and 300 <= status < 400 and not isinstance(error, FileNotFoundError):
        return Verdict(TransientError(f"the server sends on and on ({_phrase(status)})"), 1)
    return None


def _is_s3(signs: _Signs) -> bool:
    return any(isinstance(getattr(one, "response", None), dict) for one in signs.chain)


def _phrase(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _by_connection(signs: _Signs) -> Verdict | None:
    """What the net between us and a store means."""
    at = next(filter(None, map(_place_of, signs.chain)), "")
    for one in signs.chain:
        names = {kind.__name__ for kind in type(one).__mro__}
        if "TooManyRedirects" in names:  # aiohttp gives it no status
            return Verdict(TransientError("the server sends on and on"), 1)
        if isinstance(one, ssl.SSLCertVerificationError) or "ClientConnectorCertificateError" in names:
            why = getattr(one, "verify_message", "") or first_line(one)
            return Verdict(TransientError(f"the certificate of the server{at} is not accepted: {why}"), 1)
        if isinstance(one, socket.gaierror) or "ClientConnectorDNSError" in names:
            return Verdict(TransientError(f"the host{at} is unknown"), _UNKNOWN_HOST_ATTEMPTS)
        if isinstance(one, TimeoutError) or names & {"HTTPClientTimeout", "ReadTimeoutError", "ConnectTimeoutError"}:
            return Verdict(TransientError("no answer within the time limit"), _SILENT_ATTEMPTS)
        number = getattr(one, "errno", None)
        if isinstance(one, OSError) and number in _OUTCOMES:
            return Verdict(TransientError(_OUTCOMES[number].format(at=at)))
        if (isinstance(one, OSError) and number in _CUT) or names & {"ServerDisconnectedError", "ClientPayloadError"}:
            return Verdict(TransientError(f"the connection was cut{at}: {first_line(one)}"))
    return None


def _place_of(error: BaseException) -> str:
    host, port = getattr(error, "host", None), getattr(error, "port", None)
    return f" at {host}:{port}" if host and isinstance(port, int) else ""


def _by_type(error: Exception) -> Verdict:
    """What is left: files of this machine, and foreign errors that say nothing of themselves."""
    if isinstance(error, FileNotFoundError):
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            return judged(cause)  # what some clients call missing is whatever failed
        return Verdict(MissingError("the object is gone"))
    if isinstance(error, PermissionError):
        return Verdict(MissingError("permission denied"))
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return Verdict(MissingError("it is not a file"))
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number in _NAMES_NO_FILE:
        return Verdict(MissingError(f"it cannot be opened: {error.strerror}"))
    if isinstance(error, OSError) and number in _AWAY and error.strerror:
        return Verdict(TransientError(f"reading failed: {redacted(error.strerror)}"))
    foreign = type(error).__module__.split(".")[0] in _FOREIGN_IO_ERRORS
    if isinstance(error, OSError | EOFError) or (foreign and not isinstance(error, ValueError)):
        return Verdict(TransientError(f"reading failed: {type(error).__name__}: {first_line(error)}"))
    if isinstance(error, ValueError | TypeError | ImportError | NotImplementedError):
        # an unknown protocol, one that is not installed or wants arguments, a null character in a path
        return Verdict(MissingError(f"it cannot be opened: {first_line(error)}"))
    raise error
