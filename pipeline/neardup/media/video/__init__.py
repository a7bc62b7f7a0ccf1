"""Video bytes to frames: the only place where videos are decoded. Knows nothing of where the bytes come from.

A source is bytes or a seekable binary file; of a file, only the ranges that are needed are read::

    header = probe_video(source)
    for pixels, index, timestamp_s, _ in decode_frames(source, frames_per_second=1):
        ...

One long video for many workers: `cut_segments` says where it can be cut, `decode_frames(source, 1, policy, segment)`
gives the very frames of that part, and all segments together are the video. Frames that can be decoded always come
first; a damaged video then ends with an `UndecodableError` that says what is missing.

Several samplings in one pass::

    with open_video(source) as video:
        samplers = [make_sampler(video, rate) for rate in (1, 15)]
        for shown in shown_frames(video):
            for sampler in samplers:
                for timestamp_s in sampler(shown):
                    ...shown.pixels()
"""

from neardup.media.video.container import (
    CONTAINERS,
    VIDEO_DECODER_REVISION,
    Clock,
    Source,
    Video,
    VideoHeader,
    VideoPolicy,
    open_video,
    probe_video,
)
from neardup.media.video.frames import (
    Frame,
    Rate,
    Shown,
    check_rate,
    decode_frames,
    make_sampler,
    sampled_frames,
    shown_frames,
    shown_keyframes,
)
from neardup.media.video.segments import Segment, cut_segments

__all__ = [
    "CONTAINERS",
    "VIDEO_DECODER_REVISION",
    "Clock",
    "Frame",
    "Rate",
    "Segment",
    "Shown",
    "Source",
    "Video",
    "VideoHeader",
    "VideoPolicy",
    "check_rate",
    "cut_segments",
    "decode_frames",
    "make_sampler",
    "open_video",
    "probe_video",
    "sampled_frames",
    "shown_frames",
    "shown_keyframes",
]
