"""The jobs `hash`, `join` and `dedup`: stages in order, on workers, under a claim, with a summary at the end."""

import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple, get_args

from neardup import joins, storage
from neardup.child import Limits
from neardup.config import DedupJob, EnrichJob, HashesJob, HashJob, InputJob, Job, JoinJob
from neardup.errors import ErrorClass, RunError, UsageError
from neardup.hashers import parse, recommended_threshold
from neardup.media import DecodePolicy
from neardup.run import Claim, Workers, claimed, cluster_from_file, workers
from neardup.stages import cutting, grouping, hashing, joining, live, pairing, probing, tiles
from neardup.stages.listing import InputOptions, Listing, list_inputs, total_bytes
from neardup.stages.lists import ListOptions
from neardup.work import Altering, Sampling
from neardup_jobs.progress import Style, stage

_LIBRARIES = ("neardup", "dask", "distributed", "numpy", "numba", "opencv-python-headless", "pillow", "pyarrow")


class Wanted(NamedTuple):
    """One hasher of a join, and how near its hashes must be."""

    maker: live.Maker
    radius: tiles.Radius


Summary = dict[str, Any]


def run(job: HashesJob, style: Style) -> Summary:
    """Run any of the jobs of this module; gives the summary that is also written as run.json."""
    if isinstance(job.cluster, str) and job.cluster.endswith((".yaml", ".yml")):
        job = job.model_copy(update={"cluster": cluster_from_file(job.cluster)})
    if isinstance(job, DedupJob):
        return run_dedup(job, style)
    if isinstance(job, HashJob):
        return run_hash(job, style)
    assert isinstance(job, JoinJob)
    return run_join(job, style)


def run_hash(job: HashJob, style: Style) -> Summary:
    """MEDIA and HASHES of the inputs."""
    makers = [live.maker(parse(text.partition("@")[0]), job.isometric) for text in job.hashers]
    return run_over_inputs(job, makers, style)


def run_dedup(job: DedupJob, style: Style) -> Summary:
    """MEDIA, HASHES, PAIRS and GROUPS of the inputs."""
    wanted = wanted_to_join(job, job.isometric)

    def join(root: str, pool: Workers, summary: Summary, check: Claim) -> None:
        join_stages(root, wanted, job, pool, summary, style, check)

    return run_over_inputs(job, [one.maker for one in wanted], style, join)


def run_join(job: JoinJob, style: Style) -> Summary:
    """PAIRS and GROUPS of the hashes that the output has."""
    wanted = wanted_to_join(job)
    root = storage.absolute(job.output)
    manifest = storage.read_manifest(root)
    if not manifest:
        raise UsageError(f"{job.output!r} is not an output of neardup; make one with: neardup hash INPUT --output …")
    for maker, _ in wanted:
        if maker.folder not in manifest:
            raise UsageError(
                f"{job.output!r} has no hashes of {maker.spec}; add them: neardup hash … --hasher {maker.spec}"
            )
    with _summary(job, root) as summary, workers(job.cluster) as pool, claimed(root, tell) as check:
        join_stages(root, wanted, job, pool, summary, style, check)
    return summary


def wanted_to_join(job: JoinJob, isometric: bool = False) -> list[Wanted]:
    """The hashers of a job with the radius of each. Raises UsageError for what cannot be joined."""
    if job.radius_bits is not None and len(job.hashers) > 1:
        raise UsageError("--radius-bits goes with a single hasher; with several, give each SPEC@THRESHOLD")
    if job.engine == "annoy":
        joins.require_annoy()
    for rule in job.block_by:
        pairing.check_block_rule(rule)
    grouping.read_policy(job.groups, job.keep, job.protect)
    wanted = []
    for text in job.hashers:
        spec, _, threshold = text.partition("@")
        maker = live.maker(parse(spec), isometric)
        if job.radius_bits is None:
            wanted.append(Wanted(maker, joining.radius_of(maker, _threshold(maker, text, threshold))))
        elif maker.hasher.distance_metric == "hamming":
            wanted.append(Wanted(maker, tiles.Radius("hamming", min(job.radius_bits, maker.hasher.hash_length))))
        else:
            raise UsageError(f"--radius-bits does not fit {maker.spec}, whose hashes are real-valued; give a threshold")
        if job.engine == "annoy" and wanted[-1].radius.metric != "hamming":
            raise UsageError(
                f"--engine annoy joins hashes of bits, and those of {maker.spec} are real-valued: leave it"
            )
    return wanted


def _threshold(maker: live.Maker, text: str, given: str) -> float:
    if given:
        try:
            return float(given)
        except ValueError as error:
            raise UsageError(f"{text!r}: the threshold {given!r} is not a number; write SPEC@0.2") from error
    recommended = recommended_threshold(maker.hasher)
    if recommended is None:
        raise UsageError(f"{maker.spec} has no recommended threshold; give one: --hasher {maker.spec}@0.1")
    return recommended


# --- stages -----------------------------------------------------------------------------------------------------------


Then = Callable[[str, Workers, Summary, Claim], None]

_AS_THEY_ARE = Altering()
_FEW_ITEMS = 10  # tried: fewer say nothing about their store


def run_over_inputs(job: HashJob, makers: Sequence[live.Maker], style: Style, then: Then | None = None) -> Summary:
    """List and hash the inputs of a job, then do what comes after, under one claim and on the same workers."""

    def list_items() -> Listing:
        listing = list_inputs(job.inputs, input_options(job))
        if isinstance(job, DedupJob):
            pairing.check_block_columns(job.block_by, listing.media_columns)
        return listing

    return run_over(job, makers, style, list_items, then)


def run_over(
    job: InputJob,
    makers: Sequence[live.Maker],
    style: Style,
    list_items: Callable[[], Listing],
    then: Then | None,
    altering: Altering = _AS_THEY_ARE,
) -> Summary:
    """The same for any LISTING, and for pictures that are altered before they are hashed."""
    if len({maker.folder for maker in makers}) < len(makers):
        raise UsageError("a hasher is given twice; give each once")
    storage.forget_hosts()
    root = _checked_output(job)
    manifest = storage.read_manifest(root)
    begun = time.perf_counter()
    storage.limit_hosts(job.per_host)
    options = replace(_options(job), altering=altering)
    added = [maker for maker in makers if maker.folder not in manifest]
    start_child = partial(hashing.start_worker, tuple(maker.spec for maker in added or makers), options)
    try:
        if job.cluster == "none":
            start_child()  # while the inputs are listed
        listing = list_items()
        with _summary(job, root, write=bool(len(listing) or manifest or isinstance(job, EnrichJob))) as summary:
            summary["stages"]["list"] = {"seconds": _since(begun), "items": len(listing), "bytes": total_bytes(listing)}
            summary["listed"] = len(listing)
            summary["unread"] = [{"place": storage.redacted(place.uri), "why": place.why} for place in listing.unread]
            summary["passed_by"] = listing.passed_by
            if not summary["written"]:
                return summary
            with workers(job.cluster) as pool, claimed(root, tell) as check:
                pool.on_each_thread(start_child)
                with _probed(root, listing, pool):
                    _hash_stage(root, listing, makers, options, job, pool, summary, style, check)
                    hashing.close_worker()  # its memory is of no use to what follows
                    pool.on_each_thread(hashing.close_worker)
                    if then:
                        then(root, pool, summary, check)
        return summary
    finally:
        hashing.close_worker()


def _checked_output(job: InputJob) -> str:
    root = storage.absolute(job.output)
    for given in job.inputs:
        where = storage.absolute(given)
        if storage.is_inside(root, where) or storage.is_inside(where, root):
            raise UsageError(f"output {job.output!r} and input {given!r} lie inside each other; give a separate output")
    return root


def _hash_stage(
    root: str,
    listing: Listing,
    makers: Sequence[live.Maker],
    options: hashing.HashingOptions,
    job: InputJob,
    pool: Workers,
    summary: Summary,
    style: Style,
    check: Claim,
) -> None:
    begun = time.perf_counter()
    options = replace(options, salt=check.commits.salt)
    usable = live.usable_parts(root, makers, options.ways)
    gone = live.removed(root, listing, usable.manifest)
    _not_too_many_removed(gone, job.max_removed)
    live_parts = {name for names in usable.manifest.values() for name in names}
    pictures = max(1, len(options.altering.transforms))  # that an item is made into: a slice holds so many fewer items
    most = max(1, min(job.slices.items // pictures, -(-len(listing) // (4 * pool.count))))
    how = live.Cutting(most, job.slices.bytes, job.video.slice_bytes, _retried(job))
    tasks: list[hashing.HashTask] = []
    long: set[str] = set()
    waiting = 0
    for todo in live.todo(root, listing, usable, makers, how):
        prepared = hashing.prepare(root, todo, makers, options, live_parts)
        long |= cutting.long_videos(todo.rows, todo.slices, prepared, job.video.slice_bytes)
        waiting += sum(len(one.rows) for one in todo.slices)
        tasks += prepared
    done: Counter[str] = Counter()
    written: dict[str, tuple[str, ...]] = {}
    transient: Counter[str] = Counter()  # failures by MEDIA part
    useless: set[str] = set()  # parts of nothing but these
    with stage(style, "hash", waiting, "items") as advance:
        for receipt in _hashed(tasks, long, job.video.segment_s, pool, done):
            written[receipt.part] = receipt.folders
            transient[receipt.part] = receipt.failed.get("transient", 0)
            if transient[receipt.part] == receipt.items:
                useless.add(receipt.part)
            done.update(
                items=receipt.items,
                bytes_read=receipt.bytes_read,
                bytes_written=receipt.bytes_written,
                children_replaced=receipt.children_replaced,
            )
            advance(receipt.items, receipt.bytes_read, sum(receipt.failed.values()))
    summary["workers_lost"], summary["workers_left_out"] = pool.lost(), dict(pool.excluded)
    check()
    if _too_many(transient.total(), done["items"], job.max_unreachable) and done["items"] >= _FEW_ITEMS:
        failures = live.unreachable(root, [name for name in written if transient[name]])
        live.drop(root, {name: written[name] for name in useless})
        raise _store_is_down(failures, done["items"])
    kept = live.settle(root, listing, usable, makers, written)
    check()
    committed = live.commit(root, kept.manifest, "slices-", check.commits)
    counts = live.count(root, committed, makers)
    summary["stages"]["hash"] = {"seconds": _since(begun), "slices": len(tasks), **done}
    summary.update(listed=kept.items, decoded=counts.decoded, failed=counts.failed, stale=counts.stale)
    summary.update(removed=gone.items, hashers=counts.hashers)
    _nothing_vanished(kept.items, counts)


def _too_many(some: int, of: int, share: float) -> bool:
    return some > share * of


def _not_too_many_removed(gone: live.Removed, most: float) -> None:
    """Raises RunError where more than this share of what is known is no longer listed."""
    if _too_many(gone.items, gone.of, most):
        where = f", all below {gone.prefix}" if gone.prefix else ""
        raise RunError(
            f"{gone.items:,} of {gone.of:,} items of the last commit are not listed any more{where}; nothing was "
            "committed: is a disk not mounted, or an input not given? If they are to go, allow it with "
            "--max-removed 1"
        )


def _store_is_down(failures: live.Unreachable, tried: int) -> RunError:
    return RunError(
        f"the store seems to be down: {failures.items:,} of {tried:,} items could not be read, most at "
        f"{failures.most_at} (first: {failures.first}); nothing was committed: run again, or allow it with "
        "--max-unreachable 1"
    )


def _hashed(
    tasks: Sequence[hashing.HashTask], long: set[str], segment_s: float, pool: Workers, done: Counter[str]
) -> Iterator[hashing.Receipt]:
    """Hash all slices: long videos in segments, beside the others, and merged at the end."""
    cuts = [cutting.CutTask(task, segment_s) for task in tasks if task.part in long]
    videos = [cutting.segment_tasks(video) for video in pool.mapper(cutting.cut_video, cuts)]
    segments = [task for video in videos for task in video]
    in_segments = {task.slice.part for task in segments}
    whole = [task for task in tasks if task.part not in in_segments]
    parts: list[cutting.SegmentTask | hashing.HashTask] = [*segments, *whole]
    while parts:
        again: list[cutting.SegmentTask | hashing.HashTask] = []
        for outcome in pool.mapper(cutting.hash_part, parts):
            if isinstance(outcome, hashing.Receipt):
                yield outcome
            elif isinstance(outcome, hashing.Unseen):
                again.append(_looked_at(outcome, pool))
            else:
                done.update(segments=1, children_replaced=outcome.children_replaced)
        parts = again
    for receipt in pool.mapper(cutting.merge_segments, [video for video in videos if video]):
        assert isinstance(receipt, hashing.Receipt)  # the segments were there
        yield receipt


def _looked_at(unseen: hashing.Unseen, pool: Workers) -> cutting.SegmentTask | hashing.HashTask:
    """The task again: for others, where only that worker does not see what was listed; else to record the loss."""
    task: cutting.SegmentTask | hashing.HashTask = unseen.task
    visible = [uri for uri in unseen.uris if not hashing.is_gone(uri)]
    if pool.exclude is None or not visible:
        return cutting.confirmed(task)
    pool.exclude(unseen.worker, f"it does not see {storage.redacted(visible[0])}, which is there")
    return task


@contextmanager
def _probed(root: str, listing: Listing, pool: Workers) -> Iterator[None]:
    """While the block lasts, every worker that begins must reach the output and a few of the inputs."""
    if pool.exclude is None:
        yield
        return
    with probing.probing(root, probing.some_objects(listing)) as probe, pool.checked(probe):
        yield


def input_options(job: InputJob) -> InputOptions:
    """Which objects of its inputs a job lists."""
    lists = ListOptions(job.uri_column, job.columns)
    return InputOptions(job.exclude, lists, job.slices.rows_in_memory)


def _retried(job: InputJob) -> frozenset[str]:
    """The error classes whose items are tried again, besides transient ones."""
    return frozenset(get_args(ErrorClass) if "all" in job.retry_errors else job.retry_errors)


def _options(job: InputJob) -> hashing.HashingOptions:
    return hashing.HashingOptions(
        policy=DecodePolicy(alpha=job.decode.alpha, max_pixels=job.decode.max_pixels),
        sampling=Sampling(
            None if job.video.frames_per_second == "all" else job.video.frames_per_second,
            job.video.interframe_threshold,
            job.video.min_quality,
            job.video.unletterbox,
            job.video.max_side,
            job.video.max_duration_s,
        ),
        limits=Limits(job.child.deadline_s, job.video.deadline_s, job.child.memory_limit),
        max_bytes=job.decode.max_bytes,
        read_budget_bytes=job.slices.read_budget,
        isometric=isinstance(job, HashJob) and job.isometric,
        in_child=job.child.enabled,
        per_host=job.per_host,
    )


def _nothing_vanished(listed: int, counts: live.Counts) -> None:
    if listed != counts.decoded + sum(counts.failed.values()):
        raise RunError(f"bug: {listed} items listed, but {counts.decoded} decoded and {counts.failed} failed")
    for spec, one in counts.hashers.items():
        if counts.decoded != one["with_hash"] + one["without_hash"]:
            raise RunError(f"bug: {counts.decoded} items decoded, but {spec} has {one}")


def join_stages(
    root: str, wanted: Sequence[Wanted], job: JoinJob, pool: Workers, summary: Summary, style: Style, check: Claim
) -> None:
    summary["pairs"] = {}
    pairing.check_block_columns(job.block_by, pairing.media_columns(root))
    rules = pairing.Rules(job.block_by, job.all_pairs, job.min_overlap, job.min_matches)
    most = 0 if job.all_pairs else job.max_neighbours
    annoy = joins.Annoy(job.trees, job.search_k) if job.engine == "annoy" else None
    pool.on_each_thread(tiles.warm_up)  # while the hashes are gathered here
    for maker, radius in wanted:
        begun = time.perf_counter()
        prepared = joining.prepare(root, maker, radius, job.block_rows, job.min_quality, most, annoy)
        prepared_s = _since(begun)
        if tiles.one_by_one(maker.hasher):
            count = len(prepared.distinct.hashes)
            print(f"{maker.spec} has a distance of its own: {count:,} hashes are compared one by one", file=sys.stderr)
        done: Counter[str] = Counter()
        with stage(style, "join", len(prepared.tasks), "tiles") as advance:
            for tile in pool.mapper(tiles.join_tile, prepared.tasks):
                done.update(tiles=1, compared=tile.compared, matching_hashes=tile.matches)
                advance(1, 0, 0)
        joined_s = _since(begun)
        near = joining.all_matches(root, prepared)
        found = pairing.write_pairs(root, maker, prepared, near, rules)
        joined = joining.write_joined(root, maker, prepared, near) if annoy is None else {}
        check()
        manifest = {**storage.read_manifest(root), **joined}
        live.commit(root, pairing.with_pairs(root, manifest, maker, found), "join-", check.commits)
        summary["pairs"][maker.spec] = found.pair_rows
        summary["stages"][f"join {maker.spec}"] = {
            "seconds": _since(begun),
            "seconds_preparing": prepared_s,
            "seconds_of_tiles": round(joined_s - prepared_s, 3),
            "radius": list(radius),
            "hashes": len(prepared.rows.items),
            "distinct_hashes": len(prepared.distinct.hashes),
            "left_out": prepared.left_out,
            "pairs": found.pair_rows,
            "pairs_left_out": found.left_out,
            "hubs": found.hub_rows,
            **done,
        }
        if annoy:
            measured = joining.measured_recall(prepared, near, radius)
            summary["stages"][f"join {maker.spec}"]["measured"] = measured
    begun = time.perf_counter()
    grouped = grouping.write_groups(root, grouping.read_policy(job.groups, job.keep, job.protect))
    check()
    live.commit(root, {**storage.read_manifest(root), "groups": grouped.names}, "", check.commits)
    summary["stages"]["group"] = {"seconds": _since(begun), "alone": grouped.alone, "protected": grouped.protected}
    summary.update(groups=grouped.groups, grouped_items=grouped.items, duplicate_bytes=grouped.duplicate_bytes)


def tell(line: str) -> None:
    """Say one line to the user while a job runs."""
    print(line, file=sys.stderr, flush=True)


# --- summary ----------------------------------------------------------------------------------------------------------


@contextmanager
def _summary(job: Job, root: str, write: bool = True) -> Iterator[Summary]:
    """The facts of a run; written as run.json when the run ended well."""
    summary: Summary = {
        "job": next(name for name in type(job).__name__.lower().split("job") if name),
        "output": root,
        "written": write,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": _shown(job.model_dump(mode="json")),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "listed": 0,
        "decoded": 0,
        "failed": {},
        "stale": 0,
        "stages": {},
    }
    begun = time.perf_counter()
    yield summary
    summary["seconds"] = _since(begun)
    if write:
        storage.write(root, "run.json", json.dumps(summary, indent=1).encode())


def _shown(value: Any) -> Any:
    """A configuration without the secrets of the urls in it."""
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return storage.redacted(value) if isinstance(value, str) else value


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 3)
