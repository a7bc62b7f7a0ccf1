"""The children of this process: one for each thread that is at work, kept warm from slice to slice.

To start a child costs as much as a hundred photos, and two threads in one child would mix up their answers. So a task
leases a child: one that is idle and set up alike, else a new one. There are never more than threads have been at work
at a time, or were started ahead.
"""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from neardup.child import Child, Inline, Limits
from neardup.media import DecodePolicy
from neardup.work import Altering, Sampling


class Setup(NamedTuple):
    """What a child can do; what is idle and set up otherwise is ended when another setup is asked for."""

    specs: tuple[str, ...]
    policy: DecodePolicy
    limits: Limits | None  # None for no child, but the same work in this process
    sampling: Sampling
    isometric: bool
    altering: Altering


_lock = threading.Lock()
_idle: list[tuple[Setup, Child | Inline]] = []  # the last used at the end
_leased: dict[Child | Inline, threading.Thread] = {}
_most = 0  # that were leased or started ahead at a time, since the setup changed
_asked = 0  # how many were to be started ahead since the last lease


@contextmanager
def lease(setup: Setup) -> Iterator[Child | Inline]:
    """A child that nobody else uses within the block."""
    child = _taken(setup) or _made(setup)
    _note_lease(child)
    try:
        yield child
    finally:
        _give_back(setup, child)


def start(setup: Setup) -> None:
    """Start a child ahead of the first lease, and do not wait for it; an idle one of an earlier run serves as well."""
    global _most, _asked
    with _lock:
        if _leased:  # it is too late: who needs one has it
            return
        _asked += 1
        if sum(kept == setup for kept, _ in _idle) >= _asked:
            return
    child = _made(setup)
    child.start()
    with _lock:
        _idle.append((setup, child))
        _most = max(_most, len(_idle) + len(_leased))


def close_idle() -> None:
    """End all that are not leased."""
    global _most, _asked
    with _lock:
        ended = [child for _, child in _idle] + _abandoned()
        _idle.clear()
        _most, _asked = len(_leased), 0
    for child in ended:
        child.close()


def _made(setup: Setup) -> Child | Inline:
    specs, policy, limits, sampling, isometric, altering = setup
    if limits is None:
        return Inline(specs, policy, sampling, isometric, altering)
    return Child(specs, policy, limits, sampling, isometric, altering)


def _taken(setup: Setup) -> Child | Inline | None:
    """An idle child of this setup; those of other setups are ended."""
    global _most
    with _lock:
        others = [child for kept, child in _idle if kept != setup]
        ended = others + _abandoned()
        _idle[:] = [(kept, child) for kept, child in _idle if kept == setup]
        if others:
            _most = len(_leased) + len(_idle)
        found = _idle.pop()[1] if _idle else None
    for child in ended:
        child.close()
    return found


def _abandoned() -> list[Child | Inline]:
    """Take out those of threads that ended without giving them back."""
    found = [child for child, thread in _leased.items() if not thread.is_alive()]
    for child in found:
        del _leased[child]
    return found


def _note_lease(child: Child | Inline) -> None:
    global _most, _asked
    with _lock:
        _asked = 0
        _leased[child] = threading.current_thread()
        _most = max(_most, len(_leased))


def _give_back(setup: Setup, child: Child | Inline) -> None:
    with _lock:
        _leased.pop(child, None)
        kept = not child.busy and len(_idle) + len(_leased) < _most
        if kept:
            _idle.append((setup, child))
    if not kept:
        child.close()


@atexit.register
def _close_all() -> None:
    with _lock:
        ended = [child for _, child in _idle] + [*_leased]
        _idle.clear()
        _leased.clear()
    for child in ended:
        child.close()


def _forget() -> None:
    """In a fork of this process: the children are not its own, and no thread will give back what it leased."""
    global _lock, _most, _asked
    _lock = threading.Lock()
    _idle.clear()
    _leased.clear()
    _most = _asked = 0


os.register_at_fork(after_in_child=_forget)
