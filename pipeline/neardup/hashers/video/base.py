"""What every video hasher can do: read a video, thread a state through its frames, and encode what comes out.

A video hasher of one's own::

    class MeanColor(VideoHasher):
        hash_length, dtype, distance_metric = 3, "float32", "euclidean"
        frames_per_second = 1

        def process_frame(self, frame, frame_index, frame_timestamp, state=None):
            state = state or {"sum": 0, "frames": 0}
            return {"sum": state["sum"] + frame.mean(axis=(0, 1)), "frames": state["frames"] + 1}

        def hash_from_final_state(self, state):
            return state["sum"] / state["frames"]
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import Hash, Hasher, Record, Vectors
from neardup.hashers.encoding import Vector
from neardup.hashers.planes import Planes
from neardup.hashers.video.reading import Errors, VideoInput, read_video
from neardup.media.video import Rate

State = dict[str, Any]


class VideoHasher(Hasher):
    """Turns a video into a vector, or into several; subclasses define `process_frame` and `hash_from_final_state`.

    `frames_per_second` (a number, None for every frame, or "keyframes") says which frames are processed.
    """

    takes = "video"
    frames_per_second: Rate = 1

    # --- what a subclass defines ----------------------------------------------------------------------------------

    def process_frame(
        self, frame: Pixels, frame_index: int, frame_timestamp: float, state: State | None = None
    ) -> State:
        """The state after one more frame, shape (H, W, 3), uint8, RGB; None stands for the state before the first."""
        raise NotImplementedError(f"{type(self).__name__} defines no process_frame")

    def hash_from_final_state(self, state: State) -> Vectors:
        """The hash, once all frames are processed; `state["end"]` is the last timestamp."""
        raise NotImplementedError(f"{type(self).__name__} defines no hash_from_final_state")

    def merge_states(self, states: Sequence[State]) -> State:
        """The state after all segments of a video, in order, each processed from no state."""
        raise NotImplementedError(f"{type(self).__name__} cannot merge the states of segments")

    # --- computing ------------------------------------------------------------------------------------------------

    def compute(  # type: ignore[override]  # the reference's video hashers take a file where image hashers take an image
        self,
        filepath: VideoInput,
        errors: Errors = "raise",
        hash_format: str = "base64",
        max_duration: float | None = None,
        max_size: int | None = None,
    ) -> Hash:
        """The hash of a video: a string, a vector ("vector"), or a list of them; see `read_video` for `errors`.

        With errors "warn" and "ignore", a damaged video has the hash of the frames that could be decoded, and a video
        without any has None.
        """
        state: State | None = None
        frames = read_video(
            filepath, self.frames_per_second, errors=errors, max_duration=max_duration, max_size=max_size
        )
        for frame, frame_index, timestamp_s in frames:
            state = self.process_frame(frame, frame_index, timestamp_s, state)
            state["end"] = timestamp_s
        return self.hash_of_state(state, hash_format)

    def hash_of_state(self, state: State | None, hash_format: str = "base64") -> Hash:
        """The encoded hash of a final state; None where no frame came."""
        return None if state is None else self._encode(self.hash_from_final_state(state), hash_format)

    def compute_parallel(
        self,
        filepaths: Sequence[str | Path],
        progress: Callable[..., Iterable[Any]] | None = None,
        progress_desc: str | None = None,
        max_workers: int = 5,
        isometric: bool = False,
    ) -> list[Record]:
        """One record per file, in the order given; a file that fails has a null hash and an error text.

        Works in threads: decoding, which takes most of the time, does not hold them up.
        """
        if isometric:
            raise UsageError("Computing isometric hashes for videos is not supported.")
        return super().compute_parallel(filepaths, progress, progress_desc, max_workers)


def frame_vector(hasher: Hasher, frame: Pixels, quality_threshold: float | None) -> Vector | None:
    """The hash of one frame; None where it has none (black, flat) or its quality is below the threshold."""
    if quality_threshold is None:
        vector = hasher._compute(frame)
    else:
        vector, quality = hasher.hash_planes(Planes(frame))
        if quality < quality_threshold:
            return None
    if isinstance(vector, list):
        raise UsageError(f"{type(hasher).__name__} gives several hashes per frame; a frame hasher gives one")
    return vector
