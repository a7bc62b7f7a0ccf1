"""From packets to frames: what is shown, which of it is sampled, and its pixels."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import dropwhile
from typing import Final, Literal, NamedTuple

import av.error
import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from neardup.errors import UndecodableError, UsageError
from neardup.media.video.container import (
    DEFAULT_POLICY,
    Clock,
    Source,
    Video,
    VideoPolicy,
    one_line,
    open_video,
    translated_errors,
)
from neardup.media.video.packets import VideoPacket, all_packets, key_packets
from neardup.media.video.segments import WHOLE, Segment

Pixels = npt.NDArray[np.uint8]
Rate = float | Literal["keyframes"] | None
"""Frames per second; None: every frame; "keyframes": only those that stand for themselves."""

_ALMOST: Final = 1e-9  # presentation times are fractions of the container's clock, the grid is of floats


class Frame(NamedTuple):
    """A sampled frame: uint8 RGB of shape (height, width, 3), upright; its index among the frames of the source.

    `timestamp_s` is the sampling's time (index over average rate, as the reference has it, or the presentation clock);
    `shown_s` is when the container shows the frame, in seconds from the start of the stream.
    """

    pixels: Pixels
    frame_index: int
    timestamp_s: float
    shown_s: float


class Shown:
    """A decoded frame that is not converted to RGB yet; shown from `shown_s` until the next at `until_s`."""

    def __init__(self, frame: VideoFrame, index: int, shown_s: float, convert: Callable[[VideoFrame], Pixels]) -> None:
        self.index = index
        self.shown_s = shown_s
        self.until_s = shown_s
        self._frame = frame
        self._convert = convert
        self._pixels: Pixels | None = None

    def pixels(self) -> Pixels:
        """uint8 RGB of shape (height, width, 3), C-contiguous, upright; converted once."""
        if self._pixels is None:
            self._pixels = self._convert(self._frame)
        return self._pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole frame, upright, whatever the size of the pixels that are asked for."""
        width, height = self._frame.width, self._frame.height
        return (height, width) if round(self._frame.rotation / 90) % 2 else (width, height)


Sampler = Callable[[Shown], Iterable[float]]
"""For each shown frame, in order, the timestamps at which it is sampled: none, one, or several at a higher rate."""


def decode_frames(
    source: Source, frames_per_second: Rate = None, policy: VideoPolicy = DEFAULT_POLICY, segment: Segment = WHOLE
) -> Generator[Frame]:
    """The sampled frames of a video, or of one segment of it.

    Frames that can be decoded come first; then UndecodableError says what is missing or damaged, if anything is.
    Raises as `open_video` before the first frame.
    """
    with open_video(source, policy) as video:
        yield from sampled_frames(video, frames_per_second, segment)


def sampled_frames(video: Video, rate: Rate = None, segment: Segment = WHOLE) -> Generator[Frame]:
    """The sampled frames of an open video; see `decode_frames`."""
    sampler = make_sampler(video, rate, segment)
    frames = shown_keyframes(video, segment) if rate == "keyframes" else shown_frames(video, segment)
    with closing(frames):
        for shown in frames:
            for timestamp_s in sampler(shown):
                yield Frame(shown.pixels(), shown.index, timestamp_s, shown.shown_s)


def shown_frames(video: Video, segment: Segment = WHOLE) -> Generator[Shown]:
    """Every frame that is shown, in order; at the end UndecodableError if something is missing or damaged."""
    packets = _packets_from(video, segment)
    frames = _counted(_decoded(video, packets), segment)
    yield from _shown(video, frames, segment)


def shown_keyframes(video: Video, segment: Segment = WHOLE) -> Generator[Shown]:
    """Every keyframe that is shown, each decoded alone; of an MP4, little else is read."""
    yield from _shown(video, _decoded_keys(video, segment), segment)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _shown(video: Video, frames: Iterator[tuple[int, VideoFrame]], segment: Segment) -> Iterator[Shown]:
    """Each frame together with the time of the next; what was found damaged is raised behind the last."""
    if segment.stop_pts is not None:
        video.damage.clear()  # the file's end is the business of the last segment
    convert = _converter(video.policy)
    held: Shown | None = None
    count = 0
    with translated_errors(video.reader):
        frame_s = 1 / video.fps
        for index, frame in frames:
            shown_s = index * frame_s if frame.pts is None else video.seconds(frame.pts)
            if held is not None:
                held.until_s = shown_s
                yield held
            held = Shown(frame, index, shown_s, convert)
            count += 1
        if held is not None:
            held.until_s = held.shown_s + frame_s if segment.stop_pts is None else video.seconds(segment.stop_pts)
            yield held
    if video.reader.failure is not None:  # FFmpeg took it for the end
        raise video.reader.failure
    if video.damage:
        raise UndecodableError(f"{_summary(video.damage)}; {count:,} frames were decoded")
    if not count:
        raise UndecodableError("its video stream holds no frames")


def _packets_from(video: Video, segment: Segment) -> Iterator[VideoPacket]:
    """The packets of a segment: from its keyframe on."""
    if segment.start_pts is None:
        yield from all_packets(video)
        return
    for target in _seek_targets(video, segment):
        video.container.seek(target, stream=video.stream)
        packets = dropwhile(lambda packet: not _reaches(packet, segment), all_packets(video))
        first = next(packets, None)
        if first is not None and first.pts == segment.start_pts:
            yield first
            yield from packets
            return
    raise UndecodableError("the keyframe that a segment starts with was not found: has the file changed?")


def _seek_targets(video: Video, segment: Segment) -> list[int]:
    """Where to look for the keyframe: some containers are sought by decoding times, or land behind what is sought."""
    pts = segment.start_pts or 0
    dts = pts if segment.start_dts is None else segment.start_dts
    second = int(1 / video.stream.time_base) if video.stream.time_base else 0
    return [pts, dts, dts - 2 * second, video.stream.start_time or 0]


def _reaches(packet: VideoPacket, segment: Segment) -> bool:
    return packet.is_keyframe and segment.holds(packet.pts)


def _counted(frames: Iterator[VideoFrame], segment: Segment) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of the segment with their indexes; a damaged frame counts, but is not given."""
    index = segment.first_index
    for frame in frames:
        if segment.is_past(frame.pts):
            return
        if segment.holds(frame.pts):
            if not frame.is_corrupt:
                yield index, frame
            index += 1


def _decoded(video: Video, packets: Iterator[VideoPacket]) -> Iterator[VideoFrame]:
    for packet in packets:
        yield from _decode(video, packet)
    yield from _decode(video, None)


def _decoded_keys(video: Video, segment: Segment) -> Iterator[tuple[int, VideoFrame]]:
    """Each keyframe as if it were alone: the decoder is emptied behind it, so that no frame depends on another."""
    for packet, index in key_packets(video, segment.start_dts):
        if segment.is_past(packet.pts):
            return
        if segment.holds(packet.pts):
            frames = [*_decode(video, packet), *_decode(video, None)]
            video.stream.codec_context.flush_buffers()
            if frames and not frames[0].is_corrupt:
                yield index, frames[0]


def _decode(video: Video, packet: "VideoPacket | None") -> list[VideoFrame]:
    """The frames that come out when this packet goes in; None empties the decoder."""
    try:
        return video.stream.codec_context.decode(packet)
    except MemoryError:
        raise
    except av.error.FFmpegError as exc:
        video.damage.append(f"a packet cannot be decoded: {one_line(exc)}")
        return []


def _summary(damage: list[str]) -> str:
    """What was found first of each kind, and how often."""
    counts = {text: damage.count(text) for text in dict.fromkeys(damage)}
    return "; ".join(f"{text} ({count:,} times)" if count > 1 else text for text, count in list(counts.items())[:3])


# --- sampling ---------------------------------------------------------------------------------------------------------


def check_rate(rate: Rate) -> None:
    """Raises UsageError for a rate that cannot be meant."""
    if isinstance(rate, str) and rate != "keyframes":
        raise UsageError(f"frames_per_second is {rate!r}; it is a number, None (every frame) or 'keyframes'")
    if isinstance(rate, (int, float)) and not 0 < rate < float("inf"):
        raise UsageError(f"frames_per_second is {rate}; it must be above 0")


def make_sampler(video: Video, rate: Rate, segment: Segment = WHOLE, clock: Clock | None = None) -> Sampler:
    """Which frames are sampled, by a clock, or by the policy's."""
    check_rate(rate)
    is_nominal, fps = (clock or video.policy.clock) == "nominal", video.fps
    if rate is None or isinstance(rate, str):
        return (lambda shown: (shown.index / fps,)) if is_nominal else (lambda shown: (shown.shown_s,))
    return _nominal_sampler(fps, rate, segment.first_index) if is_nominal else _presentation_sampler(rate)


def _nominal_sampler(fps: float, rate: float, first_index: int) -> Sampler:
    """The reference's sampling: positions 0, s, s + s, … with s = fps / rate, each the first frame not before it.

    Positions are added up, not multiplied, as their rounding decides which frame is first. At a rate above the
    video's, each frame is repeated until the next one's time.
    """
    step = max(1.0, fps / rate)
    position = 0.0
    while position <= first_index - 1:
        position += step

    def sample(shown: Shown) -> Iterator[float]:
        nonlocal position
        if shown.index < position:
            return
        timestamp_s = position / fps
        while position <= shown.index:
            position += step
        yield timestamp_s
        while rate > fps and (timestamp_s := timestamp_s + 1 / rate) < (shown.index + 1) / fps:
            yield timestamp_s

    return sample


def _presentation_sampler(rate: float) -> Sampler:
    """The frames that are shown at the times 0, 1 / rate, 2 / rate, …; each once."""

    def sample(shown: Shown) -> Iterator[float]:
        tick = np.ceil(shown.shown_s * rate - _ALMOST) + 0.0  # never -0.0
        if tick / rate < shown.until_s - _ALMOST:
            yield float(tick / rate)

    return sample


# --- pixels -----------------------------------------------------------------------------------------------------------


def _converter(policy: VideoPolicy) -> Callable[[VideoFrame], Pixels]:
    """RGB, turned as the container says, made smaller as the policy says. One converter per video keeps its tables."""
    reformatter = VideoReformatter()

    def convert(frame: VideoFrame) -> Pixels:
        width, height = _limited(frame.width, frame.height, policy.max_side)
        if policy.scaling == "area":
            rgb = reformatter.reformat(frame, width, height, "rgb24", interpolation="AREA")
        else:
            rgb = reformatter.reformat(frame, format="rgb24")
        pixels = np.rot90(rgb.to_ndarray(), round(frame.rotation / 90))
        if policy.scaling == "nearest" and (width, height) != (frame.width, frame.height):
            size = (width, height) if pixels.shape[:2] == (frame.height, frame.width) else (height, width)
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        return np.ascontiguousarray(pixels)

    return convert


def _limited(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    scale = 1.0 if max_side is None else min(max_side / max(width, height), 1.0)
    return max(1, int(scale * width)), max(1, int(scale * height))
