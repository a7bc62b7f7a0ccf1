"""The command line: `neardup dedup | hash | join | match | plan | benchmark | enrich | export | explain | report`."""

import inspect
import json
import logging
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from neardup import __version__, config
from neardup.errors import NeardupError, RunError, UsageError
from neardup_jobs import options, streams
from neardup_jobs.options import AsJson, Debug, Options
from neardup_jobs.progress import style_for

app = typer.Typer(
    help="Find near-duplicate images and videos in corpora from a folder to a data lake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

T = TypeVar("T")

EXIT_FAILED, EXIT_USAGE, EXIT_ITEM_ERRORS, EXIT_INTERRUPTED = 1, 2, 3, 130


def main() -> None:
    """Run the command line; the console script `neardup`."""
    streams.prepare()
    os.environ["PYTHONSAFEPATH"] = "1"  # whatever is started from here looks for no modules in the working folder
    app()


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show:
        print(f"neardup {__version__}")
        raise typer.Exit


def _add_job(
    name: str,
    kind: type[config.Job],
    runner: str,
    accepted: Options,
    about: str,
    *examples: str,
    shown_by: str = "neardup_jobs.summary:show_summary",
) -> None:
    """A command whose options are settings of a job. `runner` gets the job and a style, `shown_by` what that gives.

    Both are named, as module:function, and imported when needed: it takes a second, which --help need not.
    """

    def command(config_file: str | None, sets: list[str] | None, as_json: bool, debug: bool, **given: Any) -> None:
        flags = {accepted_by[parameter]: value for parameter, value in given.items()}
        threshold = flags.pop("threshold", None)

        def work() -> dict[str, Any]:
            job = config.load(kind, config_file, tuple(sets or ()), flags)
            summary: dict[str, Any] = pkgutil.resolve_name(runner)(_with_threshold(job, threshold), style_for(as_json))
            return summary

        summary = _guarded(work, debug)
        if as_json:
            print(json.dumps(summary, indent=1, default=datetime.isoformat))
        else:
            pkgutil.resolve_name(shown_by)(summary)
        _check_error_rate(summary)

    accepted_by = {key.replace(".", "_"): key for key in accepted}
    types = {parameter: accepted[key] for parameter, key in accepted_by.items()}
    types |= {"config_file": options.ConfigFile, "sets": options.Sets, "as_json": AsJson, "debug": Debug}
    where = inspect.Parameter.KEYWORD_ONLY
    defaults = {"as_json": False, "debug": False}
    parameters = [
        inspect.Parameter(parameter, where, annotation=annotated, default=defaults.get(parameter))
        for parameter, annotated in types.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = types
    app.command(name, help=about, epilog=_examples(examples))(command)


def _examples(lines: tuple[str, ...]) -> str:
    return "\n\n".join(("[bold]Examples[/]", *lines))


_HASHING = {**options.INPUTS, **options.OUTPUT, **options.HASHERS}
_READING = {**options.LISTING, **options.ISOMETRIC, **options.VIDEO}
_RUNNING = {**options.CLUSTER, **options.DECODING, **options.ERROR_RATE}

_add_job(
    "dedup",
    config.DedupJob,
    "neardup_jobs.dedup:run",
    {**_HASHING, **options.JOINING, **options.GROUPING, **_READING, **_RUNNING},
    "Find near duplicates: list, hash, join and group the media of the inputs.",
    "neardup dedup photos -o out",
    "neardup dedup photos more-photos -o out --hasher pdq --hasher dhash:hash_size=16@0.05",
    "neardup dedup photos -o out --threshold 0.1 --isometric --cluster none",
    "neardup dedup clips photos -o out --fps 2 --hasher phash:hash_size=16@0.2 --hasher tmkl1@0.05",
    "neardup dedup --config configs/dedup.yaml --set slices.items=200",
)
_add_job(
    "hash",
    config.HashJob,
    "neardup_jobs.dedup:run",
    {**_HASHING, **_READING, **_RUNNING},
    "Hash the media of the inputs; join them later with `neardup join`.",
    "neardup hash photos -o out",
    "neardup hash photos -o out --hasher pdq --hasher phash:hash_size=16",
)
_add_job(
    "join",
    config.JoinJob,
    "neardup_jobs.dedup:run",
    {**options.JOINED_OUTPUT, **options.HASHERS, **options.JOINING, **options.GROUPING, **options.CLUSTER},
    "Join the hashes that an output already has: pairs and groups, at another threshold.",
    "neardup join out --hasher phash:hash_size=16@0.15",
    "neardup join out --hasher pdq --radius-bits 31",
)
_add_job(
    "match",
    config.MatchJob,
    "neardup_jobs.match:run_match",
    {
        **options.OUTPUT_OR_INPUTS,
        **options.KNOWN,
        **options.OUTPUT,
        **options.HASHERS,
        **options.MATCHING,
        **options.LISTING,
        **options.ISOMETRIC,
        **options.CLUSTER,
        **options.ERROR_RATE,
    },
    "Match an output, or media that are hashed first, with lists of known hashes.",
    "neardup match out --known known.csv --hasher pdq --radius-bits 31",
    "neardup match photos -o out --known known.csv --known other-out --hasher pdq@0.1",
    "neardup match out -o found --known list.parquet --hash-column pdq --skip-bad-lines --hasher pdq",
)
_add_job(
    "benchmark",
    config.BenchmarkJob,
    "neardup_jobs.benchmark:run_benchmark",
    {**options.INPUTS, **options.OUTPUT, **options.BENCHMARK, **options.CLUSTER, **options.ERROR_RATE},
    "Measure how well each hash finds altered pictures of your own, and choose thresholds.",
    "neardup benchmark photos -o scores",
    "neardup benchmark photos -o scores --hasher pdq --hasher cropresistant --transform blur:2 "
    "--transform crop:0.1+jpeg:60",
    "neardup benchmark photos -o scores --category 'pattern:/(20[0-9]{2})/' --fpr 0.01 --fpr 0.001",
    "neardup dedup photos -o out --hasher pdq --threshold @scores/thresholds.yaml",
)
_add_job(
    "enrich",
    config.EnrichJob,
    "neardup_jobs.enrich:run_enrich",
    {
        **options.TABLE,
        **options.OUTPUT,
        **options.KNOWN,
        **options.HASHERS,
        **options.MATCHING,
        **options.BLOCK_BY,
        **options.GROUPING,
        **options.ISOMETRIC,
        **options.CLUSTER,
        **options.ERROR_RATE,
    },
    "Write a Parquet table again with columns of hashes, groups and what to keep, row for row.",
    "neardup enrich photos.parquet --uri-column url -o out",
    "neardup enrich s3://lake/images/ --uri-column path --base s3://media -o s3://lake/neardup --prefix neardup_",
    "neardup enrich photos.parquet --uri-column url -o out --hasher pdq --known blocked.csv",
)
_add_job(
    "plan",
    config.PlanJob,
    "neardup_jobs.plan:run_plan",
    {**options.OUTPUT_OR_INPUTS, **options.HASHERS, **options.MATCHING, **options.CLUSTER},
    "Say how a join would go about it: blocks, tiles, bands, seconds, memory. Nothing is joined or written.",
    "neardup plan out --hasher pdq --radius-bits 31",
    "neardup plan photos",
    shown_by="neardup_jobs.plan:show_plan",
)


_add_job(
    "export",
    config.ExportJob,
    "neardup_jobs.export:run_export",
    options.EXPORT,
    "Copy what is kept, list what is not. Nothing is deleted or overwritten.",
    "neardup export out --survivors clean",
    "neardup export out --survivors s3://clean/photos --as tar --delete-list drop.csv",
    "neardup export out --delete-list drop.txt",
    shown_by="neardup_jobs.export:show_export",
)
_add_job(
    "explain",
    config.ExplainJob,
    "neardup_jobs.explain:run_explain",
    options.EXPLAIN,
    "Show everything the tables say of one item.",
    "neardup explain out photos/2024/beach.jpg",
    "neardup explain out s3://bucket/beach.jpg --json",
    shown_by="neardup_jobs.explain:show_explained",
)


@app.command(
    epilog="""[bold]Examples[/]

neardup report out

neardup report s3://bucket/scores"""
)
def report(
    output: Annotated[str, typer.Argument(metavar="OUT", help="An output of dedup, join, match or benchmark.")],
    debug: Debug = False,
) -> None:
    """Write a page to look at: what could go and what failed, or the page of a benchmark again."""
    from neardup_jobs.report import run_report

    for place in _guarded(lambda: run_report(output), debug):
        print(place)


@app.command(name="config")
def config_(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A command, such as dedup or export.")],
) -> None:
    """Print every setting of a job as YAML, with its default and its meaning."""
    if job not in config.JOBS:
        _fail(UsageError(f"unknown job {job!r}; known are {', '.join(config.JOBS)}"), EXIT_USAGE)
    print(config.dump(config.JOBS[job]), end="")


def _check_error_rate(summary: dict[str, Any]) -> None:
    rate = summary.get("config", {}).get("max_error_rate")
    failed = sum(summary.get("failed", {}).values())
    if rate is not None and failed > rate * summary["listed"]:
        print(f"{failed:,} of {summary['listed']:,} items failed: more than --max-error-rate {rate:g}", file=sys.stderr)
        raise typer.Exit(EXIT_ITEM_ERRORS)


def _guarded(work: Callable[[], T], debug: bool) -> T:
    """What the work gives; its errors as one line and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop ends a run as Ctrl-C does
    _show_notices(debug)
    try:
        return work()
    except NeardupError as error:
        if debug:
            traceback.print_exc()
        _fail(error, EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
    except KeyboardInterrupt:
        _deafen()
        print("interrupted; what is finished stays, the same command goes on from there", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        _fail(RunError(f"bug: {type(error).__name__}: {error}; please report it with what --debug shows"), EXIT_FAILED)


def _show_notices(debug: bool) -> None:
    """Notices of the library, one line each on standard error; with --debug, those of Dask too."""
    notices = logging.getLogger("neardup")
    notices.setLevel(logging.DEBUG if debug else logging.WARNING)
    if not notices.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("neardup: %(message)s"))
        notices.addHandler(handler)
        notices.propagate = False


def _deafen() -> None:
    """The end has begun: being asked again changes nothing, and would interrupt the tidying up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _with_threshold(job: config.Job, threshold: str | None) -> config.Job:
    if threshold is None or not isinstance(job, config.HashesJob):
        return job
    if threshold.startswith("@"):
        hashers = config.with_thresholds(job.hashers, threshold.removeprefix("@"))
        return job.model_copy(update={"hashers": hashers})
    try:
        value = float(threshold)
    except ValueError as error:
        raise UsageError(f"--threshold {threshold!r}: give a number such as 0.1, or @FILE") from error
    if len(job.hashers) > 1:
        raise UsageError("--threshold goes with a single hasher; with several, give each SPEC@THRESHOLD")
    spec = job.hashers[0].partition("@")[0]
    return job.model_copy(update={"hashers": (f"{spec}@{value:g}",)})


def _fail(error: Exception, code: int) -> NoReturn:
    print(f"neardup: {' '.join(str(error).split())}", file=sys.stderr)
    raise typer.Exit(code)
