"""What happens to clusters in the middle of a job, and what came of it: the scenarios of the cluster test.

"In the middle" is a state, not a time: some receipts of the output have been written, and every worker waits at the
gate with its next one until the disturbance is over.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from machines import Cluster, Done, Gate, Machine, Run, add_machine, live_rows, other_version

WORKERS = 2
RECEIPTS = 3  # written before anything happens
OTHER_VERSION = "9.9.9"
PHOTOS = "inputs/photos/"  # their prefix in the store


@dataclass
class Laboratory:
    """A cluster, a store behind a gate, the machine of the command, and what it says without any cluster."""

    cluster: Cluster
    gate: Gate
    driver: Machine
    jobs: dict[str, tuple[str, ...]]  # name → the command, without its output and cluster
    outputs: int = 0
    expected: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def rows(self, job: str) -> dict[str, list[str]]:
        """The rows of a job that runs in the process of the command alone."""
        if job not in self.expected:
            done = Run(self.driver, *self.jobs[job], "-o", f"s3://outputs/expected-{job}", "--cluster", "none").wait()
            assert done.code == 0, done.lines
            self.expected[job] = live_rows(f"s3://outputs/expected-{job}")
        return self.expected[job]


@dataclass(frozen=True)
class Outcome:
    """How the command ended, each time it was run; and what its output holds then."""

    done: list[Done]
    rows: dict[str, list[str]]
    reads: Mapping[str, int]  # of each photo, by all runs of the command
    photos_read: list[int]  # by each run of the command

    @property
    def codes(self) -> list[int]:
        return [done.code for done in self.done]

    def read_again(self, usual: Mapping[str, int]) -> int:
        """How many photos were read more often than usual, which is once."""
        return sum(count > usual.get(photo, 1) for photo, count in self.reads.items())


class _Job:
    """A job on a cluster that is whole, its receipts held back after the first ones."""

    def __init__(self, laboratory: Laboratory, job: str) -> None:
        self.laboratory, self.job = laboratory, job
        laboratory.cluster.start(WORKERS)
        laboratory.outputs += 1
        self.output = f"s3://outputs/{laboratory.outputs}-{job}"
        self.done: list[Done] = []
        self.photos_read: list[int] = []
        laboratory.gate.arm(self.output.removeprefix("s3://"), RECEIPTS)

    def start(self) -> Run:
        address = self.laboratory.cluster.address
        return Run(self.laboratory.driver, *self.laboratory.jobs[self.job], "-o", self.output, "--cluster", address)

    def until_the_middle(self) -> Run:
        """Start it, and wait until it is in the middle."""
        run = self.start()
        while self.laboratory.gate.waiting < WORKERS * self.laboratory.cluster.threads:
            time.sleep(0.05)
            assert run.process.poll() is None, f"it ended before its middle: {run.wait().lines}"
        return run

    def end(self, run: Run) -> None:
        """Let everything pass, and wait for the end."""
        self.laboratory.gate.opened.set()
        self.done.append(run.wait())
        self.photos_read.append(sum(self.laboratory.gate.reads_below(PHOTOS).values()) - sum(self.photos_read))

    def outcome(self) -> Outcome:
        return Outcome(self.done, live_rows(self.output), self.laboratory.gate.reads_below(PHOTOS), self.photos_read)


def undisturbed(laboratory: Laboratory, job: str) -> Outcome:
    """Nothing happens."""
    work = _Job(laboratory, job)
    work.end(work.start())
    return work.outcome()


def worker_killed(laboratory: Laboratory, job: str) -> Outcome:
    """The machine of a worker loses power."""
    work = _Job(laboratory, job)
    run = work.until_the_middle()
    laboratory.cluster.kill_worker()
    work.end(run)
    return work.outcome()


def worker_added(laboratory: Laboratory, job: str) -> Outcome:
    """A worker joins."""
    work = _Job(laboratory, job)
    run = work.until_the_middle()
    laboratory.cluster.add_worker()
    laboratory.cluster.wait_for_workers()
    work.end(run)
    laboratory.cluster.kill_worker()  # so that the next scenario has as many as this one had
    return work.outcome()


def worker_replaced(laboratory: Laboratory, job: str) -> Outcome:
    """The machine of a worker loses power, and a new one joins."""
    work = _Job(laboratory, job)
    run = work.until_the_middle()
    laboratory.cluster.kill_worker()
    laboratory.cluster.add_worker()
    laboratory.cluster.wait_for_workers()
    work.end(run)
    return work.outcome()


def store_lost(seconds: float) -> Callable[[Laboratory, str], Outcome]:
    """The scenario in which one worker cannot reach the store for so long, while the others can."""

    def scenario(laboratory: Laboratory, job: str) -> Outcome:
        work = _Job(laboratory, job)
        run = work.until_the_middle()
        machine = laboratory.cluster.workers[0]
        machine.lose_store()
        laboratory.gate.opened.set()
        time.sleep(seconds)  # what the scenario is about, and no synchronisation
        machine.regain_store()
        work.end(run)
        return work.outcome()

    scenario.__doc__ = f"A worker cannot reach the store for {seconds:g} s."
    return scenario


def other_version_joined(laboratory: Laboratory, job: str) -> Outcome:
    """A worker of another version is there from the start."""
    with _worker_of_another_version(laboratory):
        laboratory.cluster.wait_for_workers()
        work = _Job(laboratory, job)
        work.end(work.start())
        return work.outcome()


def other_version_joins(laboratory: Laboratory, job: str) -> Outcome:
    """A worker of another version joins."""
    work = _Job(laboratory, job)
    run = work.until_the_middle()
    with _worker_of_another_version(laboratory):
        work.end(run)
        return work.outcome()


def scheduler_killed(laboratory: Laboratory, job: str) -> Outcome:
    """The scheduler's machine loses power; a new cluster comes up, and the same command is run again."""
    work = _Job(laboratory, job)
    run = work.until_the_middle()
    laboratory.cluster.kill_scheduler()
    work.end(run)
    laboratory.cluster.start(WORKERS)
    work.end(work.start())
    return work.outcome()


def command_killed(laboratory: Laboratory, job: str) -> Outcome:
    """The command itself is killed, and run again at once, on the same cluster."""
    work = _Job(laboratory, job)
    run = work.until_the_middle()
    run.kill()
    work.end(run)
    work.end(work.start())
    return work.outcome()


@contextmanager
def _worker_of_another_version(laboratory: Laboratory) -> Iterator[None]:
    """One more worker, started for the time of the block, that says it is of another version."""
    cluster = laboratory.cluster
    cluster.start(WORKERS)
    machine = add_machine(cluster.net, "other")
    other_version(machine.tree / "site", OTHER_VERSION)
    cluster.launch(machine, PYTHONPATH=str(machine.home / "site"))
    try:
        yield
    finally:
        cluster.workers.remove(machine)
        machine.kill()
