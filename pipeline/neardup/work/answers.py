"""What became of an item."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from neardup.errors import ErrorClass, MediaError, MissingError, TransientError

# of a media.video.Segment: first_index, start_pts, start_dts, stop_pts
SegmentNumbers = tuple[int, int | None, int | None, int | None]


class HashRow(NamedTuple):
    """One hash of an item; `hash` is the packed bytes, or None with the reason in `error`."""

    variant: str
    frame_index: int
    timestamp_s: float | None
    hash: bytes | None
    quality: int | None
    error: str | None


@dataclass
class Answer:
    """What became of one item: a failure (`error_class` set), or its facts and one list of rows per hasher.

    Of a damaged item that could be decoded in part, `error` says what is missing. The answer to a part of a video is a
    `piece`, that to the question where it can be cut is `segments`: plain bytes and numbers for what comes next.
    """

    format: str | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    frame_count: int | None = None
    partial: bool | None = None
    sampled: bool = False  # whether rows depend on how frames are sampled
    error_class: ErrorClass | None = None
    error_stage: str | None = None
    error: str | None = None
    hashes: list[list[HashRow]] = field(default_factory=list)
    piece: bytes | None = None
    segments: list[SegmentNumbers] | None = None
    images: list[bytes | None] = field(default_factory=list)  # of each transform a PNG, where they are kept


def failed(error: MediaError, stage: str | None = None) -> Answer:
    """The answer for an item that could not be had or decoded."""
    unread = isinstance(error, MissingError | TransientError)
    return Answer(
        error_class=error.error_class, error_stage=stage or ("read" if unread else "decode"), error=str(error)
    )


def poisoned(how: str) -> Answer:
    """The answer for an item that killed, hung or exhausted its decoder."""
    return Answer(error_class="poison", error_stage="decode", error=f"{how} while decoding")


def no_hash(error: str) -> HashRow:
    """The row of an item that has no hash."""
    return HashRow("r0", 0, None, None, None, error)


class HasherError(Exception):
    """A hasher failed on an item; its text is the row's error. Never leaves this package."""


@contextmanager
def blamed_on_hasher() -> Iterator[None]:
    """A hasher may be anyone's code: whatever it raises is a row, not the end of the run."""
    try:
        yield
    except MemoryError as error:
        raise HasherError("poison: ran out of memory (--memory-limit)") from error
    except Exception as error:
        raise HasherError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}") from error
