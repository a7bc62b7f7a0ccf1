"""How fast each hasher is beside `perception` and `imagehash`, and all eight beside the JPEG decode, on one core.

    python benchmarks/hashing.py PHOTOS --oracle PYTHON

PHOTOS: folders or JPEG files; those of at least a megapixel are used. PYTHON: an interpreter with `perception[pdq]` and
`imagehash` installed; both sides hash the same pixels, image by image in turns, fastest of three. Targets are printed
beside each line; the exit code is 1 if one is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from neardup import media
from neardup.errors import MediaError
from neardup.hashers import Planes, parse

# At least so many times as fast as `perception`.
TARGETS = {
    "ahash:hash_size=16": 1.0,
    "dhash:hash_size=16": 1.0,
    "phash:hash_size=16": 1.0,
    "wavelet:hash_size=16": 15.0,
    "pdq": 8.0,
    "marrhildreth": 4.0,
    "blockmean": 1.0,
    "colormoment": 1.0,
}
# The eight together, on shared planes, in units of the JPEG decode.
DECODE_TARGET = 1.0
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def use_one_core() -> None:
    """Starts this program again with one thread for the numeric libraries, which read that when they are imported."""
    settings = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if settings.items() <= os.environ.items():
        cv2.setNumThreads(1)
        return
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **settings})


class Oracle:
    """The other Python: a context manager; `ask` sends pixels and returns its answer per spec."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("hash_oracle.py")
        self._process = subprocess.Popen([python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, pixels: np.ndarray, specs: Iterable[str], timed: bool) -> dict[str, dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"shape": pixels.shape, "specs": list(specs), "time": timed}
        self._process.stdin.write(json.dumps(request).encode() + b"\n" + pixels.tobytes())
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the oracle ended; its message is above")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.wait()


def image_files(paths: Iterable[Path]) -> list[Path]:
    files = [path for path in paths if path.is_file()]
    for folder in paths:
        files += sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return files


def photos(paths: Iterable[Path], megapixels: float, limit: int) -> Iterator[tuple[Path, bytes]]:
    """JPEG files of at least `megapixels`, evenly chosen."""
    found = []
    for path in image_files(paths):
        try:
            header = media.probe_image(path.read_bytes())
        except MediaError:
            continue
        if header.format == "JPEG" and header.width * header.height >= megapixels * 1e6:
            found.append(path)
    step = max(1, len(found) // limit)
    for path in found[::step][:limit]:
        yield path, path.read_bytes()


def fastest(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of processor time, which other programs disturb less than the clock's."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--oracle", required=True, metavar="PYTHON")
    parser.add_argument("--megapixels", type=float, default=1.0, help="smallest image used (default 1)")
    parser.add_argument("--limit", type=int, default=24, help="images used at most (default 24)")
    options = parser.parse_args()
    use_one_core()
    hashers = {spec: parse(spec) for spec in TARGETS}
    ours, theirs, imagehashs = defaultdict(float), defaultdict(float), defaultdict(float)
    decode = together = 0.0
    images = 0
    with Oracle(options.oracle) as oracle:
        for _, data in photos(options.paths, options.megapixels, options.limit):
            pixels = media.decode_image(data).pixels
            answers = oracle.ask(pixels, TARGETS, timed=True)
            for spec, hasher in hashers.items():
                ours[spec] += fastest(lambda h=hasher, p=pixels: h.compute(p, hash_format="vector"))
                theirs[spec] += answers[spec]["seconds"]
                imagehashs[spec] += answers[spec].get("imagehash_seconds", 0.0)

            def all_eight(p: np.ndarray = pixels) -> None:
                planes = Planes(p)
                for hasher in hashers.values():
                    hasher.hash_planes(planes)

            together += fastest(all_eight)
            decode += fastest(lambda d=data: media.decode_image(d))
            images += 1
    if not images:
        print(f"no JPEG of {options.megapixels} megapixels or more in {' '.join(map(str, options.paths))}")
        return 1
    return report(images, (ours, theirs, imagehashs), decode, together)


def report(images: int, seconds: tuple[dict, dict, dict], decode: float, together: float) -> int:
    ours, theirs, imagehashs = seconds
    missed = 0
    print(f"{images} JPEG images, milliseconds of processor time per image, one core")
    print(f"{'hasher':24}{'neardup':>9}{'perception':>12}{'ratio':>8}{'target':>8}{'imagehash':>11}{'ratio':>8}")
    for spec, target in TARGETS.items():
        ratio = theirs[spec] / ours[spec]
        missed += ratio < target
        line = (
            f"{spec:24}{1e3 * ours[spec] / images:9.2f}{1e3 * theirs[spec] / images:12.2f}{ratio:7.1f}x{target:7.0f}x"
        )
        if imagehashs[spec]:
            line += f"{1e3 * imagehashs[spec] / images:11.2f}{imagehashs[spec] / ours[spec]:7.1f}x"
        print(line + ("" if ratio >= target else "   MISSED"))
    ratio = together / decode
    missed += ratio > DECODE_TARGET
    print(
        f"all eight on shared planes, with quality: {1e3 * together / images:.2f}; JPEG decode: "
        f"{1e3 * decode / images:.2f}; {ratio:.2f} of the decode, target {DECODE_TARGET:.1f}"
        f"{'   MISSED' if ratio > DECODE_TARGET else ''}"
    )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
