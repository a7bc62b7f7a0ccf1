"""Frames to video bytes: the only place where videos are encoded.

The same frames give the same bytes: one thread, no dates and no random identifiers in the container.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, Final

import av
import av.error
import numpy as np
from av.codec import Codec
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from neardup.errors import RunError, UsageError
from neardup.media.video.container import one_line
from neardup.media.video.frames import Pixels

ENCODERS: Final[Mapping[str, tuple[str, ...]]] = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "vp8": ("libvpx",),
    "vp9": ("libvpx-vp9",),
    "mpeg4": ("mpeg4",),
    "mjpeg": ("mjpeg",),
    "gif": ("gif",),
    "ffv1": ("ffv1",),
}
"""The encoders of each codec, the preferred one first; which of them exist depends on the build of FFmpeg."""

SUFFIXES: Final[Mapping[str, str]] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".gif": "gif",
    ".flv": "flv",
}
"""File names' endings and FFmpeg's name of the container that is written for each."""

_USUAL_SUFFIX: Final = {"vp8": ".webm", "vp9": ".webm", "mjpeg": ".avi", "gif": ".gif", "ffv1": ".mkv"}
# Constant quality where no bitrate is asked for, and presets that take seconds rather than minutes.
_QUALITY: Final[Mapping[str, dict[str, str]]] = {
    "libx264": {"crf": "20"},
    "libx265": {"crf": "22"},
    "libvpx": {"crf": "10", "b": "4000000"},
    "libvpx-vp9": {"crf": "30", "b": "0"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(3 * 118)},
    "mjpeg": {"flags": "+qscale", "global_quality": str(3 * 118)},
}
_SPEED: Final[Mapping[str, dict[str, str]]] = {
    # x264's macroblock tree gives other bits from run to run where it uses AVX-512
    "libx264": {"preset": "veryfast", "x264-params": "mbtree=0"},
    "libx265": {"preset": "ultrafast", "x265-params": "pools=none:frame-threads=1:log-level=none"},
    "libvpx": {"deadline": "good", "cpu-used": "5"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "5"},
}
_FINEST_CLOCK: Final = 65_535  # MPEG-4 Part 2 counts time in no finer units per second


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded. `codec`: a name of `ENCODERS`, or FFmpeg's name of an encoder.

    `bitrate_bps` None: the constant quality that is usual for the encoder. `keyframe_s`: the most seconds from one
    keyframe to the next, None: the encoder's choice. `aspect`: how many times as wide as high a pixel is shown.
    """

    codec: str = "h264"
    bitrate_bps: float | None = None
    keyframe_s: float | None = None
    aspect: Fraction | None = None

    def __post_init__(self) -> None:
        if self.bitrate_bps is not None and not self.bitrate_bps > 0:
            raise UsageError(f"a bitrate of {self.bitrate_bps:g} bits per second cannot be meant: give more than 0")


def find_encoder(codec: str) -> str:
    """FFmpeg's name of an encoder for a codec. Raises UsageError where this build of FFmpeg has none."""
    for name in ENCODERS.get(codec, (codec,)):
        if _is_encoder(name):
            return name
    usable = [known for known, names in ENCODERS.items() if any(map(_is_encoder, names))]
    raise UsageError(f"no video encoder for {codec!r} in this build of PyAV; choose one of {', '.join(usable)}")


def usual_suffix(codec: str) -> str:
    """The ending of files that usually hold a codec."""
    return _USUAL_SUFFIX.get(Codec(find_encoder(codec), "w").canonical_name, ".mp4")


def can_hold(suffix: str, codec: str) -> bool:
    """Whether a container, told by the ending of its files, can hold a codec."""
    if suffix.lower() not in SUFFIXES:
        return False
    with av.open(_Nowhere(), "w", format=SUFFIXES[suffix.lower()]) as container:
        return Codec(find_encoder(codec), "w").canonical_name in container.supported_codecs


def steady_rate(fps: float) -> Fraction:
    """A frame rate as the fraction that containers store: 24000/1001 for 23.976."""
    if not 0 < fps <= 1000:
        raise UsageError(f"{fps:g} frames per second cannot be meant: give more than 0 and at most 1000")
    return Fraction(fps).limit_denominator(max(1, min(1001, int(_FINEST_CLOCK / fps))))


def write_video(
    file: BinaryIO, suffix: str, frames: Iterable[Pixels], fps: float, encoding: Encoding | None = None
) -> None:
    """Write frames, uint8 RGB of shape (H, W, 3), at a constant rate into a seekable file, without sound.

    `suffix` (".mp4") tells the container. All frames get the size of the first; an odd last row or column, which most
    codecs cannot hold, is left out. Raises UsageError for what cannot be encoded, RunError where writing fails.
    """
    encoding = encoding or Encoding()
    encoder = find_encoder(encoding.codec)
    if not can_hold(suffix, encoding.codec):
        raise UsageError(f"{suffix or 'a file without a suffix'} cannot hold {encoding.codec}; use another container")
    try:
        with av.open(file, "w", format=SUFFIXES[suffix.lower()], options={"fflags": "+bitexact"}) as container:
            _encode(container, encoder, frames, steady_rate(fps), encoding)
    except av.error.FFmpegError as exc:
        raise RunError(f"encoding as {encoder} failed: {one_line(exc)}") from exc


def _encode(
    container: OutputContainer, encoder: str, frames: Iterable[Pixels], rate: Fraction, encoding: Encoding
) -> None:
    stream: VideoStream | None = None
    reformatter = VideoReformatter()
    for number, pixels in enumerate(_even(frames)):
        if stream is None:
            stream = _stream(container, encoder, rate, encoding)
            stream.height, stream.width = pixels.shape[:2]
        frame = VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = reformatter.reformat(frame, stream.width, stream.height, stream.pix_fmt)
        frame.pts, frame.time_base = number, 1 / rate
        container.mux(stream.encode(frame))
    if stream is None:
        raise UsageError("there are no frames to encode")
    container.mux(stream.encode(None))


def _stream(container: OutputContainer, encoder: str, rate: Fraction, encoding: Encoding) -> VideoStream:
    options = {**_SPEED.get(encoder, {}), **({} if encoding.bitrate_bps else _QUALITY.get(encoder, {}))}
    stream: VideoStream = container.add_stream(encoder, rate=rate, options=options)  # type: ignore[assignment]
    stream.pix_fmt = _pixel_format(encoder)
    context = stream.codec_context
    context.thread_count = 1
    if encoding.bitrate_bps:
        context.bit_rate = round(encoding.bitrate_bps)
    if encoding.keyframe_s:
        context.gop_size = max(1, round(encoding.keyframe_s * rate))
    if encoding.aspect is not None:
        context.sample_aspect_ratio = encoding.aspect
    return stream


def _even(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    for pixels in frames:
        height, width = pixels.shape[:2]
        if min(height, width) < 2:
            pixels = np.repeat(np.repeat(pixels, 2, axis=0), 2, axis=1)  # a line of pixels, made two wide
            height, width = pixels.shape[:2]
        yield np.ascontiguousarray(pixels[: height & ~1, : width & ~1])


def _pixel_format(encoder: str) -> str:
    known = [each.name for each in Codec(encoder, "w").video_formats or ()]
    is_usual = not known or ("yuv420p" in known and known[0] != "yuvj420p")  # Motion JPEG takes its full range alone
    return "yuv420p" if is_usual else known[0]


def _is_encoder(name: str) -> bool:
    try:
        codec: Any = Codec(name, "w")
    except (av.error.FFmpegError, ValueError):
        return False
    return bool(codec.type == "video")


class _Nowhere:
    """A file to ask a container about, which nothing is written into."""

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, position: int, whence: int = 0) -> int:  # noqa: ARG002
        return position

    def tell(self) -> int:
        return 0
