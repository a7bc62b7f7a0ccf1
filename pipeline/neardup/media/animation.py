"""The frames of an animation: GIF, WebP, APNG and AVIF, as Pillow composes them."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from neardup.media.exif import read_orientation, turn_upright
from neardup.media.image import DecodePolicy, check_pixels, decoding, format_of, open_image, to_rgb

ANIMATED: Final = frozenset(("GIF", "WEBP", "PNG", "AVIF"))
"""Formats whose frames follow each other in time; those of a TIFF are pages."""

_HURRIED_MS: Final = 10  # browsers show frames that claim to be shown no longer than this for 100 ms
_USUAL_MS: Final = 100


class AnimationFrame(NamedTuple):
    """One frame: uint8 RGB of shape (height, width, 3), upright; shown from `shown_s` until `until_s`, in seconds."""

    pixels: npt.NDArray[np.uint8]
    number: int
    shown_s: float
    until_s: float


def animation_frames(data: bytes, policy: DecodePolicy) -> Iterator[AnimationFrame]:
    """The frames in order; the first is the picture that `decode_image` gives.

    Raises UndecodableError at the first frame that is damaged, PolicyError over the limit of pixels.
    """
    name = format_of(data)
    shown_s = 0.0
    with decoding(name, data, policy), open_image(name, data) as opened:
        check_pixels(*opened.size, policy)
        first = 1 if opened.info.get("default_image") else 0  # an APNG may show another picture where it cannot move
        for index in range(int(getattr(opened, "n_frames", 1)) - first):
            opened.seek(index + first)
            opened.load()
            lasts_ms = float(opened.info.get("duration") or 0)
            until_s = shown_s + (lasts_ms if lasts_ms > _HURRIED_MS else _USUAL_MS) / 1000
            pixels = turn_upright(to_rgb(opened, policy), read_orientation(opened.info.get("exif", b"")))
            yield AnimationFrame(pixels, index, shown_s, until_s)
            shown_s = until_s
