"""How many true near duplicates the recommended thresholds find in a corpus, and pictures of what else they find.

    python benchmarks/corpus_recall.py CORPUS [--limit N] [--sheets FOLDER]

The truth does not come from a hash: photos that are in the corpus in two sizes, by their names (NAME-1500.jpg and
NAME-500.jpg), and edits made here by `neardup.transforms`. With --sheets, for each hasher 50 of the pairs found
between photos of different names, evenly from the nearest to the farthest, are drawn side by side for a person to see.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from grown import image_files

from neardup import joins, media, transforms
from neardup.errors import MediaError
from neardup.hashers import Planes, parse, recommended_threshold

SPECS = ("phash:hash_size=16", "pdq", "dhash:hash_size=16")
EDITS = (
    "jpeg:30",
    "webp:30",
    "resize:0.25",
    "grayscale",
    "brightness:1.4",
    "contrast:0.6",
    "gamma:1.6",
    "saturation:0.3",
    "blur:2",
    "sharpen",
    "noise:0.05",
    "watermark",
    "text",
    "border:0.03",
    "crop:0.02",
    "crop:0.05",
    "rotate:2",
    "aspect:1.25",
    "screenshot",
)
SHEET_PAIRS = 50
SIDE = 150  # pixels of a picture on a sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--limit", type=int, default=200, help="photos that are edited, evenly chosen")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="where to put a sheet per hasher")
    options = parser.parse_args()
    hashers = {spec: parse(spec) for spec in SPECS}
    radii = {
        spec: joins.radius_from_threshold(recommended_threshold(hasher), hasher.hash_length)
        for spec, hasher in hashers.items()
    }
    photos, hashes = [], defaultdict(list)
    for path in image_files(options.corpus):
        try:
            planes = Planes(media.decode_image(path.read_bytes()).pixels)
        except MediaError:
            continue
        photos.append(path)
        for spec, hasher in hashers.items():
            hashes[spec].append(np.packbits(hasher.hash_planes(planes)[0]))
    stacked = {spec: np.stack(rows) for spec, rows in hashes.items()}
    pairs = by_name(photos)
    print(f"{len(photos):,} photos, {len(pairs)} pairs of the same photo in two sizes, by name\n")
    print(f"{'hasher':20} {'bits':>4} {'pairs by name':>14} {'edits':>14} {'other pairs':>12}")
    edited = edit_distances(photos[:: max(1, len(photos) // options.limit)][: options.limit], hashers)
    for spec, rows in stacked.items():
        near = joins.self_join(rows, radii[spec])
        found = set(zip(near.i.tolist(), near.j.tolist(), strict=True))
        named = sum(pair in found for pair in pairs)
        all_edits = np.concatenate(list(edited[spec].values())) <= radii[spec]
        print(
            f"{spec:20} {radii[spec]:4} {_share(named, len(pairs)):>14} {_share(all_edits.sum(), len(all_edits)):>14}"
            f" {len(found - set(pairs)):12,}"
        )
        if options.sheets:
            others = [
                k for k, pair in enumerate(zip(near.i.tolist(), near.j.tolist(), strict=True)) if pair not in pairs
            ]
            others.sort(key=lambda k, near=near: (near.distance[k], near.i[k], near.j[k]))
            chosen = [others[k] for k in np.unique(np.linspace(0, len(others) - 1, SHEET_PAIRS).astype(int))]
            sheet = draw([(photos[near.i[k]], photos[near.j[k]], int(near.distance[k])) for k in chosen])
            options.sheets.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(options.sheets / f"{re.sub(r'[^a-z0-9]', '-', spec)}.jpg"), sheet)
    print("\nrecall by edit\n" + f"{'edit':16}" + "".join(f"{spec:>20}" for spec in SPECS))
    for edit in EDITS:
        print(f"{edit:16}" + "".join(f"{(edited[spec][edit] <= radii[spec]).mean():20.3f}" for spec in SPECS))


def by_name(photos: list[Path]) -> list[tuple[int, int]]:
    """The pairs of photos whose names say that they are one photo in two sizes: NAME-500.jpg, NAME-1500.jpg."""
    sizes = defaultdict(list)
    for number, path in enumerate(photos):
        if match := re.fullmatch(r"(.+)-(500|1500)", path.stem):
            sizes[path.parent, match[1]].append(number)
    return [(min(both), max(both)) for both in sizes.values() if len(both) == 2]


def edit_distances(photos: list[Path], hashers: dict) -> dict[str, dict[str, np.ndarray]]:
    """The differing bits between each photo and each edit of it, by spec and edit."""
    distances: dict = {spec: defaultdict(list) for spec in hashers}
    for path in photos:
        pixels = media.decode_image(path.read_bytes()).pixels
        pixels = transforms.parse(f"noop:{min(800, max(pixels.shape[:2]))}")(pixels)
        own = {spec: hasher.hash_planes(Planes(pixels))[0] for spec, hasher in hashers.items()}
        for edit in EDITS:
            planes = Planes(transforms.parse(edit)(pixels, transforms.seed_of(path.name)))
            for spec, hasher in hashers.items():
                distances[spec][edit].append(int((hasher.hash_planes(planes)[0] != own[spec]).sum()))
    return {spec: {edit: np.array(found) for edit, found in each.items()} for spec, each in distances.items()}


def draw(pairs: list[tuple[Path, Path, int]]) -> np.ndarray:
    """Numbered pairs of pictures, five pairs in a row, each with its distance."""
    tiles = []
    for number, (left, right, distance) in enumerate(pairs, 1):
        tile = np.full((SIDE + 20, 2 * SIDE + 12, 3), 255, np.uint8)
        for place, path in enumerate((left, right)):
            picture = media.decode_image(path.read_bytes()).pixels
            scale = SIDE / max(picture.shape[:2])
            size = [max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0])]
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            tile[20 : 20 + size[1], place * (SIDE + 2) : place * (SIDE + 2) + size[0]] = small[..., ::-1]
        text = f"{number}: {distance} bits {left.stem[:14]} {right.stem[:14]}"
        cv2.putText(tile, text, (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 5)
    return np.vstack([np.hstack(tiles[start : start + 5]) for start in range(0, len(tiles), 5)])


def _share(found: int, of: int) -> str:
    return f"{found}/{of} {found / of:.3f}" if of else "none"


if __name__ == "__main__":
    main()
