"""Many real hashes from few photos: random windows of each, and edits of every window, hashed by our own hashers.

Growing 100,000 takes minutes, so they are kept in a file and grown once. Near duplicates among them are what they are
in a collection: clusters of all sizes, from equal hashes to chance neighbours.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from neardup import media, transforms
from neardup.errors import MediaError
from neardup.hashers import Planes, parse

SPECS = ("pdq", "phash:hash_size=16", "dhash:hash_size=16")
EDITS = (
    "jpeg:40",
    "webp:40",
    "resize:0.5",
    "brightness:1.2",
    "contrast:0.8",
    "gamma:1.3",
    "saturation:0.5",
    "blur:1",
    "sharpen:1",
    "noise:0.03",
    "crop:0.02",
    "border:0.02",
    "watermark",
    "text",
    "vignette:0.8",
    "aspect:1.1",
    "rotate:1",
    "palette:64",
)
EDITS_PER_WINDOW = 3
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def grown_hashes(corpus: Path, rows: int, cache: Path) -> dict[str, np.ndarray]:
    """At least `rows` packed hashes (n, 32) by spec, uint8; from `cache` where it holds as many."""
    if cache.exists():
        kept = np.load(cache)
        if all(spec in kept and len(kept[spec]) >= rows for spec in SPECS):
            return {spec: kept[spec] for spec in SPECS}
    photos = image_files(corpus)
    if not photos:
        sys.exit(f"no images in {corpus}")
    windows = -(-rows // (len(photos) * (1 + EDITS_PER_WINDOW)))
    hashes: dict[str, list[np.ndarray]] = {spec: [] for spec in SPECS}
    hashers = {spec: parse(spec) for spec in SPECS}
    for number, photo in enumerate(photos):
        if number % 100 == 0:
            print(f"growing: {number} of {len(photos)} photos, {len(hashes[SPECS[0]]):,} hashes", file=sys.stderr)
        try:
            pixels = media.decode_image(photo.read_bytes()).pixels
        except MediaError:
            continue
        for picture in _pictures(pixels, windows, number):
            planes = Planes(picture)
            for spec, hasher in hashers.items():
                hashes[spec].append(np.packbits(hasher.hash_planes(planes)[0]))
    stacked = {spec: np.stack(rows) for spec, rows in hashes.items()}
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **stacked)
    return stacked


def image_files(folder: Path) -> list[Path]:
    """All images of a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _pictures(pixels: np.ndarray, windows: int, seed: int) -> Iterator[np.ndarray]:
    """Windows of a photo of 35 to 95 % of each side, and edits of each."""
    rng = np.random.default_rng(seed)
    small = transforms.parse(f"noop:{min(400, max(pixels.shape[:2]))}")(pixels)
    height, width = small.shape[:2]
    for _ in range(windows):
        tall, wide = (max(1, int(side * rng.uniform(0.35, 0.95))) for side in (height, width))
        y, x = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        window = np.ascontiguousarray(small[y : y + tall, x : x + wide])
        yield window
        for edit in rng.choice(EDITS, EDITS_PER_WINDOW, replace=False):
            yield transforms.parse(str(edit))(window, int(rng.integers(1 << 32)))


cv2.setNumThreads(1)
