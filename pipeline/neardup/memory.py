"""The limit of a process's address space: what one item may take, libraries not counted. Linux; elsewhere no limit."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def limit_memory(extra_bytes: int) -> None:
    """Cap the address space at what is mapped now plus `extra_bytes`, for good but for `beyond_limit`."""
    if sys.platform != "linux":
        return  # other systems do not tell what is mapped now
    _set_limit(_mapped_bytes() + extra_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def beyond_limit() -> Iterator[None]:
    """Load libraries here that few items need: what they map raises the limit, so that no item pays for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == hard:
        yield
        return
    before = _mapped_bytes()
    _set_limit(hard)
    try:
        yield
    finally:
        _set_limit(soft + max(0, _mapped_bytes() - before))


def _set_limit(soft: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _mapped_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
