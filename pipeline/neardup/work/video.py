"""The hashes of a video: every sampled frame of a piece of it, then what is kept of all pieces."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgpack
import numpy as np

from neardup.errors import UndecodableError
from neardup.hashers import Hasher, Planes
from neardup.hashers.video import VideoHasher
from neardup.media.video import (
    Rate,
    Segment,
    Source,
    VideoPolicy,
    check_rate,
    make_sampler,
    open_video,
    shown_frames,
    shown_keyframes,
)
from neardup.work.answers import Answer, HasherError, HashRow, blamed_on_hasher, failed, no_hash
from neardup.work.frames import Clock, FramePlan, Sampling, frame_plan, frame_rows, kept_rows, without_bars
from neardup.work.watch import DECODING, Watch

_ASSUMED_FPS = 10.0  # of a container that states no rate, as the reference assumes
_MOST_DAMAGE = 3  # lines in an item's error


class StatePlan(NamedTuple):
    """How a hasher of videos goes through the frames: it threads a state through them."""

    hasher: VideoHasher
    rate: Rate
    clock: Clock
    unletterbox: bool = False


Plan = FramePlan | StatePlan


@dataclass
class Piece:
    """What a segment of a video, or the whole of it, gave: facts, what is damaged, and per hasher rows or a state."""

    format: str
    width: int
    height: int
    duration_s: float | None
    frames: int = 0
    is_counted: bool = True  # whether every frame was decoded
    has_frames: bool = False
    until_s: float = 0.0
    damage: list[str] = field(default_factory=list)
    rows: dict[int, list[HashRow]] = field(default_factory=dict)
    states: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)  # of the hashers that failed


def video_policy(sampling: Sampling, max_pixels: int) -> VideoPolicy:
    """How videos are decoded."""
    return VideoPolicy(
        max_pixels=max_pixels,
        max_duration_s=sampling.max_duration_s,
        max_side=sampling.max_side,
        scaling="area" if sampling.max_side else "nearest",
        clock="presentation",
        assumed_fps=_ASSUMED_FPS,
    )


def can_be_cut(hashers: Sequence[Hasher], sampling: Sampling) -> bool:
    """Can all of these hashers go through the segments of a video one by one, on different workers?"""
    plans = (_plan(hasher, sampling) for hasher in hashers)
    states = [plan.hasher for plan in plans if isinstance(plan, StatePlan)]
    return all(type(hasher).merge_states is not VideoHasher.merge_states for hasher in states)


# --- pieces -----------------------------------------------------------------------------------------------------------


def piece_of(
    source: Source,
    segment: Segment,
    hashers: Sequence[Hasher],
    policy: VideoPolicy,
    sampling: Sampling,
    isometric: bool,
    watch: Watch,
) -> Piece:
    """Hash the sampled frames of a segment; it is decoded once, and once more where some hashers want keyframes only.

    Raises MediaError where nothing can be read; what is damaged is in the piece.
    """
    watch.enter(DECODING)
    plans = {number: _plan(hasher, sampling) for number, hasher in enumerate(hashers) if number not in watch.skipped}
    with open_video(source, policy) as video:
        header = video.header
    piece = Piece(header.format, header.width, header.height, header.duration_s, errors=dict(watch.skipped))
    for keyframes in (False, True):
        group = {number: plan for number, plan in plans.items() if (plan.rate == "keyframes") == keyframes}
        if group or not (plans or keyframes):  # without any hasher left, the facts are still wanted
            _go_through(source, segment, group, policy, isometric, piece, watch)
    return piece


def _plan(hasher: Hasher, sampling: Sampling) -> Plan:
    plan = frame_plan(hasher, sampling)
    if plan is not None:
        return plan
    video_hasher = cast("VideoHasher", hasher)
    check_rate(video_hasher.frames_per_second)
    return StatePlan(video_hasher, video_hasher.frames_per_second, "nominal")


def _go_through(
    source: Source,
    segment: Segment,
    plans: Mapping[int, Plan],
    policy: VideoPolicy,
    isometric: bool,
    piece: Piece,
    watch: Watch,
) -> None:
    """One decode for these plans, all of keyframes only, or none."""
    keyframes = any(plan.rate == "keyframes" for plan in plans.values())
    for number, plan in plans.items():
        if isinstance(plan, FramePlan):
            piece.rows[number] = []
    count = 0
    with open_video(source, policy) as video:
        samplers = {k: make_sampler(video, plan.rate, segment, plan.clock) for k, plan in plans.items()}
        try:
            with closing((shown_keyframes if keyframes else shown_frames)(video, segment)) as frames:
                for shown in frames:
                    count += 1
                    watch.tick()
                    piece.until_s = max(piece.until_s, shown.until_s)
                    piece.width, piece.height = shown.size
                    wanted = {k: times for k, sampler in samplers.items() if (times := [*sampler(shown)])}
                    if not wanted:
                        continue
                    whole = Planes(shown.pixels())
                    picture = without_bars(whole) if any(plans[k].unletterbox for k in wanted) else whole
                    for number in [k for k in wanted if k not in piece.errors]:
                        watch.enter(number + 1)
                        plan = plans[number]
                        planes = picture if plan.unletterbox else whole
                        _take(plan, number, shown.index, planes, wanted[number], isometric, piece)
                    watch.enter(DECODING)
        except UndecodableError as error:
            if video.damage:
                piece.damage += video.damage
            elif count or segment == Segment():
                piece.damage.append(str(error))  # else: a segment without a frame of its own
    piece.damage = list(dict.fromkeys(piece.damage))
    if keyframes:
        piece.is_counted = piece.frames > 0
    else:
        piece.frames = count
    piece.has_frames = piece.has_frames or count > 0


def _take(
    plan: Plan, number: int, index: int, planes: Planes, times: Sequence[float], isometric: bool, piece: Piece
) -> None:
    """Hash one sampled frame with one hasher."""
    try:
        for timestamp_s in times:
            if isinstance(plan, FramePlan):
                piece.rows[number] += frame_rows(plan, planes, index, timestamp_s, isometric)
            else:
                with blamed_on_hasher():
                    state = plan.hasher.process_frame(planes.rgb, index, timestamp_s, piece.states.get(number))
                    piece.states[number] = {**state, "end": timestamp_s}
    except HasherError as error:
        piece.errors[number] = str(error)


# --- all pieces together ----------------------------------------------------------------------------------------------


def video_answer(pieces: Sequence[Piece], hashers: Sequence[Hasher], sampling: Sampling) -> Answer:
    """The answer for a video from its pieces in order, however many there are."""
    first = pieces[0]
    damage = sorted({line for piece in pieces for line in piece.damage})[:_MOST_DAMAGE]
    with_frames = [piece for piece in pieces if piece.has_frames]
    if not with_frames:
        return failed(UndecodableError("; ".join(damage) or "its video stream holds no frames"))
    answer = Answer(
        format=first.format,
        width=with_frames[0].width,
        height=with_frames[0].height,
        duration_s=first.duration_s or max(piece.until_s for piece in pieces),
        frame_count=sum(piece.frames for piece in pieces) if all(piece.is_counted for piece in pieces) else None,
        partial=bool(damage),
        sampled=True,
        error="; ".join(damage) or None,
    )
    for number, hasher in enumerate(hashers):
        error = next((piece.errors[number] for piece in pieces if number in piece.errors), None)
        try:
            rows = [no_hash(error)] if error else _video_rows(_plan(hasher, sampling), number, with_frames)
        except HasherError as failure:
            rows = [no_hash(str(failure))]
        answer.hashes.append(rows)
    return answer


def _video_rows(plan: Plan, number: int, pieces: Sequence[Piece]) -> list[HashRow]:
    if isinstance(plan, FramePlan):
        return kept_rows(plan, [row for piece in pieces for row in piece.rows[number]])
    states = [piece.states[number] for piece in pieces if number in piece.states]
    with blamed_on_hasher():
        state = plan.hasher.merge_states(states) if len(states) > 1 else states[0] if states else None
        vectors = None if state is None else plan.hasher.hash_from_final_state(state)
        several = vectors if isinstance(vectors, list) else [] if vectors is None else [vectors]
        rows = [HashRow("r0", k, None, plan.hasher.pack(vector), None, None) for k, vector in enumerate(several)]
    return rows or [no_hash("no sampled frame has a hash")]


# --- pieces as bytes --------------------------------------------------------------------------------------------------


def packed_piece(piece: Piece) -> bytes:
    """A piece as bytes. States hold numbers, texts, lists, mappings and arrays."""
    data: bytes = msgpack.packb({**vars(piece)}, default=_packed_array)
    return data


def unpacked_piece(data: bytes) -> Piece:
    """The piece that `packed_piece` made bytes of."""
    values = msgpack.unpackb(data, object_hook=_unpacked_array, strict_map_key=False)
    rows = {number: [HashRow(*row) for row in several] for number, several in values.pop("rows").items()}
    return Piece(**values, rows=rows)


def _packed_array(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"array": value.dtype.str, "shape": list(value.shape), "data": value.tobytes()}
    raise TypeError(f"a state holds a {type(value).__name__}; it may hold numbers, texts, lists, mappings and arrays")


def _unpacked_array(value: dict[Any, Any]) -> Any:
    if value.keys() == {"array", "shape", "data"}:
        return np.frombuffer(value["data"], value["array"]).reshape(value["shape"]).copy()
    return value
