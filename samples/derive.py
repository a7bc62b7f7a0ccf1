"""Makes `copies/`, `broken/`, `expected.csv` and `broken.csv` out of the original photos beside this file.

Run once with Pillow 13.0 and OpenCV 5.0; other versions encode other bytes, and the results are what is committed.
"""

import csv
import io
import itertools
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from PIL import ImageDraw

HERE = Path(__file__).parent
Change = Callable[[PIL.Image.Image], PIL.Image.Image]


def resized(scale: float) -> Change:
    def change(photo: PIL.Image.Image) -> PIL.Image.Image:
        return photo.resize((round(photo.width * scale), round(photo.height * scale)), PIL.Image.Resampling.LANCZOS)

    return change


def cropped(left: float, top: float, right: float, bottom: float) -> Change:
    """Cut these shares of the width and height off."""

    def change(photo: PIL.Image.Image) -> PIL.Image.Image:
        width, height = photo.size
        right_edge, bottom_edge = round((1 - right) * width), round((1 - bottom) * height)
        return photo.crop((round(left * width), round(top * height), right_edge, bottom_edge))

    return change


def brightened(gamma: float) -> Change:
    return lambda photo: photo.point([round(255 * (level / 255) ** gamma) for level in range(256)] * 3)


def captioned(photo: PIL.Image.Image) -> PIL.Image.Image:
    ImageDraw.Draw(photo).text((8, photo.height - 16), "Photo: Library of Congress", fill="white")
    return photo


def faded(photo: PIL.Image.Image) -> PIL.Image.Image:
    """Transparent towards the right edge, over the last twelfth."""
    ramp = np.clip((photo.width - np.arange(photo.width)) * 12 / photo.width, 0, 1) * 255
    photo.putalpha(PIL.Image.fromarray(np.repeat(ramp.astype(np.uint8)[None], photo.height, axis=0)))
    return photo


def unchanged(photo: PIL.Image.Image) -> PIL.Image.Image:
    return photo


def mode(name: str) -> Change:
    return lambda photo: photo.convert(name)


def palette(colours: int) -> Change:
    return lambda photo: photo.quantize(colours)


def orientation(value: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    return exif


# copy: (original, what tells it apart, changes in order, how it is saved)
COPIES: dict[str, tuple[str, str, list[Change], dict[str, Any]]] = {
    "headquarters-150.jpg": ("perception/image1.jpg", "resize", [resized(0.5)], {"quality": 85}),
    "headquarters.webp": ("perception/image1.jpg", "format", [], {"quality": 75}),
    "butterfly.png": ("perception/image2.jpg", "format", [], {"optimize": True}),
    "escort-quality-25.jpg": ("perception/image3.jpg", "reencode", [], {"quality": 25}),
    "church-cropped.jpg": ("perception/image4.jpg", "crop", [cropped(0.02, 0.02, 0.02, 0.02)], {"quality": 90}),
    "fort-exact.jpg": ("perception/image5.jpg", "exact", [], {}),
    "cathedral-brighter.jpg": ("perception/image9.jpg", "brightness", [brightened(0.8)], {"quality": 90}),
    "bomber-palette.png": ("perception/image10.jpg", "palette", [palette(64)], {"optimize": True}),
    "castle.gif": ("scratch/castle.jpg", "palette", [resized(0.75), palette(128)], {}),
    "castle-large.jpg": ("scratch/castle.jpg", "resize", [resized(1.6)], {"quality": 80}),
    "tracks-turned.jpg": (
        "scratch/train-tracks1.jpg",
        "orientation",
        [lambda photo: photo.transpose(PIL.Image.Transpose.ROTATE_90)],  # shown upright by orientation 6
        {"quality": 92, "exif": orientation(6)},
    ),
    "flowers-progressive.jpg": ("scratch/flower-bed.jpg", "reencode", [], {"quality": 60, "progressive": True}),
    "pathway-animated.webp": ("scratch/pathway.jpg", "animation", [resized(0.5)], {"quality": 70}),
    "skyline-16bit.png": ("endless-sky/city15-sfiera.jpg", "16-bit", [resized(0.5)], {}),
    "lakes-cmyk.jpg": ("endless-sky/canyon10-harro.jpg", "cmyk", [mode("CMYK")], {"quality": 80}),
    "lagoon-small.webp": ("endless-sky/water10-harro.jpg", "resize", [resized(0.4)], {"quality": 70}),
    "lagoon-cropped.jpg": (
        "endless-sky/water10-harro.jpg",
        "crop",
        [cropped(0.02, 0.0, 0.02, 0.03)],
        {"quality": 85},
    ),
    "rocket.tiff": ("endless-sky/nasa6.jpg", "format", [resized(0.5)], {"compression": "tiff_lzw"}),
    "welder-captioned.jpg": ("endless-sky/loc2.jpg", "caption", [captioned], {"quality": 88}),
    "engine-grey.jpg": ("endless-sky/loc7.jpg", "grey", [mode("L")], {"quality": 85}),
    "crater-faded.png": ("endless-sky/lava0.jpg", "transparency", [resized(0.4), faded], {"optimize": True}),
}


def main() -> None:
    families: dict[str, dict[str, str]] = {}
    for name, (original, kind, changes, options) in COPIES.items():
        target = HERE / "copies" / name
        if kind == "exact":
            shutil.copyfile(HERE / original, target)
        else:
            save(HERE / original, target, changes, options)
        families.setdefault(original, {original: ""})[f"copies/{name}"] = kind
    families["clips/v1.m4v"] = {"clips/v1.m4v": "", "clips/v2.m4v": "speed", "clips/v2s.mov": "cut"}
    write_csv("expected.csv", ["file_a", "file_b", "kind"], sorted(pairs(families)))
    write_csv("broken.csv", ["file", "error_class", "why"], broken())


def save(original: Path, target: Path, changes: list[Change], options: dict[str, Any]) -> None:
    photo = PIL.Image.open(original).convert("RGB")
    for change in changes:
        photo = change(photo)
    if "16bit" in target.name:
        smooth = cv2.GaussianBlur(
            np.asarray(photo).astype(np.uint16) * 257, (3, 3), 0.5
        )  # so that all 16 bits are used
        cv2.imwrite(str(target), smooth[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    elif "animated" in target.name:
        mirrored = photo.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        photo.save(target, save_all=True, append_images=[mirrored], duration=500, **options)
    else:
        photo.save(target, **options)


def pairs(families: dict[str, dict[str, str]]) -> list[list[str]]:
    """All pairs of each family; a pair's kind names what was done to either."""
    return [
        [*sorted((left, right)), "+".join(sorted({kinds[left], kinds[right]} - {""}))]
        for kinds in families.values()
        for left, right in itertools.combinations(kinds, 2)
    ]


def broken() -> list[list[str]]:
    """Files that must become rows with an error."""
    whole = (HERE / "endless-sky/nasa8.jpg").read_bytes()
    files = {
        "truncated.jpg": (whole[: len(whole) // 2], "permanent", "the first half of endless-sky/nasa8.jpg"),
        "page.jpg": (b"<!DOCTYPE html>\n<title>404 Not Found</title>\n", "permanent", "a web page named .jpg"),
        "empty.png": (b"", "permanent", "no bytes at all"),
        "bomb.png": (bomb(), "policy", "announces 40,000 x 40,000 pixels (1,600 megapixels)"),
    }
    for name, (data, _, _) in files.items():
        (HERE / "broken" / name).write_bytes(data)
    return [[f"broken/{name}", error_class, why] for name, (_, error_class, why) in sorted(files.items())]


def bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def write_csv(name: str, header: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    (HERE / name).write_text(text.getvalue())


if __name__ == "__main__":
    main()
