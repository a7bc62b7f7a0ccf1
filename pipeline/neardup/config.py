"""YAML files and flags → typed job values. An unknown key is refused, with the key that was probably meant."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, ValidationError, model_validator

from neardup.errors import ConfigError
from neardup.hashers import canonical, parse

Bytes = Annotated[ByteSize, Field(gt=0)]


def _frame_rate(value: Any) -> Any:
    if value in ("keyframes", "all"):
        return value
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ValueError("give a number above 0, keyframes or all")
    return rate


FrameRate = Annotated[float | Literal["keyframes", "all"], BeforeValidator(_frame_rate)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Decode(_Strict):
    """How images become pixels."""

    alpha: Literal["white", "drop"] = Field("white", description="transparent pixels: on white, or as stored")
    max_pixels: int = Field(100_000_000, gt=0, description="larger images are not decoded")
    max_bytes: Bytes = Field(ByteSize(512 << 20), description="larger files are not read")


class Video(_Strict):
    """Which frames of videos and animations are hashed, and how long ones are shared by workers."""

    frames_per_second: FrameRate = Field(1.0, description='a number, "keyframes" or "all"')
    interframe_threshold: float = Field(0.1, description="leave out frames this near the frame kept before")
    min_quality: int = Field(90, ge=0, le=100, description="leave out frames of lower quality")
    unletterbox: bool = Field(False, description="hash frames without the bars around them")
    max_side: int | None = Field(None, gt=0, description="make larger frames smaller while decoding")
    max_duration_s: float | None = Field(None, gt=0, description="refuse longer videos")
    deadline_s: float = Field(3600.0, gt=0, description="seconds per item: a video, or a segment of a long one")
    slice_bytes: Bytes = Field(ByteSize(64 << 20), description="bytes per task; larger videos are cut into segments")
    segment_s: float = Field(300.0, gt=0, description="seconds per segment, at least")


class Child(_Strict):
    """The process that decodes and hashes, and what one item may cost it."""

    enabled: bool = Field(True, description="false: work in the worker itself, unprotected, for debugging")
    deadline_s: float = Field(
        60.0, gt=0, description="seconds to decode an image, for each hasher, or between two frames"
    )
    memory_limit: Bytes = Field(ByteSize(2 << 30), description="memory beyond that of the idle process")


class Slices(_Strict):
    """How the listing is cut into tasks."""

    items: int = Field(500, gt=0, description="items per task at most; of a benchmark, pictures")
    bytes: Bytes = Field(ByteSize(512 << 20), description="bytes per task, about")
    read_budget: Bytes = Field(ByteSize(128 << 20), description="bytes read ahead per worker")
    rows_in_memory: int = Field(200_000, gt=0, description="rows of a listing beyond which it goes to disk")


class Job(_Strict):
    """What every job has."""

    output: str = Field(description="folder or url of the tables")


class HashesJob(Job):
    """What a job has that works with hashes."""

    hashers: tuple[str, ...] = Field(("phash:hash_size=16@0.2",), min_length=1, description="SPEC or SPEC@THRESHOLD")
    cluster: str | int | dict[str, Any] = Field(
        "local", description="none, local, a number of workers, HOST:PORT, FILE.yaml, or settings; see docs/clusters.md"
    )


class InputJob(HashesJob):
    """What a job has that lists and decodes inputs."""

    inputs: tuple[str, ...] = Field(min_length=1, description="folders, globs, files, archives, lists")
    exclude: tuple[str, ...] = Field((), description="patterns of names and paths that are not listed")
    uri_column: str | None = Field(None, description="of lists: the uris, or the images' bytes; by usual names if null")
    columns: tuple[str, ...] | None = Field(None, description="of lists and sidecars: carried to MEDIA; null: all")
    retry_errors: tuple[Literal["transient", "permanent", "poison", "policy", "all"], ...] = Field(
        ("transient",), description="which failures to try again; transient ones always are"
    )
    per_host: int = Field(32, gt=0, description="requests under way to one host or bucket, in each process")
    decode: Decode = Decode()
    video: Video = Video()
    child: Child = Child()
    slices: Slices = Slices()
    max_error_rate: float | None = Field(None, ge=0, le=1, description="exit code 3 when more items than this fail")
    max_unreachable: float = Field(
        0.75, ge=0, le=1, description="stop before the commit when more of the items tried, 10 or more, cannot be read"
    )
    max_removed: float = Field(
        0.2, ge=0, le=1, description="stop before any work when more of the items known are not listed any more"
    )


class HashJob(InputJob):
    """MEDIA and HASHES of the inputs."""

    isometric: bool = Field(False, description="hash the flips and quarter turns too, and match them")


class JoinJob(HashesJob):
    """PAIRS and GROUPS of the hashes that an output already has."""

    radius_bits: int | None = Field(None, ge=0, description="instead of a threshold, with a single hasher")
    block_by: tuple[str, ...] = Field(
        (), description="pair only within: folder, column:NAME, pattern:REGEX; any of them"
    )
    min_quality: int = Field(0, ge=0, le=100, description="leave hashes of lower quality out of the join")
    engine: Literal["exact", "annoy"] = Field("exact", description="annoy: approximate, its recall measured")
    trees: int = Field(10, gt=0, description="trees of an annoy index")
    search_k: int = Field(-1, ge=-1, description="nodes of it that a query inspects; -1: trees × neighbours")
    max_neighbours: int = Field(
        1024, ge=0, description="a hash near more others is a hub, see docs/pairs.md; 0: no limit"
    )
    all_pairs: bool = Field(False, description="write every pair, of hubs and of large sets of equal hashes too")
    min_overlap: float = Field(0.0, ge=0, le=1, description="share of one side's frames that must match")
    min_matches: int = Field(1, ge=1, description="frames that must match, as far as both sides have so many")
    groups: Literal["component", "diameter", "clique-like"] = Field("component", description="see docs/groups.md")
    keep: tuple[str, ...] = Field(
        ("-duration", "-pixels", "-bytes", "mtime", "uri"), description="criteria of what to keep"
    )
    protect: tuple[str, ...] = Field((), description="prefixes of uris that are kept in any case")
    block_rows: int = Field(10_000_000, gt=0, description="distinct hashes per block; a task holds two, 140 B a hash")


class DedupJob(HashJob, JoinJob):
    """List, hash, join and group."""


class PlanJob(DedupJob):
    """What a join would do; nothing is written, so that it needs no output."""

    output: str = Field("", description="not used")


class MatchJob(HashJob):
    """MATCHES of an output, or of inputs that are hashed first, with known lists."""

    inputs: tuple[str, ...] = Field(min_length=1, description="one output with hashes; or folders, globs, files")
    known: tuple[str, ...] = Field(min_length=1, description="lists of known hashes: files, or other outputs")
    hash_column: str | None = Field(None, description="column of the lists' hashes, where it is not called hash")
    skip_bad_lines: bool = Field(False, description="count a list's lines without a valid hash, and go on")
    radius_bits: int | None = Field(None, ge=0, description="instead of a threshold, with a single hasher")
    min_quality: int = Field(0, ge=0, le=100, description="leave hashes of lower quality out of the match")
    block_rows: int = Field(10_000_000, gt=0, description="distinct hashes per block; a task holds two, 140 B a hash")

    @model_validator(mode="before")
    @classmethod
    def _output_of_input(cls, values: Any) -> Any:
        """Without an output, the rows go where the hashes are."""
        inputs = values.get("inputs") if isinstance(values, dict) else None
        if isinstance(inputs, list | tuple) and len(inputs) == 1 and "output" not in values:
            return {**values, "output": inputs[0]}
        return values


class EnrichJob(DedupJob):
    """The media that a table names: hash, join and group them, and write the table with what was found."""

    inputs: tuple[str, ...] = Field(min_length=1, max_length=1, description="the table: a Parquet file or a folder")
    uri_column: str = Field(description="column of the table that names the media, by uri or path")
    base: str | None = Field(None, description="folder of relative paths in the column; default: that of the table")
    prefix: str = Field("", description="of the names of the new columns")
    known: tuple[str, ...] = Field((), description="lists of known hashes: files, or other outputs")
    hash_column: str | None = Field(None, description="column of the lists' hashes, where it is not called hash")
    skip_bad_lines: bool = Field(False, description="count a list's lines without a valid hash, and go on")


class BenchmarkJob(InputJob):
    """METRICS of hashers: what thresholds find of altered pictures, and what they let through."""

    hashers: tuple[str, ...] = Field(
        (
            "ahash:hash_size=16",
            "blockmean",
            "dhash:hash_size=16",
            "marrhildreth",
            "pdq",
            "phash:hash_size=16",
            "wavelet:hash_size=16",
        ),
        min_length=1,
        description="SPEC",
    )
    transforms: tuple[str, ...] = Field(
        (
            "noop:256",
            "watermark",
            "blur2=blur:2",
            "vignette",
            "gamma2=gamma:2",
            "jpeg7=jpeg:7",
            "pad0.2=pad:0.2",
            "crop0.05=crop:0.05",
            "noise0.2=noise:0.2",
            "rotate4=rotate:4",
        ),
        min_length=1,
        description="SPEC or NAME=SPEC; noop:256 says how originals are hashed, and the others begin from there",
    )
    encode: str = Field("", description="a transform that every picture goes through, such as jpeg:95")
    keep_images: bool = Field(False, description="write the altered pictures to images/, too")
    category: str = Field("folder", description="folder, column:NAME or pattern:REGEX; others of one are the negatives")
    duplicates: str = Field("phash:hash_size=16@0.2", description="originals to leave out: SPEC@T, exact or none")
    fpr: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.001, 0.0001, 0.01), min_length=1, description="false-positive rates; the first is that of thresholds.yaml"
    )
    fpr_threshold: float = Field(1e-4, ge=0, le=1, description="limit of the reference's rule of 2019")
    precision_threshold: float = Field(
        99.9, ge=1, le=100, description="limit of the reference's rule of today, percent"
    )
    block_rows: int = Field(65_536, gt=0, description="hashes per side of a tile")


class ExportJob(Job):
    """What is kept, copied; what is not, listed."""

    output: str = Field(description="an output that has groups")
    survivors: str | None = Field(None, description="folder or url that what is kept is copied to")
    form: str = Field("folder", description="of the copy: folder, tar or parquet")
    delete_list: str | None = Field(None, description="file for the uris that are not kept: .txt or .csv")
    without_errors: bool = Field(False, description="leave out items that could not be decoded")


class ExplainJob(Job):
    """All rows about one item."""

    output: str = Field(description="an output")
    uri: str = Field(description="an item: its uri, its path, or the end of it")


JOBS: dict[str, type[Job]] = {
    "dedup": DedupJob,
    "hash": HashJob,
    "join": JoinJob,
    "match": MatchJob,
    "enrich": EnrichJob,
    "benchmark": BenchmarkJob,
    "export": ExportJob,
    "explain": ExplainJob,
}

J = TypeVar("J", bound=Job)


def load(job: type[J], file: str | None, sets: tuple[str, ...], flags: dict[str, Any]) -> J:
    """The job that a YAML file, `key=value` settings and flags describe together; the later win.

    Raises ConfigError in one line: what, where, which value, and what was probably meant.
    """
    values = _read(file) if file else {}
    where: dict[str, str | None] = dict.fromkeys(values, file)
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: expected key=value, such as slices.items=200")
        _put(values, key.strip().split("."), _yaml(value, f"--set {text!r}"), text)
        where[key.strip().split(".")[0]] = f"--set {text}"
    for key, value in flags.items():
        if value not in (None, (), []):
            _put(values, key.split("."), value, key)
            where.pop(key.split(".")[0], None)
    try:
        return job.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explained(job, error, where)) from error


def _read(file: str) -> dict[str, Any]:
    try:
        values = _yaml(Path(file).read_text(), file)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {file!r}: {getattr(error, 'strerror', error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected keys such as 'inputs' and 'output'")
    return values


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def _put(values: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: {key!r} has no keys of its own")
    values[path[-1]] = value


def _explained(job: type[Job], error: ValidationError, where: dict[str, Any]) -> str:
    first = error.errors()[0]
    path = [str(key) for key in first["loc"]]
    source = f" in {where[path[0]]}" if path and where.get(path[0]) else ""
    if first["type"] == "extra_forbidden":
        known = sorted(_fields(job, path[:-1]))
        close = difflib.get_close_matches(path[-1], known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return f"unknown key {'.'.join(path)!r}{source}; {hint}"
    if first["type"] == "missing":
        return f"{'.'.join(path)!r} is missing: {_fields(job, path[:-1])[path[-1]]}"
    what = first["msg"].lower().removeprefix("value error, ")
    return f"{'.'.join(path)}{source}: {what}, not {first['input']!r}"


def _fields(model: type[BaseModel], path: list[str]) -> dict[str, str | None]:
    for key in path:
        field = model.model_fields[key].annotation
        if not (isinstance(field, type) and issubclass(field, BaseModel)):
            return {}
        model = field
    return {name: field.description for name, field in model.model_fields.items()}


def with_thresholds(hashers: tuple[str, ...], file: str) -> tuple[str, ...]:
    """Each SPEC with its threshold in a file that a benchmark wrote; SPEC@THRESHOLD stays. Raises ConfigError."""
    known = _read(file).get("thresholds")
    if not isinstance(known, dict) or not all(_is_number(value) for value in known.values()):
        raise ConfigError(
            f"{file}: expected 'thresholds:' with a number for each hasher, as `neardup benchmark` writes"
        )
    found = []
    for text in hashers:
        spec = canonical(parse(text.partition("@")[0]))
        if "@" not in text and spec not in known:
            named = ", ".join(map(str, known)) or "none"
            raise ConfigError(f"{file} has no threshold for {spec}, it has {named}; give one: --hasher {spec}@T")
        found.append(text if "@" in text else f"{spec}@{known[spec]:.17g}")
    return tuple(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def dump(job: type[Job]) -> str:
    """A YAML configuration of a job with every key, its default and what it means."""
    lines: list[str] = []
    _dump(job, "", lines)
    return "\n".join(lines) + "\n"


def _dump(model: type[BaseModel], indent: str, lines: list[str]) -> None:
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            lines.append(f"{indent}{name}:")
            _dump(type(field.default), indent + "  ", lines)
            continue
        value = _EXAMPLES[name] if field.is_required() else field.default
        text = value.human_readable() if isinstance(value, ByteSize) else json.dumps(value)  # both are YAML
        lines.append(f"{indent}{name}: {text}  # {field.description}")


_EXAMPLES: dict[str, Any] = {
    "inputs": ("photos",),
    "output": "out",
    "known": ("known.csv",),
    "uri_column": "url",
    "uri": "photos/a.jpg",
}
