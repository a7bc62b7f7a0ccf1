"""The job `match`: hash the inputs if they are no output yet, compare them with known lists, write MATCHES."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from neardup import storage
from neardup.config import EnrichJob, MatchJob
from neardup.errors import UsageError
from neardup.run import Claim, Workers, claimed, cluster_from_file, workers
from neardup.stages import live, matching, tiles
from neardup.stages.known import Known, ListOptions, output_of
from neardup_jobs.dedup import Summary, _options, _since, _summary, run_over_inputs, tell
from neardup_jobs.progress import Style, stage


class Wanted(NamedTuple):
    """One hasher of a match with its radius, and the lists, read."""

    how: matching.Wanted
    lists: list[Known]


def run_match(job: MatchJob, style: Style) -> Summary:
    """MATCHES of an output or of inputs; gives the summary that is also written as run.json."""
    if isinstance(job.cluster, str) and job.cluster.endswith((".yaml", ".yml")):
        job = job.model_copy(update={"cluster": cluster_from_file(job.cluster)})
    source = output_of(job.inputs[0]) if len(job.inputs) == 1 else None
    return _match_inputs(job, style) if source is None else _match_output(job, source.root, style)


def _match_output(job: MatchJob, source: str, style: Style) -> Summary:
    """MATCHES of the hashes that an output has, written there or to another output."""
    root = storage.absolute(job.output) if job.output != job.inputs[0] else source
    wanted = wanted_to_match(job, source)
    with _summary(job, root) as summary, workers(job.cluster) as pool, claimed(root, tell) as check:
        match_stages(source, root, wanted, job, pool, summary, style, check)
    return summary


def _match_inputs(job: MatchJob, style: Style) -> Summary:
    """MEDIA, HASHES and MATCHES of inputs."""
    if job.output == job.inputs[0]:
        raise UsageError(f"{job.output!r} is not an output of neardup; to hash it first, say where to: --output OUT")
    wanted = wanted_to_match(job, None)

    def match(root: str, pool: Workers, summary: Summary, check: Claim) -> None:
        match_stages(root, root, wanted, job, pool, summary, style, check)

    makers = [one.how.maker._replace(isometric=job.isometric) for one in wanted]
    return run_over_inputs(job, makers, style, match)


def wanted_to_match(job: MatchJob | EnrichJob, source: str | None) -> list[Wanted]:
    """The hashers of a job with their lists, read before any work. Raises UsageError for what cannot be matched."""
    if job.radius_bits is not None and len(job.hashers) > 1:
        raise UsageError("--radius-bits goes with a single hasher; with several, give each SPEC@THRESHOLD")
    corpus = source or storage.absolute(job.output)
    options = ListOptions(job.hash_column, job.skip_bad_lines)
    found = []
    for text in job.hashers:
        how = matching.wanted(text, job.radius_bits)
        decode = matching.corpus_decode(source, how.maker) if source else _options(job).policy.spec
        found.append(Wanted(how, matching.read_lists(job.known, how.maker, corpus, decode, options)))
    if len({one.how.maker.folder for one in found}) < len(found):
        raise UsageError("a hasher is given twice; give each once")
    return found


def match_stages(
    source: str,
    root: str,
    wanted: Sequence[Wanted],
    job: MatchJob | EnrichJob,
    pool: Workers,
    summary: Summary,
    style: Style,
    check: Claim,
) -> None:
    summary["matches"] = []
    for how, lists in wanted:
        maker, radius = how
        corpus = matching.read_corpus(source, maker, job.min_quality)
        for listed in lists:
            begun = time.perf_counter()
            entries = matching.side_of(listed)
            prepared = matching.prepare(root, corpus.side, entries, how, job.block_rows)
            done: Counter[str] = Counter()
            with stage(style, "match", len(prepared.tasks), "tiles") as advance:
                for tile in pool.mapper(tiles.join_tile, prepared.tasks):
                    done.update(tiles=1, compared=tile.compared, matching_hashes=tile.matches)
                    advance(1, 0, 0)
            matches = matching.all_matches(root, prepared)
            made_by = matching.made_by(maker, listed, radius)
            tables = matching.match_tables(maker, corpus.side, listed, entries, matches)
            written = matching.write_matches(root, tables, made_by)
            check()
            manifest = matching.with_matches(root, storage.read_manifest(root), made_by, written)
            live.commit(root, manifest, "match-", check.commits)
            facts = {"hasher": maker.spec, "list": listed.name, "rows": written.rows, "items": written.items}
            summary["matches"].append({**facts, "bad_lines": listed.left_out["bad_lines"]})
            summary["stages"][f"match {maker.spec} {listed.name}"] = {
                "seconds": _since(begun),
                "radius": list(radius),
                "version": listed.version,
                "hashes": len(corpus.side.items),
                "left_out": corpus.left_out,
                "entries": len(entries.names),
                "list_left_out": listed.left_out,
                **facts,
                **done,
            }
