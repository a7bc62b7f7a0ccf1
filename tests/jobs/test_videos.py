"""Videos and animations in the tables: their rows, whatever the cut; what is broken costs itself only."""

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from test_dedup import PHASH, Interrupted, dedup, hash_only

from conftest import PHOTOS, all_rows, rows
from hostile import CRASH
from neardup import storage
from neardup.child import Child, Limits
from neardup.hashers import parse
from neardup.hashers.video import read_video
from neardup.media import DecodePolicy, decode_image
from neardup.work import Clip, Sampling
from video_clips import CLIPS, animation, clip, encoded, picture, sound

VIDEO_HASHERS = ["tmkl1", "tmkl2:frames_per_second=5"]
FRAMEWISE = "framewise:frame_hasher=phash(hash_size=16),interframe_threshold=0.1,frames_per_second=5"
FRAMES = "hashes/hasher=phash-hash_size-16"


def scenes(count: int = 150, form: str = "mp4", still: int = 7) -> bytes:
    """A clip at 25 fps whose picture changes every `still` frames, with a keyframe every 10, whatever changes."""
    pictures = [picture(40 * (n // still)) for n in range(count)]
    return encoded(form, pictures, codec_options={"g": "10", "sc_threshold": "0", "crf": "4"})


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("v1.m4v", "v2.m4v", "v2s.mov"):
        shutil.copy(CLIPS / name, folder)
    (folder / "scenes.mp4").write_bytes(scenes())
    (folder / "scenes.mkv").write_bytes(scenes(form="mkv"))
    (folder / "cut.mp4").write_bytes(scenes()[:-500])
    (folder / "moving.gif").write_bytes(animation("GIF", duration_ms=400))
    return folder


def of(output: Path, table: str, name: str) -> list[dict[str, Any]]:
    found = [row for row in rows(output, table) if str(row["uri"]).endswith(f"/{name}")]
    return sorted(found, key=lambda row: (row.get("frame_index", 0), row.get("variant", "")))


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_video_hashers_give_what_the_library_gives(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    specs = [FRAMEWISE, *VIDEO_HASHERS]
    hash_only(clips, out, hashers=specs)
    for spec in specs:
        hasher: Any = parse(spec)
        folder = next(path.name for path in (out / "hashes").iterdir() if path.name.startswith(f"hasher={spec[:5]}"))
        for name in ("v1.m4v", "v2s.mov"):
            library = hasher.compute(CLIPS / name, hash_format="vector")
            packed = [hasher.pack(one) for one in (library if isinstance(library, list) else [library])]
            found = [row["hash"] for row in of(out, f"hashes/{folder}", name)]
            assert [h if isinstance(h, bytes) else np.array(h, "<f4").tobytes() for h in found] == packed


def test_frames_are_sampled_by_the_clock_and_the_like_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    pictures = (
        [picture(0)] * 40 + [picture(0)[::-1, ::-1]] * 40 + [np.full((64, 96, 3), 9, np.uint8)] * 40 + [picture(0)] * 30
    )
    times = list(range(0, 300, 2))  # 12.5 frames a second, said to be 25
    (folder / "varying.mkv").write_bytes(encoded("mkv", pictures, times=times))
    out = tmp_path / "out"
    summary = hash_only(folder, out, hashers=["phash:hash_size=16"])
    (media,) = rows(out, "media")
    assert (media["kind"], media["width"], media["height"], media["frame_count"]) == ("video", 96, 64, 150)
    assert media["duration_s"] == pytest.approx(12, abs=0.2) and media["sha256"] is None and not media["partial"]
    found = [(row["timestamp_s"], row["frame_index"]) for row in of(out, FRAMES, "varying.mkv")]
    assert found == [(0.0, 0), (4.0, 50), (10.0, 125)]  # as 3.2 s and 9.6 s are no ticks; the black part has no quality
    assert summary["hashers"]["phash:hash_size=16"]["with_hash"] == 1
    hash_only(folder, out, hashers=["phash:hash_size=16"], video={"interframe_threshold": -1})
    assert [row["timestamp_s"] for row in of(out, FRAMES, "varying.mkv")] == [0, 1, 2, 3, 4, 5, 6, 10, 11]


def test_a_frame_hash_is_that_of_the_picture_itself(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hash_only(clips, out, hashers=["pdq"], video={"frames_per_second": "all", "interframe_threshold": -1})
    hasher = parse("pdq")
    found = {row["frame_index"]: row["hash"] for row in of(out, "hashes/hasher=pdq", "v1.m4v")}
    for frame, index, _ in read_video(CLIPS / "v1.m4v"):
        assert found.get(index, hasher.pack(hasher.compute(frame, "vector"))) == hasher.pack(
            hasher.compute(frame, "vector")
        )
    assert len(found) == 120


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_frames_of_an_animation_are_rows_and_the_first_is_that_of_the_still(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    data = animation(form, count=8, duration_ms=400)
    (folder / f"moving.{form.lower()}").write_bytes(data)
    Image.fromarray(decode_image(data).pixels).save(folder / "still.bmp")
    out = tmp_path / "out"
    settings = {"interframe_threshold": 0.02, "min_quality": 0}
    dedup(folder, out, hashers=[PHASH], video=settings)
    (still,) = of(out, FRAMES, "still.bmp")
    frames = of(out, FRAMES, f"moving.{form.lower()}")
    assert frames[0]["hash"] == still["hash"] and still["timestamp_s"] is None
    assert [row["timestamp_s"] for row in frames] == [0.0, 1.0, 2.0, 3.0]
    assert [row["frame_index"] for row in frames] == [0, 2, 5, 7]
    media = {str(row["uri"]).rsplit("/", 1)[1]: row for row in rows(out, "media")}
    assert media[f"moving.{form.lower()}"]["duration_s"] == pytest.approx(3.2)
    (pair,) = rows(out, "pairs/hasher=phash-hash_size-16")
    assert pair["distance"] == 0 and {pair["overlap_a"], pair["overlap_b"]} >= {1.0}


def test_a_picture_that_is_a_frame_of_a_video_is_found(clips: Path, tmp_path: Path) -> None:
    frame = next(pixels for pixels, index, _ in read_video(CLIPS / "v1.m4v") if index == 48)
    Image.fromarray(frame).save(clips / "frame.png")
    out = tmp_path / "out"
    dedup(clips, out, hashers=[PHASH])
    found = [row for row in rows(out, "pairs/hasher=phash-hash_size-16") if str(row["uri_a"]).endswith("frame.png")]
    (pair,) = [row for row in found if str(row["uri_b"]).endswith("v1.m4v")]
    assert pair["distance"] < 0.1 and pair["overlap_a"] == 1 and pair["offset_s"] is None


def test_hashers_of_videos_say_that_they_hash_no_images(clips: Path, tmp_path: Path) -> None:
    shutil.copy(PHOTOS[0], clips)
    out = tmp_path / "out"
    hash_only(clips, out, hashers=["tmkl1", "cropresistant"])
    (row,) = of(out, "hashes/hasher=tmkl1", PHOTOS[0].name)
    assert row["hash"] is None and row["error"] == "this hasher hashes videos only"
    (row,) = of(out, "hashes/hasher=cropresistant", "v1.m4v")
    assert row["hash"] is None and "several hashes per image" in row["error"]
    assert len(of(out, "hashes/hasher=cropresistant", PHOTOS[0].name)) > 1


# --- same rows, whatever ----------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.parametrize("rate", [1.0, "keyframes", "all"])
def test_the_rows_do_not_depend_on_how_a_video_is_cut(clips: Path, tmp_path: Path, rate: float | str) -> None:
    hashers = [PHASH, "tmkl1:frame_hasher=phashu8,frames_per_second=keyframes"]
    hashers += [FRAMEWISE, *VIDEO_HASHERS] if rate == 1 else []
    shutil.copy(PHOTOS[0], clips)
    sampling = {"frames_per_second": rate, "interframe_threshold": 0.1, "min_quality": 50}
    ways: dict[str, dict[str, Any]] = {
        "whole": {},
        "in segments": {"video": {"slice_bytes": 1, "segment_s": 0.5}},
        "in others": {"video": {"slice_bytes": 10_000, "segment_s": 1.9}, "child": {"enabled": False}},
    }
    if rate == 1:
        ways["on a cluster"] = {"cluster": {"workers": 2}, "video": {"slice_bytes": 1, "segment_s": 0.1}}
    found = {}
    for name, way in ways.items():
        settings = {**way, "video": {**sampling, **way.get("video", {})}, "isometric": rate == 1}
        summary = hash_only(clips, tmp_path / name, hashers=hashers, **settings)
        segments = summary["stages"]["hash"].get("segments", 0)
        assert segments == 0 if name == "whole" else segments > 5
        found[name] = all_rows(tmp_path / name)
        assert not (tmp_path / name / "work").exists()
    for name, one in found.items():
        assert one == found["whole"], name
    assert len(of(tmp_path / "whole", FRAMES, "scenes.mp4")) > 3
    assert len(rows(tmp_path / "whole", "media")) == 8


def test_other_sampling_redoes_what_moves_and_nothing_else(clips: Path, tmp_path: Path) -> None:
    for photo in PHOTOS[:3]:
        shutil.copy(photo, clips)
    out = tmp_path / "out"
    one_each = {"slices": {"items": 1}, "hashers": ["dhash"]}
    hash_only(clips, out, **one_each)
    faster = {"video": {"frames_per_second": 2}}
    assert hash_only(clips, out, **one_each, **faster)["stages"]["hash"]["items"] == 6  # five clips and the GIF
    hash_only(clips, tmp_path / "fresh", **one_each, **faster)
    assert all_rows(out) == all_rows(tmp_path / "fresh")
    too_long = {"video": {"frames_per_second": 2, "max_duration_s": 4}}
    hash_only(clips, tmp_path / "short", **one_each, **too_long)
    failed = {
        str(r["uri"]).rsplit("/", 1)[1] for r in rows(tmp_path / "short", "media") if r["error_class"] == "policy"
    }
    assert failed == {"v1.m4v", "v2.m4v", "scenes.mp4", "scenes.mkv"}
    assert hash_only(clips, tmp_path / "short", **one_each, **faster)["stages"]["hash"]["items"] == 4
    assert all_rows(tmp_path / "short") == all_rows(out)


@pytest.mark.cluster
def test_a_killed_run_over_a_long_video_goes_on(tmp_path: Path) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    (folder / "long.mp4").write_bytes(scenes(1500))
    small = ("--set", "video.slice_bytes=1", "--set", "video.segment_s=1", "--fps", "all", "--frame-quality", "0")
    run = Interrupted(folder, out, *small)
    run.kill_when(out, "work/slices-*/segment-*", 4, suffix="")
    assert not list(out.glob("media/*")) and len(list(out.glob("work/slices-*/segment-*"))) > 4
    video = {"slice_bytes": 1, "segment_s": 1, "frames_per_second": "all", "min_quality": 0}
    before = {path.name: path.stat().st_ino for path in out.glob("work/slices-*/segment-??????")}
    dedup(folder, out, hashers=[PHASH], video=video)
    dedup(folder, tmp_path / "fresh", hashers=[PHASH], video=video)
    assert before and all_rows(out) == all_rows(tmp_path / "fresh")
    assert not (out / "work").exists()


# --- what is broken ---------------------------------------------------------------------------------------------------


def test_broken_videos_are_rows_and_the_rest_is_done(tmp_path: Path) -> None:
    from media.test_video_damage import ENCRYPTION, matroska

    folder = tmp_path / "clips"
    folder.mkdir()
    whole = scenes()
    broken = {
        "truncated.mp4": (whole[: len(whole) // 2], "permanent", "moov"),
        "empty.mp4": (b"", "permanent", "empty"),
        "sound.mp4": (sound(), "permanent", "no video stream"),
        "nothing.mkv": (matroska(0, 0), "policy", "no size of frames"),
        "photo.mp4": (PHOTOS[0].read_bytes(), "permanent", "not a video"),
        "clip.jpg": (whole, "permanent", "not an image"),
        "encrypted.mp4": (encoded(count=20, container_options=ENCRYPTION), "permanent", "encrypted"),
        "huge.mkv": (matroska(100_000, 100_000), "policy", "--max-pixels"),
    }
    for name, (data, _, _) in broken.items():
        (folder / name).write_bytes(data)
    (folder / "good.mp4").write_bytes(whole)
    (folder / "half.mkv").write_bytes((mkv := scenes(form="mkv"))[: len(mkv) // 2])
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    for name, settings in {"whole": {}, "cut": {"slice_bytes": 1, "segment_s": 1}}.items():
        out = tmp_path / name
        summary = hash_only(folder, out, hashers=["phash:hash_size=16", "tmkl1"], video=settings)
        media = {str(row["uri"]).rsplit("/", 1)[1]: row for row in rows(out, "media")}
        for file, (_, error_class, text) in broken.items():
            assert (media[file]["error_class"], media[file]["error_stage"]) == (error_class, "decode"), media[file]
            assert text in media[file]["error"]
        assert (media["gone.mp4"]["error_class"], media["gone.mp4"]["error_stage"]) == ("permanent", "read")
        assert media["good.mp4"]["partial"] is False and media["good.mp4"]["error"] is None
        assert media["half.mkv"]["partial"] is True and "truncated" in media["half.mkv"]["error"]
        assert 0 < media["half.mkv"]["frame_count"] < 150
        assert (summary["listed"], summary["decoded"]) == (11, 2)
    assert all_rows(tmp_path / "whole") == all_rows(tmp_path / "cut")


def test_a_file_that_disappears_mid_run_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neardup.stages import hashing

    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.mp4").write_bytes(clip())
    prepare = hashing.prepare

    def then_remove(*given: Any) -> Any:
        tasks = prepare(*given)
        (folder / "1.mp4").unlink()
        return tasks

    monkeypatch.setattr(hashing, "prepare", then_remove)
    summary = hash_only(folder, tmp_path / "out", hashers=["dhash"])
    (row,) = [row for row in rows(tmp_path / "out", "media") if row["error_class"]]
    assert str(row["uri"]).endswith("/1.mp4") and (row["error_stage"], row["error"]) == ("read", "the object is gone")
    assert summary["decoded"] == 2


def test_a_file_that_disappears_between_its_segments_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neardup.stages import cutting

    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("here.mp4", "gone.mp4"):
        (folder / name).write_bytes(scenes())
    segment_tasks = cutting.segment_tasks

    def then_remove(video: Any) -> Any:
        (folder / "gone.mp4").unlink(missing_ok=True)
        return segment_tasks(video)

    monkeypatch.setattr(cutting, "segment_tasks", then_remove)
    video = {"slice_bytes": 1, "segment_s": 1}
    summary = hash_only(folder, tmp_path / "out", hashers=["dhash"], video=video)
    (row,) = [row for row in rows(tmp_path / "out", "media") if row["error_class"]]
    assert str(row["uri"]).endswith("/gone.mp4") and (row["error_stage"], row["error"]) == (
        "read",
        "the object is gone",
    )
    assert summary["decoded"] == 1 and summary["stages"]["hash"]["segments"] > 4


class Endless(BaseHTTPRequestHandler):
    """A transport stream that goes on for ever: any range of it is the same clip again."""

    block = b""

    def do_HEAD(self) -> None:
        self._head(200, 1 << 50)

    def do_GET(self) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or 1 << 50), int(first) + (1 << 20))
        self._head(206, end - start + 1, f"bytes {start}-{end}/{1 << 50}")
        begin = start % len(self.block)
        times = (end - start) // len(self.block) + 2
        self.wfile.write((self.block * times)[begin : begin + end - start + 1])

    def _head(self, code: int, length: int, content_range: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endless() -> Iterator[str]:
    Endless.block = encoded("ts", count=50)
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/live.ts"
        server.shutdown()


def test_an_endless_stream_ends_at_its_deadline(endless: str) -> None:
    limits = Limits(deadline_s=5, video_deadline_s=6)
    with Child(("dhash",), DecodePolicy(), limits) as child:
        live, good = child.work([Clip(endless), Clip(storage.absolute(str(CLIPS / "v1.m4v")))])
    assert live.error_class == "poison" and "not done within 6 s" in (live.error or ""), live
    assert good.error is None and good.frame_count == 120


def test_a_video_that_moves_on_may_take_longer_than_the_deadline_of_an_image() -> None:
    uri = storage.absolute(str(CLIPS / "v1.m4v"))
    sampling = Sampling(frames_per_second=None)
    with Child(("hostile.Slow",), DecodePolicy(), Limits(deadline_s=1), sampling) as child:
        (answer,) = child.work([Clip(uri)])
    assert answer.error is None and answer.hashes[0][0].error is None and answer.frame_count == 120


def test_a_hasher_that_crashes_on_a_frame_costs_its_hash_of_that_video(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    pictures = [picture(n) for n in range(60)]
    pictures[50] = np.full((64, 96, 3), CRASH, np.uint8)
    (folder / "bad.avi").write_bytes(lossless(pictures))
    (folder / "good.mp4").write_bytes(clip())
    video = {"frames_per_second": "all", "min_quality": 0}
    hashers = ["dhash", "hostile.Hostile"]
    summary = hash_only(folder, tmp_path / "out", hashers=hashers, video=video)
    (row,) = of(tmp_path / "out", "hashes/hasher=hostile.Hostile", "bad.avi")
    assert row["error"] == "poison: killed by SIGSEGV in hasher hostile.Hostile"
    assert len(of(tmp_path / "out", "hashes/hasher=dhash", "bad.avi")) > 1
    assert summary["stages"]["hash"]["children_replaced"] == 1
    cut = {**video, "slice_bytes": 1, "segment_s": 0.3}
    hash_only(folder, tmp_path / "cut", hashers=hashers, video=cut)
    assert all_rows(tmp_path / "cut") == all_rows(tmp_path / "out")


def test_a_video_without_any_hasher_left_keeps_its_facts(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "bad.avi").write_bytes(lossless([np.full((64, 96, 3), CRASH, np.uint8)] * 3))
    hash_only(folder, tmp_path / "out", hashers=["hostile.Hostile"], video={"min_quality": 0})
    (media,) = rows(tmp_path / "out", "media")
    assert (media["error_class"], media["frame_count"], media["width"]) == (None, 3, 96)
    (row,) = rows(tmp_path / "out", "hashes/hasher=hostile.Hostile")
    assert str(row["error"]).startswith("poison: killed by SIGSEGV")


def lossless(pictures: list[np.ndarray]) -> bytes:
    import io

    sink = io.BytesIO()
    with av.open(sink, "w", format="avi") as container:
        stream = container.add_stream("ffv1", rate=25, options={"g": "1"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return sink.getvalue()


def test_directories_of_frames_are_not_followed_out_of_the_input(tmp_path: Path) -> None:
    """A playlist that names other files is no video."""
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "list.ts").write_bytes(b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")
    hash_only(folder, tmp_path / "out", hashers=["dhash"])
    (row,) = rows(tmp_path / "out", "media")
    assert row["error_class"] == "permanent" and os.uname().nodename not in str(row)


def test_the_longest_video_is_kept_whatever_its_size(tmp_path: Path) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    shutil.copy(CLIPS / "v1.m4v", folder / "film.mp4")
    large = [frame.repeat(2, 0).repeat(2, 1) for frame, index, _ in read_video(CLIPS / "v1.m4v") if index < 48]
    (folder / "a-scene.mp4").write_bytes(encoded("mp4", large, rate=24, codec_options={"crf": "1"}))
    dedup(folder, out, hashers=[PHASH])
    said = {str(row["uri"]).rsplit("/", 1)[1]: (row["keep"], row["reason"]) for row in rows(out, "groups")}
    assert said == {"film.mp4": (True, "keep: longest"), "a-scene.mp4": (False, "drop: 2 s, kept has 5 s")}
    dedup(folder, out, hashers=[PHASH], keep=["-pixels"])
    assert {str(row["uri"]).rsplit("/", 1)[1] for row in rows(out, "groups") if row["keep"]} == {"a-scene.mp4"}


def test_a_letterboxed_copy_is_found_without_its_bars(tmp_path: Path) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    shutil.copy(CLIPS / "v1.m4v", folder)
    boxed = [np.pad(frame, ((40, 40), (0, 0), (0, 0))) for frame, _, _ in read_video(CLIPS / "v1.m4v")]
    (folder / "boxed.mp4").write_bytes(encoded("mp4", boxed, rate=24))
    dedup(folder, out, hashers=[PHASH])
    assert not rows(out, "pairs/hasher=phash-hash_size-16")
    dedup(folder, out, hashers=[PHASH], video={"unletterbox": True})
    (pair,) = rows(out, "pairs/hasher=phash-hash_size-16")
    assert (pair["overlap_a"], pair["matches"]) == (1, 5) and abs(pair["offset_s"]) < 0.1
    cut = {"unletterbox": True, "slice_bytes": 1, "segment_s": 1}
    dedup(folder, tmp_path / "cut", hashers=[PHASH], video=cut)
    assert all_rows(tmp_path / "cut") == all_rows(out)
