"""The options of the commands, each under the name of the setting that it gives (`neardup config` lists them)."""

from typing import Annotated, Any

import typer

Options = dict[str, Any]  # a setting's name -> the annotated type of its option; None means that it is not given

INPUTS: Options = {
    "inputs": Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT…",
            help="Folders, globs, media files, archives (.tar, .tar.gz, .zip), lists (.txt, .csv, .jsonl, .parquet).",
        ),
    ],
}
OUTPUT: Options = {
    "output": Annotated[str | None, typer.Option("--output", "-o", metavar="OUT", help="Folder or url of the tables.")],
}
HASHERS: Options = {
    "hashers": Annotated[
        list[str] | None,
        typer.Option(
            "--hasher", metavar="SPEC[@T]", help="A hasher, its parameters, its threshold; repeat for several."
        ),
    ],
}
MATCHING: Options = {  # `threshold` is not a setting of its own, but of the hashers: `config.with_threshold`
    "threshold": Annotated[
        str | None,
        typer.Option(
            "--threshold",
            metavar="T|@FILE",
            help="Match below this distance, with a single hasher; or by the thresholds.yaml of a benchmark.",
        ),
    ],
    "radius_bits": Annotated[
        int | None, typer.Option("--radius-bits", metavar="N", help="Match at N differing bits or fewer, instead.")
    ],
    "min_quality": Annotated[
        int | None,
        typer.Option("--min-quality", metavar="Q", help="Leave hashes of lower quality (0-100) out of the join."),
    ],
}
BLOCK_BY: Options = {
    "block_by": Annotated[
        list[str] | None,
        typer.Option(
            "--block-by",
            metavar="RULE",
            help="Pair only within the same folder, column:NAME (of MEDIA) or pattern:REGEX; repeat: any.",
        ),
    ],
}
JOINING: Options = {
    **MATCHING,
    **BLOCK_BY,
    "engine": Annotated[
        str | None,
        typer.Option(
            "--engine", metavar="E", help="exact, or annoy: approximate, its recall measured.  (default: exact)"
        ),
    ],
    "trees": Annotated[
        int | None, typer.Option("--trees", metavar="N", help="Trees of an annoy index.  (default: 10)")
    ],
    "search_k": Annotated[
        int | None, typer.Option("--search-k", metavar="N", help="Nodes of it that a query inspects, instead of many.")
    ],
    "max_neighbours": Annotated[
        int | None,
        typer.Option(
            "--max-neighbours",
            metavar="N",
            help="A hash near more than N others is a hub: its pairs with other hubs are thinned out.  (default: 1024)",
        ),
    ],
    "all_pairs": Annotated[
        bool | None, typer.Option("--all-pairs", help="Write every pair, however many copies or neighbours.")
    ],
    "min_overlap": Annotated[
        float | None,
        typer.Option("--min-overlap", metavar="R", help="Pair videos only if this share of one's frames match."),
    ],
    "min_matches": Annotated[
        int | None, typer.Option("--min-matches", metavar="N", help="Pair videos only if so many frames match.")
    ],
}
GROUPING: Options = {
    "groups": Annotated[
        str | None,
        typer.Option("--groups", metavar="KIND", help="component, diameter or clique-like.  (default: component)"),
    ],
    "keep": Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="BY",
            help="Which item of a group to keep; repeat, the first decides: prefer:PREFIX, format:png>jpeg, duration, "
            "pixels, bytes, mtime, uri (smallest first; -pixels: largest first).  "
            "[default: -duration -pixels -bytes mtime uri]",
        ),
    ],
    "protect": Annotated[
        list[str] | None,
        typer.Option("--protect", metavar="PREFIX", help="Never drop items whose uri begins so; repeat for several."),
    ],
}
KNOWN: Options = {
    "known": Annotated[
        list[str] | None,
        typer.Option(
            "--known", metavar="LIST", help="Known hashes: .csv, .jsonl, .parquet, .txt, or an output; repeatable."
        ),
    ],
    "hash_column": Annotated[
        str | None, typer.Option("--hash-column", metavar="NAME", help="The lists' column of hashes.  (default: hash)")
    ],
    "skip_bad_lines": Annotated[
        bool | None, typer.Option("--skip-bad-lines", help="Count a list's lines without a valid hash, and go on.")
    ],
}
LISTING: Options = {
    "exclude": Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", metavar="PATTERN", help="Leave out names or paths (*/thumbs/*) like this; repeatable."
        ),
    ],
    "uri_column": Annotated[
        str | None,
        typer.Option("--uri-column", metavar="NAME", help="Of lists: the column of uris, or of the images' bytes."),
    ],
    "columns": Annotated[
        list[str] | None,
        typer.Option("--columns", metavar="NAME", help="Of lists and sidecars: carry only this to MEDIA; repeatable."),
    ],
    "retry_errors": Annotated[
        list[str] | None,
        typer.Option(
            "--retry-errors",
            metavar="CLASS",
            help="Try these failures again too: permanent, poison, policy, all; repeatable.  (default: transient)",
        ),
    ],
}
ISOMETRIC: Options = {
    "isometric": Annotated[bool | None, typer.Option("--isometric", help="Find flipped and turned copies too.")],
}
VIDEO: Options = {
    "video.frames_per_second": Annotated[
        str | None,
        typer.Option(
            "--fps", metavar="N", help="Frames of videos to hash: per second, keyframes, or all.  (default: 1)"
        ),
    ],
    "video.interframe_threshold": Annotated[
        float | None,
        typer.Option("--interframe", metavar="D", help="Leave out frames this near the one before.  (default: 0.1)"),
    ],
    "video.min_quality": Annotated[
        int | None,
        typer.Option("--frame-quality", metavar="Q", help="Leave out frames of lower quality (0-100).  (default: 90)"),
    ],
    "video.unletterbox": Annotated[
        bool | None, typer.Option("--unletterbox", help="Hash frames without the bars around them.")
    ],
    "video.max_duration_s": Annotated[
        float | None, typer.Option("--max-duration", metavar="S", help="Do not decode longer videos (seconds).")
    ],
}
CLUSTER: Options = {
    "cluster": Annotated[
        str | None,
        typer.Option(
            "--cluster", metavar="C", help="none, local, N workers, HOST:PORT, tls://… or FILE.yaml.  (default: local)"
        ),
    ],
}
PER_HOST: Options = {
    "per_host": Annotated[
        int | None,
        typer.Option(
            "--per-host", metavar="N", help="Requests under way to one host or bucket, per process.  (default: 32)"
        ),
    ],
}
DECODING: Options = {
    **PER_HOST,
    "decode.alpha": Annotated[
        str | None, typer.Option("--alpha", metavar="white|drop", help="Transparent pixels: on white, or as stored.")
    ],
    "decode.max_pixels": Annotated[
        int | None, typer.Option("--max-pixels", metavar="N", help="Do not decode larger images.")
    ],
    "decode.max_bytes": Annotated[
        str | None, typer.Option("--max-bytes", metavar="N", help="Do not read larger files.")
    ],
    "child.deadline_s": Annotated[
        float | None,
        typer.Option(
            "--deadline",
            metavar="S",
            help="Seconds that decoding an image, one hasher, or one step of a video may take.",
        ),
    ],
    "child.memory_limit": Annotated[
        str | None, typer.Option("--memory-limit", metavar="N", help="Memory that one item may take.")
    ],
    "child.enabled": Annotated[
        bool | None,
        typer.Option(
            "--no-child",
            help="Decode in the worker itself: for debugging, unprotected.",
            callback=lambda given: False if given else None,
        ),
    ],
}
ERROR_RATE: Options = {
    "max_error_rate": Annotated[
        float | None,
        typer.Option("--max-error-rate", metavar="R", help="Exit with 3 when more items than this share fail."),
    ],
    "max_unreachable": Annotated[
        float | None,
        typer.Option(
            "--max-unreachable",
            metavar="R",
            help="Commit nothing when more of what is tried cannot be read for now: a store that is down.  "
            "(default: 0.75)",
        ),
    ],
    "max_removed": Annotated[
        float | None,
        typer.Option(
            "--max-removed",
            metavar="R",
            help="Stop when more of the known items are not listed any more: a disk that is away.  (default: 0.2)",
        ),
    ],
}
BENCHMARK: Options = {
    "hashers": Annotated[
        list[str] | None, typer.Option("--hasher", metavar="SPEC", help="A hasher and its parameters; repeatable.")
    ],
    "transforms": Annotated[
        list[str] | None,
        typer.Option(
            "--transform",
            metavar="[NAME=]SPEC",
            help="What is done to each picture, such as blur:2 or crop:0.05+jpeg:60; noop:256 says how originals are "
            "hashed, and the others begin from there; repeatable.",
        ),
    ],
    "encode": Annotated[
        str | None, typer.Option("--encode", metavar="SPEC", help="A transform that each picture goes through: jpeg:95")
    ],
    "category": Annotated[
        str | None,
        typer.Option(
            "--category",
            metavar="RULE",
            help="folder, column:NAME or pattern:REGEX; originals are compared within theirs.  (default: folder)",
        ),
    ],
    "duplicates": Annotated[
        str | None,
        typer.Option("--duplicates", metavar="RULE", help="Originals to leave out: SPEC@T (near ones), exact or none."),
    ],
    "fpr": Annotated[
        list[float] | None,
        typer.Option(
            "--fpr", metavar="R", help="A false-positive rate; repeatable, the first is that of thresholds.yaml."
        ),
    ],
    "keep_images": Annotated[
        bool | None, typer.Option("--keep-images", help="Write the altered pictures to OUT/images, too.")
    ],
}
TABLE: Options = {
    "inputs": Annotated[
        list[str] | None, typer.Argument(metavar="TABLE", help="A Parquet file, or a folder of them; never changed.")
    ],
    "uri_column": Annotated[
        str | None, typer.Option("--uri-column", metavar="C", help="The column that names the media.")
    ],
    "base": Annotated[
        str | None, typer.Option("--base", metavar="DIR", help="Folder of relative paths.  (default: that of TABLE)")
    ],
    "prefix": Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="Put before the names of the new columns.")
    ],
}
JOINED_OUTPUT: Options = {
    "output": Annotated[str | None, typer.Argument(metavar="OUT", help="An output that has hashes.")],
}
OUTPUT_OR_INPUTS: Options = {
    "inputs": Annotated[
        list[str] | None, typer.Argument(metavar="OUT|INPUT…", help="An output with hashes, or media to hash first.")
    ],
}
EXPORT: Options = {
    "output": Annotated[str | None, typer.Argument(metavar="OUT", help="An output that has groups.")],
    "survivors": Annotated[
        str | None, typer.Option("--survivors", metavar="DEST", help="Copy what is kept there, byte for byte.")
    ],
    "form": Annotated[
        str | None, typer.Option("--as", metavar="FORM", help="folder, tar (WebDataset) or parquet.  (default: folder)")
    ],
    "delete_list": Annotated[
        str | None,
        typer.Option("--delete-list", metavar="FILE", help="Write the uris that are not kept: .txt or .csv."),
    ],
    "without_errors": Annotated[
        bool | None, typer.Option("--without-errors", help="Leave out items that could not be decoded.")
    ],
}
EXPLAIN: Options = {
    "output": Annotated[str | None, typer.Argument(metavar="OUT", help="An output.")],
    "uri": Annotated[str | None, typer.Argument(metavar="URI", help="An item: its uri, its path, or the end of it.")],
}
ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE.yaml", help="Settings; a flag beats the file.")
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of `neardup config`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the run summary as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
