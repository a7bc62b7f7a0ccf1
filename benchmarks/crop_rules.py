"""Which rule of comparing crop-resistant hashes finds most at the same rate of false matches?

    python benchmarks/crop_rules.py PICTURES [--limit 100]

A picture has a hash per segment, so the distance of two pictures is a matter of choice. `neardup` takes the smallest
distance of two segments; ImageHash's multi-hash has `matches` (enough segments near enough), `a - b` (segments missing,
plus the mean error of the others) and `hash_diff` (how many are near). Each rule compares altered pictures with all
originals. A threshold is the largest at which a share of them meets another original, as in `neardup benchmark`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neardup import media
from neardup.errors import MediaError
from neardup.imagehash import ImageMultiHash, crop_resistant_hash
from neardup.transforms import parse

ALTERED = ("crop:0.05", "pad:0.2")
RATES = (0.001, 0.01, 0.05)
Rule = Callable[[ImageMultiHash, ImageMultiHash], float]


def nearest_segments(one: ImageMultiHash, other: ImageMultiHash) -> np.ndarray:
    """Of each segment, the share of bits that differ from the nearest of the other picture."""
    a, b = (np.array([each.hash.ravel() for each in hashes.segment_hashes]) for hashes in (one, other))
    return (a[:, None] != b[None]).mean(axis=2).min(axis=1)


RULES: dict[str, Rule] = {
    "smallest distance of two segments": lambda a, b: float(nearest_segments(a, b).min()),
    "second smallest": lambda a, b: float(np.sort(nearest_segments(a, b))[:2][-1]),
    "mean over segments": lambda a, b: float(nearest_segments(a, b).mean()),
    "ImageHash: a - b": lambda a, b: a - b,
    "ImageHash: segments near, hash_diff": lambda a, b: -float(a.hash_diff(b)[0]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=100, help="pictures used at most, evenly chosen (default 100)")
    options = parser.parse_args()
    files = sorted(file for folder in options.pictures for file in folder.rglob("*") if file.is_file())
    originals = []
    for file in files[:: max(1, len(files) // options.limit)][: options.limit]:
        try:
            originals.append(parse("noop:256")(media.decode_image(file.read_bytes()).pixels, 0))
        except MediaError:
            continue
    references = [crop_resistant_hash(pixels) for pixels in originals]
    print(f"{len(originals)} pictures; percent found where a share of {RATES} meets another original")
    for text in ALTERED:
        queries = [crop_resistant_hash(parse(text)(pixels, 0)) for pixels in originals]
        for name, rule in RULES.items():
            distances = np.array([[rule(query, reference) for reference in references] for query in queries])
            found = " ".join(f"{share:4.0%}" for share in at_rates(distances))
            print(f"{text:10} {name:36} {found}")
        for regions in (1, 2, 3):
            near = np.array([[query.matches(each, region_cutoff=regions) for each in references] for query in queries])
            found = np.diag(near).mean()
            np.fill_diagonal(near, False)
            name = f"ImageHash: matches, region_cutoff={regions}"
            print(f"{text:10} {name:36} {found:4.0%}, and {near.any(axis=1).mean():.0%} meet another original")


def at_rates(distances: np.ndarray) -> list[float]:
    """The share found below the threshold of each rate."""
    own, others = distances.diagonal().copy(), distances.copy()
    np.fill_diagonal(others, np.inf)
    nearest = np.sort(others.min(axis=1))
    return [float((own < nearest[int(rate * len(own) + 1e-9)]).mean()) for rate in RATES]


if __name__ == "__main__":
    main()
