"""The kinds of item, how they travel to another process, and what is done with each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from neardup.errors import MediaError
from neardup.hashers import Hasher
from neardup.media import DecodePolicy
from neardup.memory import beyond_limit
from neardup.work.altering import Altering, altered_answer
from neardup.work.answers import Answer, SegmentNumbers, failed, poisoned
from neardup.work.frames import Sampling
from neardup.work.image import image_answer
from neardup.work.watch import DECODING, Watch

if TYPE_CHECKING:  # images have no use for stores and their libraries: `storage` is imported where videos are opened
    from neardup.storage import Member


class Clip(NamedTuple):
    """A video by its uri, to be hashed; or one segment of it, to be hashed to a piece."""

    uri: str
    segment: SegmentNumbers | None = None
    place: "Member | None" = None  # in an archive
    max_bytes: int = 512 << 20  # of one that must be unpacked to be opened


class Cut(NamedTuple):
    """A video by its uri, to be cut into segments of at least so many seconds."""

    uri: str
    seconds: float
    place: "Member | None" = None
    max_bytes: int = 512 << 20


class Merge(NamedTuple):
    """The pieces of a video, in order, to be made one answer."""

    pieces: tuple[bytes, ...]


Item = bytes | Clip | Cut | Merge  # bytes: those of an image


@dataclass(frozen=True)
class Work:
    """What is done with every item."""

    hashers: Sequence[Hasher]
    policy: DecodePolicy = field(default_factory=DecodePolicy)
    sampling: Sampling = field(default_factory=Sampling)
    isometric: bool = False
    altering: Altering = field(default_factory=Altering)


def do(item: Item, work: Work, watch: Watch) -> Answer:
    """What becomes of one item."""
    try:
        if isinstance(item, bytes) and work.altering.transforms:
            return altered_answer(item, work.hashers, work.policy, work.altering, watch)
        if isinstance(item, bytes):
            return image_answer(item, work.hashers, work.policy, work.sampling, work.isometric, watch)
        return _do_video(item, work, watch)
    except MediaError as error:
        return failed(error)
    except MemoryError:
        return poisoned("ran out of memory (--memory-limit)")


def _do_video(item: Clip | Cut | Merge, work: Work, watch: Watch) -> Answer:
    with beyond_limit():
        from neardup import storage
        from neardup.media.video import Segment, cut_segments  # nor for FFmpeg's libraries
        from neardup.work.video import packed_piece, piece_of, unpacked_piece, video_answer, video_policy

    if isinstance(item, Merge):
        return video_answer([unpacked_piece(piece) for piece in item.pieces], work.hashers, work.sampling)
    watch.enter(DECODING)
    policy = video_policy(work.sampling, work.policy.max_pixels)
    with storage.open_object(item.uri, item.max_bytes, item.place) as file:
        if isinstance(item, Cut):
            return Answer(segments=[(*segment,) for segment in cut_segments(file, item.seconds, policy)])
        segment = Segment(*item.segment) if item.segment else Segment()
        piece = piece_of(file, segment, work.hashers, policy, work.sampling, work.isometric, watch)
    if item.segment:
        return Answer(piece=packed_piece(piece))
    return video_answer([piece], work.hashers, work.sampling)


def can_be_cut(hashers: Sequence[Hasher], sampling: Sampling) -> bool:
    """Can all of these hashers go through the segments of a video one by one, on different workers?"""
    from neardup.work import video

    return video.can_be_cut(hashers, sampling)


def to_wire(item: Item) -> tuple[list[Any], bytes]:
    """An item as a short header, and its bytes."""
    if isinstance(item, bytes):
        return ["image"], item
    if isinstance(item, Merge):
        return ["merge", [len(piece) for piece in item.pieces]], b"".join(item.pieces)
    return [type(item).__name__.lower(), *item], b""


def from_wire(header: Sequence[Any], body: bytes) -> Item:
    """The item that `to_wire` made a header and bytes of."""
    kind, *fields = header
    if kind == "image":
        return body
    if kind == "cut":
        uri, seconds, place, max_bytes = fields
        return Cut(uri, seconds, _member(place), max_bytes)
    if kind == "clip":
        uri, segment, place, max_bytes = fields
        return Clip(uri, tuple(segment) if segment else None, _member(place), max_bytes)
    pieces, start = [], 0
    for length in fields[0]:
        pieces.append(body[start : start + length])
        start += length
    return Merge(tuple(pieces))


def _member(place: Sequence[Any] | None) -> "Member | None":
    with beyond_limit():
        from neardup.storage import Member

    return Member(*place) if place else None
