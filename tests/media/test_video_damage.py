"""What is wrong with a video is said in one line, behind the frames that could be decoded."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from neardup.errors import MediaError, PolicyError, TransientError, UndecodableError, UsageError
from neardup.media.video import Frame, VideoPolicy, decode_frames, open_video, probe_video, shown_frames
from neardup.media.video.container import translated_errors
from neardup.media.video.packets import all_packets
from video_clips import CLIPS, FORMS, clip, encoded, picture, sound

SAMPLES = Path(__file__).parents[2] / "samples"
FASTSTART = encoded(count=60, container_options={"movflags": "faststart"})
ENCRYPTION = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


def read_until_error(source: object, **options: object) -> tuple[list[Frame], MediaError]:
    frames: list[Frame] = []
    with pytest.raises(MediaError) as caught:
        frames.extend(one for one in collecting(source, frames, options))
    assert "\n" not in str(caught.value)
    return frames, caught.value


def collecting(source: object, frames: list[Frame], options: dict[str, object]) -> Iterator[Frame]:
    for frame in decode_frames(source, **options):
        frames.append(frame)
        yield from ()


NO_VIDEOS = {
    "empty": (b"", "empty"),
    "text": (b"These are only words.\n" * 99, "not a video of a known container"),
    "picture": ((SAMPLES / "perception/image1.jpg").read_bytes(), "not a video of a known container"),
    "still WebP": ((SAMPLES / "copies/headquarters.webp").read_bytes(), "not a video of a known container"),
    "playlist": (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "not a video of a known container"),
    "concat": (b"ffconcat version 1.0\nfile /etc/hostname\n", "not a video of a known container"),
    "sound": (sound(), "no video stream: it holds audio only"),
    "sound with a cover": (sound(picture(0)), "no video stream: it holds audio, video (a cover) only"),
    "moov missing": (clip()[: len(clip()) // 2], "moov"),
    "moov cut": (clip()[:-300], "moov"),
    "encrypted": (encoded(count=20, container_options=ENCRYPTION), "encrypted"),
    "unknown codec": (clip().replace(b"avc1", b"zzzz"), "no decoder"),
}


@pytest.mark.parametrize("name", NO_VIDEOS)
def test_what_is_no_video_is_undecodable(name: str) -> None:
    data, message = NO_VIDEOS[name]
    frames, error = read_until_error(data)
    assert isinstance(error, UndecodableError)
    assert message in str(error)
    assert not frames


@pytest.mark.parametrize("form", ["faststart", *(form for form in FORMS if form != "mp4")])
def test_a_truncated_video_gives_its_frames_and_then_an_error(form: str) -> None:
    whole = FASTSTART if form == "faststart" else clip(form)
    frames, error = read_until_error(whole[: len(whole) * 2 // 3])
    assert isinstance(error, UndecodableError)
    assert "truncated" in str(error) or "cut or damaged" in str(error)
    assert 10 < len(frames) < 60
    assert f"{len(frames)} frames were decoded" in str(error)
    expected = {frame.frame_index: frame for frame in decode_frames(whole)}
    for frame in frames[: -2 if form == "gif" else None]:
        assert np.array_equal(frame.pixels, expected[frame.frame_index].pixels), frame.frame_index
    assert len(list(decode_frames(whole))) == 60


@pytest.mark.parametrize("form", ["mkv", "vp9", "avi", "ts", "gif"])
def test_even_one_missing_byte_is_noticed(form: str) -> None:
    _, error = read_until_error(clip(form)[:-1])
    assert "truncated" in str(error)


def test_a_damaged_packet_costs_its_frames_only() -> None:
    data = bytearray(clip("mp4"))
    with open_video(bytes(data)) as video:
        entry = video.stream.index_entries[24]
    data[entry.pos : entry.pos + entry.size] = b"\xff" * entry.size
    frames, error = read_until_error(bytes(data))
    assert "a packet cannot be decoded" in str(error)
    assert len(frames) >= 45


def test_packets_without_bytes_do_not_end_the_video() -> None:
    with open_video(clip()) as video:
        packets = [packet for packet in video.container.demux(video.stream) if packet.size]
        with_empty = [packets[0], av.Packet(), packets[1], av.Packet(), *packets[2:], av.Packet()]
        stand_in = SimpleNamespace(container=SimpleNamespace(demux=lambda _: iter(with_empty)), stream=None, damage=[])
        assert [packet.pts for packet in all_packets(stand_in)] == [packet.pts for packet in packets]


@pytest.mark.parametrize("form", ["mp4", "mkv", "avi"])
def test_metadata_may_be_any_bytes(form: str) -> None:
    data = encoded(form, count=5, title="TITLE-TEXT")
    odd = data.replace(b"TITLE-TEXT", b"\xff\xfe\xfd\xfc\xfb\xff\xfe\xfd\xfc\xfb")
    assert odd != data
    if int(av.__version__.split(".")[0]) < 19:  # which has the text as it is; before, it had to be asked to
        with pytest.raises(UnicodeDecodeError):
            av.open(io.BytesIO(odd))
    assert len(list(decode_frames(odd))) == 5


# --- limits -----------------------------------------------------------------------------------------------------------


def element(identifier: str, body: bytes) -> bytes:
    return bytes.fromhex(identifier) + (0x01 << 56 | len(body)).to_bytes(8) + body


def matroska(width: int, height: int, codec: bytes = b"V_FFV1") -> bytes:
    """A file that announces frames of this size and holds one that is noise."""
    size = element("b0", width.to_bytes(4)) + element("ba", height.to_bytes(4))
    track = element("d7", b"\1") + element("73c5", b"\1") + element("83", b"\1") + element("86", codec)
    tracks = element(
        "1654ae6b", element("ae", track + element("23e383", (40_000_000).to_bytes(4)) + element("e0", size))
    )
    cluster = element("1f43b675", element("e7", b"\0") + element("a3", b"\x81\0\0\x80" + bytes(range(60))))
    info = element("1549a966", element("2ad7b1", (1_000_000).to_bytes(4)))
    return element("1a45dfa3", element("4282", b"webm")) + element("18538067", info + tracks + cluster)


@pytest.mark.parametrize("side", [100_000, 20_000, 0])
def test_a_huge_or_empty_frame_is_refused_by_its_header(side: int) -> None:
    frames, error = read_until_error(matroska(side, side))
    assert isinstance(error, PolicyError)
    assert "--max-pixels" in str(error)
    assert not frames


def test_limits_hold_before_anything_is_decoded() -> None:
    with pytest.raises(PolicyError, match="96x64"):
        probe_video(clip(), VideoPolicy(max_pixels=96 * 64 - 1))
    with pytest.raises(PolicyError, match="over the limit of 2 s"):
        probe_video(clip(), VideoPolicy(max_duration_s=2))
    assert probe_video(clip(), VideoPolicy(max_pixels=96 * 64, max_duration_s=2.5)).frame_count == 60


def test_a_frame_that_grows_on_the_way_is_not_decoded() -> None:
    """A VP8 keyframe states its own size, whatever the container announced."""
    small, large = (encoded("vp8", [np.full((side, side, 3), 90, np.uint8)] * 3) for side in (64, 640))
    lying = large.replace(b"\xb0\x82\x02\x80\xba\x82\x02\x80", b"\xb0\x82\x00\x40\xba\x82\x00\x40")
    assert lying != large
    frames, error = read_until_error(lying, policy=VideoPolicy(max_pixels=64 * 64))
    assert not frames
    assert isinstance(error, (PolicyError, UndecodableError))
    assert len(list(decode_frames(small, policy=VideoPolicy(max_pixels=64 * 64)))) == 3


# --- sources ----------------------------------------------------------------------------------------------------------


class FailingFile(io.BytesIO):
    """Fails once more than so many bytes were read."""

    def __init__(self, data: bytes, error: Exception, after: int) -> None:
        super().__init__(data)
        self._error, self._left = error, after

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise self._error
        return data


class ClientError(Exception):
    """What the client of some store raises."""


@pytest.mark.parametrize("after", [0, 100, 200_000, 320_000])
@pytest.mark.parametrize("kind", [OSError, ClientError])
def test_a_source_that_fails_is_transient_and_keeps_its_reason(after: int, kind: type[Exception]) -> None:
    data = (CLIPS / "v2.m4v").read_bytes()
    _, error = read_until_error(FailingFile(data, kind("connection reset"), after))
    assert isinstance(error, TransientError)
    assert "connection reset" in str(error)
    assert isinstance(error.__cause__, kind)


def test_a_source_may_say_itself_what_its_failure_means() -> None:
    _, error = read_until_error(FailingFile(clip("mkv"), PolicyError("too much was read"), 5000))
    assert str(error) == "too much was read"


def test_a_failure_that_ffmpeg_hides_is_not_taken_for_the_end() -> None:
    with open_video(clip()) as video:
        frames = shown_frames(video)
        next(frames)
        video.reader.failure = TransientError("connection reset")
        with pytest.raises(TransientError, match="connection reset"):
            list(frames)
        for hidden in (ValueError("odd"), UndecodableError("damaged")):
            with pytest.raises(TransientError, match="connection reset"), translated_errors(video.reader):
                raise hidden


def test_a_file_is_read_from_its_beginning_and_stays_open() -> None:
    file = io.BytesIO(clip())
    file.seek(1000)
    assert probe_video(file).frame_count == 60
    assert not file.closed


def test_what_cannot_be_sought_is_refused() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    for wrong in (Pipe(clip()), "a string"):
        with pytest.raises(UsageError, match="seekable"):
            probe_video(wrong)
