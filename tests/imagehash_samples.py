"""The pictures that ImageHash's golden hashes exist for, and the golden hashes themselves."""

import functools
import json

import numpy as np
from PIL import Image, ImageDraw

from conftest import ROOT, SAMPLES
from neardup import imagehash

# The settings of crop_resistant_hash that golden strings exist for.
SETTINGS = {
    "default": {},
    "limit_segments=5": {"limit_segments": 5},
    "min_segment_size=1000": {"min_segment_size": 1000},
    "hash_func=average_hash": {"hash_func": imagehash.average_hash},
    "hash_func=phash": {"hash_func": imagehash.phash},
}
FUNCTIONS = {
    "average_hash": imagehash.average_hash,
    "phash": imagehash.phash,
    "phash_simple": imagehash.phash_simple,
    "dhash": imagehash.dhash,
    "dhash_vertical": imagehash.dhash_vertical,
    "whash_haar": imagehash.whash,
    "whash_db4": lambda image: imagehash.whash(image, mode="db4"),
    "colorhash": imagehash.colorhash,
    "average_hash_16": lambda image: imagehash.average_hash(image, hash_size=16),
    "phash_16": lambda image: imagehash.phash(image, hash_size=16),
    "dhash_16": lambda image: imagehash.dhash(image, hash_size=16),
    "colorhash_binbits4": lambda image: imagehash.colorhash(image, binbits=4),
}


@functools.cache
def golden() -> dict:
    return json.loads((ROOT / "tests/golden/imagehash.json").read_text())


PHOTOS = tuple(golden()["images"])
VARIANTS = ("orig", "central70", "left10")
DRAWN = tuple(golden()["synthetic"])


@functools.cache
def photo(name: str, variant: str = "orig") -> Image.Image:
    """A photo, or the part of it that a variant keeps."""
    image = Image.open(SAMPLES / "perception" / name).convert("RGB")
    width, height = image.size
    shares = {"orig": (0, 0, 1, 1), "central70": (0.15, 0.15, 0.85, 0.85), "left10": (0.1, 0, 1, 1)}
    left, top, right, bottom = shares[variant]
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


@functools.cache
def photo_hash(name: str, variant: str, settings: str) -> imagehash.ImageMultiHash:
    return imagehash.crop_resistant_hash(photo(name, variant), **SETTINGS[settings])


@functools.cache
def drawn(name: str) -> Image.Image:
    """A picture drawn as its name in the golden file says."""
    kind, number = name.rstrip("0123456789"), int("0" + name.lstrip("abcdefghijklmnopqrstuvwxyz_"))
    y, x = np.mgrid[0:400, 0:600]
    match kind:
        case "black" | "white":
            return Image.new("RGB", (300, 200), kind)
        case "gray":
            return Image.new("L", (300, 200), number)
        case "hgrad":
            return Image.fromarray((x * 255 / 599).astype(np.uint8))
        case "vgrad":
            return Image.fromarray((y * 255 / 399).astype(np.uint8))
        case "checker":
            return Image.fromarray((((x // number + y // number) % 2) * 255).astype(np.uint8))
        case "stripes":
            return Image.fromarray((((x + y) // number % 2) * 255).astype(np.uint8))
        case "rgba":
            image = Image.new("RGBA", (321, 217), (10, 200, 30, 80))
            ImageDraw.Draw(image).polygon([(20, 20), (300, 60), (120, 200)], fill=(250, 250, 250, 255))
            return image
    boxes = {
        "dark_box_bottom_980": [(200, 250, 234, 277)],
        "dark_box_bottom_2000": [(200, 250, 249, 289)],
        "two_dark_boxes": [(20, 20, 60, 60), (200, 250, 234, 277)],
    }
    image = Image.new("L", (300, 300), 255)
    for box in boxes[name]:
        ImageDraw.Draw(image).rectangle(box, fill=0)
    return image
