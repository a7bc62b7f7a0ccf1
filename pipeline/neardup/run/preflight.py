"""Whether workers can do the work: versions, stores. What is wrong is one sentence, at the start and not in the tables.

Workers may be without neardup, or have another Python, so that nothing of ours can be unpickled there: versions are
asked for by Dask's own request, and the plugin for workers that join later travels by value.
"""

import asyncio
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distributed import Client, WorkerPlugin

# what makes the bits of hashes, and what workers say they were made by
_BITS = ("neardup", "numpy", "opencv-python-headless", "pillow", "simplejpeg", "av")
_OTHERS = ("dask", "distributed", "pyarrow", "scipy", "numba", "fsspec", "s3fs")
_PROBE_S = 45.0
_NOBODY_S = 30.0  # a driver that is there sends a worker away sooner

Probe = Callable[[], str | None]  # what is wrong with the stores as this process sees them


def our_versions() -> dict[str, str | None]:
    """The versions of this process that matter, by package."""
    return {package: _version(package) for package in (*_BITS, *_OTHERS)}


def faults_of_versions(client: Client) -> tuple[dict[str, str], str | None]:
    """What is wrong with the versions of each worker, by address; and a notice of harmless differences."""
    ours = our_versions()
    told: Any = client.get_versions(packages=[*_BITS, *_OTHERS])
    faults, others = {}, {}
    for address, facts in told["workers"].items():
        theirs = facts["packages"] if facts else {}
        if fault := _fault(ours, _minor(told["client"]), theirs, _minor(facts)):
            faults[address] = fault
        for package in _OTHERS:
            if theirs.get(package) != ours[package]:
                others[package] = f"{package} {theirs.get(package) or 'missing'} instead of {ours[package]}"
    return faults, f"workers have {', '.join(others.values())}" if others and not faults else None


def faults_of_stores(client: Client, probe: Probe) -> dict[str, str]:
    """What is wrong with the stores as workers see them, by address."""

    async def probed() -> str | None:
        try:
            return await asyncio.wait_for(asyncio.to_thread(probe), _PROBE_S)
        except TimeoutError:
            return f"the stores do not answer within {_PROBE_S:g} s"

    outcomes: dict[str, Any] = client.run(probed, on_error="return")
    return {
        address: f"{type(outcome).__name__}: {outcome}" if isinstance(outcome, BaseException) else outcome
        for address, outcome in outcomes.items()
        if outcome is not None
    }


def plugin(topic: str, checked: set[str], probe: Probe | None) -> WorkerPlugin:
    """What makes a worker ready; one that joins later and cannot do the work begins none, and says so under `topic`.

    The driver sends it away. Where no driver does, its run is over, and the worker is free for others.
    """
    bits = {package: _version(package) for package in _BITS}
    find_fault, name, limit_s, nobody_s = _fault_by_value(), topic, _PROBE_S, _NOBODY_S

    class Ready(WorkerPlugin):  # a local class: pickled by value
        def __init__(self) -> None:
            self.name = topic
            self.held = False

        async def setup(self, worker: Any) -> None:
            if fault := await self.find(worker):
                from distributed.core import Status

                worker.status = Status.closing_gracefully  # no task begins; a paused one would go on by itself
                self.held = True
                worker.log_event(name, {"worker": worker.address, "fault": fault})
                worker.loop.call_later(nobody_s, self.teardown, worker)
                return
            import cv2

            cv2.setNumThreads(1)  # no environment variable says so to OpenCV

        async def find(self, worker: Any) -> str | None:
            import asyncio
            from importlib.metadata import PackageNotFoundError, version

            def installed(package: str) -> str | None:
                try:
                    return version(package)
                except PackageNotFoundError:
                    return None

            if worker.address in checked:
                return None
            fault = find_fault(bits, {package: installed(package) for package in bits})
            if fault is not None or probe is None:
                return fault
            try:
                return await asyncio.wait_for(asyncio.to_thread(probe), limit_s)
            except Exception as error:
                return f"{type(error).__name__}: {error}"

        def teardown(self, worker: Any) -> None:
            from distributed.core import Status

            if self.held and worker.status == Status.closing_gracefully:
                worker.status = Status.running
            self.held = False

    return Ready()


def _fault_by_value() -> Callable[[dict[str, str | None], dict[str, str | None]], str | None]:
    def find_fault(ours: dict[str, str | None], theirs: dict[str, str | None]) -> str | None:
        if not theirs.get("neardup"):
            return "neardup is not installed there"
        wrong = [package for package in ours if theirs.get(package) != ours[package]]
        return f"{wrong[0]} {theirs.get(wrong[0]) or 'is missing'} there, {ours[wrong[0]]} here" if wrong else None

    return find_fault


def _fault(ours: dict[str, str | None], python: str, theirs: dict[str, Any], their_python: str) -> str | None:
    if theirs and their_python != python:
        return f"Python {their_python} there, {python} here"
    return _fault_by_value()({package: ours[package] for package in _BITS}, theirs)


def _minor(facts: dict[str, Any] | None) -> str:
    python = str(facts["packages"].get("python", "")) if facts else ""
    return ".".join(python.split(".")[:2])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
