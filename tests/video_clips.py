"""Clips for the tests, encoded on the spot: every frame is a photo-like picture that moves and changes."""

import functools
import io
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image

CLIPS = Path(__file__).parent.parent / "samples/clips"
WIDTH, HEIGHT = 96, 64

# (container, codec, pixel format): every container that the tests can write.
FORMS = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "mkv": ("matroska", "libx264", "yuv420p"),
    "vp8": ("webm", "libvpx", "yuv420p"),
    "vp9": ("webm", "libvpx-vp9", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "ts": ("mpegts", "mpeg2video", "yuv420p"),
    "ps": ("mpeg", "mpeg2video", "yuv420p"),
    "flv": ("flv", "flv", "yuv420p"),
    "asf": ("asf", "wmv2", "yuv420p"),
    "gif": ("gif", "gif", "rgb8"),
}


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """One frame."""
    y, x = np.mgrid[0:height, 0:width] / 96
    planes = [120 + 60 * np.sin(9 * x + seed / (7 + c)) + 50 * np.cos(8 * y * (c + 1) - seed / 5) for c in range(3)]
    pixels = np.stack(planes, axis=2)
    pixels[: height // 3, : width // 4, 0] = 250
    return pixels.clip(0, 255).astype(np.uint8)


def encoded(
    form: str = "mp4",
    pictures: Sequence[np.ndarray] | None = None,
    *,
    count: int = 60,
    rate: int = 25,
    times: Sequence[int] | None = None,
    rotation: int | None = None,
    aspect: Fraction | None = None,
    title: str | None = None,
    codec_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a clip; `times` are presentation times in units of 1 / rate."""
    container_name, codec, pixel_format = FORMS[form]
    pictures = [picture(n) for n in range(count)] if pictures is None else pictures
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        with av.open(str(path), "w", format=container_name, options=dict(container_options or {})) as container:
            stream = container.add_stream(codec, rate=rate, options=dict(codec_options or {}))
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = pixel_format
            stream.codec_context.thread_count = 1
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
            if rotation is not None:
                stream.set_display_rotation(rotation)
            if title is not None:
                container.metadata["title"] = title
            for n, pixels in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = n if times is None else times[n]
                frame.time_base = Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


@functools.cache
def clip(form: str = "mp4") -> bytes:
    """Sixty frames at 25 fps with a keyframe at least every 12."""
    return encoded(form, codec_options={"g": "12"})


def sound(cover: np.ndarray | None = None) -> bytes:
    """An MP4 without moving pictures."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44_100)
        attached = None if cover is None else _attached(container, cover)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44_100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if attached is not None:
            container.mux(_picture_packet(cover, attached))
    return out.getvalue()


def with_cover(cover: np.ndarray) -> bytes:
    """The MP4 clip remuxed with a picture attached in front of its frames."""
    out = io.BytesIO()
    with av.open(io.BytesIO(clip())) as source, av.open(out, "w", format="mp4") as container:
        attached = _attached(container, cover)
        frames = container.add_stream_from_template(source.streams.video[0])
        container.mux(_picture_packet(cover, attached))
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = frames
                container.mux(packet)
    return out.getvalue()


def _attached(container: av.container.OutputContainer, cover: np.ndarray) -> av.VideoStream:
    stream = container.add_stream("png", rate=1)
    stream.height, stream.width = cover.shape[:2]
    stream.pix_fmt = "rgb24"
    stream.disposition = av.stream.Disposition.attached_pic
    return stream


def _picture_packet(cover: np.ndarray, stream: av.VideoStream) -> av.Packet:
    png = io.BytesIO()
    PIL.Image.fromarray(cover).save(png, "PNG")
    packet = av.Packet(png.getvalue())
    packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1)
    packet.is_keyframe = True
    return packet


def animation(form: str, count: int = 8, duration_ms: int = 100) -> bytes:
    """An animated image."""
    pictures = [PIL.Image.fromarray(picture(9 * n)) for n in range(count)]
    out = io.BytesIO()
    pictures[0].save(out, form, save_all=True, append_images=pictures[1:], duration=duration_ms)
    return out.getvalue()
