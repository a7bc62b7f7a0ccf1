"""Frames to hash rows: which frames are sampled, how one is hashed, and which of them are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, NamedTuple, cast

from neardup.errors import UsageError
from neardup.hashers import Hasher, Planes
from neardup.hashers.encoding import Vector
from neardup.hashers.letterbox import unletterbox_crop
from neardup.media import AnimationFrame
from neardup.work.answers import HashRow, blamed_on_hasher, no_hash

Rate = float | Literal["keyframes"] | None
Clock = Literal["nominal", "presentation"]
_ALMOST = 1e-9  # seconds: shown times are sums of durations, ticks are of floats


@dataclass(frozen=True)
class Sampling:
    """Which frames of videos and animations are hashed by a hasher of images, and which of these are kept.

    `frames_per_second` is a number, None (every frame) or "keyframes". A frame is kept if its quality reaches
    `min_quality` and its distance from the frame kept before it is above `interframe_threshold`, in the hasher's own
    distance. `unletterbox`: frames are hashed without the bars around them. `max_side`: larger frames are made smaller
    while they are decoded. `max_duration_s`: longer videos are refused.
    """

    frames_per_second: Rate = 1.0
    interframe_threshold: float = 0.1
    min_quality: int = 90
    unletterbox: bool = False
    max_side: int | None = None
    max_duration_s: float | None = None

    @cached_property
    def spec(self) -> str:
        """Canonical text of everything that can change a row."""
        rate = "all" if self.frames_per_second is None else self.frames_per_second
        side = f";side={self.max_side}" if self.max_side else ""
        kept = f"interframe={self.interframe_threshold:g};quality={self.min_quality}{';unletterbox' * self.unletterbox}"
        return f"frames={rate if isinstance(rate, str) else f'{rate:g}'};{kept}{side}"


class FramePlan(NamedTuple):
    """How a hasher of images goes through the frames of a video."""

    hasher: Hasher
    rate: Rate
    clock: Clock
    interframe_threshold: float
    min_quality: float
    compare_to: Literal["previous", "first"]
    unletterbox: bool = False


def frame_plan(hasher: Hasher, sampling: Sampling) -> FramePlan | None:
    """The plan of a hasher of images, by the sampling, or of a FramewiseHasher, by its own; None for other hashers."""
    if hasher.takes == "image":
        kept = (sampling.interframe_threshold, sampling.min_quality)
        return FramePlan(hasher, sampling.frames_per_second, "presentation", *kept, "previous", sampling.unletterbox)
    from neardup.hashers.video import FramewiseHasher  # whoever has such a hasher has loaded FFmpeg's libraries

    if not isinstance(hasher, FramewiseHasher):
        return None
    quality = hasher.quality_threshold or 0
    rate, threshold = hasher.frames_per_second, hasher.interframe_threshold
    return FramePlan(hasher.frame_hasher, rate, "nominal", threshold, quality, hasher.compare_to)


def frame_rows(plan: FramePlan, planes: Planes, index: int, timestamp_s: float, isometric: bool) -> list[HashRow]:
    """The rows of one frame: none without a hash or below the quality, else one, or one per isometric variant.

    Raises HasherError.
    """
    hasher = plan.hasher
    with blamed_on_hasher():
        if hasher.returns_multiple:
            raise UsageError("it gives several hashes per image, so it hashes no frames of videos")
        upright, quality = hasher.hash_planes(planes)
        if upright is None or quality < plan.min_quality:
            return []
        variants = hasher.hash_planes_isometric(planes)[0] if isometric else {"r0": upright}
        return [
            HashRow(variant, index, timestamp_s, hasher.pack(cast("Vector", vector)), int(quality), None)
            for variant, vector in variants.items()
            if vector is not None
        ]


def without_bars(planes: Planes) -> Planes:
    """The planes of the picture within the bars; of the whole frame where nothing else would be left."""
    picture = unletterbox_crop(planes.rgb)
    return planes if picture is None or picture.shape == planes.rgb.shape else Planes(picture)


def kept_rows(plan: FramePlan, rows: Sequence[HashRow]) -> list[HashRow]:
    """The rows of the frames that are kept, from those of all sampled frames in order; a null row where there is none.

    Raises HasherError.
    """
    from neardup.hashers.video import kept_frames

    frames = [list(group) for _, group in groupby(rows, key=lambda row: (row.frame_index, row.timestamp_s))]
    with blamed_on_hasher():
        vectors = [plan.hasher.unpack(packed) if (packed := frame[0].hash) is not None else None for frame in frames]
        kept = kept_frames(vectors, plan.hasher, plan.interframe_threshold, plan.compare_to)
    return [row for frame in kept for row in frames[frame]] or [no_hash(_no_frame(plan))]


def is_sampled(frame: AnimationFrame, rate: Rate) -> float | None:
    """When a frame of an animation is sampled: at the first tick while it is shown; None where it is not."""
    if not isinstance(rate, (int, float)):
        return frame.shown_s
    tick = math.ceil(frame.shown_s * rate - _ALMOST)
    return tick / rate if tick / rate < frame.until_s - _ALMOST else None


def _no_frame(plan: FramePlan) -> str:
    return f"no sampled frame has a hash of quality {plan.min_quality:g} or more (--frame-quality)"
