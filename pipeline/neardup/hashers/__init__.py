"""Pixels to hashes: the hashers, their catalogue and their text form.

`HASHERS` names every built-in hasher of images, `VIDEO_HASHERS` those of videos; `parse` makes one of a text such as
`phash:hash_size=16` or `tmkl1:frame_hasher=phashu8(hash_size=16)`, `canonical` is the inverse, with sorted keys and
without defaults, and `folder_label` turns that into a folder name. A name with dots that is not in the catalogue, such
as `my_package.my_module.MyHash`, is imported as a hasher of the user's own.

Several hashers on one image share what they compute from it::

    planes = Planes(pixels)                                   # (H, W, 3), uint8, RGB; never written
    for hasher in hashers:
        vector, quality = hasher.hash_planes(planes)          # an array, a list of arrays, or None; and 0..100
        variants, quality = hasher.hash_planes_isometric(planes)  # the same per isometric variant
        packed = hasher.pack(vector)                          # what tables hold
"""

import importlib
import re
from typing import Any, cast

from neardup.errors import UsageError
from neardup.hashers import tools
from neardup.hashers.average import AverageHash, DHash
from neardup.hashers.base import Hasher, ImageHasher
from neardup.hashers.cropresistant import CropResistantHash
from neardup.hashers.dct import PHash, PHashF, PHashU8
from neardup.hashers.imagehash_variants import (
    ImageHashAverage,
    ImageHashColor,
    ImageHashDHash,
    ImageHashDHashVertical,
    ImageHashPHash,
    ImageHashPHashSimple,
    ImageHashWHash,
)
from neardup.hashers.imghash import BlockMean, ColorMoment, MarrHildreth
from neardup.hashers.isometric import VARIANTS
from neardup.hashers.pdq import PDQHash, PDQHashF
from neardup.hashers.planes import Planes
from neardup.hashers.spec import parameters_text, parse_parameters, suggestion
from neardup.hashers.wavelet import WaveletHash

__all__ = [
    "HASHERS",
    "VARIANTS",
    "VIDEO_HASHERS",
    "AverageHash",
    "BlockMean",
    "ColorMoment",
    "CropResistantHash",
    "DHash",
    "Hasher",
    "ImageHasher",
    "MarrHildreth",
    "PDQHash",
    "PDQHashF",
    "PHash",
    "PHashF",
    "PHashU8",
    "Planes",
    "WaveletHash",
    "canonical",
    "folder_label",
    "parse",
    "recommended_threshold",
    "tools",
]

HASHERS: dict[str, type[Hasher]] = {
    "ahash": AverageHash,
    "dhash": DHash,
    "phash": PHash,
    "wavelet": WaveletHash,
    "pdq": PDQHash,
    "marrhildreth": MarrHildreth,
    "blockmean": BlockMean,
    "colormoment": ColorMoment,
    "phashf": PHashF,
    "phashu8": PHashU8,
    "pdqf": PDQHashF,
    "cropresistant": CropResistantHash,
    "imagehash.average_hash": ImageHashAverage,
    "imagehash.phash": ImageHashPHash,
    "imagehash.phash_simple": ImageHashPHashSimple,
    "imagehash.dhash": ImageHashDHash,
    "imagehash.dhash_vertical": ImageHashDHashVertical,
    "imagehash.whash": ImageHashWHash,
    "imagehash.colorhash": ImageHashColor,
}

# The thresholds that the reference documents recommend (false positive rate below 1 %), for these configurations only.
_RECOMMENDED = {
    "ahash:hash_size=16": 0.008,
    "blockmean": 0.008,
    "dhash:hash_size=16": 0.07,
    "marrhildreth": 0.1,
    "pdq": 0.2,
    "phash:hash_size=16": 0.2,
    "wavelet:hash_size=16": 0.02,
}


VIDEO_HASHERS = {"framewise": "FramewiseHasher", "tmkl1": "TMKL1", "tmkl2": "TMKL2"}  # classes of hashers.video
_VIDEO = (*VIDEO_HASHERS.values(), "VideoHasher")


def __getattr__(name: str) -> Any:
    """The video hashers, on first use: the FFmpeg libraries that they load are of no use to images."""
    if name in _VIDEO:
        return _video_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def parse(spec: str) -> Hasher:
    """The hasher that a text such as `phash:hash_size=16,freq_shift=1` names. Raises `UsageError`."""
    name, colon, parameters = (part.strip() for part in spec.partition(":"))
    cls = _class_of(name)
    arguments = parse_parameters(parameters, cls, parse) if colon else {}
    try:
        return cls(**arguments)
    except TypeError as exc:
        raise UsageError(f"hasher {spec!r} cannot be made: {exc}") from exc


def canonical(hasher: Hasher) -> str:
    """The one text that stands for a hasher: `parse(canonical(h))` hashes as h does."""
    cls = type(hasher)
    names = {known: name for name, known in HASHERS.items()}
    if cls.__module__.startswith("neardup.hashers.video."):
        names |= {_video_class(known): name for name, known in VIDEO_HASHERS.items()}
    name = names.get(cls, f"{cls.__module__}.{cls.__qualname__}")
    parameters = parameters_text(hasher, canonical)
    return f"{name}:{parameters}" if parameters else name


def folder_label(canonical_spec: str) -> str:
    """A canonical text as a folder name: what is not a letter, digit, `_` or `.` becomes `-`."""
    return re.sub(r"[^A-Za-z0-9_.]", "-", canonical_spec)


def recommended_threshold(hasher: Hasher) -> float | None:
    """The threshold that the reference documents recommend for this configuration, or None."""
    return _RECOMMENDED.get(canonical(hasher))


def _class_of(name: str) -> type[Hasher]:
    if name in VIDEO_HASHERS:
        return cast("type[Hasher]", _video_class(VIDEO_HASHERS[name]))
    return HASHERS.get(name) or _imported(name)


def _video_class(name: str) -> Any:
    return getattr(importlib.import_module("neardup.hashers.video"), name)


def _imported(name: str) -> type[Hasher]:
    """A hasher class of the user's own, by its dotted path."""
    if "." not in name:
        raise UsageError(f"unknown hasher {name!r}; {suggestion(name, [*HASHERS, *VIDEO_HASHERS])}")
    module, _, attribute = name.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError, ValueError) as exc:
        raise UsageError(f"cannot import hasher {name!r} ({exc}); is its module installed or on PYTHONPATH?") from exc
    if not (isinstance(cls, type) and issubclass(cls, Hasher)):
        raise UsageError(f"{name!r} is not a subclass of neardup.hashers.Hasher")
    missing = [field for field in ("hash_length", "dtype", "distance_metric") if not hasattr(cls, field)]
    if missing and cls.__init__ is Hasher.__init__:
        raise UsageError(f"hasher {name!r} does not define {', '.join(missing)}")
    return cls
