"""A video opened: its header, its one stream of pictures, the limits, and FFmpeg's errors in our words.

Containers are told by their content, never by a name, and only those of `CONTAINERS` are read: playlists and
descriptions of other files (HLS, DASH, concat) could make a file read others.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO, Final, Literal, NamedTuple

import av
import av.error
import av.stream
from av.container import InputContainer
from av.video.stream import VideoStream

from neardup.errors import MediaError, PolicyError, TransientError, UndecodableError, UsageError
from neardup.media.video.truncation import find_truncation

VIDEO_DECODER_REVISION: Final = 1
"""Goes up whenever a decoded pixel, an index or a timestamp may change."""

CONTAINERS: Final = (
    "mov,mp4,matroska,webm,avi,gif,mpeg,mpegts,mpegvideo,ogg,flv,asf,rm,dv,ivf,mxf,nut,h264,hevc,av1,obu,m4v,apng"
)
"""FFmpeg's names of what is read, all with the pictures inside."""

Source = bytes | BinaryIO
Clock = Literal["nominal", "presentation"]
_BUFFER_BYTES: Final = 65_536
# Titles and comments in any encoding; PyAV 19 takes them as they are, and has no such argument
_ANY_METADATA: Final[dict[str, Any]] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
_PROBE_PIXELS: Final = 64_000_000  # while FFmpeg opens a file, it states larger frames as 0x0 rather than decode one


@dataclass(frozen=True)
class VideoPolicy:
    """What may be chosen about decoding a video.

    `max_pixels` (per frame) and `max_duration_s`: over them a video is refused before it is decoded.
    `max_side`: frames whose longer side is longer are made smaller, by `scaling` "nearest" (as the reference does) or
    "area" (averages; much faster, as it happens on the way from YUV to RGB).
    `clock`: "nominal" counts frames at the average rate, as the reference does; "presentation" goes by the time at
    which frames are shown, which differs where the frame rate varies.
    `assumed_fps` stands in for a rate that the container does not state; None refuses such a video.
    `threads` of the decoder: they change the speed, never a frame.
    """

    max_pixels: int = 100_000_000
    max_duration_s: float | None = None
    max_side: int | None = None
    scaling: Literal["nearest", "area"] = "nearest"
    clock: Clock = "nominal"
    assumed_fps: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name, value in (("max_pixels", self.max_pixels), ("max_side", self.max_side), ("threads", self.threads)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        if self.scaling not in ("nearest", "area"):
            raise UsageError(f"unknown scaling {self.scaling!r}; choose 'nearest' or 'area'")
        if self.clock not in ("nominal", "presentation"):
            raise UsageError(f"unknown clock {self.clock!r}; choose 'nominal' or 'presentation'")

    @property
    def spec(self) -> str:
        """Canonical text of everything that can change a decoded pixel, an index or a timestamp."""
        size = f"{self.scaling}:{self.max_side}" if self.max_side else "full"
        return f"clock={self.clock};size={size};video_decoder={VIDEO_DECODER_REVISION}"


DEFAULT_POLICY: Final = VideoPolicy()


class VideoHeader(NamedTuple):
    """What the container announces; width and height as stored, before rotation, pixels taken as square.

    `fps` is the average rate (0.0: not stated); `frame_count` and `duration_s` are None where it does not say.
    """

    format: str
    codec: str
    width: int
    height: int
    fps: float
    frame_count: int | None
    duration_s: float | None


class Index(NamedTuple):
    """The container's own table of packets, in decoding order: decoding times, shown or not, keyframe or not."""

    dts: list[int]
    is_shown: list[bool]
    is_key: list[bool]
    end: int


@dataclass
class Video:
    """An open video. `damage` collects what was found wrong, for one error after the last frame."""

    container: InputContainer
    stream: VideoStream
    policy: VideoPolicy
    reader: "_Reader"
    damage: list[str] = field(default_factory=list)

    @cached_property
    def header(self) -> VideoHeader:
        """What the container announces."""
        context, rate = self.stream.codec_context, self.stream.average_rate
        return VideoHeader(
            format=self.container.format.name.split(",")[0],
            codec=context.name,
            width=context.width,
            height=context.height,
            fps=float(rate) if rate else 0.0,
            frame_count=sum(self.index.is_shown) if self.index else self.stream.frames or None,
            duration_s=self._duration_s(),
        )

    @cached_property
    def index(self) -> Index | None:
        """The table of packets where the container has a whole one: the MP4 family, and AVI (without pts)."""
        if self.container.format.name.split(",")[0] not in ("mov", "avi"):
            return None
        entries = list(self.stream.index_entries)
        if not entries:
            return None
        return Index(
            dts=[entry.timestamp for entry in entries],
            is_shown=[not entry.is_discard and entry.size > 0 for entry in entries],
            is_key=[entry.is_keyframe for entry in entries],
            end=max(entry.pos + entry.size for entry in entries),
        )

    @cached_property
    def fps(self) -> float:
        """The average rate, or the assumed one; raises UndecodableError where there is neither."""
        if self.header.fps:
            return self.header.fps
        if self.policy.assumed_fps:
            return self.policy.assumed_fps
        if self.header.frame_count == 1:
            return 1.0  # one picture: it is frame 0 at 0 s at any rate
        raise UndecodableError("the container states no frame rate (0 fps)")

    def seconds(self, pts: int) -> float:
        """A presentation time in seconds since the stream's start."""
        time_base = self.stream.time_base
        return float((pts - (self.stream.start_time or 0)) * time_base) if time_base else 0.0

    def _duration_s(self) -> float | None:
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return self.container.duration / av.time_base if self.container.duration else None


def probe_video(source: Source, policy: VideoPolicy = DEFAULT_POLICY) -> VideoHeader:
    """What the container announces, without decoding. Raises UndecodableError, PolicyError, TransientError."""
    with open_video(source, policy) as video:
        return video.header


@contextmanager
def open_video(source: Source, policy: VideoPolicy = DEFAULT_POLICY) -> Iterator[Video]:
    """The video in `source`, within the limits of the policy; a file stays open.

    Raises UndecodableError where there is no stream of pictures (an attached picture is none), PolicyError over a
    limit, TransientError where the source fails to read.
    """
    reader = _Reader(io.BytesIO(source) if isinstance(source, bytes) else source)
    with translated_errors(reader):
        container = _opened(reader, policy)
    try:
        with translated_errors(reader):
            video = Video(container, _picture_stream(container, reader), policy, reader)
            _check_limits(video.header, policy)
            index_end = video.index.end if video.index else None
            if (truncation := find_truncation(reader, video.header.format, index_end)) is not None:
                video.damage.append(truncation)
            _configure(video)
        yield video
    finally:
        container.close()


class _Reader:
    """What FFmpeg reads through; remembers why reading failed, as FFmpeg's own error would hide it."""

    def __init__(self, file: BinaryIO) -> None:
        if not (hasattr(file, "read") and hasattr(file, "seek") and hasattr(file, "tell")):
            raise UsageError(f"a video is bytes or a seekable binary file, not {type(file).__name__}")
        if hasattr(file, "seekable") and not file.seekable():
            raise UsageError("a video must be seekable: read the stream into bytes or a temporary file first")
        self._file = file
        self.failure: MediaError | None = None
        self.size = self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        with self._remembered():
            return self._file.read(size)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        with self._remembered():
            self._file.seek(position, whence)
            return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except MediaError as exc:
            self.failure = exc
            raise
        except Exception as exc:  # a store's client may raise anything
            self.failure = TransientError(f"reading failed: {type(exc).__name__}: {one_line(exc)}")
            raise self.failure from exc


@contextmanager
def translated_errors(reader: _Reader) -> Iterator[None]:
    """One clear line for whatever FFmpeg or the source raise; MemoryError passes, for the child process to see."""
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except (MediaError, av.error.FFmpegError, OSError, ValueError, IndexError) as exc:
        if reader.failure is not None:
            raise reader.failure  # noqa: B904 - its cause is what the source raised
        if isinstance(exc, MediaError):
            raise
        raise UndecodableError(f"damaged video: {one_line(exc)}") from exc


def one_line(exc: BaseException) -> str:
    """An error's text without its line breaks."""
    text = getattr(exc, "strerror", None) or str(exc)
    return " ".join(str(text).split())[:200]


def _opened(reader: _Reader, policy: VideoPolicy) -> InputContainer:
    if reader.size == 0:
        raise UndecodableError("not a video: it is empty")
    pixels = max(policy.max_pixels, _PROBE_PIXELS)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "", "max_pixels": str(pixels)}
    try:
        opened: InputContainer = av.open(reader, "r", options=options, buffer_size=_BUFFER_BYTES, **_ANY_METADATA)
        return opened
    except av.error.FFmpegError as exc:
        raise UndecodableError(_why_not_opened(reader)) from exc


def _why_not_opened(reader: _Reader) -> str:
    start = _first_bytes(reader)
    if start[4:8] == b"ftyp":
        return "truncated or damaged MP4: its table of frames (moov) is missing, so no frame can be found"
    return f"not a video of a known container, or its header is damaged: starts with {start!r}"


def _first_bytes(reader: _Reader) -> bytes:
    reader.seek(0)
    return reader.read(12)


def _picture_stream(container: InputContainer, reader: _Reader) -> VideoStream:
    """The best of the streams of moving pictures: FFmpeg's choice, unless that is a cover or a still."""
    attached = av.stream.Disposition.attached_pic
    candidates = [stream for stream in container.streams.video if not stream.disposition & attached]
    if not candidates:
        if not container.streams:
            raise UndecodableError(_why_not_opened(reader))
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise UndecodableError(f"no video stream: it holds {kinds}{' (a cover)' * bool(container.streams.video)} only")
    decodable = [stream for stream in candidates if stream.codec_context is not None]
    if not decodable:
        raise UndecodableError("no decoder for its codec: unknown, or encrypted")
    best = container.streams.best("video")
    # an animated AVIF holds its first picture as a stream of its own
    return max(decodable, key=lambda stream: (stream.frames != 1, stream is best, stream.width * stream.height))


def _check_limits(header: VideoHeader, policy: VideoPolicy) -> None:
    pixels = header.width * header.height
    if pixels > policy.max_pixels:
        size, limit = (f"{count / 1e6:,.9g}" for count in (pixels, policy.max_pixels))
        raise PolicyError(
            f"frames of {header.width}x{header.height}: {size} megapixels is over the limit of {limit} (--max-pixels)"
        )
    if pixels <= 0:
        limit = f"{max(policy.max_pixels, _PROBE_PIXELS) / 1e6:,.9g}"
        raise PolicyError(f"its header states no size of frames, or one over {limit} megapixels (--max-pixels)")
    if policy.max_duration_s is not None and (header.duration_s or 0) > policy.max_duration_s:
        raise PolicyError(f"{header.duration_s:,.0f} s is over the limit of {policy.max_duration_s:,.0f} s")


def _configure(video: Video) -> None:
    for stream in video.container.streams:
        if stream.index != video.stream.index:
            stream.discard = av.stream.Discard.all  # sound is not even read
    context = video.stream.codec_context
    context.options = {"max_pixels": str(video.policy.max_pixels)}
    context.thread_count = video.policy.threads
    context.thread_type = "AUTO" if video.policy.threads > 1 else "SLICE"
