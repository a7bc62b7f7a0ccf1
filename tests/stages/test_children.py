"""Children are leased: one for each thread, kept warm, and never more than threads are at work."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from conftest import PHOTOS
from neardup.child import Child, Inline
from neardup.media import DecodePolicy
from neardup.stages import children, hashing
from neardup.stages.hashing import HashingOptions

SPECS = ("dhash", "phash")
OPTIONS = HashingOptions()


@pytest.fixture(autouse=True)
def none_before_and_after() -> Iterator[None]:
    hashing.close_worker()
    assert not processes()
    yield
    hashing.close_worker()
    assert not processes()


def processes() -> set[int]:
    """The children of this process that decode."""
    family = psutil.Process().children()
    return {one.pid for one in family if one.is_running() and any("neardup.child" in word for word in one.cmdline())}


def pid_of(child: Child | Inline) -> int:
    assert isinstance(child, Child)
    (answer,) = child.work([PHOTOS[0].read_bytes()])
    assert answer.error is None and child._process
    return child._process.pid


def leased_pids(threads: int) -> list[int]:
    """The processes that so many threads lease at the same time."""
    together = threading.Barrier(threads, timeout=60)

    def work(_: int) -> int:
        with hashing.lease(SPECS, OPTIONS) as child:
            together.wait()
            pid = pid_of(child)
            together.wait()
        return pid

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(threads)))


def test_threads_at_work_have_children_of_their_own_and_keep_them_warm() -> None:
    pids = leased_pids(3)
    assert len(set(pids)) == 3 and processes() == set(pids)
    assert set(leased_pids(3)) == set(pids)
    assert set(leased_pids(2)) < set(pids)  # none is started while one is idle
    assert processes() == set(pids)


def test_idle_children_of_another_setup_are_ended() -> None:
    leased_pids(2)
    with hashing.lease(("dhash",), OPTIONS) as child:
        assert processes() <= {pid_of(child)}
        with hashing.lease(SPECS, OPTIONS) as other:
            assert len({pid_of(child), pid_of(other)} & processes()) == 2
    with hashing.lease(SPECS, OPTIONS) as child:
        assert processes() == {pid_of(child)}


def test_children_started_ahead_are_those_that_are_leased() -> None:
    for _ in range(2):
        hashing.start_worker(SPECS, OPTIONS)
    warm = processes()
    assert len(warm) == 2
    with hashing.lease(SPECS, OPTIONS) as child:
        assert pid_of(child) in warm
        hashing.start_worker(SPECS, OPTIONS)  # too late: a task is at work
        assert processes() == warm
    assert set(leased_pids(2)) == warm
    for _ in range(2):  # as the next run does on a cluster that lives longer than one
        hashing.start_worker(SPECS, OPTIONS)
    assert processes() == warm


def test_work_that_fails_gives_its_child_back() -> None:
    with pytest.raises(ZeroDivisionError), hashing.lease(SPECS, OPTIONS) as child:
        pid = pid_of(child)
        _ = 1 // 0
    assert processes() == {pid}
    with hashing.lease(SPECS, OPTIONS) as child:
        assert pid_of(child) == pid
    with pytest.raises(ZeroDivisionError), hashing.lease(SPECS, OPTIONS) as child:
        answers = child.work(iter([photo.read_bytes() for photo in PHOTOS]))
        next(answers)
        _ = 1 // 0
    assert not processes()  # it was in the middle of something
    with hashing.lease(SPECS, OPTIONS) as child:
        pid_of(child)
    del answers


def test_what_a_dead_thread_has_leased_is_ended() -> None:
    held = []

    def die() -> None:
        lease = hashing.lease(SPECS, OPTIONS)
        held.append(lease)  # as if nobody ever left the block
        pid_of(lease.__enter__())

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    assert len(processes()) == 1
    with hashing.lease(SPECS, OPTIONS) as child:
        pid = pid_of(child)
        assert processes() == {pid}


def test_a_fork_leases_children_of_its_own() -> None:
    with hashing.lease(SPECS, OPTIONS) as child:
        pid = pid_of(child)
    forked = os.fork()
    if not forked:
        try:
            with hashing.lease(SPECS, OPTIONS) as child:
                own = pid_of(child)
            hashing.close_worker()
            os._exit(0 if own != pid else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    with hashing.lease(SPECS, OPTIONS) as child:
        assert pid_of(child) == pid


def test_without_a_child_threads_take_turns() -> None:
    """A hasher may be anyone's code; in one process no two of its calls overlap."""
    setup = children.Setup(("own_hasher.OneAtATime",), DecodePolicy(), None, OPTIONS.sampling, False, OPTIONS.altering)
    items = [photo.read_bytes() for photo in PHOTOS]

    def work(_: int) -> list[bytes | None]:
        with children.lease(setup) as child:
            assert isinstance(child, Inline)
            return [answer.hashes[0][0].hash for answer in child.work(items)]

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(work, range(4))
    assert None not in first and all(other == first for other in others)
