"""The packets of a video in decoding order, and its keyframes with their place among the shown frames."""

from collections.abc import Iterator
from itertools import accumulate, pairwise, takewhile
from typing import NamedTuple, TypeAlias

import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from neardup.errors import UndecodableError
from neardup.media.video.container import Video, one_line

VideoPacket: TypeAlias = "Packet[VideoStream]"


class KeyPacket(NamedTuple):
    """A keyframe, not decoded: its packet and how many frames are shown before it."""

    packet: VideoPacket
    frame_index: int


def all_packets(video: Video) -> Iterator[VideoPacket]:
    """Every packet of the picture stream from where the container stands; damage ends them.

    Packets without bytes repeat the last frame, and FFmpeg takes them for the end of the stream; they are left out.
    """
    try:
        for packet in video.container.demux(video.stream):
            if packet.size:
                if packet.has_sidedata("encryption_info"):
                    raise UndecodableError("encrypted: its frames cannot be decoded without a key")
                if packet.is_corrupt:
                    video.damage.append("a packet is cut or damaged")
                yield packet
    except MemoryError:
        raise
    except av.error.FFmpegError as exc:
        if video.reader.failure is not None:
            raise
        video.damage.append(f"reading its packets failed: {one_line(exc)}")


class KeyEntry(NamedTuple):
    """A keyframe in the container's table: decoding time, shown frames stored before it, and where to seek it."""

    dts: int
    rank: int
    seek_to: int


def key_packets(video: Video, start_dts: int | None = None) -> Iterator[KeyPacket]:
    """Every keyframe that is shown, from a decoding time on.

    Where the container has a table, each is sought and little else is read; otherwise every packet is.
    """
    entries = key_entries(video)
    if entries is None:
        yield from _keys_by_reading(video)
        return
    for entry in entries:
        if (start_dts is None or entry.dts >= start_dts) and (key := key_packet_at(video, entry)) is not None:
            yield key


def key_entries(video: Video) -> list[KeyEntry] | None:
    """The shown keyframes of the container's table.

    None without a table that holds presentation times, or where it repeats times (some edit lists).
    """
    index = video.index
    if index is None or video.header.format != "mov":
        return None
    if any(later <= dts for dts, later in pairwise(index.dts)):
        return None
    ranks = list(accumulate(index.is_shown, initial=0))
    starts = [n for n, is_key in enumerate(index.is_key) if is_key]
    # FFmpeg seeks by presentation times, which the table lacks, or (before 8) by decoding times. The last decoding time
    # before the next keyframe is behind this one and in front of the next by both.
    stops = [*starts[1:], len(index.dts)]
    found = zip(starts, stops, strict=True)
    return [KeyEntry(index.dts[n], ranks[n], index.dts[stop - 1]) for n, stop in found if index.is_shown[n]]


def key_packet_at(video: Video, entry: KeyEntry) -> KeyPacket | None:
    """The keyframe of a table's entry, with its place among the shown frames.

    Seeks, rather than have FFmpeg pass over the packets between (`discard`): its MP4 demuxer then gives wrong
    presentation times.
    """
    video.container.seek(entry.seek_to, stream=video.stream)
    packets = all_packets(video)
    for packet in packets:
        if packet.dts is None or packet.dts > entry.dts:
            return None
        if packet.dts == entry.dts:
            return KeyPacket(packet, entry.rank + _count_leading(packets, packet))
    return None


def is_shown(packet: VideoPacket) -> bool:
    """Does this packet hold a frame that is shown? VP8 hides frames that others are predicted from (RFC 6386, 9.1)."""
    is_hidden = packet.stream.codec_context.name in ("vp8", "libvpx") and not bytes(packet)[0] & 0x10
    return not packet.is_discard and not is_hidden


def _keys_by_reading(video: Video) -> Iterator[KeyPacket]:
    rank, pending = 0, None
    for packet in all_packets(video):
        if pending is not None:
            if not _precedes(packet, pending.packet):
                yield pending
                pending = None
            elif is_shown(packet):
                pending = pending._replace(frame_index=pending.frame_index + 1)
        if packet.is_keyframe and not packet.is_discard:
            pending = KeyPacket(packet, rank)
        rank += is_shown(packet)
    if pending is not None:
        yield pending


def _count_leading(followers: Iterator[VideoPacket], key: VideoPacket) -> int:
    return sum(is_shown(packet) for packet in takewhile(lambda follower: _precedes(follower, key), followers))


def _precedes(packet: VideoPacket, key: VideoPacket) -> bool:
    """Is the frame shown before the keyframe, although it is stored behind it?"""
    return packet.pts is not None and key.pts is not None and packet.pts < key.pts
