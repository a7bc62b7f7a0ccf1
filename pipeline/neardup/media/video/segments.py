"""Where a long video can be cut so that its parts, decoded alone, give the very frames of the whole."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from neardup.errors import UsageError
from neardup.media.video.container import DEFAULT_POLICY, Source, Video, VideoPolicy, open_video, translated_errors
from neardup.media.video.packets import KeyEntry, key_entries, key_packet_at, key_packets


class Segment(NamedTuple):
    """The frames shown from one keyframe up to another, in the stream's own units of time; plain numbers.

    None as start is the start of the file, None as stop its end. `first_index` is the index of its first frame.
    """

    first_index: int = 0
    start_pts: int | None = None
    start_dts: int | None = None
    stop_pts: int | None = None

    def holds(self, pts: int | None) -> bool:
        """Is the frame shown at `pts` in this segment or behind it?"""
        return self.start_pts is None or (pts is not None and pts >= self.start_pts)

    def is_past(self, pts: int | None) -> bool:
        """Is the frame shown at `pts` behind this segment?"""
        return self.stop_pts is not None and pts is not None and pts >= self.stop_pts


WHOLE: Final = Segment()


def cut_segments(source: Source, seconds: float, policy: VideoPolicy = DEFAULT_POLICY) -> list[Segment]:
    """The video as segments of at least `seconds`, in order; one where it cannot be cut.

    Depends on the file and `seconds` only. With an MP4's table a few packets are read per cut, else every packet.
    Raises as `open_video`.
    """
    if not seconds > 0:
        raise UsageError(f"segments of {seconds} s; they must be longer than 0 s")
    with open_video(source, policy) as video, translated_errors(video.reader):
        if video.header.duration_s is not None and video.header.duration_s <= seconds:
            return [WHOLE]
        starts = [WHOLE, *_cuts(video, seconds)]
        stops = [*(cut.start_pts for cut in starts[1:]), None]
        return [start._replace(stop_pts=stop) for start, stop in zip(starts, stops, strict=True)]


def _cuts(video: Video, seconds: float) -> list[Segment]:
    entries = key_entries(video)
    if entries is None:
        keys = key_packets(video)
    else:
        found = (key_packet_at(video, entry) for entry in _spaced(video, entries, seconds))
        keys = (key for key in found if key is not None)
    cuts: list[Segment] = []
    latest = 0.0
    for packet, frame_index in keys:
        if packet.pts is None:
            return []
        if frame_index and (entries is not None or video.seconds(packet.pts) >= latest + seconds):
            cuts.append(Segment(frame_index, packet.pts, packet.dts))
            latest = video.seconds(packet.pts)
    return cuts


def _spaced(video: Video, entries: Sequence[KeyEntry], seconds: float) -> Iterator[KeyEntry]:
    """The entries of a table to cut at."""
    latest = 0.0
    for entry in entries:
        if video.seconds(entry.dts) >= latest + seconds:
            yield entry
            latest = video.seconds(entry.dts)
