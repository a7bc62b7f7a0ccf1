"""The job `plan`: what a join would do, or, before anything is hashed, what there is to hash."""

import os
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from neardup import storage
from neardup.config import PlanJob
from neardup.errors import UsageError
from neardup.stages import planning
from neardup.stages.listing import list_inputs, total_bytes
from neardup_jobs.dedup import wanted_to_join
from neardup_jobs.progress import Style


def run_plan(job: PlanJob, _style: Style) -> dict[str, Any]:
    """The plan of each hasher's join of an output, or the counts of inputs that are no output; writes nothing."""
    root = storage.absolute(job.inputs[0])
    manifest = storage.read_manifest(root) if len(job.inputs) == 1 else {}
    if not manifest:
        listing = list_inputs(job.inputs)
        return {"inputs": list(job.inputs), "items": len(listing), "bytes": total_bytes(listing), "joins": {}}
    found = {}
    for maker, radius in wanted_to_join(job):
        if maker.folder not in manifest:
            raise UsageError(
                f"{job.inputs[0]!r} has no hashes of {maker.spec}; add them: neardup hash … --hasher {maker.spec}"
            )
        one = planning.outline(
            root, maker, radius, job.block_rows, job.min_quality, 0 if job.all_pairs else job.max_neighbours
        )
        found[maker.spec] = {"radius": list(radius), **planning.as_json(one, _workers(job))}
    return {"inputs": list(job.inputs), "joins": found}


def _workers(job: PlanJob) -> int:
    """How many workers the estimate is for: those of this machine, unless settings name a number."""
    if isinstance(job.cluster, dict):
        return int(job.cluster.get("workers", 1))
    return 1 if job.cluster == "none" else len(os.sched_getaffinity(0))


def show_plan(planned: dict[str, Any]) -> None:
    """The plan as tables, on standard output."""
    console = Console()
    if not planned["joins"]:
        console.print(f"{planned['items']:,} items, {decimal(planned['bytes'])}: nothing is hashed yet")
        return
    for spec, one in planned["joins"].items():
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), title=escape(spec), title_justify="left")
        metric, limit = one["radius"]
        unit = f"bits of {one['width_bits']}" if metric == "hamming" else metric
        left_out = f", {one['left_out']:,} left out" if one["left_out"] else ""
        before = f", {one['compared_before']:,} compared before" if one["compared_before"] else ""
        table.add_row("radius", f"{limit:g} {unit}")
        table.add_row("hashes", f"{one['rows']:,}{left_out}")
        table.add_row("distinct", f"{one['distinct']:,}{before}")
        table.add_row("tiles", f"{one['tiles']:,} of {one['blocks']:,} blocks, as {one['tasks']:,} tasks")
        table.add_row("reads", f"{decimal(one['bytes_read'])}")
        table.add_row(
            "seconds", f"about {one['seconds']:.2g} on {one['workers']} workers, {one['core_seconds']:.2g} on one core"
        )
        table.add_row("memory", f"about {decimal(one['worker_bytes'])} a worker, {decimal(one['driver_bytes'])} here")
        every = sum(plan["every_pair_seconds"] for plan in one["plans"])
        skew = max((plan["skew"] or 1.0 for plan in one["plans"]), default=1.0)
        table.add_row("every pair", f"would take {every:.2g} s on one core")
        table.add_row("skew", f"unrelated hashes agree on 8 bits {skew:.1f} times as often as uniform ones")
        for why, tiles in _by_reason(one["plans"]).items():
            table.add_row("how", escape(f"{tiles:,} tiles: {why}" if tiles < one["tiles"] else why))
        console.print(table)


def _by_reason(plans: list[dict[str, Any]]) -> dict[str, int]:
    """How many tiles are compared in each way, the most frequent first."""
    counts: dict[str, int] = {}
    for plan in plans:
        counts[plan["why"]] = counts.get(plan["why"], 0) + 1
    return dict(sorted(counts.items(), key=lambda each: -each[1])[:5])
