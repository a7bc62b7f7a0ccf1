"""The command line: `neardup dedup | hash | join | match | plan | benchmark | enrich | export | explain | config`."""

import json
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.progress import style_for
from pipeline import __version__, config
from pipeline.errors import NeardupError, RunError, UsageError

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

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT…", help="Folders, globs, media files, .tar, .zip, or lists (.txt, .csv, .jsonl, .parquet)."
    ),
]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="OUT", help="Folder or url of the tables.")]
Hashers = Annotated[
    list[str] | None,
    typer.Option("--hasher", metavar="SPEC[@T]", help="A hasher, its parameters, its threshold; repeat for several."),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="T|@FILE",
        help="Match below this distance, with a single hasher; or by the thresholds.yaml of a benchmark.",
    ),
]
RadiusBits = Annotated[
    int | None, typer.Option("--radius-bits", metavar="N", help="Match at N differing bits or fewer, instead.")
]
MinQuality = Annotated[
    int | None,
    typer.Option("--min-quality", metavar="Q", help="Leave hashes of lower quality (0-100) out of the join."),
]
BlockBy = Annotated[
    list[str] | None,
    typer.Option(
        "--block-by",
        metavar="RULE",
        help="Pair only within the same folder, column:NAME (of MEDIA) or pattern:REGEX; repeat: any.",
    ),
]
MaxNeighbours = Annotated[
    int | None,
    typer.Option(
        "--max-neighbours",
        metavar="N",
        help="A hash near more than N others is a hub: its pairs with other hubs are thinned out.  [default: 1024]",
    ),
]
AllPairs = Annotated[bool, typer.Option("--all-pairs", help="Write every pair, however many copies or neighbours.")]
MinOverlap = Annotated[
    float | None,
    typer.Option("--min-overlap", metavar="R", help="Pair videos only if this share of one's frames match."),
]
MinMatches = Annotated[
    int | None, typer.Option("--min-matches", metavar="N", help="Pair videos only if so many frames match.")
]
Engine = Annotated[
    str | None,
    typer.Option("--engine", metavar="E", help="exact, or annoy: approximate, its recall measured.  [default: exact]"),
]
Trees = Annotated[int | None, typer.Option("--trees", metavar="N", help="Trees of an annoy index.  [default: 10]")]
SearchK = Annotated[
    int | None, typer.Option("--search-k", metavar="N", help="Nodes of it that a query inspects, instead of many.")
]
Groups = Annotated[
    str | None,
    typer.Option("--groups", metavar="KIND", help="component, diameter or clique-like.  [default: component]"),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="BY",
        help="Which item of a group to keep; repeat, the first decides: prefer:PREFIX, format:png>jpeg, duration, "
        "pixels, bytes, mtime, uri (smallest first; -pixels: largest first).  "
        "[default: -duration -pixels -bytes mtime uri]",
    ),
]
Protect = Annotated[
    list[str] | None,
    typer.Option("--protect", metavar="PREFIX", help="Never drop items whose uri begins so; repeat for several."),
]
Known = Annotated[
    list[str] | None,
    typer.Option(
        "--known", metavar="LIST", help="Known hashes: .csv, .jsonl, .parquet, .txt, or an output; repeatable."
    ),
]
HashColumn = Annotated[
    str | None, typer.Option("--hash-column", metavar="NAME", help="The lists' column of hashes.  [default: hash]")
]
SkipBadLines = Annotated[
    bool, typer.Option("--skip-bad-lines", help="Count a list's lines without a valid hash, and go on.")
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="C", help="none, local, tcp://HOST:PORT or FILE.yaml.  [default: local]"),
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE.yaml", help="Settings; a flag beats the file.")
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of `neardup config`.")]
FramesPerSecond = Annotated[
    str | None,
    typer.Option("--fps", metavar="N", help="Frames of videos to hash: per second, keyframes, or all.  [default: 1]"),
]
Interframe = Annotated[
    float | None,
    typer.Option("--interframe", metavar="D", help="Leave out frames this near the one before.  [default: 0.1]"),
]
FrameQuality = Annotated[
    int | None,
    typer.Option("--frame-quality", metavar="Q", help="Leave out frames of lower quality (0-100).  [default: 90]"),
]
Unletterbox = Annotated[bool, typer.Option("--unletterbox", help="Hash frames without the bars around them.")]
MaxDuration = Annotated[
    float | None, typer.Option("--max-duration", metavar="S", help="Do not decode longer videos (seconds).")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="PATTERN", help="Leave out names or paths (*/thumbs/*) like this; repeatable."),
]
UriColumn = Annotated[
    str | None,
    typer.Option("--uri-column", metavar="NAME", help="Of lists: the column of uris, or of the images' bytes."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="NAME", help="Of lists and sidecars: carry only this to MEDIA; repeatable."),
]
RetryErrors = Annotated[
    list[str] | None,
    typer.Option(
        "--retry-errors",
        metavar="CLASS",
        help="Try these failures again too: permanent, poison, policy, all; repeatable.  [default: transient]",
    ),
]
Isometric = Annotated[bool, typer.Option("--isometric", help="Find flipped and turned copies too.")]
Alpha = Annotated[
    str | None, typer.Option("--alpha", metavar="white|drop", help="Transparent pixels: on white, or as stored.")
]
MaxPixels = Annotated[int | None, typer.Option("--max-pixels", metavar="N", help="Do not decode larger images.")]
MaxBytes = Annotated[str | None, typer.Option("--max-bytes", metavar="N", help="Do not read larger files.")]
Deadline = Annotated[
    float | None,
    typer.Option("--deadline", metavar="S", help="Seconds that an image, or one step of a video, may take."),
]
MemoryLimit = Annotated[str | None, typer.Option("--memory-limit", metavar="N", help="Memory that one item may take.")]
NoChild = Annotated[bool, typer.Option("--no-child", help="Decode in the worker itself: for debugging, unprotected.")]
MaxErrorRate = Annotated[
    float | None,
    typer.Option("--max-error-rate", metavar="R", help="Exit with 3 when more items than this share fail."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the run summary as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def main() -> None:
    """Run the command line; the console script `neardup`."""
    app()


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show:
        print(f"neardup {__version__}")
        raise typer.Exit


@app.command(
    epilog="""[bold]Examples[/]

neardup dedup photos -o out

neardup dedup photos more-photos -o out --hasher pdq --hasher dhash:hash_size=16@0.05

neardup dedup photos -o out --threshold 0.1 --isometric --cluster none

neardup dedup clips photos -o out --fps 2 --hasher phash:hash_size=16@0.2 --hasher tmkl1@0.05

neardup dedup --config configs/dedup.yaml --set slices.items=200"""
)
def dedup(
    inputs: Inputs = None,
    output: Output = None,
    hasher: Hashers = None,
    threshold: Threshold = None,
    radius_bits: RadiusBits = None,
    min_quality: MinQuality = None,
    block_by: BlockBy = None,
    engine: Engine = None,
    trees: Trees = None,
    search_k: SearchK = None,
    max_neighbours: MaxNeighbours = None,
    all_pairs: AllPairs = False,
    min_overlap: MinOverlap = None,
    min_matches: MinMatches = None,
    groups: Groups = None,
    keep: Keep = None,
    protect: Protect = None,
    exclude: Exclude = None,
    uri_column: UriColumn = None,
    columns: Columns = None,
    retry_errors: RetryErrors = None,
    isometric: Isometric = False,
    fps: FramesPerSecond = None,
    interframe: Interframe = None,
    frame_quality: FrameQuality = None,
    unletterbox: Unletterbox = False,
    max_duration: MaxDuration = None,
    cluster: Cluster = None,
    config_file: ConfigFile = None,
    sets: Sets = None,
    alpha: Alpha = None,
    max_pixels: MaxPixels = None,
    max_bytes: MaxBytes = None,
    deadline: Deadline = None,
    memory_limit: MemoryLimit = None,
    no_child: NoChild = False,
    max_error_rate: MaxErrorRate = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find near duplicates: list, hash, join and group the media of the inputs."""
    flags = {
        "inputs": inputs,
        "output": output,
        "hashers": hasher,
        "radius_bits": radius_bits,
        "min_quality": min_quality,
        "block_by": block_by,
        "engine": engine,
        "trees": trees,
        "search_k": search_k,
        "max_neighbours": max_neighbours,
        "all_pairs": all_pairs or None,
        "min_overlap": min_overlap,
        "min_matches": min_matches,
        "groups": groups,
        "keep": keep,
        "protect": protect,
        "cluster": cluster,
        "exclude": exclude,
        "uri_column": uri_column,
        "columns": columns,
        "retry_errors": retry_errors,
        "isometric": isometric or None,
        "video.frames_per_second": fps,
        "video.interframe_threshold": interframe,
        "video.min_quality": frame_quality,
        "video.unletterbox": unletterbox or None,
        "video.max_duration_s": max_duration,
        "decode.alpha": alpha,
        "decode.max_pixels": max_pixels,
        "decode.max_bytes": max_bytes,
        "child.deadline_s": deadline,
        "child.memory_limit": memory_limit,
        "child.enabled": False if no_child else None,
        "max_error_rate": max_error_rate,
    }
    _run(config.DedupJob, flags, threshold, config_file, sets, as_json, debug)


@app.command(
    name="hash",
    epilog="""[bold]Examples[/]

neardup hash photos -o out

neardup hash photos -o out --hasher pdq --hasher phash:hash_size=16""",
)
def hash_(
    inputs: Inputs = None,
    output: Output = None,
    hasher: Hashers = None,
    exclude: Exclude = None,
    uri_column: UriColumn = None,
    columns: Columns = None,
    retry_errors: RetryErrors = None,
    isometric: Isometric = False,
    fps: FramesPerSecond = None,
    interframe: Interframe = None,
    frame_quality: FrameQuality = None,
    unletterbox: Unletterbox = False,
    max_duration: MaxDuration = None,
    cluster: Cluster = None,
    config_file: ConfigFile = None,
    sets: Sets = None,
    alpha: Alpha = None,
    max_pixels: MaxPixels = None,
    max_bytes: MaxBytes = None,
    deadline: Deadline = None,
    memory_limit: MemoryLimit = None,
    no_child: NoChild = False,
    max_error_rate: MaxErrorRate = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Hash the media of the inputs; join them later with `neardup join`."""
    flags = {
        "inputs": inputs,
        "output": output,
        "hashers": hasher,
        "cluster": cluster,
        "exclude": exclude,
        "uri_column": uri_column,
        "columns": columns,
        "retry_errors": retry_errors,
        "isometric": isometric or None,
        "video.frames_per_second": fps,
        "video.interframe_threshold": interframe,
        "video.min_quality": frame_quality,
        "video.unletterbox": unletterbox or None,
        "video.max_duration_s": max_duration,
        "decode.alpha": alpha,
        "decode.max_pixels": max_pixels,
        "decode.max_bytes": max_bytes,
        "child.deadline_s": deadline,
        "child.memory_limit": memory_limit,
        "child.enabled": False if no_child else None,
        "max_error_rate": max_error_rate,
    }
    _run(config.HashJob, flags, None, config_file, sets, as_json, debug)


@app.command(
    epilog="""[bold]Examples[/]

neardup join out --hasher phash:hash_size=16@0.15

neardup join out --hasher pdq --radius-bits 31"""
)
def join(
    output: Annotated[str | None, typer.Argument(metavar="OUT", help="An output that has hashes.")] = None,
    hasher: Hashers = None,
    threshold: Threshold = None,
    radius_bits: RadiusBits = None,
    min_quality: MinQuality = None,
    block_by: BlockBy = None,
    engine: Engine = None,
    trees: Trees = None,
    search_k: SearchK = None,
    max_neighbours: MaxNeighbours = None,
    all_pairs: AllPairs = False,
    min_overlap: MinOverlap = None,
    min_matches: MinMatches = None,
    groups: Groups = None,
    keep: Keep = None,
    protect: Protect = None,
    cluster: Cluster = None,
    config_file: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Join the hashes that an output already has: pairs and groups, at another threshold."""
    flags = {
        "output": output,
        "hashers": hasher,
        "radius_bits": radius_bits,
        "min_quality": min_quality,
        "block_by": block_by,
        "engine": engine,
        "trees": trees,
        "search_k": search_k,
        "max_neighbours": max_neighbours,
        "all_pairs": all_pairs or None,
        "min_overlap": min_overlap,
        "min_matches": min_matches,
        "groups": groups,
        "keep": keep,
        "protect": protect,
        "cluster": cluster,
    }
    _run(config.JoinJob, flags, threshold, config_file, sets, as_json, debug)


@app.command(
    epilog="""[bold]Examples[/]

neardup match out --known known.csv --hasher pdq --radius-bits 31

neardup match photos -o out --known known.csv --known other-out --hasher pdq@0.1

neardup match out -o found --known list.parquet --hash-column pdq --skip-bad-lines --hasher pdq"""
)
def match(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="OUT|INPUT…", help="An output with hashes, or media to hash first."),
    ] = None,
    known: Known = None,
    output: Output = None,
    hasher: Hashers = None,
    threshold: Threshold = None,
    radius_bits: RadiusBits = None,
    hash_column: HashColumn = None,
    skip_bad_lines: SkipBadLines = False,
    min_quality: MinQuality = None,
    exclude: Exclude = None,
    uri_column: UriColumn = None,
    columns: Columns = None,
    retry_errors: RetryErrors = None,
    isometric: Isometric = False,
    cluster: Cluster = None,
    config_file: ConfigFile = None,
    sets: Sets = None,
    max_error_rate: MaxErrorRate = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Match an output, or media that are hashed first, with lists of known hashes."""
    flags = {
        "inputs": inputs,
        "known": known,
        "output": output,
        "hashers": hasher,
        "radius_bits": radius_bits,
        "hash_column": hash_column,
        "skip_bad_lines": skip_bad_lines or None,
        "min_quality": min_quality,
        "exclude": exclude,
        "uri_column": uri_column,
        "columns": columns,
        "retry_errors": retry_errors,
        "isometric": isometric or None,
        "cluster": cluster,
        "max_error_rate": max_error_rate,
    }
    _run(config.MatchJob, flags, threshold, config_file, sets, as_json, debug)


@app.command(
    epilog="""[bold]Examples[/]

neardup benchmark photos -o scores

neardup benchmark photos -o scores --hasher pdq --hasher cropresistant --transform blur:2 --transform crop:0.1+jpeg:60

neardup benchmark photos -o scores --category 'pattern:/(20[0-9]{2})/' --fpr 0.01 --fpr 0.001

neardup dedup photos -o out --hasher pdq --threshold @scores/thresholds.yaml"""
)
def benchmark(
    inputs: Inputs = None,
    output: Output = None,
    hasher: Annotated[
        list[str] | None, typer.Option("--hasher", metavar="SPEC", help="A hasher and its parameters; repeatable.")
    ] = None,
    transform: Annotated[
        list[str] | None,
        typer.Option(
            "--transform",
            metavar="[NAME=]SPEC",
            help="What is done to each picture, such as blur:2 or crop:0.05+jpeg:60; noop:256 says how originals are "
            "hashed, and the others begin from there; repeatable.",
        ),
    ] = None,
    encode: Annotated[
        str | None, typer.Option("--encode", metavar="SPEC", help="A transform that each picture goes through: jpeg:95")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            "--category",
            metavar="RULE",
            help="folder, column:NAME or pattern:REGEX; originals are compared within theirs.  [default: folder]",
        ),
    ] = None,
    duplicates: Annotated[
        str | None,
        typer.Option("--duplicates", metavar="RULE", help="Originals to leave out: SPEC@T (near ones), exact or none."),
    ] = None,
    fpr: Annotated[
        list[float] | None,
        typer.Option(
            "--fpr", metavar="R", help="A false-positive rate; repeatable, the first is that of thresholds.yaml."
        ),
    ] = None,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Write the altered pictures to OUT/images, too.")
    ] = False,
    cluster: Cluster = None,
    config_file: ConfigFile = None,
    sets: Sets = None,
    max_error_rate: MaxErrorRate = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure how well each hash finds altered pictures of your own, and choose thresholds."""
    flags = {
        "inputs": inputs,
        "output": output,
        "hashers": hasher,
        "transforms": transform,
        "encode": encode,
        "category": category,
        "duplicates": duplicates,
        "fpr": fpr,
        "keep_images": keep_images or None,
        "cluster": cluster,
        "max_error_rate": max_error_rate,
    }
    _run(config.BenchmarkJob, flags, None, config_file, sets, as_json, debug)


@app.command(
    epilog="""[bold]Examples[/]

neardup enrich photos.parquet --uri-column url -o out

neardup enrich s3://lake/images/ --uri-column path --base s3://media -o s3://lake/neardup --prefix neardup_

neardup enrich photos.parquet --uri-column url -o out --hasher pdq --known blocked.csv"""
)
def enrich(
    table: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE", help="A Parquet file, or a folder of them; never changed.")
    ] = None,
    uri_column: Annotated[
        str | None, typer.Option("--uri-column", metavar="C", help="The column that names the media.")
    ] = None,
    output: Output = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="DIR", help="Folder of relative paths.  [default: that of TABLE]")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="Put before the names of the new columns.")
    ] = None,
    known: Known = None,
    hash_column: HashColumn = None,
    skip_bad_lines: SkipBadLines = False,
    hasher: Hashers = None,
    threshold: Threshold = None,
    radius_bits: RadiusBits = None,
    min_quality: MinQuality = None,
    block_by: BlockBy = None,
    groups: Groups = None,
    keep: Keep = None,
    protect: Protect = None,
    isometric: Isometric = False,
    cluster: Cluster = None,
    config_file: ConfigFile = None,
    sets: Sets = None,
    max_error_rate: MaxErrorRate = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a Parquet table again with columns of hashes, groups and what to keep, row for row."""
    flags = {
        "inputs": table,
        "uri_column": uri_column,
        "output": output,
        "base": base,
        "prefix": prefix,
        "known": known,
        "hash_column": hash_column,
        "skip_bad_lines": skip_bad_lines or None,
        "hashers": hasher,
        "radius_bits": radius_bits,
        "min_quality": min_quality,
        "block_by": block_by,
        "groups": groups,
        "keep": keep,
        "protect": protect,
        "isometric": isometric or None,
        "cluster": cluster,
        "max_error_rate": max_error_rate,
    }
    _run(config.EnrichJob, flags, threshold, config_file, sets, as_json, debug)


@app.command(
    epilog="""[bold]Examples[/]

neardup export out --survivors clean

neardup export out --survivors s3://clean/photos --as tar --delete-list drop.csv

neardup export out --delete-list drop.txt"""
)
def export(
    output: Annotated[str, typer.Argument(metavar="OUT", help="An output that has groups.")],
    survivors: Annotated[
        str | None, typer.Option("--survivors", metavar="DEST", help="Copy what is kept there, byte for byte.")
    ] = None,
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="folder, tar (WebDataset) or parquet.")] = "folder",
    delete_list: Annotated[
        str | None,
        typer.Option("--delete-list", metavar="FILE", help="Write the uris that are not kept: .txt or .csv."),
    ] = None,
    without_errors: Annotated[
        bool, typer.Option("--without-errors", help="Leave out items that could not be decoded.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Copy what is kept, list what is not. Nothing is deleted or overwritten."""
    from jobs.export import ExportJob, run_export

    job = ExportJob(output, survivors, form, delete_list, not without_errors)
    summary = _guarded(lambda: run_export(job, style_for(as_json)), debug)
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    if done := summary.get("survivors"):
        files = f"{done['written']:,} files written, {done['there']:,} there already, {done['missing']:,} missing"
        print(f"survivors: {done['items']:,} items in {done['folder'].removeprefix('file://')} ({files})")
    if delete_list:
        print(f"delete list: {delete_list}; nothing was deleted")
    print(f"not kept: {summary['dropped']:,} items, {summary['bytes_saved']:,} bytes saved without them")


@app.command(
    epilog="""[bold]Examples[/]

neardup explain out photos/2024/beach.jpg

neardup explain out s3://bucket/beach.jpg --json"""
)
def explain(
    output: Annotated[str, typer.Argument(metavar="OUT", help="An output.")],
    uri: Annotated[str, typer.Argument(metavar="URI", help="An item: its uri, its path, or the end of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show everything the tables say of one item."""
    from jobs.explain import run_explain

    print(_guarded(lambda: run_explain(output, uri, as_json), debug))


@app.command(
    epilog="""[bold]Examples[/]

neardup plan out --hasher pdq --radius-bits 31

neardup plan photos"""
)
def plan(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="OUT|INPUT…", help="An output with hashes, or media not hashed yet.")
    ] = None,
    hasher: Hashers = None,
    threshold: Threshold = None,
    radius_bits: RadiusBits = None,
    min_quality: MinQuality = None,
    cluster: Cluster = None,
    config_file: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say how a join would go about it: blocks, tiles, bands, seconds, memory. Nothing is joined or written."""
    flags = {
        "inputs": inputs,
        "output": (inputs or ["."])[0],  # nothing is written
        "hashers": hasher,
        "radius_bits": radius_bits,
        "min_quality": min_quality,
        "cluster": cluster,
    }

    def work() -> dict[str, Any]:
        job = _with_threshold(config.load(config.DedupJob, config_file, tuple(sets or ()), flags), threshold)
        from jobs.plan import run_plan

        return run_plan(job)

    planned = _guarded(work, debug)
    if as_json:
        print(json.dumps(planned, indent=1))
        return
    from jobs.plan import show

    show(planned, Console())


@app.command(name="config")
def config_(
    job: Annotated[str, typer.Argument(metavar="JOB", help="dedup, hash, join, match, benchmark or enrich.")],
) -> None:
    """Print every setting of a job as YAML, with its default and its meaning."""
    if job not in config.JOBS:
        _fail(UsageError(f"unknown job {job!r}; known are {', '.join(config.JOBS)}"), EXIT_USAGE)
    print(config.dump(config.JOBS[job]), end="")


def _run(
    kind: type[config.J],
    flags: dict[str, Any],
    threshold: str | None,
    config_file: str | None,
    sets: list[str] | None,
    as_json: bool,
    debug: bool,
) -> None:
    def work() -> dict[str, Any]:
        job = _with_threshold(config.load(kind, config_file, tuple(sets or ()), flags), threshold)
        from jobs.dedup import run  # what it imports takes a second, which --help need not
        from jobs.enrich import run_enrich
        from jobs.match import run_match

        style = style_for(as_json)
        if isinstance(job, config.BenchmarkJob):
            from jobs.benchmark import run_benchmark

            return run_benchmark(job, style)
        if isinstance(job, config.EnrichJob):
            return run_enrich(job, style)
        return run_match(job, style) if isinstance(job, config.MatchJob) else run(job, style)

    summary = _guarded(work, debug)
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        _show(summary)
    failed = sum(summary["failed"].values())
    rate = summary["config"].get("max_error_rate")
    if rate is not None and failed > rate * summary["listed"]:
        print(f"{failed:,} of {summary['listed']:,} items failed: more than --max-error-rate {rate:g}", file=sys.stderr)
        raise typer.Exit(EXIT_ITEM_ERRORS)


def _guarded(work: Callable[[], T], debug: bool) -> T:
    """What the work gives; its errors as one line and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop ends a run as Ctrl-C does
    try:
        return work()
    except NeardupError as error:
        if debug:
            traceback.print_exc()
        _fail(error, EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
    except KeyboardInterrupt:
        print("interrupted; what is finished stays, the same command goes on from there", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        _fail(RunError(f"bug: {type(error).__name__}: {error}; please report it with what --debug shows"), EXIT_FAILED)


def _with_threshold(job: config.J, threshold: str | None) -> config.J:
    if threshold is None:
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


def _show(summary: dict[str, Any]) -> None:
    console = Console()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    failed = ", ".join(f"{count:,} {name}" for name, count in summary["failed"].items())
    if "list" in summary["stages"]:
        table.add_row("listed", f"{summary['listed']:,}")
        table.add_row("decoded", f"{summary['decoded']:,}")
        table.add_row("failed", f"{sum(summary['failed'].values()):,}" + (f" ({failed})" if failed else ""))
    for spec, count in summary.get("pairs", {}).items():
        stage = summary["stages"][f"join {spec}"]
        counts = {
            "hubs": "hubs",
            "left_out": "hashes of low quality left out",
            "pairs_left_out": "pairs of too few frames left out",
        }
        more = "".join(f", {stage[key]:,} {what}" for key, what in counts.items() if stage[key])
        table.add_row("pairs", escape(f"{count:,} by {spec}{more}"))
        if measured := stage.get("measured"):
            table.add_row("recall", _recall(measured))
    if "groups" in summary:
        table.add_row("groups", f"{summary['groups']:,} of {summary['grouped_items']:,} items")
        table.add_row("duplicates", f"{summary['duplicate_bytes']:,} bytes could be saved")
    for found in summary.get("matches", []):
        bad = f", {found['bad_lines']:,} bad lines left out" if found["bad_lines"] else ""
        said = f"{found['items']:,} items of {found['list']} by {found['hasher']}{bad}"
        table.add_row("matches", escape(said))
    if "originals" in summary:
        facts = summary["originals"]
        table.add_row(
            "originals", f"{facts['scored']:,} in {facts['categories']:,} categories, {facts['duplicates']:,} left out"
        )
    for best in summary.get("best", []):
        at = "" if best["threshold"] is None else f" below {best['threshold']:.4g}"
        table.add_row("recall", escape(f"{best['recall']:6.2f} % by {best['hasher']}{at}"))
    if "enriched" in summary:
        table.add_row("enriched", f"{summary['enriched']['rows']:,} rows in {summary['enriched']['files']:,} files")
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    console.print(table)
    if not summary["written"]:
        console.print("nothing to do: no media found, nothing written")
        return
    where = summary["output"].removeprefix("file://")
    console.print(f"tables in {where}", soft_wrap=True, highlight=False)
    if "best" in summary:
        console.print(f"  {where}/report/index.html", soft_wrap=True, highlight=False, markup=False)
        console.print(f"  {where}/thresholds.yaml", soft_wrap=True, highlight=False, markup=False)
    if "enriched" in summary:
        print(f"the table with its new columns in {summary['enriched']['folder'].removeprefix('file://')}")
    elif summary.get("groups"):
        for line in _how_to_look(str(where)):
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def _recall(measured: dict[str, Any]) -> str:
    """How much an approximate join has found, in words."""
    of = f"of the {measured['matches']:,} matches of {measured['hashes']:,} hashes joined exactly"
    return f"{measured['recall']:.1%} {of}" if measured["matches"] else f"not known: none {of}"


def _how_to_look(where: str) -> list[str]:
    """Shell lines that show the tables, with the Python of this process."""
    python = Path(sys.executable)
    here = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    code = [
        f"import duckdb; print(duckdb.read_parquet({where + '/groups/*.parquet'!r}).filter('NOT keep'))",
        f"import pandas; print(pandas.read_parquet({where + '/pairs'!r}).sort_values('distance'))",
    ]
    return [f'{here} -c "{line}"' for line in code]
