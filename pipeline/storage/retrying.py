"""Patience with stores: what is tried again, and what a foreign error means. The only layer that tries again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipeline.errors import MissingError, NeardupError, TransientError
from pipeline.storage.urls import redacted

ATTEMPTS = 7
_FIRST_S, _LONGEST_S = 0.1, 10.0
_FOREIGN_IO_ERRORS = ("aiohttp", "aiobotocore", "botocore", "urllib3")  # whose network errors are no OSError
_WORTH_ANOTHER_TRY = (408, 425, 429)  # of the statuses that blame the client
T = TypeVar("T")


def patiently(action: Callable[[], T]) -> T:
    """The outcome of an action that may run twice, tried again after transient errors.

    Between attempts it waits: exponential backoff, full jitter.

    Raises MissingError at once, TransientError after the last attempt; errors that are no I/O errors as they are.
    """
    for attempt in range(ATTEMPTS):
        time.sleep(_pause_s(attempt))
        try:
            return action()
        except Exception as error:
            failure = translated(error)
            if isinstance(failure, MissingError) or attempt == ATTEMPTS - 1:
                raise failure from error
    raise AssertionError("unreachable")


async def patiently_async(action: Callable[[], Awaitable[T]]) -> T:
    """The same for an action that is awaited."""
    for attempt in range(ATTEMPTS):
        await asyncio.sleep(_pause_s(attempt))
        try:
            return await action()
        except Exception as error:
            failure = translated(error)
            if isinstance(failure, MissingError) or attempt == ATTEMPTS - 1:
                raise failure from error
    raise AssertionError("unreachable")


def _pause_s(attempt: int) -> float:
    """How long to wait before the attempt of this number; not at all before the first."""
    return random.uniform(0, min(_LONGEST_S, _FIRST_S * 2**attempt)) if attempt else 0.0


def translated(error: Exception) -> MissingError | TransientError:
    """The media error that a foreign I/O error stands for; anything that is no I/O error is raised as it is."""
    if isinstance(error, MissingError | TransientError):
        return error
    if isinstance(error, NeardupError):
        raise error
    status = getattr(error, "status", None)  # of an answer over HTTP
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return MissingError("the object is gone")
    if isinstance(error, PermissionError):
        return MissingError("permission denied")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return MissingError("it is not a file")
    if isinstance(status, int) and 400 <= status < 500 and status not in _WORTH_ANOTHER_TRY:
        return MissingError(f"the server refuses it: status {status}")
    if isinstance(error, OSError | EOFError) or type(error).__module__.split(".")[0] in _FOREIGN_IO_ERRORS:
        return TransientError(f"reading failed: {type(error).__name__}: {first_line(error)}")
    if isinstance(error, ValueError | TypeError | ImportError | NotImplementedError):
        # an unknown protocol, one that is not installed or wants arguments, a null character in a path
        return MissingError(f"it cannot be opened: {first_line(error)}")
    raise error


def first_line(error: Exception) -> str:
    """What an error says, in one line without secrets."""
    return redacted((str(error).splitlines() or [""])[0])[:200]
