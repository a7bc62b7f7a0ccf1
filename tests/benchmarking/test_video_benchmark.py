"""The benchmark of videos: the reference's transforms, hashes from one decode, tables saved and loaded."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, SAMPLES
from neardup import hashers
from neardup.benchmarking import (
    BenchmarkError,
    BenchmarkHashes,
    BenchmarkVideoDataset,
    BenchmarkVideoTransforms,
    TransformError,
    video_transforms,
)
from neardup.errors import UsageError
from neardup.media.video import decode_frames, probe_video
from neardup.transforms.video import parse_video
from video_clips import clip, encoded, picture

CLIPS = [SAMPLES / "clips/v1.m4v", SAMPLES / "clips/v2.m4v"]
COLUMNS = ["filepath", "category", "transform_name", "input_filepath", "guid", "error"]


def framewise(rate: float = 2) -> hashers.FramewiseHasher:
    return hashers.FramewiseHasher(hashers.PHash(hash_size=16), interframe_threshold=-1, frames_per_second=rate)


def copied(input_filepath: str, output_filepath: str) -> str:
    """A callable of one's own, which adds the suffix."""
    return shutil.copy(input_filepath, f"{output_filepath}.mp4")


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkVideoTransforms:
    transforms = {
        "clip1s": video_transforms.get_simple_transform(clip_s=(1, None)),
        "noop": video_transforms.get_simple_transform(width=128, sar="1/1"),
        "gif": video_transforms.get_simple_transform(codec="gif", output_ext=".gif", fps=4),
        "blackpad": video_transforms.get_black_frame_padding_transform(duration_s=1),
        "slideshow": video_transforms.get_slideshow_transform(frame_input_rate=1, frame_output_rate=1),
        "vp9": "crop:0.05+reencode:codec=vp9,share=0.5",
        "parsed": parse_video("flip"),
        "own": copied,
    }
    dataset = BenchmarkVideoDataset.from_tuples([(path, f"category {n}") for n in (1, 2) for path in CLIPS])
    return dataset.transform(transforms, tmp_path_factory.mktemp("benchmark") / "videos")


def test_a_row_per_video_and_transform(transformed: BenchmarkVideoTransforms) -> None:
    df = transformed.df
    assert sorted(df.columns) == sorted(COLUMNS)
    assert len(df) == 4 * 8
    assert df.filepath.notnull().all()
    assert df.error.isnull().all()
    assert list(df.transform_name[:5]) == ["noop"] * 4 + ["clip1s"]
    noops = df[df.transform_name == "noop"].set_index("guid")
    assert set(noops.input_filepath) == {str(path) for path in CLIPS}
    others = df[df.transform_name != "noop"]
    assert (others.input_filepath.to_numpy() == noops.filepath[others.guid].to_numpy()).all()
    suffixes = {name: {Path(path).suffix for path in group} for name, group in df.groupby("transform_name").filepath}
    assert suffixes["noop"] == {".m4v"}
    assert suffixes["gif"] == {".gif"}
    assert suffixes["slideshow"] == {".avi"}
    assert suffixes["vp9"] == {".webm"}
    for path in noops.filepath:
        header = probe_video(Path(path).read_bytes())
        assert (header.width, header.height, header.codec) == (128, 72, "h264")


def test_hashes_of_it_and_what_they_find(transformed: BenchmarkVideoTransforms, tmp_path: Path) -> None:
    named = {"frames": framewise(), "one": framewise(1), "tmk": hashers.TMKL1(frames_per_second=2)}
    result = transformed.compute_hashes(named, max_workers=2)
    df = result.df
    assert set(df.hasher_name) == set(named)
    assert df.error.isnull().all()
    first = df[(df.guid == df.guid.iloc[0])]
    counts = first.groupby(["hasher_name", "transform_name"]).size()
    assert (counts["tmk"] == 1).all()
    assert counts["frames"]["clip1s"] == counts["frames"]["noop"] - 2
    assert counts["frames"]["blackpad"] == counts["frames"]["noop"] + 4
    assert counts["one"]["slideshow"] == counts["one"]["noop"]
    for _, row in df[df.hasher_name == "frames"].drop_duplicates(["guid", "transform_name"]).iterrows():
        alone = named["frames"].compute(row.filepath)
        rows = df[(df.hasher_name == "frames") & (df.filepath == row.filepath)]
        assert rows.hash.tolist() == alone
    result.save(tmp_path / "hashes.csv")
    loaded = BenchmarkHashes.load(tmp_path / "hashes.csv").df
    pd.testing.assert_frame_equal(loaded.drop(columns="error"), df.drop(columns="error"), check_dtype=False)
    # the clips are two parts of one flight; each category holds both
    recall = result.filter(hasher_name=["frames"]).compute_threshold_recall(grouping=["transform_name"]).recall
    assert (recall[[("noop", "frames"), ("own", "frames")]] == 100).all()
    assert recall["parsed", "frames"] < 100


def test_saved_and_loaded(transformed: BenchmarkVideoTransforms, tmp_path: Path) -> None:
    few = transformed.filter(transform_name=["noop", "clip1s"])
    for name in ("folder", "archive.zip"):
        few.save(tmp_path / name)
        loaded = BenchmarkVideoTransforms.load(tmp_path / name)
        assert loaded.df.guid.tolist() == few.df.guid.tolist()
        assert [Path(path).read_bytes() for path in loaded.df.filepath] == [
            Path(path).read_bytes() for path in few.df.filepath
        ]
    data = BenchmarkVideoDataset.from_tuples([(CLIPS[0], "a")])
    data.save(tmp_path / "dataset")
    assert BenchmarkVideoDataset.load(tmp_path / "dataset").categories.tolist() == ["a"]


def test_what_fails_is_an_error_a_warning_or_a_row(tmp_path: Path) -> None:
    def refusing(input_filepath: str, output_filepath: str) -> str:
        raise OSError("no room")

    (tmp_path / "broken.mp4").write_bytes(b"no video")
    dataset = BenchmarkVideoDataset.from_tuples([(CLIPS[0], "a"), (tmp_path / "broken.mp4", "a")])
    steps = {"noop": "clip:0,end=0.2", "refusing": refusing, "nothing": lambda input_filepath, output_filepath: None}
    with pytest.raises(TransformError, match="with transform refusing: no room"):
        dataset.transform(steps, tmp_path / "raise")
    with pytest.warns(UserWarning, match="An exception occurred while processing") as caught:
        result = dataset.transform(steps, tmp_path / "warn", errors="warn")
    assert len(caught) == 3
    assert len(dataset.transform(steps, tmp_path / "ignore", errors="ignore").df) == 6
    errors = [("" if pd.isnull(text) else text) for text in result.df.error]
    for text, expected in zip(
        errors, ["^$", "not a video", "no room", "noop failed", "must return the path", "noop failed"], strict=True
    ):
        assert re.search(expected, text)
    assert result.df.filepath.isnull().tolist() == [False, True, True, True, True, True]
    loaded = BenchmarkVideoTransforms.load(tmp_path / "warn")
    found = loaded.compute_hashes({"frames": framewise()}).df
    assert found.hash.isnull().sum() == 5
    assert found[found.hash.isnull()].error.tolist() == [text for text in errors if text]


def test_a_hasher_that_fails_costs_its_hashes_alone(tmp_path: Path) -> None:
    class Failing(hashers.TMKL1):
        def process_frame(self, frame, frame_index, frame_timestamp, state=None):
            raise RuntimeError("it fails")

    class Dark(hashers.PHash):
        def _compute(self, image):
            return None

    dataset = BenchmarkVideoDataset.from_tuples([(CLIPS[0], "a")])
    transformed = dataset.transform({"noop": "clip:0,end=0.2"}, tmp_path / "videos")
    dark = hashers.FramewiseHasher(Dark(), 0.1, 2)
    df = transformed.compute_hashes({"failing": Failing(), "frames": framewise(), "dark": dark}).df
    assert df[df.hasher_name == "failing"].error.tolist() == ["it fails"]
    assert df[df.hasher_name == "frames"].hash.notnull().all()
    assert df[df.hasher_name == "dark"].hash.tolist() == [None]
    assert df[df.hasher_name != "failing"].error.isnull().all()
    with pytest.raises(UsageError, match="'phash' is no video hasher; FramewiseHasher"):
        transformed.compute_hashes({"phash": hashers.PHash()})
    with pytest.raises(BenchmarkError, match="no-op transform named 'noop'"):
        dataset.transform({"flip": "flip"}, tmp_path / "videos")
    with pytest.raises(UsageError, match="unknown errors='never'"):
        dataset.transform({"noop": "reencode"}, tmp_path / "videos", errors="never")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("clip") / "it's a clip.mp4"
    path.write_bytes(clip())
    return str(path)


def test_simple_transforms(source: str, tmp_path: Path) -> None:
    def made(**arguments: object) -> tuple:
        path = video_transforms.get_simple_transform(**arguments)(source, str(tmp_path / "made"))
        header = probe_video(Path(path).read_bytes())
        return Path(path).name, header.codec, header.width, header.height, header.frame_count, header.fps

    assert made() == ("made.mp4", "h264", 96, 64, 60, 25)
    assert made(width="ceil(0.7*iw/2)*2", height="ceil(0.7*ih/2)*2")[2:4] == (68, 46)
    assert made(width=48)[2:4] == (48, 32)
    assert made(pad="120:100:12:18")[2:4] == (120, 100)
    assert made(clip_s=(0.4, 1.2))[4] == 20  # the end is an end: the reference takes it as a duration
    assert made(clip_s=(None, 1))[4] == 25
    assert made(clip_pct=(0.2, 0.8), fps=50)[4:] == (72, 50)
    assert made(clip_pct=(0.5, None), clip_s=(2, None))[4] == 10
    assert made(codec="vp9", output_ext=".webm")[:2] == ("made.webm", "vp9")
    assert made(codec="libx265")[:2] == ("made.mp4", "hevc")
    assert made(codec="vp8")[:2] == ("made.webm", "vp8")  # not in .mp4
    wide = video_transforms.get_simple_transform(sar="2/1")(source, tmp_path / "wide.mp4")
    assert wide == str(tmp_path / "wide.mp4")
    frames = list(decode_frames(Path(made(pad="96:96:0:16") and tmp_path / "made.mp4").read_bytes()))
    assert frames[3].pixels[:14].mean() < 5
    assert np.abs(frames[3].pixels[16:80].astype(int) - picture(3)).mean() < 5


def test_codecs_that_can_be_read_but_not_written_become_h264(tmp_path: Path) -> None:
    path = tmp_path / "source.asf"
    path.write_bytes(encoded("asf", count=5))
    made = video_transforms.get_simple_transform(width=48)(path, tmp_path / "made")
    assert (Path(made).name, probe_video(Path(made).read_bytes()).codec) == ("made.mp4", "h264")


def test_black_frames_and_slide_shows(source: str, tmp_path: Path) -> None:
    for arguments, count in (((0.2, 0.25), 15), ((1, 0.25), 25), ((0, 0.5), 30)):
        path = video_transforms.get_black_frame_padding_transform(*arguments)(source, tmp_path / "made")
        dark = [frame.pixels.mean() < 3 for frame in decode_frames(Path(path).read_bytes())]
        assert dark == [True] * count + [False] * 60 + [True] * count
    show = video_transforms.get_slideshow_transform(5, 0.5, max_frames=4, offset=0.4)
    path = Path(show(source, tmp_path / "show"))
    assert path.name == "show.avi"
    header = probe_video(path.read_bytes())
    assert (header.codec, header.fps, header.frame_count) == ("mjpeg", 0.5, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_s": (3, 1)}, "clip_s=(3, 1) holds nothing"),
        ({"clip_pct": (0.5, 0.5)}, "clip_pct=(0.5, 0.5) holds nothing"),
        ({"sar": "wide"}, "sar='wide' is no aspect"),
        ({"sar": "0/1"}, "it must be more than 0"),
        ({"codec": "theora"}, "no video encoder for 'theora'"),
        ({"width": "iw/"}, "FFmpeg's filter scale=iw/:-1"),
        ({"codec": "vp9", "output_ext": ".gif"}, ".gif cannot hold vp9"),
        ({"output_ext": ".txt"}, "unknown output_ext='.txt'; choose one of .mp4"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: dict, message: str, source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        video_transforms.get_simple_transform(**arguments)(source, tmp_path / "made")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_code_of_the_page_about_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/video.md").read_text(), re.DOTALL)
    (tmp_path / "samples").symlink_to(SAMPLES)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/video.md", "exec"), {})
    count, written = capsys.readouterr().out.split()
    assert int(count) > 2
    assert probe_video(Path(written).read_bytes()).codec == "vp9"
