"""What holds for every video transform, what each does to time, size and encoding, and how they are spelled."""

import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from conftest import SAMPLES
from neardup.errors import MediaError, MissingError, UsageError
from neardup.media.video import VideoHeader, decode_frames, probe_video
from neardup.media.video import encode as encode_module
from neardup.media.video.encode import ENCODERS, SUFFIXES, Encoding, can_hold, usual_suffix, write_video
from neardup.media.video.filters import Filter, filtered
from neardup.transforms import TRANSFORMS
from neardup.transforms.video import VIDEO_TRANSFORMS, parse_video, steady
from video_clips import HEIGHT, WIDTH, clip, encoded, picture

COUNT, RATE = 60, 25


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "source.mp4"
    path.write_bytes(clip())
    return path


def made(text: str, source: Path, folder: Path, seed: int = 0) -> tuple[VideoHeader, list[np.ndarray], str]:
    """The header, the frames and the name of what a transform writes."""
    path = Path(parse_video(text)(source, folder / "made", seed))
    assert path.parent == folder
    data = path.read_bytes()
    return probe_video(data), [frame.pixels for frame in decode_frames(data)], path.name


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def originals(indexes: list[int] | range) -> list[np.ndarray]:
    return [picture(index) for index in indexes]


def nearest(frame: np.ndarray) -> int:
    """Which of the source's pictures a frame is."""
    return int(np.argmin([difference(frame, picture(index)) for index in range(COUNT)]))


@pytest.mark.parametrize("name", [*VIDEO_TRANSFORMS, "crop", "pad", "watermark", "overlay", "flip", "noise"])
def test_the_same_video_and_seed_give_the_same_bytes(name: str, source: Path, tmp_path: Path) -> None:
    transform = parse_video(name)
    assert transform.spec == name
    one, two = (Path(transform(source, tmp_path / each, 7)).read_bytes() for each in ("one", "two"))
    assert one == two
    drawn = name in ("overlay", "noise")
    assert (Path(transform(source, tmp_path / "one", 8)).read_bytes() != one) == drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_codec_is_written_and_read_again(codec: str, source: Path, tmp_path: Path) -> None:
    header, frames, name = made(f"reencode:codec={codec}", source, tmp_path)
    assert header.codec.replace("libdav1d", "av1") == codec
    assert Path(name).suffix == usual_suffix(codec)
    assert (header.width, header.height, len(frames)) == (WIDTH, HEIGHT, COUNT)
    assert header.fps == RATE
    assert [nearest(frames[index]) for index in (0, 30, 59)] == [0, 30, 59]


def test_bitrates(tmp_path: Path) -> None:
    source = SAMPLES / "clips/v1.m4v"
    sizes = {
        text: Path(parse_video(text)(source, tmp_path / "made")).stat().st_size
        for text in ("reencode:share=0.5", "reencode:share=0.25,codec=vp9", "reencode:kbps=100")
    }
    whole = source.stat().st_size
    duration_s = probe_video(source.read_bytes()).duration_s
    assert sizes["reencode:share=0.5"] == pytest.approx(whole / 2, rel=0.25)
    assert sizes["reencode:share=0.25,codec=vp9"] == pytest.approx(whole / 4, rel=0.35)
    assert sizes["reencode:kbps=100"] == pytest.approx(100_000 / 8 * duration_s, rel=0.25)


def test_clips(source: Path, tmp_path: Path) -> None:
    for text in ("clip:start=0.25,end=0.75", "clip", "clip:start=0.6,end=1.8,unit=s"):
        _, frames, _ = made(text, source, tmp_path)
        assert [nearest(frame) for frame in (frames[0], frames[10], frames[-1])] == [15, 25, 44], text
        assert len(frames) == 30
    assert len(made("clip:start=1,end=1000000,unit=s", source, tmp_path)[1]) == 35
    assert len(made("clip:start=0.5,end=0.501", source, tmp_path)[1]) == 1


def test_frame_rates(source: Path, tmp_path: Path) -> None:
    header, frames, _ = made("fps:30", source, tmp_path)
    assert header.fps == 30
    shown = [nearest(frame) for frame in frames[:30]]
    assert len(frames) == 72
    assert all(abs(index / RATE - number / 30) < 1 / RATE for number, index in enumerate(shown))
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(shown))
    header, frames, _ = made("fps:5", source, tmp_path)
    assert header.fps == 5
    assert len(frames) == 12
    assert [nearest(frame) for frame in frames] == pytest.approx(list(range(2, 60, 5)), abs=1)


def test_black_frames_and_slide_shows(source: Path, tmp_path: Path) -> None:
    for where, before, behind in (("start", 50, 0), ("end", 0, 50), ("both", 50, 50)):
        header, frames, _ = made(f"black:2,where={where}", source, tmp_path)
        assert header.fps == RATE
        assert len(frames) == COUNT + before + behind
        assert nearest(frames[before]) == 0
        dark = [frame.mean() < 3 for frame in frames]
        assert dark == [True] * before + [False] * COUNT + [True] * behind
    header, frames, _ = made("slideshow:taken=2,shown=4,offset=0.4", source, tmp_path)
    assert header.fps == 4
    assert [nearest(frame) for frame in frames] == pytest.approx([10, 22, 35, 48], abs=1)
    assert len(made("slideshow:taken=5,most=3", source, tmp_path)[1]) == 3


def test_transforms_of_pictures_change_each_frame_alike(source: Path, tmp_path: Path) -> None:
    assert not set(VIDEO_TRANSFORMS) & set(TRANSFORMS)
    header, frames, _ = made("resize:0.5", source, tmp_path)
    assert (header.width, header.height, len(frames)) == (WIDTH // 2, HEIGHT // 2, COUNT)
    _, frames, _ = made("pad:0.25", source, tmp_path)
    assert frames[5].shape == (HEIGHT * 3 // 2, WIDTH, 3)
    assert frames[5][: HEIGHT // 4 - 1].mean() < 5
    assert nearest(frames[5][HEIGHT // 4 : -HEIGHT // 4]) == 5
    _, frames, _ = made("flip", source, tmp_path)
    assert [nearest(frame[:, ::-1]) for frame in (frames[0], frames[41])] == [0, 41]
    still = tmp_path / "still.mp4"
    still.write_bytes(encoded(pictures=[picture(0)] * 6))
    for text in ("overlay:0.5", "noise:0.1"):  # the same place and the same noise throughout
        _, frames, _ = made(text, still, tmp_path, seed=3)
        assert difference(frames[0], picture(0)) > 5
        assert max(difference(frames[0], frame) for frame in frames) < 4


def test_chains_are_done_in_order_and_encoded_once(source: Path, tmp_path: Path) -> None:
    transform = parse_video(" crop:0.25+resize : 0.5+reencode:vp9+clip:0.5,end=1 ")
    assert transform.spec == "crop:fraction=0.25+resize+reencode:codec=vp9+clip:end=1,start=0.5"
    assert parse_video(transform.spec).spec == transform.spec
    assert len(transform.steps) == 3
    header, frames, name = made(transform.spec, source, tmp_path)
    assert name == "made.webm"
    assert (header.codec, header.width, header.height, len(frames)) == ("vp9", WIDTH // 4, HEIGHT // 4, 30)
    assert made("black:1+clip:0,end=1,unit=s", source, tmp_path)[1][-1].max() < 40
    assert len(made("clip:0.5,end=1+clip:0.5,end=1", source, tmp_path)[1]) == 15


def test_a_known_suffix_is_kept(source: Path, tmp_path: Path) -> None:
    assert parse_video("reencode")(source, tmp_path / "a.MKV") == str(tmp_path / "a.MKV")
    assert probe_video((tmp_path / "a.MKV").read_bytes()).format == "matroska"
    assert parse_video("reencode")(source, tmp_path / "crop0.05") == str(tmp_path / "crop0.05.mp4")
    with pytest.raises(UsageError, match=re.escape(".webm cannot hold h264")):
        parse_video("reencode")(source, tmp_path / "a.webm")
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".webm", ".part")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reencod", "unknown transform 'reencod'; did you mean 'reencode'?"),
        ("cropp", "unknown transform 'cropp'; did you mean 'crop'?"),
        ("reencode:codec=h265", "codec=h265 of reencode cannot be meant"),
        ("reencode:bitrate=3", "unknown parameter 'bitrate' of reencode"),
        ("fps:0", "rate=0 of fps cannot be meant"),
        ("clip:5", "start=5 of clip cannot be meant"),
        ("black:where=middle", "where=middle of black cannot be meant"),
        ("clip:0.5,end=1+jpeg:200", "quality=200 of jpeg"),
    ],
)
def test_what_cannot_be_meant_is_one_line(text: str, message: str, source: Path, tmp_path: Path) -> None:
    text = text.replace("clip:5", "clip:start=5000000")
    with pytest.raises(UsageError, match=re.escape(message.replace("start=5 ", "start=5000000 "))) as caught:
        parse_video(text)(source, tmp_path / "made")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_or_written_leaves_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no video at .*nowhere\.mp4"):
        parse_video("reencode")(tmp_path / "nowhere.mp4", tmp_path / "made")
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(encoded("mkv")[:-3000])
    with pytest.raises(MediaError, match="truncated"):
        parse_video("reencode")(damaged, tmp_path / "made")
    with pytest.raises(UsageError, match=r"clip from 0\.5 to 0.5 holds nothing"):
        parse_video("clip:start=0.5,end=0.5")(source, tmp_path / "made")
    with pytest.raises(UsageError, match="there are no frames to encode"):
        parse_video("clip:start=90,end=91,unit=s")(source, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.mkv"]


def test_a_build_without_an_encoder(monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(encode_module, "ENCODERS", {"h264": ("libmissing",), "mpeg4": ("libmissing", "mpeg4")})
    assert made("reencode:codec=mpeg4", source, tmp_path)[0].codec == "mpeg4"
    with pytest.raises(UsageError, match="no video encoder for 'h264' in this build of PyAV; choose one of mpeg4"):
        parse_video("reencode")(source, tmp_path / "made")


def test_frames_of_odd_and_changing_sizes(tmp_path: Path) -> None:
    out = io.BytesIO()
    frames = [picture(n, 33, 21) for n in range(3)] + [picture(3, 64, 48), picture(4, 1, 1)]
    write_video(out, ".mp4", frames, 12.5, Encoding(keyframe_s=0.16))
    header = probe_video(out.getvalue())
    assert (header.width, header.height, header.frame_count, header.fps) == (32, 20, 5, 12.5)
    assert [frame.frame_index for frame in decode_frames(out.getvalue(), "keyframes")][:2] == [0, 2]
    out = io.BytesIO()
    write_video(out, ".mkv", [np.full((1, 1, 3), 200, np.uint8)], 1, Encoding("ffv1"))
    assert probe_video(out.getvalue()).width == 2


def test_containers_say_what_they_hold() -> None:
    holds = {codec: [suffix for suffix in SUFFIXES if can_hold(suffix, codec)] for codec in ENCODERS}
    assert all(usual_suffix(codec) in holds[codec] for codec in ENCODERS)
    assert holds["vp8"] == [".mov", ".mkv", ".webm", ".avi"]
    assert ".webm" not in holds["h264"]
    assert not can_hold(".ogv", "h264")


def test_frames_of_a_varying_rate_become_steady() -> None:
    flat = [np.full((2, 2, 3), level, np.uint8) for level in range(4)]
    times = [0.1, 0.4, 0.5, 1.0]  # the first is shown from the start on; at 10 a second
    for rate, expected in ((10, [0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 3]), (2, [0, 2]), (0.1, [3])):
        assert [int(frame[0, 0, 0]) for frame in steady(zip(flat, times, strict=True), rate, 0.1)] == expected
    assert list(steady([], 5, 1)) == []


def test_filters_take_expressions_and_refuse_nonsense() -> None:
    frames = [picture(0), picture(1, 40, 20)]
    result = list(filtered(frames, [Filter("scale", "iw/2:-1"), Filter("pad", "iw+10:ih+4:5:2:white")]))
    assert [frame.shape for frame in result] == [(36, 58, 3), (14, 30, 3)]
    assert result[0][0].min() == 255
    for name, options in (("pad", "nonsense=3"), ("scale", "iw/:2"), ("pad", "2:2"), ("nothing", "1")):
        with pytest.raises(UsageError, match="FFmpeg's filter") as caught:
            list(filtered(frames, [Filter(name, options)]))
        assert "\n" not in str(caught.value)
