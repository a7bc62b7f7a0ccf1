"""A function applied to many tasks, here or by the workers of a cluster, in a window of submissions."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import dask.bag
from distributed import Client, as_completed, get_worker

from neardup.errors import NeardupError, OutputError, RunError
from neardup.stages.hashing import Unseen

T = TypeVar("T")
R = TypeVar("R")

WINDOW = 20_000  # tasks known to the scheduler at a time
_IN_A_ROW = 20  # so many tasks fail alike, and as many again per worker, with none that succeeds: the others would too
_LOOK_S = 1.0  # between two looks whether there still is a worker
_NOTICE_AFTER_S = 3.0
_GONE = "the scheduler went away; what is finished stays, the same command goes on from there"

log = logging.getLogger("neardup")


class Mapper(Protocol):
    """Apply a function to every task and yield what it gives, in any order."""

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]: ...


def in_process(function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]:
    """Run the tasks here, one after another; all are tried, unless all would fail; then failures are raised."""
    failures = _Failures(1)
    for task in tasks:
        try:
            result = function(task)
        except NeardupError as error:
            if failures.add(error):
                break
        else:
            failures.in_a_row = 0
            yield result
    failures.throw(len(tasks))


def on_cluster(client: Client, count: Callable[[], int], wait_s: float) -> Mapper:
    """The same by the workers of a cluster; RunError where it has none for so long."""

    def mapper(function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]:
        failures = _Failures(count())
        pending = list(tasks)
        pending.reverse()
        completed = as_completed(loop=client.loop)
        under_way: set[Any] = set()

        def submit() -> None:
            batch = [pending.pop() for _ in range(min(len(pending), WINDOW - len(under_way)))]
            if batch:
                bag = dask.bag.from_sequence(batch, npartitions=len(batch)).map(partial(_placed, function))
                for future in client.compute(bag.to_delayed()):
                    under_way.add(future)
                    completed.add(future)

        submit()
        try:
            while under_way:
                future: Any = _next(client, completed, wait_s)
                under_way.discard(future)
                if future.status == "finished":
                    failures.in_a_row = 0
                    yield from future.result()
                elif future.status != "error":  # cancelled or lost: nobody but the scheduler's end does that
                    raise RunError(_GONE)
                elif failures.add(future.exception()):
                    break
                future.release()
                if len(under_way) < WINDOW // 2:
                    submit()
        finally:
            for future in under_way:  # what nobody waits for is not begun
                future.release()
        failures.throw(len(tasks))

    return mapper


def _next(client: Client, completed: as_completed, wait_s: float) -> Any:
    """The next future that has ended."""
    pause_s, told = 0.001, False
    seen = looked = time.monotonic()  # a worker
    while not completed.has_ready():
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)
        now = time.monotonic()
        if now - looked < _LOOK_S:
            continue
        looked, there = now, True  # one that does not answer may be busy
        with suppress(OSError, RuntimeError, ValueError):
            there = bool(client.nthreads())
        seen = now if there else seen
        if now - seen > wait_s:
            raise RunError(f"no worker is left, and none came within {wait_s:g} s; what is finished stays: run again")
        if now - seen > _NOTICE_AFTER_S and not told:
            log.warning("no worker is left: waiting for one, at most %g s", wait_s)
            told = True
    return next(completed)


def _placed(function: Callable[[T], R], task: T) -> R:
    """The result of a task; where items were not there to see, with the address of the worker that did not see them."""
    result = function(task)
    return result._replace(worker=get_worker().address) if isinstance(result, Unseen) else result


class _Failures:
    """The failures of tasks so far."""

    def __init__(self, workers: int) -> None:
        self.in_a_row = 0
        self._most = _IN_A_ROW + workers
        self._all: list[BaseException] = []
        self._stopped = False

    def add(self, error: BaseException) -> bool:
        """One more; true where the tasks that are left would fail likewise."""
        self._all.append(error)
        self.in_a_row += isinstance(error, RunError)
        self._stopped = isinstance(error, OutputError) or self.in_a_row >= self._most
        return self._stopped

    def throw(self, total: int) -> None:
        """Raise them, if there are any."""
        if not self._all:
            return
        first = self._all[-1] if self._stopped else self._all[0]
        if isinstance(first, NeardupError) and (self._stopped or len(self._all) == 1):
            raise first
        raise RunError(
            f"{len(self._all)} of {total} tasks failed, first: {type(first).__name__}: {first}; "
            "what the others finished stays: run again"
        ) from first
