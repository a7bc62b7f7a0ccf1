"""Bytes to pixels: the only place where images are decoded. Knows nothing of where the bytes come from."""

from neardup.media.animation import ANIMATED, AnimationFrame, animation_frames
from neardup.media.image import (
    DECODER_REVISION,
    FORMATS,
    DecodePolicy,
    Header,
    Image,
    decode_image,
    probe_image,
)

__all__ = [
    "ANIMATED",
    "DECODER_REVISION",
    "FORMATS",
    "AnimationFrame",
    "DecodePolicy",
    "Header",
    "Image",
    "animation_frames",
    "decode_image",
    "probe_image",
]
