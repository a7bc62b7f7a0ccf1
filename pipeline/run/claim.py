"""One run per output: a claim that others respect while it beats, and take over when it is dead or silent."""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from pipeline import storage
from pipeline.errors import ClaimError, RefusedError, RunError, UsageError

NAME = "claim.json"
_BEAT_S = 20.0
_SILENT_S = 120.0


@contextmanager
def claimed(root: str) -> Iterator[Callable[[], None]]:
    """Hold the output `root`; yields a check to call before a commit, which raises ClaimError once the claim is lost.

    Raises ClaimError when another living run holds it.
    """
    ours = {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "token": secrets.token_hex(8),
    }
    _take(root, ours)
    over = threading.Event()

    def check() -> None:
        holder = _holder(root)
        if holder is None or holder.get("token") != ours["token"]:
            raise ClaimError(f"{root} was taken over by {_who(holder)}; this run stops without committing")

    def beat() -> None:
        while not over.wait(_BEAT_S):
            try:
                check()
                storage.write(root, NAME, _text(ours))
            except RunError:  # the check before the next commit says so to the run itself
                continue

    thread = threading.Thread(target=beat, name="claim", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        over.set()
        thread.join()
        holder = _holder(root)
        if holder and holder.get("token") == ours["token"]:
            storage.delete(root, [NAME])


def _take(root: str, ours: dict[str, Any]) -> None:
    for _ in range(3):
        try:
            if storage.create(root, NAME, _text(ours)):
                return
        except RefusedError as error:  # the first write of a run: nothing was started yet
            raise UsageError(f"the output cannot be written: {error}; choose another with --output") from error
        holder = _holder(root)
        if holder is not None and _lives(holder):
            raise ClaimError(f"{root} is being written by {_who(holder)}; wait for it, or use another output")
        storage.delete(root, [NAME])
    raise ClaimError(f"{root} is being claimed by another run at this moment; try again")


def _text(claim: dict[str, Any]) -> bytes:
    return json.dumps({**claim, "heartbeat": time.time()}).encode()


def _holder(root: str) -> dict[str, Any] | None:
    data = storage.read(root, NAME)
    try:
        holder = json.loads(data) if data is not None else None
    except ValueError:
        return {}  # cut short by a crash: nobody's
    return holder if isinstance(holder, dict) else None


def _lives(holder: dict[str, Any]) -> bool:
    if time.time() - float(holder.get("heartbeat", 0)) > _SILENT_S:
        return False
    return holder.get("host") != platform.node() or _started(int(holder["pid"])) == holder.get("started")


def _started(pid: int) -> float | None:
    """When this process began: a number that a later process with the same pid does not share."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _who(holder: dict[str, Any] | None) -> str:
    return f"the run with pid {holder['pid']} on {holder['host']}" if holder and "pid" in holder else "another run"
