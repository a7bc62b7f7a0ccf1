"""The reference's video transforms: functions of `input_filepath` and `output_filepath` that return the path written.

Those of `neardup.transforms.video.parse_video` are called in the same way.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from neardup.errors import UsageError
from neardup.media.video import probe_video
from neardup.media.video.encode import ENCODERS, SUFFIXES, Encoding, find_encoder
from neardup.media.video.filters import Filter, filtered
from neardup.transforms import video
from neardup.transforms.video import Stream, fitting_suffix, rewrite

Filepath = str | os.PathLike[str]
FileTransform = Callable[[Filepath, Filepath], str]
Interval = tuple[float | None, float | None]


def get_simple_transform(
    width: str | int = -1,
    height: str | int = -1,
    pad: str | None = None,
    codec: str | None = None,
    clip_pct: Interval | None = None,
    clip_s: Interval | None = None,
    sar: str | None = None,
    fps: float | None = None,
    output_ext: str | None = None,
) -> FileTransform:
    """A transform that resizes, pads, cuts and encodes again, in this order: cut, scale, pad, frame rate.

    `width` and `height` are numbers or FFmpeg's expressions ("iw/2"), -1 to keep the proportions; `pad` the options of
    FFmpeg's pad filter ("width:height:x:y"). `clip_s` is the start and the end in seconds, `clip_pct` the same as
    fractions of the duration, None for an end that stays; `clip_s` is used where both are given. `sar` is the aspect of
    a pixel ("1/1"), `codec` that of the source where it can be encoded, and else H.264. `output_ext` (".webm") is the
    container, by default that of the source.
    """
    filters = [] if (width, height) == (-1, -1) else [Filter("scale", f"{width}:{height}")]
    filters += [] if pad is None else [Filter("pad", pad)]
    aspect = None if sar is None else _fraction(sar)
    for name, interval in (("clip_s", clip_s), ("clip_pct", clip_pct)):
        if interval is not None and not (interval[0] or 0) < (float("inf") if interval[1] is None else interval[1]):
            raise UsageError(f"{name}={interval} holds nothing; give the start and the end, None for the video's own")
    if codec is not None:
        find_encoder(codec)
    if output_ext is not None and output_ext.lower() not in SUFFIXES:
        raise UsageError(f"unknown output_ext={output_ext!r}; choose one of {', '.join(SUFFIXES)}")

    def transform(input_filepath: Filepath, output_filepath: Filepath) -> str:
        def changed(stream: Stream) -> Stream:
            stream = _cut(stream, clip_s, clip_pct)
            if filters:
                stream = replace(stream, frames=filtered(stream.frames, filters))
            if fps is not None:
                stream = video.fps(stream, fps)
            return replace(stream, encoding=Encoding(encoder, aspect=aspect))

        encoder = codec or _own_codec(input_filepath)
        suffix = output_ext or fitting_suffix(input_filepath, encoder)
        return rewrite(input_filepath, _with_suffix(output_filepath, suffix), changed)

    return transform


def get_black_frame_padding_transform(duration_s: float = 0, duration_pct: float = 0) -> FileTransform:
    """A transform that adds black frames before and behind: `duration_s` seconds, or a fraction of the duration.

    Where both are given, the longer one counts.
    """

    def transform(input_filepath: Filepath, output_filepath: Filepath) -> str:
        def changed(stream: Stream) -> Stream:
            seconds = max(duration_s, stream.seconds(duration_pct) if duration_pct else 0)
            return replace(video.black(stream, seconds, "both"), encoding=Encoding(encoder))

        encoder = _own_codec(input_filepath)
        suffix = fitting_suffix(input_filepath, encoder)
        return rewrite(input_filepath, _with_suffix(output_filepath, suffix), changed)

    return transform


def get_slideshow_transform(
    frame_input_rate: float, frame_output_rate: float, max_frames: int | None = None, offset: float = 0
) -> FileTransform:
    """A transform to a slide show (Motion JPEG, .avi).

    From `offset` seconds on, `frame_input_rate` frames of each second are taken, at most `max_frames` in all, and shown
    at `frame_output_rate` per second.
    """

    def transform(input_filepath: Filepath, output_filepath: Filepath) -> str:
        def changed(stream: Stream) -> Stream:
            shown = video.slideshow(stream, frame_input_rate, frame_output_rate, max_frames or 0, offset)
            return replace(shown, encoding=Encoding("mjpeg"))

        return rewrite(input_filepath, _with_suffix(output_filepath, ".avi"), changed)

    return transform


def _cut(stream: Stream, clip_s: Interval | None, clip_pct: Interval | None) -> Stream:
    interval = clip_s or clip_pct
    if interval is None:
        return stream
    unit = 1.0 if clip_s else stream.seconds(1)
    start, end = (
        (default if each is None else each * unit) for each, default in zip(interval, (0.0, 1e6), strict=True)
    )
    return video.clip(stream, start, end, "s")


def _own_codec(path: Filepath) -> str:
    """The codec of a video where it is one of `ENCODERS`, else H.264."""
    with open(path, "rb") as file:
        codec = probe_video(file, video.POLICY).codec
    return codec if codec in ENCODERS else "h264"


def _with_suffix(path: Filepath, suffix: str) -> str:
    name = os.fspath(path)
    return name if name.lower().endswith(suffix.lower()) else name + suffix


def _fraction(sar: str) -> Fraction:
    try:
        value = Fraction(str(sar).replace(":", "/"))
    except (ValueError, ZeroDivisionError) as exc:
        raise UsageError(f"sar={sar!r} is no aspect of a pixel; write it as '1/1'") from exc
    if value <= 0:
        raise UsageError(f"sar={sar!r} is no aspect of a pixel; it must be more than 0")
    return value
