"""The job `benchmark`: alter and hash the inputs, compare what came of them, choose thresholds, write the report."""

import time
from collections.abc import Sequence

from neardup import report, storage
from neardup.config import BenchmarkJob
from neardup.errors import UsageError
from neardup.run import Claim, Workers, cluster_from_file
from neardup.stages import altering, live, nearing, originals, scoring
from neardup.stages.listing import Listing, list_images
from neardup_jobs.dedup import Summary, _since, input_options, run_over
from neardup_jobs.progress import Style, stage


def run_benchmark(job: BenchmarkJob, style: Style) -> Summary:
    """METRICS of the hashers and their report; gives the summary that is also written as run.json."""
    if isinstance(job.cluster, str) and job.cluster.endswith((".yaml", ".yml")):
        job = job.model_copy(update={"cluster": cluster_from_file(job.cluster)})
    altering.check_category(job.category)
    alterations = altering.read_alterations(job.transforms, job.encode, job.keep_images)
    makers = altering.altered_makers(job.hashers, alterations.altering)
    if len({maker.folder for maker in makers}) < len(makers):
        raise UsageError("a hasher is given twice; give each once")
    rule = originals.read_rule(job.duplicates, alterations.altering.stamp)
    wanted = scoring.Wanted(job.fpr, job.fpr_threshold, job.precision_threshold)
    scoring.check_wanted(wanted)

    def score(root: str, pool: Workers, summary: Summary, check: Claim) -> None:
        noop = alterations.altering.transforms[0]
        begun = time.perf_counter()
        parts, duplicates = originals.write_originals(root, rule, job.category, noop)
        scored = originals.read_originals(root, parts)
        summary["originals"] = {"scored": len(scored.uris), "duplicates": duplicates, "categories": len(scored.names)}
        summary["stages"]["originals"] = {"seconds": _since(begun)}
        tasks = _near_stage(root, makers, alterations, scored, parts, job, wanted, pool, summary, style)
        _score_stage(root, tasks, parts, pool, summary, style, check)
        begun = time.perf_counter()
        summary["best"] = report.write_report(root, report.live_results(root, alterations.by_name, job.fpr[0]))
        summary["stages"]["report"] = {"seconds": _since(begun)}

    def list_items() -> Listing:
        listing = list_images(job.inputs, input_options(job))
        altering.check_category_column(job.category, listing.media_columns)
        return listing

    by = [*makers, *([rule.maker] if rule.maker and rule.maker.spec not in {one.spec for one in makers} else [])]
    return run_over(job, by, style, list_items, score, alterations.altering)


def _near_stage(
    root: str,
    makers: Sequence[live.Maker],
    alterations: altering.Alterations,
    scored: originals.Originals,
    parts: Sequence[str],
    job: BenchmarkJob,
    wanted: scoring.Wanted,
    pool: Workers,
    summary: Summary,
    style: Style,
) -> list[scoring.ScoreTask]:
    """Compare the hashes of each hasher, tile by tile; gives what is left to do with what was found."""
    tasks = []
    for maker in makers:
        begun = time.perf_counter()
        prepared = nearing.prepare(root, maker, alterations.altering.transforms, scored, job.block_rows)
        compared = 0
        with stage(style, "compare", len(prepared.tasks), "tasks") as advance:
            for pairs in pool.mapper(nearing.near_tiles, prepared.tasks):
                compared += pairs
                advance(1, 0, 0)
        tasks.append(scoring.score_task(root, maker, prepared.all_tasks, parts, alterations.by_name, wanted))
        facts = {"seconds": _since(begun), "tasks": len(prepared.tasks), "compared": compared}
        summary["stages"][f"compare {maker.spec}"] = facts
    return tasks


def _score_stage(
    root: str,
    tasks: Sequence[scoring.ScoreTask],
    parts: Sequence[str],
    pool: Workers,
    summary: Summary,
    style: Style,
    check: Claim,
) -> None:
    begun = time.perf_counter()
    found = []
    with stage(style, "score", len(tasks), "hashers") as advance:
        for one in pool.mapper(scoring.score, tasks):
            found.append(one)
            advance(1, 0, 0)
    check()
    live.commit(root, scoring.with_scores(storage.read_manifest(root), parts, found), "score-", check.commits)
    summary["stages"]["score"] = {"seconds": _since(begun)}
