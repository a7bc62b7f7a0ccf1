"""One run per output: a claim that others respect while it beats, and take over when it is dead or silent.

Whether a process is dead can be told only by one of the same boot and the same pid namespace. Any other looks at the
claim until it changes (the run lives) or has not changed for long enough, by its own steady clock: clocks of machines
are compared nowhere. The claim saves work; that a run which has lost it cannot commit is the manifest's to see to.
"""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil

from neardup import storage
from neardup.errors import ClaimError, RefusedError, RunError, UsageError

NAME = "claim.json"
_BEAT_S = 5.0
_SILENT_S = 120.0
_LOOK_S = 1.0

Notice = Callable[[str], object]  # gets one line for the user


class Claim:
    """The right of this run to write an output: calling it checks the right, `commits` makes parts live."""

    commits: storage.Commits

    def __init__(self, root: str, ours: dict[str, Any], stored: storage.Stored) -> None:
        self.root = root
        self._ours, self._stored = ours, stored
        self._beats = 0
        self._turn = threading.Lock()

    def __call__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ClaimError once another run has taken the output over."""
        with self._turn:
            now = storage.read_stored(self.root, NAME)
            if now is None:  # deleted by hand, or by a run that ended late: nobody else holds it
                now = storage.swap(self.root, NAME, None, self._text()) or storage.read_stored(self.root, NAME)
            holder = _parsed(now)
            if now is None or holder.get("token") != self._ours["token"]:
                raise ClaimError(f"{self.root} was taken over by {_who(holder)}; this run stops without committing")
            self._stored = now

    def beat(self) -> None:
        """Change the claim, so that those who watch it see that this run lives."""
        with self._turn:
            stored = storage.swap(self.root, NAME, self._stored, self._text())
            if stored is not None:
                self._stored = stored
                return
        self.check()  # an earlier beat whose answer was lost, or a loss

    def release(self) -> None:
        """Let go of the output, if this run still holds it."""
        with self._turn:
            now = storage.read_stored(self.root, NAME)
            if now is not None and _parsed(now).get("token") == self._ours["token"]:
                storage.remove(self.root, NAME, now)

    def _text(self) -> bytes:
        self._beats += 1
        return _text(self._ours, self._beats)


@contextmanager
def claimed(root: str, notice: Notice = lambda _: None) -> Iterator[Claim]:
    """Hold the output `root`, and let no earlier run commit to it.

    `notice` is told when a claim must be watched to see whether its run lives, which takes up to two minutes.

    Raises ClaimError when another living run holds it.
    """
    ours = {**_here(), "pid": os.getpid(), "started": _started(os.getpid()), "token": secrets.token_hex(8)}
    stored, alone = _take(root, ours, notice)
    claim = Claim(root, ours, stored)
    over = threading.Event()

    def keep_beating() -> None:
        while not over.wait(_BEAT_S):
            try:
                claim.beat()
            except ClaimError:  # the check before the next commit says so to the run itself
                return
            except RunError:
                continue

    thread = threading.Thread(target=keep_beating, name="claim", daemon=True)
    thread.start()
    finished = False
    try:
        claim.commits = storage.fence(root, alone)
        try:
            yield claim
            finished = True
        finally:
            claim.commits.close(finished)
    finally:
        over.set()
        thread.join()
        claim.release()


def _take(root: str, ours: dict[str, Any], notice: Notice) -> tuple[storage.Stored, bool]:
    """The claim as it is stored, and whether the run that held it before is known to be over."""
    try:
        stored = storage.swap(root, NAME, None, _text(ours, 0))
    except RefusedError as error:  # the first write of a run: nothing was started yet
        raise UsageError(f"the output cannot be written: {error}; choose another with --output") from error
    if stored is not None:
        return stored, False
    while True:
        held = storage.read_stored(root, NAME)
        state = _state(_parsed(held)) if held is not None else "over"
        if held is not None and state == "unknown":
            notice(
                f"{root} is held by {_who(_parsed(held))}, which cannot be seen from here:"
                f" going on unless it gives a sign of life within {_SILENT_S:.0f} s"
            )
            if not _is_silent(root, held):
                continue
        elif held is not None and state == "lives":
            raise ClaimError(f"{root} is being written by {_who(_parsed(held))}; wait for it, or use another output")
        stored = storage.swap(root, NAME, held, _text(ours, 0))
        if stored is not None:
            return stored, held is not None and state == "over"


def _is_silent(root: str, held: storage.Stored) -> bool:
    """Watch a claim: True when it has not changed for long enough, False when it is gone or another's.

    Raises ClaimError as soon as its run gives a sign of life.
    """
    watched_s = 0.0
    while watched_s < _SILENT_S:
        begun = time.monotonic()
        time.sleep(_LOOK_S)
        now = storage.read_stored(root, NAME)
        watched_s += min(time.monotonic() - begun, 2 * _LOOK_S)  # while we stood still, so may the other have
        if now is None:
            return False
        if now.data != held.data:
            holder = _parsed(now)
            if holder.get("token") != _parsed(held).get("token"):
                return False
            raise ClaimError(f"{root} is being written by {_who(holder)}; wait for it, or use another output")
    return True


def _text(claim: dict[str, Any], beats: int) -> bytes:
    """The claim as it is written; `heartbeat` is for people only."""
    return json.dumps({**claim, "beats": beats, "heartbeat": time.time()}).encode()


def _parsed(stored: storage.Stored | None) -> dict[str, Any]:
    try:
        holder = json.loads(stored.data) if stored is not None else {}
    except ValueError:
        return {}  # cut short by a crash: nobody's
    return holder if isinstance(holder, dict) else {}


def _state(holder: dict[str, Any]) -> Literal["lives", "over", "unknown"]:
    """What can be said of the run that holds a claim."""
    if "token" not in holder:
        return "over"
    if any(not value or holder.get(key) != value for key, value in _here().items() if key != "host"):
        return "unknown"
    try:
        pid, started = int(holder["pid"]), _started(int(holder["pid"]))
    except (KeyError, ValueError, TypeError):
        return "unknown"
    if started == holder.get("started"):
        return "lives" if started is not None else "unknown"
    return "over" if started is not None or not psutil.pid_exists(pid) or _is_zombie(pid) else "unknown"


def _here() -> dict[str, Any]:
    """What a process shares with those whose pids it can judge, and the name of this host for people."""
    return {"host": platform.node(), "machine": _machine(), "boot": _boot(), "pids": _pid_namespace()}


def _machine() -> str:
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            if text := Path(place).read_text().strip():
                return text
        except OSError:
            continue
    return platform.node()


def _boot() -> str:
    """A name of this boot of the machine; empty where there is none, so that no pid is judged."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> int:
    """The number of the pid namespace, unique while it exists."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _started(pid: int) -> str | None:
    """When this process began, in ticks since the boot: a number that no clock moves and no later process shares."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _who(holder: dict[str, Any]) -> str:
    return (
        f"the run with pid {holder['pid']} on {holder['host']}" if {"pid", "host"} <= holder.keys() else "another run"
    )
