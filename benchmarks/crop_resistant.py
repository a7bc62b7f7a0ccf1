"""How fast crop_resistant_hash is beside the ImageHash library's, and how many of its strings differ.

    python benchmarks/crop_resistant.py [PICTURES] --oracle PYTHON

PICTURES: folders or image files (default: samples). PYTHON: an interpreter with `imagehash` installed. Both sides hash
the same decoded pixels, image by image in turns, on one core, fastest of three. The exit code is 1 if a string differs
or the default settings are less than 30 times as fast.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

TARGET = 30.0
ROOT = Path(__file__).parents[1]
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "limit_segments=5": {"limit_segments": 5},
    "min_segment_size=1000": {"min_segment_size": 1000},
    "hash_func=phash": {"hash_func": "phash"},
    "segmentation_image_size=600": {"segmentation_image_size": 600},
}
PACKAGES = ("numpy", "pillow", "scipy", "opencv-python-headless", "opencv-contrib-python-headless", "ImageHash")


def hash_and_time(library: Any, image: Any, case: dict[str, Any], repeats: int) -> tuple[str, float]:
    """The hash of an image and the seconds of the fastest of some calls."""
    arguments = {key: getattr(library, value) if key == "hash_func" else value for key, value in case.items()}
    result, seconds = "", []
    for _ in range(repeats):
        start = time.perf_counter()
        result = str(library.crop_resistant_hash(image, **arguments))
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def serve() -> None:
    """Inside the other Python: its versions, then per request line and pixels one line of answers."""
    import imagehash
    import numpy as np
    from PIL import Image

    print(json.dumps(versions()), flush=True)
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        height, width, _ = request["shape"]
        pixels = np.frombuffer(sys.stdin.buffer.read(height * width * 3), np.uint8).reshape(request["shape"])
        image = Image.fromarray(pixels)
        print(json.dumps([hash_and_time(imagehash, image, CASES[name], 3) for name in request["cases"]]), flush=True)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "samples"])
    parser.add_argument("--oracle", required=True, metavar="PYTHON")
    parser.add_argument("--limit", type=int, default=None, help="images used at most, evenly chosen")
    parser.add_argument("--case", action="append", choices=CASES, help="settings measured (default: all)")
    options = parser.parse_args()
    from hashing import image_files, use_one_core

    use_one_core()
    names = options.case or list(CASES)
    files = image_files(options.paths)
    if options.limit and len(files) > options.limit:
        files = files[:: len(files) // options.limit][: options.limit]
    with subprocess.Popen(
        [options.oracle, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as oracle:
        assert oracle.stdin is not None
        assert oracle.stdout is not None
        print(f"{processor()}, {platform.system()} {platform.machine()}, one core")
        print(f"neardup:   {versions()}")
        print(f"ImageHash: {json.loads(oracle.stdout.readline())}")

        def ask(pixels: Any) -> list[tuple[str, float]]:
            request = json.dumps({"shape": pixels.shape, "cases": names})
            oracle.stdin.write(request.encode() + b"\n" + pixels.tobytes())
            oracle.stdin.flush()
            return json.loads(oracle.stdout.readline())

        results, megapixels = measure(files, names, ask)
        oracle.stdin.close()
    return report(names, results, megapixels)


def measure(files: list[Path], names: list[str], ask: Callable[[Any], list[tuple[str, float]]]) -> tuple[list, float]:
    """Per image the strings and seconds of both sides, and the megapixels of all."""
    from PIL import Image

    from neardup import imagehash, media
    from neardup.errors import MediaError

    results, megapixels = [], 0.0
    for path in files:
        try:
            pixels = media.decode_image(path.read_bytes()).pixels
        except MediaError:
            continue
        theirs = ask(pixels)
        image = Image.fromarray(pixels)
        ours = [hash_and_time(imagehash, image, CASES[name], 3) for name in names]
        megapixels += pixels.shape[0] * pixels.shape[1] / 1e6
        results.append((path, ours, theirs))
    return results, megapixels


def report(names: list[str], results: list, megapixels: float) -> int:
    if not results:
        print("no image could be decoded")
        return 1
    count, failed = len(results), False
    print(f"{count} images, {megapixels / count:.2f} megapixels on average, milliseconds per image")
    print(f"{'settings':30}{'neardup':>9}{'ImageHash':>11}{'ratio':>8}{'slowest ratio':>15}{'strings differing':>19}")
    for index, name in enumerate(names):
        ours = [mine[index][1] for _, mine, _ in results]
        theirs = [other[index][1] for _, _, other in results]
        differing = [path for path, mine, other in results if mine[index][0] != other[index][0]]
        ratio = sum(theirs) / sum(ours)
        slowest = min(b / a for a, b in zip(ours, theirs, strict=True))
        print(
            f"{name:30}{1e3 * sum(ours) / count:9.2f}{1e3 * sum(theirs) / count:11.2f}{ratio:7.1f}x{slowest:14.1f}x"
            f"{len(differing):19}"
        )
        for path in differing:
            print(f"  differs: {path}")
        failed |= bool(differing) or (name == "default" and ratio < TARGET)
    return int(failed)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown processor"


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
        sys.exit(0)
    sys.exit(main())
