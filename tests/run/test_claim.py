"""The claim: respected while its run lives, taken over when it is dead or silent."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.errors import ClaimError
from pipeline.run import claim, claimed


@pytest.fixture
def root(tmp_path: Path) -> str:
    return storage.absolute(str(tmp_path / "out"))


def held_by(root: str, **changes: Any) -> None:
    """Leave a claim as another run of this machine would, with changes."""
    parent = os.getppid()
    ours = {**claim._here(), "pid": parent, "started": claim._started(parent), "token": "theirs"}
    storage.write(root, "claim.json", json.dumps({**ours, "heartbeat": time.time(), **changes}).encode())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that cannot be seen from here are watched for a moment only."""
    monkeypatch.setattr(claim, "_SILENT_S", 1.0)
    monkeypatch.setattr(claim, "_LOOK_S", 0.05)


ELSEWHERE = [{"boot": "another"}, {"pids": 1}, {"machine": "another", "boot": "another", "host": "elsewhere"}]


def test_it_is_gone_when_the_run_is_over(root: str) -> None:
    with claimed(root) as check:
        check()
        assert storage.list_names(root) == ["claim.json", "manifest.json"]
    assert storage.list_names(root) == ["manifest.json"]


def test_a_living_run_is_respected(root: str) -> None:
    held_by(root)
    with pytest.raises(ClaimError, match=f"pid {os.getppid()} on "), claimed(root):
        pass


@pytest.mark.parametrize("changes", ELSEWHERE)
def test_a_run_elsewhere_is_respected_while_its_claim_changes(root: str, hasty: None, changes: dict[str, Any]) -> None:
    """Its process cannot be seen from here, nor is its clock trusted: it is years behind."""
    held_by(root, **changes, pid=2**22 + 1, heartbeat=1.0, beats=0)
    over = threading.Event()

    def beat() -> None:
        beats = 0
        while not over.wait(0.1):
            beats += 1
            held_by(root, **changes, pid=2**22 + 1, heartbeat=1.0, beats=beats)

    thread = threading.Thread(target=beat)
    thread.start()
    notices: list[str] = []
    try:
        with pytest.raises(ClaimError, match="is being written by the run with pid"), claimed(root, notices.append):
            pass
    finally:
        over.set()
        thread.join()
    assert len(notices) == 1


@pytest.mark.parametrize("changes", ELSEWHERE)
@pytest.mark.parametrize("days", [-5000, 0, 5000])
def test_a_silent_run_elsewhere_is_taken_over(root: str, hasty: None, changes: dict[str, Any], days: int) -> None:
    held_by(root, **changes, heartbeat=time.time() + days * 86_400)
    with claimed(root) as check:
        check()


def test_a_dead_run_is_taken_over(root: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(root, pid=ended.pid)
    with claimed(root) as check:
        check()


def test_another_process_with_the_same_pid_is_not_the_run(root: str) -> None:
    held_by(root, started="1")
    with claimed(root) as check:
        check()


def test_a_claim_cut_short_by_a_crash_is_nobodys(root: str) -> None:
    storage.write(root, "claim.json", b'{"host": "e')
    with claimed(root) as check:
        check()


def test_it_beats_and_notices_its_loss(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_BEAT_S", 0.01)
    with claimed(root) as check:
        first = json.loads(storage.read(root, "claim.json") or b"")["heartbeat"]
        deadline = time.monotonic() + 10
        while json.loads(storage.read(root, "claim.json") or b"")["heartbeat"] == first:
            assert time.monotonic() < deadline
        monkeypatch.setattr(claim, "_BEAT_S", 60)
        time.sleep(0.05)  # a beat that had begun may still write
        held_by(root)
        with pytest.raises(ClaimError, match="taken over by the run with pid"):
            check()
    assert json.loads(storage.read(root, "claim.json") or b"")["token"] == "theirs"
