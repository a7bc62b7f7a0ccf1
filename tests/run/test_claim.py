"""The claim: respected while its run lives, taken over when it is dead or silent, whatever anybody's clock says."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from neardup import storage
from neardup.errors import ClaimError
from neardup.run import claim, claimed

_DAYS_S = 3 * 86_400


@pytest.fixture
def root(tmp_path: Path) -> str:
    return storage.absolute(str(tmp_path / "out"))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is judged after a fraction of a second."""
    monkeypatch.setattr(claim, "_SILENT_S", 0.3)
    monkeypatch.setattr(claim, "_LOOK_S", 0.02)


def held_by(root: str, **changes: Any) -> None:
    """Leave a claim as another run of this machine would, with changes."""
    parent = os.getppid()
    ours = {**claim._here(), "pid": parent, "started": claim._started(parent), "token": "theirs"}
    storage.write(root, claim.NAME, json.dumps({**ours, "beats": 0, "heartbeat": time.time(), **changes}).encode())


def test_it_is_gone_when_the_run_is_over(root: str) -> None:
    with claimed(root) as check:
        check()
        assert storage.list_names(root) == ["claim.json", "manifest.json"]
    assert storage.list_names(root) == ["manifest.json"] and storage.read_manifest(root) == {}


def test_a_living_run_is_respected(root: str) -> None:
    held_by(root, heartbeat=0)
    with pytest.raises(ClaimError, match=f"pid {os.getppid()} on "), claimed(root):
        pass


@pytest.mark.parametrize("where", [{"boot": "another"}, {"pids": 1}, {"machine": "elsewhere"}])
@pytest.mark.parametrize("clock_s", [-_DAYS_S, _DAYS_S])
def test_a_run_that_cannot_be_seen_lives_as_long_as_its_claim_changes(
    root: str, soon: None, where: dict[str, Any], clock_s: float
) -> None:
    over = threading.Event()

    def beat() -> None:
        beats = 0
        while not over.wait(0.05):
            beats += 1
            held_by(root, pid=1, started="1", beats=beats, heartbeat=time.time() + clock_s, **where)

    held_by(root, pid=1, started="1", **where)
    thread = threading.Thread(target=beat)
    thread.start()
    told: list[str] = []
    try:
        with pytest.raises(ClaimError, match="is being written by the run with pid 1 on "), claimed(root, told.append):
            pass
    finally:
        over.set()
        thread.join()
    assert len(told) == 1 and "sign of life" in told[0]


@pytest.mark.parametrize("heartbeat", [0.0, time.time() + _DAYS_S], ids=["of the past", "of the future"])
def test_a_run_that_cannot_be_seen_and_is_silent_is_taken_over(root: str, soon: None, heartbeat: float) -> None:
    held_by(root, boot="another", heartbeat=heartbeat)
    begun = time.monotonic()
    with claimed(root) as check:
        check()
    assert time.monotonic() - begun >= 0.3


def test_a_claim_of_an_earlier_version_is_watched(root: str, soon: None) -> None:
    old = {"host": "here", "pid": os.getppid(), "started": 1.5, "token": "theirs", "heartbeat": time.time()}
    storage.write(root, claim.NAME, json.dumps(old).encode())
    told: list[str] = []
    with claimed(root, told.append):
        assert len(told) == 1


def test_a_dead_run_is_taken_over_at_once(root: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(root, pid=ended.pid, started="5")
    with claimed(root) as check:
        check()


def test_another_process_with_the_same_pid_is_not_the_run(root: str) -> None:
    held_by(root, started="1")
    with claimed(root) as check:
        check()


def test_a_claim_cut_short_by_a_crash_is_nobodys(root: str) -> None:
    storage.write(root, claim.NAME, b'{"host": "e')
    with claimed(root) as check:
        check()


def test_of_two_that_watch_a_silent_run_one_wins(root: str, soon: None) -> None:
    held_by(root, boot="another")
    outcomes: list[str] = []
    meet, leave = threading.Barrier(2), threading.Event()

    def take(number: int) -> None:
        ours = {**claim._here(), "boot": str(number), "pid": number, "started": "1", "token": str(number)}
        meet.wait()
        claim._take(root, ours, lambda _: None)
        outcomes.append(ours["token"])
        leave.wait(0.1)
        if json.loads(storage.read(root, claim.NAME) or b"")["token"] != ours["token"]:
            outcomes.append("overwritten too soon")

    threads = [threading.Thread(target=take, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["0", "1"]  # one after the other: the second had to watch the first


def test_it_beats_and_notices_its_loss(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_BEAT_S", 0.01)
    with claimed(root) as check:
        first = json.loads(storage.read(root, claim.NAME) or b"")["beats"]
        deadline = time.monotonic() + 10
        while json.loads(storage.read(root, claim.NAME) or b"")["beats"] == first:
            assert time.monotonic() < deadline
        storage.delete(root, [claim.NAME])  # by hand: it is nobody else's
        check()
        held = storage.read_stored(root, claim.NAME)
        while held is None or not storage.swap(root, claim.NAME, held, b'{"token": "theirs", "pid": 7, "host": "x"}'):
            held = storage.read_stored(root, claim.NAME)
        with pytest.raises(ClaimError, match="taken over by the run with pid 7"):
            check()
    assert json.loads(storage.read(root, claim.NAME) or b"")["token"] == "theirs"


_HOLDS = """
import sys
from neardup.run import claim
claim._BEAT_S = 0.2
with claim.claimed(sys.argv[1]) as check:
    print("holds", flush=True)
    sys.stdin.readline()
    check()
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
def test_a_run_in_another_container_of_this_host_is_respected(root: str) -> None:
    command = ["unshare", "-p", "-f", "--mount-proc", sys.executable, "-c", _HOLDS, root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline() == "holds\n"
        with pytest.raises(ClaimError, match="is being written by"), claimed(root):
            pass
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.wait(60) == 0
