"""One long video on many workers: cut at keyframes, its segments hashed to pieces, the pieces merged to its rows.

Where a video may be cut depends on the file and the wanted seconds alone; the rows do not depend on it at all.
"""

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from neardup import storage, tables
from neardup.hashers import parse
from neardup.stages.hashing import Facts, HashTask, Receipt, Unseen, hash_slice, is_gone, lease, write_slice
from neardup.stages.live import Slice
from neardup.work import Answer, Clip, Cut, Merge, SegmentNumbers, can_be_cut


class CutTask(NamedTuple):
    """A slice of one long video, to be cut into segments of at least so many seconds."""

    slice: HashTask
    seconds: float


class LongVideo(NamedTuple):
    """A slice of one video and where it is cut; no segments where it is hashed whole."""

    slice: HashTask
    segments: list[SegmentNumbers]


class SegmentTask(NamedTuple):
    """One segment of a video, whose piece becomes a work file."""

    slice: HashTask
    segment: SegmentNumbers
    name: str


class Hashed(NamedTuple):
    """What hashing one segment took."""

    seconds: float
    children_replaced: int


def long_videos(listing: pa.Table, slices: Sequence[Slice], tasks: Sequence[HashTask], cut_bytes: int) -> set[str]:
    """The parts of the slices that hold one video of more bytes than this; not one that is unpacked to be opened."""
    kinds, sizes, places = (listing[name].to_pylist() for name in ("kind", "size", "place"))
    return {
        task.part
        for one, task in zip(slices, tasks, strict=True)
        if len(one.rows) == 1
        and kinds[one.rows[0]] == "video"
        and (sizes[one.rows[0]] or 0) > cut_bytes
        and (places[one.rows[0]] or {}).get("kind") not in ("deflate", "packed")
        and can_be_cut([parse(spec) for spec in task.specs], task.options.sampling)
    }


def cut_video(task: CutTask) -> LongVideo:
    """Find where a video may be cut. One that cannot be read or cut is left whole, and says why when it is hashed."""
    uri, place = _where(task.slice)
    with lease(task.slice.specs, task.slice.options) as child:
        (answer,) = child.work([Cut(uri, task.seconds, place, task.slice.options.max_bytes)])
    segments = answer.segments or []
    return LongVideo(task.slice, segments if len(segments) > 1 else [])


def segment_tasks(video: LongVideo) -> list[SegmentTask]:
    """The segments of a video that no interrupted run has left hashed."""
    folder = f"{video.slice.work.removesuffix('.parquet')}-{video.slice.part.removesuffix('.parquet')}"
    return [
        SegmentTask(video.slice, segment, f"{folder}/segment-{number:06d}")
        for number, segment in enumerate(video.segments)
    ]


def hash_part(task: SegmentTask | HashTask) -> Hashed | Receipt | Unseen:
    """Hash a segment of a video, or a slice of whole items."""
    return hash_segment(task) if isinstance(task, SegmentTask) else hash_slice(task)


def hash_segment(task: SegmentTask) -> Hashed | Unseen:
    """Hash one segment and write its piece, unless an interrupted run has left it."""
    begun = time.perf_counter()
    if storage.read(task.slice.root, task.name) is not None:
        return Hashed(0.0, 0)
    uri, place = _where(task.slice)
    with lease(task.slice.specs, task.slice.options) as child:
        replaced = child.replaced
        (answer,) = child.work([Clip(uri, task.segment, place, task.slice.options.max_bytes)])
        replaced = child.replaced - replaced
    if (
        answer.error_class == "permanent"
        and not task.slice.gone_is_confirmed
        and is_gone(uri, place and place._asdict())
    ):
        return Unseen(task, (uri,))
    failure = [answer.error_class, answer.error_stage, answer.error]
    data = json.dumps(failure).encode() + b"\n" + (answer.piece or b"")
    storage.write(task.slice.root, task.name, data)
    return Hashed(time.perf_counter() - begun, replaced)


def merge_segments(tasks: Sequence[SegmentTask]) -> Receipt | Unseen:
    """Make the pieces of one video its rows, and write them as a slice."""
    task = tasks[0].slice._replace(gone_is_confirmed=True)  # where a segment was not there, the driver has looked
    pieces = []
    answer = None
    for name in (one.name for one in tasks):
        failure, _, piece = (storage.read(task.root, name) or b"").partition(b"\n")
        error_class, stage, error = json.loads(failure)
        if error_class:
            answer = Answer(error_class=error_class, error_stage=stage, error=error)
            break
        pieces.append(piece)
    if answer is None:
        with lease(task.specs, task.options) as child:
            (answer,) = child.work([Merge(tuple(pieces))])
    return write_slice(task, tables.read_row_group(task.root, task.work, task.row_group), Facts(), [answer])


def confirmed(task: SegmentTask | HashTask) -> SegmentTask | HashTask:
    """The same task, to record as gone what is not there."""
    if isinstance(task, SegmentTask):
        return task._replace(slice=task.slice._replace(gone_is_confirmed=True))
    return task._replace(gone_is_confirmed=True)


def _where(task: HashTask) -> tuple[str, storage.Member | None]:
    """The uri of a slice's video, and its place in a container."""
    (row,) = tables.read_row_group(task.root, task.work, task.row_group).select(["uri", "place"]).to_pylist()
    return row["uri"], storage.Member(**row["place"]) if row["place"] else None
