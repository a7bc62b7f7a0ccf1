"""Drivers that fight for one output: forked processes, stopped and killed at random, and what must hold after."""

import json
import logging
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from neardup import storage, tables
from neardup.errors import ClaimError, RunError
from neardup.run import claim
from neardup.stages import live

_LABELS = pa.schema([("uri", pa.string())])
_RUNS = 5  # of each driver, between two looks
Commit = Callable[[str, dict[str, list[str]], storage.Commits], object]


def by_swap(root: str, manifest: dict[str, list[str]], commits: storage.Commits) -> object:
    """The commit of this project."""
    return live.commit(root, manifest, "", commits)


def by_writing(root: str, manifest: dict[str, list[str]], commits: storage.Commits) -> object:
    """A check followed by a write, then deletion of all that is not live: what must be seen to fail."""
    commits.check()
    before, parent = commits.manifest, commits.digest
    after = replace(before, tables=manifest, number=before.number + 1, parent=parent)
    text = json.dumps({"format": 2, **asdict(after)}).encode()
    storage.write(root, storage.MANIFEST, text)
    commits.manifest, commits._stored = after, storage.read_stored(root, storage.MANIFEST)
    alive = {name for names in manifest.values() for name in names}
    storage.delete(root, [name for name in storage.list_names(root) if "/part-" in name and name not in alive])
    return commits


def drive(root: str, chance: random.Random, note: Callable[[dict[str, Any]], None], commit: Commit) -> None:
    """One run: some commits that add a row, merge parts, or write a part whose name was there before and died."""
    token = secrets.token_hex(8)
    claim._here = lambda: {"host": token[:6], "machine": token, "boot": token, "pids": 1}  # a host of its own
    claim._BEAT_S, claim._SILENT_S, claim._LOOK_S = 0.02, 0.12, 0.02
    with claim.claimed(root) as check:
        commits = check.commits
        note(_link(commits))
        rows = _rows(root, storage.read_manifest(root))
        for _ in range(chance.randint(1, 3)):
            manifest = storage.read_manifest(root)
            media = manifest.get("media", [])
            new = f"row-{secrets.token_hex(6)}"
            if chance.random() < 0.4 and len(media) > 1:
                merged = pa.concat_tables([tables.read_part(root, name) for name in media])
                media = tables.write_chunks(root, "media", _table([*merged["uri"].to_pylist(), new]), {"by": "test"})
            else:
                media = [*media, *tables.write_chunks(root, "media", _table([new]), {"by": "test"})]
            groups = tables.write_chunks(root, "groups", _table([f"state {chance.randrange(3)}"]), {"by": "test"})
            check()
            committed = commit(root, {"media": media, "groups": groups}, commits)
            rows.add(new)
            note({**_link(commits), "rows": [new], "mark": committed is not None})
    note(_link(check.commits))


def _link(commits: storage.Commits) -> dict[str, Any]:
    manifest = commits.manifest
    return {"number": manifest.number, "digest": commits.digest, "parent": manifest.parent}


def _table(uris: list[str]) -> pa.Table:
    return pa.table({"uri": uris}, schema=_LABELS)


def _rows(root: str, manifest: dict[str, list[str]]) -> set[str]:
    return {uri for name in manifest.get("media", []) for uri in tables.read_part(root, name)["uri"].to_pylist()}


@dataclass
class Fight:
    """What many rounds on one output have shown."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: set[str] = field(default_factory=set)  # that some run was told are committed
    links: dict[int, tuple[str, str | None]] = field(default_factory=dict)  # number → digest, parent
    faults: list[str] = field(default_factory=list)


def fight(root: str, rounds: int, seed: int, commit: Commit = by_swap) -> Fight:
    """Let two drivers fight for an output, `rounds` runs each; looked at when both are still, and after a run alone."""
    shown, chance = Fight(), random.Random(seed)
    for number in range(-(-rounds // _RUNS)):
        drivers = [_start(root, chance.randrange(1 << 30), _RUNS, commit) for _ in range(2)]
        _disturb(dict(drivers), chance, shown.counts)
        for _, answers in drivers:
            _take_notes(answers, shown)
        _look(root, shown, f"bout {number}", at_rest=False)
        if number % 5 == 4 or (number + 1) * _RUNS >= rounds:
            pid, answers = _start(root, chance.randrange(1 << 30), 1, commit)
            os.waitpid(pid, 0)
            _take_notes(answers, shown)
            _look(root, shown, f"bout {number}, at rest", at_rest=True)
        if shown.faults:
            break
    _check_chain(shown)
    return shown


def _start(root: str, seed: int, runs: int, commit: Commit) -> tuple[int, int]:
    """Fork a driver of so many runs; gives its pid and the end of a pipe with its notes."""
    answers, notes = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_driver(root, seed, notes, runs, commit)
    os.close(notes)
    return pid, answers


def _be_driver(root: str, seed: int, notes: int, runs: int, commit: Commit) -> None:
    def note(fact: dict[str, Any]) -> None:
        os.write(notes, json.dumps(fact).encode() + b"\n")

    logging.disable()  # of what the fork has cut off from its event loop
    chance = random.Random(seed)
    try:
        for _ in range(runs):
            note({"ending": _ending(lambda: drive(root, chance, note, commit))})
    finally:
        os._exit(0)


def _ending(run: Callable[[], None]) -> str:
    try:
        run()
    except ClaimError as error:
        return "refused" if "is being" in str(error) else "lost"
    except RunError as error:
        return f"failed: {error}"
    except BaseException as error:
        return f"bug: {type(error).__name__}: {error}"
    return "done"


def _disturb(drivers: dict[int, int], chance: random.Random, counts: Counter[str]) -> None:
    """Stop and continue drivers until both have ended; now and then one is killed."""
    killed = chance.random() < 0.1
    stopped: dict[int, float] = {}
    living = set(drivers)
    while living:
        time.sleep(chance.uniform(0, 0.03))
        for pid in sorted(living):
            if os.waitpid(pid, os.WNOHANG)[0]:
                living.discard(pid)
                stopped.pop(pid, None)
            elif pid in stopped:
                if time.monotonic() > stopped[pid]:
                    os.kill(pid, signal.SIGCONT)
                    del stopped[pid]
            elif chance.random() < 0.15:
                os.kill(pid, signal.SIGSTOP)
                counts["pauses"] += 1
                stopped[pid] = time.monotonic() + chance.choice([0.02, 0.1, 0.3, 0.6])
                if killed and chance.random() < 0.3:
                    os.kill(pid, signal.SIGKILL)
                    counts["kills"] += 1
                    killed = False


def _take_notes(answers: int, shown: Fight) -> None:
    with os.fdopen(answers) as lines:
        for fact in map(json.loads, lines):
            if "ending" in fact:
                ending = fact["ending"].partition(":")[0]
                shown.counts[ending] += 1
                if ending == "bug":
                    shown.faults.append(fact["ending"])
                elif ending == "failed":
                    shown.counts[fact["ending"][:110]] += 1
                continue
            shown.rows.update(fact.get("rows", ()))
            shown.counts["commits"] += "rows" in fact
            link = (fact["digest"], fact["parent"])
            if shown.links.setdefault(fact["number"], link) != link:
                shown.faults.append(f"two manifests of number {fact['number']}")


def _look(root: str, shown: Fight, when: str, at_rest: bool) -> None:
    """What must hold of an output nobody works on; after a run that ended well, at rest, only live parts are left."""
    manifest = storage.read_manifest(root)
    alive = {name for names in manifest.values() for name in names}
    names = {name for name in storage.list_names(root) if "/" in name}
    if missing := alive - names:
        shown.faults.append(f"{when}: {len(missing)} live parts are gone")
        return
    if lost := shown.rows - _rows(root, manifest):
        shown.faults.append(f"{when}: {len(lost)} rows are lost")
    if at_rest and (more := names - alive):
        shown.faults.append(f"{when}: {len(more)} dead files at rest, first {min(more)}")


def _check_chain(shown: Fight) -> None:
    """Every manifest names the one before as its parent, as far as its writer lived to tell."""
    for number, (_, parent) in shown.links.items():
        if number - 1 in shown.links and shown.links[number - 1][0] != parent:
            shown.faults.append(f"manifest {number} does not follow {number - 1}")
    shown.counts["manifests"] = len(shown.links)
