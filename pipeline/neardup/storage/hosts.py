"""Hosts: how many requests are under way to each, and which of them answer at all.

A host that answers nothing well for a while is asked in a hurry: once, with a short time limit; after many failures
only one request in some is made, and the others fail at once. The first good answer ends that, so that a store which
comes back is used again within the same run.
"""

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from neardup.errors import TransientError

PER_HOST = 32
HURRIED_S, PROBED_S = 5.0, 2.0  # instead of the usual time limits
_FAILURES, _FAILING_S = 16, 30.0  # in a row and for so long: from then on in a hurry
_MANY_FAILURES, _LONG_FAILING_S = 256, 60.0  # and from then on
_PROBE_EVERY = 32  # requests
_FORGOTTEN_S = 120.0  # after which an earlier failure says nothing


@dataclass
class Host:
    """What is under way to one host, and how it did lately."""

    name: str
    under_way: int = 0
    waiting: deque["Future[None]"] = field(default_factory=deque)
    failures: int = 0  # in a row
    failing_since: float = 0.0
    last_failure: float = 0.0
    denied: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> "Future[None] | None":
        """A place among the requests under way: None where it is had at once, else what says when.

        Raises TransientError where the host is given up and this request is not one to probe it.
        """
        if self.failures >= _MANY_FAILURES and self._for(_LONG_FAILING_S):
            with self.lock:
                self.denied += 1
                if self.denied % _PROBE_EVERY:
                    raise TransientError(f"{self.name} answered nothing for long, and is not asked")
        with self.lock:
            if self.under_way < _most:
                self.under_way += 1
                return None
            place: Future[None] = Future()
            self.waiting.append(place)
            return place

    def leave(self) -> None:
        """Give the place to whoever waits."""
        with self.lock:
            while self.waiting:
                place = self.waiting.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            self.under_way -= 1

    async def enter_awaited(self) -> None:
        """The same as `enter`, awaited."""
        place = self.enter()
        if place is None:
            return
        try:
            await asyncio.wrap_future(place)
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def answered(self) -> None:
        """Note a good answer, or one that says that there is nothing: the host is there."""
        self.failures = self.denied = 0

    def failed(self) -> None:
        """Note a failure that may pass."""
        now = time.monotonic()
        with self.lock:
            if not self.failures or now - self.last_failure > _FORGOTTEN_S:
                self.failures, self.failing_since = 0, now
            self.failures += 1
            self.last_failure = now

    @property
    def hurry_s(self) -> float | None:
        """How long a request may take, if that is less than usual."""
        if self.failures < _FAILURES or not self._for(_FAILING_S):
            return None
        return PROBED_S if self.failures >= _MANY_FAILURES and self._for(_LONG_FAILING_S) else HURRIED_S

    def _for(self, seconds: float) -> bool:
        now = time.monotonic()
        return now - self.failing_since >= seconds and now - self.last_failure <= _FORGOTTEN_S


_most = PER_HOST
_hosts: dict[str, Host] = {}
_known_lock = threading.Lock()


def limit_hosts(most: int) -> None:
    """Have at most so many requests under way to one host, in this process."""
    global _most
    _most = most


def most_requests() -> int:
    """How many requests may be under way to one host."""
    return _most


def forget_hosts() -> None:
    """Know nothing of how hosts did, as at the start of a run."""
    for host in list(_hosts.values()):
        host.answered()


def host_of(uri: str) -> Host | None:
    """The host, or bucket, that a uri names; None for a local file."""
    protocol, colon, rest = uri.partition("://")
    if not colon or protocol in ("file", "memory"):
        return None
    name = f"{protocol}://{rest.split('/', 1)[0].split('?', 1)[0].rsplit('@', 1)[-1]}"
    host = _hosts.get(name)
    if host is None:
        with _known_lock:
            host = _hosts.setdefault(name, Host(name))
    return host
