"""Patience with stores: what is tried again, and how soon. The only layer that tries again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from neardup.errors import MissingError, TransientError
from neardup.storage.failures import ATTEMPTS, Verdict, first_line, judged, translated
from neardup.storage.hosts import Host, host_of

__all__ = ["ATTEMPTS", "first_line", "patiently", "patiently_async", "translated"]

_FIRST_S, _LONGEST_S = 0.1, 10.0
_LONGEST_ASKED_S = 60.0  # that an item waits because a server asks for it, all its waits together
T = TypeVar("T")


def patiently(action: Callable[[], T], uri: str = "") -> T:
    """The outcome of an action that may run twice, tried again after transient errors.

    Between attempts it waits: exponential backoff with full jitter, and as long as the server asks for. Where the `uri`
    that is asked for is named, its host gets no more requests at a time than it may.

    Raises MissingError at once, TransientError after the last attempt; errors that are no I/O errors as they are.
    """
    host = host_of(uri)
    asked_s = 0.0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            place = host.enter() if host else None
            if place is not None:
                place.result()
            try:
                outcome = action()
            finally:
                if host:
                    host.leave()
        except Exception as error:
            pause_s, asked_s = _pause(judged(error), attempt, host, asked_s, error)
        else:
            if host:
                host.answered()
            return outcome
        time.sleep(pause_s)
    raise AssertionError("unreachable")


async def patiently_async(action: Callable[[], Awaitable[T]], uri: str = "") -> T:
    """The same for an action that is awaited."""
    host = host_of(uri)
    asked_s = 0.0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if host:
                await host.enter_awaited()
            try:
                outcome = await action()
            finally:
                if host:
                    host.leave()
        except Exception as error:
            pause_s, asked_s = _pause(judged(error), attempt, host, asked_s, error)
        else:
            if host:
                host.answered()
            return outcome
        await asyncio.sleep(pause_s)
    raise AssertionError("unreachable")


def _pause(verdict: Verdict, attempt: int, host: Host | None, asked_s: float, error: Exception) -> tuple[float, float]:
    """How long to wait before the next attempt, and the waits asked for so far. Raises what the error means where
    another one is not worth it."""
    failure = verdict.failure
    if host and isinstance(failure, MissingError):
        host.answered()
    elif host:
        host.failed()
    asked_s += verdict.after_s
    last = min(verdict.attempts, ATTEMPTS)
    if isinstance(failure, TransientError) and asked_s > _LONGEST_ASKED_S:
        raise TransientError(f"{failure}, and asks to wait {verdict.after_s:,.0f} s") from error
    if isinstance(failure, MissingError) or attempt >= last or (host and host.hurry_s is not None):
        raise failure from (None if failure is error else error)
    return verdict.after_s + _pause_s(attempt), asked_s


def _pause_s(attempt: int) -> float:
    """How long to wait after the attempt of this number, at most as long as backoff has it."""
    return random.uniform(0, min(_LONGEST_S, _FIRST_S * 2**attempt))
