"""GIF's blocks: how many frames there are and whether the file is whole (GIF89a, 1990); Pillow stops silently."""

from typing import Final, NamedTuple

_HEADER_SIZE: Final = 13
_EXTENSION: Final = 0x21
_FRAME: Final = 0x2C
_TRAILER: Final = 0x3B


class Gif(NamedTuple):
    """Frames whose data is complete, and what is wrong with the file."""

    frame_count: int
    warning: str | None


def read_frames(data: bytes) -> Gif:
    """Counts the complete frames."""
    frames = 0
    try:
        position = _HEADER_SIZE + _palette_size(data[10])
        while (kind := data[position]) != _TRAILER:
            if kind == _EXTENSION:
                position = _behind_blocks(data, position + 2)
            elif kind == _FRAME:
                position = _behind_blocks(data, position + 11 + _palette_size(data[position + 9]))
                frames += 1
            else:
                position += 1
    except IndexError:
        return Gif(frames, f"truncated GIF: {frames} complete frames, no trailer")
    return Gif(frames, None)


def _palette_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_blocks(data: bytes, position: int) -> int:
    while length := data[position]:
        position += 1 + length
    return position + 1
