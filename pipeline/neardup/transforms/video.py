"""Videos to changed videos: what happens to clips on the web, by name.

`VIDEO_TRANSFORMS` names what changes time or the encoding; every transform of `TRANSFORMS` changes each frame, all
alike: `crop:0.05`, `resize:0.5`, `pad` (bars above and below), `watermark`, `flip`. Chains are as for pictures:

    transform = parse_video("clip:start=0.25,end=0.5+resize:0.5+reencode:codec=vp9,share=0.5")
    path = transform("a.mp4", "b")      # writes b.webm and says so; b.mkv where "b.mkv" was asked for
    transform.spec                      # canonical: sorted names, no defaults

A change is made on decoded frames, which are then encoded once: as the last `reencode` says, otherwise as H.264 of high
quality. Frames come at a constant rate, the source's average; sound is left out. The same source gives the same bytes.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from neardup.errors import MissingError, UsageError
from neardup.media.video import VideoPolicy, decode_frames, probe_video
from neardup.media.video.encode import SUFFIXES, Encoding, can_hold, usual_suffix, write_video
from neardup.transforms import TRANSFORMS, Transform, parse
from neardup.transforms.pixels import Pixels
from neardup.transforms.spec import Bounds, arguments_text, parameters, parse_arguments, suggestion

Seconds = Annotated[float, Bounds(0, 1e6)]
Codec = Literal["h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg", "gif", "ffv1"]
Fps = Annotated[float, Bounds(0.001, 1000)]

POLICY = VideoPolicy(assumed_fps=10)
_LAST_SECOND = 1e6


@dataclass(frozen=True)
class Stream:
    """A video on its way: frames at a constant rate, how long they are thought to last, and how they get encoded.

    `duration_s` and `source_bps` (the bits per second of the source file) are None where the container does not say.
    """

    frames: Iterator[Pixels]
    fps: float
    duration_s: float | None
    source_bps: float | None = None
    encoding: Encoding = field(default_factory=Encoding)

    def seconds(self, share: float) -> float:
        """A share of the duration. Raises UsageError where that is not known."""
        if self.duration_s is None:
            raise UsageError("the container states no duration to take a share of; give seconds instead")
        return share * self.duration_s


def reencode(
    stream: Stream,
    codec: Codec = "h264",
    kbps: Annotated[float, Bounds(0, 1e6)] = 0,
    share: Annotated[float, Bounds(0, 16)] = 0,
) -> Stream:
    """With another codec, at so many kilobits per second or a share of the source's; 0 and 0: at its usual quality."""
    if share and not stream.source_bps:
        raise UsageError("the container states no duration, so its bitrate is not known; give kbps instead of share")
    bitrate = 1000 * kbps or share * (stream.source_bps or 0)
    return replace(stream, encoding=replace(stream.encoding, codec=codec, bitrate_bps=bitrate or None))


def fps(stream: Stream, rate: Fps = 30) -> Stream:
    """At another frame rate, as fast as before: frames are repeated or left out."""
    timed = ((pixels, number / stream.fps) for number, pixels in enumerate(stream.frames))
    return replace(stream, frames=steady(timed, rate, 1 / stream.fps), fps=rate)


def clip(
    stream: Stream,
    start: Seconds = 0.25,
    end: Annotated[float, Bounds(0, _LAST_SECOND)] = 0.75,
    unit: Literal["share", "s"] = "share",
) -> Stream:
    """From `start` up to `end` alone: shares of the duration, or seconds."""
    if start >= end:
        raise UsageError(f"clip from {start:g} to {end:g} holds nothing; end must be behind start")
    first, stop = (start, end) if unit == "s" else (stream.seconds(start), stream.seconds(end))
    frames = islice(
        stream.frames, round(first * stream.fps), max(round(stop * stream.fps), round(first * stream.fps) + 1)
    )
    left = None if stream.duration_s is None else max(0.0, min(stop, stream.duration_s) - first)
    return replace(stream, frames=frames, duration_s=left)


def black(
    stream: Stream,
    seconds: Seconds = 2,
    where: Literal["start", "end", "both"] = "start",
    level: Annotated[int, Bounds(0, 255)] = 0,
) -> Stream:
    """With frames of one grey level (0: black) before, behind, or both."""
    count = round(seconds * stream.fps)

    def frames() -> Iterator[Pixels]:
        first = next(stream.frames, None)
        if first is None:
            return
        flat = np.full_like(first, level)
        yield from repeat(flat, count if where != "end" else 0)
        yield from chain([first], stream.frames)
        yield from repeat(flat, count if where != "start" else 0)

    longer = None if stream.duration_s is None else stream.duration_s + seconds * (1 + (where == "both"))
    return replace(stream, frames=frames(), duration_s=longer)


def slideshow(
    stream: Stream,
    taken: Fps = 1,
    shown: Fps = 1,
    most: Annotated[int, Bounds(0, 1_000_000)] = 0,
    offset: Seconds = 0,
) -> Stream:
    """`taken` frames of each second from `offset` seconds on, shown `shown` a second; at most `most` (0: all)."""

    def frames() -> Iterator[Pixels]:
        due = offset
        for number, pixels in enumerate(stream.frames):
            if number + 0.5 >= due * stream.fps:
                yield pixels
                due += max(1 / taken, 1 / stream.fps)

    lasts = None if stream.duration_s is None else max(0.0, stream.duration_s - offset) * taken / shown
    return replace(stream, frames=islice(frames(), most or None), fps=shown, duration_s=lasts)


VIDEO_TRANSFORMS: dict[str, Callable[..., Stream]] = {
    "reencode": reencode,
    "fps": fps,
    "clip": clip,
    "black": black,
    "slideshow": slideshow,
}


@dataclass(frozen=True)
class VideoStep:
    """One transform of `VIDEO_TRANSFORMS` and the arguments stated for it."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def spec(self) -> str:
        """The text that stands for the step."""
        stated = arguments_text(self.arguments, parameters(VIDEO_TRANSFORMS[self.name]))
        return f"{self.name}:{stated}" if stated else self.name

    def __call__(self, stream: Stream) -> Stream:
        """The changed stream."""
        return VIDEO_TRANSFORMS[self.name](stream, **dict(self.arguments))


@dataclass(frozen=True)
class VideoTransform:
    """One step or a chain of them: call it with the path of a video and where to write."""

    steps: tuple[VideoStep | Transform, ...]

    @property
    def spec(self) -> str:
        """The canonical text: `parse_video` makes an equal transform of it."""
        return "+".join(step.spec for step in self.steps)

    def __call__(
        self, input_filepath: str | os.PathLike[str], output_filepath: str | os.PathLike[str], seed: int = 0
    ) -> str:
        """Write the changed video and return its path: with the codec's usual suffix, unless it has one of a video.

        What a transform of pictures draws at random depends on the seed alone and is the same in every frame. Raises
        MissingError, UndecodableError and others of MediaError for the source, UsageError for what cannot be encoded;
        nothing is left at `output_filepath` then.
        """

        def changed(stream: Stream) -> Stream:
            for step in self.steps:
                stream = step(stream) if isinstance(step, VideoStep) else _each_frame(stream, step, seed)
            return stream

        return rewrite(input_filepath, output_filepath, changed)


def parse_video(spec: str) -> VideoTransform:
    """The video transform that a text names. Raises UsageError."""
    steps: list[VideoStep | Transform] = []
    for text in spec.split("+"):
        name, colon, arguments = (piece.strip() for piece in text.partition(":"))
        if name in VIDEO_TRANSFORMS:
            values = parse_arguments(arguments, name, parameters(VIDEO_TRANSFORMS[name])) if colon else {}
            steps.append(VideoStep(name, tuple(sorted(values.items()))))
            continue
        if name not in TRANSFORMS and "." not in name:
            raise UsageError(f"unknown transform {name!r}; {suggestion(name, [*VIDEO_TRANSFORMS, *TRANSFORMS])}")
        step = parse(text)
        before = steps[-1] if steps else None
        steps[-1:] = [Transform(before.steps + step.steps)] if isinstance(before, Transform) else [*steps[-1:], step]
    return VideoTransform(tuple(steps))


def rewrite(source: str | os.PathLike[str], target: str | os.PathLike[str], change: Callable[[Stream], Stream]) -> str:
    """Decode a video, change its stream and write what comes out; the path written, as `VideoTransform` has it."""
    path, written = Path(source), Path(target)
    if not path.is_file():
        raise MissingError(f"no video at {path}")
    with path.open("rb") as file, closing(decode_frames(file, None, POLICY)) as decoded:
        header = probe_video(file, POLICY)
        rate = header.fps or POLICY.assumed_fps or 10
        timed = ((frame.pixels, frame.shown_s) for frame in decoded)
        bps = 8 * path.stat().st_size / header.duration_s if header.duration_s else None
        stream = change(Stream(steady(timed, rate, 1 / rate), rate, header.duration_s, bps))
        if written.suffix.lower() not in SUFFIXES:
            written = written.with_name(written.name + usual_suffix(stream.encoding.codec))
        part = written.with_name(f".{written.name}.part")
        try:
            with part.open("wb") as output:
                write_video(output, written.suffix, stream.frames, stream.fps, stream.encoding)
            part.replace(written)
        finally:
            part.unlink(missing_ok=True)
    return str(written)


def steady(timed: Iterable[tuple[Pixels, float]], rate: float, last_s: float) -> Iterator[Pixels]:
    """Frames with the second at which each is shown, at a constant rate: each until the next, the last for `last_s`.

    Each begins at the nearest tick; of several at one tick, the last is taken. At least one frame comes out for any.
    """
    held, written, end_s = None, 0, 0.0
    for pixels, shown_s in timed:
        while held is not None and written < round(shown_s * rate):
            yield held
            written += 1
        held, end_s = pixels, shown_s + last_s
    if held is not None:
        yield from repeat(held, max(round(end_s * rate), 1) - written)


def fitting_suffix(source: str | os.PathLike[str], codec: str) -> str:
    """The source's own suffix where a codec fits into it, otherwise the codec's usual one."""
    own = Path(source).suffix.lower()
    return own if can_hold(own, codec) else usual_suffix(codec)


def _each_frame(stream: Stream, transform: Transform, seed: int) -> Stream:
    return replace(stream, frames=(transform(pixels, seed) for pixels in stream.frames))
