"""The job `enrich`: hash, join, group and match the media of a table, then write the table with what was found."""

import time
from collections import Counter

import pyarrow as pa

from neardup import storage, tables
from neardup.config import EnrichJob
from neardup.run import Claim, Workers, cluster_from_file
from neardup.stages import enriching, live, pairing
from neardup.stages.enriching import Addressed, Source
from neardup.stages.listing import list_uris
from neardup_jobs.dedup import Summary, _since, join_stages, run_over, wanted_to_join
from neardup_jobs.match import match_stages, wanted_to_match
from neardup_jobs.progress import Style, stage


def run_enrich(job: EnrichJob, style: Style) -> Summary:
    """All tables of the media that a table names, and ENRICHED; gives the summary that is also written as run.json."""
    if isinstance(job.cluster, str) and job.cluster.endswith((".yaml", ".yml")):
        job = job.model_copy(update={"cluster": cluster_from_file(job.cluster)})
    to_join = wanted_to_join(job, job.isometric)
    makers = [one.maker for one in to_join]
    to_match = wanted_to_match(job, None) if job.known else []
    source = enriching.find_table(job.inputs[0], job.uri_column, job.base)
    lists = sorted({listed.name for one in to_match for listed in one.lists}) if job.known else None
    wanted = enriching.Wanted(makers, lists, job.prefix)
    enriching.check_columns(source, wanted)
    pairing.check_block_columns(job.block_by, tables.MEDIA.names)
    addressed = enriching.read_uris(source)

    def list_items() -> pa.Table:
        return list_uris(addressed.uris)

    def finish(root: str, pool: Workers, summary: Summary, check: Claim) -> None:
        join_stages(root, to_join, job, pool, summary, style, check)
        match_stages(root, root, to_match, job, pool, summary, style, check)
        _enrich_stage(root, source, addressed, wanted, pool, summary, style, check)

    return run_over(job, makers, style, list_items, finish)


def _enrich_stage(
    root: str,
    source: Source,
    addressed: Addressed,
    wanted: enriching.Wanted,
    pool: Workers,
    summary: Summary,
    style: Style,
    check: Claim,
) -> None:
    begun = time.perf_counter()
    new = enriching.new_columns(root, addressed.uris, wanted)
    tasks = enriching.prepare(root, source, addressed, new, {"hashers": [maker.stamp for maker in wanted.makers]})
    check()
    done: Counter[str] = Counter()
    with stage(style, "enrich", len(tasks), "files") as advance:
        for receipt in pool.mapper(enriching.enrich_file, tasks):
            done.update(rows=receipt.rows, files_written=int(receipt.written))
            advance(1, 0, 0)
    stale = enriching.stale_files(root, source)
    live.commit(root, storage.read_manifest(root), "enrich-", check.commits)
    check.commits.delete(stale)
    summary["enriched"] = {"rows": done["rows"], "files": len(tasks), "folder": f"{root}/{enriching.FOLDER}"}
    facts = {"uris": len(addressed.uris), "files_written": done["files_written"], "files_removed": len(stale)}
    summary["stages"]["enrich"] = {"seconds": _since(begun), **summary["enriched"], **facts}
