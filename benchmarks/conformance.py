"""How many bits differ between each hasher and `perception`'s, on the pictures of a folder.

    python benchmarks/conformance.py PICTURES --oracle PYTHON

PICTURES: folders or image files. PYTHON: an interpreter with `perception[pdq]` and `imagehash` installed. Both sides
hash the same decoded pixels. The exit code is 1 if a bit of a binding hasher differs.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hashing import Oracle, image_files, use_one_core

from neardup import media
from neardup.errors import MediaError
from neardup.hashers import Planes, parse

SPECS = (
    "ahash",
    "ahash:hash_size=16",
    "dhash",
    "dhash:hash_size=16",
    "phash",
    "phash:hash_size=16",
    "phash:exclude_first_term=true,freq_shift=1,hash_size=16",
    "phash:box_filter=true,freq_shift=1",
    "wavelet",
    "wavelet:hash_size=16",
    "pdq",
    "marrhildreth",
    "blockmean",
    "phashu8",
    "phashf",
    "pdqf",
    "colormoment",
)


@dataclass
class Tally:
    """What was compared and what differed; `error` is the largest relative difference of real values."""

    images: int = 0
    images_differing: int = 0
    bits: int = 0
    bits_differing: int = 0
    qualities_differing: int = 0
    error: float = 0.0


def compare(tally: Tally, spec: str, planes: Planes, answer: dict) -> bool:
    """Adds one image to the tally; True where something differs."""
    hasher = parse(spec)
    vector, quality = hasher.hash_planes(planes)
    tally.images += 1
    # The reference gives every image of 64x64 pixels quality 0.
    mistaken = planes.rgb.shape[:2] == (64, 64) and not spec.startswith("pdq")
    quality_differs = quality != answer["quality"] and not mistaken
    tally.qualities_differing += quality_differs
    theirs = answer["hex"]
    if vector is None or theirs is None:
        differs = (vector is None) != (theirs is None)
        tally.images_differing += differs
        return differs
    if hasher.dtype == "float32":
        wanted = np.frombuffer(bytes.fromhex(theirs), "<f4")
        largest = max(float(np.abs(wanted).max()), 1.0)
        tally.error = max(tally.error, float(np.abs(vector - wanted).max()) / largest)
        return quality_differs
    xor = np.frombuffer(hasher.pack(vector), np.uint8) ^ np.frombuffer(bytes.fromhex(theirs), np.uint8)
    differing = int(np.unpackbits(xor).sum())
    tally.bits += hasher.hash_length * (8 if hasher.dtype == "uint8" else 1)
    tally.bits_differing += differing
    tally.images_differing += differing > 0
    return differing > 0 or quality_differs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--oracle", required=True, metavar="PYTHON")
    parser.add_argument("--limit", type=int, default=None, help="images used at most, evenly chosen")
    options = parser.parse_args()
    use_one_core()
    files = image_files(options.paths)
    if options.limit and len(files) > options.limit:
        files = files[:: len(files) // options.limit][: options.limit]
    tallies = {spec: Tally() for spec in SPECS}
    undecodable = 0
    with Oracle(options.oracle) as oracle:
        for path in files:
            try:
                pixels = media.decode_image(path.read_bytes()).pixels
            except MediaError:
                undecodable += 1
                continue
            planes = Planes(pixels)
            answers = oracle.ask(pixels, SPECS, timed=False)
            differing = [spec for spec in SPECS if compare(tallies[spec], spec, planes, answers[spec])]
            if differing:
                print(f"differs: {path} {pixels.shape[1]}x{pixels.shape[0]}: {', '.join(differing)}")
    print(f"{len(files)} files, {undecodable} not decodable")
    print(f"{'hasher':58}{'images':>7}{'differ':>7}{'bits':>10}{'differ':>7}{'quality':>8}  largest error")
    for spec, tally in tallies.items():
        error = f"{tally.error:.1e}" if tally.error else ""
        print(
            f"{spec:58}{tally.images:7}{tally.images_differing:7}{tally.bits:10}{tally.bits_differing:7}"
            f"{tally.qualities_differing:8}  {error}"
        )
    return int(any(tally.images_differing or tally.qualities_differing for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
