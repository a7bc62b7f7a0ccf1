"""One item to its hashes, in whatever process: an image's bytes, a video by its uri, or a part of a long video.

`do` takes an item and gives its `Answer`. A video is hashed in *pieces*: every sampled frame of a segment, or of the
whole video, without regard to other frames. What needs their order (which frames are kept) is then applied to all
pieces together, so that the rows do not depend on how a video was cut.
"""

from neardup.work.altering import Altering
from neardup.work.answers import Answer, HashRow, SegmentNumbers, failed, no_hash, poisoned
from neardup.work.frames import Sampling
from neardup.work.items import Clip, Cut, Item, Merge, Work, can_be_cut, do, from_wire, to_wire
from neardup.work.watch import DECODING, Watch

__all__ = [
    "DECODING",
    "Altering",
    "Answer",
    "Clip",
    "Cut",
    "HashRow",
    "Item",
    "Merge",
    "Sampling",
    "SegmentNumbers",
    "Watch",
    "Work",
    "can_be_cut",
    "do",
    "failed",
    "from_wire",
    "no_hash",
    "poisoned",
    "to_wire",
]
