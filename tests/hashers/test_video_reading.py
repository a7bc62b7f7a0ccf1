"""`read_video`: sources, errors, and the thread that reads ahead."""

import io
import json
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import PIL.Image
import pytest

from neardup.errors import MediaError, MissingError, PolicyError, TransientError, UndecodableError, UsageError
from neardup.hashers import PHash
from neardup.hashers.video import reading
from neardup.hashers.video.reading import read_ahead, read_video
from neardup.media.video import Video, VideoPolicy, decode_frames
from video_clips import CLIPS, animation, clip

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/videos.json").read_text())["videos"]
TRUNCATED = clip("mkv")[: len(clip("mkv")) * 2 // 3]


def indexes(*args: object, **options: object) -> list[tuple[int, float]]:
    return [(index, timestamp) for _, index, timestamp in read_video(*args, **options)]


def count_threads() -> int:
    return sum(thread.name == "read-ahead" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert count_threads() == 0


@pytest.mark.parametrize("use_queue", [True, False])
@pytest.mark.parametrize("name", GOLDEN)
def test_frames_equal_the_reference(name: str, use_queue: bool) -> None:
    for rate, expected in GOLDEN[name]["rates"].items():
        assert indexes(CLIPS / name, float(rate), use_queue=use_queue) == [(row[0], row[1]) for row in expected]
    until = indexes(str(CLIPS / name), 1, max_duration=2, use_queue=use_queue)
    assert until == [(row[0], row[1]) for row in GOLDEN[name]["max_duration_2"]]
    small = [list(frame.shape) for frame, _, _ in read_video(CLIPS / name, 1, max_size=100, use_queue=use_queue)]
    assert small[:3] == [row[2] for row in GOLDEN[name]["max_size_100"]]


def test_a_video_is_the_same_from_wherever_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "a clip's %20 name é.mp4"
    path.write_bytes(clip())
    fsspec.filesystem("memory").pipe_file("/videos/clip.mp4", clip())
    expected = indexes(clip(), 5)
    assert len(expected) == 12
    with path.open("rb") as file, fsspec.open("memory://videos/clip.mp4").open() as remote:
        for source in (path, str(path), io.BytesIO(clip()), file, remote, "memory://videos/clip.mp4", f"file://{path}"):
            assert indexes(source, 5) == expected


def test_keyframes_and_gifs_are_read() -> None:
    assert len(indexes(clip(), "keyframes")) >= 5
    assert indexes(animation("GIF"), 5) == [(0, 0), (2, 0.2), (4, 0.4), (6, 0.6)]


def test_the_documented_example_finds_a_clip_and_its_gif(tmp_path: Path) -> None:
    pictures = [PIL.Image.fromarray(frame) for frame, _, _ in read_video(CLIPS / "v1.m4v", 5)]
    pictures[0].save(tmp_path / "v1.gif", save_all=True, append_images=pictures[1:], duration=200)
    hasher = PHash(hash_size=16)
    hashes = []
    for path in [*CLIPS.glob("*.m4v"), *tmp_path.glob("*.gif")]:
        previous = None
        for frame, _, _ in read_video(path, frames_per_second=1):
            current, quality = hasher.compute_with_quality(frame, hash_format="vector")
            if quality < 90 or (previous is not None and hasher.compute_distance(current, previous) < 0.1):
                continue
            previous = current
            hashes.append((path.name, current))
    assert {name for name, _ in hashes} == {"v1.m4v", "v2.m4v", "v1.gif"}
    pairs = {tuple(sorted((a, b))) for a, x in hashes for b, y in hashes if a != b and np.mean(x != y) < 0.2}
    assert pairs == {("v1.gif", "v1.m4v")}


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_queue", [True, False])
def test_errors_are_raised_warned_of_or_ignored_behind_the_frames(use_queue: bool) -> None:
    raising = read_video(TRUNCATED, use_queue=use_queue)
    found = []
    with pytest.raises(UndecodableError, match="An error occurred while reading a bytes: truncated"):
        found.extend(index for _, index, _ in raising)
    ignored = indexes(TRUNCATED, use_queue=use_queue, errors="ignore")
    assert 10 < len(ignored) < 60
    with pytest.warns(UserWarning, match="truncated"):
        assert indexes(TRUNCATED, use_queue=use_queue, errors="warn") == ignored
    assert indexes(b"words", use_queue=use_queue, errors="ignore") == []


@pytest.mark.parametrize("errors", ["raise", "warn", "ignore"])
def test_a_missing_file_always_raises(errors: str, tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path, "memory://videos/none.mp4"):
        with pytest.raises(FileNotFoundError) as caught:
            indexes(path, errors=errors)
        assert isinstance(caught.value, MissingError)


def test_wrong_arguments_are_refused_at_once() -> None:
    for options in ({"frames_per_second": 0}, {"frames_per_second": "I"}, {"errors": "skip"}, {"max_queue_size": 0}):
        with pytest.raises(UsageError):
            read_video(clip(), **options)
    with pytest.raises(UsageError, match="max_side"):
        read_video(clip(), max_size=0)
    with pytest.raises(UsageError, match="a path, a URL"):
        indexes(3.0)


def test_limits_and_failing_sources_keep_their_class() -> None:
    with pytest.raises(PolicyError, match="over the limit"):
        indexes(clip(), policy=VideoPolicy(max_pixels=99))

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the disk is gone")

    with pytest.raises(TransientError, match="the disk is gone"):
        indexes(Failing(clip()))


def test_a_container_without_a_rate_counts_as_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    header = Video.header.func
    monkeypatch.setattr(Video, "header", property(lambda video: header(video)._replace(fps=0.0)))
    with pytest.raises(UndecodableError, match="no frame rate"):
        indexes(clip())
    assert indexes(clip(), errors="ignore")[:2] == [(0, 0.0), (1, 0.1)]
    with pytest.warns(UserWarning, match="assuming 10"):
        assert len(indexes(clip(), 5, errors="warn")) == 30


# --- reading ahead ----------------------------------------------------------------------------------------------------


class Source:
    """Counts what was asked of it."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.made = 0
        self.is_closed = False
        self.reached = threading.Event()
        self._count, self._error = count, error

    def items(self, stop_at: int = 10**9) -> Iterator[int]:
        try:
            for n in range(self._count):
                self.made += 1
                if self.made >= stop_at:
                    self.reached.set()
                yield n
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True


def test_items_come_in_order_and_then_the_producers_error() -> None:
    source = Source(500, MediaError("the reader failed"))
    found = []
    with pytest.raises(MediaError, match="the reader failed"):
        found.extend(collect(read_ahead(source.items(), 7, lambda _: 1), found))
    assert found == list(range(500))


def collect(items: Iterator[int], found: list[int]) -> Iterator[int]:
    for item in items:
        found.append(item)
        yield from ()


def test_no_more_is_read_than_the_bounds_allow() -> None:
    by_number, by_bytes = Source(1000), Source(1000)
    ahead = read_ahead(by_number.items(stop_at=12), 10, lambda _: 1)
    assert next(ahead) == 0
    assert by_number.reached.wait(30)  # one was taken, ten lie there, one waits for room
    ahead.close()
    assert by_number.made == 12
    ahead = read_ahead(by_bytes.items(stop_at=4), 10, lambda _: reading.QUEUE_BYTES // 2)
    assert next(ahead) == 0
    assert by_bytes.reached.wait(30)
    ahead.close()
    assert by_bytes.made == 4
    full = reading._Shelf(1, lambda _: 1)
    assert full._put(0)
    assert not full._has_room(1)
    huge = read_ahead(Source(3).items(), 10, lambda _: 2 * reading.QUEUE_BYTES)
    assert list(huge) == [0, 1, 2]


def test_a_consumer_that_stops_ends_the_thread_and_closes_the_source() -> None:
    source = Source(10**6)
    items = source.items()
    ahead = read_ahead(items, 5, lambda _: 1)
    assert next(ahead) == 0
    assert count_threads() == 1
    ahead.close()
    assert source.is_closed
    assert count_threads() == 0
    for use_queue in (True, False):
        frames = read_video(clip(), max_queue_size=2, use_queue=use_queue)
        next(frames)
        del frames
        assert count_threads() == 0


def test_a_generator_never_started_starts_no_thread() -> None:
    frames = read_video(clip())
    assert count_threads() == 0
    reference = weakref.ref(frames)
    del frames
    assert reference() is None


def test_frames_are_not_shared_between_queue_and_decoder() -> None:
    queued = [frame.copy() for frame, _, _ in read_video(clip())]
    direct = [frame.pixels for frame in decode_frames(clip())]
    assert all(np.array_equal(a, b) for a, b in zip(queued, direct, strict=True))
