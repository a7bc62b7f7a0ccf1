"""Frames through FFmpeg's own filters, such as scale and pad, with their expressions."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import av.error
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from neardup.errors import UsageError
from neardup.media.video.container import one_line
from neardup.media.video.frames import Pixels


class Filter(NamedTuple):
    """A filter and its options in FFmpeg's syntax: `Filter("scale", "iw/2:-1")`."""

    name: str
    options: str


def filtered(frames: Iterable[Pixels], filters: Sequence[Filter]) -> Iterator[Pixels]:
    """Each frame, uint8 RGB of shape (H, W, 3), through the filters; those must give one frame for one.

    Raises UsageError for filters and options that FFmpeg does not know or that do not fit the frames.
    """
    graph, size = None, (0, 0)
    for pixels in frames:
        if graph is None or pixels.shape[:2] != size:
            size = (pixels.shape[0], pixels.shape[1])
            graph = _graph(filters, *size)
        try:
            graph.push(VideoFrame.from_ndarray(pixels, format="rgb24"))
            yield np.ascontiguousarray(graph.vpull().to_ndarray())
        except av.error.FFmpegError as exc:
            raise UsageError(f"{_text(filters)} failed: {one_line(exc)}") from exc


def _graph(filters: Sequence[Filter], height: int, width: int) -> Graph:
    graph = Graph()
    rgb = VideoFormat("rgb24", width, height)
    try:
        nodes = [graph.add_buffer(width=width, height=height, format=rgb, time_base=Fraction(1, 1000))]
        nodes += [graph.add(each.name, each.options) for each in filters]
        nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
    except (av.error.FFmpegError, ValueError) as exc:
        raise UsageError(f"{_text(filters)} does not fit frames of {width}x{height}: {one_line(exc)}") from exc
    return graph


def _text(filters: Sequence[Filter]) -> str:
    return "FFmpeg's filter " + ",".join(f"{each.name}={each.options}" for each in filters)
