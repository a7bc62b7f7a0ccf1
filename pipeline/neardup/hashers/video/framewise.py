"""The hashes of a video's frames, without those that are much like one kept before."""

from collections.abc import Iterator, Sequence
from typing import Literal, cast

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import Encoded, Hasher
from neardup.hashers.encoding import Vector
from neardup.hashers.video.base import State, VideoHasher, frame_vector
from neardup.hashers.video.reading import Errors, VideoInput, read_video
from neardup.media.video import Rate, check_rate

CompareTo = Literal["previous", "first"]


class FramewiseHasher(VideoHasher):
    """One hash per kept frame, as `frame_hasher` gives it.

    A frame is kept if its quality reaches `quality_threshold`, it has a hash (a flat one may have none), and its
    distance to the frame kept before it is above `interframe_threshold`. `compare_to="first"` takes the distance to
    the first kept frame instead, which is what the reference does, though its documents say otherwise.
    """

    returns_multiple = True

    def __init__(
        self,
        frame_hasher: Hasher,
        interframe_threshold: float,
        frames_per_second: Rate = 15,
        quality_threshold: float | None = None,
        compare_to: CompareTo = "previous",
    ) -> None:
        check_rate(frames_per_second)
        if compare_to not in ("previous", "first"):
            raise UsageError(f"compare_to is {compare_to!r}; choose 'previous' or 'first'")
        if frame_hasher.distance_metric == "hamming" and interframe_threshold > 1:
            raise UsageError(f"interframe_threshold is {interframe_threshold}; Hamming distances are fractions, 0 to 1")
        self.frame_hasher = frame_hasher
        self.interframe_threshold = interframe_threshold
        self.frames_per_second = frames_per_second
        self.quality_threshold = quality_threshold
        self.compare_to: CompareTo = compare_to
        self.hash_length = frame_hasher.hash_length
        self.dtype = frame_hasher.dtype
        self.distance_metric = frame_hasher.distance_metric

    def process_frame(
        self,
        frame: Pixels,
        frame_index: int,  # noqa: ARG002
        frame_timestamp: float,  # noqa: ARG002
        state: State | None = None,
    ) -> State:
        """Adds the frame's hash to `state["hashes"]` if the frame is kept."""
        state = state or {"hashes": [], "previous": None}
        vector = frame_vector(self.frame_hasher, frame, self.quality_threshold)
        if _is_kept(vector, state["previous"], self.frame_hasher, self.interframe_threshold):
            state["hashes"].append(vector)
            if state["previous"] is None or self.compare_to == "previous":
                state["previous"] = vector
        return state

    def hash_from_final_state(self, state: State) -> list[Vector]:
        """The hashes of the kept frames, in order."""
        return cast("list[Vector]", state["hashes"])

    def compute_batches(
        self, filepath: VideoInput, batch_size: int, errors: Errors = "raise", hash_format: str = "base64"
    ) -> Iterator[list[Encoded]]:
        """The hashes of a video in lists of `batch_size`, the last one shorter, while it is being decoded."""
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it must be at least 1")
        state: State | None = None
        for frame, frame_index, timestamp_s in read_video(filepath, self.frames_per_second, errors=errors):
            state = self.process_frame(frame, frame_index, timestamp_s, state)
            if len(state["hashes"]) == batch_size:
                yield cast("list[Encoded]", self.hash_of_state(state, hash_format))
                state = {**state, "hashes": []}
        if state is not None and state["hashes"]:
            yield cast("list[Encoded]", self.hash_of_state(state, hash_format))


def kept_frames(
    vectors: Sequence[Vector | None], hasher: Hasher, threshold: float, compare_to: CompareTo = "previous"
) -> list[int]:
    """Which of a video's frame hashes, in order, FramewiseHasher keeps; None are frames without one.

    This is its rule for frames that were hashed elsewhere, such as in segments by several workers.
    """
    kept: list[int] = []
    previous: Vector | None = None
    for position, vector in enumerate(vectors):
        if _is_kept(vector, previous, hasher, threshold):
            kept.append(position)
            if previous is None or compare_to == "previous":
                previous = vector
    return kept


def _is_kept(vector: Vector | None, previous: Vector | None, hasher: Hasher, threshold: float) -> bool:
    return vector is not None and (previous is None or hasher.compute_distance(vector, previous) > threshold)
