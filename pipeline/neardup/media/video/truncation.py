"""Is the end of a video file missing? By what its container says about sizes; FFmpeg often stops silently."""

from typing import Final, Protocol

from neardup.media import gif

_WHOLE_GIF_BYTES: Final = 256 * 1024 * 1024
_EBML_HEADER: Final = 0x1A45DFA3
_MATROSKA_SEGMENT: Final = 0x18538067
_TRANSPORT_PACKETS: Final = (188, 192, 204)
_ASF_FILE_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_LARGEST_OGG_PAGE: Final = 65_307


class Reader(Protocol):
    """A seekable file of known size."""

    size: int

    def read(self, size: int = -1) -> bytes: ...
    def seek(self, position: int, whence: int = 0) -> int: ...


def find_truncation(reader: Reader, container: str, index_end: int | None) -> str | None:
    """What is missing, or None: also where the container does not say. `index_end`: where its last packet ends."""
    position = reader.seek(0, 1)
    try:
        needed = _needed_bytes(reader, container, index_end)
        if needed is not None and needed > reader.size:
            return f"truncated: it has {reader.size:,} bytes of at least {needed:,}"
        if container == "mpegts" and all(reader.size % packet for packet in _TRANSPORT_PACKETS):
            return "truncated: its last transport packet is cut"
        if container == "gif" and reader.size <= _WHOLE_GIF_BYTES:
            return gif.read_frames(_range(reader, 0, reader.size)).warning
        return None
    finally:
        reader.seek(position)


def _needed_bytes(reader: Reader, container: str, index_end: int | None) -> int | None:
    if container == "avi":
        start = _range(reader, 0, 8)
        return 8 + int.from_bytes(start[4:8], "little") if start[:4] == b"RIFF" else index_end
    if container == "matroska":
        return _matroska_end(_range(reader, 0, 4096))
    if container == "ogg":
        return _ogg_end(reader)
    if container == "asf":
        return _asf_end(_range(reader, 0, 4096))
    return index_end


def _matroska_end(start: bytes) -> int | None:
    """Where the Segment, which holds everything, ends (RFC 8794); None where its size is left open."""
    header, position, size = _ebml_element(start, 0)
    if header != _EBML_HEADER or size is None:
        return None
    segment, position, size = _ebml_element(start, position + size)
    return position + size if segment == _MATROSKA_SEGMENT and size is not None else None


def _ebml_element(data: bytes, position: int) -> tuple[int, int, int | None]:
    """Identifier, where the body starts, and its size (None: unknown, or behind what was read)."""
    identifier_length = _ebml_length(data, position)
    identifier = int.from_bytes(data[position : position + identifier_length])
    position += identifier_length
    length = _ebml_length(data, position)
    value = int.from_bytes(data[position : position + length]) & ((1 << 7 * length) - 1)
    is_unknown = length == 0 or value == (1 << 7 * length) - 1
    return identifier, position + length, None if is_unknown else value


def _ebml_length(data: bytes, position: int) -> int:
    first = data[position] if position < len(data) else 0
    return 9 - first.bit_length() if first else 0


def _ogg_end(reader: Reader) -> int | None:
    """Where the last page ends (RFC 3533)."""
    start = max(0, reader.size - _LARGEST_OGG_PAGE)
    tail = _range(reader, start, reader.size - start)
    page = tail.rfind(b"OggS")
    if page < 0:
        return None
    segments = tail[page + 26] if page + 26 < len(tail) else 0
    table = tail[page + 27 : page + 27 + segments]
    return start + page + 27 + segments + sum(table)


def _asf_end(start: bytes) -> int | None:
    """The size that the file properties state; broadcasts, whose flag is set, do not know theirs."""
    position = start.find(_ASF_FILE_PROPERTIES)
    properties = start[position : position + 92]
    if position < 0 or len(properties) < 92 or properties[88] & 1:
        return None
    return int.from_bytes(properties[40:48], "little")


def _range(reader: Reader, start: int, size: int) -> bytes:
    reader.seek(start)
    return reader.read(size)
