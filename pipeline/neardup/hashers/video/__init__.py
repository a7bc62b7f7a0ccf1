"""Videos to hashes: the video hashers, and reading videos as the reference's `hashers.tools` does."""

from neardup.hashers.video.base import VideoHasher
from neardup.hashers.video.framerates import compute_synchronized_video_hashes, get_common_framerates
from neardup.hashers.video.framewise import FramewiseHasher, kept_frames
from neardup.hashers.video.reading import read_video
from neardup.hashers.video.tmk import TMKL1, TMKL2

__all__ = [
    "TMKL1",
    "TMKL2",
    "FramewiseHasher",
    "VideoHasher",
    "compute_synchronized_video_hashes",
    "get_common_framerates",
    "kept_frames",
    "read_video",
]
