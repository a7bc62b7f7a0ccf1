"""The claim: respected while its run lives, taken over when it is dead or silent."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import storage
from pipeline.errors import ClaimError
from pipeline.run import claimed


@pytest.fixture
def root(tmp_path: Path) -> str:
    return storage.absolute(str(tmp_path / "out"))


def held_by(root: str, **changes: Any) -> None:
    """Leave a claim as another run of this machine would, with changes."""
    parent = os.getppid()
    claim = {
        "host": platform.node(),
        "pid": parent,
        "started": psutil.Process(parent).create_time(),
        "token": "theirs",
        "heartbeat": time.time(),
    }
    storage.write(root, "claim.json", json.dumps({**claim, **changes}).encode())


def test_it_is_gone_when_the_run_is_over(root: str) -> None:
    with claimed(root) as check:
        check()
        assert storage.list_names(root) == ["claim.json"]
    assert storage.list_names(root) == []


def test_a_living_run_is_respected(root: str) -> None:
    held_by(root)
    with pytest.raises(ClaimError, match=f"pid {os.getppid()} on "), claimed(root):
        pass
    held_by(root, host="elsewhere")
    with pytest.raises(ClaimError, match="on elsewhere"), claimed(root):
        pass


def test_a_dead_run_is_taken_over(root: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(root, pid=ended.pid)
    with claimed(root) as check:
        check()


def test_another_process_with_the_same_pid_is_not_the_run(root: str) -> None:
    held_by(root, started=1.0)
    with claimed(root) as check:
        check()


def test_a_silent_run_is_taken_over(root: str) -> None:
    held_by(root, host="elsewhere", heartbeat=time.time() - 121)
    with claimed(root) as check:
        check()


def test_a_claim_cut_short_by_a_crash_is_nobodys(root: str) -> None:
    storage.write(root, "claim.json", b'{"host": "e')
    with claimed(root) as check:
        check()


def test_it_beats_and_notices_its_loss(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.run import claim

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
