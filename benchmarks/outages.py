"""Urls of a server that fails by every class: is anything wrong or lost, is every class right, and does it all heal?

    python benchmarks/outages.py [--urls 10000] [--share 0.01] [--kinds 503 silent …] [--cluster local]

Serves small photos on loopback, and runs `neardup dedup` over a list of their urls, the same command on four nights:
the server fails by every class, each at this share of the urls, all night or for the first requests; it has healed; it
is down; it is up again. What the tables say is held against those of the same photos in a folder. Ends with 1 if
anything is wrong. With root, the name of the unknown host is known when the server has healed, by an /etc/hosts in a
mount namespace; else those urls go on failing, as they should.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]
from failing_server import (  # noqa: E402
    KINDS,
    NO_HOST,
    FailingServer,
    Plan,
    Row,
    failing_server,
    faults_in,
    make_photos,
    plan_failures,
    rows_of,
)
from neardup import storage  # noqa: E402

HASHER = "phash"


class Night(NamedTuple):
    """One run of the command, and how it ended."""

    code: int
    seconds: float
    summary: dict[str, Any]  # of a run that committed
    last_line: str  # of standard error


class Laboratory(NamedTuple):
    """What all nights have in common."""

    folder: Path
    cluster: str
    right: list[Row]  # of the photos in a folder
    can_rename: bool  # may the unknown host become known?

    @property
    def output(self) -> Path:
        return self.folder / "out"


def main() -> None:
    """Print a line per night and one per kind, and all of it as JSON at the end; ends with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--urls", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.01, help="of the urls that fail, of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cluster", default="local")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, neardup {version('neardup')}, aiohttp {version('aiohttp')}")
    with tempfile.TemporaryDirectory(prefix="neardup-outages-") as scratch:
        folder = Path(scratch)
        names = make_photos(folder / "photos", given.urls, given.seed)
        plan = plan_failures(names, given.kinds, given.share, given.seed)
        run_night(folder, [str(folder / "photos"), "-o", str(folder / "right"), "--cluster", "none"], None)
        laboratory = Laboratory(folder, given.cluster, rows_of(folder / "right"), can_mount())
        assert len(laboratory.right) == len(names) and not any(row.error for row in laboratory.right)
        print(
            f"{given.urls:,} urls, {len(plan):,} of which fail: {given.share:g} of them by each of {len(given.kinds)}"
        )
        with failing_server(folder / "photos", plan) as server:
            report = nights(laboratory, server, names, plan)
    print(json.dumps({"urls": given.urls, "share": given.share, "seed": given.seed, **report}))
    sys.exit(1 if report["faults"] else 0)


def nights(laboratory: Laboratory, server: FailingServer, names: list[str], plan: Plan) -> dict[str, Any]:
    """The four nights, and what is wrong with them."""
    listed = laboratory.folder / "list.txt"
    listed.write_text("\n".join(server.url_of(name, plan.get(name)) for name in names))
    command = [str(listed), "-o", str(laboratory.output), "--cluster", laboratory.cluster]
    report: dict[str, Any] = {"nights": {}, "faults": []}

    def spend(name: str, hosts: str | None, failing: Plan | None) -> Night:
        night = run_night(laboratory.folder, command, hosts)
        report["nights"][name] = shown = show(name, night, server.tell("count"))
        if failing is not None:
            faults = faults_in(rows_of(laboratory.output), laboratory.right, failing)
            print(f"    wrong {len(faults.wrong)}, lost {len(faults.lost)}, of another class {len(faults.misjudged)}")
            shown |= {kind: len(some) for kind, some in faults._asdict().items()}
            report["faults"] += [f"{name}: {kind} {fault}" for kind, some in faults._asdict().items() for fault in some]
        return night

    def expect(good: bool, what: str) -> None:
        if not good:
            report["faults"].append(what)

    first = spend("it fails", None, plan)
    expect(first.code == 0, f"it fails: exit code {first.code}, {first.last_line}")
    report["kinds"] = show_kinds(rows_of(laboratory.output), plan)
    server.tell("heal")
    unhealed = {} if laboratory.can_rename else {n: one for n, one in plan.items() if one.kind == "unknown host"}
    hosts = f"127.0.0.1 localhost {NO_HOST}\n" if laboratory.can_rename else None
    healed = spend("it has healed", hosts, unhealed)
    expected = {"transient": len(unhealed)} if unhealed else {}
    expect(healed.code == 0 and healed.summary["failed"] == expected, f"healed: {healed.code}, {healed.last_line}")
    expect(unhealed or pairs_of(laboratory.output) == pairs_of(laboratory.folder / "right"), "healed: other pairs")
    before = tables_of(laboratory.output)
    server.tell("down")
    down = spend("it is down", hosts, None)
    expect(down.code == 1 and "the store seems to be down" in down.last_line, f"down: {down.code}, {down.last_line}")
    expect(tables_of(laboratory.output) == before, "down: the tables have changed")
    changed = sum(tables_of(laboratory.output).get(name) != digest for name, digest in before.items())
    others = others_of(laboratory.output)
    print(f"    live parts: {len(before)}, changed {changed}; beside them {others}", flush=True)
    report["nights"]["it is down"] |= {"tables": len(before), "tables_changed": changed, "beside": others}
    server.tell("up")
    up = spend("it is up again", hosts, unhealed)
    expect(
        up.code == 0 and up.summary["stages"]["hash"].get("items", 0) == len(unhealed), f"up: {up.code}, {up.last_line}"
    )
    expect(tables_of(laboratory.output) == before or bool(unhealed), "up: the tables have changed")
    for fault in report["faults"][:20]:
        print(f"FAULT {fault}")
    return report


def run_night(folder: Path, arguments: list[str], hosts: str | None) -> Night:
    """Run `neardup dedup`; where `hosts` are given, with them as /etc/hosts."""
    command = [sys.executable, "-m", "neardup", "dedup", *arguments, "--hasher", f"{HASHER}@0.1", "--json"]
    if hosts is not None:
        (folder / "hosts").write_text(hosts)
        bind = 'mount --bind "$0" /etc/hosts && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", bind, str(folder / "hosts"), *command]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines() or [""]
    summary = json.loads(done.stdout) if done.returncode == 0 else {}
    return Night(done.returncode, round(time.monotonic() - begun, 1), summary, lines[-1])


def can_mount() -> bool:
    """May this process have a mount namespace of its own?"""
    return (
        not os.geteuid()
        and bool(shutil.which("unshare"))
        and not subprocess.run(["unshare", "--mount", "true"]).returncode
    )


def show(name: str, night: Night, answers: Counter[str]) -> dict[str, Any]:
    """Print how a night went; gives the same as values."""
    stages = {stage: round(of["seconds"], 1) for stage, of in night.summary.get("stages", {}).items()}
    told = {key: night.summary.get(key) for key in ("listed", "decoded", "failed", "stale", "removed", "groups")}
    print(f"{name}: exit code {night.code}, {night.seconds:,} s {json.dumps(stages)}", flush=True)
    print(f"    {json.dumps(told) if night.summary else night.last_line}", flush=True)
    return {"code": night.code, "seconds": night.seconds, "stages": stages, "answers": dict(answers), **told}


def show_kinds(rows: list[Row], plan: Plan) -> dict[str, dict[str, Any]]:
    """Print what became of the urls of each kind; gives the same as values."""
    kinds: dict[str, dict[str, Any]] = {}
    print("| kind | right class | urls | lasting: classes | passing: classes | an error of it |")
    print("|---|---|---|---|---|---|")
    for kind in dict.fromkeys(failure.kind for failure in plan.values()):
        of_kind = [row for row in rows if row.name in plan and plan[row.name].kind == kind]
        classes = {
            lasts: dict(Counter(row.error_class or "decoded" for row in of_kind if plan[row.name].lasts == lasts))
            for lasts in (True, False)
        }
        error = next((row.error for row in of_kind if row.error), "")
        kinds[kind] = {"class": KINDS[kind].error_class, "urls": len(of_kind), "lasting": classes[True]}
        kinds[kind] |= {"passing": classes[False], "error": error}
        lasting, passing = (json.dumps(classes[lasts]) if classes[lasts] else "" for lasts in (True, False))
        print(f"| {kind} | {KINDS[kind].error_class} | {len(of_kind)} | {lasting} | {passing} | {error} |")
    return dict(sorted(kinds.items()))


def pairs_of(output: Path) -> list[tuple[str, ...]]:
    """The pairs of an output, by the names of the photos."""
    manifest = storage.read_manifest(f"file://{output}")
    parts = [part for table, names in manifest.items() if table.startswith("pairs") for part in names]
    rows = [row for part in parts for row in pq.ParquetFile(output / part).read(["uri_a", "uri_b"]).to_pylist()]
    return sorted(tuple(sorted(uri.rpartition("/")[2] for uri in row.values())) for row in rows)


def tables_of(output: Path) -> dict[str, str]:
    """A digest of every live part, by its table and name: what the manifest names, and what it holds there."""
    tables = storage.read_manifest(f"file://{output}")
    parts = [(table, part) for table, names in tables.items() for part in names]
    return {f"{table}: {part}": hashlib.sha256((output / part).read_bytes()).hexdigest() for table, part in parts}


def others_of(output: Path) -> list[str]:
    """The names of all other files of an output."""
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    return sorted(names - {name.partition(": ")[2] for name in tables_of(output)})


if __name__ == "__main__":
    main()
