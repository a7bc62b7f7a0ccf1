"""Which frames are given, with which index and time: the reference's, bit for bit, on its clips; and the odd ones."""

import hashlib
import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from neardup.errors import UndecodableError, UsageError
from neardup.media.video import (
    Frame,
    Segment,
    VideoPolicy,
    cut_segments,
    decode_frames,
    open_video,
    probe_video,
    shown_frames,
)
from neardup.media.video.packets import is_shown
from video_clips import CLIPS, FORMS, HEIGHT, WIDTH, animation, clip, encoded, picture, with_cover

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/videos.json").read_text())["videos"]
PRESENTATION = VideoPolicy(clock="presentation")
# Every other frame stands for 3, so that the rate varies: 0, 1, 4, 5, 8, 9, …
UNEVEN = [2 * n - n % 2 for n in range(60)]


def sha256(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def content(frames: list[Frame]) -> list[tuple[object, ...]]:
    return [(sha256(frame.pixels), *frame[1:]) for frame in frames]


def times(source: bytes, rate: float | str | None, policy: VideoPolicy = PRESENTATION) -> list[tuple[int, float]]:
    return [(frame.frame_index, round(frame.timestamp_s, 6)) for frame in decode_frames(source, rate, policy)]


# --- golden -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_sampled_frames_equal_the_reference(name: str) -> None:
    data, golden = (CLIPS / name).read_bytes(), GOLDEN[name]
    header = probe_video(data)
    assert (header.fps, header.width, header.height) == (golden["fps"], golden["width"], golden["height"])
    assert header.frame_count == golden["frames"] == sum(1 for _ in decode_frames(data))
    compared = 0
    for rate, expected in golden["rates"].items():
        frames = list(decode_frames(data, float(rate)))
        assert [[frame.frame_index, frame.timestamp_s] for frame in frames] == [row[:2] for row in expected]
        hashes = [row[2] for row in expected if len(row) > 2]
        assert not hashes or [sha256(frame.pixels) for frame in frames] == hashes
        compared += len(hashes)
    assert compared >= 4
    for (index, timestamp_s, *_), frame in zip(golden.get("first_12_at_60", []), decode_frames(data, 60), strict=False):
        assert (frame.frame_index, frame.timestamp_s) == (index, timestamp_s)


@pytest.mark.parametrize("name", GOLDEN)
def test_small_frames_equal_the_reference(name: str) -> None:
    frames = list(decode_frames((CLIPS / name).read_bytes(), 1, VideoPolicy(max_side=100)))
    found = [[f.frame_index, f.timestamp_s, list(f.pixels.shape), sha256(f.pixels)] for f in frames[:3]]
    assert found == GOLDEN[name]["max_size_100"]


# --- keyframes and segments -------------------------------------------------------------------------------------------

OPEN_GOP = {"g": "12", "x264-params": "open-gop=1:scenecut=0:bframes=3"}
ODD = {
    "open-gop": encoded(count=90, codec_options=OPEN_GOP),
    "open-gop-mkv": encoded("mkv", count=90, codec_options=OPEN_GOP),
    "uneven": encoded(times=UNEVEN, codec_options={"g": "12"}),
    "fragments": encoded(codec_options={"g": "12"}, container_options={"movflags": "frag_keyframe+empty_moov"}),
}
SOURCES = {name: (CLIPS / name).read_bytes() for name in GOLDEN} | {form: clip(form) for form in FORMS} | ODD


@pytest.mark.parametrize("name", SOURCES)
def test_keyframes_are_the_same_frames_as_among_all(name: str) -> None:
    for policy in (VideoPolicy(), PRESENTATION):
        every = {frame.frame_index: frame for frame in decode_frames(SOURCES[name], None, policy)}
        keys = list(decode_frames(SOURCES[name], "keyframes", policy))
        assert content(keys) == content([every[key.frame_index] for key in keys])
    assert len(keys) >= {"open-gop": 8, "rgb.m4v": 5, "mp4": 5, "mkv": 5}.get(name, 1)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("policy", [VideoPolicy(), PRESENTATION], ids=["nominal", "presentation"])
def test_all_segments_together_are_the_video(name: str, policy: VideoPolicy) -> None:
    segments = cut_segments(SOURCES[name], 0.6, policy)
    for rate in (7, None, "keyframes", 30):
        whole = list(decode_frames(SOURCES[name], rate, policy))
        parts: list[Frame] = []
        for segment in segments:
            try:
                parts.extend(decode_frames(SOURCES[name], rate, policy, segment))
            except UndecodableError as exc:  # a segment may hold none of the keyframes
                assert rate == "keyframes" and "no frames" in str(exc)
        assert content(parts) == content(whole), rate


def test_segments_are_cut_at_keyframes_far_enough_apart() -> None:
    indexes = [segment.first_index for segment in cut_segments(SOURCES["mp4"], 0.6)]
    assert indexes == [0, 24, 48]
    assert len(cut_segments(SOURCES["open-gop"], 0.4)) > 4
    assert cut_segments(SOURCES["mp4"], 100) == [Segment()]
    assert len(cut_segments(SOURCES["mkv"], 0.6)) == 3
    assert len(cut_segments(SOURCES["ts"], 0.6)) >= 3
    assert cut_segments(SOURCES["avi"], 0.6) == cut_segments(SOURCES["avi"], 0.6)
    with pytest.raises(UsageError, match="longer than 0"):
        cut_segments(SOURCES["mp4"], 0)


def test_hidden_frames_of_vp8_do_not_count() -> None:
    with open_video(clip("vp8")) as video:
        packet = next(video.container.demux(video.stream))
        data = bytearray(bytes(packet))
        assert is_shown(packet)
        data[0] &= ~0x10
        hidden = av.Packet(bytes(data))
        hidden.stream = packet.stream
        assert not is_shown(hidden)


def test_keyframes_of_an_mp4_are_sought_not_read_past() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 120, 160, 3), np.uint8)
    data = encoded(pictures=list(noise), codec_options={"g": "50", "crf": "5", "sc_threshold": "0"})
    file = CountingFile(data)
    assert [frame.frame_index for frame in decode_frames(file, "keyframes")] == [0, 50, 100, 150]
    assert len(data) > 1_000_000
    assert file.bytes_read < 0.15 * len(data)


class CountingFile(io.BytesIO):
    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_varying_rate_is_sampled_by_count_or_by_time() -> None:
    data = SOURCES["uneven"]
    assert probe_video(data).fps == pytest.approx(12.7, abs=0.1)
    assert times(data, None)[:4] == [(0, 0.0), (1, 0.04), (2, 0.16), (3, 0.2)]
    assert times(data, 5) == [(n, round(t, 6)) for n, t in shown_at(5)]
    nominal = list(decode_frames(data, 5))
    assert [frame.frame_index for frame in nominal[:3]] == [0, 3, 6]
    assert [frame.shown_s for frame in nominal[:3]] == pytest.approx([0, 0.2, 0.48])


def shown_at(rate: int) -> list[tuple[int, float]]:
    """The obvious way: for each tick, the last frame that began by then; each frame at its first tick."""
    starts = [Fraction(time, 25) for time in UNEVEN]
    first: dict[int, float] = {}
    for tick in range(int(starts[-1] * rate) + 1):
        index = max(n for n, start in enumerate(starts) if start <= Fraction(tick, rate))
        first.setdefault(index, tick / rate)
    return list(first.items())


def test_the_presentation_clock_starts_with_the_stream() -> None:
    late = encoded("ts", times=[50 + n for n in range(60)])
    assert times(late, None)[:2] == [(0, 0.0), (1, 0.04)]


def test_a_rate_above_the_videos_repeats_frames_by_count_only() -> None:
    data = encoded(count=3, rate=10)
    nominal = [(frame.frame_index, round(frame.timestamp_s, 4)) for frame in decode_frames(data, 15)]
    assert nominal == [(0, 0), (0, 0.0667), (1, 0.1), (1, 0.1667), (2, 0.2), (2, 0.2667)]
    assert [index for index, _ in times(data, 15)] == [0, 1, 2]


def test_a_container_without_a_rate_is_refused_or_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_video(clip()) as video:
        video.__dict__["header"] = video.header._replace(fps=0.0)
        with pytest.raises(UndecodableError, match="no frame rate"):
            next(shown_frames(video))
    with open_video(clip(), VideoPolicy(assumed_fps=10)) as video:
        video.__dict__["header"] = video.header._replace(fps=0.0)
        assert video.fps == 10
    with open_video(clip()) as video:
        video.__dict__["header"] = video.header._replace(fps=0.0, frame_count=1)
        assert next(shown_frames(video)).index == 0


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2), (270, 3)])
def test_frames_are_turned_as_the_container_says(rotation: int, turns: int) -> None:
    """As OpenCV does by default, checked against it."""
    upright = next(decode_frames(encoded(count=2))).pixels
    turned = next(decode_frames(encoded(count=2, rotation=rotation))).pixels
    assert np.array_equal(turned, np.rot90(upright, turns))
    assert turned.flags.c_contiguous
    small = next(decode_frames(encoded(count=2, rotation=rotation), None, VideoPolicy(max_side=48))).pixels
    assert small.shape == ((32, 48, 3) if turns == 2 else (48, 32, 3))


@pytest.mark.parametrize("scaling", ["nearest", "area"])
def test_frames_are_made_smaller_never_larger(scaling: str) -> None:
    full = next(decode_frames(clip())).pixels
    small = next(decode_frames(clip(), None, VideoPolicy(max_side=WIDTH // 2, scaling=scaling))).pixels
    assert small.shape == (HEIGHT // 2, WIDTH // 2, 3)
    means = full.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    error = abs(small - means).mean()
    assert error < (1.5 if scaling == "area" else 6)
    large = next(decode_frames(clip(), None, VideoPolicy(max_side=5000, scaling=scaling))).pixels
    assert large.shape == full.shape


def test_pixels_are_taken_as_square() -> None:
    assert next(decode_frames(encoded(count=2, aspect=Fraction(2, 1)))).pixels.shape == (HEIGHT, WIDTH, 3)


def test_an_attached_picture_is_no_frame() -> None:
    data = with_cover(picture(3, 300, 200))
    assert content(list(decode_frames(data, 5))) == content(list(decode_frames(clip(), 5)))


@pytest.mark.parametrize("form", ["GIF", "AVIF"])
def test_animations_are_videos(form: str) -> None:
    frames = list(decode_frames(animation(form), 5))
    assert [(frame.frame_index, frame.timestamp_s) for frame in frames] == [(0, 0), (2, 0.2), (4, 0.4), (6, 0.6)]
    assert abs(frames[3].pixels.astype(int) - picture(54)).mean() < 12


def test_a_still_gif_is_a_video_of_one_frame() -> None:
    assert [frame[1:] for frame in decode_frames(animation("GIF", 1), 1)] == [(0, 0.0, 0.0)]


def test_threads_change_no_frame() -> None:
    assert content(list(decode_frames(clip(), None, VideoPolicy(threads=4)))) == content(list(decode_frames(clip())))


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "keyframe"])
def test_an_impossible_rate_is_refused(rate: float | str) -> None:
    with pytest.raises(UsageError, match="frames_per_second"):
        next(decode_frames(clip(), rate))


def test_an_impossible_policy_is_refused() -> None:
    for wrong in ({"max_pixels": 0}, {"max_side": 0}, {"threads": 0}, {"scaling": "cubic"}, {"clock": "sun"}):
        with pytest.raises(UsageError):
            VideoPolicy(**wrong)
    assert VideoPolicy().spec == "clock=nominal;size=full;video_decoder=1"
    assert VideoPolicy(max_side=9, scaling="area", threads=3).spec == "clock=nominal;size=area:9;video_decoder=1"
