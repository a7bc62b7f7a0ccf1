"""The video hashers: the reference's vectors on its own clips, and what the reference gets wrong."""

import base64
import functools
import itertools
import json
import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from neardup.errors import UndecodableError, UsageError
from neardup.hashers import Hasher, PHash, PHashF, PHashU8
from neardup.hashers.video import (
    TMKL1,
    TMKL2,
    FramewiseHasher,
    VideoHasher,
    compute_synchronized_video_hashes,
    get_common_framerates,
    kept_frames,
)
from neardup.hashers.video.base import frame_vector
from neardup.media.video import cut_segments, decode_frames
from video_clips import CLIPS, clip, encoded, picture

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/videos.json").read_text())
NAMES = tuple(GOLDEN["videos"])
WITH_TMK = tuple(name for name in NAMES if "tmkl1" in GOLDEN["videos"][name])
PHASH = PHash(hash_size=16)
BLACK = np.zeros((64, 96, 3), np.uint8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@functools.cache
def tmk(name: str) -> tuple[np.ndarray, np.ndarray]:
    hashers = {"l1": TMKL1(frames_per_second=3), "l2": TMKL2(frames_per_second=3)}
    hashes = compute_synchronized_video_hashes(CLIPS / name, hashers, hash_format="vector")
    return hashes["l1"], hashes["l2"]


# --- golden -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("case", "threshold", "quality"),
    [("50/256", 50 / 256, None), ("0.1", 0.1, None), ("-1", -1, None), ("50/256,quality 90", 50 / 256, 90)],
)
def test_framewise_hashes_equal_the_reference(name: str, case: str, threshold: float, quality: int | None) -> None:
    hasher = FramewiseHasher(PHASH, threshold, 1, quality, compare_to="first")
    assert hasher.compute(CLIPS / name, hash_format="hex") == GOLDEN["videos"][name]["framewise"][case]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.45, 50 / 256])
def test_previous_is_the_last_kept_frame(name: str, threshold: float) -> None:
    every = GOLDEN["videos"][name]["framewise"]["-1"]
    expected: list[str] = []
    for text in every:
        if not expected or PHASH.compute_distance(text, expected[-1], "hex") > threshold:
            expected.append(text)
    assert FramewiseHasher(PHASH, threshold, 1).compute(CLIPS / name, hash_format="hex") == expected
    vectors = [PHASH.string_to_vector(text, "hex") for text in every]
    assert [every[n] for n in kept_frames(vectors, PHASH, threshold)] == expected


def test_thresholds_are_strict_for_distance_and_inclusive_for_quality() -> None:
    first, second = picture(0), picture(40)
    vectors = [PHASH.compute(frame, "vector") for frame in (first, second)]
    distance = PHASH.compute_distance(*vectors)
    assert 0 < distance < 1
    assert kept_frames(vectors, PHASH, distance) == [0]
    assert kept_frames(vectors, PHASH, distance - 1e-9) == [0, 1]
    assert kept_frames([None, vectors[0], None, vectors[1]], PHASH, 0) == [1, 3]
    quality = PHASH.compute_with_quality(first)[1]
    assert frame_vector(PHASH, first, quality) is not None
    assert frame_vector(PHASH, first, quality + 1) is None


@pytest.mark.parametrize("name", WITH_TMK)
def test_tmk_vectors_equal_the_reference(name: str) -> None:
    l1, l2 = tmk(name)
    golden = GOLDEN["videos"][name]
    assert (l1.dtype, l2.dtype, l1.size, l2.size) == (np.float32, np.float32, 255, 65_280)
    assert cosine(l1, np.frombuffer(base64.b64decode(golden["tmkl1"]), "<f4")) > 0.999999
    assert cosine(l2, np.frombuffer(base64.b64decode(golden["tmkl2"]), "<f2")) > 0.99999
    assert np.linalg.norm(l2.astype(np.float64)) == pytest.approx(golden["tmkl2_l2_norm"], rel=1e-5)


def test_tmk_distances_equal_the_reference() -> None:
    for pair, distance in GOLDEN["tmkl1_distances"].items():
        a, b = pair.split("|")
        assert TMKL1().compute_distance(tmk(a)[0], tmk(b)[0]) == pytest.approx(distance, abs=1e-5)
    assert len(GOLDEN["tmkl2_distances"]) == 24
    for case, distance in GOLDEN["tmkl2_distances"].items():
        normalization, _, pair = case.partition(":")
        a, b = pair.split("|")
        found = TMKL2(normalization=normalization).compute_distance(tmk(a)[1], tmk(b)[1])
        assert found == pytest.approx(distance, abs=1e-4), case


def test_tmk_scores_by_offset_equal_the_reference() -> None:
    scores = GOLDEN["tmkl2_scores_v1_v2_offsets_-5_to_5"]
    assert set(scores) == {"matrix", "feat", "freq", "feat_freq"}
    for normalization, expected in scores.items():
        found = TMKL2().score_pair(tmk("v1.m4v")[1], tmk("v2.m4v")[1], range(-5, 6), normalization)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_shifted_video_scores_best_at_its_offset() -> None:
    hasher = TMKL2(frames_per_second=5)
    states: list[dict | None] = [None, None]
    for n in range(50):
        for which, shift in enumerate((0, 3)):
            states[which] = hasher.process_frame(picture(7 * n), n, n / 5 + shift, states[which])
    early, late = (hasher.hash_from_final_state(state) for state in states)
    offsets = list(range(-6, 7))
    assert offsets[int(np.argmax(hasher.score_pair(early, late, offsets)))] == -3
    assert offsets[int(np.argmax(hasher.score_pair(late, early, offsets)))] == 3


def test_common_rates_equal_the_reference() -> None:
    for case in GOLDEN["common_framerates"]:
        found = get_common_framerates(case["input"])
        assert [[rate, list(names)] for rate, names in found.items()] == case["output"]
    assert get_common_framerates({}) == {}


# --- contracts --------------------------------------------------------------------------------------------------------


def test_hashers_on_one_decode_equal_hashers_alone() -> None:
    hashers = {
        "slow": FramewiseHasher(PHASH, 0.1, 1),
        "fast": FramewiseHasher(PHASH, 0.1, 60),
        "odd": FramewiseHasher(PHASH, 0.1, 2.3),
        "every": FramewiseHasher(PHASH, 0.1, None),
        "keys": FramewiseHasher(PHASH, 0.1, "keyframes"),
        "l1": TMKL1(frames_per_second=3),
        "l2": TMKL2(frames_per_second=2),
    }
    for use_queue in (True, False):
        together = compute_synchronized_video_hashes(CLIPS / "v2.m4v", hashers, use_queue=use_queue)
        assert together == {name: hasher.compute(CLIPS / "v2.m4v") for name, hasher in hashers.items()}
    covered = {60.0: tuple(hashers)}
    assert compute_synchronized_video_hashes(CLIPS / "v2.m4v", hashers, covered, "hex").keys() == hashers.keys()
    with pytest.raises(UsageError, match="do not cover odd"):
        compute_synchronized_video_hashes(CLIPS / "v2.m4v", hashers, {60: set(hashers) - {"odd"}})
    with pytest.raises(UndecodableError, match="An error occurred while reading"):
        compute_synchronized_video_hashes(clip()[:-300], hashers)


@pytest.mark.parametrize("frame_hasher", [None, PHashU8(hash_size=8)])
def test_black_and_flat_frames_do_not_count(frame_hasher: Hasher | None) -> None:
    moving = [picture(9 * n) for n in range(20)]
    with_black = encoded(pictures=[*moving, *[BLACK] * 10], codec_options={"qp": "0"})
    without = encoded(pictures=moving, codec_options={"qp": "0"})
    for cls in (TMKL1, TMKL2):
        hasher = cls(frame_hasher, frames_per_second=None)
        assert np.array_equal(hasher.compute(with_black, "raise", "vector"), hasher.compute(without, "raise", "vector"))
        assert cls(frame_hasher, None).compute(encoded(pictures=[BLACK] * 10)) is None
    framewise = FramewiseHasher(frame_hasher or PHashF(exclude_first_term=True), 0.1, None)
    assert framewise.compute(encoded(pictures=[BLACK] * 10)) == []


def test_tmkl1_over_bytes_is_no_longer_all_zeros() -> None:
    vector = TMKL1(PHashU8(hash_size=8), frames_per_second=None).compute(clip(), hash_format="vector")
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(TMKL1(frames_per_second=5, norm=None).compute(clip(), hash_format="vector")) > 1
    assert TMKL1(frames_per_second=5, quality_threshold=101).compute(clip()) is None


def test_the_state_of_tmkl2_does_not_grow() -> None:
    hasher = TMKL2()
    state = hasher.process_frame(picture(0), 0, 0.0)
    size = state["sum"].nbytes
    for n in range(50):
        state = hasher.process_frame(picture(n), n, n / 15, state)
    assert state["sum"].nbytes == size == 65_280 * 8
    assert set(state) == {"sum", "rest", "frames"} and state["rest"].nbytes == size


@pytest.mark.parametrize("hasher", [TMKL1(frames_per_second=5), TMKL2(frames_per_second=5)])
def test_states_of_segments_merge_into_the_state_of_the_whole(hasher: VideoHasher) -> None:
    segments = cut_segments(clip(), 0.6)
    states: list[dict] = []
    for segment in segments:
        state = None
        for frame in decode_frames(clip(), hasher.frames_per_second, segment=segment):
            state = hasher.process_frame(frame.pixels, frame.frame_index, frame.timestamp_s, state)
        states.append(state)
    assert len(states) == 3
    merged = hasher.hash_of_state(hasher.merge_states(states), "vector")
    np.testing.assert_array_equal(merged, hasher.compute(clip(), hash_format="vector"))


@pytest.mark.parametrize("hasher", [TMKL1(), TMKL2()], ids=["tmkl1", "tmkl2"])
def test_sums_of_any_cut_are_equal_to_the_last_bit(hasher: VideoHasher) -> None:
    """Before they are rounded to float32, where a difference would seldom show."""
    states = []
    for cuts in ([0, 400], [0, 1, 7, 150, 399, 400], [0, *range(100, 401, 25)]):
        pieces = []
        for start, stop in itertools.pairwise(cuts):
            state = None
            for n in range(start, stop):
                state = hasher.process_frame(picture(37 * n), n, n / 15, state)
            pieces.append(state)
        states.append(hasher.merge_states(pieces))
    for state in states[1:]:
        np.testing.assert_array_equal(state["sum"] + state["rest"], states[0]["sum"] + states[0]["rest"])


def test_batches_are_the_hashes_in_lists_of_one_size() -> None:
    hasher = FramewiseHasher(PHASH, -1, 1)
    whole = hasher.compute(CLIPS / "v2.m4v")
    assert len(whole) == 7
    for size, lengths in ((3, [3, 3, 1]), (7, [7]), (100, [7]), (1, [1] * 7)):
        batches = list(hasher.compute_batches(CLIPS / "v2.m4v", size))
        assert [len(batch) for batch in batches] == lengths
        assert [text for batch in batches for text in batch] == whole
    strict = FramewiseHasher(PHASH, 0.45, 1)
    kept = [text for batch in strict.compute_batches(CLIPS / "v2.m4v", 1) for text in batch]
    assert kept == strict.compute(CLIPS / "v2.m4v")
    assert 1 < len(kept) < 7
    with pytest.raises(UsageError):
        next(hasher.compute_batches(CLIPS / "v2.m4v", 0))


def hash_in_process(hasher: VideoHasher, path: Path) -> object:
    return hasher.compute(path)


@pytest.mark.parametrize("hasher", [FramewiseHasher(PHASH, 0.1, 1), TMKL1(frames_per_second=1), TMKL2(None, 1)])
def test_hashers_work_in_threads_and_in_processes(hasher: VideoHasher, tmp_path: Path) -> None:
    paths = [CLIPS / name for name in NAMES]
    alone = [hasher.compute(path) for path in paths]
    records = hasher.compute_parallel([*paths, tmp_path / "missing.mp4"], max_workers=3)
    assert [record["hash"] for record in records] == [*alone, None]
    assert "missing.mp4" in str(records[-1]["error"])
    assert pickle.loads(pickle.dumps(hasher)).compute(paths[0]) == alone[0]  # noqa: S301 - made here
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(hash_in_process, hasher, paths[0]).result() == alone[0]
    with pytest.raises(UsageError, match="isometric"):
        hasher.compute_parallel(paths, isometric=True)


class MeanColor(VideoHasher):
    """A hasher of a user's own."""

    hash_length = 3
    dtype = "float32"
    distance_metric = "euclidean"
    frames_per_second = 0.5

    def process_frame(
        self, frame: np.ndarray, frame_index: int, frame_timestamp: float, state: dict | None = None
    ) -> dict:
        state = state or {"colors": [], "frames": []}
        state["colors"].append(frame.mean(axis=(0, 1)))
        state["frames"].append((frame_index, frame_timestamp))
        return state

    def hash_from_final_state(self, state: dict) -> np.ndarray:
        self.seen = state["frames"], state["end"]
        return np.mean(state["colors"], axis=0)


def test_a_custom_hasher_sees_each_frame_and_the_end() -> None:
    hasher = MeanColor()
    vector = hasher.compute(CLIPS / "rgb.m4v", hash_format="vector")
    assert hasher.seen == ([(0, 0.0), (48, 2.0), (96, 4.0)], 4.0)
    np.testing.assert_allclose(vector, [85, 85, 85], atol=10)
    assert hasher.compute_distance(hasher.compute(CLIPS / "rgb.m4v"), vector) == 0
    hasher.compute(CLIPS / "rgb.m4v", max_duration=1)
    assert hasher.seen[1] == 2.0
    for unfinished in (VideoHasher().process_frame, VideoHasher().hash_from_final_state, VideoHasher().merge_states):
        with pytest.raises(NotImplementedError):
            unfinished(*[None] * (3 if unfinished.__name__ == "process_frame" else 1))


def test_a_damaged_video_raises_or_gives_the_hash_of_its_whole_frames() -> None:
    damaged = clip("mkv")[: len(clip("mkv")) * 2 // 3]
    hasher = FramewiseHasher(PHASH, 0.1, 5)
    with pytest.raises(UndecodableError, match="truncated"):
        hasher.compute(damaged)
    whole = hasher.compute(clip("mkv"))
    assert hasher.compute(damaged, errors="ignore") == whole[: len(hasher.compute(damaged, errors="ignore"))] != []
    assert hasher.compute(b"no video", errors="ignore") is None
    with pytest.warns(UserWarning, match="not a video"):
        assert hasher.compute(b"no video", errors="warn") is None


class TwoHashes(PHash):
    def _compute(self, image: np.ndarray) -> Sequence[np.ndarray]:
        return [super()._compute(image)] * 2


def test_what_cannot_be_meant_is_refused() -> None:
    for wrong in (
        lambda: FramewiseHasher(PHASH, 50),
        lambda: FramewiseHasher(PHASH, 0.1, frames_per_second=0),
        lambda: FramewiseHasher(PHASH, 0.1, compare_to="next"),
        lambda: TMKL1(PHASH),
        lambda: TMKL2(PHASH),
        lambda: TMKL2(normalization="matrx"),
        lambda: TMKL2().score_pair(np.zeros(65_280), np.zeros(65_280), normalization="x"),
        lambda: TMKL2().compute_distance(np.zeros(65_281), np.zeros(65_281)),
        lambda: FramewiseHasher(TwoHashes(), 0.1).compute(clip()),
        lambda: get_common_framerates({"a": "keyframes"}),
        lambda: get_common_framerates({"a": None}),
        lambda: get_common_framerates({"a": 1e-9}),
        lambda: get_common_framerates(dict(enumerate(range(1, 20)))),
    ):
        with pytest.raises(UsageError):
            wrong()
